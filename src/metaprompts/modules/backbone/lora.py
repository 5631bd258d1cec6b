"""Low-rank adapters on the UNet's attention, whose weights are frozen (LoRA, Hu et al., 2022; implemented by peft)."""

from torch import nn

LORA_MARK = ".lora_"
"""Marks the names of LoRA tensors."""

# Queries, keys, values and outputs of self- and cross-attention.
_TARGETS = r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"


def add_lora(unet: nn.Module, rank: int, alpha: float) -> None:
    """Add low-rank layers to the attention's projections; their initial update is zero.

    Args:
        unet: changed in place; a projection's own weight is then named ``base_layer.weight``
        rank: rank of the update
        alpha: the update is scaled by alpha / rank
    """
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=_TARGETS), unet)
