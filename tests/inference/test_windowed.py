"""Images that are predicted in windows."""

import numpy as np
import pytest
import torch

from metaprompts.data.transforms.tensors import image_tensor
from metaprompts.errors import InputError
from metaprompts.inference.predict import Windows, predict_in_windows
from metaprompts.tasks.sliding_window import slide_logits
from small import small_model

IMAGE = np.random.default_rng(0).integers(0, 255, (150, 210, 3), dtype=np.uint8)


def averaged(task: str) -> torch.Tensor:
    model = small_model(task)
    with torch.inference_mode():
        return slide_logits(model, image_tensor(IMAGE)[None], window=(96, 128), stride=(48, 64))[0]


@pytest.mark.slow
def test_labels_are_those_of_averaged_logits() -> None:
    logits = averaged("segmentation")

    prediction = small_model("segmentation").predict(IMAGE, window=(96, 128))

    assert (prediction.labels == logits.argmax(dim=0).numpy()).all()
    assert len(np.unique(prediction.labels)) == 2
    confidence = logits.softmax(dim=0).max(dim=0).values.numpy()
    np.testing.assert_allclose(prediction.confidence, confidence, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_depth_is_averaged_in_meters() -> None:
    prediction = small_model("depth").predict(IMAGE, window=(96, 128), stride=(48, 64))

    assert (prediction.depth_m == averaged("depth")[0].numpy()).all()


@pytest.mark.slow
def test_windows_may_go_through_the_model_together() -> None:
    model, windows = small_model("depth"), Windows((96, 128), (48, 64))

    one, three = (predict_in_windows(model, IMAGE, windows, batch=batch).depth_m for batch in (1, 3))

    np.testing.assert_allclose(one, three, rtol=1e-4)


def test_the_model_is_left_in_its_mode() -> None:
    model = small_model("depth").train()

    model.predict(IMAGE, window=(96, 128))

    assert model.training


@pytest.mark.parametrize("size", [(3, 200), (63, 64), (70, 1)])
@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_images_smaller_than_a_window(task: str, size: tuple[int, int]) -> None:
    prediction = small_model(task).predict(IMAGE[: size[0], : size[1]], window=(64, 64))

    values = prediction.labels if task == "segmentation" else prediction.depth_m
    assert values.shape == IMAGE[: size[0], : size[1]].shape[:2]
    assert np.isfinite(values).all()


def test_pose_refuses_windows() -> None:
    model = small_model("pose")
    with pytest.raises(InputError, match="pose is not predicted per pixel, so windows are not supported"):
        model.predict(IMAGE, window=(64, 64))
    with pytest.raises(InputError, match="got windows as well as boxes of people"):
        model.predict(IMAGE, boxes=[(0, 0, 50, 60)], window=(64, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": (32, 64)}, "windows of 32x64 requested; expected at least 64x64"),
        (
            {"window": (64, 64), "stride": (65, 1)},
            "64 pixels high and 64 wide, the stride is 65 down and 1 across; expected .* no larger than the window",
        ),
        ({"stride": (64, 64)}, "a window: give both or neither"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments: dict[str, tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_model("depth").predict(IMAGE, **arguments)
