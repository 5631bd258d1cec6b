"""Draw the figure of the method with the names of the classes that implement it.

python scripts/method_figure.py [FILE.svg]
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import LatentEncoder, PyramidUNet
from metaprompts.modules.heads.deconv import DepthHead, HeatmapHead, NormalsHead
from metaprompts.modules.heads.upernet import UPerNet
from metaprompts.modules.meta_prompts import FusedRearrangement, LevelRearrangement, MetaPrompts, RecurrentRefinement
from metaprompts.tasks import Task

FIGURE = Path(__file__).parents[1] / "docs/pictures/method.svg"
_BLUE, _ORANGE, _GRAY = "#dbe9f6", "#fde3c8", "#eeeeee"
# Left edge, bottom, width, height, color and lines of text of each box; widths in inches.
_BOXES = {
    "encoder": (1.15, 1.55, 1.5, 0.8, _GRAY, [LatentEncoder.__name__, "frozen VAE encoder"]),
    "unet": (3.35, 1.55, 2.0, 0.8, _BLUE, [PyramidUNet.__name__, f"K steps: {RecurrentRefinement.__name__}"]),
    "prompts": (3.35, 0.15, 2.0, 0.7, _ORANGE, [MetaPrompts.__name__, "N learned embeddings (B, N, D)"]),
    "rearrange": (
        6.35,
        1.55,
        1.8,
        0.8,
        _ORANGE,
        [LevelRearrangement.__name__, FusedRearrangement.__name__, "pixel . prompt"],
    ),
    "head": (
        8.95,
        1.45,
        1.3,
        1.0,
        _BLUE,
        [UPerNet.__name__, DepthHead.__name__, HeatmapHead.__name__, NormalsHead.__name__],
    ),
}


def draw(path: Path) -> None:
    """Draw the figure into an SVG file, whose text stays text."""
    # The same file every time: no date, no random ids.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "method", "font.family": "sans-serif", "font.size": 8}
    ):
        figure = Figure(figsize=(11.9, 3.1))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 11.9), ylim=(0, 3.1))
        axes.set_axis_off()
        for left, bottom, width, height, color, lines in _BOXES.values():
            _box(axes, left, bottom, width, height, color, lines)
        axes.text(0.08, 1.95, "image\n(B, 3, H, W)", va="center")
        _arrow(axes, (0.8, 1.95), (1.15, 1.95))
        _arrow(axes, (2.65, 1.95), (3.35, 1.95), "latent\n(B, 4,\nH/8, W/8)")
        _arrow(axes, (5.35, 1.95), (6.35, 1.95), "pyramid\n1/8, 1/16,\n1/32, 1/64")
        _arrow(axes, (8.15, 1.95), (8.95, 1.95), f"{MetaPromptModel.prompt_maps.__name__}\n(B, N, h, w)")
        _arrow(axes, (10.25, 1.95), (10.65, 1.95))
        axes.text(
            10.7, 1.95, f"{Task.__name__}.{Task.decode.__name__}\nprediction at the\nimage's own size", va="center"
        )
        _arrow(axes, (4.35, 0.85), (4.35, 1.55), "cross-attention")
        _arrow(
            axes, (5.35, 0.5), (7.25, 1.55), bend="angle,angleA=0,angleB=90", label_at=(6.3, 0.62), label="dot product"
        )
        _arrow(axes, (5.0, 2.35), (3.7, 2.35), bend="arc3,rad=0.9")
        axes.text(
            4.35,
            2.95,
            f"{PyramidUNet.to_latent.__name__}: the next step's latent, with its own time vector",
            ha="center",
            va="center",
        )
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _box(axes: Axes, left: float, bottom: float, width: float, height: float, color: str, lines: list[str]) -> None:
    shape = FancyBboxPatch(
        (left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.08", fc=color, ec="#555555"
    )
    axes.add_patch(shape)
    axes.text(left + width / 2, bottom + height / 2, "\n".join(lines), ha="center", va="center", linespacing=1.4)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    label: str = "",
    *,
    bend: str = "arc3",
    label_at: tuple[float, float] | None = None,
) -> None:
    style = {"arrowstyle": "-|>", "color": "#333333", "connectionstyle": bend, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    vertical = start[0] == end[0]
    if label_at is None:
        label_at = (middle[0] + 0.06, middle[1]) if vertical else (middle[0], middle[1] + 0.06)
    axes.text(*label_at, label, ha="left" if vertical else "center", va="center" if vertical else "bottom")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURE)
