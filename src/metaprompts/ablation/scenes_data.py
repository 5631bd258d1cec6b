"""Generate the data set "scenes" of studies if no folder is given for it."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from metaprompts.ablation.study import SCENES, GeneratedScenes, Run, Study
from metaprompts.errors import InputError
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.utils.files import read_json, read_text, write_json, write_text
from metaprompts.utils.progress import tracked


def data_folders(
    studies: Iterable[Study], runs: Iterable[Run], given: Mapping[str, Path], out: Path, *, processes: int
) -> dict[str, Path]:
    """The given folders by name, and OUT/data/scenes, where scenes are drawn if runs need them and none are given.

    Raises:
        InputError: the folder holds other files, or a part is larger than every split
    """
    folders = dict(given)
    using = {run.study for run in runs if run.cell.data == SCENES}
    for study in studies:
        if study.scenes and study.name in using and (study.quick or SCENES not in given):
            # A quick study has its own scenes.
            folders[SCENES] = out / "data" / SCENES
            _generate(study.scenes, folders[SCENES], processes, quick=study.quick)
    return folders


def _generate(scenes: GeneratedScenes, folder: Path, processes: int, *, quick: bool) -> None:
    """Draw scenes and the lists of their parts; only in quick studies may a part be larger than its split."""
    sizes = {"train": scenes.count - scenes.val_count, "val": scenes.val_count}
    too_large = [part for part in scenes.parts if part > max(sizes.values())]
    if too_large and not quick:
        raise InputError(f"scenes.parts has {too_large[0]}, but there are {sizes['train']} scenes to train on")
    progress = partial(tracked, what="drawing scenes")
    count, val_count, seed = scenes.count, scenes.val_count, scenes.seed
    write_scenes("plain", count, folder, val_count=val_count, seed=seed, workers=processes, progress=progress)
    for split, part in ((split, part) for split in sizes for part in scenes.parts if quick or part <= sizes[split]):
        for name in (split, f"depth_{split}"):
            lines = read_text(folder / f"{name}.txt").splitlines(keepends=True)
            write_text(folder / f"{name}_{part}.txt", "".join(lines[:part]))
        people = folder / f"annotations/person_keypoints_{split}.json"
        whole = read_json(people)
        images = whole["images"][:part]
        kept = {image["id"] for image in images}
        annotations = [person for person in whole["annotations"] if person["image_id"] in kept]
        write_json(people.with_stem(f"{people.stem}_{part}"), {**whole, "images": images, "annotations": annotations})
