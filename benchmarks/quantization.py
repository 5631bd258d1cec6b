"""What 8-bit weights and activations cost in quality on the embedded models.

    python benchmarks/quantization.py [--scenes DIR] [--count 256] [--seed 12000000] [--samples 32] [--threads 1]
        [--cache DIR] [--task depth ...] [--precision w8a8 ...]

DIR of --scenes gets --count generated scenes from --seed on, which nothing was trained on; if it exists already, the
first --count images of its validation split are scored. w8a8 is calibrated on --samples generated scenes of other
seeds. Prints a table: the scores of each precision of OpenVINO, their differences from fp32 relative to its score, the
groups of layers that are not quantized, and the error of the raw output on calibration samples.
"""

import argparse
import math
import sys
from itertools import islice
from pathlib import Path

import torch

from metaprompts.demo.scoring import Subject, shown_tasks, subject_of
from metaprompts.engines.factory import open_engine
from metaprompts.engines.quantization.calibration import SAMPLES, of_scenes
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.training.dataloaders import validation_batches

PRECISIONS = ("fp32", "bf16", "w8a16", "w8a8")
# A validation split alone is not data set.
TRAINING_SCENES = 1


def main() -> int:
    """Draw, quantize, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, default=Path("runs/quantization"))
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=12_000_000)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--task", action="append", choices=shown_tasks())
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.scenes.exists():
        total = TRAINING_SCENES + options.count
        write_scenes("plain", total, options.scenes, seed=options.seed, val_count=options.count)
    for task in options.task or shown_tasks():
        lines = table(subject_of(task, options.scenes), options)
        sys.stdout.write("\n".join(lines) + "\n\n")
        sys.stdout.flush()
    return 0


def table(subject: Subject, options: argparse.Namespace) -> list[str]:
    """The lines of one model's table."""
    task = subject.model.task.name
    metrics = list(subject.model.task.about.scores)
    groups = math.ceil(options.count / subject.recipe.training.val_batch_size)
    lines = [f"| micro-{task} | {' | '.join(metrics)} |", f"|{' --- |' * (len(metrics) + 1)}"]
    exact: dict[str, float] = {}
    for precision in options.precision or PRECISIONS:
        calibration = of_scenes(options.samples) if precision == "w8a8" else None
        way = open_engine(
            subject.model, engine="openvino", precision=precision, cache=options.cache, calibration=calibration
        )
        batches = islice(validation_batches(subject.split, subject.recipe), groups)
        found = evaluate(way, batches, metric_kwargs=subject.split.metric_kwargs)
        scores = {name: float(found[name]) for name in metrics}
        exact = exact or scores
        cells = [f"{scores[name]:.4f} ({scores[name] / exact[name] - 1:+.2%})" for name in metrics]
        lines.append(f"| {precision} | {' | '.join(cells)} |")
        if precision == "w8a8":
            lines += ["", way.why]
    return lines


if __name__ == "__main__":
    sys.exit(main())
