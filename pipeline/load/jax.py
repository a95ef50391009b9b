"""JAX: the engine's batches on devices, one ahead of the one in use. Imports JAX."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import PenstockError, RequestError
from ..formats.example_format import MISSING_VALUES
from ..graph.placement import INT32, value_range
from ..graph.transform import Transform
from .batches import Batches, Closing, Stateful
from .order import Share, Step


class JaxBatches(Stateful):
    """An iterable of batches: feature name to jax.Array [batch, ...]; strings are NumPy arrays of bytes objects.

    A batch is sent to the devices, as it is stored, while the one before is in use; the device's part of the graph is
    compiled, and runs there. Where the sharding spans several processes, an array has the rows of all of them, but
    strings are this process's.

    Args:
      batches: The engine; `batch_size` is this process's.
      sharding: How the first axis lies on devices; None: evenly over this process's.
      transform: The graph, whose device's part runs there; None: batches are as they come.
      by_process: Whether the processes share the examples, as the sharding divides rows among them.
    """

    def __init__(
        self,
        batches: Batches,
        sharding: Any = None,
        transform: Transform | None = None,
        by_process: bool = False,
    ) -> None:
        self.batches = batches
        self._sharding = sharding or evenly()
        self._transform = transform
        self._apply = jax.jit(transform.device) if transform else None
        self._rows = rows_of(self._sharding)
        if by_process:
            batches.use_share(self._rows.share)
        self._check()

    def _check(self) -> None:
        """Raises RequestError where batches do not divide, or processes would disagree about rows that are the same."""
        options, rows = self.batches.options, self._rows
        if rows.spans and options.share.count > rows.share.count:
            raise RequestError(
                f"shard: expected {rows.share.count} shares, as the sharding gives {jax.process_count()} processes "
                f"{rows.share.count} different parts of the rows, found {options.share.count}; leave out shard, or "
                "divide the first axis among processes"
            )
        left = self.batches.remainder
        last = len(range(options.share.index, left, options.share.count))
        if options.batch_size % rows.parts or last % rows.parts or (rows.spans and left % options.share.count):
            raise RequestError(
                f"expected batches that the {rows.parts} parts divide into which the sharding divides this process's "
                f"rows, equally large in all processes, found batch_size={options.batch_size} and a last of {last}; "
                "use drop_remainder=True, another batch_size or another sharding"
            )
        if options.skip_damaged and not options.drop_remainder and (rows.parts > 1 or rows.spans):
            raise RequestError(
                f"expected full batches for the {rows.parts} parts into which the sharding divides rows, found "
                "skip_damaged=True, which makes them smaller; use drop_remainder=True, too"
            )

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def skipped(self) -> int:
        """How many damaged examples were passed over; see `Batches.skipped`."""
        return self.batches.skipped

    def state(self) -> dict[str, int]:
        """See `Stateful.state`."""
        return self.batches.state()

    def state_after(self, batches: int) -> dict[str, int]:
        """See `Batches.state_after`."""
        return self.batches.state_after(batches)

    def restore(self, state: Mapping[str, int]) -> None:
        """See `Stateful.restore`."""
        self.batches.restore(state)

    def set_epoch(self, epoch: int) -> None:
        """See `Batches.set_epoch`."""
        self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return Closing(self._iterate())

    def _iterate(self) -> Iterator[dict[str, Any]]:
        """The batches, each given when the next is on its way; only then it counts as taken."""
        iteration = self.batches.begin()
        sent: tuple[Step, dict[str, Any]] | None = None
        failure: PenstockError | None = None
        try:
            for step, batch in iteration:
                before, sent = sent, (step, self._send(batch))
                if before is not None:
                    self.batches.take(iteration, before[0])
                    yield before[1]
        except PenstockError as error:  # of a batch after the one that is under way
            failure = error
        if sent is not None:
            self.batches.take(iteration, sent[0])
            yield sent[1]
        if failure:
            raise failure
        self.batches.finish(iteration)

    def _send(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        strings = {name: values for name, values in batch.items() if values.dtype == object}
        numbers = {name: values for name, values in batch.items() if name not in strings}
        if not jax.config.jax_enable_x64:
            for name, values in numbers.items():
                _expect_32_bits(name, values)
        sent = {name: self._put(values) for name, values in numbers.items()}
        if self._transform is None or self._apply is None:
            return {**strings, **sent}
        return {**self._transform.strings(batch), **self._apply(sent)}

    def _put(self, values: np.ndarray) -> Any:
        sharding = for_rank(self._sharding, values.ndim)
        if not self._rows.spans:
            return jax.device_put(values, sharding)
        shape = (len(values) * self._rows.share.count, *values.shape[1:])
        return jax.make_array_from_process_local_data(sharding, values, shape)


def _expect_32_bits(name: str, values: np.ndarray) -> None:
    """Raises RequestError for integers that JAX, which makes 64 bits 32, would change."""
    limits = value_range(values) if values.dtype in (np.int64, np.uint64) else None
    if limits and not INT32.holds(limits):
        value = limits.low if limits.low < INT32.low else limits.high
        which = ", which stands for a missing value" if value == MISSING_VALUES["int64"] else ""
        raise RequestError(
            f"feature {name!r}: expected integers of 32 bits, which JAX makes of 64, found {value}{which}; call "
            'jax.config.update("jax_enable_x64", True) first, or change it in the recipe'
        )


@dataclass(frozen=True)
class Rows:
    """What this process holds of an array's rows.

    Attributes:
      parts: Into how many parts its rows are divided, among its devices.
      share: Which of the processes' different shares of the rows it has.
      spans: Whether the array lies on other processes' devices, too.
    """

    parts: int
    share: Share
    spans: bool


def rows_of(sharding: Any) -> Rows:
    """How a sharding divides the first axis among the devices of this process, and among processes.

    Raises:
      RequestError: this process has none of the devices, or its part overlaps with another's.
    """
    process, processes = jax.process_index(), jax.process_count()
    count = len(sharding.device_set)  # divides by the parts of any axis
    starts_of: dict[int, set[int]] = {}
    for device, index in sharding.devices_indices_map((count,) * max(1, len(getattr(sharding, "spec", ())))).items():
        starts_of.setdefault(device.process_index, set()).add(index[0].indices(count)[0])
    if process not in starts_of:
        raise RequestError(
            f"sharding: expected devices of process {process}, found only those of {sorted(starts_of)}; give each "
            "process a sharding in which it takes part"
        )
    if len(starts_of) == 1:
        return Rows(len(starts_of[process]), Share(process, processes), False)
    shares = sorted({tuple(sorted(starts)) for starts in starts_of.values()})
    if sum(map(len, shares)) != len(set().union(*shares)):
        raise RequestError(
            "sharding: expected processes that have the same rows or different ones, found some that share a part only"
        )
    return Rows(len(starts_of[process]), Share(shares.index(tuple(sorted(starts_of[process]))), len(shares)), True)


def for_rank(sharding: Any, rank: int) -> Any:
    """The sharding for arrays of fewer dimensions than its specification has, which leaves those undivided."""
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > rank and not any(sharding.spec[rank:]):
        return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:rank]), memory_kind=sharding.memory_kind)
    return sharding


def evenly() -> Any:
    """Divides the first axis among this process's devices."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), ("batch",)), PartitionSpec("batch"))
