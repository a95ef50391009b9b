"""The right side of a join of tables: found by key, in memory where it is small, else in a file that is mapped.

The file is Arrow's, sorted by a hash of the key. It is made in bounded memory: rows are shared out to parts by their
hashes' first bits, then each part is sorted alone and becomes one record batch. A look at a key touches a few pages.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from ..storage import files
from .table_schema import ColumnRules

IN_MEMORY = 64 << 20  # bytes of a table's files, up to which it is held in memory
_PART_BYTES = 32 << 20  # of a table's files, in one part
_MOST_PARTS = 512
_WAITING = 128 << 20  # bytes of rows that wait to be shared out to parts
_HASH, _KEY, _ROW = "hash", "key", "row"
_BLOCK = 8 << 20


@dataclass(frozen=True)
class TableNotes:
    """How a joined table was read.

    Attributes:
      rules: How its columns, without the key, are read.
      reasons: Why these are of their types.
      warnings: What the user should know of it.
    """

    rules: Mapping[str, ColumnRules] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


class JoinedTable(Protocol):
    """A table that is looked up by key.

    Attributes:
      notes: How it was read; empty in a worker, which only looks keys up.
    """

    notes: TableNotes

    @property
    def schema(self) -> pa.Schema:
        """Its columns, without the key."""

    @property
    def count(self) -> int:
        """How many rows it has, those without a key included."""

    def find(self, names: pa.StringArray) -> pa.Int64Array:
        """The place of each key's row; missing where there is none."""

    def take(self, places: pa.Int64Array) -> list[pa.Array]:
        """The columns of rows by their places; missing values where a place is missing."""

    def keys(self) -> Iterator[str]:
        """Its keys."""


class MemoryTable:
    """A table in memory."""

    def __init__(self, columns: pa.Table, rows: Mapping[str, int]) -> None:
        """Takes it.

        Args:
          columns: Its columns, without the key.
          rows: Key, as a string, to row. Rows without a key are in none of it: nothing matches them.
        """
        self.notes = TableNotes()
        self._columns, self._rows = columns, rows

    @property
    def schema(self) -> pa.Schema:
        """Its columns, without the key."""
        return self._columns.schema

    @property
    def count(self) -> int:
        """How many rows it has, those without a key included."""
        return int(self._columns.num_rows)

    def find(self, names: pa.StringArray) -> pa.Int64Array:
        """The place of each key's row; missing where there is none."""
        return pa.array([self._rows.get(name) for name in names.to_pylist()], pa.int64())

    def take(self, places: pa.Int64Array) -> list[pa.Array]:
        """The columns of rows by their places; missing values where a place is missing."""
        return [column.take(places).combine_chunks() for column in self._columns.columns]

    def keys(self) -> Iterator[str]:
        """Its keys, in the order of its rows."""
        return iter(self._rows)


class DiskTable:
    """A table in a file, which is mapped: what is looked at is in memory as long as there is room for it."""

    def __init__(self, path: str) -> None:
        """Opens a local file, as `write_sorted` writes it."""
        self.path = path
        self.notes = TableNotes()
        reader = pa.ipc.open_file(pa.memory_map(path))
        self.schema = pa.schema([each for each in reader.schema if each.name not in (_HASH, _KEY)]).remove_metadata()
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *map(len, self._batches)])
        self._firsts = np.array([batch[_HASH][0].as_py() for batch in self._batches], np.uint64)
        self._shown = json.loads(reader.schema.metadata[b"shown"])
        self.count = int(reader.schema.metadata[b"rows"])

    def find(self, names: pa.StringArray) -> pa.Int64Array:
        """The place of each key's row; missing where there is none."""
        places = np.full(len(names), -1, np.int64)
        given = np.flatnonzero(np.asarray(names.is_valid()))
        hashes = hash_keys(names.take(pa.array(given)))
        numbers = np.searchsorted(self._firsts, hashes, "right") - 1
        for number in np.unique(numbers[numbers >= 0]).tolist():
            chosen = np.flatnonzero(numbers == number)
            batch = self._batches[number]
            known, asked = batch[_HASH].to_numpy(), hashes[chosen]
            rows = np.searchsorted(known, asked)
            while len(chosen):  # once, but for different keys of one hash
                inside = rows < len(known)
                inside[inside] = known[rows[inside]] == asked[inside]
                chosen, asked, rows = chosen[inside], asked[inside], rows[inside]
                here = names.take(pa.array(given[chosen]))
                same = np.asarray(pc.equal(batch[_KEY].take(pa.array(rows)), here), bool)
                places[given[chosen[same]]] = self._starts[number] + rows[same]
                chosen, asked, rows = chosen[~same], asked[~same], rows[~same] + 1
        return pa.array(places, mask=places < 0)

    def take(self, places: pa.Int64Array) -> list[pa.Array]:
        """The columns of rows by their places; missing values where a place is missing."""
        given = np.asarray(places.drop_null(), np.int64)
        order = np.argsort(given, kind="stable")
        ordered = given[order]
        numbers = np.searchsorted(self._starts, ordered, "right") - 1
        bounds = np.searchsorted(numbers, np.arange(len(self._batches) + 1))
        parts = [
            batch.select(self.schema.names).take(pa.array(ordered[begin:end] - start))
            for batch, start, (begin, end) in zip(self._batches, self._starts, pairwise(bounds.tolist()), strict=False)
            if begin < end
        ]
        table = pa.Table.from_batches(parts, self.schema)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        rows = np.zeros(len(places), np.int64)
        valid = np.asarray(places.is_valid())
        rows[valid] = back
        chosen = pa.array(rows, mask=~valid)
        return [
            pa.concat_arrays(column.chunks).take(chosen) if parts else pa.nulls(len(places), column.type)
            for column in table.columns
        ]

    def keys(self) -> Iterator[str]:
        """Its keys: the first ones of its files, then in the order of their hashes."""
        yield from self._shown
        for batch in self._batches:
            yield from (name for name in batch[_KEY].to_pylist() if name not in self._shown)


def hash_keys(names: pa.StringArray) -> np.ndarray:
    """A 64-bit hash of each key, the same everywhere: uint64 [keys]."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names.to_pylist())
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def in_memory(batches: Iterable[pa.RecordBatch], schema: pa.Schema, key: str) -> tuple[pa.Table, dict[str, int]]:
    """A table's columns without the key, and each key's row.

    Raises:
      RequestError: a key stands there twice.
    """
    table = pa.Table.from_batches(batches, schema)
    names = table[key].cast(pa.string()).to_pylist()
    rows = {name: row for row, name in enumerate(names) if name is not None}
    if len(rows) < len(names) - names.count(None):
        counts = Counter(names)
        name = next(name for name in rows if counts[name] > 1)
        raise _twice(name, counts[name], key)
    return table.drop_columns([key]).combine_chunks(), rows


def write_sorted(batches: Iterable[pa.RecordBatch], schema: pa.Schema, key: str, size: int, path: str) -> None:
    """Writes a table's rows that have a key, sorted by its hash.

    Args:
      batches: The rows.
      schema: Their columns.
      key: The column of keys.
      size: About the bytes of the table's files.
      path: The local file to write.

    Raises:
      RequestError: a key stands there twice.
    """
    bits = max(0, min(_MOST_PARTS, -(-size // _PART_BYTES)) - 1).bit_length()
    names = [name for name in schema.names if name != key]
    columns = [(_HASH, pa.uint64()), (_KEY, pa.string()), *((name, schema.field(name).type) for name in names)]
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        parts = _Parts(folder, bits, pa.schema([*columns, (_ROW, pa.int64())]))
        count = 0
        for batch in batches:
            keys = batch.column(key).cast(pa.string())
            rows = pa.array(np.arange(count, count + len(batch)))
            count += len(batch)
            values = [keys, *(batch.column(name) for name in names), rows]
            given = pa.record_batch(values, names=[_KEY, *names, _ROW]).filter(keys.is_valid())
            parts.add(given.add_column(0, _HASH, pa.array(hash_keys(given[_KEY]))))
        parts.flush()
        metadata = {"shown": json.dumps(parts.shown), "rows": str(count)}
        twice: list[tuple[int, str, int]] = []
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, pa.schema(columns).with_metadata(metadata)) as writer:
            for part in parts.sorted():
                twice += _repeated(part)
                writer.write_batch(part.drop_columns([_ROW]))
    if twice:
        _, name, times = min(twice)
        raise _twice(name, times, key)


class _Parts:
    """Takes rows with the hashes of their keys, and gives them by hash, a part at a time."""

    def __init__(self, folder: str, bits: int, schema: pa.Schema) -> None:
        self._bits, self._schema = bits, schema
        self._paths = [os.path.join(folder, str(number)) for number in range(1 << bits)]
        self._stack = contextlib.ExitStack()
        self._writers = [
            self._stack.enter_context(pa.ipc.new_stream(self._stack.enter_context(pa.OSFile(path, "wb")), schema))
            for path in self._paths
        ]
        self._waiting: list[pa.RecordBatch] = []
        self._size = 0
        self.shown: list[str] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes rows."""
        if len(self.shown) < 2:
            self.shown += batch[_KEY][: 2 - len(self.shown)].to_pylist()
        self._waiting.append(batch)
        self._size += batch.nbytes
        if self._size > _WAITING:
            self._share_out()

    def flush(self) -> None:
        """Takes no more rows."""
        self._share_out()
        self._stack.close()

    def _share_out(self) -> None:
        """Writes the rows that wait to their parts."""
        for batch in pa.Table.from_batches(self._waiting, self._schema).combine_chunks().to_batches():
            parts = batch[_HASH].to_numpy() >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(batch), int)
            order = np.argsort(parts, kind="stable")
            ordered = batch.take(pa.array(order))
            bounds = np.searchsorted(parts[order], np.arange(len(self._writers) + 1))
            for writer, (begin, end) in zip(self._writers, pairwise(bounds.tolist()), strict=True):
                if begin < end:
                    writer.write_batch(ordered.slice(begin, end - begin))
        self._waiting, self._size = [], 0

    def sorted(self) -> Iterator[pa.RecordBatch]:
        """The rows of each part that has any, by their hashes."""
        for path in self._paths:
            with pa.ipc.open_stream(pa.memory_map(path)) as reader:
                table = reader.read_all().combine_chunks()
            os.unlink(path)
            if len(table):
                order = np.argsort(table[_HASH].to_numpy(), kind="stable")
                yield table.take(pa.array(order)).combine_chunks().to_batches()[0]


def _repeated(part: pa.RecordBatch) -> list[tuple[int, str, int]]:
    """The key of sorted rows that stands there several times and is met first: its first row, the key, how often."""
    hashes = part[_HASH].to_numpy()
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    rows = pa.array(np.union1d(same, same + 1))
    counted = pa.table({_KEY: part[_KEY].take(rows), _ROW: part[_ROW].take(rows)}).group_by(_KEY)
    repeated = [
        (entry[f"{_ROW}_min"], entry[_KEY], entry[f"{_ROW}_count"])
        for entry in counted.aggregate([(_ROW, "min"), (_ROW, "count")]).to_pylist()
        if entry[f"{_ROW}_count"] > 1
    ]
    return [min(repeated)] if repeated else []


def _twice(name: str, times: int, key: str) -> RequestError:
    return RequestError(
        f"join: expected every key to stand once in the joined table, found {name!r} {times} times in its column "
        f"{key!r}; remove the other rows"
    )


def copy(source: str, target: str) -> None:
    """Copies a file, from a store or to one.

    Raises:
      OSError: it cannot be read or written.
    """
    with files.open_read(source) as file, files.create(target) as copied:
        shutil.copyfileobj(file, copied, _BLOCK)
