"""What prepares a unit, whatever the source: a `Preparer` says how, and its `Worker` does it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from ...transforms.image_codec import Decode, Jpeg, Png, Raw
from ..formats.features import Feature
from ..sources.table_schema import TableSchema
from .chunk import Chunk
from .summaries import SummarySpec


@dataclass(frozen=True)
class StatisticsSpec:
    """What statistics and analyzers need of the examples.

    Attributes:
      split: The only split that they come from.
      summaries: What to know of columns; images are counted in any case.
      columns: The features whose values the analyzers read while examples are prepared.
    """

    split: str
    summaries: tuple[SummarySpec, ...] = ()
    columns: tuple[str, ...] = ()


class Worker(Protocol):
    """A preparer at work: has its threads and processes until it is closed."""

    def chunks(self, splits: Collection[str], pieces: Sequence[Any]) -> Iterator[Chunk]:
        """Prepares a unit.

        Args:
          splits: The splits that the unit holds.
          pieces: Its references or ranges; what comes out is in their order.

        Raises:
          PenstockError: a function of `prepare` changed rows in a way that it must not, or a file is damaged.
        """

    def close(self) -> None:
        """Ends the threads and processes."""


class Preparer(Protocol):
    """How the pieces of a unit become examples as they are stored. Complete and immutable; travels to workers."""

    @property
    def features(self) -> Mapping[str, Feature]:
        """What every stored example holds."""

    @property
    def stored_schema(self) -> pa.Schema | None:
        """The columns that a table's rows are brought to; None for images, which are stored one by one."""

    @property
    def statistics(self) -> StatisticsSpec:
        """What statistics and analyzers need of the examples."""

    @property
    def raw_schema(self) -> TableSchema:
        """The columns that `prepare` is given: those of a table, or those that are joined to images."""

    @property
    def functions(self) -> Sequence[Callable[[Any], Any]]:
        """The recipe's `prepare`."""

    @property
    def decode(self) -> Decode | None:
        """How payloads become pixels; None for a table, whose rows have none."""

    @property
    def encodings(self) -> Mapping[str, Jpeg | Png | Raw]:
        """How each feature that is an image is stored; empty for a table."""

    def start(self, threads: int, root: str | None = None, isolated: bool = False) -> Worker:
        """A worker that prepares so many images or ranges at a time.

        Args:
          threads: How many.
          root: The generation to be made, which may hold what is joined; None: the input has it.
          isolated: Whether each is prepared in another process, so that one at which it dies is lost alone
            (`worker_died`). What comes out of all others is the same.
        """
