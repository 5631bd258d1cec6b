"""Low-rank changes of the UNet's attention, beside frozen weights (LoRA, Hu et al., 2022; by peft)."""

import copy
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

LORA_MARK = ".lora_"
"""What the names of its tensors have, and no others."""

# Queries, keys, values and outputs of self- and cross-attention.
_TARGETS = r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"

Module = TypeVar("Module", bound=nn.Module)


def add_lora(unet: nn.Module, rank: int, alpha: float) -> None:
    """Put low-rank layers beside the attention's projections; at first they change nothing.

    Args:
        unet: is changed: a projection's own weight is then named ``base_layer.weight``
        rank: of the change
        alpha: the change counts alpha / rank times
    """
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=_TARGETS), unet)


def sharing_weights(module: Module, dtype: torch.dtype | None = None) -> Module:
    """A copy whose tensors are the module's own: what is added to the copy leaves the module alone.

    Args:
        module: is left as it is
        dtype: precision of the copy's tensors; those of another are not shared, but converted one by one
    """
    own = {id(tensor): _in_precision(tensor, dtype) for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, own)


def _in_precision(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    converted = tensor.detach().to(dtype)
    return nn.Parameter(converted, requires_grad=False) if isinstance(tensor, nn.Parameter) else converted
