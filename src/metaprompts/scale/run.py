"""Label a source: plan the slices, label those without results, and finish the job."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from metaprompts.errors import InputError
from metaprompts.scale.job import PREFIX, Done, LabelJob, described_by
from metaprompts.scale.review import write_review
from metaprompts.scale.shard_index import write_shard_index
from metaprompts.scale.source import Plan, Slice
from metaprompts.utils.files import json_line
from metaprompts.utils.progress import ProgressBar, report_lines
from metaprompts.utils.wording import counted

SUMMARY_FILE = "labels.json"
"""Written when everything is labeled."""

Runner = Callable[[LabelJob, Iterator[Slice]], Iterator[Done]]
"""Labels the slices of a job, in any order."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A summary of a job's results.

    Attributes:
        images: number of images in this run and earlier runs
        errors: how many of them have no label
        earlier: how many were labeled by earlier runs
        unfinished: number of slices that other parts of the job still have to label
    """

    images: int
    errors: int
    earlier: int
    unfinished: int


def run(job: LabelJob, runner: Runner, part: tuple[int, int] = (0, 1), *, review: int = 0) -> Summary:
    """Label all images that have no label yet; repeating an interrupted call resumes it.

    Args:
        job: the labeling job
        runner: labels slices
        part: index of this run, and number of runs that share the job
        review: number of images in the contact sheet of the least confident labels

    Raises:
        InputError: the source cannot be read, results cannot be written or were written on another machine, or the
            model does not load
    """
    plan = Plan(job.slices())
    job.folder.remove_leftovers()
    sizes = job.folder.sizes()
    found = {each.number: job.done(each, sizes) for each in _own(plan, part)}
    earlier = _total([done for done in found.values() if done is not None])
    todo = {number for number, done in found.items() if done is None}
    new = _labeled(job, runner, plan, part, todo, earlier.images) if todo else Done(0, 0)
    unfinished = _finish(job, plan)
    if unfinished and part == (0, 1):
        raise InputError(
            f"the labels of {counted(unfinished, 'slice')} are not in {job.folder.url}: give an --out that all "
            "machines share by the same path, or a URL"
        )
    if review and not unfinished:
        write_review(job, plan, review)
    total = _total([earlier, new])
    return Summary(images=total.images, errors=total.errors, earlier=earlier.images, unfinished=unfinished)


def _own(plan: Plan, part: tuple[int, int]) -> Iterator[Slice]:
    index, count = part
    return (each for each in plan if each.number % count == index)


def _total(results: Collection[Done]) -> Done:
    return Done(sum(each.images for each in results), sum(each.errors for each in results))


def _labeled(
    job: LabelJob, runner: Runner, plan: Plan, part: tuple[int, int], todo: Collection[int], earlier: int
) -> Done:
    images = sum(len(each.items) for each in _own(plan, part))
    new, began = Done(0, 0), time.monotonic()
    if earlier:
        report_lines([f"{earlier} of {counted(images, 'image')} are labeled already"])
    with ProgressBar("labeling", images) as bar:
        bar.advance(earlier)
        for done in runner(job, (each for each in _own(plan, part) if each.number in todo)):
            new = _total([new, done])
            rate = new.images / (time.monotonic() - began)
            bar.update(earlier + new.images, f"{rate:.1f} images/s")
    return new


def _finish(job: LabelJob, plan: Plan) -> int:
    """Remove results of replaced images, and describe the results; returns the number of unfinished slices."""
    folder, sizes = job.folder, job.folder.sizes()
    files = {described_by(job.file(part)) for part in plan}
    if missing := len(files - sizes.keys()):
        return missing
    stems = {name.rpartition(".")[0] for name in files}
    obsolete = [name for name in sizes if name.startswith(PREFIX) and name.rpartition(".")[0] not in stems]
    for name in obsolete:
        folder.remove(name)
    if obsolete:
        report_lines([f"removed {counted(len(obsolete), 'file')} of images that have since been replaced"])
    # Workers of a killed command may have ended after this one began.
    folder.remove_leftovers()
    if job.format == "tar":
        write_shard_index(job, plan, sizes)
    with folder.writing(SUMMARY_FILE) as path:
        path.write_text(json_line({**job.settings, "images": plan.images, "files": len(plan)}), encoding="utf-8")
    return 0
