"""Change the colors of an image, or paste depth into it (CutDepth); labels and depth are unchanged."""

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.transform import check_probability

_LEVELS = np.arange(256, dtype=np.float32)
_HUES = 180


@dataclass(frozen=True)
class PhotometricDistortion:
    """mmsegmentation's photometric distortion: brightness, contrast, saturation and hue, each with probability 0.5.

    Contrast is changed randomly before or after saturation and hue.

    Args:
        brightness: maximum change, in gray levels
        contrast: lowest and highest factor
        saturation: lowest and highest factor of the HSV saturation
        hue: maximum shift, in OpenCV's units of 2 degrees
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Distort by random amounts."""
        image = sample.image
        if _coin(generator):
            image = scale_levels(image, 1.0, generator.uniform(-self.brightness, self.brightness))
        contrast_first = _coin(generator)
        contrast = generator.uniform(*self.contrast) if _coin(generator) else 1.0
        if contrast_first:
            image = scale_levels(image, contrast, 0.0)
        saturation = generator.uniform(*self.saturation) if _coin(generator) else 1.0
        hue = int(generator.integers(-self.hue, self.hue, endpoint=True)) if _coin(generator) else 0
        image = shift_hsv(image, hue=hue, saturation_factor=saturation)
        if not contrast_first:
            image = scale_levels(image, contrast, 0.0)
        return replace(sample, image=image)


@dataclass(frozen=True)
class DepthColor:
    """The color changes of the depth recipes: three groups, each with its own probability.

    The groups are brightness with contrast; gamma; and hue with saturation and value. Every amount is drawn uniformly.

    Args:
        brightness_contrast: maximum change of brightness, relative to 255, and of contrast, relative to 1
        gamma: lowest and highest exponent
        hue: maximum shift, in OpenCV's units of 2 degrees
        saturation: maximum change of the 8-bit HSV saturation
        value: maximum change of the 8-bit HSV value
        probability: probability of each group
    """

    brightness_contrast: float = 0.2
    gamma: tuple[float, float] = (0.8, 1.2)
    hue: float = 20.0
    saturation: float = 30.0
    value: float = 20.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Change by random amounts."""
        image = sample.image
        if generator.random() < self.probability:
            contrast, brightness = generator.uniform(-self.brightness_contrast, self.brightness_contrast, size=2)
            image = scale_levels(image, 1 + contrast, 255 * brightness)
        if generator.random() < self.probability:
            image = raise_levels(image, generator.uniform(*self.gamma))
        if generator.random() < self.probability:
            hue, saturation, value = generator.uniform(-1, 1, size=3) * (self.hue, self.saturation, self.value)
            image = shift_hsv(image, hue=hue, saturation_offset=saturation, value_offset=value)
        return replace(sample, image=image)


@dataclass(frozen=True)
class CutDepth:
    """Replace a vertical strip of the image with its depth, drawn in gray (Ishii and Yamashita 2021).

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


def scale_levels(image: NDArray[np.uint8], factor: float, offset: float) -> NDArray[np.uint8]:
    """Compute ``image * factor + offset``, clipped to 0..255 and truncated as in mmsegmentation.

    Args:
        image: uint8 of any shape
        factor: contrast
        offset: brightness in gray levels
    """
    if factor == 1 and offset == 0:
        return image
    return _lookup(image, _LEVELS * factor + offset)


def raise_levels(image: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    """Compute ``255 * (image / 255) ** gamma``, truncated.

    Args:
        image: uint8 of any shape
        gamma: exponent, above 0; values below 1 brighten
    """
    return _lookup(image, (_LEVELS / 255) ** gamma * 255)


def shift_hsv(
    image: NDArray[np.uint8],
    *,
    hue: float = 0,
    saturation_factor: float = 1.0,
    saturation_offset: float = 0.0,
    value_offset: float = 0.0,
) -> NDArray[np.uint8]:
    """Change an image in 8-bit HSV (hue 0..179, saturation and value 0..255).

    Args:
        image: (H, W, 3) uint8 RGB
        hue: shift, in units of 2 degrees; the new hue is truncated, as in albumentations
        saturation_factor: factor on saturation
        saturation_offset: offset added to saturation
        value_offset: offset added to value

    Returns:
        (H, W, 3) uint8 RGB; the image itself if nothing changes
    """
    if (hue, saturation_factor, saturation_offset, value_offset) == (0, 1, 0, 0):
        return image
    table = np.stack(
        [
            (np.arange(256) + hue) % _HUES,
            _LEVELS * saturation_factor + saturation_offset,
            _LEVELS + value_offset,
        ],
        axis=1,
    )
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    changed = cv2.LUT(hsv, table.clip(0, 255).astype(np.uint8)[None])
    rgb: NDArray[np.uint8] = cv2.cvtColor(changed, cv2.COLOR_HSV2RGB)
    return rgb


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


def _lookup(image: NDArray[np.uint8], levels: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    changed: NDArray[np.uint8] = cv2.LUT(image, levels.clip(0, 255).astype(np.uint8))
    return changed


def _coin(generator: np.random.Generator) -> bool:
    return bool(generator.random() < 0.5)
