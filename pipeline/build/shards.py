"""Writes shards: one class a file format. Both sort what they are given positions for, and keep the order otherwise."""

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa

from ..cores import cores
from ..errors import DatasetError
from ..formats.example_writer import RowEncoder, concat_batches, encode
from ..formats.features import Feature, describe_columns
from ..formats.manifest import Shard, StoredFile, stored_file
from ..formats.paths import ShardName
from ..formats.tfrecord import RecordWriter, read_records
from ..formats.tfrecord_columns import frame, frame_bytes, frame_sizes
from ..prepare.threads import ordered_map
from ..storage import files
from .journal import SegmentFile
from .record_buffer import MOST, BatchBuffer, take_parts

_READ_ROWS = 1000
_ROW_GROUP = 1 << 16  # rows
_FRAMES = 1 << 14  # records that are put in order, or encoded, at a time
_WRITTEN = 1 << 20  # bytes of images that are framed, hashed and written at a time
_FRAME_SCHEMA = pa.schema([("frame", pa.large_binary())])


def store(root: str, path: str, examples: int | None, content: bytes) -> StoredFile:
    """Writes a whole file of a generation."""
    files.write_bytes(files.join(root, path), content)
    return stored_file(path, content, examples)


def write_lines(root: str, path: str, lines: Sequence[bytes]) -> StoredFile | None:
    """Writes a file of lines; None, and nothing is written, where there are none."""
    return store(root, path, len(lines), b"".join(lines)) if lines else None


class TfRecordShard:
    """A shard of serialized tf.train.Examples, with an index of its records.

    Rows wait as columns, a fifth of what they take once they are encoded, and are encoded in their order; where they do
    not fit in memory, or frames come between them, as frames, which are then put in order.
    """

    def __init__(self, root: str, name: ShardName, features: Mapping[str, Feature] | None = None) -> None:
        """Opens the shard.

        Args:
          root: The generation's URI.
          name: The shard's name.
          features: What rows hold that come as columns.
        """
        self._root = root
        self._name = name
        self._stack = contextlib.ExitStack()
        file = self._stack.enter_context(files.create(files.join(root, name.path)))
        self._writer = RecordWriter(file, "gzip" if name.gzip else None)
        self._images: list[bytes] = []  # in their order, to be written
        self._image_bytes = 0
        self._features = features or {}
        self._columns: list[pa.RecordBatch] = []
        self._size = 0
        self._waiting = BatchBuffer(_FRAME_SCHEMA)
        self._framed = 0
        self._positions: list[np.ndarray] = []

    def add(
        self, examples: Sequence[bytes] | pa.LargeBinaryArray | pa.RecordBatch, positions: np.ndarray | None
    ) -> None:
        """Takes images, or frames of some; or rows, as columns or as frames. What has positions waits for `finish`."""
        if positions is not None:
            self._positions.append(positions)
        if isinstance(examples, pa.RecordBatch):
            self._columns.append(examples)
            self._size += examples.nbytes
            if self._size > MOST:
                self._frame_columns()
        elif isinstance(examples, pa.LargeBinaryArray):
            self._write_images()
            self._frame_columns()
            self._add_frames(examples)
        else:
            assert positions is None  # the plan has put images in order
            self._images += examples
            self._image_bytes += sum(map(len, examples))
            if self._image_bytes >= _WRITTEN:
                self._write_images()

    def _write_images(self) -> None:
        """Writes many at a time: this thread takes the interpreter's lock from those that prepare, at every call."""
        self._writer.append(self._images)
        self._images, self._image_bytes = [], 0

    def _add_frames(self, frames: pa.LargeBinaryArray) -> None:
        if self._positions:
            self._framed += len(frames)
            self._waiting.append(pa.RecordBatch.from_arrays([frames], schema=_FRAME_SCHEMA))
        else:
            self._write(frames)

    def _frame_columns(self) -> None:
        """Turns the columns that wait into frames."""
        for frames in self._encode(np.arange(sum(map(len, self._columns)))):
            self._add_frames(frames)

    def _encode(self, order: np.ndarray) -> Iterator[pa.LargeBinaryArray]:
        """The frames of all columns that wait, and then do no longer, in an order: int64 [rows]."""
        if not len(order):
            return
        encoder = RowEncoder(concat_batches(self._columns), self._features)
        self._columns, self._size = [], 0
        threads = cores()
        with ThreadPoolExecutor(threads, "encode") as pool:
            parts = (order[begin : begin + _FRAMES] for begin in range(0, len(order), _FRAMES))
            yield from ordered_map(pool, lambda rows: frame(encoder.encode(rows)), parts, 2 * threads)

    def _write(self, frames: pa.LargeBinaryArray) -> None:
        self._writer.append_frames(frame_bytes(frames), frame_sizes(frames))

    def finish(self) -> Shard:
        """Writes what waits, rows in the order of their positions, and closes the shard."""
        self._write_images()
        if self._framed:
            self._frame_columns()
            for part in take_parts(self._waiting.table(), self._order(), _FRAMES):
                (frames,) = part["frame"].chunks
                self._write(frames)
        elif self._columns:
            for frames in self._encode(self._order()):
                self._write(frames)
        self._waiting.close()
        sha256 = self._writer.finish()
        self._stack.close()
        count = self._writer.records
        stored = StoredFile(self._name.path, count, self._writer.size, sha256)
        offsets = np.asarray(self._writer.offsets).astype("<u8").tobytes()
        return Shard(stored, store(self._root, self._name.index_path, count, offsets))

    def _order(self) -> np.ndarray:
        """The order of the rows that wait."""
        if not self._positions:
            return np.arange(sum(map(len, self._columns)))
        return np.argsort(np.concatenate(self._positions), kind="stable")

    def abandon(self, error: BaseException) -> None:
        """Leaves no file behind."""
        self._columns = []
        self._waiting.close()
        with contextlib.suppress(type(error)):
            self._stack.__exit__(type(error), error, error.__traceback__)


class ParquetShard:
    """A shard of Arrow columns, with a checksum on every page."""

    def __init__(self, root: str, name: ShardName, schema: pa.Schema) -> None:
        self._root = root
        self._name = name
        self._waiting = BatchBuffer(schema)
        self._positions: list[np.ndarray] = []

    def add(self, batch: pa.RecordBatch, positions: np.ndarray | None) -> None:
        """Takes examples, which wait until `finish`."""
        self._waiting.append(batch)
        if positions is not None:
            self._positions.append(positions)

    def finish(self) -> Shard:
        """Writes the shard, a row group at a time."""
        import pyarrow.parquet as pq

        table = self._waiting.table()
        order = np.arange(len(table))
        if self._positions:
            order = np.argsort(np.concatenate(self._positions), kind="stable")
        with files.create(files.join(self._root, self._name.path)) as file:
            hashed = _HashedFile(file)
            with pq.ParquetWriter(hashed, table.schema, compression="zstd", write_page_checksum=True) as writer:
                for rows in take_parts(table, order, _ROW_GROUP):
                    writer.write_table(rows, _ROW_GROUP)
                if not len(order):
                    writer.write_table(table)
        del table  # a part of it may be the file that is closed
        self._waiting.close()
        return Shard(StoredFile(self._name.path, len(order), hashed.size, hashed.sha256.hexdigest()), None)

    def abandon(self, error: BaseException) -> None:
        """Leaves no file behind."""
        self._waiting.close()


class _HashedFile(io.RawIOBase):
    """A file whose bytes are counted and hashed as they are written."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self.sha256.update(content)
        self.size += len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self.size


ShardWriter = TfRecordShard | ParquetShard


@dataclass
class Packed:
    """What a unit was packed into: shards by split; or, in a global shuffle, a segment file."""

    shards: dict[str, Shard]
    segment_file: SegmentFile | None = None


class ShardSet:
    """Packs a unit into one shard of each of its splits."""

    def __init__(self, root: str, names: Mapping[str, ShardName], schema: pa.Schema | None) -> None:
        """Opens the shards.

        Args:
          root: The generation's URI.
          names: Split to the shard's name.
          schema: The columns, of a table.
        """
        features = {} if schema is None else describe_columns(schema)
        self._writers: dict[str, ShardWriter] = {
            split: ParquetShard(root, name, schema) if name.format == "parquet" else TfRecordShard(root, name, features)
            for split, name in names.items()
        }

    def add(self, split: str, records: Any, positions: np.ndarray | None) -> None:
        """Takes examples of a split."""
        self._writers[split].add(records, positions)

    def finish(self) -> Packed:
        """Closes the shards."""
        return Packed({split: writer.finish() for split, writer in self._writers.items()})

    def abandon(self, error: BaseException) -> None:
        """Leaves no file behind."""
        for writer in self._writers.values():
            writer.abandon(error)


def read_examples(uri: str) -> Iterator[bytes]:
    """A shard's examples as serialized tf.train.Examples, whatever its format.

    Raises:
      DatasetError: the file is damaged.
    """
    if not uri.endswith(".parquet"):
        yield from read_records(uri)
        return
    import pyarrow.parquet as pq

    try:
        with files.open_read(uri) as file:
            for batch in pq.ParquetFile(file, page_checksum_verification=True).iter_batches(_READ_ROWS):
                yield from encode(batch, describe_columns(batch.schema)).to_pylist()
    except pa.ArrowException as error:
        raise DatasetError(f"{uri}: expected a whole Parquet file, found: {error}; run `penstock verify`") from error
