"""Choose a device."""

import torch

from metaprompts.errors import InputError


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device with this name; by default the GPU if there is one, else the CPU.

    Raises:
        InputError: the device does not exist
    """
    if device is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
        # Tensors on a meta device have no values.
        torch.empty(1, device=chosen).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {device!r} is unavailable; expected cpu, cuda, cuda:0, mps, ...") from error
    return chosen
