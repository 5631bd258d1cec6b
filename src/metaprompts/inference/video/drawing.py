"""Draw the predictions of a video with the same colors and legend in every frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from metaprompts.data.io.video.frames import FrameSource
from metaprompts.errors import InputError
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, Prediction, SegmentationPrediction
from metaprompts.visualize.depth import BRIGHTNESS_NOTE, color_depth, depth_legend, depth_range
from metaprompts.visualize.legends import legend_text_px
from metaprompts.visualize.pose import DRAWN_SCORE, box_note, skeleton_legend
from metaprompts.visualize.segmentation import class_colors, class_legend
from metaprompts.visualize.text import PAPER, ImageArray, stack_down

# Number of frames that determine the range of colors and the classes in the legend.
_SAMPLED = 8
# Classes that cover less than this fraction of the sampled frames are not in the legend.
_LEAST_SHARE = 0.001
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Drawing:
    """The drawing style of one video.

    Attributes:
        ending: ending of the clip's name
        draw: prediction -> (H,W,3)
        legend: strip below each frame, (strip height, max(W, 160), 3); None if there is none
        note: meaning of the colors, for the console; empty if the legend explains the colors
    """

    ending: str
    draw: Callable[[Any], ImageArray]
    legend: ImageArray | None = None
    note: str = ""

    def frame(self, prediction: Prediction) -> ImageArray:
        """A prediction with the legend below; with a legend, height and width are even, as H.264 requires."""
        drawn = self.draw(prediction)
        if self.legend is None:
            return drawn
        whole = stack_down(drawn, self.legend)
        down, right = whole.shape[0] % 2, whole.shape[1] % 2
        return np.asarray(cv2.copyMakeBorder(whole, 0, down, 0, right, cv2.BORDER_CONSTANT, value=PAPER))


def samples_for(task: str, source: FrameSource) -> list[ImageArray]:
    """Images of the frames whose predictions `drawing_for` needs.

    Raises:
        InputError: no frame is selected
    """
    images = source.sample(_SAMPLED if task in ("depth", "segmentation") else 1)
    if not images:
        raise InputError(f"{source.name} has no frame in the selected time range")
    return images


def drawing_for(samples: Sequence[Any], *, legend: bool = True, min_score: float | None = None) -> Drawing:
    """The drawing of a video.

    Args:
        samples: predictions for some of the video's frames, which determine the range of colors and the classes in the
            legend
        legend: draw a legend
        min_score: joints with lower scores are not drawn; None for the default
    """
    first = samples[0]
    height, width = first.image.shape[:2]
    if isinstance(first, DepthPrediction):
        ranges = np.array([depth_range(sample.depth_m, sample.valid) for sample in samples])
        near, far = float(ranges[:, 0].min()), float(ranges[:, 1].max())
        size_px, notes = legend_text_px(height, width), [BRIGHTNESS_NOTE]
        strip = depth_legend(near, far, width, size_px=size_px, notes=notes) if legend else None
        note = f"colors from {near:.3g} m (bright) to {far:.3g} m (dark)"
        return Drawing("depth", lambda shown: color_depth(shown.depth_m, near, far, shown.valid), strip, note)
    if isinstance(first, SegmentationPrediction):
        return Drawing("overlay", _shown, _class_legend(samples) if legend else None)
    if isinstance(first, PosePrediction):
        least = DRAWN_SCORE if min_score is None else min_score
        lines = [f"joints that score at least {least:g}"]
        # A sample without people shows that a detector is used: otherwise the whole image would be one person.
        if len(first.located) == len(first.people):
            lines.append(box_note([person.score for person in first.people] or [0.0]))
        strip = skeleton_legend(first.joints, lines, (height, width)) if legend else None
        return Drawing("skeleton", lambda shown: np.asarray(shown.show(legend=False, min_score=least)), strip)
    # The legends of other tasks do not depend on the image.
    whole = np.asarray(first.show(legend=legend))
    ending = type(first).__name__.removesuffix("Prediction").lower()
    return Drawing(ending, _shown, whole[height:] if len(whole) > height else None)


def _shown(prediction: Prediction) -> ImageArray:
    return np.asarray(prediction.show(legend=False))


def _class_legend(samples: Sequence[Any]) -> ImageArray | None:
    """The largest classes in the samples, in the order of their indices."""
    classes = samples[0].classes
    shares = np.array([[each.shares().get(name, 0.0) for name in classes] for each in samples]).mean(axis=0)
    largest = [index for index in np.argsort(-shares)[:_MOST_CLASSES].tolist() if shares[index] >= _LEAST_SHARE]
    places = sorted(largest)
    if not places:
        return None
    height, width = samples[0].labels.shape
    names, colors = [classes[place] for place in places], class_colors(classes)[places]
    return class_legend(names, colors, width, numbers=places, size_px=legend_text_px(height, width))
