"""Rows that wait to be put in order: in memory, and in a temporary file where they are many."""

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa

# bytes in memory: a unit of some 64 MiB of rows never needs a file; one of a large compressed file does
MOST = 256 << 20


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
    """The rows of a table in an order, so many at a time; only these are copied.

    Args:
      table: In batches.
      order: int64 [rows].
      count: Rows at a time.
    """
    batches = [batch for batch in table.to_batches() if len(batch)]
    begins = np.cumsum([0, *map(len, batches)])
    for begin in range(0, len(order), count):
        rows = order[begin : begin + count]
        sources = np.searchsorted(begins, rows, "right") - 1
        by_source = np.argsort(sources, kind="stable")
        parts = []
        for source in np.unique(sources).tolist():
            chosen = rows[by_source][sources[by_source] == source] - begins[source]
            parts.append(batches[source].take(pa.array(chosen)))
        taken = pa.Table.from_batches(parts, table.schema).combine_chunks()
        yield taken.take(pa.array(np.argsort(by_source, kind="stable")))
