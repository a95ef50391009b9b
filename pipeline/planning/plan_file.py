"""The plan file: which examples are in which unit. It holds references and ranges, never payloads.

It is an Arrow file of one record batch a unit, so that workers get a unit's number and read its references themselves:
nothing but small integers goes through the engine, and a resumed run finds the same units. What a unit is stands beside
its batch; all units alone are in a small file of their own.

Where a run takes over what another generation, its base, has stored, a unit is one of the base's as a whole
(`Unit.base`), or its batch has columns `base` and `base_place`: the base's unit that has what became of each reference
or range, and which one there it is.
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..formats import paths
from ..formats.manifest import StoredFile
from ..formats.paths import ShardName
from ..sources.archive_members import INSIDE, version_of_member
from ..sources.listing import RecordRange
from ..sources.references import to_references
from ..storage import files
from ..storage.scratch import ScratchFolder

_TEXT, _WHOLE = pa.string(), pa.int64()
_RANGES = pa.schema(
    [("uri", _TEXT), ("key", _TEXT)]
    + [(name, _WHOLE) for name in ("begin", "end", "first_row", "rows", "size", "first_line")]
    + [("source", _TEXT), ("root", _TEXT), ("duplicates", pa.binary()), ("forgotten", pa.binary())]
    + [(name, _WHOLE) for name in ("number", "file_begin", "file_end")]
    + [("by_lines", pa.bool_())],
    metadata={"kind": "Range"},
)
_UNIT = b"unit"
BASE = "base"  # the column of the base's units, int32; missing where a reference or range is to be prepared
BASE_PLACE = "base_place"  # its place in what that unit read, likewise
_PLACES = ("uri", "mask", "root")  # columns that follow from where the input is
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")
_READ = 1 << 20  # bytes that are asked of a store at least: mostly all of a unit's


@dataclass(frozen=True)
class Unit:
    """A piece of work that becomes one shard of each split it holds.

    Attributes:
      index: Its number in the plan.
      shards: Split to the shard that the unit becomes.
      examples: How many examples it holds; -1 where that is not known before it is read.
      size: The bytes that it reads.
      base: The base's unit that it is as a whole; None: it is made.
    """

    index: int
    shards: dict[str, ShardName]
    examples: int
    size: int
    base: int | None = None


class PlannedUnits:
    """The units of a plan, in a plan file in a temporary folder until a run takes it.

    Attributes:
      units: The units, without what they read.
      pieces: How many references or ranges they read in all.
    """

    def __init__(self, units: Iterator[tuple[Unit, pa.RecordBatch]]) -> None:
        """Writes the file.

        Args:
          units: The units, one at least, and the columns of what each reads: of references as
            `ReferenceTable.named` gives them, or of ranges; all with the columns `BASE` and `BASE_PLACE`, or
            none.
        """
        self._folder = ScratchFolder()
        self._path = os.path.join(self._folder.path, "plan.arrow")
        self.units: list[Unit] = []
        self.pieces = 0
        writer: Any = None
        with open(self._path, "wb") as file:
            for unit, batch in units:
                writer = writer or pa.ipc.new_file(file, batch.schema)
                writer.write_batch(batch, custom_metadata={_UNIT: json.dumps(_unit_to_json(unit))})
                self.units.append(unit)
                self.pieces += len(batch)
            writer.close()

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[tuple[Unit, list[Any]]]:
        """Every unit, and what it reads."""
        return (read_unit(self._path, unit.index) for unit in self.units)

    def read(self, number: int) -> tuple[Unit, list[Any]]:
        """A unit, and its references or ranges."""
        return read_unit(self._path, number)

    @property
    def examples(self) -> int | None:
        """How many examples they hold; None where that is not known before they are read."""
        counts = [unit.examples for unit in self.units]
        return None if min(counts) < 0 else sum(counts)

    def largest_first(self) -> list[int]:
        """The units' numbers, in the order in which all are done soonest: those that read most first.

        Before them come those that a base has as a whole, which take no time.
        """

        def rank(number: int) -> tuple[bool, int]:
            return self.units[number].base is None, -self.units[number].size

        return sorted(range(len(self.units)), key=rank)

    def prepared_keys(self) -> set[str]:
        """The keys of the files, or images, of which anything is prepared."""
        keys: set[str] = set()
        for unit, batch in read_inputs(self._path):
            if unit.base is None:
                chosen = batch.filter(batch[BASE].is_null()) if BASE in batch.schema.names else batch
                keys.update(chosen["key"].unique().to_pylist())
        return keys

    def write(self, uri: str) -> None:
        """Writes the plan file."""
        with open(self._path, "rb") as source, files.create(uri) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def keep(self, root: str, versions: Mapping[str, str]) -> StoredFile:
        """Writes what a later run needs to know of what each unit read: a record batch a unit, as in the plan file.

        What it holds follows from the input alone, wherever that is and whatever is taken over from a base: keys take
        the place of URIs, and each reference or range has what tells whether its files are what they were.

        Args:
          root: The generation's URI.
          versions: Of ranges, their files' keys to their versions; see `RecordListing`.
        """
        path = os.path.join(self._folder.path, "inputs.arrow")
        with open(path, "wb") as file:
            writer: Any = None
            for unit, kept in self.kept(versions):
                # a copy: what DuckDB leaves in the place of a missing number is whatever its memory held
                batch = kept.take(pa.array(np.arange(len(kept))))
                writer = writer or pa.ipc.new_file(file, batch.schema, options=_COMPRESSED)
                writer.write_batch(batch, custom_metadata={_UNIT: json.dumps(_unit_to_json(unit))})
            writer.close()
        sha256, size = files.sha256(path)
        with open(path, "rb") as file, files.create(files.join(root, paths.INPUTS)) as target:
            shutil.copyfileobj(file, target, 1 << 20)
        return StoredFile(paths.INPUTS, None, size, sha256)

    def kept(self, versions: Mapping[str, str]) -> Iterator[tuple[Unit, pa.RecordBatch]]:
        """Every unit, and of what it reads what `keep` writes.

        Args:
          versions: As for `keep`.
        """
        for unit, batch in read_inputs(self._path):
            yield replace(unit, base=None), _without_places(batch, versions)

    @contextlib.contextmanager
    def open_pieces(self) -> Iterator["PieceFile"]:
        """All references or ranges by their places, as long as the block runs."""
        with pa.memory_map(self._path) as file, pa.ipc.open_file(file) as reader:
            yield PieceFile(reader)

    def lines(self) -> bytes:
        """The units alone, as `read_units` reads them."""
        return b"".join(json.dumps(_unit_to_json(unit)).encode() + b"\n" for unit in self.units)


def of_ranges(units: Sequence[tuple[Unit, Sequence[RecordRange]]]) -> PlannedUnits:
    """The units of a table."""
    return PlannedUnits((unit, _to_batch(ranges)) for unit, ranges in units)


def _to_batch(ranges: Sequence[RecordRange]) -> pa.RecordBatch:
    columns = [pa.array([getattr(each, field.name) for each in ranges], field.type) for field in _RANGES]
    return pa.RecordBatch.from_arrays(columns, schema=_RANGES)


def _without_places(batch: pa.RecordBatch, versions: Mapping[str, str]) -> pa.RecordBatch:
    """A unit's references or ranges without where they are; ranges with the versions of their files."""
    kept = batch.select([name for name in batch.schema.names if name not in (*_PLACES, BASE, BASE_PLACE)])
    for uri, etag, modified in (("uri", "etag", "modified"), ("mask", "mask_etag", "mask_modified")):
        if etag in kept.schema.names:
            kept = kept.set_column(kept.schema.get_field_index(etag), etag, _versions(batch[uri], kept[etag]))
            # a copy of the same object may have another time of change
            is_told = pc.fill_null(pc.not_equal(kept[etag], ""), False)
            at = kept.schema.get_field_index(modified)
            kept = kept.set_column(at, modified, pc.if_else(is_told, pa.scalar(None, pa.float64()), kept[modified]))
    if (batch.schema.metadata or {}).get(b"kind") == b"Range":
        column = pa.array([versions.get(key, "") for key in batch["key"].to_pylist()], _TEXT)
        kept = kept.append_column("version", column)
    return kept


class PieceFile:
    """The references or ranges of a plan by their places in it."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        lengths = [len(reader.get_batch(number)) for number in range(reader.num_record_batches)]
        self._begins = np.concatenate([[0], np.cumsum(lengths)])

    def take(self, places: np.ndarray) -> pa.RecordBatch:
        """Some of them, in this order.

        Args:
          places: int64 [pieces], one at least.
        """
        units = np.searchsorted(self._begins, places, "right") - 1
        runs = np.split(np.arange(len(places)), np.flatnonzero(np.diff(units)) + 1)
        parts = []
        for run in runs:
            unit = units[run[0]]
            batch, rows = self._reader.get_batch(int(unit)), places[run] - self._begins[unit]
            is_slice = bool((np.diff(rows) == 1).all())  # mostly so, and then the bytes are the same, too
            parts.append(batch.slice(int(rows[0]), len(rows)) if is_slice else batch.take(pa.array(rows)))
        if len(parts) == 1:
            return parts[0]
        (batch,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
        return batch


def read_inputs(path: str) -> Iterator[tuple[Unit, pa.RecordBatch]]:
    """Every unit of a local plan file, or of what a generation keeps of one, and the columns of what it reads."""
    with pa.memory_map(path) as file, pa.ipc.open_file(file) as opened:
        reader: Any = opened
        for number in range(reader.num_record_batches):
            batch, metadata = reader.get_batch_with_custom_metadata(number)
            yield _unit_from_json(json.loads(metadata[_UNIT])), batch


def _versions(uris: pa.Array, etags: pa.Array) -> pa.Array:
    """The ETags of payloads, and of members of archives what tells their contents."""
    is_member = pc.fill_null(pc.match_substring(uris, INSIDE), False)
    if not pc.any(is_member).as_py():
        return etags
    versions = pa.array([version_of_member(uri) for uri in uris.filter(is_member).to_pylist()], pa.string())
    return pc.replace_with_mask(etags.cast(pa.string()), is_member, versions)


def read_units(uri: str) -> list[Unit]:
    """The units of a file of units alone."""
    return [_unit_from_json(json.loads(line)) for line in files.read_bytes(uri).splitlines()]


class StoredPlace(NamedTuple):
    """Where a base has what became of a reference or range.

    Attributes:
      unit: Its unit that read it.
      place: Its place among all that this unit read.
    """

    unit: int
    place: int


class UnitInputs:
    """What a unit reads, and what a base has of it.

    Attributes:
      unit: The unit.
    """

    def __init__(self, unit: Unit, batch: pa.RecordBatch) -> None:
        self.unit = unit
        self._batch = batch

    @cached_property
    def pieces(self) -> list[Any]:
        """Its references or ranges; asked for only where something is to be read."""
        if (self._batch.schema.metadata or {}).get(b"kind") == b"Range":
            return [RecordRange(**row) for row in self._batch.select(_RANGES.names).to_pylist()]
        return list(to_references(self._batch))

    @cached_property
    def stored(self) -> list[StoredPlace | None]:
        """Where a base has what became of each of them; None: it is to be prepared."""
        if BASE not in self._batch.schema.names:
            return [None] * len(self._batch)
        pairs = zip(self._batch[BASE].to_pylist(), self._batch[BASE_PLACE].to_pylist(), strict=True)
        return [None if unit is None else StoredPlace(unit, place) for unit, place in pairs]

    @property
    def is_stored(self) -> bool:
        """Whether a base has what became of any of them."""
        return any(place is not None for place in self.stored)


class PlanReader:
    """Reads units of a plan file, which is opened when the first one is read: of a store each takes a request then."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened = contextlib.ExitStack()
        self._reader: Any = None

    def __enter__(self) -> "PlanReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, number: int) -> "UnitInputs":
        """What a unit reads.

        Raises:
          OSError: it cannot be read.
        """
        if self._reader is None:
            file = self._opened.enter_context(_open(self._uri))
            self._reader = self._opened.enter_context(pa.ipc.open_file(file))
        batch, metadata = self._reader.get_batch_with_custom_metadata(number)
        return UnitInputs(_unit_from_json(json.loads(metadata[_UNIT])), batch)

    def close(self) -> None:
        """Closes the file."""
        self._reader = None
        self._opened.close()


def _open(uri: str) -> BinaryIO:
    if files.is_local(uri):
        return files.open_read(uri)
    return cast(BinaryIO, io.BufferedReader(files.open_remote(uri), _READ))


def read_unit(uri: str, number: int) -> tuple[Unit, list[Any]]:
    """One unit of a plan file, and its references or ranges."""
    with PlanReader(uri) as plan:
        inputs = plan.read(number)
        return inputs.unit, inputs.pieces


def _unit_to_json(unit: Unit) -> dict[str, Any]:
    entry = {**asdict(unit), "shards": {split: str(name) for split, name in unit.shards.items()}}
    if unit.base is None:
        del entry[BASE]
    return entry


def _unit_from_json(entry: Mapping[str, Any]) -> Unit:
    return Unit(**{**entry, "shards": {split: ShardName.parse(name) for split, name in entry["shards"].items()}})
