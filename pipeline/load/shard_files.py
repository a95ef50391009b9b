"""The files of a split's shards: opened when they are first read, only so many of them open at a time."""

import gzip
import os
import sys
import time
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..formats.manifest import Shard
from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE
from ..storage import files
from .locks import ProcessLock
from .open_files import OpenFiles

Bytes: TypeAlias = npt.NDArray[np.uint8]
Bounds: TypeAlias = Sequence[tuple[int, int]]  # where ranges of bytes begin and end
Item = TypeVar("Item")
Result = TypeVar("Result")

_SHORT = 4096  # bytes that are copied in less time than another call takes
_REQUESTS = 16  # that are on their way at a time, where they take long
_TRIED = 8  # reads of a local file that tell whether it is slow
_SLOW = 4e-3  # seconds a read: more than 8 MB take from memory, less than a network's disk takes to answer


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


class ShardSource(Protocol):
    """Random access to the bytes of one shard, from any thread. Where the file ends early, there are fewer.

    Attributes:
      gap: Bytes that are read in less time than another read takes to begin.
    """

    gap: int

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        """The record between two offsets, and its footer."""

    def ranges(self, bounds: Bounds) -> Iterator[bytes]:
        """The bytes of some ranges, in their order."""

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        """Fills uint8 arrays with the bytes from an offset on, one after the other; with zeros where the file ends."""

    def fill_all(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> None:
        """As `fill`, for many offsets."""


class LocalFile:
    """A local file. Reading releases the GIL: threads wait for a disk, and copy from the page cache, side by side.

    Where reads take long, as on a network's disk, some are on their way at a time.
    It is closed when the last thread that reads it lets it go.
    """

    gap = 1 << 16

    def __init__(self, path: str) -> None:
        self._descriptor = files.open_descriptor(path)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be gone when the process ends
        if hasattr(self, "_descriptor"):
            close(self._descriptor)

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        end = stop - FOOTER_SIZE
        if stop - start < _SHORT:  # one call for both
            framed = os.pread(self._descriptor, max(0, stop - start - HEADER_SIZE), start + HEADER_SIZE)
            return framed[:-FOOTER_SIZE], framed[-FOOTER_SIZE:]
        record = os.pread(self._descriptor, max(0, end - start - HEADER_SIZE), start + HEADER_SIZE)
        return record, os.pread(self._descriptor, FOOTER_SIZE, end)

    def ranges(self, bounds: Bounds) -> Iterator[bytes]:
        return in_time(lambda each: os.pread(self._descriptor, each[1] - each[0], each[0]), bounds)

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        read = os.preadv(self._descriptor, parts, start)  # type: ignore[arg-type]
        for part in parts if read < sum(part.nbytes for part in parts) else ():
            part[read:] = 0  # whatever was in this memory
            read = max(0, read - part.nbytes)

    def fill_all(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> None:
        for _ in in_time(lambda job: self.fill(*job), jobs):
            pass


class InMemoryFile:
    """A file that is in memory as a whole."""

    gap = 0

    def __init__(self, content: bytes) -> None:
        self._content = content

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        return self._content[start + HEADER_SIZE : stop - FOOTER_SIZE], self._content[stop - FOOTER_SIZE : stop]

    def ranges(self, bounds: Bounds) -> Iterator[bytes]:
        return (self._content[start:stop] for start, stop in bounds)

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        _copy(memoryview(self._content)[start:], parts)

    def fill_all(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> None:
        for start, parts in jobs:
            self.fill(start, parts)


class RemoteFile:
    """An object in a store: a range is one request, some of which are on their way at a time."""

    gap = 1 << 19

    def __init__(self, uri: str) -> None:
        self._file = files.open_remote(uri)

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        framed: bytes = self._read((start, stop))
        return framed[HEADER_SIZE:-FOOTER_SIZE], framed[-FOOTER_SIZE:]

    def ranges(self, bounds: Bounds) -> Iterator[bytes]:
        return side_by_side(self._read, bounds)

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        self.fill_all([(start, parts)])

    def fill_all(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> None:
        bounds = [(start, start + sum(part.nbytes for part in parts)) for start, parts in jobs]
        for content, (_, parts) in zip(self.ranges(bounds), jobs, strict=True):
            _copy(memoryview(content), parts)

    def _read(self, bounds: tuple[int, int]) -> bytes:
        start, stop = bounds
        content: bytes = self._file.read_at(stop - start, start)
        return content


def in_time(call: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of some calls in their order; side by side after the first few, if these took long."""
    begun = time.perf_counter()
    for place, item in enumerate(items):
        if place == _TRIED and time.perf_counter() - begun > _TRIED * _SLOW:
            yield from side_by_side(call, items[place:])
            return
        yield call(item)


def side_by_side(call: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of some calls in their order, a few of which are under way at a time."""
    if len(items) == 1:
        yield call(items[0])
        return
    with ThreadPoolExecutor(max(1, min(_REQUESTS, len(items))), "penstock-read") as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(call, item))
                if len(begun) > _REQUESTS:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def _copy(content: memoryview, parts: Sequence[Bytes]) -> None:
    for part in parts:
        available = content[: part.nbytes]
        part[: len(available)] = available
        part[len(available) :] = 0
        content = content[part.nbytes :]


class OpenShards:
    """The shards of a split, opened when they are first read.

    Where records begin is kept of every shard that was ever open: 8 bytes a record.

    Args:
      shards: Their files.
      open_files: Keeps them open.
    """

    def __init__(self, shards: Sequence[ShardFile], open_files: OpenFiles) -> None:
        self._shards = shards
        self._open_files = open_files
        self._opening = [ProcessLock() for _ in shards]
        self._offsets: dict[int, array[int]] = {}

    def offsets(self, shard: int) -> "array[int]":
        """Where a shard's records begin, and where the last one ends.

        Raises:
          DatasetError: the shard or its index is missing or damaged.
        """
        offsets = self._offsets.get(shard)
        if offsets is None:
            self._open(shard)
            offsets = self._offsets[shard]
        return offsets

    def source(self, shard: int) -> ShardSource:
        """A shard's content; it stays open as long as the caller refers to it. Errors as for `offsets`."""
        source: ShardSource | None = self._open_files.find(self._shards[shard].uri)
        return self._open(shard) if source is None or shard not in self._offsets else source

    def _open(self, shard: int) -> ShardSource:
        file = self._shards[shard]

        def make() -> tuple[ShardSource, int]:
            source, self._offsets[shard] = _open_shard(file, self._offsets.get(shard))
            return source, self._offsets[shard][-1] if file.compressed else 0

        with self._opening[shard]:
            source: ShardSource | None = self._open_files.find(file.uri)
            if source is None or shard not in self._offsets:
                source = self._open_files.open(file.uri, make)
            return source


def _open_shard(shard: ShardFile, known: "array[int] | None") -> tuple[ShardSource, "array[int]"]:
    """A shard's file, decompressed in memory if it is compressed, and where its records begin and the last one ends."""
    try:
        offsets = _read_offsets(shard) if known is None else known
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


def _read_offsets(shard: ShardFile) -> "array[int]":
    if shard.index_uri is None:
        raise DatasetError(f"{shard.uri}: expected an index of its records, found none; run the recipe again")
    offsets = array("Q", files.read_bytes(shard.index_uri))
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets


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
