"""One folder for three tasks: every reader gives the scenes' own truth back."""

import numpy as np
import pytest

from labeled_folders import depth_folder, segmentation_folder
from metaprompts.data.datasets.keypoints import CocoKeypoints
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.errors import InputError
from metaprompts.synthetic import CLASSES, generate_scene
from metaprompts.synthetic.layouts import write_scenes

COUNT, VAL = 12, 8
SEED = 1_000_040


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "scenes"
    write_scenes("plain", COUNT, folder, val_count=VAL, seed=SEED, height=64, width=96)
    return folder


@pytest.fixture(scope="module")
def truth():
    first = {"train": SEED, "val": SEED + 10**6}
    return {
        split: [generate_scene(first[split] + number, 64, 96) for number in range(count)]
        for split, count in (("train", COUNT - VAL), ("val", VAL))
    }


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_and_images_are_exact(folder, truth, split):
    dataset = segmentation_folder(folder, f"{split}.txt", classes=len(CLASSES))
    assert len(dataset) == len(truth[split])
    for sample, scene in zip((dataset[n] for n in range(len(dataset))), truth[split], strict=True):
        np.testing.assert_array_equal(sample.image, scene.image)
        np.testing.assert_array_equal(sample.labels, scene.labels)


@pytest.mark.parametrize("split", ["train", "val"])
def test_depth_is_exact_to_a_256th_of_a_meter(folder, truth, split):
    dataset = depth_folder(folder, f"depth_{split}.txt", encoding=DepthEncoding(depth_scale=256))
    for sample, scene in zip((dataset[n] for n in range(len(dataset))), truth[split], strict=True):
        near = scene.depth_m < 255
        np.testing.assert_allclose(sample.depth_m[near], scene.depth_m[near], atol=0.5 / 256 + 1e-6)
        assert (sample.depth_m[~near] == 0).all()


def test_people_are_the_scenes_own(folder, truth):
    dataset = CocoKeypoints(folder, "annotations/person_keypoints_val.json", "images")
    people = [(scene, person) for scene in truth["val"] for person in scene.people if person.keypoints[:, 2].any()]
    assert len(dataset) == len(people) > 0
    for number, (scene, person) in enumerate(people):
        sample = dataset[number]
        np.testing.assert_array_equal(sample.image, scene.image)
        np.testing.assert_array_equal(sample.person.keypoints, person.keypoints)


def test_class_names_stand_in_the_order_of_the_masks(folder):
    assert (folder / "classes.txt").read_text().split() == list(CLASSES)


@pytest.mark.parametrize("val_count", [0, 12, 50])
def test_impossible_validation_counts_are_refused(tmp_path, val_count):
    with pytest.raises(InputError, match="val-count is"):
        write_scenes("plain", COUNT, tmp_path / "x", val_count=val_count)
    assert not (tmp_path / "x").exists()
