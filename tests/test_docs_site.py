"""The documentation: links, generated pages, the figure of the method, and the build."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The targets of headings, as GitHub names them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links(path):
    """Every link to a file of the repository, or to a heading in it, has a target."""
    dead = []
    for link in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"(https?|mailto):", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_a_table_of_contents():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([\w/]+)$", index, flags=re.MULTILINE))
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert {name for name in listed if not name.startswith("generated/")} == pages


def test_the_method_page_quotes_the_code():
    from metaprompts.models.model import MetaPromptModel

    source = inspect.getsource(MetaPromptModel.prompt_maps)
    quoted = re.search(r"```python\n(.*?)```", (ROOT / "docs/method.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = quoted.group(1).splitlines()
    assert len(lines) == 4
    assert all(f"        {line}" in source for line in lines)


def test_the_method_figure_has_the_names_of_the_code(tmp_path):
    """A renamed class is renamed in the figure: python scripts/method_figure.py."""
    from method_figure import FIGURE, draw

    def words(path: Path) -> list[str]:
        return re.findall(r">([^<>]+)</text>", path.read_text(encoding="utf-8"))

    draw(tmp_path / "method.svg")
    assert words(FIGURE) == words(tmp_path / "method.svg")
    assert "RecurrentRefinement" in " ".join(words(FIGURE))


def test_generated_pages_list_everything(tmp_path):
    """Every command, recipe, recipe key and public name is in the reference."""
    from docs_pages import commands, public_names, write_pages

    import metaprompts
    from metaprompts.recipes.registry import recipe_names

    write_pages(tmp_path)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert "## data shard\n" in pages["commands"]
    assert "--quick" in pages["commands"]
    assert len(list(commands())) == pages["commands"].count("```text")
    assert all(f"## {name}\n" in pages["recipes"] for name in recipe_names())
    for key in (
        "--task.classes",
        "--task.max_depth_m",
        "--task.joints",
        "--data.axes",
        "--optimizer.lr",
        "--test.flip",
    ):
        assert key in pages["keys"]
    names = public_names()
    assert set(names["metaprompts"]) == set(metaprompts.__all__) - {"__version__"}
    assert "predictions_by_step" in names["metaprompts.analysis.prompts"]
    assert "DepthPrediction" in names["metaprompts.tasks.predictions"]
    for module, listed in names.items():
        for name in listed:
            assert f":: {module}.{name}\n" in pages["api"]
    changed = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_pages(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == changed


@pytest.mark.full
def test_the_site_builds_without_a_warning(tmp_path):
    """Dead links, broken docstrings and missing images are warnings, which -W turns into an error."""
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason="needs pip install '.[docs]'")
    words = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(tmp_path / "site")]
    built = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site/generated/api.html").read_text(encoding="utf-8")
    assert 'id="metaprompts.load"' in page
    # Pages load nothing from other hosts.
    for path in (tmp_path / "site").glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"(https?:[^\"]*)\"", path.read_text("utf-8"))
        assert loaded == [], path
