"""The global shuffle of a table's rows: every row may come to any shard. A shuffle by files, in bounded memory.

Each unit writes its prepared rows into one file, sorted by the shard that they belong to; then each shard gathers its
rows from all these files and puts them in order. Where a row goes follows from its position, a hash of its file and
number, so the bytes depend on nothing else. What crosses an engine's shuffle is held in memory or billed; a file isn't.
"""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..formats import paths
from ..formats.manifest import Shard, StoredFile
from ..formats.paths import ShardName
from ..formats.tfrecord import RecordWriter, parse_records
from ..storage import files
from .journal import Journal, Segment, SegmentFile
from .record_buffer import RecordBuffer
from .shards import Packed, TfRecordShard

_POSITION = struct.Struct("<Q")


@dataclass
class SegmentWriter:
    """Takes a unit's rows, and writes them sorted by split and target shard."""

    root: str
    unit: int
    targets: int

    def __post_init__(self) -> None:
        self._records: dict[str, RecordBuffer] = {}
        self._positions: dict[str, list[np.ndarray]] = {}

    def add(self, split: str, records: Sequence[bytes], positions: np.ndarray | None) -> None:
        """Takes rows with their positions."""
        assert positions is not None  # a shuffle has a seed
        self._records.setdefault(split, RecordBuffer()).extend(records)
        self._positions.setdefault(split, []).append(positions)

    def finish(self) -> Packed:
        """Writes the file; says which part of it holds what."""
        path = paths.unit_segments(self.unit)
        segments: list[Segment] = []
        with files.create(files.join(self.root, path)) as file:
            writer = RecordWriter(file)
            for split, records in sorted(self._records.items()):
                positions = np.concatenate(self._positions[split])
                targets = targets_of(positions, self.targets)
                order = np.argsort(targets, kind="stable")
                bounds = np.searchsorted(targets[order], np.arange(self.targets + 1))
                for target in range(self.targets):
                    rows = order[bounds[target] : bounds[target + 1]].tolist()
                    begin = writer.offsets[-1]
                    writer.append(_POSITION.pack(int(positions[row])) + records[row] for row in rows)
                    if rows:
                        segments.append(Segment(split, target, begin, writer.offsets[-1], len(rows)))
                records.close()
            sha256 = writer.finish()
        stored = StoredFile(path, writer.records, writer.size, sha256)
        return Packed({}, SegmentFile(stored, tuple(segments)))

    def abandon(self, error: BaseException) -> None:
        """Leaves no file behind: there is none before `finish`."""
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


def read_segments(root: str, journal: Journal, split: str, target: int | None) -> Iterator[tuple[int, bytes]]:
    """Position and serialized example of the rows of a unit's file that are of a split and, if given, of a target."""
    if journal.segment_file is None:
        return
    segments = journal.segment_file.segments
    chosen = [segment for segment in segments if segment.split == split and target in (None, segment.target)]
    uri = files.join(root, journal.segment_file.file.path)
    with files.open_read(uri) as file:
        for segment in chosen:
            file.seek(segment.begin)
            for record in parse_records(io.BytesIO(file.read(segment.end - segment.begin)), uri):
                (position,) = _POSITION.unpack_from(record)
                yield position, record[_POSITION.size :]


def gather_segments(root: str, journals: Sequence[Journal], target: int, names: Mapping[str, ShardName]) -> Journal:
    """Writes a target's shards of all splits from every unit's file, unless that was done before.

    Args:
      root: The generation's URI.
      journals: Of all units whose rows are in segment files.
      target: The target.
      names: Split to the shard's name.
    """
    unit = len(journals) + target
    if finished := Journal.read_finished(root, unit):
        return finished
    shards: dict[str, Shard] = {}
    for split, name in names.items():
        rows = [row for journal in journals for row in read_segments(root, journal, split, target)]
        rows.sort()  # by position; equal ones by content, so the order of the journals does not matter
        writer = TfRecordShard(root, name)
        writer.add([record for _, record in rows], None)
        shards[split] = writer.finish()
    finished = Journal(unit=unit, read=0, shards=shards)
    finished.write(root)
    return finished
