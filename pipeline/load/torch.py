"""PyTorch: the engine's batches as tensors. Imports PyTorch."""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import RequestError
from ..graph.backends import to_device
from .batches import Batches, Closing, Iteration, Stateful
from .order import Share, State
from .workers import SIZE, UNKNOWN, Place, SharedStarts, Turn, WorkerState, WorkerStep, at_place, every, place_of

Tensors = dict[str, Any]
# When StatefulDataLoader goes on after an iteration's end, it makes an iterator, asks each worker for two batches,
# throws it away, and makes another: then the first one does not count.
_THROWN_AWAY = 2


class TorchBatches(Stateful, IterableDataset[Tensors]):
    """An iterable of batches: feature name to tensor [batch, ...].

    Strings are lists of bytes objects, lists of any length are lists of tensors.

    In a DataLoader (with batch_size=None) of n workers, worker i makes the batches i, i + n, ...: the order stays the
    same, and each iteration begins the next epoch. What was used of the workers' batches is seen by torchdata's
    StatefulDataLoader, which saves and restores where they are; without it, ask for `state_after(batches)`.

    Args:
      batches: The engine.
      device: Where the tensors go; None leaves them in memory.
      apply: What runs on the tensors there.
      by_rank: Whether this process's rank in torch.distributed says which share of the examples it gets.
    """

    def __init__(
        self,
        batches: Batches,
        device: Any = None,
        apply: Callable[[Mapping[str, Any]], Tensors] | None = None,
        by_rank: bool = False,
    ) -> None:
        self.batches = batches
        self._device = None if device is None else torch.device(device)
        self._apply = apply
        self._by_rank = by_rank
        self._memory = torch.zeros(SIZE, dtype=torch.int64).share_memory_()  # for workers, in other processes
        self._worker_begun = 0  # iterations that this worker has begun
        self._worker_state: WorkerState | None = None
        self._worker_resumes = False
        self._publish()

    def __getstate__(self) -> dict[str, Any]:
        self._use_rank()  # workers that are spawned do not know it
        return self.__dict__

    def __len__(self) -> int:
        self._use_rank()
        return len(self.batches)

    @property
    def skipped(self) -> int:
        """How many damaged examples were passed over; those of a DataLoader's workers are not counted here."""
        return self.batches.skipped

    def state(self) -> dict[str, int]:
        """See `Stateful.state`; in a DataLoader's worker, where that worker's next batch begins.

        Raises:
          RequestError: a DataLoader's workers iterate, of whose batches this process does not know which were used.
        """
        if get_worker_info() is not None:
            return (self._worker_state or WorkerState(self.batches.next_start)).to_json()
        if self._workers_begun():
            raise RequestError(
                "state: expected that this process iterates, found that a DataLoader's workers do, ahead of what is "
                "used of their batches; use torchdata's StatefulDataLoader and its state, or state_after(batches) with "
                "the number of batches that were used"
            )
        return self.batches.state()

    def state_after(self, batches: int) -> dict[str, int]:
        """See `Batches.state_after`; it also counts from where a DataLoader's workers began.

        Raises:
          RequestError: they went on from a StatefulDataLoader's state.
        """
        begun = self._workers_begun()
        if begun == UNKNOWN:
            raise RequestError(
                "state_after: expected an iteration that began where this loader stood, found one that a "
                "StatefulDataLoader resumed; use its state"
            )
        return self.batches.state_after(batches, at_place(self.batches.next_start, begun) if begun else None)

    def restore(self, state: Mapping[str, int]) -> None:
        """See `Stateful.restore`. Where a DataLoader's workers begin the next iteration, they go on there, too."""
        if get_worker_info() is not None:
            self._worker_state, self._worker_resumes = WorkerState.from_json(state), True
            self.batches.check(self._worker_state.state)
            return
        self._use_rank()
        self.batches.restore(state)
        self._publish()

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration begin with an epoch, from 0, unless it goes on within that epoch anyway."""
        self._follow()
        self.batches.set_epoch(epoch)
        self._publish()

    def __iter__(self) -> Iterator[Tensors]:
        """The batches; in a DataLoader's worker, that worker's."""
        self._use_rank()
        info = get_worker_info()
        return Closing(self._iterate() if info is None else self._begin_work(info.id, info.num_workers, info.seed))

    def _iterate(self) -> Iterator[Tensors]:
        self._follow()
        iteration = self.batches.begin()
        self._publish()
        epoch = iteration.start.epoch
        for step, batch in iteration:
            self.batches.take(iteration, step)
            if step.epoch != epoch:
                epoch = step.epoch
                self._publish()
            yield self._to_tensors(batch)
        self.batches.finish(iteration)
        self._publish()

    def _begin_work(self, worker: int, workers: int, seed: int) -> Iterator[Tensors]:
        """Begins a worker's iteration, where a state told it to go on or else where worker 0 does."""
        turn = Turn(_owner(), seed - worker, self._worker_begun, workers)
        self._worker_begun += 1
        if self._worker_resumes and self._worker_state:
            self._worker_resumes = False
            return self._resume_work(turn, worker, self._worker_state)
        if worker == 0:
            latest = self._starts.latest(turn.owner)
            place = latest.following if latest else place_of(self.batches.next_start)
        else:
            place = self._starts.join(turn, worker)
        return self._work(turn, worker, worker, at_place(self.batches.next_start, place))

    def _resume_work(self, turn: Turn, worker: int, resumed: WorkerState) -> Iterator[Tensors]:
        """Goes on where a worker was; with the next iteration if of that one all batches were used, but not its end."""
        left = len(list(islice(self.batches.steps_from(resumed.state), 2)))
        if left == 1:  # it is the last
            self._starts.tell(turn, over=False)
        elif left == 0:
            if resumed.others == 0:
                self._starts.tell(turn, over=True)
            if resumed.others == 0 or self._starts.told(turn, worker):
                first = turn.workers - 1 - resumed.others
                start = self.batches.after_iteration(resumed.state)
                return self._work(turn, worker, first, start, asked=_THROWN_AWAY)
        return self._work(turn, worker, 0, resumed.state, resumed)

    def _work(
        self, turn: Turn, worker: int, first: int, start: State, resumed: WorkerState | None = None, asked: int = 0
    ) -> Iterator[Tensors]:
        """A worker's batches: of as many as there are workers, one each time, after the first that others make.

        Args:
          turn: The iteration.
          worker: The worker's number.
          first: How many batches others make before.
          start: Where the iteration begins or, for this worker, goes on.
          resumed: The state in which the worker goes on within it.
          asked: The iteration counts as begun only when worker 0 has been asked for more batches.
        """
        self.batches.place(start)
        iteration = self.batches.begin()
        steps = self.batches.steps_from(start)
        before = [start, *(step.after for step in islice(steps, first))]
        others = (len(before) - 2 - first) % turn.workers  # if others make all batches
        self._worker_state = resumed or WorkerState(replace(before[-1], start=start.start), others)
        begun = UNKNOWN if resumed else place_of(start)
        said = start if asked else self.batches.next_start
        serial = self._starts.begin(turn, begun, place_of(said)) if worker == 0 else 0

        def publish(number: int) -> None:
            nonlocal said
            if worker == 0 and number > asked and said.epoch != self.batches.next_start.epoch:
                said = self.batches.next_start
                self._starts.change(turn, serial, begun, place_of(said))

        made = self.batches.run(every(steps, turn.workers), turn.workers)
        return self._make(iteration, cast("Iterator[tuple[WorkerStep, dict[str, Any]]]", made), publish)

    def _make(
        self,
        iteration: Iteration,
        batches: Iterator[tuple[WorkerStep, dict[str, Any]]],
        publish: Callable[[int], None],
    ) -> Iterator[Tensors]:
        """Gives a worker's batches, and notes where the worker goes on after each."""
        number = 0
        for number, (step, batch) in enumerate(batches, 1):
            self.batches.take(iteration, step)
            self._worker_state = WorkerState(replace(step.after, start=iteration.start.start), step.others)
            publish(number)
            yield self._to_tensors(batch)
        self.batches.finish(iteration)
        publish(number + 1)

    def _publish(self) -> None:
        self._starts.publish(os.getpid(), place_of(self.batches.next_start))

    def _workers_begun(self) -> Place | None:
        """Where a DataLoader's workers began, if they iterated last."""
        latest = self._starts.latest(os.getpid())
        return latest.begun if latest else None

    def _follow(self) -> None:
        """Begins next where workers stopped, if they iterated last."""
        latest = self._starts.latest(os.getpid())
        if latest and latest.begun:
            self.batches.place(at_place(self.batches.next_start, latest.following))

    def _use_rank(self) -> None:
        """Takes the share of the examples that is this process's rank's; spawned workers bring theirs along."""
        if not self._by_rank:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.batches.use_share(Share(torch.distributed.get_rank(), torch.distributed.get_world_size()))
        elif get_worker_info() is None and os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
            warnings.warn(
                f"expected torch.distributed to be initialized, as WORLD_SIZE={os.environ['WORLD_SIZE']} says that "
                "there are several processes, found that it is not: each of them gets all examples; initialize it "
                "before the first batch, or give shard=(rank, world_size), or shard=(0, 1) if this is meant",
                stacklevel=3,
            )

    @property
    def _starts(self) -> SharedStarts:
        return SharedStarts(self._memory.numpy())

    def _to_tensors(self, batch: Mapping[str, np.ndarray]) -> Tensors:
        tensors = {name: self._to_tensor(values) for name, values in batch.items()}
        return self._apply(tensors) if self._apply else tensors

    def _to_tensor(self, values: np.ndarray) -> Any:
        if values.dtype == object:  # strings, or lists of any length
            return [torch.from_numpy(item.copy()) if _is_numbers(item) else item for item in values.tolist()]
        tensor = torch.from_numpy(values)
        return tensor if self._device is None else to_device(tensor, self._device)


def _is_numbers(item: object) -> bool:
    return isinstance(item, np.ndarray) and item.dtype != object


def _owner() -> int:
    """The process that started this worker."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent and parent.pid else os.getppid()
