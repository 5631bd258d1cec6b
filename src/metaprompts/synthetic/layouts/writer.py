"""Draw a data set of scenes; repeating an interrupted call resumes it."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError
from metaprompts.synthetic import generate_scene
from metaprompts.synthetic.layouts.ade20k import Ade20k
from metaprompts.synthetic.layouts.base import Layout, Place, Record
from metaprompts.synthetic.layouts.cityscapes import Cityscapes
from metaprompts.synthetic.layouts.coco import Coco
from metaprompts.synthetic.layouts.kitti import Kitti
from metaprompts.synthetic.layouts.mapillary import Mapillary
from metaprompts.synthetic.layouts.nyu import Nyu
from metaprompts.synthetic.layouts.people_splits import peopled
from metaprompts.synthetic.layouts.plan import Plan
from metaprompts.synthetic.layouts.simple import Plain
from metaprompts.utils.files import read_json, write_json, write_text
from metaprompts.utils.locks import writing_into
from metaprompts.utils.multiprocessing import in_processes
from metaprompts.utils.scratch import is_scratch

LAYOUTS: dict[str, type[Layout]] = {
    "nyu": Nyu,
    "kitti": Kitti,
    "cityscapes": Cityscapes,
    "ade20k": Ade20k,
    "mapillary": Mapillary,
    "coco": Coco,
    "plain": Plain,
}
"""The layouts by name."""

FIRST_SEED = 10**6
"""Pre-training uses smaller seeds, so that it never trains on validation scenes."""

Progress = Callable[[Iterable[None], int], Iterable[None]]

_SETTINGS, _CAPTIONS, _README = "scenes.json", "captions.json", "README.txt"
_PAIRS = {"train": "train.txt", "val": "val.txt"}
# Rows of finished scenes, until the lists are written.
_RECORDS = ".records"


def write_scenes(
    layout: str,
    count: int,
    out: str | Path,
    *,
    val_count: int | None = None,
    seed: int = FIRST_SEED,
    height: int | None = None,
    width: int | None = None,
    density: float | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write generated scenes in the folders and files of a known data set.

    Existing complete files are kept; the same arguments always give the same files.

    Args:
        layout: one of `LAYOUTS`
        count: number of scenes in all splits together
        out: a new or empty folder, or one started by the same call
        val_count: see `Plan`
        seed: see `Plan`
        height: height of images, in pixels; None for the layout's default
        width: width of images, in pixels; None for the layout's default
        density: density of measured depth, see `Kitti`; None for the default
        workers: number of processes; 1 draws in this process
        progress: called for each scene drawn, with the number of scenes

    Raises:
        InputError: a value is out of range, the folder holds other files or cannot be written, or the scenes of a
            layout with people show no person
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; expected at least 1")
    made = _layout(layout, density)
    plan = Plan(
        name=layout,
        layout=made,
        count=count,
        val_count=val_count,
        seed=seed,
        height=made.size[0] if height is None else height,
        width=made.size[1] if width is None else width,
    )
    with writing_into(Path(out), "scenes", deep=True):
        _write_plan(plan, made, Path(out), workers, progress)


def _write_plan(plan: Plan, made: Layout, out: Path, workers: int, progress: Progress | None) -> None:
    texts = (*made.lists, *(_PAIRS.values() if made.has_targets else ()), _CAPTIONS, _README)
    is_finished = all((out / path).is_file() for path in texts)
    missing = [place for place in plan.places if not _is_drawn(plan, place, out, needs_record=not is_finished)]
    # Only if scenes are missing, because finding these splits requires generating some scenes.
    others = peopled(plan) if missing and made.has_people else {}
    _claim(out, plan)
    jobs = [(plan, others.get(place, place), out) for place in missing]
    drawn = in_processes(_draw, jobs, workers)
    for _ in progress(drawn, len(jobs)) if progress and jobs else drawn:
        pass
    if not is_finished:
        _write_lists(plan, out)
    shutil.rmtree(out / _RECORDS, ignore_errors=True)


def _layout(name: str, density: float | None) -> Layout:
    if name not in LAYOUTS:
        raise InputError(f"layout is {name!r}; expected one of {', '.join(LAYOUTS)}")
    if density is None:
        return LAYOUTS[name]()
    if name != "kitti":
        raise InputError(f"density is given, but layout {name!r} has dense depth: leave it out")
    return Kitti(density=density)


def _claim(out: Path, plan: Plan) -> None:
    """Claim the folder, or check that an earlier run of the same call claimed it."""
    try:
        found = [path for path in out.iterdir() if not is_scratch(path)]
    except FileNotFoundError:
        found = []
    except NotADirectoryError as error:
        raise InputError(f"{out} is not a folder: give a new or empty one") from error
    settings = out / _SETTINGS
    if not found:
        write_json(settings, plan.to_dict())
    elif not settings.is_file():
        raise InputError(f"{out} is not empty and has no {_SETTINGS}: give a new or empty folder")
    _check_same(settings, plan)


def _check_same(settings: Path, plan: Plan) -> None:
    found, expected = read_json(settings), plan.to_dict()
    if found == expected:
        return
    names = [name for name in expected if not isinstance(found, dict) or found.get(name) != expected[name]]
    name = names[0] if names else "layout"
    came = found.get(name) if isinstance(found, dict) else found
    raise InputError(
        f"{settings.parent} holds scenes with {name} {came}, expected {expected.get(name)}: give another folder, or "
        "the settings it was started with"
    )


def _record_path(out: Path, place: Place) -> Path:
    return out / _RECORDS / f"{place.index:06d}.json"


def _is_drawn(plan: Plan, place: Place, out: Path, *, needs_record: bool) -> bool:
    has_files = all((out / path).is_file() for path in plan.layout.files(place))
    return has_files and (not needs_record or _record_path(out, place).is_file())


def _draw(plan: Plan, place: Place, out: Path) -> None:
    scene = generate_scene(place.seed, plan.height, plan.width, plan.layout.kind)
    record = {"caption": scene.caption, **plan.layout.write(scene, place, out)}
    write_json(_record_path(out, place), record)


def _write_lists(plan: Plan, out: Path) -> None:
    """Write the files that describe all scenes; the README is written last, because it marks a finished data set."""
    rows: list[tuple[Place, Record]] = [(place, read_json(_record_path(out, place))) for place in plan.places]
    for path, text in plan.layout.list_texts(rows).items():
        write_text(out / path, text)
    for split, name in _PAIRS.items() if plan.layout.has_targets else ():
        write_text(out / name, "".join(_pair(plan.layout, place) for place in plan.places if place.split == split))
    captions: dict[str, Any] = {plan.layout.image(place): record["caption"] for place, record in rows}
    write_json(out / _CAPTIONS, captions)
    write_text(out / _README, plan.readme())


def _pair(layout: Layout, place: Place) -> str:
    target = layout.target(place)
    return "" if target is None else f"{layout.image(place)} {target}\n"
