"""Regenerate tables in documents from stored results; markers in a document name the study of each table."""

import re
from dataclasses import replace
from pathlib import Path

from metaprompts.ablation.plots import study_figure
from metaprompts.ablation.results import Result, read_results
from metaprompts.ablation.study import Study, read_study
from metaprompts.ablation.tables import markdown
from metaprompts.errors import InputError
from metaprompts.utils.files import write_image, write_text

_TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_BEGIN, _END = "<!-- table:", "<!-- end -->"
NOT_RUN = "Not run yet.\n"


def rebuilt(text: str, studies: Path, results: Path) -> str:
    """A document with regenerated text between its markers ``<!-- table: STUDY -->`` and ``<!-- end -->``.

    Args:
        text: the document
        studies: folder of STUDY.toml
        results: folder of STUDY/CELL--VARIANT--SEED.json

    Raises:
        InputError: a marker is not closed, or the study does not exist
    """
    if text.count(_BEGIN) != len(_TABLE.findall(text)) or text.count(_END) != text.count(_BEGIN):
        raise InputError(f"unpaired table markers: each {_BEGIN} STUDY --> needs its {_END}")
    return _TABLE.sub(lambda found: f"{found[1]}{table(found[2], studies, results)}{found[4]}", text)


def table(name: str, studies: Path, results: Path) -> str:
    """A study's table, and the line that shows its image; or a note that the study was not run."""
    study, found = _trained(studies / f"{name}.toml", results / name)
    if not found:
        return NOT_RUN
    return f"\n{markdown(study, found)}\n![{study.title}]({image_name(study)})\n"


def rebuild(document: Path, studies: Path, results: Path) -> list[str]:
    """Rewrite a document's tables, and the images next to it.

    Returns:
        names of the studies in the document
    """
    text = document.read_text(encoding="utf-8")
    write_text(document, rebuilt(text, studies, results))
    names = [name for _, name, _, _ in _TABLE.findall(text)]
    for name in names:
        study, found = _trained(studies / f"{name}.toml", results / name)
        if found:
            write_image(document.parent / image_name(study), study_figure(study, found))
    return names


def image_name(study: Study) -> str:
    """The path of a study's image, relative to the document's folder."""
    return f"pictures/ablation_{study.name}.png"


def _trained(path: Path, folder: Path) -> tuple[Study, dict[str, Result]]:
    """A study restricted to the cells that were trained, and its results."""
    study = read_study(path)
    found = read_results(study, folder)
    trained = {run.cell.name for run in study.runs() if run.name in found}
    cells = tuple(cell for cell in study.cells if cell.name in trained)
    return (replace(study, cells=cells) if cells else study), found
