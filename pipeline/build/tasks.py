"""How the stages of a pipeline follow each other: numbers go in, one small signal comes out, and nothing else.

A stage's tasks are numbers, spread over the workers; each task leaves what it has made in files, and yields a signal of
some hundred bytes. Their sum is one element, which the next stage begins with. No engine holds more for it than that,
and none builds a side input.

What a task is refused by (data, a recipe, another run) it does not raise: an engine would try it again some times, and
bury its words in a traceback. It is in the signal; the tasks that are left end at once, and the commit tells it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import apache_beam as beam

from ..errors import PenstockError
from ..prepare.shipping import OwnModules
from . import claim
from .versions import expect_launchers

_WORDS = 800  # bytes of a refusal: a signal has 1 kB at most


@dataclass(frozen=True)
class Refusal:
    """Why a run can come to nothing.

    Attributes:
      kind: The name of the error's class.
      message: The error's words.
    """

    kind: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> "Refusal":
        """What is said of an error."""
        words = str(error).strip()
        if not isinstance(error, PenstockError | OSError):  # a defect, or what a library raised
            words = f"{type(error).__name__}: {words}"
        return cls(type(error).__name__, _cut(words))


def _cut(words: str) -> str:
    """The beginning of long words."""
    encoded = words.encode(errors="replace")
    return words if len(encoded) <= _WORDS else f"{encoded[:_WORDS].decode(errors='ignore')}…"


@dataclass(frozen=True)
class Signal:
    """What some tasks of a stage tell those that wait for it.

    Attributes:
      done: How many of them are done.
      refusal: Why one of them is not, if so.
    """

    done: int = 0
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Task:
    """Some of a stage's work.

    Attributes:
      numbers: What to do.
      refusal: Why nothing is to be done any more.
    """

    numbers: tuple[int, ...]
    refusal: Refusal | None = None


def is_worth_another_try(error: Exception) -> bool:
    """Whether another worker may do what this one failed to: that is the engine's to decide, and it is raised.

    A full disk, a broken host or a store that cannot be reached from here are. Missing permissions are missing there,
    too; and what data or a recipe lead to is the same everywhere.
    """
    return isinstance(error, OSError | MemoryError) and not isinstance(error, PermissionError)


class Spread(beam.PTransform):
    """One signal in; a stage's tasks out, in their order, spread over the workers.

    Without the shuffle an engine would run the stage where the signal is, in one thread.
    """

    def __init__(self, tasks: Iterable[Sequence[int]] | int) -> None:
        """Lists the tasks.

        Args:
          tasks: The numbers of each; or how many there are, of one number each, from 0 on.
        """
        super().__init__()
        self._tasks = [(number,) for number in range(tasks)] if isinstance(tasks, int) else [*map(tuple, tasks)]

    def expand(self, signal: beam.PCollection) -> beam.PCollection:
        tasks = signal | "List" >> beam.FlatMap(_list, self._tasks)
        return tasks if len(self._tasks) == 1 else tasks | "Reshuffle" >> beam.Reshuffle()


def _list(signal: Signal, tasks: Sequence[tuple[int, ...]]) -> Iterator[Task]:
    if signal.refusal:
        yield Task((), signal.refusal)  # for the stages that follow
        return
    for numbers in tasks:
        yield Task(numbers)


class Wait(beam.PTransform):
    """Signals in; their sum out, one element, when there are no more."""

    def expand(self, signals: beam.PCollection) -> beam.PCollection:
        # With defaults it would build a side input, in case that there is none.
        return signals | beam.CombineGlobally(_Sum()).without_defaults()


class _Sum(beam.CombineFn):
    """Adds signals; of refusals one stays, always the same."""

    def create_accumulator(self) -> Signal:
        return Signal()

    def add_input(self, accumulator: Signal, signal: Signal) -> Signal:
        return _add(accumulator, signal)

    def merge_accumulators(self, accumulators: Iterable[Signal]) -> Signal:
        total = Signal()
        for each in accumulators:
            total = _add(total, each)
        return total

    def extract_output(self, accumulator: Signal) -> Signal:
        return accumulator


def _add(first: Signal, second: Signal) -> Signal:
    refusals = [each.refusal for each in (first, second) if each.refusal]
    return Signal(first.done + second.done, min(refusals, key=lambda each: each.message) if refusals else None)


class StageOptions(Protocol):
    """What a worker must know for a stage, whatever it does there.

    Attributes:
      root: The generation's URI.
      own: The recipe's own modules.
      versions: What the launcher has, and workers must have; empty: they are not asked.
    """

    @property
    def root(self) -> str: ...

    @property
    def own(self) -> OwnModules: ...

    @property
    def versions(self) -> Mapping[str, str]: ...


Options = TypeVar("Options", bound=StageOptions)


class StageDoFn(beam.DoFn, Generic[Options]):
    """Tasks in; signals out, of each when it is done. Each worker is checked first: what it writes stays."""

    def __init__(self, options: Options, run: str) -> None:
        """A stage of a run.

        Args:
          options: What to know.
          run: The run's id.
        """
        self._options = options
        self._run = run
        self._is_checked = False

    def do(self, numbers: Sequence[int]) -> int:
        """Does a task, or begins it; gives how many of the stage's tasks are done that no signal has told of yet.

        Raises:
          Exception: whatever prevents it.
        """
        raise NotImplementedError

    def process(self, task: Task) -> Iterator[Any]:
        yield Signal(refusal=task.refusal) if task.refusal else self.signal(self.do, task.numbers)

    def signal(self, do: Callable[[Sequence[int]], int], numbers: Sequence[int]) -> Signal:
        """What is to be told of tasks, once something is done for them.

        Args:
          do: As the method `do`.
          numbers: The tasks'.

        Raises:
          Exception: what another worker may do: that is the engine's to try again.
        """
        try:
            if not self._is_checked:
                expect_launchers(self._options.versions, self._options.own)
                self._is_checked = True
            return Signal(do(numbers))
        except Exception as error:
            if is_worth_another_try(error):
                raise
            logging.getLogger(__name__).info("tasks %s are refused", numbers, exc_info=True)
            refusal = Refusal.of(error)
            claim.stop(self._options.root, self._run, refusal.message)
            return Signal(refusal=refusal)
