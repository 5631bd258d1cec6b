"""Prompt responses accumulated over a data set; only sums are stored, never maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from metaprompts.data.sample import IGNORED_LABEL
from metaprompts.errors import InputError
from metaprompts.metrics.depth import in_range
from metaprompts.metrics.prompt_report import DepthPreferences, Preferences
from metaprompts.metrics.running_moments import RunningMoments
from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")

_VISIBLE = 2
# Number of prompts enlarged to the labels' size at a time: 16 maps of 1024x2048 in float64 take 256 MiB.
_AT_ONCE = 16


class PromptResponses(ABC):
    """Responses of prompts, counted batch by batch; sums can be added, so that several processes can count.

    Attributes:
        summed: names of the attributes, beside the moments, that are sums
    """

    summed: ClassVar[tuple[str, ...]] = ()
    _moments: RunningMoments

    @abstractmethod
    def update(self, maps: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Count the maps (B,N,h,w) of a batch."""

    @abstractmethod
    def compute(self) -> Preferences | DepthPreferences:
        """The result over all counted batches."""

    def state(self) -> dict[str, Any]:
        """The sums so far."""
        return {"moments": self._moments.state(), **{name: getattr(self, name) for name in self.summed}}

    def begin_at(self, state: Mapping[str, Any]) -> None:
        """Use the origin of another object's state, so that the sums of both can be added."""
        self._moments.begin_at(state["moments"])

    def add(self, state: Mapping[str, Any]) -> None:
        """Add the state of another object, which must have the same origin."""
        self._moments.add(state["moments"])
        for name in self.summed:
            setattr(self, name, getattr(self, name) + state[name])

    @property
    def has_begun(self) -> bool:
        """Whether the origin is known, because something was counted or added."""
        return self._moments.has_begun


class ClassResponses(PromptResponses):
    """The mean of each prompt's map over the pixels of each class; maps are enlarged to the labels' size.

    Args:
        prompts: number of prompts, N
        classes: names of the classes; pixels labeled 255 are ignored
    """

    kind = "class"
    summed = ("_sums", "_counts")

    def __init__(self, prompts: int, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._moments = RunningMoments(prompts)
        self._sums = torch.zeros(prompts, len(classes), dtype=torch.float64)
        self._counts = torch.zeros(len(classes), dtype=torch.float64)

    def update(self, maps: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Count a batch.

        Args:
            maps: (B,N,h,w)
            batch: "labels" (B,H,W)
        """
        for of_image, labels in zip(maps, batch["labels"], strict=True):
            counted = labels != IGNORED_LABEL
            known = labels[counted]
            self._counts += torch.bincount(known, minlength=len(self._classes))
            for part, enlarged in _enlarged(of_image, labels.shape):
                values = enlarged[:, counted]
                self._moments.update(values, part=part)
                self._sums[part].index_add_(1, known, values)

    def compute(self) -> Preferences:
        """The means over all counted batches.

        Raises:
            InputError: no pixel has a label
        """
        _check_any(self._moments, "labeled pixel")
        return Preferences(
            kind=self.kind,
            names=self._classes,
            mean=self._moments.mean().numpy(),
            std=self._moments.std().numpy(),
            means=(self._sums / self._counts).numpy(),
        )


class DepthResponses(PromptResponses):
    """The correlation of each prompt's map with depth; maps are enlarged to the size of the depth map.

    Args:
        prompts: number of prompts, N
        min_depth_m: measurements must be above this
        max_depth_m: measurements must be below this
    """

    def __init__(self, prompts: int, *, min_depth_m: float, max_depth_m: float) -> None:
        self._moments = RunningMoments(prompts)
        self._range_m = (min_depth_m, max_depth_m)

    def update(self, maps: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Count a batch.

        Args:
            maps: (B,N,h,w)
            batch: "depth_m" (B,H,W) meters, 0 where nothing was measured
        """
        for of_image, depth_m in zip(maps, batch["depth_m"], strict=True):
            measured = in_range(depth_m, *self._range_m)
            for part, enlarged in _enlarged(of_image, depth_m.shape):
                self._moments.update(enlarged[:, measured], depth_m[measured].double(), part=part)

    def compute(self) -> DepthPreferences:
        """The correlations over all counted batches.

        Raises:
            InputError: no pixel was measured
        """
        _check_any(self._moments, "measured pixel")
        return DepthPreferences(
            correlation=self._moments.correlation().numpy(),
            mean=self._moments.mean().numpy(),
            std=self._moments.std().numpy(),
        )


class JointResponses(PromptResponses):
    """The mean of each prompt's map at each visible joint, and the distance from the joint to the map's peak.

    Means and standard deviations are over all pixels of the maps of all crops.

    Args:
        prompts: number of prompts, N
        joints: names of the joints
    """

    summed = ("_sums", "_distances", "_counts")

    def __init__(self, prompts: int, joints: Sequence[str]) -> None:
        self._joints = tuple(joints)
        self._moments = RunningMoments(prompts)
        self._sums = torch.zeros(prompts, len(joints), dtype=torch.float64)
        self._distances = torch.zeros(prompts, len(joints), dtype=torch.float64)
        self._counts = torch.zeros(len(joints), dtype=torch.float64)

    def update(self, maps: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Count a batch of crops.

        Args:
            maps: (B,N,h,w)
            batch: "image" (B,3,H,W), used only for its size; "keypoints" (B,J,3), x and y in pixels of the image, and
                the visibility (2: visible)
        """
        size = batch["image"].shape[-2:]
        for of_crop, keypoints in zip(maps.double(), batch["keypoints"].double(), strict=True):
            points, visible = keypoints[:, :2], keypoints[:, 2] == _VISIBLE
            self._moments.update(of_crop.flatten(1))
            self._counts += visible
            self._sums += torch.where(visible, values_at(of_crop, points, size), 0)
            self._distances += torch.where(visible, torch.cdist(peaks(of_crop, size), points), 0)

    def compute(self) -> Preferences:
        """The means over all counted batches.

        Raises:
            InputError: no joint was visible
        """
        if not self._counts.any():
            raise InputError("the validation split has no visible joints: leave out data.val_boxes, or check data.val")
        return Preferences(
            kind="joint",
            names=self._joints,
            mean=self._moments.mean().numpy(),
            std=self._moments.std().numpy(),
            means=(self._sums / self._counts).numpy(),
            peak_distance_px=(self._distances / self._counts).numpy(),
        )


def values_at(maps: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """Sample maps bilinearly at points; beyond the outermost pixel centers, the nearest value is used.

    Args:
        maps: (N,h,w), over the whole image
        points: (J,2), x and y in pixels of the image, (0, 0) being the first pixel's center
        size: (H,W) of the image

    Returns:
        (N,J)
    """
    places = 2 * (points + 0.5) / points.new_tensor([size[1], size[0]]) - 1
    read = F.grid_sample(maps[None], places[None, None], mode="bilinear", padding_mode="border", align_corners=False)
    return read[0, :, 0]


def peaks(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The center of the pixel with each map's largest value, as a point in the image.

    Args:
        maps: (N,h,w), over the whole image
        size: (H,W) of the image

    Returns:
        (N,2), x and y in pixels of the image
    """
    height, width = maps.shape[-2:]
    index = maps.flatten(1).argmax(dim=1)
    places = torch.stack([index % width, index // width], dim=1).to(maps.dtype)
    return (places + 0.5) * maps.new_tensor([size[1] / width, size[0] / height]) - 0.5


def _enlarged(maps: Tensor, size: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
    """Yield enlarged maps (n,H,W) in float64, a few of the maps (N,h,w) at a time, with their indices among the N."""
    for start in range(0, len(maps), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        enlarged = F.interpolate(maps[None, part].double(), size=tuple(size), mode="bilinear", align_corners=False)
        yield part, enlarged[0]


def _check_any(moments: RunningMoments, what: str) -> None:
    if not moments.count.all():
        raise InputError(f"the validation split has no {what}: check data.val and the labels it names")
