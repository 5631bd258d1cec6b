"""Which images a run is validated on: a share of its own, or none."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from metaprompts.cli import main
from metaprompts.data.datasets.held_out import hold_out
from metaprompts.data.joints import COCO_JOINTS
from metaprompts.data.transforms.tensors import to_tensors
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.tasks import Pose
from metaprompts.training.dataloaders import samples_of, training_split, validation_split, with_held_out
from metaprompts.training.loop import train
from metaprompts.utils.callbacks import Callback
from training.images import made_recipe


class Notes(Callback):
    def __init__(self):
        self.lines = []

    def on_message(self, lines):
        self.lines += lines


def paths(samples):
    return [samples.path(index) for index in range(len(samples))]


@pytest.mark.parametrize("task", ["depth", "segmentation"])
def test_a_share_of_the_training_images_is_held_out(task, images, tmp_path):
    """A folder without a validation list could not be trained on at all."""
    every = paths(samples_of(made_recipe(task, images, tmp_path), "train"))
    made = made_recipe(task, images, tmp_path, "--data.val", "0.4")
    kept, held = paths(training_split(made).samples), paths(validation_split(made).samples)
    assert len(held) == round(0.4 * len(every))
    assert not set(kept) & set(held)
    assert sorted(kept + held) == sorted(every)
    assert validation_split(made).transforms == validation_split(made_recipe(task, images, tmp_path)).transforms
    # As recipe.json has it, also when images have been added.
    stored = with_held_out(made, validation_split(made))
    again = type(made).from_dict(json.loads(json.dumps(stored.to_dict())))
    assert paths(validation_split(again).samples) == held
    more = [*every, *(str(images / f"new{number}.png") for number in range(20))]
    _, places = hold_out(more, 0.4, 0, images, again.data.held_out)
    assert [more[place] for place in places] == held
    with pytest.raises(InputError, match="images that training held out are missing, such as train"):
        hold_out(more[len(every) :], 0.4, 0, images, again.data.held_out)


def test_another_validation_takes_the_place_of_the_images_held_out(tmp_path):
    recipe = read_recipe("micro_depth").to_dict()
    recipe["data"] |= {"val": 0.1, "held_out": ["a.png"]}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))

    def held_out(*words):
        return read_recipe(str(tmp_path / "recipe.json"), words).data.held_out

    assert held_out() == ("a.png",)
    assert [held_out("--data.val", value) for value in ("0.2", "val.txt", "none")] == [None] * 3


def test_which_images_are_held_out_follows_from_the_seed_and_their_names(tmp_path):
    names = [f"{number:02d}.png" for number in range(40)]

    def held(names, seed=0, root=tmp_path):
        return {names[place] for place in hold_out([str(root / name) for name in names], 0.25, seed, root)[1]}

    assert len(held(names)) == 10
    assert held(names) == held(names[::-1]) == held(names, root=tmp_path / "elsewhere")
    assert held(names) != held(names, seed=1)
    # A duplicated image is not on both sides.
    kept, out = hold_out([str(tmp_path / name) for name in names * 2], 0.25, 0, tmp_path)
    assert len(out) == 20
    assert {place % 40 for place in out}.isdisjoint(place % 40 for place in kept)


def test_one_image_cannot_be_shared(tmp_path):
    with pytest.raises(InputError, match="cannot hold out a fraction of 1 training image"):
        hold_out([str(tmp_path / "a.png")] * 3, 0.5, 0, tmp_path)
    assert hold_out(["a.png", "b.png"], 0.01, 0, tmp_path)[1]
    assert hold_out(["a.png", "b.png"], 0.99, 0, tmp_path)[0]


@pytest.mark.parametrize("value", ["0", "1", "1.5", "-0.1", "nan"])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(InputError, match=f"data.val is {value}; expected a list or folder, a fraction"):
        read_recipe("micro_segmentation", ["--data.val", value])


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        ("micro_segmentation", ["--data.val_labels", "masks"], "data.val_labels is masks, but data.val is 0.1"),
        ("micro_pose", ["--data.val_boxes", "boxes.json"], "data.val_boxes is boxes.json, but data.val is 0.1"),
        ("kitti", ["--data.val_selection", "true"], "data.val_selection is True, but data.val is 0.1"),
    ],
)
def test_keys_of_another_validation_are_refused_next_to_a_share(recipe, words, message):
    with pytest.raises(InputError, match=message):
        read_recipe(recipe, ["--data.val", "0.1", *words])


@pytest.mark.parametrize("recipe", ["nyu", "kitti", "ade20k", "cityscapes", "mapillary", "coco_pose", "micro_pose"])
def test_every_layout_can_hold_out_a_share_or_go_without(recipe):
    boxes = ["--data.val_boxes", "none"] if recipe == "coco_pose" else []
    assert read_recipe(recipe, ["--data.val", "0.1", *boxes]).data.val_share == 0.1
    assert not read_recipe(recipe, ["--data.val", "none", *boxes]).data.validates


def test_training_without_validation_says_so(images, tmp_path):
    """It ended with: data/val.txt is not there."""
    notes, made = Notes(), made_recipe("depth", images, tmp_path / "run", "--data.val", "none")
    history = train(made, [notes])
    assert notes.lines[0].startswith("no validation: data.val is none, so last/ has the weights of the last step")
    assert (history.best, history.validations) == (None, [])
    assert (tmp_path / "run/last/model.safetensors").is_file()
    assert not (tmp_path / "run/best").exists()
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == {"best": None, "validations": []}
    with pytest.raises(InputError, match=r"data\.val is none, so there is no validation split: pass --data\.val LIST"):
        validation_split(made)
    with pytest.raises(InputError, match=r"early_stopping is 3, but data\.val is none"):
        made_recipe("depth", images, tmp_path, "--data.val", "none", "--training.early_stopping", "3")


@pytest.fixture
def people(tmp_path):
    """Six images with two people each, all joints labeled."""
    root = tmp_path / "people"
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(6):
        Image.new("RGB", (64, 64), (40 * number, 90, 30)).save(root / f"images/{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        for person in range(2):
            points = [[4 + 30 * person + joint, 8 + 3 * joint, 2] for joint in range(17)]
            box = [2 + 30 * person, 4, 24, 56]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box, "area": 24 * 56}
                | {"iscrowd": 0, "num_keypoints": 17, "keypoints": [value for point in points for value in point]}
            )
    category = {"id": 1, "name": "person", "keypoints": list(COCO_JOINTS), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (root / "people.json").write_text(json.dumps(content))
    return root


def pose_recipe(root, *words):
    named = (
        "--data.train",
        "people.json",
        "--data.train_images",
        "images",
        "--data.val",
        "0.34",
        "--data.num_workers",
        "0",
    )
    return read_recipe("micro_pose", [*words, *named] if root is None else [*words, *named, "--data.root", str(root)])


def perfect_scores(split):
    batches = [to_tensors(apply(split.transforms, split.samples[index])) for index in range(len(split.samples))]
    metric = Pose().metric(**split.metric_kwargs)
    for index, batch in enumerate(batches):
        keypoints = torch.tensor(split.samples[index].person.keypoints)[None]
        stacked = {name: torch.as_tensor(value)[None] for name, value in batch.items()}
        metric.update(keypoints[..., :2], keypoints[..., 2], stacked)
    return metric.scores()


def apply(transforms, sample):
    for transform in transforms:
        sample = transform(sample, np.random.default_rng(0))
    return sample


def test_people_are_held_out_by_images_and_only_these_are_scored(people):
    """The other images' people would count as missed: AP 0.33 for a model without a fault."""
    made = pose_recipe(people)
    kept, split = training_split(made).samples, validation_split(made)
    assert (len(kept), len(split.samples)) == (8, 4)
    assert not set(paths(kept)) & set(paths(split.samples))
    assert split.metric_kwargs["images"] == {split.samples[index].person.image_id for index in range(4)}
    assert perfect_scores(split)["AP"] == pytest.approx(1)
    again = with_held_out(made, split)
    assert len(again.data.held_out) == 2
    assert paths(training_split(again).samples) == paths(kept)


def test_shards_keep_what_was_held_out(people, tmp_path, capsys):
    words = ["--data.root", str(people), "--data.train", "people.json", "--data.train_images", "images"]
    words += ["--data.val", "0.34", "--data.num_workers", "0", "--out", str(tmp_path / "shards")]
    assert main(["data", "shard", "micro_pose", *words]) == 0
    expected, made = pose_recipe(people), pose_recipe(None, "--data.shards", str(tmp_path / "shards"))
    for split_of in (training_split, validation_split):
        assert paths(split_of(made).samples) == paths(split_of(expected).samples)
    assert perfect_scores(validation_split(made))["AP"] == pytest.approx(1)
    other = pose_recipe(None, "--data.shards", str(tmp_path / "shards"), "--training.seed", "5")
    with pytest.raises(
        InputError, match=r"made with data\.val 0\.34 and training\.seed 0, but the recipe has 0\.34 and 5"
    ):
        training_split(other)


def test_data_check_shows_both_parts(people, tmp_path, capsys):
    words = [
        "--data.root",
        str(people),
        "--data.train",
        "people.json",
        "--data.train_images",
        "images",
        "--out",
        "none",
    ]
    assert main(["data", "check", "micro_pose", *words, "--data.val", "0.34"]) == 0
    said = capsys.readouterr().out
    assert "train          8 people" in said
    assert "val            4 people" in said
    assert main(["data", "check", "micro_pose", *words, "--data.val", "none"]) == 0
    assert "val  " not in capsys.readouterr().out


def test_an_image_of_two_spellings_is_in_one_part(tmp_path):
    """Spelled images/a.png and images/../images/a.png, or as a link, an image was trained on and validated on."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "images" / "a.png")
    names = ["images/a.png", "images/../images/a.png", "link.png", "images/b.png"]
    kept, out = hold_out([str(tmp_path / name) for name in names], 0.5, 0, tmp_path)
    assert sorted([kept, out]) == [[0, 1, 2], [3]]


@pytest.mark.parametrize("classes", ["a,a", "a,A", "road,traffic light,traffic_light"])
def test_every_class_has_a_name_of_its_own(classes):
    """All three trained; --data.label_map and init_from could only ever mean the first."""
    with pytest.raises(InputError, match=r"are the same: give every class a distinct name"):
        read_recipe("micro_segmentation", ["--task.classes", classes])
