import gc
import weakref
from fractions import Fraction

import numpy as np
import pytest

import metaprompts
from clips import plain_frames, read_clip, write_clip
from metaprompts.data.io.video.frames import VideoFrame
from metaprompts.errors import InputError
from metaprompts.inference.video.api import VideoPredictor, predict_source
from metaprompts.inference.video.drawing import drawing_for
from metaprompts.inference.video.outputs import VideoOutput
from metaprompts.tasks.predictions import DepthPrediction, SegmentationPrediction
from metaprompts.visualize.depth import depth_legend
from metaprompts.visualize.legends import legend_text_px
from small import small_model


def depth_of(image, depth_m=2.0):
    return DepthPrediction(depth_m=np.full(image.shape[:2], depth_m, np.float32), image=image)


class Frames:
    """A source that knows how many of its frames are alive."""

    name, sound, pixel_aspect, size = "frames", None, Fraction(1), (32, 32)
    rate, time_base, problems, expected = Fraction(25), Fraction(1, 25), (), None

    def __init__(self, count):
        self.count, self.most, self.alive = count, 0, []

    def __iter__(self):
        for number in range(self.count):
            image = np.full((32, 32, 3), number % 250, np.uint8)
            self.alive = [each for each in self.alive if each() is not None] + [weakref.ref(image)]
            self.most = max(self.most, len(self.alive))
            yield VideoFrame(image=image, time_s=number * self.time_base)


def test_few_frames_are_held_at_a_time(tmp_path):
    """A clip of two hours takes the memory of a clip of two seconds."""
    gc.disable()
    try:
        source = Frames(120)
        predictor = VideoPredictor(lambda inputs, raw: (depth_of(image) for image, _, _ in inputs), "depth")
        drawing = drawing_for([depth_of(np.zeros((32, 32, 3), np.uint8))], legend=False)
        output = VideoOutput(path=tmp_path / "out.mp4", stem="out", container="mp4", source=source, drawing=drawing)
        assert predict_source(source, [(predictor, output)], batch_size=4)
    finally:
        gc.enable()
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 120
    assert source.most <= 10


def test_depth_has_one_range_for_all_frames():
    image = np.zeros((32, 200, 3), np.uint8)
    drawing = drawing_for([depth_of(image, 2.0), depth_of(image, 6.0)])
    assert drawing.note == "colors from 2 m (bright) to 6 m (dark)"
    near, far = (drawing.frame(depth_of(image, depth_m)) for depth_m in (2.0, 6.0))
    assert near[0, 0].sum() > far[0, 0].sum()
    np.testing.assert_array_equal(near[32:], far[32:])
    assert all(side % 2 == 0 for side in near.shape[:2])


def test_the_legend_of_depth_says_which_end_is_near():
    """Images said near is bright; videos only had a scale."""
    drawing = drawing_for([depth_of(np.zeros((32, 200, 3), np.uint8), 2.0)])
    notes = ["near is bright, far is dark"]
    assert drawing.legend is not None
    assert (drawing.legend == depth_legend(2.0, 2.0, 200, size_px=legend_text_px(32, 200), notes=notes)).all()


def test_the_legend_names_the_classes_of_the_samples():
    image, classes = np.zeros((32, 400, 3), np.uint8), tuple(f"class {number}" for number in range(150))
    labels = np.zeros((32, 400), np.uint8)
    labels[16:] = 7
    prediction = SegmentationPrediction(labels=labels, classes=classes, image=image)
    drawing = drawing_for([prediction])
    assert drawing.ending == "overlay"
    # Two entries on one line.
    assert drawing.legend is not None
    assert len(drawing.legend) < 40


@pytest.mark.slow
def test_python_writes_a_clip_and_yields_frames(tmp_path):
    model = small_model("depth")
    clip = write_clip(tmp_path / "clip.mp4", plain_frames(3, 64, 64))
    result = model.predict_video(clip, tmp_path / "out.webm", every=2, legend=False, steady=False)
    assert (result.frames, result.problems, result.path) == (2, (), tmp_path / "out.webm")
    assert read_clip(result.path)[0] == [0, 0.08]
    found = list(model.predict_frames(clip, every=2, steady=False))
    assert [seconds for seconds, _ in found] == [0, 0.08]
    image = found[1][1].image
    np.testing.assert_allclose(found[1][1].depth_m, model.predict(image).depth_m, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "out", "options", "line"),
    [
        ("clip.mp4", "out.avi", {}, "'avi'; expected mp4 or webm"),
        ("clip.mp4", "out.mp4", {"boxes": [[0, 0, 5, 5]]}, "boxes of a video are list; expected a detector"),
        ("clip.mp4", "out.mp4", {"fps": 5}, "is not a folder: a clip has its own frame rate"),
        (".", "out.mp4", {}, "is a folder: give fps"),
        ("clip.mp4", "out.mp4", {"start_s": 9.0}, "has no frame in the selected time"),
        ("clip.mp4", "out.mp4", {"every": 0}, "got every=0; expected 1 or more"),
    ],
)
def test_bad_arguments(tmp_path, monkeypatch, source, out, options, line):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", plain_frames(2, 32, 32))
    with pytest.raises(metaprompts.InputError, match=line):
        small_model("depth").predict_video(source, out, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert InputError is metaprompts.InputError
