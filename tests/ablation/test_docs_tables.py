"""Tables in documents are those of the stored results."""

from pathlib import Path

import pytest

from ablation.made import results, write
from metaprompts.ablation.report import NOT_RUN, rebuilt
from metaprompts.ablation.study import read_study
from metaprompts.errors import InputError

ROOT = Path(__file__).parents[2]
STUDY = """
title = "Title"
seeds = [0, 1]
variants = [{name = "full"}, {name = "off"}]
cells = [{name = "small", recipe = "micro_depth", data = "here", metric = "d1"}]
"""
DOCUMENT = "# One\n\n<!-- table: mine -->\nold\n<!-- end -->\n\ntext\n\n<!-- table: other -->\n<!-- end -->\n"


def of_mine(values, folder):
    return results(values, read_study(folder / "mine.toml"))


@pytest.fixture
def folder(tmp_path):
    for name in ("mine", "other"):
        (tmp_path / f"{name}.toml").write_text(STUDY)
    values = {("small", "full", 0): 0.5, ("small", "full", 1): 0.6, ("small", "off", 0): 0.25}
    write(tmp_path / "results/mine", of_mine(values, tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["ablations.md", "micro.md"])
def test_shipped_documents_say_what_the_results_say(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert rebuilt(text, ROOT / "studies", ROOT / "results") == text, "run python scripts/tables.py"


def test_every_study_has_a_table():
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("ablations.md", "micro.md"))
    for path in (ROOT / "studies").glob("*.toml"):
        assert text.count(f"<!-- table: {path.stem} -->") == 1


def test_a_table_is_made_from_results_and_nothing_else_changes(folder):
    text = rebuilt(DOCUMENT, folder, folder / "results")
    assert "| small | d1 ↑ | full | 2 | 0.550 ± 0.635 |" in text
    assert "old" not in text
    assert text.startswith("# One\n\n<!-- table: mine -->\n")
    assert text.endswith(f"<!-- end -->\n\ntext\n\n<!-- table: other -->\n{NOT_RUN}<!-- end -->\n")
    assert rebuilt(text, folder, folder / "results") == text


def test_a_cell_that_nobody_has_trained_yet_is_left_out(folder):
    """A cell added to a study made its table wrong until the last training was done."""
    before = rebuilt(DOCUMENT, folder, folder / "results")
    more = '{name = "later", recipe = "micro_depth", data = "there", metric = "d1"}]'
    (folder / "mine.toml").write_text(STUDY.strip().removesuffix("]") + f", {more}")
    assert rebuilt(before, folder, folder / "results") == before
    write(folder / "results/mine", of_mine({("later", "full", 0): 0.5}, folder))
    assert "| later | d1 ↑ | full | 1 | 0.500 |" in rebuilt(before, folder, folder / "results")


def test_a_changed_result_changes_the_table(folder):
    before = rebuilt(DOCUMENT, folder, folder / "results")
    write(folder / "results/mine", of_mine({("small", "off", 0): 0.26}, folder))
    assert rebuilt(before, folder, folder / "results") != before


def test_a_result_of_other_settings_gets_into_no_table(folder):
    """A study that was changed had its old numbers shown under the new settings."""
    (folder / "mine.toml").write_text(STUDY.replace('"here"', '"here", settings = {"training.steps" = 7}'))
    with pytest.raises(
        InputError, match=r"small--full--0\.json was made with settings that differ from those of study mine"
    ):
        rebuilt(DOCUMENT, folder, folder / "results")


def test_images_are_written_next_to_the_document(folder):
    text = rebuilt(DOCUMENT, folder, folder / "results", folder / "docs")
    assert text == rebuilt(DOCUMENT, folder, folder / "results")
    assert "![Title](pictures/ablation_mine.png)" in text
    assert (folder / "docs/pictures/ablation_mine.png").stat().st_size > 1000
    assert not (folder / "docs/pictures/ablation_other.png").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DOCUMENT.replace("<!-- end -->\n\ntext", "text"), "unpaired table markers"),
        (DOCUMENT + "<!-- end -->", "unpaired table markers"),
        (DOCUMENT.replace("mine", "gone"), "cannot read"),
    ],
)
def test_wrong_markers_are_refused(text, said, folder):
    with pytest.raises(InputError, match=said):
        rebuilt(text, folder, folder / "results")
