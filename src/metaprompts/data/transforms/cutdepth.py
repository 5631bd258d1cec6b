"""CutDepth: paste a strip of the depth map into the image (Ishii and Yamashita 2021)."""

from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.transform import check_probability


@dataclass(frozen=True)
class CutDepth:
    """Replace a vertical strip of the image with its depth, drawn in gray.

    The strip begins at column ``int(alpha W)`` and is ``int(max((W - alpha W) beta p, 1))`` wide, with alpha and beta
    drawn uniformly from 0..1; it has the full height. The recipes apply it to every 4th sample: see `EveryNth`.

    Args:
        mode: "scaled": depth / max_depth_m x 255. "released": the stored integers modulo 256, the wrap-around of the
            released code, which its checkpoints were trained with
        max_depth_m: depth drawn as white; for "scaled"
        depth_scale: scale of the depth files, 1000 for millimeters, 256 for KITTI; for "released"
        max_share: the p of the formula above: largest fraction of the columns right of the strip's beginning
        probability: probability of applying it
    """

    mode: Literal["scaled", "released"]
    _: KW_ONLY
    max_depth_m: float | None = None
    depth_scale: float | None = None
    max_share: float = 0.75
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        if self.mode not in ("scaled", "released"):
            raise ValueError(f"CutDepth's mode is {self.mode!r}; expected 'scaled' or 'released'")
        needed = "max_depth_m" if self.mode == "scaled" else "depth_scale"
        value = getattr(self, needed)
        if value is None or not value > 0:
            raise ValueError(f"CutDepth {self.mode!r} has {needed} {value}; expected above 0")
        if not 0 < self.max_share <= 1:
            raise ValueError(f"max_share is {self.max_share}; expected above 0 and at most 1")

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Replace one random strip."""
        if generator.random() >= self.probability:
            return sample
        if sample.depth_m is None:
            raise ValueError(f"CutDepth needs depth, but {sample.path} has none")
        left, width = strip(sample.image.shape[1], generator.random(), generator.random(), max_share=self.max_share)
        image = sample.image.copy()
        columns = np.s_[:, left : left + width]
        depth_m = sample.depth_m[columns]
        if self.max_depth_m is not None and self.mode == "scaled":
            gray = scaled_gray(depth_m, self.max_depth_m)
        else:
            assert self.depth_scale is not None
            gray = wrapped_gray(depth_m, self.depth_scale)
        image[columns] = gray[:, :, None]
        return replace(sample, image=image)


def strip(width: int, alpha: float, beta: float, *, max_share: float) -> tuple[int, int]:
    """Compute the position of CutDepth's strip.

    Args:
        width: width of the image
        alpha: 0 to 1, relative position at which the strip begins
        beta: 0 to 1, relative width of the strip
        max_share: largest fraction of the columns right of the strip's beginning

    Returns:
        first column and number of columns (at least 1)
    """
    return int(alpha * width), int(max((width - alpha * width) * beta * max_share, 1))


def scaled_gray(depth_m: NDArray[np.float32], max_depth_m: float) -> NDArray[np.uint8]:
    """Draw depth in gray: 0 m black, ``max_depth_m`` and beyond white."""
    gray: NDArray[np.float32] = np.rint((depth_m * (255 / max_depth_m)).clip(0, 255))
    return gray.astype(np.uint8)


def wrapped_gray(depth_m: NDArray[np.float32], depth_scale: float) -> NDArray[np.uint8]:
    """Draw depth in gray as the released code does by accident: the stored integer modulo 256."""
    stored: NDArray[np.int64] = np.rint(np.nan_to_num(depth_m, posinf=0.0) * np.float32(depth_scale)).astype(np.int64)
    return (stored % 256).astype(np.uint8)
