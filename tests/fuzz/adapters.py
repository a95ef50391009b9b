"""All that the fuzz suite knows of the library: what becomes of a damaged file, in plain values."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.pipeline import Csv, JsonLines, Parquet, TfRecord
from penstock.pipeline.errors import PenstockError
from penstock.pipeline.prepare.images import ImageSteps
from penstock.pipeline.prepare.outcomes import Prepared
from penstock.pipeline.sources.listing import Reference
from penstock.transforms.image_codec import Decode, Png, Raw

_SOURCES = {"csv": Csv, "jsonl": JsonLines, "parquet": Parquet, "tfrecord": TfRecord}
_MOST_PIXELS = 2_000_000  # so that memory shows what a decoder does on its own


def load(format_name: str) -> None:
    """Imports what reading the format will need, so that no case pays for it."""
    if format_name == "tfrecord":
        from tfx_bsl.coders import example_coder  # noqa: F401


def prepare_image(path: str, mask: bool, first_frame: bool, strict: bool) -> str:
    """What becomes of an image, or of a mask of itself: the stored pixels' shapes and hashes, or why there are none."""
    decode = Decode(max_pixels=_MOST_PIXELS, first_frame=first_frame, strict=strict)
    steps = ImageSteps(decode, (), {"image": Raw(), "mask": Raw() if mask else Png()})
    outcome = steps(Reference("key", path, os.path.getsize(path), mask=path if mask else None))
    if not isinstance(outcome, Prepared):
        return f"rejected {outcome.stage} {outcome.code}: {outcome.message}"
    stored = [
        f"{name} {feature.dtype} {list(feature.shape)} {hashlib.sha256(outcome.values[name]).hexdigest()}"
        for name, feature in sorted(outcome.features.items())
        if feature.shape
    ]
    return f"prepared {stored}"


@dataclass
class Table:
    """What was read of a file of rows.

    Attributes:
      schema: Names and types, by name.
      rows: Each row's number and values, by number.
      quarantined: Each quarantined row's key and code, by key.
      planned: How many rows the ranges said; None where one did not say.
      refused: The message, where the file was refused as a whole; then there is nothing else.
    """

    schema: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[int, str]] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    planned: int | None = None
    refused: str = ""


def read_table(format_name: str, folder: str, name: str, options: Mapping[str, Any], range_bytes: int) -> Table:
    """Reads a file in ranges of so many bytes."""
    try:
        source = _SOURCES[format_name](name, **options)
        listing = source.find(folder, range_bytes)
        table = Table(sorted((field.name, str(field.type)) for field in listing.schema.columns), planned=0)
        for record_range in listing.ranges:
            read = source.read(record_range, listing.schema)
            read.batch.validate(full=True)  # no offset leads out of the buffers, and strings are UTF-8
            values = (str(sorted(row.items())) for row in read.batch.to_pylist())
            table.rows += zip(read.numbers.tolist(), values, strict=True)
            table.quarantined += [(each.key, each.code) for each in read.problems]
            if record_range.rows < 0:
                table.planned = None
            elif table.planned is not None:
                table.planned += record_range.rows
    except PenstockError as error:
        return Table(refused=str(error) or "without a word")
    table.rows.sort()
    table.quarantined.sort()
    return table
