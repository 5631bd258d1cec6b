"""Predict a whole video with one or several models, in memory that does not depend on its length."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from metaprompts.data.io.video.frames import FrameSource
from metaprompts.errors import InputError
from metaprompts.inference.video.outputs import VideoOutput
from metaprompts.inference.video.temporal import VideoPredictor
from metaprompts.utils.batches import read_batches


@dataclass(frozen=True, kw_only=True)
class VideoJob:
    """A model's predictor and its output files.

    Attributes:
        predictor: predicts the frames
        output: writes the predictions
    """

    predictor: VideoPredictor
    output: VideoOutput


def predict_source(
    source: FrameSource,
    jobs: Sequence[VideoJob],
    *,
    batch_size: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> bool:
    """Predict all selected frames and write them.

    Ctrl-C ends the video after the current frame: the files then contain all predictions made so far.

    Args:
        source: the video
        jobs: the predictors and their output files
        batch_size: number of frames held in memory
        advance: called with the number of frames done

    Returns:
        whether all frames were predicted, without an interrupt

    Raises:
        InputError: no frame is selected, or a file cannot be written; then there are no files
        KeyboardInterrupt: before the first frame was written
    """
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(job.output)
        try:
            for frames in read_batches(source, batch_size):
                for job in jobs:
                    for frame, prediction in zip(frames, job.predictor(frames), strict=True):
                        job.output.write(frame, prediction, job.predictor.tracks.numbers)
                advance(len(frames))
        except KeyboardInterrupt:
            if not all(job.output.frames for job in jobs):
                raise
            return False
        if not all(job.output.frames for job in jobs):
            raise InputError(f"{source.name} has no frame in the selected time range")
    return True
