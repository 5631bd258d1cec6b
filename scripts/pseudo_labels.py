"""Run studies/scripted/pseudo_labels.toml: train on 50 labels, label 2,000 scenes, train on both.

    python scripts/pseudo_labels.py [--processes 2]

Run the same command again after an interruption.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from metaprompts.ablation.results import training_folder
from metaprompts.ablation.study import read_study

STUDY = Path("studies/scripted/pseudo_labels.toml")
OUT = Path("runs/ablations")


def main() -> None:
    """Train, label, and train again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    processes = str(parser.parse_args().processes)
    run("ablate", str(STUDY), "--out", str(OUT), "--processes", processes, "--only", "*/labels/*")
    scenes = OUT / "data/scenes"
    unlabeled = scenes / "unlabeled.txt"
    lines = (scenes / "train.txt").read_text(encoding="utf-8").splitlines()[50:]
    unlabeled.write_text("".join(f"{line.split()[0]}\n" for line in lines), encoding="utf-8")
    study = read_study(STUDY)
    for each in study.runs:
        if each.variant.name == "labels":
            folder = OUT / f"data/pseudo/{each.cell.name}-{each.seed}"
            model = training_folder(OUT, each) / "best"
            labels = folder.with_name(f"{folder.name}-labels")
            run("label", str(model), str(unlabeled), "--out", str(labels), "--format", "tar", "--workers", processes)
            (made,) = (path for path in labels.iterdir() if (path / "labels.json").is_file())
            folder.unlink(missing_ok=True)
            folder.symlink_to(made.absolute())
    run("ablate", str(STUDY), "--out", str(OUT), "--processes", processes)


def run(*words: str) -> None:
    """Run a command of metaprompts; ends this script if it fails."""
    done = subprocess.run([sys.executable, "-m", "metaprompts", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
