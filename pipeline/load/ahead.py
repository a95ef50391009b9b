"""Fetches from a store what an iteration will read, before it is asked for: few requests, many at a time.

The order says which examples come. They are taken a part at a time: of a part, the ranges of bytes that hold its
records are sorted, and those near each other become one request of up to 8 MB; what lies between records is thrown
away. Parts are small at first, so that the first batch is there soon, and then as large as memory allows: a whole
window, if it fits, is read from its shards in one go, whatever the order in it. How many requests are under way follows
from how long they take and how fast batches are used; where a batch has to wait, there are more.
"""

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .block_cache import BlockName, Demand, NextUse
from .order import Integers, Order
from .records import Places, merge_ranges
from .shard_files import RemoteFile, ShardFile, ShardSource

_MOST_BYTES = 768 << 20  # that are ready or being read, of all parts, and no more than ...
_OF_MEMORY = 16  # ... this part of the machine's memory; row groups of a part take no more than that, either
_LEAST_BYTES = 128 << 20  # where more is of no use, or there is no more
_CONTAINER_MEMORY = "/sys/fs/cgroup/memory.max"
_UNDER_WAY = 64 << 20  # bytes that are asked for at a time
_FIRST, _LEAST, _MOST = 16, 4, 64  # requests under way: at first, at least, at most
_SECOND_PART = 4 << 20  # bytes; the first part is one block of batches
_GROWTH = 8  # times as much has each part after it, until parts are as large as they may be


class Upcoming(Protocol):
    """A block of batches that will be made.

    Attributes:
      epoch: Its epoch.
      numbers: int64, its examples, in the order of storage counted from 0.
      first: Where in the epoch it begins, over all hosts.
      end: Where it ends.
    """

    @property
    def epoch(self) -> int: ...
    @property
    def numbers(self) -> Integers: ...
    @property
    def first(self) -> int: ...
    @property
    def end(self) -> int: ...


Block = TypeVar("Block", bound=Upcoming)


@dataclass(frozen=True)
class Stretch:
    """Neighbouring examples, in the order of storage: see `Upcoming`."""

    first: int
    end: int
    epoch: int = 0

    @property
    def numbers(self) -> Integers:
        """int64, the examples."""
        return np.arange(self.first, self.end)


class Storage(Protocol):
    """A split's shards, in pieces that are read as a whole: records, or row groups."""

    @property
    def shards(self) -> Sequence[ShardFile]: ...

    def pieces(self, numbers: Integers, most: int) -> tuple[Integers, Integers]:
        """The pieces of some examples that are to be read ahead.

        Args:
          numbers: The examples.
          most: Bytes of pieces, where these have many examples: of more, those that are needed last are left out.

        Returns:
          Their numbers, sorted; where in `numbers` each is needed first.
        """

    def places(self, pieces: Integers) -> Places:
        """Where pieces are; reads what it takes to know that."""

    def source(self, shard: int) -> ShardSource:
        """A shard's content."""


@dataclass(frozen=True)
class Use:
    """How a split is gone through.

    Attributes:
      order: Which example comes when.
      shared: Whether other processes go through it in the same order about now.
      workers: How many of these are on this machine, and share its memory.
    """

    order: Order
    shared: bool = False
    workers: int = 1


@dataclass(eq=False)
class _Chunk:
    """Bytes of a shard that are fetched by one request: those of some pieces.

    Attributes:
      shard: The shard's number.
      around: Bytes that are read along with them, of a shard that is decompressed as a whole.
      begins: Where the pieces begin.
      ends: Where they end.
      demand: Who wants them kept.
      memory: Has the pieces' bytes, one after the other, and those of other chunks.
      start: Where they begin in it.
      done: Is there when they are.
    """

    shard: int
    around: int
    begins: Integers
    ends: Integers
    demand: Demand
    memory: "_Memory"
    start: int
    done: Future[None] = field(default_factory=Future)

    def view(self) -> memoryview:
        """The pieces' bytes, as long as the chunk is there."""
        return self.memory.view[self.start : self.start + int((self.ends - self.begins).sum())]

    @property
    def size(self) -> int:
        return int(self.ends[-1] - self.begins[0])


class Part:
    """Pieces of a split that are fetched together.

    Args:
      pieces: Their numbers, sorted.
      waits: Called when somebody needs what is not there yet.

    Attributes:
      pieces: Their numbers.
      chunks: What is fetched.
      chunk_of: The chunk that each piece is in; -1: it is in none yet.
    """

    def __init__(self, pieces: Integers, waits: Callable[[], None]) -> None:
        self.pieces = pieces
        self.chunks: list[_Chunk] = []
        self.chunk_of = np.full(len(pieces), -1)
        self._starts = np.zeros(len(pieces), np.int64)  # of each piece in its chunk
        self._stops = np.zeros(len(pieces), np.int64)
        self._waits = waits

    def add(self, chunk: _Chunk, places: Integers) -> None:
        """Adds a chunk, which has the pieces at some places."""
        self.chunk_of[places] = len(self.chunks)
        lengths = chunk.ends - chunk.begins
        self._stops[places] = np.cumsum(lengths)
        self._starts[places] = self._stops[places] - lengths
        self.chunks.append(chunk)

    def share(self, other: "Part") -> None:
        """Takes the pieces that are in no chunk yet from another part, where it has them."""
        places = np.flatnonzero((self.chunk_of < 0) & other.has(self.pieces))
        numbers, self._starts[places], self._stops[places] = other.find(self.pieces[places])
        used, inside = np.unique(numbers, return_inverse=True)
        self.chunk_of[places] = len(self.chunks) + inside
        self.chunks += [other.chunks[number] for number in used.tolist()]

    def __len__(self) -> int:
        return int((self._stops - self._starts).sum())

    def find(self, pieces: Integers) -> tuple[Integers, Integers, Integers]:
        """The chunks of some of its pieces, and where in them they begin and end."""
        places = np.searchsorted(self.pieces, pieces)
        return self.chunk_of[places], self._starts[places], self._stops[places]

    def has(self, pieces: Integers) -> npt.NDArray[np.bool_]:
        """Which of some pieces are in it."""
        places = np.minimum(np.searchsorted(self.pieces, pieces), len(self.pieces) - 1)
        return self.pieces[places] == pieces if len(self.pieces) else np.zeros(len(pieces), bool)

    def content(self, chunk: int) -> memoryview:
        """What is fetched, when it is there; it must not be used longer than the part.

        Raises:
          OSError: it cannot be read.
          DatasetError: its shard is missing, or damaged.
        """
        done = self.chunks[chunk].done
        if not done.done():
            self._waits()
        done.result()
        return self.chunks[chunk].view()


def look_ahead(
    storage: Storage, blocks: Iterable[Block], use: Use, budget: int | None = None
) -> Generator[tuple[Block, Part | None]]:
    """Blocks in their order, each with the part that has its examples; parts are fetched ahead.

    Args:
      storage: Where they are.
      blocks: The blocks.
      use: How they come.
      budget: Bytes of parts that are there at a time, about; None: a part of the machine's memory.
    """
    budget = _default_budget(storage, use) if budget is None else budget
    fetcher = _Fetcher(storage)
    planner = ThreadPoolExecutor(1, "penstock-plan")
    plans = _Plans(storage, blocks, use, fetcher, max(budget // 2, _memory() // _OF_MEMORY // use.workers))
    begun: deque[tuple[int, Future[tuple[list[Block], Part] | None]]] = deque()
    reserved = _Amount()
    sizes = part_sizes(*_window(storage, use.order), budget // 2)
    target = next(sizes)
    are_all = False

    def plan(least: int) -> None:
        """Plans parts as far as memory allows, and in any case so many."""
        nonlocal target
        while len(begun) < least or reserved.value + target <= budget:
            reserved.add(target)
            begun.append((target, planner.submit(plans.make, target)))
            target = next(sizes)

    try:
        while True:
            plan(1)
            size, future = begun.popleft()
            planned, since = future.result(), time.monotonic()
            if planned is None:
                are_all = True
                return
            taken, part = planned
            weakref.finalize(part, reserved.add, -size)
            for block in taken:
                yield block, part
                plan(0)  # what earlier parts had may be free by now
            fetcher.adapt(len(part) / max(1e-6, time.monotonic() - since))
            del planned, future, part  # the memory goes when the last batch of it is made
    finally:
        planner.shutdown(wait=False, cancel_futures=True)
        fetcher.close(cancel=not are_all)  # the last blocks may still wait for what they need


def _default_budget(storage: Storage, use: Use) -> int:
    """Enough for two windows, or the whole split where its order is exact, as far as the machine's memory allows."""
    most = min(_MOST_BYTES, _memory() // _OF_MEMORY) // use.workers
    return int(max(_LEAST_BYTES // use.workers, min(most, 2.1 * _window(storage, use.order)[0])))


def _window(storage: Storage, order: Order) -> tuple[float, float]:
    """The bytes of the examples that change places with each other, about, and of one of them."""
    example = sum(shard.bytes for shard in storage.shards) / max(1, order.count)
    together = {None: 0, "window": min(order.window, order.count), "exact": order.count}[order.shuffle]
    return together * example, example


def part_sizes(window: float, example: float, most: int) -> Iterator[int]:
    """The bytes of parts, one after the other: one block, so that the first batch is there soon, then more and more.

    Where a part's examples are so near each other that what lies between them is read along, all of the window is read
    for it, and thrown away: so then the part is the window.

    Args:
      window: Bytes of the examples that change places with each other; 0: none do.
      example: Bytes of one.
      most: Bytes of a part at most.
    """
    yield 1
    size = min(_SECOND_PART, most)
    while True:
        if size < window and window * example < RemoteFile.gap * size:
            size = min(math.ceil(window), most)
        yield size
        size = min(size * _GROWTH, most)


def _memory() -> int:
    """The machine's memory in bytes, or what of it the container may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open(_CONTAINER_MEMORY) as file:
            return min(memory, int(file.read()))
    except (OSError, ValueError):  # there is none, or it has no limit
        return memory


class _Amount:
    """A number that threads, and what runs when memory is freed, add to."""

    def __init__(self) -> None:
        self._sum = 0
        self._changes: deque[int] = deque()  # instead of a lock: memory may be freed while this has it

    def add(self, amount: int) -> None:
        """Adds to it, from any thread."""
        self._changes.append(amount)

    @property
    def value(self) -> int:
        """It; for one thread."""
        while self._changes:
            self._sum += self._changes.popleft()
        return self._sum


@dataclass(eq=False)
class _Memory:
    """Bytes that the chunks of a part have."""

    view: memoryview


class _Memories:
    """Memory of parts, used again when nothing of them is needed: paging it in costs as much as filling it."""

    def __init__(self) -> None:
        self._free: deque[npt.NDArray[np.uint8]] = deque(maxlen=1)

    def take(self, size: int) -> _Memory:
        """So many bytes."""
        array = self._free.pop() if self._free and size <= len(self._free[0]) <= 2 * size else np.empty(size, np.uint8)
        memory = _Memory(array.data)
        weakref.finalize(memory, self._free.append, array)
        return memory


class _Plans(Generic[Block]):
    """Cuts what is to come into parts, and has them fetched; called by one thread at a time."""

    def __init__(
        self, storage: Storage, blocks: Iterable[Block], use: Use, fetcher: "_Fetcher", most_pieces: int
    ) -> None:
        self._storage, self._use, self._fetcher, self._most_pieces = storage, use, fetcher, most_pieces
        self._blocks = iter(blocks)
        self._live: list[weakref.ref[Part]] = []
        self._memories = _Memories()
        sizes = [shard.bytes for shard in storage.shards]
        counts = [max(1, shard.records) for shard in storage.shards]
        self._starts = np.cumsum([0, *(shard.records for shard in storage.shards)])
        self._weights = np.maximum(1.0, sizes) / np.array(counts)  # of an example, about, by shard
        window = use.order.window if use.order.shuffle == "window" else 0
        self._most = max(1, 2 * sum(sizes))  # of what comes more than twice, no more is fetched
        self._window = window * sum(sizes) / max(1, use.order.count)
        self._window_examples = window
        self._by_sha256 = {shard.sha256: number for number, shard in enumerate(storage.shards)}

    def make(self, size: int) -> tuple[list[Block], Part] | None:
        """The next blocks, of so many bytes about, and their part, which it begins to fetch; None: none is left."""
        blocks = self._take(size)
        if not blocks:
            return None
        numbers = np.concatenate([block.numbers for block in blocks])
        pieces, firsts = self._storage.pieces(numbers, self._most_pieces)
        demand = Demand(self._next_use(blocks[-1]), self._use.shared)
        part, new = self._cut(pieces, firsts, demand)
        self._live = [*(ref for ref in self._live if ref()), weakref.ref(part)]
        self._fetcher.begin(new)
        return blocks, part

    def _take(self, size: int) -> list[Block]:
        """The next blocks; where a whole window more would be too much, none of the next window."""
        blocks: list[Block] = []
        taken, size = 0.0, min(size, self._most)
        while taken < size and (block := next(self._blocks, None)) is not None:
            if blocks and self._begins_window(block, blocks[-1]) and taken + self._window > size:
                self._blocks = chain([block], self._blocks)
                break
            blocks.append(block)
            taken += self._weights[np.searchsorted(self._starts, block.numbers, "right") - 1].sum()
        return blocks

    def _begins_window(self, block: Block, last: Block) -> bool:
        examples = self._window_examples
        return bool(examples) and (block.epoch, block.first // examples) != (last.epoch, last.first // examples)

    def _cut(self, pieces: Integers, firsts: Integers, demand: Demand) -> tuple[Part, list[_Chunk]]:
        """A part, and what of it is to be fetched, in the order in which it is needed; the rest other parts have."""
        part = Part(pieces, self._fetcher.hurry)
        for other in [each for ref in self._live if (each := ref()) is not None]:
            part.share(other)
        new = np.flatnonzero(part.chunk_of < 0)
        places = self._storage.places(pieces[new])
        lengths = places.ends - places.begins
        memory, used = self._memories.take(int(lengths.sum())), 0
        fetched: list[tuple[int, _Chunk]] = []
        for first, last in _groups(places, self._storage.shards):
            begins, ends = places.begins[first:last], places.ends[first:last]
            shard = self._storage.shards[int(places.shards[first])]
            around = shard.bytes if shard.compressed else 0
            chunk = _Chunk(int(places.shards[first]), around, begins, ends, demand, memory, used)
            used += int(lengths[first:last].sum())
            part.add(chunk, new[first:last])
            if error := places.errors.get(chunk.shard):
                chunk.done.set_exception(error)
            else:
                fetched.append((int(firsts[new[first:last]].min()), chunk))
        return part, [chunk for _, chunk in sorted(fetched, key=lambda pair: pair[0])]

    def _next_use(self, last: Block) -> NextUse:
        """Tells, of blocks in a cache, how many examples come between a block of batches and those that are in them."""
        epoch, position = last.epoch, last.end
        order, shards = self._use.order, self._storage.shards

        def next_use(names: Sequence[BlockName], size: int) -> list[float | None]:
            known = [place for place, (sha256, _) in enumerate(names) if sha256 in self._by_sha256]
            numbers = np.array([self._by_sha256[names[place][0]] for place in known], np.int64)
            begins = np.array([names[place][1] * size for place in known])
            counts = np.array([shard.records for shard in shards])[numbers]
            inside = np.minimum(begins / self._weights[numbers], counts - 1).astype(np.int64)
            examples = self._starts[numbers] + np.maximum(inside, 0)
            turns = order.turns(epoch, examples)
            later = np.where(turns > position, turns, order.count + order.turns(epoch + 1, examples)) - position
            distances: list[float | None] = [None] * len(names)
            for place, distance in zip(known, later.tolist(), strict=True):
                distances[place] = distance
            return distances

        return next_use


def _groups(places: Places, shards: Sequence[ShardFile]) -> Iterator[tuple[int, int]]:
    """Which pieces are fetched together: (first, last + 1) of each group."""
    breaks = np.flatnonzero(np.diff(places.shards)) + 1
    for first, last in pairwise([0, *breaks.tolist(), len(places.shards)] if len(places.shards) else []):
        if shards[int(places.shards[first])].compressed:  # it is read and decompressed as a whole
            yield first, last
            continue
        begins, ends = places.begins[first:last], places.ends[first:last]
        for start, stop in merge_ranges(begins, ends, RemoteFile.gap):
            yield first + start, first + stop


class _Fetcher:
    """Fetches chunks in threads: as many at a time as it takes to have them when they are needed."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._pool = ThreadPoolExecutor(_MOST, "penstock-fetch")
        self._lock = threading.Lock()
        self._waiting: deque[_Chunk] = deque()
        self._requests = self._bytes = 0  # under way
        self._limit = _FIRST
        self._seconds = self._mean = 0.0  # of a request, and its bytes: of the latest mostly
        self._hurried = 0.0
        self._closed = False

    def begin(self, chunks: Iterable[_Chunk]) -> None:
        """Fetches some more, unless it is closed."""
        with self._lock:
            if self._closed:
                return
            self._waiting.extend(chunks)
        self._start()

    def adapt(self, rate: float) -> None:
        """Has as many requests under way as bring so many bytes a second, twice."""
        with self._lock:
            needed = 2 * rate * self._seconds / max(1.0, self._mean)
            self._limit = min(max(math.ceil(needed), _LEAST), _MOST)

    def hurry(self) -> None:
        """Somebody waits: has more requests under way, unless that was asked for while the latest took."""
        with self._lock:
            if time.monotonic() - self._hurried < self._seconds:
                return
            self._hurried = time.monotonic()
            self._limit = min(2 * self._limit, _MOST)
        self._start()

    def close(self, cancel: bool) -> None:
        """Ends when all is fetched; or at once: who waits for what was not begun gets a CancelledError."""
        with self._lock:
            self._closed = True
            cancelled: deque[_Chunk] = deque()
            if cancel:
                cancelled, self._waiting = self._waiting, cancelled
        for chunk in cancelled:
            chunk.done.cancel()
        self._start()

    def _start(self) -> None:
        with self._lock:
            while self._waiting:
                size = self._waiting[0].size + self._waiting[0].around
                if self._requests and (self._requests >= self._limit or self._bytes + size > _UNDER_WAY):
                    return
                self._requests += 1
                self._bytes += size
                self._pool.submit(self._fetch, self._waiting.popleft())
            if self._closed:
                self._pool.shutdown(wait=False)

    def _fetch(self, chunk: _Chunk) -> None:
        begun = time.monotonic()
        try:
            _read(self._storage.source(chunk.shard), chunk)
            chunk.done.set_result(None)
        except BaseException as error:
            chunk.done.set_exception(error)
        with self._lock:
            self._requests -= 1
            self._bytes -= chunk.size + chunk.around
            weight = 0.1 if self._mean else 1.0
            self._seconds += weight * (time.monotonic() - begun - self._seconds)
            self._mean += weight * (chunk.size - self._mean)
        self._start()


def _read(source: ShardSource, chunk: _Chunk) -> None:
    """Reads a chunk's pieces, without what lies between them, to where they belong."""
    target = chunk.view()
    if not isinstance(source, RemoteFile):
        _copy(source.ranges(list(zip(chunk.begins.tolist(), chunk.ends.tolist(), strict=True))), target)
        return
    first = int(chunk.begins[0])
    content = source.view(first, int(chunk.ends[-1]), chunk.demand)
    breaks = np.flatnonzero(chunk.begins[1:] != chunk.ends[:-1]) + 1
    stretches = zip([0, *breaks.tolist()], [*breaks.tolist(), len(chunk.begins)], strict=True)
    _copy((content[chunk.begins[i] - first : chunk.ends[j - 1] - first] for i, j in stretches), target)


def _copy(parts: Iterable[bytes | memoryview], target: memoryview) -> None:
    """Copies bytes to one place, one after the other."""
    done = 0
    for part in parts:
        target[done : done + len(part)] = part
        done += len(part)
