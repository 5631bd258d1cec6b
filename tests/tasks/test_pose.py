import numpy as np
import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.metrics.oks_nms import COCO_SIGMAS
from metaprompts.models.config import build_task
from metaprompts.tasks import Pose

TASK = Pose(joints=("head", "hip"), skeleton=((0, 1),), crop_height=64, crop_width=128, heatmap_sigma=1.5, filters=8)


def batch(*keypoints):
    return {"keypoints": torch.tensor([keypoints], dtype=torch.float32)}


def test_the_crops_corners_are_the_heatmaps_corners():
    """Lengths are counted between pixel centers, so pixel 127 of 128 is pixel 31 of 32, not 31.75."""
    heatmaps = TASK.encode(batch((0, 0, 2), (127, 63, 1)))
    assert heatmaps.shape == (1, 2, 16, 32)
    assert heatmaps[0, 0, 0, 0].item() == pytest.approx(1)
    assert heatmaps[0, 1, 15, 31].item() == pytest.approx(1)


def test_joints_without_a_label_add_nothing_but_count():
    """Two joints, one labeled and missed altogether: half the mean square of its heatmap."""
    given = batch((40, 30, 2), (90, 20, 0))
    heatmap = TASK.encode(given)[0, 0]
    raw = torch.zeros(1, 2, 16, 32)
    expected = heatmap.square().mean().item() / 2
    assert TASK.losses(raw, None, given)["heatmaps"].item() == pytest.approx(expected)
    raw[0, 1] = 7
    assert TASK.losses(raw, None, given)["heatmaps"].item() == pytest.approx(expected)
    raw[0, 0] = heatmap
    assert TASK.losses(raw, None, given)["heatmaps"] == 0


@pytest.mark.parametrize("box", [None, (20, 10, 60, 40, 0.5), (5.5, 3.25, 10, 80)])
def test_what_is_found_in_a_crop_is_given_in_the_image(box):
    """A joint drawn at a pixel of the crop comes back where that pixel was taken from: there and here are alike."""
    rows, columns = np.mgrid[0:128, 0:200]
    image = np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)
    (view,) = TASK.model_inputs(image, None, None if box is None else [box])
    assert view.image.shape == (3, 64, 128)
    x, y = 64, 32
    raw = TASK.encode(batch((x, y, 2), (x, y, 2)))[0]
    (person,) = TASK.assemble(image, [(view, raw)]).people
    seen = view.image[:2, y, x].numpy() * 255
    np.testing.assert_allclose(person.keypoints[0], seen, atol=0.6)
    assert person.box_xywh == pytest.approx((0, 0, 200, 128) if box is None else box[:4])
    assert person.score == (0.5 if box and len(box) > 4 else 1)
    assert person.scores == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "box", [(1, 2, 3), (1, 2, 0, 4), (1, 2, 3, float("nan")), "1234", (1, 2, "3", 4), [[1, 2, 3, 4]]]
)
def test_boxes_that_are_none(box):
    """Of an empty box there came NaN."""
    with pytest.raises(InputError, match=r"a person's box is .*; expected"):
        list(TASK.model_inputs(np.zeros((9, 9, 3), np.uint8), None, [box]))


def test_sigmas_of_coco_are_cocos_however_joints_are_spelled():
    """L_Eye had 0.079, three times COCO's."""
    assert Pose().oks_sigmas == COCO_SIGMAS
    assert Pose().without_sigma() == []
    spelled = Pose(joints=("Nose", "L_Eye", "ear.R", "rightHip", "neck", "head top", "tail"), skeleton=())
    assert spelled.oks_sigmas == (0.026, 0.025, 0.035, 0.107, 0.079, 0.035, 0.079)
    assert spelled.without_sigma() == ["tail"]
    given = Pose(joints=("a", "b"), skeleton=(), sigmas=(0.1, 0.2))
    assert (given.oks_sigmas, given.without_sigma()) == ((0.1, 0.2), [])


def test_config_of_an_older_model_loads():
    """It knows nothing of flip_pairs, lower_body and sigmas."""
    task = build_task({"name": "pose", "joints": ["head", "hip"], "skeleton": [[0, 1]]})
    assert (task.flip_pairs, task.lower_body, task.sigmas) == (None, None, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_height": 60}, "expected multiples of 8"),
        ({"heatmap_sigma": 0.0}, "heatmap_sigma is 0.0"),
        ({"skeleton": ((0, 17),)}, "outside 0 to 16"),
        ({"joints": ("a", "b", "a"), "skeleton": ()}, "task.joints has 'a' 2 times"),
        ({"joints": (), "skeleton": ()}, "task.joints is empty"),
        ({"skeleton": ((0, 1), (2, 2))}, "task.skeleton has a limb from a joint to itself"),
        ({"flip_pairs": ((1, 2), (2, 3))}, "task.flip_pairs has joint 2 2 times"),
        ({"flip_pairs": ((1, 17),)}, "task.flip_pairs has joint 17 1 times; expected 0 to 16"),
        ({"lower_body": (-1,)}, "task.lower_body is -1; expected 0 to 9999"),
        ({"sigmas": (0.1,)}, "task.sigmas has 1 numbers; expected 17"),
        ({"sigmas": (0.0,) * 17}, "expected more than 0 to 1"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Pose(**settings)
