"""The global shuffle of a table's rows: every row may come to any shard. A shuffle by files, in bounded memory.

Each unit writes its prepared rows into one file, sorted by the shard that they belong to; then each shard gathers its
rows from all these files and puts them in order. Where a row goes follows from its position, a hash of its file and
number, so the bytes depend on nothing else. What crosses an engine's shuffle is held in memory or billed; a file isn't.

Of many units and shards that would be too many parts to read, the square of them. Then it takes two steps: shards that
follow each other are a group, of about as many as there are groups; a unit's rows are sorted by group. For each group
of units and each group of shards, one task brings the rows together and sorts them by shard; a shard gathers its rows
from one file of each group of units. So each step reads as many parts of a file as the root of the number of units.
"""

import hashlib
import io
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..errors import PenstockError
from ..formats import paths
from ..formats.example_writer import encode
from ..formats.features import Feature, describe_columns
from ..formats.manifest import Shard, StoredFile, stored_file
from ..formats.paths import ShardName
from ..formats.tfrecord import RecordWriter, parse_records
from ..formats.tfrecord_columns import unframe
from ..storage import files
from .journal import FinishedUnits, Journal, SegmentFile
from .record_buffer import RecordBuffer
from .shards import Packed, TfRecordShard

ONE_STEP = 256  # units, up to which each shard reads of each unit's file
_POSITION = struct.Struct("<Q")
_INDEX = np.dtype("<u8")
_DIGEST = 32  # bytes

Rows = dict[str, list[tuple[int, bytes]]]  # split to position and serialized example


def group_size(targets: int) -> int:
    """How many targets, and how many units, are a group; 1 where the shuffle takes one step."""
    return 1 if targets <= ONE_STEP else math.isqrt(targets - 1) + 1


def count_groups(targets: int) -> int:
    """How many groups there are of the targets, and of the units."""
    return -(-targets // group_size(targets))


@dataclass
class SegmentWriter:
    """Takes rows, and writes them sorted by bucket: by target, or by group of targets.

    Attributes:
      root: The generation's URI.
      path: The file's path, without its suffix.
      splits: The splits' names.
      targets: How many targets there are.
      first: The first target of the first bucket.
      width: How many targets a bucket has.
      buckets: How many buckets there are.
      features: What rows hold that come as columns.
    """

    root: str
    path: str
    splits: Sequence[str]
    targets: int
    first: int
    width: int
    buckets: int
    features: Mapping[str, Feature] = field(default_factory=dict)

    @classmethod
    def of_unit(
        cls, root: str, unit: int, splits: Sequence[str], targets: int, schema: pa.Schema | None = None
    ) -> "SegmentWriter":
        """The writer of a unit's rows, of these columns."""
        features = {} if schema is None else describe_columns(schema)
        width, buckets = group_size(targets), count_groups(targets)
        return cls(root, paths.unit_segments(unit), splits, targets, 0, width, buckets, features)

    def __post_init__(self) -> None:
        self._records = {split: RecordBuffer() for split in sorted(self.splits)}
        self._positions: dict[str, list[np.ndarray]] = {split: [np.zeros(0, np.uint64)] for split in self._records}

    def add(
        self,
        split: str,
        examples: Sequence[bytes] | pa.LargeBinaryArray | pa.RecordBatch,
        positions: np.ndarray | None,
    ) -> None:
        """Takes rows of a split, serialized, as columns or as frames, with their positions."""
        assert positions is not None  # a shuffle has a seed
        if isinstance(examples, pa.RecordBatch):
            examples = encode(examples, self.features).to_pylist()
        self._records[split].extend(unframe(examples) if isinstance(examples, pa.LargeBinaryArray) else examples)
        self._positions[split].append(positions)

    def finish(self) -> Packed:
        """Writes the file, and its index: where each bucket's rows of each split begin, and where the last ones end."""
        positions = [np.concatenate(each) for each in self._positions.values()]
        cells = np.concatenate(
            [
                ((targets_of(each, self.targets) - self.first) // self.width) * len(positions) + number
                for number, each in enumerate(positions)
            ]
        )
        order = np.argsort(cells, kind="stable")
        bounds = np.searchsorted(cells[order], np.arange(self.buckets * len(positions) + 1))
        begins = np.cumsum([0, *map(len, positions)])
        splits = np.searchsorted(begins, order, "right") - 1
        rows, buffers = order - begins[splits], list(self._records.values())
        with files.create(files.join(self.root, f"{self.path}.tfrecord")) as file:
            writer = RecordWriter(file)
            writer.append(
                _POSITION.pack(int(positions[split][row])) + buffers[split][row]
                for split, row in zip(splits.tolist(), rows.tolist(), strict=True)
            )
            sha256 = writer.finish()
        self._close()
        stored = StoredFile(f"{self.path}.tfrecord", writer.records, writer.size, sha256)
        index = np.asarray(writer.offsets)[bounds].astype(_INDEX).tobytes()
        files.write_bytes(files.join(self.root, f"{self.path}.u64"), index)  # last: with it the file is complete
        return Packed({}, SegmentFile(stored, stored_file(f"{self.path}.u64", index, len(bounds))))

    def abandon(self, error: BaseException) -> None:
        """Leaves no file behind: there is none before `finish`."""
        self._close()

    def _close(self) -> None:
        for records in self._records.values():
            records.close()


def targets_of(positions: np.ndarray, targets: int) -> np.ndarray:
    """The target of each position: the 64-bit range cut into equal parts.

    Args:
      positions: uint64 [rows].
      targets: How many there are, below 2**31.
    """
    high = positions >> np.uint64(32)  # 32 bits are enough to choose, and leave room to multiply
    return ((high * np.uint64(targets)) >> np.uint64(32)).astype(np.int64)


def read_bucket(root: str, path: str, splits: Sequence[str], bucket: int) -> Rows:
    """The rows of a bucket of a segment file.

    Args:
      root: The generation's URI.
      path: The file's path, without its suffix.
      splits: The splits' names.
      bucket: The bucket.
    """
    uri = files.join(root, f"{path}.tfrecord")
    names, size = sorted(splits), _INDEX.itemsize
    first = bucket * len(names)
    content = files.read_range(files.join(root, f"{path}.u64"), first * size, (first + len(names) + 1) * size)
    begins = np.frombuffer(content, _INDEX).tolist()
    data = files.read_range(uri, begins[0], begins[-1])
    return {
        split: list(_parse(data[begins[number] - begins[0] : begins[number + 1] - begins[0]], uri))
        for number, split in enumerate(names)
    }


def read_split(root: str, path: str, splits: Sequence[str], split: str) -> Iterator[bytes]:
    """The serialized examples of one split in a segment file."""
    names = sorted(splits)
    begins = np.frombuffer(files.read_bytes(files.join(root, f"{path}.u64")), _INDEX).tolist()
    uri = files.join(root, f"{path}.tfrecord")
    with files.open_read(uri) as file:
        for cell in range(names.index(split), len(begins) - 1, len(names)):
            file.seek(begins[cell])
            for _, example in _parse(file.read(begins[cell + 1] - begins[cell]), uri):
                yield example


def _parse(data: bytes, uri: str) -> Iterator[tuple[int, bytes]]:
    for record in parse_records(io.BytesIO(data), uri):
        (position,) = _POSITION.unpack_from(record)
        yield position, record[_POSITION.size :]


def write_digests(root: str, units: int) -> None:
    """Writes a digest of each group of units, which is another one where a unit's rows are others.

    Args:
      root: The generation's URI, where the units' journals are.
      units: How many there are.

    Raises:
      PenstockError: a unit has no rows there.
    """
    finished, width = FinishedUnits(root).read(range(units)), group_size(units)
    digests = []
    for begin in range(0, units, width):
        digest = hashlib.sha256()
        for unit in range(begin, min(begin + width, units)):
            segment_file = finished[unit].segment_file if unit in finished else None
            if segment_file is None:
                raise PenstockError(f"{root}: expected the rows of unit {unit}, found none; run again")
            digest.update(segment_file.file.sha256.encode())
        digests.append(digest.digest())
    files.write_bytes(files.join(root, paths.SEGMENT_DIGESTS), b"".join(digests))


def _combined(root: str, groups: Sequence[tuple[int, int]]) -> list[str]:
    """Where the combined rows of groups of units for groups of targets are, without the suffix."""
    digests = files.read_bytes(files.join(root, paths.SEGMENT_DIGESTS))
    return [
        paths.combined_segments(units, bucket, digests[units * _DIGEST :][:_DIGEST].hex()[:16])
        for units, bucket in groups
    ]


def combine(root: str, targets: int, task: int, splits: Sequence[str]) -> str:
    """Brings the rows of a group of units for a group of targets together, unless that was done before.

    Args:
      root: The generation's URI, where the groups' digests are.
      targets: How many targets there are; as many as units.
      task: Which two groups.
      splits: The splits' names.

    Returns:
      Where they are: a path without its suffix.
    """
    width = group_size(targets)
    units, bucket = divmod(task, count_groups(targets))
    (path,) = _combined(root, [(units, bucket)])
    if files.exists(files.join(root, f"{path}.u64")):
        return path
    writer = SegmentWriter(root, path, splits, targets, bucket * width, 1, min(width, targets - bucket * width))

    def read(unit: int) -> Rows:
        return read_bucket(root, paths.unit_segments(unit), splits, bucket)

    for rows in files.map_files(read, range(units * width, min((units + 1) * width, targets))):
        for split, entries in rows.items():
            writer.add(split, [example for _, example in entries], np.array([at for at, _ in entries], np.uint64))
    writer.finish()
    return path


def gather_segments(root: str, targets: int, target: int, names: Mapping[str, ShardName]) -> Journal:
    """Writes a target's shards of all splits, unless that was done before.

    Args:
      root: The generation's URI.
      targets: How many targets there are; as many as units.
      target: The target.
      names: Split to the shard's name.
    """
    finished = Journal.read_finished(root, targets + target)
    if finished:
        return finished
    width = group_size(targets)
    if width == 1:
        places, bucket = [paths.unit_segments(unit) for unit in range(targets)], target
    else:
        group, bucket = divmod(target, width)
        places = _combined(root, [(units, group) for units in range(count_groups(targets))])
    rows: Rows = {split: [] for split in names}
    for part in files.map_files(lambda path: read_bucket(root, path, list(names), bucket), places):
        for split, entries in part.items():
            rows[split] += entries
    shards: dict[str, Shard] = {}
    for split, name in names.items():
        writer = TfRecordShard(root, name)
        # by position; equal ones by content, so the order of the files does not matter
        writer.add([record for _, record in sorted(rows.pop(split))], None)
        shards[split] = writer.finish()
    finished = Journal(unit=targets + target, read=0, shards=shards)
    finished.write(root)
    return finished
