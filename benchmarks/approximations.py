"""What the optional approximations cost in quality and save in time.

    python benchmarks/approximations.py [MODEL ...] --encoder DIR [--scenes DIR] [--count 64] [--seed 12000000]
        [--images 8] [--rounds 5] [--threads 1] [--cache DIR] [--torch-only]

MODEL is an embedded model, by default each of them, or a folder written by a training on generated scenes. DIR of
--encoder is what `metaprompts distill-encoder micro --out DIR` wrote; without it that line is left out. DIR of
--scenes gets --count generated scenes from --seed on, which nothing was trained on. Without OpenVINO, or without NNCF
for the weights in 8 bits, their lines are left out; --cache is for converted models. Times are medians over --rounds
rounds; in each, every approximation predicts the same --images images, one by one. The last table is of one self-
attention of Stable Diffusion 1.5's finest level at 512x512, with random weights.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from diffusers.models.attention_processor import Attention

from metaprompts.demo.scoring import Subject, on_scenes
from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.engines.engine_model import EngineModel
from metaprompts.engines.factory import Approximation, Precision, installed, open_engine
from metaprompts.engines.token_merging import MergedSelfAttention
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.training.dataloaders import validation_batches, validation_split

EXACT = "exact"
# A validation split alone is not data set.
TRAINING_SCENES = 1
WIDTH, HEADS, SIDE = 320, 8, 64
SHARES = (0.0, 0.25, 0.5, 0.75)


def main() -> int:
    """Draw, score, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[f"micro-{task}" for task in ("segmentation", "depth", "pose")])
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--scenes", type=Path, default=Path("runs/approximations"))
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=12_000_000)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--torch-only", action="store_true", help="leave OpenVINO out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    total = TRAINING_SCENES + options.count
    write_scenes("plain", total, options.scenes, seed=options.seed, val_count=options.count)
    for name in options.models:
        subject = subject_of(name, options.scenes)
        ways = approximations(subject.model, options.encoder)
        if not options.torch_only:
            ways |= converted(subject.model, options.cache)
        sys.stdout.write("\n".join(table(name, subject, ways, options.images, options.rounds)) + "\n\n")
        sys.stdout.flush()
    sys.stdout.write("\n".join(attention_table(options.rounds)) + "\n")
    return 0


def subject_of(name: str, scenes: Path) -> Subject:
    """A model and the validation split of the scenes."""
    folder = embedded_folder(name) if name in embedded_models() else Path(name)
    recipe = on_scenes(str(folder / "recipe.json"), scenes)
    return Subject(load(folder, "cpu"), recipe, validation_split(recipe))


def approximations(model: MetaPromptModel, encoder: Path | None) -> dict[str, EngineModel]:
    """The model with something left out in each way, the exact one first."""
    trained = model.config.refinement.steps
    ways = {
        EXACT: Approximation(),
        **{f"{steps} of {trained} steps": Approximation(steps=steps) for steps in range(trained - 1, 0, -1)},
        "a quarter of the tokens merged": Approximation(merged_tokens=0.25),
        "half of the tokens merged": Approximation(merged_tokens=0.5),
    }
    if model.config.step_tolerance is not None:
        ways["--steps auto"] = Approximation(steps="auto")
    if encoder is not None:
        ways["distilled encoder"] = Approximation(encoder=encoder)
    return {name: open_engine(model, engine="eager", approximation=way) for name, way in ways.items()}


def converted(model: MetaPromptModel, cache: Path | None) -> dict[str, EngineModel]:
    """The model as OpenVINO runs it in each precision, where that is installed."""
    ways: dict[str, Precision] = {
        "OpenVINO, fp32": "fp32",
        "OpenVINO, bf16": "bf16",
        "OpenVINO, w8a16": "w8a16",
    }
    return {
        name: open_engine(model, engine="openvino", precision=precision, cache=cache)
        for name, precision in ways.items()
        if installed("openvino") and (precision != "w8a16" or installed("nncf"))
    }


def table(name: str, subject: Subject, ways: Mapping[str, EngineModel], count: int, rounds: int) -> list[str]:
    """The lines of one model's table."""
    metrics = list(subject.model.task.metrics)
    batches = list(validation_batches(subject.split, subject.recipe))
    scores = {name: evaluate(way, batches, metric_kwargs=subject.split.metric_kwargs) for name, way in ways.items()}
    images = torch.cat([batch["image"] for batch in batches])[:count].split(1)
    seconds = medians({way: partial(_each, ways[way], images) for way in ways}, rounds)
    encoding = medians({way: partial(_each, ways[way].parts.encode, images) for way in ways}, rounds)
    lines = [
        f"| {Path(name).name} | {' | '.join(metrics)} | time | encoding share |",
        f"|{' --- |' * (len(metrics) + 3)}",
    ]
    for way, found in scores.items():
        cells = [shown(float(found[metric]), float(scores[EXACT][metric]), way == EXACT) for metric in metrics]
        cells += [f"{seconds[way] / seconds[EXACT]:.0%}", f"{encoding[way] / seconds[EXACT]:.0%}"]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    height, width = images[0].shape[2:]
    return [*lines, f"\nexact: {1e3 * seconds[EXACT] / len(images):.0f} ms for an image of {height}x{width}"]


def _each(call: Callable[[torch.Tensor], object], images: Sequence[torch.Tensor]) -> None:
    for image in images:
        call(image)


def shown(value: float, exact: float, is_exact: bool) -> str:
    """A score, and its difference from the exact one."""
    return f"{value:.3f}" if is_exact else f"{value:.3f} ({value - exact:+.3f})"


def medians(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turn, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            with torch.no_grad():
                way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def attention_table(rounds: int) -> list[str]:
    """The lines of the table of one large self-attention."""
    layer = Attention(query_dim=WIDTH, heads=HEADS, dim_head=WIDTH // HEADS).eval()
    tokens = torch.randn(1, SIDE * SIDE, WIDTH)
    merged = {share: MergedSelfAttention(layer, share) for share in SHARES}
    seconds = medians(
        {f"{share}": lambda each=each: each(tokens, size=(SIDE, SIDE)) for share, each in merged.items()}, rounds
    )
    first = next(iter(seconds.values()))
    return [
        f"| one self-attention of {SIDE}x{SIDE} tokens, {WIDTH} channels | time |",
        "| --- | --- |",
        *(
            f"| {float(share):.0%} merged | {1e3 * taken:.0f} ms ({taken / first:.0%}) |"
            for share, taken in seconds.items()
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
