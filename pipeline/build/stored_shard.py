"""Reads the records of a shard that a base has stored, checked, without an object for each."""

import contextlib
import gzip
import hashlib
import io
import itertools
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..formats.manifest import Shard
from ..formats.tfrecord_columns import first_damaged
from ..storage import files
from .base import BaseGeneration


class StoredShard:
    """A TFRecord shard of a base, read where it is asked for."""

    def __init__(self, base: BaseGeneration, shard: Shard) -> None:
        """Reads nothing."""
        self._base = base
        self._shard = shard
        self._opened = contextlib.ExitStack()
        self._uri = files.join(base.root, shard.path)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each record begins in the uncompressed shard, and where the last one ends: int64 [records + 1].

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        assert self._shard.index is not None
        offsets = np.frombuffer(self._base.read(self._shard.index), "<u8").astype(np.int64)
        if len(offsets) != self._shard.examples + 1:
            raise self._base.damaged(
                f"{self._uri}: expected an index of {self._shard.examples} records, found one of {len(offsets) - 1}"
            )
        return offsets

    def frames(self, rows: Sequence[int]) -> pa.LargeBinaryArray:
        """The framed records of some rows, one at least; those that lie together are read at once.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        bounds = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        runs = [self.read(rows[begin], rows[end - 1] + 1) for begin, end in itertools.pairwise(bounds)]
        return pa.concat_arrays(
            pa.Array.from_buffers(
                pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(content)]
            )
            for content, offsets in runs
        )

    def stream(self, size: int) -> Iterator[pa.LargeBinaryArray]:
        """The framed records of all rows, in order; that they are what was written is known after the last ones.

        Args:
          size: About how many bytes at a time.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        begin, count = 0, self._shard.examples
        try:
            with files.open_read(self._uri) as file:
                hashed = _HashedReader(file)
                source = gzip.GzipFile(fileobj=hashed) if self._uri.endswith(".gz") else hashed
                while begin < count:
                    end = int(np.searchsorted(self.offsets, self.offsets[begin] + size, "right")) - 1
                    end = min(max(end, begin + 1), count)
                    offsets = self.offsets[begin : end + 1] - self.offsets[begin]
                    content = source.read(int(offsets[-1]))
                    if len(content) < offsets[-1]:
                        raise EOFError(f"record {end - 1} is not whole")
                    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(content)]
                    yield pa.Array.from_buffers(pa.large_binary(), end - begin, buffers)
                    begin = end
                while source.read(1 << 20):
                    pass
        except (FileNotFoundError, files.SizeMismatch) as error:
            raise self._base.gone(error) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._base.damaged(f"{self._uri}: damaged or truncated: {error}") from error
        expected, found = self._shard.file.sha256, hashed.sha256.hexdigest()
        if found != expected:
            raise self._base.damaged(f"{self._uri}: damaged: expected SHA-256 {expected}, found {found}")

    def read(self, begin: int, end: int) -> tuple[bytes, npt.NDArray[np.int64]]:
        """The framed records of the rows from one to before another, and where each begins in these bytes.

        Returns:
          The bytes; and int64 [rows + 1], the last of which is where the last one ends.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        first, last = int(self.offsets[begin]), int(self.offsets[end])
        try:
            content = self._read_range(first, last)
        except (FileNotFoundError, files.SizeMismatch) as error:
            raise self._base.gone(error) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._base.damaged(f"{self._uri}: damaged or truncated: {error}") from error
        offsets = self.offsets[begin : end + 1] - first
        if (row := first_damaged(content, offsets)) is not None:
            raise self._base.damaged(f"{self._uri}: record {begin + row} is damaged or truncated")
        return content, offsets

    def close(self) -> None:
        """Gives up what a compressed shard takes on the disk."""
        self._opened.close()

    def _read_range(self, begin: int, end: int) -> bytes:
        if not self._uri.endswith(".gz"):
            return files.read_range(self._uri, begin, end)
        self._uncompressed.seek(begin)
        return self._uncompressed.read(end - begin)

    @cached_property
    def _uncompressed(self) -> IO[bytes]:
        """All of a compressed shard, in a temporary file."""
        content = self._opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # until `close`
        with files.open_read(self._uri) as compressed, gzip.GzipFile(fileobj=compressed) as source:
            shutil.copyfileobj(source, content, 1 << 20)
        return content


class _HashedReader(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(size)
        self.sha256.update(content)
        return content
