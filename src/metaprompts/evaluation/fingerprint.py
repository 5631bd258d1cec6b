"""A short name for a model's weights, by which a stored evaluation is known again."""

import hashlib

import torch
from torch import nn


def fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with any weight, its name, shape or type.

    Args:
        model: on any device
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        # As bytes, because NumPy does not know every type.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
