"""Studies and results made up for tests."""

import json

from metaprompts.ablation.study import Cell, Study, Variant


def study(**changes):
    values = {
        "title": "t",
        "seeds": (0, 1, 2),
        "cells": (
            Cell(name="small", recipe="micro_depth", data="here", metric="d1", settings={"training.steps": 5}),
            Cell(name="large", recipe="micro_depth", data="here", metric="rmse", higher_is_better=False),
        ),
        "variants": (Variant(name="ours"), Variant(name="theirs", settings={"backbone.forget_unet": True})),
    }
    return Study(**(values | changes))


def results(values, made=None):
    """{(cell, variant, seed): value, or why the training diverged} of a study, by default that of `study`."""
    keys = {run.name: run.key for run in (made or study()).runs}
    found = {
        f"{cell}--{variant}--{seed}": {
            "cell": cell,
            "variant": variant,
            "seed": seed,
            **({"failed": value} if isinstance(value, str) else {"scores": {"d1": value, "rmse": value}}),
        }
        for (cell, variant, seed), value in values.items()
    }
    return {name: {**result, "training": keys.get(name, "")} for name, result in found.items()}


def write(folder, found):
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in found.items():
        (folder / f"{name}.json").write_text(json.dumps(result))
