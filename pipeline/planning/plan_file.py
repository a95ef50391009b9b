"""The plan file: which examples are in which unit. It holds references and ranges, never payloads.

It is an Arrow file of one record batch a unit, so that workers get a unit's number and read its references themselves:
nothing but small integers goes through the engine, and a resumed run finds the same units.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from ..formats.paths import ShardName
from ..sources.listing import RecordRange, Reference
from ..storage import files

Piece = Reference | RecordRange
_TEXT, _WHOLE = pa.string(), pa.int64()
_KINDS = {Reference: "Reference", RecordRange: "Range"}  # what a plan file calls what its units read
_SCHEMAS = {
    Reference: pa.schema([("size", _WHOLE)] + [(name, _TEXT) for name in ("key", "uri", "label", "mask", "columns")]),
    RecordRange: pa.schema(
        [("uri", _TEXT), ("key", _TEXT)]
        + [(name, _WHOLE) for name in ("begin", "end", "first_row", "rows", "size", "first_line")]
        + [("source", _TEXT), ("root", _TEXT), ("duplicates", pa.binary())]
        + [(name, _WHOLE) for name in ("number", "file_begin", "file_end")]
        + [("by_lines", pa.bool_())]
    ),
}


@dataclass(frozen=True)
class Unit:
    """A piece of work that becomes one shard of each split it holds.

    Attributes:
      index: Its number in the plan.
      shards: Split to the shard that the unit becomes.
      examples: How many examples it holds; -1 where that is not known before it is read.
      size: The bytes that it reads.
    """

    index: int
    shards: dict[str, ShardName]
    examples: int
    size: int


def write(uri: str, units: Sequence[tuple[Unit, Sequence[Piece]]]) -> None:
    """Writes the plan file."""
    kind: Any = type(units[0][1][0])
    schema = _SCHEMAS[kind]
    metadata = {"kind": _KINDS[kind], "units": json.dumps([_unit_to_json(unit) for unit, _ in units])}
    with files.create(uri) as file, pa.ipc.new_file(file, schema.with_metadata(metadata)) as writer:
        for _, pieces in units:
            rows = [_to_row(piece) for piece in pieces]
            columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def read_units(uri: str) -> list[Unit]:
    """The units of a plan file, without what they read."""
    with files.open_read(uri) as file, pa.ipc.open_file(file) as reader:
        return [_unit_from_json(entry) for entry in json.loads(reader.schema.metadata[b"units"])]


def read_unit(uri: str, number: int) -> tuple[Unit, list[Any]]:
    """One unit of a plan file, and its references or ranges."""
    with files.open_read(uri) as file, pa.ipc.open_file(file) as reader:
        metadata = reader.schema.metadata
        unit = _unit_from_json(json.loads(metadata[b"units"])[number])
        batch = reader.get_batch(number)
    rows = batch.to_pylist()
    if metadata[b"kind"].decode() == _KINDS[RecordRange]:
        return unit, [RecordRange(**row) for row in rows]
    return unit, [Reference(**{**row, "columns": json.loads(row["columns"] or "null")}) for row in rows]


def _to_row(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, RecordRange):
        return asdict(piece)
    return {**piece._asdict(), "columns": json.dumps(piece.columns) if piece.columns is not None else None}


def _unit_to_json(unit: Unit) -> dict[str, Any]:
    return {**asdict(unit), "shards": {split: str(name) for split, name in unit.shards.items()}}


def _unit_from_json(entry: Mapping[str, Any]) -> Unit:
    return Unit(**{**entry, "shards": {split: ShardName.parse(name) for split, name in entry["shards"].items()}})
