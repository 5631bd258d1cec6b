"""Convert a sample to training tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import Person, Sample
from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")


def to_tensors(sample: Sample) -> dict[str, Tensor]:
    """Convert a sample to tensors; missing targets are omitted.

    Args:
        sample: any sample

    Returns:
        - image: (3, H, W) float32 RGB in 0..1
        - labels: (H, W) int64, 255 = ignored
        - depth_m: (H, W) float32 meters, 0 where nothing was measured
        - dense targets by their names: (H, W) or (C, H, W)
        - of a person: keypoints (J, 3) float32 and box_xywh (4,) float32; image_id and annotation_id int64, score and
          area float32, all 0-d; of a cropped one also center (2,) and size (2,) float32
        - context: (L, D) float32
    """
    tensors = {"image": image_tensor(sample.image)}
    if sample.labels is not None:
        tensors["labels"] = torch.from_numpy(sample.labels.astype(np.int64))
    if sample.depth_m is not None:
        tensors["depth_m"] = torch.from_numpy(sample.depth_m.astype(np.float32))
    for name, target in sample.dense.items():
        values = target.values if target.values.ndim == 2 else target.values.transpose(2, 0, 1)
        tensors[name] = torch.from_numpy(np.ascontiguousarray(values))
    if sample.person is not None:
        tensors |= _person_tensors(sample.person)
    if sample.context is not None:
        tensors["context"] = torch.from_numpy(sample.context)
    return tensors


def image_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Turn (H, W, 3) uint8 RGB into (3, H, W) float32 RGB in 0..1."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(planes.astype(np.float32)).div_(255)


def _person_tensors(person: Person) -> dict[str, Tensor]:
    tensors = {name: torch.from_numpy(getattr(person, name).copy()) for name in ("keypoints", "box_xywh")}
    kinds = {"image_id": torch.int64, "annotation_id": torch.int64, "score": torch.float32, "area": torch.float32}
    tensors |= {name: torch.tensor(getattr(person, name), dtype=kind) for name, kind in kinds.items()}
    if person.crop is not None:
        tensors["center"] = torch.from_numpy(person.crop.center.copy())
        tensors["size"] = torch.from_numpy(person.crop.size.copy())
    return tensors
