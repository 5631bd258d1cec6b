"""A reduced study for a smoke test of a minute or two; its scores are meaningless."""

from collections.abc import Iterable
from dataclasses import replace

from metaprompts.ablation.scenes_data import SCENES
from metaprompts.ablation.study import Cell, Study

FOLDER = "quick"
"""Folder of smoke-test results, separate from all others."""

_SETTINGS = {
    "training.steps": 2,
    "training.validate_every": 2,
    "training.batch_size": 2,
    "training.loss_group_size": 2,
    "training.val_batch_size": 4,
    "schedule.warmup_steps": 0,
}
_COUNT, _VAL_COUNT = 24, 8


def quick_study(study: Study, given: Iterable[str]) -> Study:
    """The study reduced to one seed, two steps and one cell per recipe, preferably on generated scenes.

    Args:
        study: the study to test
        given: names of the data sets whose folders are given
    """
    known = {*given, *([SCENES] if study.scenes else [])}
    cells = [cell for cell in study.cells if study.scenes and cell.data == SCENES]
    cells = cells or [cell for cell in study.cells if cell.data in known] or list(study.cells)
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.recipe, cell)
    scenes = study.scenes and replace(study.scenes, count=_COUNT, val_count=_VAL_COUNT)
    return replace(
        study,
        seeds=study.seeds[:1],
        cells=tuple(replace(cell, settings={**cell.settings, **_SETTINGS}) for cell in first.values()),
        scenes=scenes,
        quick=True,
    )
