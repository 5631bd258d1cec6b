"""The classes of published data sets, by name."""

import csv
from importlib import resources

from metaprompts.data.class_names import ADE20K, CITYSCAPES


def vistas(version, *, evaluated=False):
    file = resources.files("metaprompts") / "synthetic/layouts" / f"vistas_{version}.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(row["name"] for row in rows if not evaluated or row["evaluate"] == "yes")


__all__ = ["ADE20K", "CITYSCAPES", "vistas"]
