"""Check that shards fit the data section that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metaprompts.data.class_names import describe_difference
from metaprompts.data.sample import Split
from metaprompts.data.shards.index import HAS_CONFIDENCE, LABELED_BY, ShardIndex
from metaprompts.errors import InputError
from metaprompts.utils.schema import to_dict

if TYPE_CHECKING:
    from metaprompts.data.config.base import Section

# Keys that change the pixels in shards.
_IMAGE_KEYS = ("exif", "white_level")


def check_min_confidence(data: Section, index: ShardIndex | None, split: Split) -> None:
    """Check that data.min_confidence applies to the training images.

    Raises:
        InputError: they have no confidence
    """
    if data.min_confidence is None or split != "train":
        return
    if index is None or not index.origin.data.get(HAS_CONFIDENCE):
        where = "no shards" if index is None else f"the shards in {data.shards}, which have no confidence"
        raise InputError(
            f"data.min_confidence is {data.min_confidence:g}, but the training images are from {where}: give the "
            "data.shards that metaprompts label --format tar wrote, without --no-confidence"
        )


def check_same_settings(data: Section, index: ShardIndex, split: Split, classes: Sequence[str] | None) -> None:
    """Check that shards were made with the settings of the recipe.

    Raises:
        InputError: a setting that changes the samples differs
    """
    own, count = to_dict(data), None if classes is None else len(classes)
    # Predicted labels do not depend on how a data set's files are read.
    keys = () if LABELED_BY in index.origin.data else (*_IMAGE_KEYS, *data.shard_keys[split])
    expected = {"task": data.task, "number of classes": count, **{key: own[key] for key in keys}}
    came = {**index.origin.data, "task": index.origin.task, "number of classes": index.origin.classes}
    for name, value in expected.items():
        if came.get(name) != value:
            key = f"data.{name}" if name in own else name
            raise InputError(
                f"the shards in {data.shards} were made with {key} {_shown(came.get(name))}, but the recipe has "
                f"{_shown(value)}: use the same value, or write new shards"
            )
    names = index.origin.class_names
    if names is not None and classes is not None and names != tuple(classes):
        raise InputError(
            f"the shards in {data.shards} were made with different task.classes "
            f"({describe_difference(names, classes)}): use the same classes, or write new shards"
        )


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
