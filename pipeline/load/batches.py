"""The engine under every adapter: batches of arrays, decoded ahead by threads, in an order that can be resumed."""

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise
from typing import Any, TypeVar
from weakref import finalize

import numpy as np

from ..cores import cores
from ..errors import DamagedRecordError, DatasetError, RequestError
from ..formats.decode import Arrays, allocate, dtype_of, item_shape
from ..graph.executor import CompiledGraph
from .ahead import Part, Use
from .buffers import Buffers
from .order import WHOLE, Integers, Order, Share, Shuffle, State, Step, Steps, check_int
from .reader import Reader
from .records import Damage

Item = TypeVar("Item")
_BLOCK = 4096  # examples that are ordered, and rows of a table that are read, at once: fewer take more time each


@dataclass(frozen=True)
class LoadOptions:
    """What all adapters take.

    Attributes:
      batch_size: Examples in a batch.
      repeat: Epochs of an iteration; None for ever.
      share: Which host this is, of how many.
      drop_remainder: Whether only full batches are made.
      equal: Whether all hosts get equally many examples.
      threads: Decoding threads; None: one a core, but no more than pay.
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
                object.__setattr__(self, name, check_int(name, value, 1))


class Stateful(ABC):
    """What all loaders have: where they stand, as a few integers for a checkpoint.

    `state_dict` and `load_state_dict` are what PyTorch's training frameworks call.
    """

    @abstractmethod
    def state(self) -> dict[str, int]:
        """Where the loader stands after the batch that it gave last: plain integers, for a checkpoint."""

    @abstractmethod
    def restore(self, state: Mapping[str, int]) -> None:
        """Makes the next iteration go on from a state, to the end of the iteration in which it was saved.

        The number of hosts may be another.

        Raises:
          RequestError: it is no state of this order.
        """

    def state_dict(self) -> dict[str, int]:
        """The same as `state()`."""
        return self.state()

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """The same as `restore(state_dict)`."""
        self.restore(state_dict)


class Batches(Stateful):
    """An iterable of batches: feature name to NumPy array [batch, ...]; strings are arrays of bytes objects.

    Each iteration begins an epoch, the one after the last that was begun, even if that was broken off. Only after
    `restore` does one go on within an epoch.

    Attributes:
      options: How batches are made.
      order: The order of the examples.
    """

    def __init__(
        self, reader: Reader, order: Order, options: LoadOptions, compiled: CompiledGraph | None = None
    ) -> None:
        self.order = order
        self._reader = reader
        self._compiled = compiled
        self._buffers = Buffers()
        self._skipped: set[int] = set()  # numbers of examples
        self.place(State(order.seed, order=order.fingerprint))
        self._set_options(options)

    def _set_options(self, options: LoadOptions) -> None:
        steps = Steps(
            self.order.count,
            options.batch_size,
            options.share,
            options.drop_remainder,
            options.equal,
            options.repeat,
        )
        if not steps.length() and self.order.count:
            raise RequestError(
                f"expected at least one batch of {options.batch_size} for host {options.share.index} of "
                f"{options.share.count}, found {self.order.count} examples; use smaller batches or drop_remainder=False"
            )
        self.options, self._steps = options, steps

    def __repr__(self) -> str:
        how = f"batch_size={self.options.batch_size}, shuffle={self.order.shuffle!r}"
        window = f", window={self.order.window}" if self.order.shuffle == "window" else ""
        return f"Batches({self.order.count} examples, {how}{window}, seed={self.order.seed})"

    def use_share(self, share: Share) -> None:
        """From the next iteration on, gives another host's part; warns where hosts make unequally many batches.

        Raises:
          RequestError: there is no batch for that host.
        """
        if share == self.options.share:
            return
        self._set_options(replace(self.options, share=share))
        most, least = (replace(self._steps, share=Share(index, share.count)).length() for index in (0, share.count - 1))
        if most > least:
            warnings.warn(
                f"expected {share.count} processes that make equally many batches, found that some make {most} and "
                f"some {least} of the {self.order.count} examples: training in which they wait for each other after "
                f"each batch does not end; use equal=True, which leaves out fewer than {share.count} examples, or "
                "drop_remainder=True",
                stacklevel=4,
            )

    def __len__(self) -> int:
        """Batches of an iteration that begins at an epoch's beginning; one that is resumed gives what is left of them.

        Raises:
          TypeError: it never ends.
        """
        if self.options.repeat is None:
            raise TypeError("a loader with repeat=None has no length: it never ends")
        return self.options.repeat * self._steps.length()

    @property
    def remainder(self) -> int:
        """Examples of all hosts in the last batches of an epoch, if those are not full."""
        return self._steps.end(0) % self._steps.stride

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

    def threads(self, workers: int = 1) -> int:
        """How many threads decode in each of so many processes on this machine."""
        return self.options.threads or self._reader.threads(max(1, cores() // workers))

    def state(self) -> dict[str, int]:
        """See `Stateful.state`.

        Raises:
          RequestError: something reads ahead of what is used.
        """
        if self._read_ahead:
            raise RequestError(
                "state: expected that batches are used when they are given, found tf.data, which reads ahead; use "
                "state_after(batches) with the number of batches of the last iteration that were used"
            )
        return self._state.to_json()

    def restore(self, state: Mapping[str, int]) -> None:
        """See `Stateful.restore`."""
        restored = State.from_json(state)
        self.check(restored)
        self.place(self._steps.resume(restored))

    def check(self, state: State) -> None:
        """Checks that a state is one of this order.

        Raises:
          RequestError: it is not.
        """
        own = self.order.seed, self.order.fingerprint
        if (state.seed, state.order) != own or state.position > self.order.count:
            raise RequestError(
                f"state: expected one with seed {own[0]}, order {own[1]} and position up to {self.order.count}, found "
                f"{state.to_json()}; open the same split of the same generation with the same seed, shuffle and window"
                f"{self._hint(state)}"
            )

    def _hint(self, state: State) -> str:
        """In words which shuffle a state of another order is of, where it is known."""
        kinds: tuple[Shuffle, ...] = (None, "window", "exact")
        saved = [each for each in kinds if replace(self.order, shuffle=each).fingerprint == state.order]
        return f": it was saved with shuffle={saved[0]!r}, and this is {self.order.shuffle!r}" if saved else ""

    def after_iteration(self, state: State) -> State:
        """Where the iteration begins that follows a state's."""
        return self._steps.after_iteration(state)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration begin with an epoch, from 0, unless it goes on within that epoch anyway."""
        epoch = check_int("epoch", epoch, 0)
        self.place(self._next if self._next.epoch == epoch else self._next.at(epoch))

    @property
    def next_start(self) -> State:
        """Where the next iteration begins."""
        return self._next

    def place(self, state: State) -> None:
        """Makes the next iteration begin at a state of this order."""
        self._state = self._begun = self._next = state
        self._current: Iteration | None = None
        self._read_ahead = False

    def state_after(self, batches: int, begun: State | None = None) -> dict[str, int]:
        """The state after so many batches, counted from where the iteration begun last began.

        It is for loops in which other processes iterate, or something reads ahead.

        Args:
          batches: How many of them were used.
          begun: Counts from there instead.
        """
        state = begun or self._begun
        for step in islice(self._steps.endless(state), check_int("batches", batches, 0)):
            state = step.after
        return state.to_json()

    def steps(self) -> Iterator[Step]:
        """What the next iteration does."""
        return self.steps_from(self._next)

    def steps_from(self, state: State) -> Iterator[Step]:
        """The steps from a state to its iteration's end."""
        return self._steps.iteration(state)

    def begin(self, read_ahead: bool = False) -> "Iteration":
        """Begins an iteration: with the next epoch, or where `restore` said.

        Args:
          read_ahead: Whether nobody says which batches were used, so that there is no state.
        """
        self._read_ahead = read_ahead
        self._begun = self._state = self._next
        self._next = self._steps.following(self._begun)
        self._current = Iteration(self, self._begun)
        return self._current

    def take(self, iteration: "Iteration", step: Step) -> None:
        """Counts a batch as taken, unless another iteration began meanwhile."""
        if self._current is iteration:
            self._state = step.after
            self.reach(iteration, step)

    def reach(self, iteration: "Iteration", step: Step) -> None:
        """Counts the epoch of a batch as begun: even if it is broken off, the next iteration begins after it."""
        if self._current is iteration and self._next.epoch != step.epoch + 1:
            self._next = step.after.at(step.epoch + 1)

    def finish(self, iteration: "Iteration") -> None:
        """Counts an iteration's end, also where its last steps are other hosts'."""
        if self._current is iteration and self.options.repeat is not None:
            self._state = self._next = self._steps.after_iteration(iteration.start)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return Closing(self._iterate())

    def _iterate(self) -> Iterator[dict[str, Any]]:
        iteration = self.begin()
        for step, batch in iteration:
            self.take(iteration, step)
            yield batch
        self.finish(iteration)

    def run(self, steps: Iterable[Step], workers: int = 1) -> Iterator[tuple[Step, dict[str, Any]]]:
        """Makes the batches of some steps, in order.

        Args:
          steps: What to make.
          workers: How many processes on this machine make batches of the same iteration.
        """
        return Closing(self._run(steps, workers, self._give))

    def run_stacked(self, steps: Iterable[Step]) -> Iterator[tuple[list[Step], dict[str, Any]]]:
        """As `run`, where batches that are made together and of one size stay so: arrays of [batches, rows, ...].

        It is for what takes long for each call, and little for each batch.
        """
        return Closing(self._run(steps, 1, self._give_stacked))

    @property
    def stacked(self) -> int:
        """How many batches are made together, at most."""
        return -(-_BLOCK // self.options.batch_size) if self._reader.batched else 1

    def _run(self, steps: Iterable[Step], workers: int, give: "Callable[[_Begun], Iterable[Item]]") -> Iterator[Item]:
        """What is given of some steps' blocks, as many of them under way as are to be ready ahead."""
        threads = self.threads(workers)
        use = Use(self.order, workers > 1 or self.options.share.count > 1, workers)
        parts = 1 if self._reader.batched else threads
        ahead = max(self.options.prefetch, threads) if self._reader.batched else self.options.prefetch
        with ThreadPoolExecutor(threads, "penstock-load") as pool:
            begun: deque[_Begun] = deque()
            blocks = self._reader.ahead(self._blocks(steps), use)
            try:
                for block, part in blocks:
                    begun.append(self._submit(pool, block, parts, part))
                    del part  # its memory goes with the last batch of it
                    if len(begun) > ahead:
                        yield from give(begun.popleft())
                while begun:
                    yield from give(begun.popleft())
            finally:
                for batch in begun:
                    for future in batch.parts:
                        future.cancel()
                blocks.close()

    def _blocks(self, steps: Iterable[Step]) -> Iterator["_Block"]:
        """The steps in blocks of one, or of as many as fill _BLOCK where examples are read many at once."""
        for group in _within_epochs(steps, -(-_BLOCK // self.options.batch_size)):
            positions = np.concatenate([step.positions for step in group])
            numbers = self.order.examples(group[0].epoch, positions)  # a call for many costs what one costs
            if self._reader.batched:
                yield _Block(group, numbers)
                continue
            start = 0
            for step in group:
                stop = start + len(step.positions)
                yield _Block([step], numbers[start:stop])
                start = stop

    def _submit(self, pool: ThreadPoolExecutor, block: "_Block", parts: int, part: Part | None) -> "_Begun":
        numbers = block.numbers.tolist()
        inputs = allocate(self._reader.features, len(numbers), self._buffers.empty)
        outputs = self._compiled.allocate(len(numbers), inputs, self._buffers.empty) if self._compiled else inputs
        bounds = sorted({len(numbers) * part // parts for part in range(parts + 1)})
        futures = [
            pool.submit(self._make, inputs, outputs, numbers, start, stop, part) for start, stop in pairwise(bounds)
        ]
        return _Begun(block, numbers, outputs, futures)

    def _make(
        self, inputs: Arrays, outputs: Arrays, numbers: list[int], start: int, stop: int, part: Part | None
    ) -> Damage:
        """Fills some rows of a batch, and applies the graph to them; returns the rows that cannot be read."""
        rows = slice(start, stop)
        damage = self._reader.fill_intact(inputs, numbers[rows], start, part)
        if self._compiled and len(damage) < stop - start:
            self._compiled.into(_rows(inputs, rows), _rows(outputs, rows))
        return {start + position: error for position, error in damage.items()}

    def _give(self, begun: "_Begun") -> Iterator[tuple[Step, dict[str, Any]]]:
        damage = Damage()
        for part in begun.parts:
            damage |= part.result()
        start = 0
        for step in begun.block.steps:
            stop = start + len(step.positions)
            batch = begun.arrays if len(begun.block.steps) == 1 else _rows(begun.arrays, slice(start, stop))
            damaged = sorted(row for row in damage if start <= row < stop)
            if damaged:
                self._skip([damage[row] for row in damaged], [begun.numbers[row] for row in damaged])
                batch = self._without(batch, [row - start for row in damaged], stop - start)
            if batch:
                yield step, batch
            start = stop

    def _give_stacked(self, begun: "_Begun") -> Iterator[tuple[list[Step], dict[str, Any]]]:
        if any(part.result() for part in begun.parts):
            for step, batch in self._give(begun):
                yield [step], {name: values[None] for name, values in batch.items()}
            return
        start = 0
        for rows, group in groupby(begun.block.steps, lambda step: len(step.positions)):
            steps = list(group)
            stop = start + rows * len(steps)
            yield (
                steps,
                {name: array[start:stop].reshape(-1, rows, *array.shape[1:]) for name, array in begun.arrays.items()},
            )
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


class Iteration:
    """One iteration over a loader: steps and their batches, which count as taken when the loader is told so.

    Attributes:
      start: Where it began.
    """

    def __init__(self, batches: Batches, start: State) -> None:
        self.start = start
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[Step, dict[str, Any]]]:
        return self._batches.run(self._batches.steps_from(self.start))

    def stacked(self) -> Iterator[tuple[list[Step], dict[str, Any]]]:
        """As the iteration, by `Batches.run_stacked`."""
        return self._batches.run_stacked(self._batches.steps_from(self.start))


class Closing(Iterator[Item]):
    """A generator's items. The generator is closed when this goes, and at the latest before Python takes modules apart.

    Otherwise a generator that is alive then would stop its threads with functions that are None already.
    """

    def __init__(self, generator: Iterator[Item]) -> None:
        self._generator = generator
        self.close = finalize(self, _close, generator)

    def __next__(self) -> Item:
        return next(self._generator)


def _close(generator: Any) -> None:
    with suppress(ValueError):  # another thread is in it, which ends with the process
        generator.close()


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
    numbers: Integers

    @property
    def epoch(self) -> int:
        """The epoch that they are of."""
        return self.steps[0].epoch

    @property
    def first(self) -> int:
        """Where in the epoch they begin."""
        return int(self.steps[0].positions[0])

    @property
    def end(self) -> int:
        """Where in the epoch they end."""
        return int(self.steps[-1].positions[-1]) + 1


@dataclass(frozen=True)
class _Begun:
    """A block of batches that is being made: its examples' numbers, its arrays, and the parts that fill them."""

    block: _Block
    numbers: list[int]
    arrays: Arrays
    parts: list[Future[Damage]]


def with_state(batches: Batches, state: Mapping[str, int] | None) -> Batches:
    """The same loader, restored where a state is given."""
    if state is not None:
        batches.restore(state)
    return batches


def make_options(shard: tuple[int, int] | None, **options: Any) -> LoadOptions:
    """LoadOptions from an adapter's arguments; `shard` is (index, count)."""
    if shard is None:
        return LoadOptions(**options)
    if not isinstance(shard, Sequence) or len(shard) != 2:
        raise RequestError(f"shard: expected (index, count), found {shard!r}")
    return LoadOptions(**options, share=Share(*shard))
