"""Generate the data set "scenes" of a study if no folder is given for it."""

from pathlib import Path
from typing import Any

from metaprompts.ablation.study import GeneratedScenes
from metaprompts.errors import InputError
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.synthetic.layouts.writer import Progress
from metaprompts.utils.files import read_json, write_json, write_text

SCENES = "scenes"
_LISTS = {"train": ("train.txt", "depth_train.txt"), "val": ("val.txt", "depth_val.txt")}
_PEOPLE = "annotations/person_keypoints_{split}.json"


def generate(
    scenes: GeneratedScenes, folder: Path, *, processes: int, quick: bool = False, progress: Progress | None = None
) -> Path:
    """Draw scenes in the layout "plain", and write the lists of their parts; existing files are kept.

    Args:
        scenes: number, seeds and parts of the scenes
        folder: a new or empty folder, or one with the same scenes
        processes: number of processes
        quick: whether a part larger than a split becomes the whole split, instead of being omitted
        progress: called for each scene drawn

    Returns:
        the folder

    Raises:
        InputError: the folder holds other files, or a part is larger than every split
    """
    sizes = {"train": scenes.count - scenes.val_count, "val": scenes.val_count}
    too_large = [part for part in scenes.parts if part > max(sizes.values())]
    if too_large and not quick:
        raise InputError(f"scenes.parts has {too_large[0]}, but there are {sizes['train']} scenes to train on")
    write_scenes(
        "plain",
        scenes.count,
        folder,
        val_count=scenes.val_count,
        seed=scenes.seed,
        workers=processes,
        progress=progress,
    )
    for split, size in sizes.items():
        for part in scenes.parts:
            if quick or part <= size:
                _write_part(folder, split, part)
    return folder


def _write_part(folder: Path, split: str, part: int) -> None:
    """Write separate lists and annotations for the first scenes of a split."""
    for name in _LISTS[split]:
        lines = (folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(_part_path(folder / name, part), "".join(lines[:part]))
    people = folder / _PEOPLE.format(split=split)
    write_json(_part_path(people, part), _first_images(read_json(people), part))


def _first_images(annotations: dict[str, Any], part: int) -> dict[str, Any]:
    images = annotations["images"][:part]
    kept = {image["id"] for image in images}
    people = [person for person in annotations["annotations"] if person["image_id"] in kept]
    return {**annotations, "images": images, "annotations": people}


def _part_path(path: Path, part: int) -> Path:
    return path.with_name(f"{path.stem}_{part}{path.suffix}")
