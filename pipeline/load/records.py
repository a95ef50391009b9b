"""The stored records of a split: random access to the shards, wherever they are, with checksums."""

import gzip
import os
import sys
import zlib
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..formats.manifest import Shard
from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE, mask_crc
from ..storage import files
from .locks import ProcessLock

Bytes: TypeAlias = npt.NDArray[np.uint8]

_SHORT = 4096  # bytes that are copied in less time than another call takes
KEPT_BYTES = 1 << 30  # of compressed shards, decompressed


@dataclass(frozen=True)
class ShardFile:
    """A stored shard: the URIs of its data and, but for Parquet, of its record offsets, its records and its bytes."""

    uri: str
    index_uri: str | None
    records: int
    bytes: int

    @property
    def compressed(self) -> bool:
        """Whether it must be decompressed as a whole to read one record."""
        return self.uri.endswith(".gz")


class ShardSource(Protocol):
    """Random access to the framed records of one shard, from any thread."""

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        """The record between two offsets, and its footer."""

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        """Fills uint8 arrays with the bytes from an offset on, one after the other, as far as there are any."""


class LocalFile:
    """A local file. Reading releases the GIL: threads wait for a disk, and copy from the page cache, side by side."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        end = stop - FOOTER_SIZE
        if stop - start < _SHORT:  # one call for both
            framed = os.pread(self._descriptor, max(0, stop - start - HEADER_SIZE), start + HEADER_SIZE)
            return framed[:-FOOTER_SIZE], framed[-FOOTER_SIZE:]
        record = os.pread(self._descriptor, max(0, end - start - HEADER_SIZE), start + HEADER_SIZE)
        return record, os.pread(self._descriptor, FOOTER_SIZE, end)

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        os.preadv(self._descriptor, parts, start)  # type: ignore[arg-type]


class InMemoryFile:
    """A file that is in memory as a whole."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        return self._content[start + HEADER_SIZE : stop - FOOTER_SIZE], self._content[stop - FOOTER_SIZE : stop]

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        _copy(memoryview(self._content)[start:], parts)


class RemoteFile:
    """An object in a store: a record is one ranged request. Arrow's files take reads from any thread."""

    def __init__(self, uri: str) -> None:
        self._file = files.open_remote(uri)

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        framed: bytes = self._file.read_at(stop - start, start)
        return framed[HEADER_SIZE:-FOOTER_SIZE], framed[-FOOTER_SIZE:]

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        _copy(memoryview(self._file.read_at(sum(part.nbytes for part in parts), start)), parts)


def _copy(content: memoryview, parts: Sequence[Bytes]) -> None:
    for part in parts:
        available = content[: part.nbytes]
        part[: len(available)] = available
        content = content[part.nbytes :]


class ShardRecords:
    """The records of a split, by their number in the order of storage. Shards are opened when they are first read.

    It pickles: another process opens the files again.
    """

    def __init__(self, shards: Sequence[ShardFile]) -> None:
        self.shards = tuple(shards)
        self._starts = list(accumulate((shard.records for shard in shards), initial=0))
        self._reset()

    def _reset(self) -> None:
        self._lock = ProcessLock()
        self._opening = [ProcessLock() for _ in self.shards]
        self._open: OrderedDict[int, tuple[ShardSource, array[int]]] = OrderedDict()

    def __getstate__(self) -> tuple[ShardFile, ...]:
        return self.shards

    def __setstate__(self, shards: tuple[ShardFile, ...]) -> None:
        self.__init__(shards)  # type: ignore[misc]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Records in each shard."""
        return tuple(shard.records for shard in self.shards)

    def locate(self, number: int) -> tuple[ShardFile, int]:
        """The shard that a record is in, and its number there."""
        shard = bisect_right(self._starts, number) - 1
        return self.shards[shard], number - self._starts[shard]

    def __getitem__(self, number: int) -> bytes:
        """A record's bytes, checked.

        Args:
          number: From 0 to len - 1.

        Raises:
          DatasetError: the record is damaged.
        """
        source, start, stop = self._find(number)
        record, footer = source.frame(start, stop)
        self._check(number, google_crc32c.value(record), footer)
        return record

    def size(self, number: int) -> int:
        """A record's bytes, without its frame."""
        _, start, stop = self._find(number)
        return stop - start - HEADER_SIZE - FOOTER_SIZE

    def read_into(self, number: int, parts: Sequence[Bytes]) -> None:
        """Reads a record and its footer, not checked, into uint8 arrays, one after the other.

        Args:
          number: From 0 to len - 1.
          parts: Contiguous, together of the record's size and FOOTER_SIZE.
        """
        source, start, _ = self._find(number)
        source.fill(start + HEADER_SIZE, parts)

    def check(self, number: int, parts: Sequence[Bytes]) -> None:
        """Checks what `read_into` read.

        Raises:
          DatasetError: the record is damaged.
        """
        crc = 0
        for part in parts[:-1]:
            crc = google_crc32c.extend(crc, part)
        last = parts[-1]
        self._check(number, google_crc32c.extend(crc, last[:-FOOTER_SIZE]), last[-FOOTER_SIZE:].tobytes())

    @contextmanager
    def named(self, number: int) -> Iterator[None]:
        """Turns the ValueError of decoding a record into a DatasetError that says which record it is."""
        try:
            yield
        except ValueError as error:
            shard, inside = self.locate(number)
            raise DatasetError(f"{shard.uri}: record {inside}: {error}; run `penstock verify`") from error

    def _find(self, number: int) -> tuple[ShardSource, int, int]:
        shard = bisect_right(self._starts, number) - 1
        inside = number - self._starts[shard]
        source, offsets = self._opened(shard)
        return source, offsets[inside], offsets[inside + 1]

    def _check(self, number: int, crc: int, footer: bytes) -> None:
        # The length before the record is not read: a wrong offset shows in the checksum, too.
        if mask_crc(crc) != int.from_bytes(footer, "little"):
            shard, inside = self.locate(number)
            raise DatasetError(f"{shard.uri}: record {inside} is damaged or truncated; run `penstock verify`")

    def _opened(self, shard: int) -> tuple[ShardSource, "array[int]"]:
        opened = self._open.get(shard)
        if opened is not None:
            return opened
        with self._opening[shard]:
            opened = self._open.get(shard)
            if opened is None:
                opened = _open_shard(self.shards[shard])
                with self._lock:
                    self._open[shard] = opened
                    self._forget()
        return opened

    def _forget(self) -> None:
        """Drops the decompressed shards that were opened longest ago, beyond what may be kept."""
        decompressed = [shard for shard in self._open if self.shards[shard].compressed]
        total = sum(self._open[shard][1][-1] for shard in decompressed)
        for shard in decompressed[:-1]:
            if total <= KEPT_BYTES:
                return
            total -= self._open.pop(shard)[1][-1]


def _open_shard(shard: ShardFile) -> tuple[ShardSource, "array[int]"]:
    """A shard's file, decompressed in memory if it is compressed, and where its records begin and the last one ends."""
    try:
        if shard.index_uri is None:
            raise DatasetError(f"{shard.uri}: expected an index of its records, found none; run the recipe again")
        offsets = array("Q", files.read_bytes(shard.index_uri))
        if sys.byteorder == "big":
            offsets.byteswap()
        content = gzip.decompress(files.read_bytes(shard.uri)) if shard.compressed else None
        _check_offsets(shard, offsets, shard.bytes if content is None else len(content))
        if content is not None:
            return InMemoryFile(content), offsets
        if not shard.bytes:
            return InMemoryFile(b""), offsets
        return LocalFile(shard.uri) if files.is_local(shard.uri) else RemoteFile(shard.uri), offsets
    except FileNotFoundError as error:
        raise DatasetError(
            f"{error.filename or shard.uri}: a file of the dataset is missing; run `penstock verify`"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{shard.uri}: its compression is damaged ({error}); run `penstock verify`") from error


def _check_offsets(shard: ShardFile, offsets: "array[int]", size: int) -> None:
    if len(offsets) != shard.records + 1:
        raise DatasetError(
            f"{shard.index_uri}: expected {shard.records + 1} offsets, found {len(offsets)}; run `penstock verify`"
        )
    bounds = np.frombuffer(offsets, np.uint64)
    if bounds[0] != 0 or bounds[-1] != size or (bounds[1:] < bounds[:-1] + np.uint64(HEADER_SIZE + FOOTER_SIZE)).any():
        raise DatasetError(
            f"{shard.index_uri}: expected the offsets of records in {size} bytes, found others; run `penstock verify`"
        )


def shard_files(dataset: str, shards: Iterable[Shard]) -> list[ShardFile]:
    """The shards of a split, by their URIs.

    Args:
      dataset: The dataset's URI.
      shards: As the manifest lists them.
    """
    return [
        ShardFile(
            files.join(dataset, shard.path),
            files.join(dataset, shard.index.path) if shard.index else None,
            shard.examples,
            shard.file.bytes,
        )
        for shard in shards
    ]
