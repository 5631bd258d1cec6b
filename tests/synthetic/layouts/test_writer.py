import hashlib
import json
import shlex
from itertools import islice
from pathlib import Path

import pytest

from interrupted import dead_scratch
from metaprompts.data.class_names import ADE20K, CITYSCAPES
from metaprompts.data.datasets.keypoints import CocoKeypoints
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.synthetic import CLASSES
from metaprompts.synthetic.layouts import LAYOUTS, write_scenes
from metaprompts.synthetic.layouts.plan import Plan
from open_split import open_split

SMALL = {"height": 32, "width": 48}


def contents(folder):
    """Every file, hidden ones too, with a fingerprint."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def stop_after(count):
    """A progress bar that is interrupted."""

    def progress(drawn, total):
        yield from islice(drawn, count)
        raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "new"
    write_scenes("ade20k", 6, folder, **SMALL)
    return folder


@pytest.mark.slow
def test_several_processes_write_the_same_files(whole, tmp_path):
    write_scenes("ade20k", 6, tmp_path, **SMALL, workers=2)
    assert contents(tmp_path) == contents(whole)
    about = {"README.txt", "captions.json", "scenes.json", "train.txt", "val.txt"}
    assert {name for name in contents(whole) if "/" not in name} == about


def test_interrupted_goes_on_where_it_was(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_scenes("ade20k", 6, tmp_path, **SMALL, progress=stop_after(3))
    begun = contents(tmp_path)
    assert not any(name.endswith(".txt") for name in begun)
    images = list(tmp_path.rglob("*.jpg"))
    assert len(images) == 3
    times = [path.stat().st_mtime_ns for path in images]
    totals = []
    write_scenes("ade20k", 6, tmp_path, **SMALL, progress=lambda drawn, total: totals.append(total) or drawn)
    assert totals == [3]
    assert [path.stat().st_mtime_ns for path in images] == times
    assert contents(tmp_path) == contents(whole)


def test_what_a_killed_writer_left_is_cleared_away(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_scenes("ade20k", 6, tmp_path, **SMALL, progress=stop_after(2))
    folder = tmp_path / "ADEChallengeData2016/images/training"
    (folder / dead_scratch("ADE_train_00000003.jpg")).write_bytes(b"half")
    # Killed between the image and the record of what is known about it.
    (tmp_path / ".records/000001.json").unlink()
    write_scenes("ade20k", 6, tmp_path, **SMALL)
    assert contents(tmp_path) == contents(whole)


def test_a_finished_data_set_is_left_alone_and_mended(whole, tmp_path):
    write_scenes("ade20k", 6, tmp_path, **SMALL)
    totals = []
    keep = {"progress": lambda drawn, total: totals.append(total) or drawn}
    write_scenes("ade20k", 6, tmp_path, **SMALL, **keep)
    assert totals == []
    (tmp_path / "ADEChallengeData2016/images/training/ADE_train_00000002.jpg").unlink()
    write_scenes("ade20k", 6, tmp_path, **SMALL, **keep)
    assert totals == [1]
    (tmp_path / "captions.json").unlink()
    write_scenes("ade20k", 6, tmp_path, **SMALL, **keep)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_image_has_a_caption_and_the_readme_says_what_it_is(written, name):
    data = written(name)
    count = 18 if name == "coco" else 6
    captions = json.loads((data.folder / "captions.json").read_text())
    assert len(captions) == count
    assert all((data.folder / path).is_file() for path in captions)
    assert next(iter(captions.values())) == data.scene("train", 0).caption
    readme = (data.folder / "README.txt").read_text()
    assert "Generated scenes, not photographs" in readme
    assert f"metaprompts scenes --layout {name} --count {count} --seed 1000000 --height " in readme
    assert max(map(len, readme.splitlines())) <= 120
    assert not list(data.folder.rglob(".*"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_readmes_command_reads_the_data(written, name):
    """Up to the first image of each split, with the command as it stands in the file."""
    folder = written(name).folder
    text = (folder / "README.txt").read_text()
    command = text[text.index("metaprompts train ") :].replace("\\\n", "").splitlines()[0]
    _, _, recipe, *overrides = shlex.split(command)
    if name == "mapillary":
        labels = json.loads((folder / "config_v1.2.json").read_text())["labels"]
        classes = [label["name"] for label in labels[:65]]
    else:
        classes = list({"ade20k": ADE20K, "plain": CLASSES}.get(name, CITYSCAPES))
    values = {"DIR": str(folder), "CLASSES": ",".join(classes)}
    read = read_recipe(recipe, [values.get(word, word) for word in overrides])
    task = read.task
    for split in ("train", "val"):
        dataset = open_split(read.data, split, *([task.classes] if task.name == "segmentation" else []))
        sample = dataset[0]
        if task.name == "depth":
            assert sample.depth_m.max() <= task.max_depth_m
        elif task.name == "segmentation":
            assert (sample.labels < 255).all()
            assert len(task.classes) == len(classes)
        else:
            assert dataset.joint_names == task.joints


@pytest.mark.parametrize(("name", "ending"), [("coco", "2017"), ("plain", "")])
@pytest.mark.slow
def test_every_split_shows_people(tmp_path, name, ending):
    """Nobody was to be seen in the two validation scenes, and the reader refused what had just been written."""
    write_scenes(name, 10, tmp_path, height=64, width=96)
    before = contents(tmp_path)
    images = {"coco": "{}2017", "plain": "images"}[name]
    for split in ("train", "val"):
        people = CocoKeypoints(tmp_path, f"annotations/person_keypoints_{split}{ending}.json", images.format(split))
        assert len(people) > 0
    # An image that is gone is drawn from the same seed again.
    Path(people.path(0)).unlink()
    write_scenes(name, 10, tmp_path, height=64, width=96)
    assert contents(tmp_path) == before


def test_scenes_without_people_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("metaprompts.synthetic.layouts.people_splits._shows_people", lambda place, plan: False)
    with pytest.raises(InputError, match=r"no person is visible in any of the train scenes.*a different seed"):
        write_scenes("coco", 3, tmp_path / "new", **SMALL)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("count", [3, 10, 200])
def test_splits(name, count):
    plan = Plan(name=name, layout=LAYOUTS[name](), count=count, seed=7, height=32, width=32)
    counts = {split: sum(place.split == split for place in plan.places) for split in ("train", "val", "test")}
    assert sum(counts.values()) == count
    assert counts["test"] == (max(1, count // 20) if name == "cityscapes" else 0)
    assert counts["val"] == max(1, round((count - counts["test"]) / 5))
    assert len({place.seed for place in plan.places}) == count
    assert [place.index for place in plan.places] == list(range(count))
    paths = [path for place in plan.places for path in plan.layout.files(place)]
    assert len(paths) == len(set(paths))


def test_splits_have_no_common_seed_whatever_the_count():
    """They are as far apart as there may be scenes."""
    settings = {"name": "cityscapes", "layout": LAYOUTS["cityscapes"](), "seed": 5, "height": 32, "width": 32}
    firsts = {place.split: place.seed for place in reversed(Plan(count=50, **settings).places)}
    assert firsts == {"train": 5, "val": 5 + 10**6, "test": 5 + 2 * 10**6}
    Plan(count=10**6, **settings)
    with pytest.raises(InputError, match="count is 1000001"):
        Plan(count=10**6 + 1, **settings)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"layout": "imagenet"}, "layout is 'imagenet'; expected one of nyu, kitti"),
        ({"count": 2}, "count is 2; expected 3"),
        ({"seed": -1}, "seed is -1"),
        ({"height": 0}, "images are 0 x 48"),
        ({"width": 9000}, "32 x 9000"),
        ({"workers": 0}, "workers is 0"),
        ({"density": 0.5}, "density is given, but layout 'nyu'"),
        ({"layout": "kitti", "density": 0.0}, "density is 0.0"),
    ],
)
def test_bad_values_write_nothing(tmp_path, changed, words):
    with pytest.raises(InputError, match=words):
        write_scenes(**{"layout": "nyu", "count": 3, "out": tmp_path / "new", **SMALL, **changed})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"layout": "coco"}, "holds scenes with layout ade20k, expected coco: give another folder"),
        ({"count": 7}, "holds scenes with count 6, expected 7"),
        ({"seed": 1}, "with seed 1000000, expected 1"),
    ],
)
def test_folder_of_other_scenes(whole, changed, words):
    before = contents(whole)
    with pytest.raises(InputError, match=words):
        write_scenes(**{"layout": "ade20k", "count": 6, "out": whole, **SMALL, **changed})
    assert contents(whole) == before


def test_folder_of_something_else(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"is not empty and has no scenes\.json"):
        write_scenes("nyu", 3, tmp_path, **SMALL)
    with pytest.raises(InputError, match=r"photo\.jpg is not a folder"):
        write_scenes("nyu", 3, tmp_path / "photo.jpg", **SMALL)
    assert contents(tmp_path).keys() == {"photo.jpg"}
