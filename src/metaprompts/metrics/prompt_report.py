"""Reports of prompt responses, with tables and figures."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.utils.wording import markdown_table
from metaprompts.visualize.bars import draw_bars
from metaprompts.visualize.matrices import draw_matrix


@dataclass(frozen=True, eq=False, kw_only=True)
class Preferences:
    """The response of each of N prompts to each of C classes or joints.

    Attributes:
        kind: "class" or "joint"
        names: names of the C classes or joints
        mean: (N,) float64, mean over all counted pixels
        std: (N,) float64, standard deviation over the same pixels
        means: (N,C) float64, mean at each class or joint; NaN where nothing was counted
        peak_distance_px: (N,C) float64, joints only: mean distance from the map's largest value to the joint, in pixels
            of the crop; NaN where no such joint is visible
    """

    kind: str
    names: tuple[str, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    means: NDArray[np.float64]
    peak_distance_px: NDArray[np.float64] | None = None

    @property
    def z(self) -> NDArray[np.float64]:
        """(N,C): difference from the prompt's overall mean, in the prompt's standard deviations; NaN if that is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (self.means - self.mean[:, None]) / self.std[:, None]
        return np.where(self.std[:, None] > 0, scores, np.nan)

    @property
    def preferred(self) -> list[int | None]:
        """The class or joint with the largest z for each prompt; None for a constant prompt."""
        return [None if np.isnan(row).all() else int(np.nanargmax(row)) for row in self.z]

    def strongest(self, count: int) -> list[tuple[int, int]]:
        """The (prompt, class or joint) pairs with the strongest preferences, at most one pair per class or joint.

        Args:
            count: number of pairs; fewer if prompts prefer fewer classes or joints
        """
        by_place: dict[int, int] = {}
        for prompt in self._order():
            place = self.preferred[prompt]
            if place is not None:
                by_place.setdefault(place, prompt)
        return [(prompt, place) for place, prompt in by_place.items()][:count]

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values, for JSON."""
        rows = []
        for prompt, place in enumerate(self.preferred):
            row: dict[str, Any] = {
                "prompt": prompt,
                "mean": float(self.mean[prompt]),
                "std": float(self.std[prompt]),
                "preferred": None if place is None else self.names[place],
                "z": None if place is None else float(self.z[prompt, place]),
                "means": dict(zip(self.names, self.means[prompt].tolist(), strict=True)),
                "z_scores": dict(zip(self.names, self.z[prompt].tolist(), strict=True)),
            }
            if self.peak_distance_px is not None:
                row["peak_distance_px"] = dict(zip(self.names, self.peak_distance_px[prompt].tolist(), strict=True))
            rows.append(row)
        return {"kind": self.kind, "prompts": rows}

    def table(self) -> str:
        """A Markdown table, the most distinct preference first."""
        titles = ["prompt", f"preferred {self.kind}", "z", "mean there", "mean", "std"]
        has_peaks = self.peak_distance_px is not None
        rows = []
        for prompt in self._order():
            place = self.preferred[prompt]
            numbers = [self.z, self.means, *([self.peak_distance_px] if has_peaks else [])]
            there = [np.nan if place is None or values is None else values[prompt, place] for values in numbers]
            own = [self.mean[prompt], self.std[prompt]]
            name = "-" if place is None else self.names[place].replace("_", " ")
            rows.append([str(prompt), name, *map(_shown, [*there[:2], *own, *there[2:]])])
        return markdown_table([*titles, *(["peak to joint (px)"] if has_peaks else [])], rows)

    def show(self) -> Image.Image:
        """The matrix of z: one row per prompt, grouped by preferred class or joint."""
        order = sorted(self._order(), key=lambda prompt: _last_if_none(self.preferred[prompt]))
        return Image.fromarray(draw_matrix(self.z[order], [f"prompt {prompt}" for prompt in order], self.names))

    def _order(self) -> list[int]:
        return _falling([np.nan if place is None else self.z[row, place] for row, place in enumerate(self.preferred)])


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthPreferences:
    """The correlation of each of N prompts with depth.

    Attributes:
        correlation: (N,) float64, Pearson correlation of map and depth over all measured pixels; above 0 means a
            preference for far objects; NaN for a constant prompt
        mean: (N,) float64, mean over the measured pixels
        std: (N,) float64, standard deviation over the same pixels
    """

    correlation: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def strongest(self, count: int) -> list[int]:
        """Prompts with the strongest preferences for far and for near objects, alternating; fewer if fewer respond."""
        measured = [prompt for prompt in _falling(np.abs(self.correlation)) if not np.isnan(self.correlation[prompt])]
        far = [prompt for prompt in measured if self.correlation[prompt] > 0]
        near = [prompt for prompt in measured if self.correlation[prompt] <= 0]
        pairs = zip_longest(far, near)
        return [prompt for pair in pairs for prompt in pair if prompt is not None][:count]

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values, for JSON."""
        numbers = zip(self.correlation.tolist(), self.mean.tolist(), self.std.tolist(), strict=True)
        rows = [
            {"prompt": prompt, "correlation": correlation, "mean": mean, "std": std}
            for prompt, (correlation, mean, std) in enumerate(numbers)
        ]
        return {"kind": "depth", "prompts": rows}

    def table(self) -> str:
        """A Markdown table, the strongest correlation first."""
        rows = []
        for prompt in _falling(np.abs(self.correlation)):
            correlation = self.correlation[prompt]
            likes = "-" if np.isnan(correlation) else "far" if correlation > 0 else "near"
            numbers = [correlation, self.mean[prompt], self.std[prompt]]
            rows.append([str(prompt), likes, *map(_shown, numbers)])
        return markdown_table(["prompt", "likes", "correlation with depth", "mean", "std"], rows)

    def show(self) -> Image.Image:
        """One bar per prompt, from the strongest preference for far objects to the strongest for near objects."""
        order = _falling(self.correlation)
        return Image.fromarray(draw_bars(self.correlation[order], [f"prompt {prompt}" for prompt in order], limit=1.0))


def _falling(values: Any) -> list[int]:
    """Indices from the largest to the smallest value, NaN last."""
    order: list[int] = np.argsort(-np.asarray(values, np.float64), kind="stable").tolist()
    return order


def _last_if_none(place: int | None) -> float:
    return np.inf if place is None else place


def _shown(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
