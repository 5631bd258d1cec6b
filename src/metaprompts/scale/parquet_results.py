"""Results as parquet files."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from metaprompts.scale.images import Content
from metaprompts.scale.label import Label
from metaprompts.scale.parquet_source import pyarrow
from metaprompts.tasks.predictions import Prediction
from metaprompts.utils.batches import read_batches

SUFFIX = ".parquet"
_FACTS = "metaprompts"
# Rows held in memory.
_GROUP = 64


def write_labels(
    path: Path, labels: Iterable[tuple[Content, Label, Prediction | None]], facts: Mapping[str, Any]
) -> int:
    """Write labels as one parquet file.

    Args:
        path: path of the file
        labels: the labels in order
        facts: stored as JSON in the file's metadata; "fingerprint" is that of the model

    Returns:
        the number of labels with an error
    """
    arrow = pyarrow()
    schema, images, errors = _schema(arrow), 0, 0
    # PNG data does not compress further.
    with arrow.parquet.ParquetWriter(path, schema, compression="none", write_page_checksum=True) as writer:
        for group in read_batches(labels, _GROUP):
            rows = [label.row(facts["fingerprint"]) for _, label, _ in group]
            writer.write_table(arrow.Table.from_pylist(rows, schema))
            images, errors = images + len(rows), errors + sum(row["error"] is not None for row in rows)
        said = {**facts, "images": images, "errors": errors}
        writer.add_key_value_metadata({_FACTS: json.dumps(said)})
    return errors


def read_facts(file: IO[bytes]) -> dict[str, Any] | None:
    """The metadata of a file; None if it is not a complete file of labels."""
    arrow = pyarrow()
    try:
        found = arrow.parquet.read_metadata(file)
        facts: dict[str, Any] = json.loads(found.metadata[_FACTS.encode()])
    except (OSError, ValueError, KeyError, TypeError, arrow.ArrowException):
        return None
    return facts if facts.get("images") == found.num_rows else None


def read_confidences(file: IO[bytes]) -> list[float | None]:
    """The confidence of each row."""
    found: list[float | None] = pyarrow().parquet.read_table(file, columns=["confidence"]).column(0).to_pylist()
    return found


def _schema(arrow: Any) -> Any:
    numbers = arrow.list_(arrow.float32())
    person = arrow.struct([("keypoints", numbers), ("box_xywh", numbers), ("score", arrow.float32())])
    return arrow.schema(
        {
            "path": arrow.string(),
            "height": arrow.int32(),
            "width": arrow.int32(),
            "prediction": arrow.binary(),
            "people": arrow.list_(person),
            "confidence": arrow.float32(),
            "confidence_map": arrow.binary(),
            "model": arrow.string(),
            "error": arrow.string(),
        }
    )
