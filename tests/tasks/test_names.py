import json

import pytest

from metaprompts.cli import main
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.tasks import Pose, Segmentation
from open_split import open_split

BROKEN = ["a\nb", "a\rb", "a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x1b[1mb", "a\tb"]


@pytest.mark.parametrize("name", BROKEN)
def test_names_of_several_lines_are_refused(name):
    """Names with line breaks were printed as they are: one message became several lines."""
    with pytest.raises(InputError, match=r"task\.classes has 'a\\.*b': expected names without line") as refused:
        Segmentation(classes=(name, "c"))
    assert str(refused.value).isprintable()
    with pytest.raises(InputError, match=r"task\.joints has 'a\\.*b': expected names without line"):
        Pose(joints=(name, "c"), skeleton=())


def test_other_signs_are_taken():
    assert Segmentation(classes=("Fußgänger", "人", "sport's ball, small", "a\u200db")).outputs == 4


def test_the_line_is_one(capsys):
    assert main(["data", "check", "micro_segmentation", "--task.classes", "a\nb,c"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": ["a\nb", "c"]}, r"keypoints has 'a\\nb'; expected"),
        ({"name": "per\rson"}, r"name is 'per\\rson'"),
    ],
)
def test_names_of_a_file(tmp_path, change, words):
    """A joint "a\\nb" of the annotation file was printed as two lines."""
    category = {"id": 1, "name": "person", "keypoints": ["a", "c"], "skeleton": []} | change
    content = {"images": [], "annotations": [], "categories": [category]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"train\.json.*" + words) as refused:
        open_split(
            read_recipe("micro_pose", ["--data.root", str(tmp_path), "--data.train", "train.json"]).data, "train"
        )
    assert "\n" not in str(refused.value)
