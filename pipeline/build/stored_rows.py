"""Reads what a base has stored of a unit of a table: columns of its rows, in the order of the shard or of the input."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..formats import stored_columns
from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE
from ..formats.tfrecord_columns import frame_bytes, frame_sizes
from ..prepare.tables import TablePreparer
from ..storage import files
from .base import BaseGeneration
from .journal import Journal
from .record_buffer import BatchBuffer, take_parts
from .stored_shard import StoredShard

_FRAME = "frame"
_DAMAGED_PAGE = "page integrity"  # what Arrow's OSError says of, where a checksum is not that of its page
_BYTES = 8 << 20  # of records that are decoded at a time
_ROWS = 1 << 15  # that are taken at a time


class StoredRows:
    """The rows that a base's unit has of a split."""

    def __init__(self, base: BaseGeneration, journal: Journal, split: str, preparer: TablePreparer) -> None:
        """Reads nothing.

        Args:
          base: The base.
          journal: Of the unit.
          split: The split.
          preparer: How the rows were prepared.
        """
        self._base = base
        self._journal = journal
        self._split = split
        self._preparer = preparer
        self._shard = journal.shards[split]

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of all rows, in the order in which they are stored.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        if not self._shard.examples:
            return
        columns = pa.schema([self._preparer.stored_schema.field(name) for name in names])
        yield from (self._records if self._preparer.serialized else self._columns)(columns)

    def in_order(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of all rows, in the order in which they were prepared.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        positions = self._preparer.positions_of(self._keys())
        if positions is None:
            yield from self.batches(names)
            return
        waiting: BatchBuffer | None = None
        try:
            for batch in self.batches(names):
                waiting = waiting or BatchBuffer(batch.schema)
                waiting.append(batch)
            if waiting is None:
                return
            places = np.argsort(np.argsort(positions, kind="stable"), kind="stable")
            for part in take_parts(waiting.table(), places, _ROWS):
                yield from part.to_batches()
        finally:
            if waiting:
                waiting.close()

    def _keys(self) -> pa.StringArray:
        """The keys of the rows in the order in which they were prepared."""
        hashes = self._base.hashes(self._journal)
        keys = hashes.filter(pc.equal(hashes["split"], self._split))["key"].combine_chunks()
        return pa.concat_arrays(keys.chunks) if isinstance(keys, pa.ChunkedArray) else keys

    def as_stored(self) -> Iterator[pa.RecordBatch]:
        """All rows as they are stored, their frames or all of their columns, in the order in which they are stored.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        return self._frames() if self._preparer.serialized else self.batches(self._preparer.stored_schema.names)

    def examples_of(self, batch: pa.RecordBatch) -> pa.LargeBinaryArray | pa.RecordBatch:
        """What a shard takes of rows as they are stored."""
        return batch[_FRAME] if self._preparer.serialized else batch

    def decode(self, batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
        """Columns of rows as they are stored."""
        if not self._preparer.serialized:
            return batch.select(list(names))
        return self._decode(batch[_FRAME], pa.schema([self._preparer.stored_schema.field(name) for name in names]))

    def _decode(self, frames: pa.LargeBinaryArray, columns: pa.Schema) -> pa.RecordBatch:
        ends = np.cumsum(frame_sizes(frames))
        starts = np.concatenate([[0], ends[:-1]]) + HEADER_SIZE
        content = frame_bytes(frames).to_pybytes()
        try:
            return stored_columns.decode(content, starts, ends - FOOTER_SIZE, self._preparer.features, columns)
        except ValueError as error:
            uri = files.join(self._base.root, self._shard.path)
            raise self._base.damaged(f"{uri}: damaged or truncated: {error}") from error

    def _records(self, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        return (self._decode(batch[_FRAME], columns) for batch in self._frames())

    def _frames(self) -> Iterator[pa.RecordBatch]:
        with closing(StoredShard(self._base, self._shard)) as shard:
            for frames in shard.stream(_BYTES):
                yield pa.RecordBatch.from_arrays([frames], [_FRAME])

    def _columns(self, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        uri = files.join(self._base.root, self._shard.path)
        try:
            with files.open_read(uri) as file:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                for batch in parquet.iter_batches(_ROWS, columns=columns.names):
                    yield batch.select(columns.names).cast(columns)
        except (FileNotFoundError, files.SizeMismatch) as error:
            raise self._base.gone(error) from error
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and _DAMAGED_PAGE not in str(error):
                raise
            raise self._base.damaged(f"{uri}: expected a whole Parquet file, found: {error}") from error
