"""Which example comes when: pure integer functions, the same on every machine. No I/O.

An epoch is a permutation of a split's examples. It is computed, not stored: position -> example, in constant memory, so
that a loader's whole state is where it stands. Hosts take turns: of N hosts, host i takes the positions i, i + N,
i + 2N, ... So what all hosts have taken after any number of steps is a stretch from the epoch's start, and any other
number of hosts can go on from its end.
"""

import operator
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..splitmix import GOLDEN_GAMMA, mix64

Shuffle: TypeAlias = Literal["window", "exact"] | None
Integers: TypeAlias = npt.NDArray[np.int64]


def check_int(name: str, value: Any, least: int | None = None) -> int:
    """A request's whole number, of Python, NumPy or any framework, as Python's.

    Raises:
      RequestError: it is none, or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        from_least = "" if least is None else f" from {least}"
        raise RequestError(f"{name}: expected a whole number{from_least}, found {value!r}")
    return number


WINDOW = 1 << 14  # examples that change places with each other, where shuffling is not exact
_STRETCHES = 128  # neighbouring examples, from random places each, in a window
_SHORTEST = 16  # examples of a stretch: fewer are not worth a read of their own
_FREE_BYTES = 4 << 30  # of a split that is read at random: it is in the page cache soon
_ROUNDS = 6  # of the Feistel network in `permute`


def derive(seed: int, *parts: int) -> int:
    """A 64-bit seed for a part of the work: unlike parts give unrelated seeds."""
    value = np.array([seed % 2**64], np.uint64)  # of one element: NumPy warns of scalars that wrap around
    for part in parts:
        value = mix64(value + np.uint64((part + 1) * GOLDEN_GAMMA % 2**64))
    return int(mix64(value)[0])


def permute(positions: Integers, count: int, seed: int) -> Integers:
    """A permutation of 0 ... count - 1, at the given positions.

    A Feistel network over the next power of four; a result beyond the count goes through it again, until it is one.

    Args:
      positions: int64, each from 0 to count - 1.
      count: How many are permuted.
      seed: Chooses the permutation.

    >>> sorted(permute(np.arange(5), 5, seed=1).tolist())
    [0, 1, 2, 3, 4]
    """
    half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = [np.uint64(derive(seed, number)) for number in range(_ROUNDS)]
    values = positions.astype(np.uint64)
    beyond = np.ones(values.shape, bool)
    while beyond.any():
        left, right = values[beyond] >> half, values[beyond] & mask
        for key in keys:
            left, right = right, left ^ (mix64(right + key) & mask)
        values[beyond] = left << half | right
        beyond = values >= np.uint64(count)
    return values.astype(np.int64)


@dataclass(frozen=True)
class Order:
    """The order of a split's examples in every epoch.

    Attributes:
      sizes: Examples in each shard.
      shuffle: None: as they are stored. "window": stretches of neighbouring examples in random order, and examples
        change places within a window of many stretches, so that most bytes that are read at a time are neighbours.
        "exact": a pseudo-random permutation of the whole split.
      seed: Chooses the orders, one for each epoch.
      window: How many consecutive examples change places, where the shuffle is "window".
      reach: From how many neighbouring examples, of shards in random order, a window's stretches are; None: from all.
      name: Says what is ordered: other examples have another name.

    Raises:
      RequestError: the window or the seed is no such number.
    """

    sizes: tuple[int, ...]
    shuffle: Shuffle = None
    seed: int = 0
    window: int = WINDOW
    name: str = ""
    reach: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", check_int("window", self.window, 1))
        object.__setattr__(self, "seed", check_int("seed", self.seed))

    @cached_property
    def fingerprint(self) -> int:
        """32 bits that tell this order from others, whatever the seed."""
        window = (self.window, self.reach, _STRETCHES, _SHORTEST) if self.shuffle == "window" else None
        return zlib.crc32(repr((self.name, self.sizes, self.shuffle, window)).encode())

    @property
    def count(self) -> int:
        """Examples in an epoch."""
        return sum(self.sizes)

    def examples(self, epoch: int, positions: Integers) -> Integers:
        """The examples at some positions of an epoch, as indices into the split in the order of storage.

        Args:
          epoch: From 0.
          positions: int64, each from 0 to count - 1.
        """
        if self.shuffle is None or not positions.size:
            return positions
        if self.shuffle == "exact":
            return permute(positions, self.count, derive(self.seed, epoch))
        inside = np.empty_like(positions)
        blocks = positions // self.window
        for block in np.unique(blocks).tolist():
            chosen = blocks == block
            start = block * self.window
            size = min(self.window, self.count - start)
            inside[chosen] = start + permute(positions[chosen] - start, size, derive(self.seed, epoch, block))
        inside = (inside + derive(self.seed, epoch, -1) % self.count) % self.count
        starts, moves = self._stretches(epoch)
        return inside + moves[np.searchsorted(starts, inside, "right") - 1]

    def _stretches(self, epoch: int) -> tuple[Integers, Integers]:
        """Where each stretch begins in an epoch's order, and how far that is from where it is stored."""
        length = max(_SHORTEST, self.window // _STRETCHES)
        return _stretch_order(self.sizes, length, self.reach or self.count, derive(self.seed, epoch, -2))

    def turns(self, epoch: int, numbers: Integers) -> Integers:
        """Where in an epoch some examples come at the latest: where their window ends, or the split.

        Args:
          epoch: From 0.
          numbers: int64, indices into the split in the order of storage.
        """
        if self.shuffle is None:
            return numbers + 1
        if self.shuffle == "exact":
            return np.full_like(numbers, self.count)
        starts, moves = self._stretches(epoch)
        stored = starts + moves
        by_place = np.argsort(stored)
        stretches = by_place[np.searchsorted(stored[by_place], numbers, "right") - 1]
        turned = (numbers - moves[stretches] - derive(self.seed, epoch, -1) % self.count) % self.count
        ends: Integers = np.minimum((turned // self.window + 1) * self.window, self.count)
        return ends


@lru_cache(maxsize=4)
def _stretch_order(sizes: tuple[int, ...], length: int, reach: int, seed: int) -> tuple[Integers, Integers]:
    """Where each stretch begins in a random order of stretches, and how far that is from where it is stored.

    Shards are laid in a random order and cut into stretches; those that begin in the same `reach` examples change
    places.

    Args:
      sizes: Examples in each shard.
      length: Examples in a stretch; fewer at a shard's end.
      reach: Over how many examples stretches change places.
      seed: Chooses the order.
    """
    shards = permute(np.arange(len(sizes)), len(sizes), derive(seed, 0))
    lengths = np.array(sizes, np.int64)
    stored = np.cumsum(lengths) - lengths
    cuts = -(-lengths // length)[shards]  # stretches of each shard
    inside = length * (np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts))
    counts = np.minimum(length, np.repeat(lengths[shards], cuts) - inside)
    groups = (np.cumsum(counts) - counts) // reach
    keys = mix64(_words(seed, len(counts)))
    order = np.lexsort((keys, groups))
    starts = np.cumsum(counts[order]) - counts[order]
    return starts, (np.repeat(stored[shards], cuts) + inside)[order] - starts


def _words(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """Pseudo-random words, uint64 [count]: the states of SplitMix64 from a seed on."""
    return np.uint64(derive(seed, 1)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN_GAMMA)


def choose_shuffle(local: bool, stored: int, examples: int, reach: int | None) -> Literal["window", "exact"]:
    """The shuffle that is meant where none is named: "exact" where that costs little, whatever the machine.

    It follows from the dataset and from where it is alone, so that all processes of a training choose the same.

    Args:
      local: Whether it is on a disk.
      stored: The split's bytes there.
      examples: How many it has.
      reach: How many of them can be read in any order at about the same cost; None: all.
    """
    free = local and stored <= _FREE_BYTES and (reach is None or reach >= examples)
    return "exact" if free else "window"


@dataclass(frozen=True)
class Share:
    """One host's part: number `index` of `count` hosts."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", check_int("shard", self.index))
        object.__setattr__(self, "count", check_int("shard", self.count))
        if not 0 <= self.index < self.count:
            raise RequestError(
                f"shard: expected (index, count) with 0 <= index < count, found {(self.index, self.count)}; "
                "give each host its own index"
            )


WHOLE = Share()


@dataclass(frozen=True)
class State:
    """Where a loader stands: a few integers, the same for all hosts after the same number of steps.

    Attributes:
      seed: The order's seed.
      epoch: The epoch, from 0.
      position: How many examples of the epoch all hosts together have taken.
      order: The order's fingerprint.
      start: The epoch in which the iteration began that the loader is in, or begins next.
    """

    seed: int = 0
    epoch: int = 0
    position: int = 0
    order: int = 0
    start: int = 0

    def at(self, epoch: int) -> "State":
        """Where an iteration begins with an epoch."""
        return replace(self, epoch=epoch, position=0, start=epoch)

    def to_json(self) -> dict[str, int]:
        """As a dict, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "State":
        """Reads a checkpoint's dict back.

        Raises:
          RequestError: it is no such dict.
        """
        if not isinstance(entry, Mapping) or entry.keys() != State().to_json().keys():
            raise RequestError(
                f"state: expected what a loader's state() returned, {State().to_json()}, found {entry!r}"
            )
        least = {"epoch": 0, "position": 0, "start": 0}
        return cls(**{name: check_int(f"state: {name}", value, least.get(name)) for name, value in entry.items()})


@dataclass(frozen=True)
class Step:
    """One batch of one host: its positions in an epoch, and the state when all hosts have taken theirs."""

    epoch: int
    positions: Integers
    after: State


@dataclass(frozen=True)
class Steps:
    """How epochs are divided into batches among hosts.

    Attributes:
      count: Examples in an epoch, over all hosts.
      batch_size: Examples in a host's batch.
      share: Which host.
      drop_remainder: Whether only full batches are made: then all hosts make equally many.
      equal: Whether all hosts get equally many examples, at the cost of up to share.count - 1 of them.
      repeat: Epochs of an iteration; None: it never ends.
    """

    count: int
    batch_size: int
    share: Share = WHOLE
    drop_remainder: bool = False
    equal: bool = False
    repeat: int | None = 1

    @property
    def stride(self) -> int:
        """Examples that all hosts take in a step."""
        return self.batch_size * self.share.count

    def end(self, position: int) -> int:
        """Where an epoch ends that is resumed at a position."""
        left = self.count - position
        if self.drop_remainder:
            return position + left // self.stride * self.stride
        return position + left // self.share.count * self.share.count if self.equal else self.count

    def epoch(self, state: State) -> Iterator[Step]:
        """The steps from a state to its epoch's end."""
        end = self.end(state.position)
        for start in range(state.position, end, self.stride):
            stop = min(start + self.stride, end)
            positions = np.arange(start + self.share.index, stop, self.share.count)
            if not positions.size:  # others have one more
                return
            after = replace(state, position=stop) if stop < end else self.next_epoch(state)
            yield Step(state.epoch, positions, after)

    def next_epoch(self, state: State) -> State:
        """Where the next epoch begins, in the same iteration or, if that is over, in the next."""
        following = state.at(state.epoch + 1)
        over = self.repeat is not None and following.epoch >= state.start + self.repeat
        return following if over else replace(following, start=state.start)

    def iteration(self, state: State) -> Iterator[Step]:
        """The steps from a state to its iteration's end."""
        epoch = state.epoch
        while (self.repeat is None or epoch < state.start + self.repeat) and self.length():
            yield from self.epoch(state if epoch == state.epoch else replace(state, epoch=epoch, position=0))
            epoch += 1

    def endless(self, state: State) -> Iterator[Step]:
        """The steps from a state on, through all the iterations that follow its own."""
        while self.length():
            yield from self.iteration(state)
            state = self.after_iteration(state)

    def following(self, state: State) -> State:
        """Where the next iteration begins if the one that begins at a state is broken off at once."""
        over = self.repeat is not None and state.epoch >= state.start + self.repeat
        return state.at(state.epoch if over else state.epoch + 1)

    def after_iteration(self, state: State) -> State:
        """Where the iteration begins that follows a state's; only where one ends."""
        return state.at(state.start + (self.repeat or 0))

    def resume(self, state: State) -> State:
        """The state to go on from: the next epoch's where no host has a batch left in its own."""
        if self.repeat is not None:  # it may come from a loader with another `repeat`
            state = replace(state, start=state.epoch - (state.epoch - state.start) % self.repeat)
        return self.next_epoch(state) if self.end(state.position) <= state.position else state

    def length(self, position: int = 0) -> int:
        """How many steps an epoch has from a position on."""
        return -(-max(0, self.end(position) - position - self.share.index) // self.stride)
