"""Shard a model over several processes, each of which holds a part of every weight (FSDP2)."""

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
    """Shard a model's trained weights, one unit per layer of the UNet and one for the rest.

    A layer's weights are gathered before the first refinement step and stay gathered until the layer's gradients are
    computed, because all K steps use the same weights. The frozen encoders are replicated in every process.

    Args:
        model: the model on its device, the same in every process; changed in place
        device: device type, for example "cuda"
    """
    # FSDP does not shard tensors in other memory formats.
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    unet = model.unet
    middle = [] if unet.mid_block is None else [unet.mid_block]
    for block in [*unet.down_blocks, *middle, *unet.up_blocks]:
        for layer in filter(None, [*block.resnets, *(getattr(block, "attentions", None) or ())]):
            fully_shard(layer, mesh=mesh, reshard_after_forward=False)
    frozen = set(model.latent_encoder.parameters())
    if model.second_encoder is not None:
        frozen |= set(model.second_encoder.network.parameters())
    fully_shard(model, mesh=mesh, ignored_params=frozen)
    # Training calls this method in addition to forward.
    register_fsdp_forward_method(model, "training_outputs")


@contextmanager
def summon_full_params(model: nn.Module) -> Iterator[None]:
    """While the body runs, every process has all weights and can call the model without the others."""
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
    """A model's full tensors, on rank 0; all processes must call this."""
    return get_model_state_dict(model, options=_WHOLE)  # type: ignore[return-value]


def load_model_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load full tensors for some or all of the model's parameters; each process keeps its shards."""
    set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=True, strict=False))


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's full state by parameter name, like `model_state`."""
    return get_optimizer_state_dict(model, optimizer, options=_WHOLE)


def load_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state that `optimizer_state` returned."""
    set_optimizer_state_dict(model, optimizer, dict(state), options=StateDictOptions(full_state_dict=True))
    for group in optimizer.param_groups:
        # The function above turned this tuple into a list.
        group["betas"] = tuple(group["betas"])


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor, on the CPU; all processes must call this if the tensor is sharded."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def shard_like(tensor: Tensor, split: Tensor) -> Tensor:
    """This process's shard of a full tensor, sharded like ``split``."""
    tensor = tensor.to(split.device)
    if not isinstance(split, DTensor):
        return tensor
    return distribute_tensor(tensor, split.device_mesh, split.placements)
