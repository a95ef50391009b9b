"""Records that wait to be put in order: in memory, and in a temporary file where they are many."""

import os
import tempfile
from array import array
from collections.abc import Sequence
from typing import IO

MOST = (
    256 << 20
)  # bytes in memory: a unit of some 64 MiB of rows never needs a file; one of a large compressed file does


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
        self._file.write(b"".join(self._records))
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
