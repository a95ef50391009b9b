"""The files of a split's shards: opened when they are first read, only so many of them open at a time."""

import gzip
import hashlib
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..formats.manifest import Shard
from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE
from ..storage import files
from .block_cache import BlockCache, Demand
from .locks import ProcessLock
from .open_files import OpenFiles

Bytes: TypeAlias = npt.NDArray[np.uint8]
Integers: TypeAlias = npt.NDArray[np.int64]
Bounds: TypeAlias = Sequence[tuple[int, int]]  # where ranges of bytes begin and end
Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 8 << 20  # bytes that are read by one request, unless one record has more
_SHORT = 4096  # bytes that are copied in less time than another call takes
_REQUESTS = 16  # that are on their way at a time, where they take long
_TRIED = 8  # reads of a local file that tell whether it is slow
_FEW_SHARDS = 64  # of which all indexes are read when one is needed
_FITS = 0.9  # of a cache that may be full of one split
_SLOW = 4e-3  # seconds a read: more than 8 MB take from memory, less than a network's disk takes to answer


@dataclass(frozen=True)
class ShardFile:
    """A stored shard.

    Attributes:
      uri: Where it is.
      index_uri: Where the offsets of its records are; None: it is Parquet.
      records: How many it has.
      bytes: Its size.
      sha256: Of its content.
      index_sha256: Of its index.
    """

    uri: str
    index_uri: str | None
    records: int
    bytes: int
    sha256: str
    index_sha256: str = ""

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
            shard.file.sha256,
            shard.index.sha256 if shard.index else "",
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

    def fill_each(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> Iterator[None]:
        """As `fill`, for many offsets; gives None as soon as the arrays of one are filled."""

    def forget(self, start: int, stop: int) -> bool:
        """Removes the bytes between two offsets from a cache, where they may be damaged; whether there is one."""


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
        for part in parts if read < sum(map(len, parts)) else ():
            part[read:] = 0  # whatever was in this memory
            read = max(0, read - part.nbytes)

    def fill_each(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> Iterator[None]:
        return in_time(lambda job: self.fill(*job), jobs)

    def forget(self, start: int, stop: int) -> bool:
        return False


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
        copy_to(memoryview(self._content)[start:], parts)

    def fill_each(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> Iterator[None]:
        for start, parts in jobs:
            self.fill(start, parts)
            yield

    def forget(self, start: int, stop: int) -> bool:
        return False


class RemoteFile:
    """A file in a store, read by ranges, some of which are on their way at a time; from any thread.

    Args:
      uri: Where it is.
      size: Its bytes.

    Attributes:
      size: Its bytes.
    """

    gap = 1 << 18

    def __init__(self, uri: str, size: int) -> None:
        self.size = size
        self._uri = uri

    def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
        framed = self.read(start, stop)
        return framed[HEADER_SIZE:-FOOTER_SIZE], framed[-FOOTER_SIZE:]

    def ranges(self, bounds: Bounds) -> Iterator[bytes]:
        return side_by_side(lambda each: self.read(*each), bounds)

    def fill(self, start: int, parts: Sequence[Bytes]) -> None:
        for _ in self.fill_each([(start, parts)]):
            pass

    def fill_each(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> Iterator[None]:
        bounds = [(start, start + sum(part.nbytes for part in parts)) for start, parts in jobs]
        for content, (_, parts) in zip(self.ranges(bounds), jobs, strict=True):
            copy_to(memoryview(content), parts)
            yield

    def forget(self, start: int = 0, stop: int | None = None) -> bool:
        return False

    def content(self) -> bytes:
        """All of it."""
        return b"".join(self.ranges(split_range(0, self.size)))

    def read(self, start: int, stop: int) -> bytes:
        """The bytes between two offsets, fewer at the end. Errors as for `view`."""
        return bytes(self.view(start, stop))

    def checked(self, start: int, stop: int) -> bytes:
        """As `read`, of bytes that have no checksum: in a cache, a digest of them is beside them."""
        return self.read(start, stop)

    def view(self, start: int, stop: int, demand: Demand | None = None) -> memoryview:
        """As `read`, without a copy of what the store answered.

        Args:
          start: Of the first byte.
          stop: Behind the last.
          demand: Who wants them kept in a cache; None: what was said when it was opened.

        Raises:
          OSError: they cannot be read.
          DatasetError: the file is missing.
        """
        try:
            return files.view_range(self._uri, min(start, self.size), min(stop, self.size))
        except FileNotFoundError as error:
            raise _missing(self._uri) from error


class CachedFile(RemoteFile):
    """A file in a store, of which blocks are kept on a local disk.

    Args:
      uri: Where it is.
      size: Its bytes.
      sha256: Of its content: what its blocks are called.
      cache: Where they are kept.
      keep: Whether blocks are kept of which it is not known when they are needed next.
    """

    def __init__(self, uri: str, size: int, sha256: str, cache: BlockCache, keep: bool) -> None:
        super().__init__(uri, size)
        self._sha256, self._cache = sha256, cache
        self._demand = Demand() if keep else None

    def forget(self, start: int = 0, stop: int | None = None) -> bool:
        for number in self._numbers(start, self.size if stop is None else stop):
            self._cache.drop((self._sha256, number))
        return True

    def checked(self, start: int, stop: int) -> bytes:
        if self._demand is None:
            return bytes(super().view(start, stop))
        name, size = (f"{self._sha256}-{start}-{stop}", 0), hashlib.sha256().digest_size
        expected = self._cache.read(name, size, 0, size)
        if expected and hashlib.sha256(content := self.read(start, stop)).digest() == expected:
            return content
        self._cache.drop(name)
        self.forget(start, stop)
        content = self.read(start, stop)
        digest = hashlib.sha256(content).digest()
        self._cache.fill([name], [size], (0, size), lambda begin, end: digest[begin:end], self._demand)
        return content

    def view(self, start: int, stop: int, demand: Demand | None = None) -> memoryview:
        start, stop, demand = min(start, self.size), min(stop, self.size), demand or self._demand
        if start >= stop:
            return memoryview(b"")
        parts: dict[int, bytes | memoryview | None] = {
            number: self._cached(number, start, stop) for number in self._numbers(start, stop)
        }
        missing = enumerate(number for number, part in parts.items() if part is None)
        runs = [[number for _, number in run] for _, run in groupby(missing, lambda each: each[1] - each[0])]
        fetched = side_by_side(lambda run: self._fetch(run, start, stop, demand), runs)
        for run, content in zip(runs, fetched, strict=True):
            parts |= {run[0]: content, **dict.fromkeys(run[1:], b"")}
        there = [part for part in parts.values() if part]
        return memoryview(there[0] if len(there) == 1 else b"".join(there))

    def _numbers(self, start: int, stop: int) -> range:
        """The blocks that have the bytes between two offsets."""
        return range(start // self._cache.block, -(-stop // self._cache.block))

    def _block_size(self, number: int) -> int:
        return min(self._cache.block, self.size - number * self._cache.block)

    def _cached(self, number: int, start: int, stop: int) -> bytes | None:
        """What a block has of the bytes between two offsets, where it is in the cache."""
        first, size = number * self._cache.block, self._block_size(number)
        return self._cache.read((self._sha256, number), size, max(0, start - first), min(size, stop - first))

    def _fetch(self, numbers: Sequence[int], start: int, stop: int, demand: Demand | None) -> memoryview:
        """What neighbouring blocks have of the bytes between two offsets, from the store."""
        sizes = [self._block_size(number) for number in numbers]
        first = numbers[0] * self._cache.block
        start, stop = max(start, first), min(stop, first + sum(sizes))
        if demand is None:
            return super().view(start, stop)
        names = [(self._sha256, number) for number in numbers]
        request = super().view
        return self._cache.fill(
            names,
            sizes,
            (start - first, stop - first),
            lambda begin, end: request(first + begin, first + end),
            demand,
        )


def remote_file(uri: str, size: int, sha256: str, cache: BlockCache | None, keep: bool) -> RemoteFile:
    """A file in a store, through a cache where there is one; arguments as for `CachedFile`."""
    return RemoteFile(uri, size) if cache is None else CachedFile(uri, size, sha256, cache, keep)


def split_range(start: int, stop: int) -> list[tuple[int, int]]:
    """The bytes between two offsets, as ranges that are read by one request each."""
    return [(first, min(first + MOST, stop)) for first in range(start, stop, MOST)]


def in_time(call: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of some calls in their order; side by side after the first few, if these took long."""
    spent = 0.0  # whoever takes the results may need time of its own between two calls
    for item in items[:_TRIED]:
        begun = time.perf_counter()
        result = call(item)
        spent += time.perf_counter() - begun
        yield result
    rest = items[_TRIED:]
    yield from side_by_side(call, rest) if spent > _TRIED * _SLOW else map(call, rest)


def side_by_side(call: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of some calls in their order, a few of which are under way at a time."""
    if len(items) < 2:
        yield from map(call, items)
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


def copy_to(content: memoryview, parts: Sequence[Bytes]) -> None:
    """Fills uint8 arrays with bytes, one after the other; with zeros where there are no more."""
    for part in parts:
        available = content[: part.nbytes]
        part[: len(available)] = available
        part[len(available) :] = 0
        content = content[part.nbytes :]


class OpenShards:
    """The shards of a split, opened when they are first read.

    Where records begin is kept of every shard that was ever read: 8 bytes a record.

    Args:
      shards: Their files.
      open_files: Keeps them open.
      cache: Where blocks of them are kept, if they are in a store; None: nowhere.
    """

    def __init__(self, shards: Sequence[ShardFile], open_files: OpenFiles, cache: BlockCache | None = None) -> None:
        self._shards = shards
        self._cache = cache
        self._keep = cache is not None and fits(shards, cache)
        self._open_files = open_files
        self._opening = [ProcessLock() for _ in shards]
        self._starts = np.cumsum([0, *(shard.records + 1 for shard in shards)])
        self._all_offsets = np.empty(self._starts[-1], np.int64)  # memory is taken as they are read
        self._offsets: dict[int, memoryview[int]] = {}

    def offsets(self, shard: int) -> "memoryview[int]":
        """Where a shard's records begin, and where the last one ends.

        Raises:
          DatasetError: the shard's index is missing or damaged.
        """
        offsets = self._offsets.get(shard)
        if offsets is None:
            with self._opening[shard]:
                offsets = self._offsets.get(shard)
                if offsets is None:
                    offsets = self._offsets[shard] = self._read_offsets(shard)
        return offsets

    def _read_offsets(self, shard: int) -> "memoryview[int]":
        part = self._all_offsets[self._starts[shard] : self._starts[shard + 1]]
        part[:] = self._open_files.have_room(lambda: _read_offsets(self._shards[shard], self._cache))
        return memoryview(part)  # type: ignore[arg-type]

    def places(self, shards: Integers, numbers: Integers) -> tuple[Integers, Integers, dict[int, Exception]]:
        """Where records begin in their shards, and where they end; reads indexes side by side.

        Args:
          shards: The shards of some records.
          numbers: The records' numbers in them.

        Returns:
          The begins, the ends, and why the indexes of some shards cannot be read; of these they are 0.
        """
        unread = [shard for shard in np.unique(shards).tolist() if shard not in self._offsets]
        if unread and len(self._shards) <= _FEW_SHARDS:  # all at once: soon they are needed, too
            unread = [shard for shard in range(len(self._shards)) if shard not in self._offsets]
        errors: dict[int, Exception] = {}

        def read(shard: int) -> None:
            try:
                self.offsets(shard)
            except (DatasetError, OSError) as error:
                errors[shard] = error

        for _ in side_by_side(read, unread):
            pass
        places = self._starts[shards] + numbers
        begins, ends = self._all_offsets[places], self._all_offsets[places + 1]
        if errors:
            unknown = np.isin(shards, list(errors))
            begins[unknown], ends[unknown] = 0, 0
        return begins, ends, errors

    def source(self, shard: int) -> ShardSource:
        """A shard's content; it stays open as long as the caller refers to it.

        Raises:
          DatasetError: the shard is missing or damaged.
        """
        source: ShardSource | None = self._open_files.find(self._shards[shard].uri)
        return self._open(shard) if source is None else source

    def _open(self, shard: int) -> ShardSource:
        file = self._shards[shard]
        size = self.offsets(shard)[-1]

        def make() -> tuple[ShardSource, int]:
            return _open_shard(file, size, self._cache, self._keep), size if file.compressed else 0

        with self._opening[shard]:
            source: ShardSource | None = self._open_files.find(file.uri)
            return self._open_files.open(file.uri, make) if source is None else source


def fits(shards: Iterable[ShardFile], cache: BlockCache) -> bool:
    """Whether a cache has room for all of some shards."""
    return sum(shard.bytes + 8 * shard.records for shard in shards) < _FITS * cache.limit


def _open_shard(shard: ShardFile, size: int, cache: BlockCache | None, keep: bool) -> ShardSource:
    """A shard's file; decompressed in memory, to so many bytes, if it is compressed."""
    try:
        if files.is_local(shard.uri):
            if not shard.compressed:
                return LocalFile(shard.uri) if shard.bytes else InMemoryFile(b"")
            content = gzip.decompress(files.read_bytes(shard.uri))
        else:
            # processes that share a cache need the same compressed shards, as a whole, about at the same time
            remote = remote_file(shard.uri, shard.bytes, shard.sha256, cache, keep or shard.compressed)
            if not shard.compressed:
                return remote
            content = _read_whole(remote, gzip.decompress)
    except FileNotFoundError as error:
        raise _missing(error.filename or shard.uri) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{shard.uri}: its compression is damaged ({error}); run `penstock verify`") from error
    if len(content) != size:
        raise _other_offsets(shard, len(content))
    return InMemoryFile(content)


def _missing(uri: str) -> DatasetError:
    return DatasetError(f"{uri}: a file of the dataset is missing; run `penstock verify`")


def _read_whole(file: RemoteFile, parse: Callable[[bytes], Result]) -> Result:
    """What a whole file says; where it is damaged, what it says in the store, and not in the cache."""
    try:
        return parse(file.content())
    except (DatasetError, EOFError, gzip.BadGzipFile, zlib.error):
        if not file.forget():
            raise
        return parse(file.content())


def _read_offsets(shard: ShardFile, cache: BlockCache | None) -> Integers:
    """Where the records of a shard begin, and the last one ends."""
    if shard.index_uri is None:
        raise DatasetError(f"{shard.uri}: expected an index of its records, found none; run the recipe again")
    try:
        if cache is None or files.is_local(shard.index_uri):
            return _parse_offsets(shard, files.read_bytes(shard.index_uri))
        index = CachedFile(shard.index_uri, 8 * (shard.records + 1), shard.index_sha256, cache, keep=True)
        return _read_whole(index, lambda content: _parse_offsets(shard, _check_index(shard, content)))
    except FileNotFoundError as error:
        raise _missing(error.filename or shard.index_uri) from error


def _check_index(shard: ShardFile, content: bytes) -> bytes:
    """The index, as it was written: wrong offsets that a cache has would look like damaged records."""
    if hashlib.sha256(content).hexdigest() != shard.index_sha256:
        raise _other_offsets(shard, shard.bytes)
    return content


def _parse_offsets(shard: ShardFile, content: bytes) -> Integers:
    if len(content) != 8 * (shard.records + 1):
        found = f"{len(content) / 8:g}"
        raise DatasetError(
            f"{shard.index_uri}: expected {shard.records + 1} offsets, found {found}; run `penstock verify`"
        )
    offsets = np.frombuffer(content, "<u8")
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1] + np.uint64(HEADER_SIZE + FOOTER_SIZE)).any():
        raise _other_offsets(shard, shard.bytes)
    if not shard.compressed and offsets[-1] != shard.bytes:
        raise _other_offsets(shard, shard.bytes)
    return offsets.astype(np.int64)


def _other_offsets(shard: ShardFile, size: int) -> DatasetError:
    return DatasetError(
        f"{shard.index_uri}: expected the offsets of records in {size} bytes, found others; run `penstock verify`"
    )
