"""Rename recipe keys in stored files to the names of this version.

    python scripts/convert_names.py PATH ...

PATH: model folders, adapters, shards, results, or folders of them. Renamed keys and values are replaced in every
recipe.json, shards.json and study result, in settings and commands; files without them are unchanged. Results are
identified by their settings, so their keys ("training") are recomputed.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from metaprompts.ablation.study import Run, read_study
from metaprompts.utils.files import write_json

KEYS = {
    "schedule.warmup_ratio": "warmup_start_factor",
    "schedule.floor_lr": "min_lr",
    "schedule.rise": "pct_start",
    "schedule.drop_at": "milestones",
    "schedule.drop_factor": "gamma",
    "schedule.fall": "decay_fraction",
    "optimizer.clip_norm": "max_grad_norm",
    "optimizer.unet_lr_scale": "backbone_lr_mult",
    "optimizer.decay_vectors": "decay_bias_and_norm",
    "training.out": "output_dir",
    "training.keep_checkpoints": "save_total_limit",
    "training.start_from": "init_from",
    "training.trackers": "report_to",
    "training.threads": "num_threads",
    "training.loss_batch_size": "loss_group_size",
    "data.workers": "num_workers",
    "data.skip_at_most": "max_bad_samples",
    "data.units_per_meter": "depth_scale",
    "augment.ratio": "scale_range",
    "augment.crop": "crop_size",
}
VALUES = {
    "schedule.kind": {"hold_and_fall": "warmup_stable_decay", "rise_and_fall": "poly_one_cycle"},
    "training.batch_norm": {"own": "local", "synchronized": "sync"},
}
# One key of segmentation has become two.
WINDOWS = "test.windows"
_KEY_DIGITS = 12


def renamed(section: str, key: str, value: Any) -> dict[str, Any]:
    """The keys of a section that a key has become, with their values."""
    name = f"{section}.{key}"
    if name == WINDOWS:
        if isinstance(value, int):
            return {"num_windows": value}
        window, stride = value or (None, None)
        return {"window": window, "stride": stride}
    value = VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
    return {KEYS.get(name, key): value}


def convert_sections(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's sections."""
    depth = recipe.get("task", {}).get("name") == "depth"
    made: dict[str, Any] = {}
    for section, values in recipe.items():
        if not isinstance(values, dict):
            made[section] = values
            continue
        made[section] = {}
        for key, value in values.items():
            if f"{section}.{key}" == WINDOWS and value is None and depth:
                made[section]["num_windows"] = None
            else:
                made[section].update(renamed(section, key, value))
    return made


def convert_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by "section.key"."""
    made: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        made.update({f"{section}.{new}": each for new, each in renamed(section, key, value).items()})
    return made


def convert_command(command: str) -> str:
    """A command with recipe keys."""

    def of(match: re.Match[str]) -> str:
        section, key, value = match.groups()
        new = KEYS.get(f"{section}.{key}", key)
        return f"--{section}.{new}={VALUES.get(f'{section}.{key}', {}).get(value, value)}"

    return re.sub(r"--(\w+)\.(\w+)=(\S*)", of, command)


def convert_result(result: dict[str, Any], data: set[str], runs: dict[str, str]) -> dict[str, Any]:
    """A result of a study.

    Args:
        result: as stored
        data: names of the data that studies train on
        runs: old key -> new key of the runs of the studies, for results without settings

    Returns:
        the result, with the key of the new settings and the same data
    """
    made = {**result, "command": convert_command(result["command"])}
    if "settings" in result:
        made["settings"] = convert_settings(result["settings"])
        for name in sorted(data):
            if run_key(name, result["settings"]) == result.get("training"):
                made["training"] = run_key(name, made["settings"])
    elif "training" in result:
        made["training"] = runs.get(result["training"], result["training"])
    return made


def former_key(run: Run) -> str:
    """The key that a run of a study had with the old names."""
    old = {f"{name.partition('.')[0]}.{new}": name for name, new in KEYS.items()}
    values = {name: {new: former for former, new in of.items()} for name, of in VALUES.items()}
    settings = {}
    for name, value in run.settings.items():
        former = old.get(name, name)
        settings[former] = values.get(former, {}).get(value, value) if isinstance(value, str) else value
    return run_key(run.cell.data, settings)


def run_key(data: str, settings: dict[str, Any]) -> str:
    """The key of a run, as `metaprompts.ablation.study.Run.key` makes it."""
    text = json.dumps([data, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def convert(path: Path, data: set[str], runs: dict[str, str]) -> bool:
    """Convert a file; returns whether anything changed."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "shards.json":
        origin = values["origin"]
        made = {**values, "origin": {**origin, **convert_sections({"data": origin["data"]})}}
    elif path.name == "recipe.json":
        made = convert_sections(values)
    elif "command" in values:
        made = convert_result(values, data, runs)
    else:
        return False
    if made == values:
        return False
    write_json(path, made)
    return True


def main() -> int:
    """Convert the paths on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--studies", type=Path, default=Path("studies"), help="folder of the studies of the results")
    options = parser.parse_args()
    studies = [read_study(path) for path in sorted(options.studies.rglob("*.toml"))]
    data = {cell.data for study in studies for cell in study.cells}
    runs = {former_key(run): run.key for study in studies for run in study.runs}
    files = [file for path in options.paths for file in ([path] if path.is_file() else sorted(path.rglob("*.json")))]
    changed = [file for file in files if convert(file, data, runs)]
    sys.stdout.write("".join(f"{file}\n" for file in changed) + f"{len(changed)} of {len(files)} files converted\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
