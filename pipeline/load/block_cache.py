"""A cache of remote files' blocks on a local disk: of bounded size, shared by all processes that name its folder.

A block is a file of its own, named by the SHA-256 of the file that it is a part of, so that it can belong to no other.
Its space is reserved before a byte of it is written, in a count that processes change one after the other: the files
together never take more than the cache may. Locks of the kernel (flock) say who fetches a block and who reads it; they
go when a process does, so that one which is killed leaves nothing but a file that the next one removes.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from ..errors import RequestError

BLOCK = 1 << 20  # bytes
_DEFAULT_BYTES = 10 << 30
_LEAST_BLOCKS = 8  # that a cache has room for
_PAGE = 4096  # bytes that a file takes a multiple of
_ENTRY = 256  # bytes at most that a name takes in the folder
_USAGE, _PART = "usage", ".part"
_OTHERS = -1  # instead of a descriptor
_MOMENT, _PATIENCE, _PAUSE = 1.0, 20.0, 0.001  # seconds to wait for a lock, for a block, between two looks
_IN_USE = 60.0  # seconds after its last use in which a block is left to whoever reads it
_REST = 50  # times as long as looking for room took, it is not looked for again where there was none

BlockName = tuple[str, int]  # the SHA-256 of the file, and the block's number
# About how many examples come before each of some blocks, of a size, is needed; None: of a file that is not known.
NextUse = Callable[[Sequence[BlockName], int], Sequence[float | None]]


@dataclass(frozen=True)
class Demand:
    """Who wants blocks kept.

    Attributes:
      next_use: When blocks are needed next; None: nobody knows, so that those used last stay.
      shared: Whether other processes need the same blocks about now.
    """

    next_use: NextUse | None = None
    shared: bool = False


@dataclass(frozen=True)
class _Entry:
    """A block's file: its name, path, bytes that it takes, and when it was last used."""

    name: BlockName
    path: str
    cost: int
    used: float


class BlockCache:
    """Blocks of remote files on a local disk. It pickles: another process shares the folder.

    Args:
      folder: Where they are; it is made, and holds nothing else.
      limit: Bytes that they take at most, of all processes; None: as `_default_bytes` says.
      block: Bytes of a block.

    Raises:
      RequestError: the folder cannot be written to, or the limit is too small.
    """

    def __init__(self, folder: str, limit: int | None = None, block: int = BLOCK) -> None:
        self.folder, self.block = folder, block
        self._full_until = 0.0
        try:
            os.makedirs(folder, exist_ok=True)
            with self._locked() as usage:
                self.limit = _default_bytes(folder) if limit is None else limit
                if _read_usage(usage) > self.limit:  # it had more room before
                    _write_usage(usage, self._make_room(("", 0), 0, Demand()))
        except OSError as error:
            raise RequestError(f"cache_dir: {folder}: expected a folder that can be written to: {error}") from error
        least = _LEAST_BLOCKS * block
        if self.limit < least:
            given = "half of what the disk has left, " if limit is None else ""
            raise RequestError(f"cache_bytes: expected at least {least}, found {given}{self.limit}")

    def __reduce__(self) -> tuple[type, tuple[str, int, int]]:
        return BlockCache, (self.folder, self.limit, self.block)

    def read(self, name: BlockName, size: int, start: int, stop: int) -> bytes | None:
        """Some bytes of a block; None where it is not here.

        Args:
          name: Which block.
          size: How many bytes it has.
          start: The first byte, from the block's beginning.
          stop: The byte after the last.
        """
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            _lock(descriptor, fcntl.LOCK_SH, _MOMENT)  # others have it for a moment: who renames or removes it
            status = os.fstat(descriptor)
            if not status.st_nlink or status.st_size != size:
                return None
            now = time.time()
            if now - status.st_mtime > 1.0:
                os.utime(descriptor, (now, now))
            content = os.pread(descriptor, stop - start, start)
            return content if len(content) == stop - start else None
        except OSError:
            return None
        finally:
            _close(descriptor)

    def fill(
        self,
        names: Sequence[BlockName],
        sizes: Sequence[int],
        needed: tuple[int, int],
        fetch: Callable[[int, int], bytes | memoryview],
        demand: Demand,
    ) -> memoryview:
        """Some bytes of neighbouring blocks that are not here; a block is fetched whole, and kept, where there is room.

        Args:
          names: The blocks.
          sizes: Their bytes.
          needed: Where the bytes begin and end that are needed, from the first block's beginning.
          fetch: Gives the bytes between two such places.
          demand: Who wants them.
        """
        starts = list(accumulate(sizes, initial=0))
        bounds = [(max(needed[0], start), min(needed[1], stop)) for start, stop in pairwise(starts)]
        parts: list[bytes | memoryview] = [b""] * len(names)
        claims = [self._claim(name, size, demand) for name, size in zip(names, sizes, strict=True)]
        try:
            for is_others, run in groupby(range(len(names)), lambda place: claims[place] == _OTHERS):
                places = [] if is_others else list(run)
                if not places:
                    continue
                first, last = starts[places[0]], starts[places[-1] + 1]
                if all(claims[place] is None for place in places):
                    first, last = max(first, needed[0]), min(last, needed[1])
                content = memoryview(fetch(first, last))
                for place in places:
                    claim, claims[place] = claims[place], None
                    if claim is not None:
                        self._keep(claim, names[place], content[starts[place] - first : starts[place + 1] - first])
                    parts[place] = content[bounds[place][0] - first : bounds[place][1] - first]
        finally:
            for name, claim in zip(names, claims, strict=True):
                if claim not in (None, _OTHERS):
                    self._abandon(claim, name)
        for place, claim in enumerate(claims):
            if claim == _OTHERS:  # who has begun to fetch it may be done by now: what is claimed here is, too
                start, stop = bounds[place]
                inside = (start - starts[place], stop - starts[place])
                awaited = self._await(names[place], sizes[place], *inside)
                parts[place] = fetch(start, stop) if awaited is None else awaited
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def drop(self, name: BlockName) -> None:
        """Removes a block that turned out to be damaged."""
        with contextlib.suppress(OSError), self._locked() as usage:
            _write_usage(usage, _read_usage(usage) - _remove(self._path(name), _MOMENT))

    def _path(self, name: BlockName) -> str:
        return os.path.join(self.folder, f"{name[0]}.{name[1]}")

    def _claim(self, name: BlockName, size: int, demand: Demand) -> int | None:
        """The descriptor of a file for a block, with its space reserved; None: it is not to be kept; or _OTHERS.

        A block that is here by now, or that somebody else is fetching, is others'.
        """
        if time.monotonic() < self._full_until:
            return None
        path = self._path(name)
        try:
            descriptor = os.open(path + _PART, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(descriptor, path + _PART):
                _close(descriptor)
                return _OTHERS
        except OSError:
            _close(descriptor)
            return _OTHERS
        if os.path.exists(path) and os.stat(path).st_size == size:
            self._abandon(descriptor, name)
            return _OTHERS
        try:
            if self._reserve(descriptor, name, size, demand):
                return descriptor
        except OSError as error:
            self._warn(error)
        self._abandon(descriptor, name)
        return None

    def _await(self, name: BlockName, size: int, start: int, stop: int) -> bytes | None:
        """Some bytes of a block that somebody else is fetching; None where they did not, or it is gone again."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path(name) + _PART, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _lock(descriptor, fcntl.LOCK_SH, _PATIENCE)
            finally:
                _close(descriptor)
        return self.read(name, size, start, stop)

    def _keep(self, descriptor: int, name: BlockName, content: memoryview) -> None:
        """Writes a block that was claimed."""
        path = self._path(name)
        try:
            done = 0
            while done < len(content):
                done += os.pwrite(descriptor, content[done:], done)
            with self._locked():  # who counts anew could miss a file that is renamed meanwhile
                os.replace(path + _PART, path)
            _close(descriptor)
        except OSError as error:
            self._warn(error)
            self._abandon(descriptor, name)

    def _warn(self, error: OSError) -> None:
        warnings.warn(f"{self.folder}: blocks are not kept: {error}; make room on the disk", stacklevel=2)

    def _abandon(self, descriptor: int, name: BlockName) -> None:
        """Gives up a claim, and the space that was reserved for it."""
        path = self._path(name) + _PART
        with contextlib.suppress(OSError), self._locked() as usage:
            self._give_back(usage, descriptor)
            if _is_at(descriptor, path):
                os.unlink(path)
        _close(descriptor)

    def _give_back(self, usage: int, descriptor: int) -> None:
        """Frees the space of a file that was claimed; it has as many bytes as were reserved."""
        if size := os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, 0)
            _write_usage(usage, _read_usage(usage) - _cost(size))

    def _reserve(self, descriptor: int, name: BlockName, size: int, demand: Demand) -> bool:
        """Takes space for a block that was claimed, for which others may have to go; False where there is none."""
        cost = _cost(size)
        with self._locked() as usage:
            self._give_back(usage, descriptor)  # a killed process may have left it
            used = _read_usage(usage)
            if used + cost > self.limit:
                used = self._make_room(name, cost, demand)
                if used + cost > self.limit:
                    _write_usage(usage, used)
                    return False
            _write_usage(usage, used + cost)
            try:
                _allocate(descriptor, size)  # in the lock: who counts anew must see it
            except OSError:
                os.ftruncate(descriptor, 0)
                _write_usage(usage, used)
                raise
            return True

    def _make_room(self, name: BlockName, cost: int, demand: Demand) -> int:
        """Removes what is needed last, until there is room for some blocks more; returns what is left.

        A block is removed only for one that is needed before it.
        """
        begun = time.monotonic()
        entries, used = self._scan()
        enough = self.limit - max(cost, self.limit // 16)
        for entry in _dispensable(entries, name, self.block, demand):
            if used <= enough:
                break
            used -= _remove(entry.path)
        if used + cost > self.limit:  # so that looking in vain takes little of the time
            self._full_until = time.monotonic() + _REST * (time.monotonic() - begun)
        return used

    def _scan(self) -> tuple[list[_Entry], int]:
        """The blocks that are here, and the bytes that all files take; removes what killed processes left."""
        entries, used = [], _cost(0)
        with os.scandir(self.folder) as files:
            for file in files:
                with contextlib.suppress(OSError):
                    status = file.stat(follow_symlinks=False)
                    cost = _cost(status.st_size)
                    sha256, _, number = file.name.partition(".")
                    if file.name.endswith(_PART):
                        cost -= _remove(file.path)  # of nobody who lives, or it is locked
                    elif number.isdigit():
                        entries.append(_Entry((sha256, int(number)), file.path, cost, status.st_mtime))
                    used += cost
        return entries, used

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The open file of how much is used or reserved, which one thread of one process has at a time."""
        descriptor = os.open(os.path.join(self.folder, _USAGE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, fcntl.LOCK_EX, _PATIENCE)
            if os.fstat(descriptor).st_size != 8:
                _write_usage(descriptor, self._scan()[1])
            yield descriptor
        finally:
            _close(descriptor)


def _default_bytes(folder: str) -> int:
    """How large a cache may be unless the user says it: 10 GiB, and at most half of what the disk has left for it."""
    there = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
    return min(_DEFAULT_BYTES, (shutil.disk_usage(folder).free + there) // 2)


def _dispensable(entries: Sequence[_Entry], name: BlockName, block: int, demand: Demand) -> list[_Entry]:
    """The blocks that may be removed for another, those that will be missed least first.

    Of a file that the order does not know, those used longest ago; of the others, those that are needed last.
    """
    if demand.next_use is None:
        return sorted(entries, key=lambda entry: entry.used)
    *distances, own = demand.next_use([*(entry.name for entry in entries), name], block)
    idle = time.time() - _IN_USE
    unknown = [entry for entry, distance in zip(entries, distances, strict=True) if distance is None]
    unknown = [entry for entry in unknown if entry.used < idle]
    needed_by = 0.0 if demand.shared or own is None else own
    known = [(distance, entry) for entry, distance in zip(entries, distances, strict=True) if distance is not None]
    later = sorted(((d, e) for d, e in known if d > needed_by), key=lambda pair: pair[0], reverse=True)
    return [*sorted(unknown, key=lambda entry: entry.used), *(entry for _, entry in later)]


def _cost(size: int) -> int:
    """The bytes that a file takes on a disk, about, with its name."""
    return -(-size // _PAGE) * _PAGE + _ENTRY


def _remove(path: str, patience: float = 0.0) -> int:
    """Removes a file, and frees its space even where one has it open; returns how much.

    Args:
      path: The file.
      patience: Seconds in which its readers may end; where they do not, it stays.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        _lock(descriptor, fcntl.LOCK_EX, patience)
        if not _is_at(descriptor, path):
            return 0
        cost = _cost(os.fstat(descriptor).st_size)
        os.ftruncate(descriptor, 0)
        os.unlink(path)
        return cost
    except OSError:
        return 0
    finally:
        _close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether an open file is still the one that has a name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, kind: int, patience: float) -> None:
    """Locks a file; who has the lock may have been stopped: raises TimeoutError when that lasts too long."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError("expected a lock that is soon free, found that another process keeps it") from error
        time.sleep(_PAUSE)


def _allocate(descriptor: int, size: int) -> None:
    """Gives a file so many bytes, which are taken from the disk at once where the system can do that."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _close(descriptor: int) -> None:
    """Unlocks a file and closes it; closing alone does not unlock it where a forked process has it, too."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _read_usage(descriptor: int) -> int:
    used: int = struct.unpack("<q", os.pread(descriptor, 8, 0))[0]
    return used


def _write_usage(descriptor: int, used: int) -> None:
    os.pwrite(descriptor, struct.pack("<q", max(0, used)), 0)
