"""Score the embedded models on scenes that nothing was trained on, next to constant predictions.

python scripts/score_embedded.py --scenes DIR [--seed 8000000] [--count 256] [--training 512]

DIR gets the scenes: --count are scored, and the constant predictions are computed from --training others.
"""

import argparse
import sys
from pathlib import Path

from metaprompts.demo.scoring import scores_of, shown_tasks, subject_of
from metaprompts.synthetic.layouts import write_scenes


def main() -> int:
    """Draw, score, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=8_000_000)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--training", type=int, default=512)
    arguments = parser.parse_args()
    total = arguments.training + arguments.count
    write_scenes("plain", total, arguments.scenes, seed=arguments.seed, val_count=arguments.count, workers=2)
    sys.stdout.write("| task | metric | model | constant baseline | which is |\n| --- | --- | --- | --- | --- |\n")
    for task in shown_tasks():
        for score in scores_of(subject_of(task, arguments.scenes)):
            numbers = f"{score.model:.3f} | {score.baseline:.3f}"
            sys.stdout.write(
                f"| {task} | {score.metric}, {score.better} is better | {numbers} | {score.baseline_name} |\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
