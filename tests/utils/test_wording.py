import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from torch import nn

import metaprompts
from metaprompts.evaluation.report import score_table
from metaprompts.utils.byte_size import shown_bytes
from metaprompts.utils.progress import ConsoleProgress
from metaprompts.utils.wording import counted, shown_score


@pytest.mark.parametrize(("count", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_nouns_agree_with_their_numbers(count, text):
    """1 of 1 images predicted."""
    assert counted(count, "image") == text


def test_plurals_of_their_own():
    assert [counted(count, "box", "boxes") for count in (1, 2)] == ["1 box", "2 boxes"]


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB")])
def test_sizes_have_the_unit_that_suits_them(size, text):
    assert shown_bytes(size) == text
    assert shown_bytes(3000 * 2**30) == "3000.0 GiB"


def test_counts_are_whole_numbers_wherever_scores_are_shown(capsys):
    """images 50.0000, images_skipped 0.0000."""
    scores = {"rmse": 2.5, "images": 50.0, "images_skipped": 0.0}
    assert [shown_score(name, value) for name, value in scores.items()] == ["2.5000", "50", "0"]
    ConsoleProgress().on_validation_end(nn.Identity(), 7, {"step": 7, **scores})
    assert capsys.readouterr().err == "validation at step 7: rmse (m) 2.5000  images 50\n", "no images were skipped"
    ConsoleProgress().on_validation_end(nn.Identity(), 7, {"step": 7, **scores, "images_skipped": 2.0})
    assert "images 50  images skipped 2\n" in capsys.readouterr().err
    console = Console(file=StringIO(), width=80)
    console.print(score_table(scores, "depth"))
    assert re.search(r"images +│ +50 │", console.file.getvalue())
    assert shown_score("AP", float("nan")) == "nan"


def test_no_message_counts_with_a_plural_alone():
    """A guard for the messages that command lines end with: {count} images, without `counted`."""
    kind = re.compile(r"\{(len\([^{}]*\)|count|done|found\.\w+|self\.count)\} (images|images|files|samples|scenes)\b")
    found = [
        f"{path.name}: {match[0]}"
        for path in Path(metaprompts.__file__).parent.glob("cli/*.py")
        for match in kind.finditer(path.read_text(encoding="utf-8"))
    ]
    # Only where there are at least two.
    assert found == ["boxes.py: {len(images)} images"]
