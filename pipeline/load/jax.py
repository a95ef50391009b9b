"""JAX: the engine's batches on devices, one ahead of the one in use. Imports JAX."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import RequestError
from ..formats.example_format import MISSING_VALUES
from ..graph.placement import INT32, value_range
from ..graph.transform import Transform
from .batches import Batches


class JaxBatches:
    """An iterable of batches: feature name to jax.Array [batch, ...]; strings are NumPy arrays of bytes objects.

    A batch is sent to the devices, as it is stored, while the one before is in use; the device's part of the graph is
    compiled, and runs there.

    Args:
      batches: The engine.
      sharding: How the first axis lies on devices; None: evenly over the local ones.
      transform: The graph, whose device's part runs there; None: batches are as they come.
    """

    def __init__(self, batches: Batches, sharding: Any = None, transform: Transform | None = None) -> None:
        self.batches = batches
        self._sharding = sharding or evenly()
        self._transform = transform
        self._apply = jax.jit(transform.device) if transform else None
        parts = len(self._sharding.device_set)
        if batches.options.batch_size % parts or (parts > 1 and not batches.options.drop_remainder):
            raise RequestError(
                f"expected a batch_size that is a multiple of {parts} devices, and drop_remainder=True, found "
                f"{batches.options.batch_size} and {batches.options.drop_remainder}; or give another sharding"
            )
        self._state = batches.state()

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def skipped(self) -> int:
        """How many damaged examples were passed over; see `Batches.skipped`."""
        return self.batches.skipped

    def state(self) -> dict[str, int]:
        """Where the loader stands after the batch that it gave last; see `Batches.state`."""
        return self._state

    def restore(self, state: Mapping[str, int]) -> None:
        """Goes on from a state; see `Batches.restore`."""
        self.batches.restore(state)
        self._state = self.batches.state()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.batches.restore(self._state)  # the engine may be a batch ahead
        ready: tuple[dict[str, Any], dict[str, int]] | None = None
        for batch in self.batches:
            coming = self._send(batch), self.batches.state()
            if ready is not None:
                self._state = ready[1]
                yield ready[0]
            ready = coming
        if ready is not None:
            self._state = ready[1]
            yield ready[0]
        self._state = self.batches.state()

    def _send(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        strings = {name: values for name, values in batch.items() if values.dtype == object}
        numbers = {name: values for name, values in batch.items() if name not in strings}
        if not jax.config.jax_enable_x64:
            for name, values in numbers.items():
                _expect_32_bits(name, values)
        sent = {name: jax.device_put(values, self._sharding) for name, values in numbers.items()}
        if self._transform is None or self._apply is None:
            return {**strings, **sent}
        return {**self._transform.strings(batch), **self._apply(sent)}


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


def evenly() -> Any:
    """Divides the first axis among the local devices."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), ("batch",)), PartitionSpec("batch"))
