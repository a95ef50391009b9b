"""Rows that wait to be put in order: in memory, and in a temporary file where they are many."""

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
import pyarrow as pa

from ..prepare.threads import ordered_map

# bytes in memory: a unit of some 64 MiB of rows never needs a file; one of a large compressed file does
MOST = 256 << 20
_TAKERS = 2  # threads that put rows in order while others are written


class RecordBuffer:
    """Takes records, and gives them by number."""

    def __init__(self, most: int = MOST) -> None:
        """Is empty.

        Args:
          most: The bytes that may wait in memory.
        """
        self._most = most
        self._size = 0
        self._records: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._ends = array("Q", [0])  # of the records in the file, after where the first one begins

    def extend(self, records: Sequence[bytes]) -> None:
        """Takes records."""
        self._records.extend(records)
        self._size += sum(map(len, records))
        if self._size > self._most:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # until `close`
        self._file.writelines(self._records)
        self._file.flush()
        end = self._ends[-1]
        for record in self._records:
            end += len(record)
            self._ends.append(end)
        self._records, self._size = [], 0

    def __len__(self) -> int:
        return len(self._ends) - 1 + len(self._records)

    def __getitem__(self, number: int) -> bytes:
        spilled = len(self._ends) - 1
        if number >= spilled:
            return self._records[number - spilled]
        assert self._file is not None
        begin, end = self._ends[number], self._ends[number + 1]
        return os.pread(self._file.fileno(), end - begin, begin)

    def close(self) -> None:
        """Gives memory and file back."""
        self._records = []
        if self._file:
            self._file.close()


class BatchBuffer:
    """Takes batches of rows, and gives the rows in any order."""

    def __init__(self, schema: pa.Schema, most: int = MOST) -> None:
        """Is empty.

        Args:
          schema: The batches'.
          most: The bytes that may wait in memory.
        """
        self._schema = schema
        self._most = most
        self._size = 0
        self._batches: list[pa.RecordBatch] = []
        self._file: Any = None
        self._writer: Any = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Takes rows."""
        self._batches.append(batch)
        self._size += batch.nbytes
        if self._size > self._most:
            if self._file is None:
                self._file = tempfile.NamedTemporaryFile(suffix=".arrow")  # noqa: SIM115  # until `close`
                self._writer = pa.ipc.new_file(self._file, self._schema)
            for waiting in self._batches:
                self._writer.write_batch(waiting)
            self._batches, self._size = [], 0

    def table(self) -> pa.Table:
        """All rows, in the order in which they came; those in the file are mapped, and read where they are used."""
        batches = self._batches
        if self._file is not None:
            self._writer.close()
            self._file.flush()
            mapped = pa.ipc.open_file(pa.memory_map(self._file.name))
            batches = [*(mapped.get_batch(number) for number in range(mapped.num_record_batches)), *batches]
        return pa.Table.from_batches(batches, self._schema)

    def close(self) -> None:
        """Gives memory and file back."""
        self._batches = []
        if self._file is not None:
            self._file.close()


def take_parts(table: pa.Table, order: np.ndarray, count: int) -> Iterator[pa.Table]:
    """The rows of a table in an order, so many at a time; only these are copied, ahead of whoever takes them.

    Args:
      table: In batches.
      order: int64 [rows].
      count: Rows at a time.
    """
    batches = [batch for batch in table.to_batches() if len(batch)]
    begins = np.cumsum([0, *map(len, batches)])

    def take(rows: np.ndarray) -> pa.Table:
        sources = np.searchsorted(begins, rows, "right") - 1
        by_source = np.argsort(sources, kind="stable")
        ordered = rows[by_source]
        bounds = np.searchsorted(sources[by_source], np.arange(len(begins)))
        parts = [
            batches[source].take(pa.array(ordered[bounds[source] : bounds[source + 1]] - begins[source]))
            for source in np.unique(sources).tolist()
        ]
        return pa.Table.from_batches(parts, table.schema).combine_chunks().take(pa.array(np.argsort(by_source)))

    with ThreadPoolExecutor(_TAKERS, "take") as pool:
        yield from ordered_map(
            pool, take, (order[begin : begin + count] for begin in range(0, len(order), count)), _TAKERS + 1
        )
