from dataclasses import replace

import pytest
import torch

from evaluation.oracles import TASKS, Oracle, mm_aug_test, mm_slide
from metaprompts.errors import InputError
from metaprompts.tasks import Pose
from metaprompts.tasks.depth import DepthProtocol
from metaprompts.tasks.pose import PoseProtocol
from metaprompts.tasks.protocol import scaled_name
from metaprompts.tasks.segmentation import SegmentationProtocol
from metaprompts.tasks.sliding_window import predict_windows


def random_images(*size, seed=0):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("task", list(TASKS))
def test_by_default_a_image_is_seen_once_as_it_is(task):
    seen = []
    raw = torch.rand(2, 3, 4, 4)
    model = Oracle(TASKS[task])
    model.__class__ = type("Recorder", (Oracle,), {"__call__": lambda self, images: seen.append(images) or raw})
    given = random_images(16, 24)
    assert TASKS[task].protocol().predict(model, {"image": given}) is raw
    assert [each is given for each in seen] == [True]


def as_keys(windows):
    return {} if windows is None else dict(zip(("window", "stride"), windows, strict=True))


@pytest.mark.parametrize("windows", [None, (24, 16), (100, 67), (16, 16)])
def test_scales_windows_and_flip_equal_mmsegmentation(windows):
    """One scale is smaller than the window, one has a last window that is shifted inside."""
    model = Oracle(TASKS["segmentation"])
    ratios = {0.5: (20, 29), 1.0: (40, 57), 1.75: (70, 100)}
    batch = {scaled_name(ratio): random_images(*size) for ratio, size in ratios.items()}
    batch["labels"] = torch.zeros(2, 43, 61)
    test = SegmentationProtocol(**as_keys(windows), flip=True, scales=tuple(ratios), window_batch=3)
    square = None if windows is None else ((windows[0],) * 2, (windows[1],) * 2)
    expected = mm_aug_test(model, [batch[scaled_name(each)] for each in ratios], (43, 61), *(square or (None, None)))
    found = test.predict(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 43, 61))


def test_a_single_view_in_windows_gives_the_labels_of_its_mean_logits():
    model = Oracle(TASKS["segmentation"])
    batch = {"image": random_images(40, 57), "labels": torch.zeros(2, 40, 57)}
    found = SegmentationProtocol(window=24, stride=16).predict(model, batch)
    assert found.argmax(dim=1).equal(mm_slide(model, batch["image"], (24, 24), (16, 16), classes=3).argmax(dim=1))


def test_without_labels_the_images_own_size_is_the_results():
    batch = {"image": random_images(20, 30), "original_size": torch.tensor([[41, 61], [41, 61]])}
    assert SegmentationProtocol(flip=True).predict(Oracle(TASKS["segmentation"]), batch).shape == (2, 3, 41, 61)


def test_what_the_model_gave_is_not_written_into():
    """The oracle of this test hands out its input itself."""
    batch = {"image": random_images(20, 30)}
    before = batch["image"].clone()
    model = Oracle(TASKS["segmentation"])
    model.__class__ = type("Echo", (Oracle,), {"__call__": lambda self, images: images})
    SegmentationProtocol(flip=True, scales=(1.0,)).predict(model, batch)
    assert batch["image"].equal(before)


@pytest.mark.parametrize("windows", [None, 2, 5])
def test_depth_goes_through_the_windows_that_equal_the_released_code(windows):
    model, batch = Oracle(TASKS["depth"]), {"image": random_images(16, 44)}
    found = DepthProtocol(num_windows=windows, flip=True).predict(model, batch)
    assert found.equal(predict_windows(model, batch["image"], windows=windows, flip=True))
    assert torch.isfinite(found).all()


def flip_back(heatmaps, pairs):
    """mmpose's flip_back of heatmaps, shift_heatmap=False as for UDP."""
    back = heatmaps.clone()
    for left, right in pairs:
        back[:, left], back[:, right] = heatmaps[:, right], heatmaps[:, left]
    return back.flip(3)


def test_mirrored_heatmaps_are_turned_back_as_in_mmpose():
    model, batch = Oracle(TASKS["pose"]), {"image": random_images(64, 64)}
    pairs = [(left, left + 1) for left in range(1, 17, 2)]
    expected = (model(batch["image"]) + flip_back(model(batch["image"].flip(3)), pairs)) / 2
    torch.testing.assert_close(PoseProtocol(flip=True).predict(model, batch), expected)


def test_a_flip_does_not_shift_joints():
    """Under UDP column x of the crop is W - 1 - x of its mirror image, in heatmaps, too: no shift by one is needed."""
    task = Pose(crop_height=64, crop_width=96)
    points = torch.rand(1, 17, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([70.0, 40.0]) + 12
    seen = torch.full((1, 17, 1), 2.0)
    mirrored = points.clone()
    mirrored[..., 0] = 95 - points[..., 0]
    for left in range(1, 17, 2):
        mirrored[:, [left, left + 1]] = mirrored[:, [left + 1, left]]
    answers = [task.encode({"keypoints": torch.cat([each, seen], -1)}) for each in (points, mirrored)]
    model = Oracle(task)
    model.__class__ = type("Knowing", (Oracle,), {"__call__": lambda self, images: answers.pop(0)})
    found = task.decode(PoseProtocol(flip=True).predict(model, {"image": torch.zeros(1, 3, 64, 96)}))
    torch.testing.assert_close(found[..., :2], points, rtol=0, atol=2e-3)


def test_training_validates_with_one_pass_but_in_windows_and_crops():
    segmentation = SegmentationProtocol(window=1024, stride=512, flip=True, scales=(0.5, 1.0), window_batch=4)
    assert segmentation.quick() == SegmentationProtocol(window=1024, stride=512, window_batch=4)
    depth = DepthProtocol(num_windows=16, flip=True, crop="garg", kitti_crop=True)
    assert depth.quick() == replace(depth, flip=False)
    assert PoseProtocol(flip=True, oks_nms=0.9).quick() == PoseProtocol(oks_nms=0.9)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (SegmentationProtocol, {"window": 512, "stride": 513}, "test.stride is 513 and test.window 512"),
        (SegmentationProtocol, {"stride": 512}, "test.stride is 512 and test.window none"),
        (SegmentationProtocol, {"window": 512, "stride": 0}, "test.stride is 0"),
        (SegmentationProtocol, {"scales": ()}, "test.scales is"),
        (SegmentationProtocol, {"scales": (1.0, 0.0)}, "test.scales is 1.0,0.0; expected more than 0 to 16"),
        (SegmentationProtocol, {"scales": (17.0,)}, "test.scales is 17.0; expected more than 0 to 16"),
        (SegmentationProtocol, {"scales": (1.0, 1.0)}, "each scale once"),
        (SegmentationProtocol, {"window_batch": 0}, "test.window_batch is 0"),
        (DepthProtocol, {"num_windows": 1}, "test.num_windows is 1; expected 2 to 1024"),
        (PoseProtocol, {"oks_nms": 0.0}, "test.oks_nms is 0.0"),
    ],
)
def test_nonsense_is_refused(kind, settings, message):
    with pytest.raises(InputError, match=message):
        kind(**settings)
