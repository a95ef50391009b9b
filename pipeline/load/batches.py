"""The engine under every adapter: batches of arrays, decoded ahead by threads, in an order that can be resumed."""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise, takewhile
from typing import Any

import numpy as np

from ..errors import DamagedRecordError, DatasetError, RequestError
from ..formats.decode import Arrays, allocate, dtype_of, item_shape
from ..graph.executor import CompiledGraph
from .buffers import Buffers
from .order import WHOLE, Order, Share, State, Step, Steps, check_int
from .reader import Reader
from .records import Damage

_BLOCK = 4096  # examples that are ordered, and rows of a table that are read, at once: fewer take more time each


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class LoadOptions:
    """What all adapters take.

    Attributes:
      batch_size: Examples in a batch.
      repeat: Epochs of an iteration, the one that it begins or goes on in among them; None for ever.
      share: Which host this is, of how many.
      drop_remainder: Whether only full batches are made.
      equal: Whether all hosts get equally many examples.
      threads: Decoding threads; None: one a core.
      prefetch: Batches that are being made ahead of the one in use.
      cache: Whether decoded examples are kept in memory after the first epoch.
      skip_damaged: Whether damaged examples are passed over.
    """

    batch_size: int = 32
    repeat: int | None = 1
    share: Share = WHOLE
    drop_remainder: bool = False
    equal: bool = False
    threads: int | None = None
    prefetch: int = 2
    cache: bool = False
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.skip_damaged, bool):
            raise RequestError(f"skip_damaged: expected True or False, found {self.skip_damaged!r}")
        for name in ("batch_size", "prefetch", "threads", "repeat"):
            value = getattr(self, name)
            if value is not None or name in ("batch_size", "prefetch"):
                check_int(name, value, 1)


class Batches:
    """An iterable of batches: feature name to NumPy array [batch, ...]; strings are arrays of bytes objects.

    Each iteration goes on where `state()` says; a loader that has come to its end begins the next epochs.

    Attributes:
      options: How batches are made.
      order: The order of the examples.
    """

    def __init__(
        self, reader: Reader, order: Order, options: LoadOptions, compiled: CompiledGraph | None = None
    ) -> None:
        self.options = options
        self.order = order
        self._reader = reader
        self._compiled = compiled
        self._buffers = Buffers()
        self._skipped: set[int] = set()  # numbers of examples; forks have the same set
        self._state = State(order.seed, order=order.fingerprint)
        self._steps = Steps(order.count, options.batch_size, options.share, options.drop_remainder, options.equal)
        if not self._steps.length() and order.count:
            raise RequestError(
                f"expected at least one batch of {options.batch_size} for host {options.share.index} of "
                f"{options.share.count}, found {order.count} examples; use smaller batches or drop_remainder=False"
            )

    def __len__(self) -> int:
        """Batches that an iteration from the present state makes.

        Raises:
          TypeError: it never ends.
        """
        if self.options.repeat is None:
            raise TypeError("a loader with repeat=None has no length: it never ends")
        return self._steps.length(self._state.position) + (self.options.repeat - 1) * self._steps.length()

    @property
    def signature(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """What is in a batch: name to shape, without the batch, and NumPy dtype."""
        if self._compiled:
            return self._compiled.signature
        features = self._reader.features
        return {name: (item_shape(feature), dtype_of(feature)) for name, feature in features.items()}

    @property
    def skipped(self) -> int:
        """How many examples were passed over because they are damaged, each counted once."""
        return len(self._skipped)

    def state(self) -> dict[str, int]:
        """Where the loader stands after the batch that it gave last: integers, for a checkpoint."""
        return self._state.to_json()

    def restore(self, state: Mapping[str, int]) -> None:
        """Goes on from a state, on this or another number of hosts.

        Raises:
          RequestError: it is no state of this order.
        """
        restored = State.from_json(state)
        own = self.order.seed, self.order.fingerprint
        if (restored.seed, restored.order) != own or restored.position > self.order.count:
            raise RequestError(
                f"state: expected one with seed {own[0]}, order {own[1]} and position up to {self.order.count}, found "
                f"{dict(state)}; open the same split of the same generation with the same seed, shuffle and window"
            )
        over = self._steps.end(restored.position) <= restored.position  # no host has a batch left
        self._state = restored.next_epoch() if over else restored

    def state_after(self, batches: int) -> dict[str, int]:
        """The state after so many batches from the present one: for loops where other processes iterate."""
        state = self._state
        for step in islice(self._endless(), batches):
            state = step.after
        return state.to_json()

    def steps(self) -> Iterator[Step]:
        """What an iteration from the present state does."""
        steps = self._endless()
        if self.options.repeat is None:
            return steps
        end = self._state.epoch + self.options.repeat
        return takewhile(lambda step: step.epoch < end, steps)

    def _endless(self) -> Iterator[Step]:
        state = self._state
        while self._steps.length():
            yield from self._steps.epoch(state)
            state = state.next_epoch()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        start = self._state
        yield from self.run(self.steps())
        if self.options.repeat is not None:  # also where the last steps are other hosts'
            self._state = start.next_epoch(self.options.repeat)

    def fork(self, threads: int | None = None) -> "Batches":
        """Another loader that begins where this one is, and goes its own way.

        Args:
          threads: Its decoding threads, where their number was not asked for.
        """
        other = copy(self)
        other.options = replace(self.options, threads=self.options.threads or threads)
        return other

    def run(self, steps: Iterable[Step]) -> Iterator[dict[str, Any]]:
        """Makes the batches of some steps, in order."""
        threads = self.options.threads or cores()
        parts = 1 if self._reader.batched else threads
        ahead = max(self.options.prefetch, threads) if self._reader.batched else self.options.prefetch
        with ThreadPoolExecutor(threads, "penstock-load") as pool:
            begun: deque[_Begun] = deque()
            try:
                for block in self._blocks(steps):
                    begun.append(self._begin(pool, block, parts))
                    if len(begun) > ahead:
                        yield from self._finish(begun.popleft())
                while begun:
                    yield from self._finish(begun.popleft())
            finally:
                for batch in begun:
                    for part in batch.parts:
                        part.cancel()

    def _blocks(self, steps: Iterable[Step]) -> Iterator["_Block"]:
        """The steps in blocks of one, or of as many as fill _BLOCK where examples are read many at once."""
        for group in _within_epochs(steps, -(-_BLOCK // self.options.batch_size)):
            positions = np.concatenate([step.positions for step in group])
            numbers = self.order.examples(group[0].epoch, positions).tolist()  # a call for many costs what one costs
            if self._reader.batched:
                yield _Block(group, numbers)
                continue
            start = 0
            for step in group:
                stop = start + len(step.positions)
                yield _Block([step], numbers[start:stop])
                start = stop

    def _begin(self, pool: ThreadPoolExecutor, block: "_Block", parts: int) -> "_Begun":
        numbers = block.numbers
        inputs = allocate(self._reader.features, len(numbers), self._buffers.empty)
        outputs = self._compiled.allocate(len(numbers), inputs, self._buffers.empty) if self._compiled else inputs
        bounds = sorted({len(numbers) * part // parts for part in range(parts + 1)})
        futures = [pool.submit(self._make, inputs, outputs, numbers, start, stop) for start, stop in pairwise(bounds)]
        return _Begun(block, outputs, futures)

    def _make(self, inputs: Arrays, outputs: Arrays, numbers: list[int], start: int, stop: int) -> Damage:
        """Fills some rows of a batch, and applies the graph to them; returns the rows that cannot be read."""
        rows = slice(start, stop)
        damage = self._reader.fill_intact(inputs, numbers[rows], start)
        if self._compiled and len(damage) < stop - start:
            self._compiled.into(_rows(inputs, rows), _rows(outputs, rows))
        return {start + position: error for position, error in damage.items()}

    def _finish(self, begun: "_Begun") -> Iterator[dict[str, Any]]:
        damage = Damage()
        for part in begun.parts:
            damage |= part.result()
        start = 0
        for step in begun.block.steps:
            stop = start + len(step.positions)
            batch = begun.arrays if len(begun.block.steps) == 1 else _rows(begun.arrays, slice(start, stop))
            damaged = sorted(row for row in damage if start <= row < stop)
            if damaged:
                self._skip([damage[row] for row in damaged], [begun.block.numbers[row] for row in damaged])
                batch = self._without(batch, [row - start for row in damaged], stop - start)
            self._state = step.after
            if batch:
                yield batch
            start = stop

    def _skip(self, errors: Sequence[Exception], numbers: Iterable[int]) -> None:
        """Notes damaged examples and warns of them; raises the first error where they may not be passed over."""
        for error in errors:
            if not (self.options.skip_damaged and isinstance(error, DamagedRecordError)):
                raise error
        self._skipped.update(numbers)
        for words in dict.fromkeys(map(str, errors)):
            warnings.warn(f"{words}; passed over, as skip_damaged=True asks", stacklevel=2)

    def _without(self, batch: Arrays, damaged: Sequence[int], size: int) -> Arrays:
        """A batch without some rows; with other rows in their place where only full batches are made."""
        intact = np.delete(np.arange(size), damaged)
        if self.options.drop_remainder and len(intact):
            chosen = np.arange(size)
            chosen[damaged] = np.resize(intact, len(damaged))
            return {name: values[chosen] for name, values in batch.items()}
        if self.options.drop_remainder:
            raise DatasetError(
                f"expected an intact example in a batch of {size}, found none; use larger batches, or "
                "drop_remainder=False, which leaves the batch out"
            )
        return {name: values[intact] for name, values in batch.items()} if len(intact) else {}


def _within_epochs(steps: Iterable[Step], most: int) -> Iterator[list[Step]]:
    """Steps in order, so many of one epoch at a time."""
    for _, epoch in groupby(steps, key=lambda step: step.epoch):
        while some := list(islice(epoch, most)):
            yield some


def _rows(arrays: Arrays, rows: slice) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


@dataclass(frozen=True)
class _Block:
    """Batches that are made together: their steps, and the numbers of their examples."""

    steps: list[Step]
    numbers: list[int]


@dataclass(frozen=True)
class _Begun:
    """A block of batches that is being made: its arrays, and the parts that fill them."""

    block: _Block
    arrays: Arrays
    parts: list[Future[Damage]]


def with_state(batches: Batches, state: Mapping[str, int] | None) -> Batches:
    """The same loader, restored where a state is given."""
    if state is not None:
        batches.restore(state)
    return batches


def make_options(shard: tuple[int, int], **options: Any) -> LoadOptions:
    """LoadOptions from an adapter's arguments; `shard` is (index, count)."""
    if not isinstance(shard, Sequence) or len(shard) != 2:
        raise RequestError(f"shard: expected (index, count), found {shard!r}")
    return LoadOptions(**options, share=Share(*shard))
