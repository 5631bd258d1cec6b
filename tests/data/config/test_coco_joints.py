"""Joints and skeleton of a recipe that names none: those of the annotation file."""

import json

import pytest

from metaprompts.data.joints import COCO_JOINTS
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.tasks.pose import COCO_SKELETON
from open_split import open_split

HORSE = ["muzzle", "left_hoof", "right_hoof"]


def recipe(root, names, skeleton, *words):
    category = {"id": 1, "name": "horse", "keypoints": names, "skeleton": skeleton}
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "sky"}, category]}
    (root / "train.json").write_text(json.dumps(content))
    return read_recipe("micro_pose", ["--data.root", str(root), "--data.train", "train.json", *words])


def test_joints_and_skeleton_are_taken_from_the_file(tmp_path, caplog):
    """It was refused: the file has the joints muzzle, ...; the recipe's task.joints are nose, ..."""
    task = recipe(tmp_path, HORSE, [[1, 2], [1, 3]]).task
    assert task.joints == tuple(HORSE)
    assert task.skeleton == ((0, 1), (0, 2))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"task.joints are the 3 joints of {tmp_path}/train.json: muzzle, left_hoof, right_hoof; "
        "task.skeleton is 0-1, 0-2"
    )


def test_what_is_given_stays(tmp_path, caplog):
    task = recipe(tmp_path, HORSE, [[1, 2]], "--task.joints", ",".join(HORSE)).task
    assert task.skeleton == ((0, 1),)
    task = recipe(tmp_path, HORSE, [[1, 2]], "--task.skeleton", "[[1,2]]", "--task.flip_pairs", "[[1,2]]").task
    assert (task.joints, task.skeleton) == (tuple(HORSE), ((1, 2),))
    caplog.clear()
    # Of joints that the file does not have, its skeleton is not either, nor is COCO's.
    task = recipe(tmp_path, HORSE, [[1, 2]], "--task.joints", "a,b").task
    assert (task.joints, task.skeleton) == (("a", "b"), ())
    assert not caplog.records


def test_cocos_own_joints_stay_silent(tmp_path, caplog):
    official = [[start + 1, end + 1] for start, end in COCO_SKELETON[::-1]]
    task = recipe(tmp_path, list(COCO_JOINTS), official).task
    assert (task.joints, task.skeleton) == (COCO_JOINTS, COCO_SKELETON)
    assert recipe(tmp_path, list(COCO_JOINTS), []).task.skeleton == COCO_SKELETON
    assert not caplog.records
    assert recipe(tmp_path, list(COCO_JOINTS), [[1, 2]]).task.skeleton == ((0, 1),)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"categories": []}', '{"categories": [{"id": 1}]}'])
def test_a_file_that_says_nothing_changes_nothing(tmp_path, content):
    (tmp_path / "train.json").write_text(content)
    words = ["--data.root", str(tmp_path), "--data.train", "train.json"]
    assert read_recipe("micro_pose", words).task.joints == COCO_JOINTS
    with pytest.raises(InputError):
        open_split(read_recipe("micro_pose", words).data, "train")
