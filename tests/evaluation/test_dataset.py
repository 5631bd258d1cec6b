from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.oracles import Samples
from metaprompts.data.sample import Sample
from metaprompts.data.transforms.geometric import KittiCrop, ResizeImage
from metaprompts.errors import InputError
from metaprompts.evaluation.dataset import EvalDataset, scaled_transforms, seen_batches, stacked
from metaprompts.tasks.depth import DepthProtocol
from metaprompts.tasks.segmentation import SegmentationProtocol


def image_sample(height, width):
    columns = np.arange(width) + np.zeros((height, 1))
    image = np.stack([columns % 256, columns // 256, np.arange(height)[:, None] % 256 + 0 * columns], 2)
    return Sample(image=image.astype(np.uint8), path="a.png", depth_m=columns.astype(np.float32))


def size_at(transforms, ratio, sample):
    for transform in scaled_transforms(transforms, ratio):
        sample = transform(sample, np.random.default_rng(0))
    return sample.image.shape[:2]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        # mmcv: scale (int(2048 r), int(512 r)), factor min(long / longest side, short / shortest), rounded half up
        ((512, 683), {0.5: (256, 342), 1.0: (512, 683), 1.75: (896, 1195)}),
        ((300, 1500), {0.5: (205, 1024), 1.0: (410, 2048), 1.25: (512, 2560)}),
        ((1000, 250), {0.75: (1536, 384)}),
    ],
)
def test_scales_follow_the_size_to_which_images_are_brought(own, expected):
    plain = [ResizeImage(512, 2048, keeps_aspect=True)]
    assert {ratio: size_at(plain, ratio, image_sample(*own)) for ratio in expected} == expected


def test_scales_without_an_image_size_are_of_the_images_own():
    assert [size_at([], ratio, image_sample(41, 60)) for ratio in (0.5, 1.0, 2.0)] == [(20, 29), (41, 60), (82, 120)]
    assert size_at([ResizeImage(64, 32)], 1.5, image_sample(41, 60)) == (96, 48)


def test_a_scale_that_leaves_nothing_is_refused():
    """The encoder's own message came, with a traceback."""
    assert size_at([], 0.2, image_sample(41, 60)) == (8, 12)
    with pytest.raises(InputError, match=r"test.scales 0.01 leaves 2x1 pixels of a.png; expected at least 8 per side"):
        size_at([], 0.01, image_sample(100, 200))


def test_views_of_a_image():
    test = SegmentationProtocol(scales=(0.5, 2.0), flip=True)
    seen = EvalDataset(Samples(3, Path("root")), [], test)[1]
    shapes = {name: tuple(tensor.shape) for name, tensor in seen.tensors.items()}
    assert shapes.pop("depth_m") == (48, 48)
    scaled = {"image@0.5": (3, 24, 24), "image@2": (3, 96, 96)}
    assert shapes == {"image": (3, 48, 48), "labels": (48, 48), "original_size": (2,), **scaled}
    assert (seen.index, seen.path) == (1, str(Path("root/images/1.png")))


def test_images_of_one_shape_form_a_batch():
    seen = EvalDataset(Samples(5, Path("root")), [], DepthProtocol())
    gathered = stacked([seen[index] for index in range(5)])
    assert [[each.index for each in alike] for alike, _ in gathered] == [[0, 2, 4], [1, 3]]
    assert gathered[1][1]["image"][1].equal(seen[3].tensors["image"])
    (batch,) = seen_batches(EvalDataset(Samples(2, Path(), ((8, 8),)), [], DepthProtocol()), batch_size=2, workers=0)
    assert batch["depth_m"].shape == (2, 8, 8)


def test_images_of_two_sizes_in_a_group_are_two_batches():
    batches = seen_batches(EvalDataset(Samples(5, Path("root")), [], DepthProtocol()), batch_size=3, workers=0)
    assert [tuple(batch["image"].shape) for batch in batches] == [
        *((2, 3, 40, 56), (1, 3, 48, 48)),
        *((1, 3, 48, 48), (1, 3, 40, 56)),
    ]
    assert len(batches) == 2


@pytest.mark.parametrize("size", [(375, 1242), (370, 1226), (352, 1216)])
def test_kitti_crop_keeps_the_lowest_rows_and_the_middle_columns(size):
    """The released reader: top = H - 352, left = int((W - 1216) / 2)."""
    cropped = KittiCrop()(image_sample(*size), np.random.default_rng(0))
    top, left = size[0] - 352, int((size[1] - 1216) / 2)
    assert np.array_equal(cropped.image, image_sample(*size).image[top : top + 352, left : left + 1216])
    assert np.array_equal(cropped.depth_m, image_sample(*size).depth_m[top : top + 352, left : left + 1216])
    again = KittiCrop()(cropped, np.random.default_rng(0))
    assert np.array_equal(again.image, cropped.image)


def test_the_kitti_crop_comes_before_resizing_and_counts_as_the_image():
    test = DepthProtocol(kitti_crop=True)
    whole = type("One", (), {"__len__": lambda self: 1, "__getitem__": lambda self, index: image_sample(375, 1242)})()
    tensors = EvalDataset(whole, [ResizeImage(64, 192)], test)[0].tensors
    assert tensors["image"].shape == (3, 64, 192)
    assert tensors["depth_m"].shape == (352, 1216)
    assert tensors["original_size"].equal(torch.tensor([352, 1216]))


def test_images_smaller_than_the_kitti_crop_are_refused():
    with pytest.raises(InputError, match=r"a.png is 300x1300; KITTI's crop needs at least 352x1216"):
        KittiCrop()(image_sample(300, 1300), np.random.default_rng(0))
