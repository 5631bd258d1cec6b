"""A model that several processes split among them: each holds a part of every weight (FSDP2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from metaprompts.models.model import MetaPromptModel

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard(model: MetaPromptModel, device: str) -> None:
    """Split a model's trained weights, layer by layer of the UNet, and all else together.

    A layer's weights are put together before its first look and stay so until its gradients are there: all K looks
    use the same ones. The frozen encoder stays whole in every process.

    Args:
        model: on its device, the same in every process; is changed
        device: kind of device, such as "cuda"
    """
    # It splits nothing that lies in memory in another order.
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    unet = model.unet
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    for block in blocks:
        for layer in [*block.resnets, *(getattr(block, "attentions", None) or ())]:
            fully_shard(layer, mesh=mesh, reshard_after_forward=False)
    fully_shard(model, mesh=mesh, ignored_params=set(model.latent_encoder.parameters()))
    # Beside forward, this is how training calls it.
    register_fsdp_forward_method(model, "training_outputs")


@contextmanager
def summon_full_params(model: nn.Module) -> Iterator[None]:
    """While the body runs, every process has all weights, and calls of the model need no other process."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's whole tensors, in the first process, whoever holds which parts; all processes must call this."""
    return get_model_state_dict(model, options=_WHOLE)  # type: ignore[return-value]


def load_model_state(model: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Give a model whole tensors, of which each process keeps its parts."""
    options = StateDictOptions(full_state_dict=True, strict=strict)
    set_model_state_dict(model, dict(state), options=options)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole state by parameter name, as `model_state`."""
    return get_optimizer_state_dict(model, optimizer, options=_WHOLE)


def load_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Give an optimizer the state that `optimizer_state` gave."""
    set_optimizer_state_dict(model, optimizer, dict(state), options=StateDictOptions(full_state_dict=True))


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on the CPU; all processes must call this if it is split."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def shard_like(tensor: Tensor, split: Tensor) -> Tensor:
    """The part of a whole tensor that this process has of another one that is split."""
    tensor = tensor.to(split.device)
    if not isinstance(split, DTensor):
        return tensor
    return distribute_tensor(tensor, split.device_mesh, split.placements)
