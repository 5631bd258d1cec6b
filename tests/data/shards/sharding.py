"""Small splits in shards, and samples compared to the last bit."""

from dataclasses import fields, replace

import numpy as np

from metaprompts.data.shards.index import Origin
from metaprompts.data.shards.writer import begin, write_split
from open_split import open_split

SPLITS = ("train", "val")
BOXES = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"


def dataset(data, split, classes=None):
    return open_split(data, split, *([] if classes is None else [classes]))


def origin(data, classes=None, shard_bytes=1):
    count = None if classes is None else len(classes)
    settings = data.sample_settings()
    return Origin(task=data.task, classes=count, class_names=classes, shard_bytes=shard_bytes, data=settings)


def shard(data, out, classes=None, *, shard_bytes=1, restart=False, change=lambda samples: samples, **settings):
    """Write both splits, each record in a shard of its own by default.

    Returns the section that reads them.
    """
    begin(out, origin(data, classes, shard_bytes), restart=restart)
    settings["depth_scale"] = getattr(data, "stored_depth_scale", None)
    for split in SPLITS:
        write_split(out, split, change(dataset(data, split, classes)), **settings)
    return replace(data, root=None, shards=out)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Spoiled:
    """Samples of which some raise an error; tells which were read."""

    def __init__(self, samples, error, places):
        self.samples, self.error, self.places, self.read = samples, error, places, []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read.append(index)
        if index in self.places:
            raise self.error
        return self.samples[index]


def bits(value):
    """A sample, or a part of one, as something that is equal only if every bit is, types included."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: bits(getattr(value, field.name)) for field in fields(value)}
    return type(value), value


def assert_same_samples(samples, expected):
    assert len(samples) == len(expected)
    for index in range(len(expected)):
        assert bits(samples[index]) == bits(expected[index])
