"""Statistics of depth maps: fractions of pixels excluded from loss and metric, and maps that are probably wrong."""

import hashlib

import numpy as np

from metaprompts.data.sample import Sample
from metaprompts.utils.wording import counted

# No camera measures distances this large, so the unit is probably millimeters.
_MILLIMETERS = 500.0
# Outside laboratories, no camera measures distances this small.
_NEAR_M = 0.1


class DepthStatistics:
    """Counts pixels and maps of the samples passed to `update`.

    Args:
        min_depth_m: only larger depths count, see ``task.min_depth_m``
        max_depth_m: only smaller depths count, see ``task.max_depth_m``

    Attributes:
        images: number of depth maps
        unusable: number of maps without a pixel in range
        too_far: number of pixels measured at or beyond max_depth_m
    """

    def __init__(self, *, min_depth_m: float, max_depth_m: float) -> None:
        self.min_depth_m, self.max_depth_m = min_depth_m, max_depth_m
        self.images = self.unusable = self.too_far = 0
        self._pixels = self._unmeasured = self._too_near = self._constant = self._sky = 0
        self._farthest_m = 0.0
        self._first_with: dict[bytes, str] = {}
        self._repeated: list[tuple[str, str]] = []

    def update(self, sample: Sample) -> None:
        """Count a sample; samples without depth are skipped."""
        depth_m = sample.depth_m
        if depth_m is None or not depth_m.size:
            return
        sky = np.isinf(depth_m)
        unmeasured, too_far = int((depth_m <= 0).sum()), int(((depth_m >= self.max_depth_m) & ~sky).sum())
        too_near = int((depth_m <= self.min_depth_m).sum()) - unmeasured
        self.images += 1
        self.unusable += unmeasured + too_near + too_far + int(sky.sum()) == depth_m.size
        self.too_far += too_far
        self._pixels += depth_m.size
        self._unmeasured += unmeasured
        self._too_near += too_near
        self._sky += int(sky.sum())
        self._farthest_m = max(self._farthest_m, float(depth_m.max(where=~sky, initial=0)))
        if unmeasured < depth_m.size:
            self._constant += bool((depth_m == depth_m.flat[0]).all())
            digest = hashlib.sha256(np.ascontiguousarray(depth_m).data).digest()
            if (first := self._first_with.setdefault(digest, sample.path)) != sample.path:
                self._repeated.append((sample.path, first))

    def range_line(self) -> str:
        """The fractions of pixels out of range, on one line."""
        line = (
            f"depth of {counted(self.images, 'image')}: {self._percent(self._unmeasured)} of the pixels unmeasured, "
            f"{self._percent(self.too_far)} at or beyond task.max_depth_m {self.max_depth_m:g}"
        )
        if self.too_far:
            line += f" (up to {self._farthest_m:.5g} m)"
        if self._sky:
            line += f", {self._percent(self._sky)} sky"
        if self._too_near:
            line += f", {self._percent(self._too_near)} at or below task.min_depth_m {self.min_depth_m:g}"
        return line

    def units_hint(self) -> str:
        """Advice if values look like millimeters, or like meters read as millimeters; may be empty."""
        if self.images == self.unusable and self._farthest_m >= max(_MILLIMETERS, self.max_depth_m):
            return f"; values up to {self._farthest_m:.5g} look like millimeters: try --data.depth_scale 1000"
        if 0 < self._farthest_m < _NEAR_M:
            depth = f"depth up to {self._farthest_m:.5g} m"
            return f"; {depth} looks like meters read as millimeters: try --data.depth_scale 1"
        return ""

    def lines(self) -> list[str]:
        """The findings, one per line; empty if no sample has depth."""
        if not self.images:
            return []
        lines, maps = [self.range_line()], counted(self.images, "depth map")
        if hint := self.units_hint():
            lines.append(f"warning: {hint.removeprefix('; ')}")
        if self.unusable:
            lines.append(f"warning: {self.unusable} of {maps} without a pixel in range")
        if self._constant:
            lines.append(f"warning: {self._constant} of {maps} with a single value")
        if self._repeated:
            image, first = self._repeated[0]
            lines.append(
                f"warning: {len(self._repeated)} of {self.images} depth maps repeat that of another image, "
                f"such as those of {image} and {first}"
            )
        return lines

    def _percent(self, pixels: int) -> str:
        """Format a fraction of all pixels; 0% and 100% mean exactly none and all."""
        percent = 100 * pixels / self._pixels
        if 0 < percent < 0.1:
            return "<0.1%"
        return ">99.9%" if 99.9 < percent < 100 else f"{percent:.3g}%"
