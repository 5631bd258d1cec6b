"""The demonstration: render scenes, score the embedded models, train one live, visualize prompts, write the report."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from metaprompts.analysis.prompts import prompt_responses
from metaprompts.data.datasets.held_out import Subset
from metaprompts.data.sample import Sample, SampleDataset
from metaprompts.demo.config import DemoConfig
from metaprompts.demo.galleries import overview, steps_gallery, task_gallery
from metaprompts.demo.live_training import ENOUGH_STEPS, Point, fine_tune, starting_model
from metaprompts.demo.prompts import prompts_gallery
from metaprompts.demo.report import Change, Gallery, Report, duration, write_report
from metaprompts.demo.scoring import Subject, on_scenes, scores_of, shown_tasks, subject_of
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.training.dataloaders import validation_batches, validation_split
from metaprompts.utils.files import write_image
from metaprompts.utils.locks import writing_into
from metaprompts.utils.progress import ProgressBar, report_lines, tracked
from metaprompts.utils.wording import counted

REPORT = "report.html"
OVERVIEW = "overview.png"
_LIVE_TASK = "depth"
_LIVE_CHECK = 32
_SHOWN = 12

_COMMANDS = (
    (
        "Your own images. The miniature was trained only on generated scenes: expect poor results on photographs",
        "metaprompts predict micro-depth my_images/ --out predicted",
    ),
    (
        "The miniature trained on your own labels, on a CPU: train.txt has a line with image and mask for each image",
        "metaprompts train micro_segmentation --data.root my_data --data.train train.txt --data.val 0.1 \\\n"
        "  --task.classes road,car,tree --training.init_from micro-segmentation --training.output_dir runs/mine",
    ),
    (
        "The real thing: Stable Diffusion 1.5, on a GPU",
        "metaprompts train micro_depth --data.root my_data --data.train train.txt --data.val 0.1 \\\n"
        "  --backbone.source stable-diffusion-v1-5/stable-diffusion-v1-5 --backbone.gradient_checkpointing true",
    ),
    ("What each prompt responds to", "metaprompts heatmaps micro-segmentation my_image.jpg --out heatmaps"),
)


def run_demo(settings: DemoConfig) -> Path:
    """Run the whole demo; writes the report and, next to it, the image shown at its top.

    Args:
        settings: sizes of the demo

    Returns:
        the report's path

    Raises:
        InputError: the folder cannot be used
    """
    with writing_into(settings.out, "demo"):
        return _run(settings)


def _run(settings: DemoConfig) -> Path:
    # Each combination of seed and size has its own folder.
    scenes = settings.out / f"scenes-{settings.seed}-{settings.training_scenes}-{settings.scenes}"
    report_lines([f"rendering {counted(settings.training_scenes + settings.scenes, 'scene')}"])
    write_scenes(
        "plain",
        settings.training_scenes + settings.scenes,
        scenes,
        seed=settings.seed,
        val_count=settings.scenes,
        workers=max(1, min(os.cpu_count() or 1, 8)),
        progress=partial(tracked, what="drawing"),
    )
    subjects = {task: subject_of(task, scenes) for task in shown_tasks()}
    scores = []
    for task, subject in subjects.items():
        report_lines([f"scoring {task}"])
        scores += scores_of(subject)
    galleries = [gallery for subject in subjects.values() for gallery in _galleries(subject)]
    report_lines([f"fine-tuning depth for {settings.live_seconds:.0f} seconds"])
    curve, live, live_gallery = _live(scenes, settings.live_seconds)
    people = subjects["pose"].split.samples
    seen = overview({task: each.model for task, each in subjects.items()}, _some(people, _SHOWN))
    report = Report(
        scenes=settings.scenes,
        overview=seen,
        scores=scores,
        galleries=galleries,
        curve=curve,
        live=live,
        live_gallery=live_gallery,
        commands=_COMMANDS,
    )
    path = settings.out / REPORT
    write_image(settings.out / OVERVIEW, seen)
    write_report(report, path)
    return path


def _galleries(subject: Subject) -> Iterator[Gallery]:
    model, split = subject.model, subject.split
    report_lines([f"visualizing the prompts of {model.task.name}"])
    samples = _some(split.samples, len(split.samples))
    yield task_gallery(model, samples)
    # Predictions of earlier steps are meaningless if only the last step was trained with a loss.
    if (
        model.config.refinement.steps > 1
        and subject.recipe.training.step_decay is not None
        and not model.task.reads_boxes
    ):
        yield steps_gallery(model, samples)
    batches = tracked(validation_batches(split, subject.recipe), what="measuring")
    yield prompts_gallery(model, prompt_responses(model, batches), samples)


def _live(scenes: Path, seconds: float) -> tuple[list[Point], list[Change], Gallery]:
    """Train depth from the miniature's weights, and score it before and after; K = 1, to take only a minute."""
    recipe = on_scenes(f"scenes_{_LIVE_TASK}", scenes)
    split = validation_split(recipe)
    few = replace(split, samples=Subset(split.samples, range(min(_LIVE_CHECK, len(split.samples)))))
    untrained = starting_model(recipe).eval()
    with ProgressBar("training", seconds) as bar:
        model, curve = fine_tune(recipe, seconds, lambda point: bar.update(point.seconds, f"loss {point.loss:.3f}"))
    remark = "" if len(curve) >= ENOUGH_STEPS else f"; fewer than {ENOUGH_STEPS} steps are too few to learn anything"
    report_lines([f"trained {duration(curve)}, loss {curve[0].loss:.3f} -> {curve[-1].loss:.3f}{remark}"])
    before, after = (
        evaluate(each, validation_batches(few, recipe), metric_kwargs=few.metric_kwargs) for each in (untrained, model)
    )
    changes = [
        Change(metric=name, better=recipe.task.best_by[name], before=float(before[name]), after=float(after[name]))
        for name in recipe.task.about.scores
    ]
    gallery = task_gallery(model, _some(few.samples, 3), title="Depth after the live training")
    return curve, changes, gallery


def _some(samples: SampleDataset, count: int) -> list[Sample]:
    return [samples[number] for number in range(min(len(samples), count))]
