"""Where the workers of a PyTorch DataLoader begin: they agree on it through memory that they share.

PyTorch starts workers, and lets them begin again, without a word to the dataset in the process that asked for it. All
workers of one iteration have the same seed, and have begun equally often. So worker 0 takes the next epoch, and writes
down where it begins under that seed and number; the other workers wait until they can read it.
"""

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

from ..errors import PenstockError
from .order import Integers, State, Step, check_int

Place: TypeAlias = tuple[int, int, int]  # epoch, position and start of a State
_NONE: Place = (-2, -2, -2)
UNKNOWN: Place = (-1, -1, -1)  # where workers began that each went on from a state of its own
_HISTORY = 8  # iterations of workers of which it is known where they began
_WORKERS = 128  # of which it is known which of these iterations they joined; more share places
_OWNERS = 32  # processes with loaders that share memory, as ranks do that were forked from one process
_ROW = 11  # numbers: ten and their checksum
_BLOCK = _ROW * (1 + _HISTORY) + _HISTORY * _WORKERS
SIZE = _OWNERS * _BLOCK  # numbers of int64
_PATIENCE = 300.0  # seconds that a worker waits for worker 0


@dataclass(frozen=True)
class Turn:
    """An iteration, as its workers know it.

    Attributes:
      owner: The process that started them.
      seed: PyTorch's seed for all of them.
      number: How often each of them has begun before.
      workers: How many they are.
    """

    owner: int
    seed: int
    number: int
    workers: int

    @property
    def key(self) -> tuple[int, int, int]:
        """Three numbers that tell it from others."""
        return self.owner, self.seed, self.number << 16 | self.workers


@dataclass(frozen=True)
class Start:
    """What was said last of where iterations begin.

    Attributes:
      following: Where the next one begins.
      begun: Where workers began the last one, or UNKNOWN; None: the owner said it, and iterates itself.
    """

    following: Place
    begun: Place | None


class SharedStarts:
    """Where a loader begins next, and where its workers began, in memory that processes share.

    A row has one writer: the process that owns the loader, or worker 0 of an iteration. The one that was begun last
    counts, so that workers which still make batches that nobody wants change nothing.

    Args:
      memory: `SIZE` numbers, int64, at first all 0.
    """

    def __init__(self, memory: Integers) -> None:
        self._memory = memory

    def latest(self, owner: int) -> Start | None:
        """What was said last; None: nothing."""
        row = max(self._read_all(owner), default=None)
        return Start(row[7:10], None if row[4:7] == _NONE else row[4:7]) if row else None  # type: ignore[arg-type]

    def publish(self, owner: int, following: Place) -> None:
        """The owner says where the next iteration begins."""
        if self.latest(owner) != Start(following, None):
            _write(self._rows(owner)[0], (self._next_serial(owner), owner, 0, 0, *_NONE, *following))

    def begin(self, turn: Turn, begun: Place, following: Place) -> int:
        """Worker 0 says where its iteration begins, and where the next one would; returns its serial number."""
        serial = self._next_serial(turn.owner)
        _write(self._row(turn, serial), (serial, *turn.key, *begun, *following))
        return serial

    def change(self, turn: Turn, serial: int, begun: Place, following: Place) -> None:
        """Worker 0 says that the iteration after its own begins elsewhere."""
        row = self._row(turn, serial)
        if (said := _read(row)) and said[0] == serial and said[7:] != following:
            _write(row, (serial, *turn.key, *begun, *following))

    def join(self, turn: Turn, worker: int, patience: float = _PATIENCE) -> Place:
        """Where worker 0 has begun, or begins within some seconds.

        Raises:
          PenstockError: it did not.
        """
        joined = self._block(turn.owner)[-_HISTORY * _WORKERS :].reshape(_HISTORY, _WORKERS)[:, worker % _WORKERS]
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for row in self._read_all(turn.owner):
                # One that this worker has joined before had the same seed, as after torch.manual_seed.
                if row[1:4] == turn.key and joined[row[0] % _HISTORY] != row[0]:
                    joined[row[0] % _HISTORY] = row[0]
                    return row[4], row[5], row[6]
            time.sleep(0.001)
        raise PenstockError(
            f"worker {worker}: expected another worker to say where the iteration begins within {patience:.0f} s, "
            "found that none did; give each DataLoader a loader of its own"
        )

    def tell(self, turn: Turn, over: bool) -> None:
        """The worker that gave, or gives, the last batch of an iteration tells the others whether it was used."""
        self.begin(replace(turn, owner=-turn.owner), (int(over), 0, 0), _NONE)

    def told(self, turn: Turn, worker: int) -> bool:
        """What that worker tells, within some seconds.

        Raises:
          PenstockError: it did not.
        """
        return self.join(replace(turn, owner=-turn.owner), worker)[0] == 1

    def _block(self, owner: int) -> Integers:
        start = owner % _OWNERS * _BLOCK
        return self._memory[start : start + _BLOCK]

    def _rows(self, owner: int) -> Integers:
        """[1 + _HISTORY, _ROW]: the owner's row, and those of iterations of workers."""
        return self._block(owner)[: (1 + _HISTORY) * _ROW].reshape(1 + _HISTORY, _ROW)

    def _row(self, turn: Turn, serial: int) -> Integers:
        row: Integers = self._rows(turn.owner)[1 + serial % _HISTORY]
        return row

    def _read_all(self, owner: int) -> list[tuple[int, ...]]:
        return [row for row in map(_read, self._rows(owner)) if row and row[1] == owner]

    def _next_serial(self, owner: int) -> int:
        return 1 + max((row[0] for row in self._read_all(owner)), default=0)


def _write(row: Integers, numbers: Sequence[int]) -> None:
    row[:-1] = numbers
    row[-1] = zlib.crc32(row[:-1].tobytes())


def _read(row: Integers) -> tuple[int, ...] | None:
    """The numbers in a row; None while they are being written, or where there are none."""
    copy = row.copy()
    written: bool = copy[-1] == zlib.crc32(copy[:-1].tobytes())
    return tuple(copy[:-1].tolist()) if written else None


def place_of(state: State) -> Place:
    """A state's numbers that change."""
    return state.epoch, state.position, state.start


def at_place(state: State, place: Place) -> State:
    """A state of the same order, at a place."""
    epoch, position, start = place
    return replace(state, epoch=epoch, position=position, start=start)


@dataclass(frozen=True)
class WorkerStep(Step):
    """A step of one worker; the state after it is where the worker's next one begins.

    Attributes:
      others: How many steps of other workers come before that.
    """

    others: int


def every(steps: Iterator[Step], number: int) -> Iterator[WorkerStep]:
    """Every `number`th step from the first on."""
    while group := list(islice(steps, number)):
        yield WorkerStep(group[0].epoch, group[0].positions, group[-1].after, len(group) - 1)


@dataclass(frozen=True)
class WorkerState:
    """Where a worker stands: integers, for a checkpoint of all workers.

    A worker that has none of an iteration's batches left does not know whether those of others were all used. If they
    were, all workers go on with the next iteration together, and the first of its batches is that of the worker after
    the one that gave the last.

    Attributes:
      state: Where its next batch begins, in the iteration that it is in.
      others: How many batches of other workers came between its last one and there.
    """

    state: State
    others: int = 0

    def to_json(self) -> dict[str, int]:
        """As a dict."""
        return {**self.state.to_json(), "others": self.others}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "WorkerState":
        """Reads it back.

        Raises:
          RequestError: it is no such dict.
        """
        state = State.from_json({name: value for name, value in entry.items() if name != "others"})
        return cls(state, check_int("state: others", entry.get("others", 0), 0))
