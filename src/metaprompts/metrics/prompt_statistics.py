"""Prompt responses accumulated over a data set; only sums are stored, never maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from metaprompts.data.sample import IGNORED_LABEL
from metaprompts.errors import InputError
from metaprompts.metrics.depth import in_range
from metaprompts.metrics.prompt_report import DepthPreferences, Preferences
from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")

_VISIBLE = 2
# Resizing a constant map leaves differences of up to this fraction of the value.
_ROUNDING = 1e-12
# Number of prompts enlarged to the labels' size at a time: 16 maps of 1024x2048 in float64 take 256 MiB.
_AT_ONCE = 16


class RunningMoments:
    """Mean and standard deviation of N variables, and their correlation with a companion variable, in float64.

    Sums are over differences from the means, because squares of numbers that are large compared to their spread would
    cancel; groups of observations are merged as in Chan et al. 1983.

    Args:
        variables: number of variables, N

    Attributes:
        count: (N,) number of observations of each variable
    """

    def __init__(self, variables: int) -> None:
        zeros = torch.zeros(variables, dtype=torch.float64)
        self.count, self._mean, self._squares = zeros.clone(), zeros.clone(), zeros.clone()
        self._companion_mean, self._companion_squares, self._products = zeros.clone(), zeros.clone(), zeros.clone()

    def update(self, values: Tensor, companion: Tensor | None = None, *, part: slice = slice(None)) -> None:
        """Count observations of some of the variables.

        Args:
            values: (n,P) float64, P observations of the n variables of ``part``
            companion: (P,) float64, one more variable, observed together with them
            part: indices of these variables among the N
        """
        if not values.shape[1]:
            return
        companion = values.new_zeros(values.shape[1]) if companion is None else companion
        mean, companion_mean = values.mean(dim=1), companion.mean()
        centered, other = values - mean[:, None], companion - companion_mean
        state = {
            "count": torch.full_like(mean, values.shape[1]),
            "mean": mean,
            "squares": centered.square().sum(dim=1),
            "companion_mean": companion_mean,
            "companion_squares": other.square().sum(),
            "products": (centered * other).sum(dim=1),
        }
        self.add(state, part=part)

    def state(self) -> dict[str, Tensor]:
        """The sums so far."""
        return {name.removeprefix("_"): total for name, total in vars(self).items()}

    def add(self, state: Mapping[str, Tensor], *, part: slice = slice(None)) -> None:
        """Add the sums of other moments, for the variables of ``part``."""
        total = {name: values[part] for name, values in self.state().items()}
        weight = state["count"] / (total["count"] + state["count"]).clamp_min(1)
        step, companion_step = (state[name] - total[name] for name in ("mean", "companion_mean"))
        shared = total["count"] * weight
        total["squares"] += state["squares"] + step.square() * shared
        total["companion_squares"] += state["companion_squares"] + companion_step.square() * shared
        total["products"] += state["products"] + step * companion_step * shared
        total["mean"] += step * weight
        total["companion_mean"] += companion_step * weight
        total["count"] += state["count"]

    def mean(self) -> Tensor:
        """(N,) means; NaN without observations."""
        return torch.where(self.count > 0, self._mean, torch.nan)

    def std(self) -> Tensor:
        """(N,), the population standard deviation of all observations; NaN without any."""
        return (self._spread(self._squares, self._mean) / self.count).sqrt()

    def correlation(self) -> Tensor:
        """(N,), Pearson correlation; NaN where a variable or its companion is constant."""
        own = self._spread(self._squares, self._mean)
        other = self._spread(self._companion_squares, self._companion_mean)
        correlation = (self._products / (own * other).sqrt()).clamp(-1, 1)
        return torch.where((own > 0) & (other > 0), correlation, torch.nan)

    def _spread(self, squares: Tensor, mean: Tensor) -> Tensor:
        """The sum of squared differences from the mean; 0 where it is only rounding error."""
        return torch.where(squares > self.count * (_ROUNDING * mean).square(), squares, 0)


class PromptResponses(ABC):
    """Responses of prompts, counted batch by batch; sums can be added, so that several processes can count.

    Attributes:
        summed: names of the attributes, besides the moments, that are sums
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

    def add(self, state: Mapping[str, Any]) -> None:
        """Add the state of another object."""
        self._moments.add(state["moments"])
        for name in self.summed:
            setattr(self, name, getattr(self, name) + state[name])


class ClassResponses(PromptResponses):
    """The mean of each prompt's map over the pixels of each class; maps are enlarged to the labels' size.

    Args:
        prompts: number of prompts, N
        classes: names of the classes; pixels labeled 255 are ignored
    """

    kind = "class"
    summed: ClassVar[tuple[str, ...]] = ("_sums", "_counts")

    def __init__(self, prompts: int, classes: Sequence[str]) -> None:
        self._names = tuple(classes)
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
            self._counts += torch.bincount(known, minlength=len(self._names))
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
            names=self._names,
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


class JointResponses(ClassResponses):
    """The mean of each prompt's map at each visible joint, and the distance from the joint to the map's peak.

    Means and standard deviations are over all pixels of the maps of all crops.

    Args:
        prompts: number of prompts, N
        joints: names of the joints
    """

    kind = "joint"
    summed = ("_sums", "_counts", "_distances")

    def __init__(self, prompts: int, joints: Sequence[str]) -> None:
        super().__init__(prompts, joints)
        self._distances = torch.zeros_like(self._sums)

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
            raise InputError("the validation split has no visible joints: omit data.val_boxes, or check data.val")
        return replace(super().compute(), peak_distance_px=(self._distances / self._counts).numpy())


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
