"""Compare every tensor on the way through a model with what the released code had there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden import GOLDEN, golden_input


@dataclass(frozen=True)
class Golden:
    """One forward pass of the released code."""

    name: str
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def images(self) -> Tensor:
        return golden_input(tuple(self.facts["size"]))


def read_golden(name: str) -> Golden:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return Golden(name, json.loads((GOLDEN / f"{name}.json").read_text()), dict(file))


def golden_names(width: str) -> list[str]:
    """The forward passes, TASK_WIDTH_BxHxW."""
    tasks = ("depth_nyu", "depth_kitti", "seg_ade", "seg_cityscapes")
    found: list[Path] = [path for task in tasks for path in sorted(GOLDEN.glob(f"{task}_{width}_*.npz"))]
    return [path.stem for path in found]


@dataclass(frozen=True)
class Error:
    """How far a tensor is from the golden one, in units of the golden one's standard deviation."""

    key: str
    largest: float
    root_mean_square: float


def errors(seen: dict[str, Tensor], golden: Golden) -> list[Error]:
    """One entry for each tensor that the golden file has, in full or in part."""
    compared = []
    for key, fact in golden.facts["stats"].items():
        ours = seen[key]
        if key.startswith("t_step"):
            ours = ours.expand(fact["shape"])
        assert list(ours.shape) == fact["shape"], key
        flat = ours.double().flatten()
        parts = []
        if f"val/{key}" in golden.arrays:
            parts.append((flat[torch.from_numpy(golden.arrays[f"idx/{key}"].astype(np.int64))], f"val/{key}"))
        if key in golden.arrays:
            parts.append((flat, key))
        assert parts, f"the golden file has no values of {key}"
        for values, name in parts:
            error = (values - torch.from_numpy(golden.arrays[name]).double().flatten()) / fact["std"]
            compared.append(Error(name, float(error.abs().max()), float(error.square().mean().sqrt())))
    return compared


def labels_agree(logits: Tensor, golden: Golden, tolerance: float) -> bool:
    """Whether the golden label is the best of every pixel, or ties with it as far as rounding can tell."""
    labels = torch.from_numpy(golden.arrays["argmax"].astype(np.int64)).unsqueeze(1)
    behind = logits.max(dim=1, keepdim=True).values - logits.gather(1, labels)
    return bool((behind <= 2 * tolerance * golden.facts["stats"]["pred"]["std"]).all())


def tapped(model, images: Tensor) -> dict[str, Tensor]:
    """Run a model and keep what passes through it, by the golden files' names."""
    seen: dict[str, Tensor] = {}
    with torch.no_grad(), _taps(model, seen):
        seen["pred"], _ = model.training_outputs(images)
    return {key: tensor.detach() for key, tensor in seen.items()}


@contextmanager
def _taps(model, seen: dict[str, Tensor]) -> Iterator[None]:
    step = 0

    def dump_step(module, inputs, pyramid):
        nonlocal step
        step += 1
        seen[f"unet_in_step{step}"], seen[f"t_step{step}"], seen[f"prompts_step{step}"] = inputs
        seen.update({f"step{step}_feat{level}": features for level, features in enumerate(pyramid)})

    def keep(key):
        return lambda module, inputs, output: seen.__setitem__(key, output)

    encoder, rearrangement = model.latent_encoder, model.rearrangement
    hooks = [
        encoder.encoder.register_forward_hook(lambda module, inputs, output: seen.update(vae_input=inputs[0])),
        encoder.quant_conv.register_forward_hook(keep("vae_moments")),
        encoder.register_forward_hook(keep("latent")),
        model.unet.register_forward_hook(dump_step),
    ]
    if model.task.fused:
        hooks += [
            rearrangement.join.register_forward_hook(keep("out_layer")),
            rearrangement.register_forward_hook(lambda module, inputs, maps: seen.update(rearranged=maps[0])),
            model.head.convolve.register_forward_hook(keep("decoder_out")),
        ]
    else:
        hooks += [
            rearrangement.register_forward_hook(
                lambda module, inputs, maps: seen.update(
                    {f"rearranged{level}": each for level, each in enumerate(maps)}
                )
            ),
            model.head.classify.register_forward_hook(keep("decode_logits")),
            model.auxiliary_head.classify.register_forward_hook(keep("aux_logits")),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
