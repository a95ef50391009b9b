"""What a finished unit leaves behind: the sign that it need not be made again, and all that the commit needs of it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import DatasetError
from ..formats import paths
from ..formats.column_notes import Notes, notes_from_json, notes_to_json
from ..formats.damage import KEPT_FILES
from ..formats.json_fields import JsonObject
from ..formats.manifest import Manifest, Shard, StoredFile, read_stored, stored_file
from ..formats.paths import ShardName
from ..prepare import summaries
from ..prepare.chunk import FURTHER, SEEN
from ..prepare.summaries import Summaries
from ..storage import files

_READS = 128  # journals at a time: each is small
_HASHES = pa.schema(
    [("content_hash", pa.binary()), ("key", pa.string()), ("label", pa.string()), ("split", pa.string())]
)


@dataclass(frozen=True)
class SegmentFile:
    """The file with a unit's rows where a global shuffle sends them to other units' shards.

    Attributes:
      file: The file.
      index: Where in it the rows are that belong to the same shards.
    """

    file: StoredFile
    index: StoredFile


@dataclass(frozen=True)
class RangeCounts:
    """How many rows of a range a unit has read, and how many of these it has quarantined."""

    read: int
    quarantined: int


@dataclass
class Journal:
    """The result of one unit.

    Attributes:
      unit: The unit's number.
      read: How many examples it held.
      shards: Split to the unit's shard of it.
      filtered: Filter reason to count.
      filtered_list: The file that lists these examples, or the first ones of each reason; None where there are none.
      quarantined: Reason code to count.
      quarantine: Its quarantine file; None where nothing was quarantined.
      labels: Split to label to count, of the examples that were written.
      segment_file: Its rows on their way to other units' shards, in a global shuffle; else None.
      summaries: The file with the summaries of columns and images, of the statistics' split only; None: there are none.
      hashes: The file with the content hashes of its examples, for the duplicate report; None: there are none.
      accumulators: The file with what tft's analyzers have accumulated of the statistics' split; None: there are none.
      notes: What happened to values of columns.
      ranges: Of a table, the rows of each of its ranges, in their order.
      range_totals: The file with all that became of each of these, for later runs; None: there are none.
    """

    unit: int
    read: int
    shards: dict[str, Shard]
    filtered: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantine: StoredFile | None = None
    filtered_list: StoredFile | None = None
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    summaries: StoredFile | None = None
    hashes: StoredFile | None = None
    accumulators: StoredFile | None = None
    segment_file: SegmentFile | None = None
    notes: Notes = field(default_factory=dict)
    ranges: list[RangeCounts] = field(default_factory=list)
    range_totals: StoredFile | None = None

    @property
    def written(self) -> int:
        """How many examples were written."""
        return sum(shard.examples for shard in self.shards.values())

    @property
    def files(self) -> list[StoredFile]:
        """Every file that the unit wrote."""
        shards = [file for shard in self.shards.values() for file in (shard.file, shard.index)]
        segments = (self.segment_file.file, self.segment_file.index) if self.segment_file else ()
        others = (self.quarantine, self.filtered_list, *(getattr(self, name) for name in KEPT_FILES), *segments)
        return [file for file in (*shards, *others) if file]

    def moved(self, unit: int, shards: Mapping[str, ShardName]) -> "Journal":
        """The journal of another unit that is the same: of the same contents, in files of the other's names.

        Args:
          unit: The other unit's number.
          shards: Split to its shard.
        """
        names = {
            "quarantine": paths.unit_quarantine(unit),
            "filtered_list": paths.unit_filtered(unit),
            "summaries": paths.unit_summaries(unit),
            "hashes": paths.unit_hashes(unit),
            "accumulators": paths.unit_accumulators(unit),
            "range_totals": paths.unit_ranges(unit),
        }
        files_of_unit = {name: (getattr(self, name), path) for name, path in names.items()}
        return replace(
            self,
            unit=unit,
            shards={
                split: Shard(
                    replace(shard.file, path=shards[split].path),
                    shard.index and replace(shard.index, path=shards[split].index_path),
                )
                for split, shard in self.shards.items()
            },
            **{name: file and replace(file, path=path) for name, (file, path) in files_of_unit.items()},
        )

    def without_statistics(self) -> "Journal":
        """The same without the files that are kept for the statistics and for tft's analyzers."""
        return replace(self, summaries=None, accumulators=None)

    def write(self, root: str) -> None:
        """Makes the unit finished."""
        files.write_bytes(files.join(root, paths.unit_journal(self.unit)), self.encode())

    def encode(self) -> bytes:
        """The journal as JSON, in one line."""
        notes = notes_to_json(self.notes)
        return json.dumps(asdict(replace(self, notes={})) | {"notes": notes}, sort_keys=True).encode()

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Journal":
        """Reads the JSON object back."""
        shards = {
            split: Shard(StoredFile(**shard["file"]), _stored(shard["index"]))
            for split, shard in entry["shards"].items()
        }
        names = ("quarantine", "filtered_list", *KEPT_FILES)
        others = {
            **{name: _stored(entry[name]) for name in names},
            "segment_file": _segments(entry["segment_file"]),
            "notes": notes_from_json(entry["notes"]),
            "ranges": [RangeCounts(**counts) for counts in entry["ranges"]],
        }
        return cls(**{**entry, "shards": shards, **others})

    @classmethod
    def load(cls, root: str, unit: int) -> "Journal | None":
        """The journal of a unit; None where there is none, or where it is damaged. Its files may be damaged, too."""
        return cls._read(files.join(root, paths.unit_journal(unit)))

    @classmethod
    def read_finished(cls, root: str, unit: int) -> "Journal | None":
        """As `load`, but None, too, where one of its files is missing or of another size; each of them is asked for."""
        journal = cls.load(root, unit)
        if journal is None:
            return None
        try:
            sizes = list(files.map_files(files.size, [files.join(root, file.path) for file in journal.files]))
        except OSError:
            return None
        return journal if sizes == [file.bytes for file in journal.files] else None

    @classmethod
    def _read(cls, uri: str) -> "Journal | None":
        try:
            return cls.from_json(json.loads(files.read_bytes(uri)))
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            return None


class FinishedUnits:
    """Which units of a generation are finished, found out by one listing of its files."""

    def __init__(self, root: str) -> None:
        """Lists the generation's files.

        Raises:
          OSError: they cannot be listed.
        """
        self._root = root
        self._sizes = sizes_of(root)

    def has_file(self, path: str) -> bool:
        """Whether a file was there when the generation was listed."""
        return path in self._sizes

    def has_journal(self, unit: int) -> bool:
        """Whether a unit had a journal then."""
        return self.has_file(paths.unit_journal(unit))

    def names(self, folder: str) -> list[str]:
        """The names of the files that were in a folder then."""
        return [path[len(folder) + 1 :] for path in self._sizes if path.startswith(f"{folder}/")]

    def numbers(self) -> list[int]:
        """The units that had a journal then, sorted."""
        return sorted(unit for path in self._sizes if (unit := paths.unit_of_journal(path)) is not None)

    def bytes_of(self, path: str) -> int | None:
        """A file's bytes then; None where it was not there."""
        return self._sizes.get(path)

    def load(self, units: Iterable[int]) -> Iterator[Journal]:
        """The journals of those of some units that had one then, in the units' order; read side by side.

        Raises:
          OSError: a journal cannot be read.
        """
        uris = (files.join(self._root, paths.unit_journal(unit)) for unit in units if self.has_journal(unit))
        return (journal for journal in files.map_files(Journal._read, uris, _READS) if journal)

    def read(self, units: Iterable[int]) -> dict[int, Journal]:
        """The journals of those of some units that are finished and whose files have their sizes.

        Raises:
          OSError: a journal cannot be read.
        """
        return {
            journal.unit: journal
            for journal in self.load(units)
            if all(self._sizes.get(file.path) == file.bytes for file in journal.files)
        }


def read_kept(dataset: str, manifest: Manifest) -> list[Journal]:
    """The journals that a generation keeps of its units; none where it was made before any were kept.

    Raises:
      DatasetError: they are damaged, or name a file that is not the generation's.
    """
    if manifest.units is None:
        return []
    stored = manifest.units.journals
    try:
        journals = [Journal.from_json(json.loads(line)) for line in read_stored(dataset, stored).splitlines()]
        for journal in journals:
            for file in journal.files:
                StoredFile.read(JsonObject.of(file.to_json()))  # a path that leaves the dataset
        return journals
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        uri = files.join(dataset, stored.path)
        raise DatasetError(f"{uri}: expected the journals of units, found: {error}; run `penstock verify`") from error


def read_checked(root: str, file: StoredFile) -> bytes:
    """The content of a file that a unit left, which may be another generation's, linked: so it is not merely believed.

    Raises:
      OSError: it cannot be read.
      DatasetError: it is not what the unit left.
    """
    uri = files.join(root, file.path)
    content = files.read_bytes(uri)
    if stored_file(file.path, content).sha256 != file.sha256:
        raise DatasetError(
            f"{uri}: expected SHA-256 {file.sha256}, found another; remove it, and what `penstock verify` names, and "
            "run again"
        )
    return content


def merge_summaries(root: str, journals: Iterable[Journal]) -> Summaries:
    """The summaries of all units, merged in their order; some files are read side by side.

    Raises:
      OSError: one cannot be read.
      DatasetError: one is not what its unit left.
    """
    merged: Summaries = {}
    stored = [journal.summaries for journal in journals if journal.summaries]
    calls = files.calls_for(max((file.bytes for file in stored), default=0))
    for content in files.map_files(partial(read_checked, root), stored, calls):
        merged = summaries.merge(merged, summaries.decode(content))
    return merged


def sizes_of(root: str) -> dict[str, int]:
    """The bytes of each file of a generation, by its path in it."""
    start = len(root.rstrip("/")) + 1
    return {info.uri[start:]: info.size for info in files.list_folder(root)}


def _stored(entry: Mapping[str, Any] | None) -> StoredFile | None:
    return StoredFile(**entry) if entry else None


def _segments(entry: Mapping[str, Any] | None) -> SegmentFile | None:
    if entry is None:
        return None
    return SegmentFile(StoredFile(**entry["file"]), StoredFile(**entry["index"]))


def encode_hashes(hashes: Sequence[tuple[str, pa.RecordBatch]]) -> bytes:
    """Split and content hashes (see `chunk.content_hashes`) of a unit's examples, as an Arrow file.

    Of what is known beside it holds only what tells examples apart: not what was seen in each of them alike. Examples
    are by split, and in each in their order, however many come at a time.
    """
    hashes = sorted(hashes, key=lambda pair: pair[0])
    further = [name for name in FURTHER if any(name in batch.schema.names for _, batch in hashes)]
    schema = pa.schema([*_HASHES, *((name, FURTHER[name]) for name in further)])
    batches = []
    for split, batch in hashes:
        columns = {name: batch[name] for name in batch.schema.names} | {"split": pa.repeat(split, len(batch))}
        values = [columns.get(each.name, pa.nulls(len(batch), each.type)) for each in schema]
        batches.append(pa.RecordBatch.from_arrays(values, schema.names))
    table = pa.Table.from_batches(batches).cast(schema).combine_chunks()  # an image has a batch of its own
    if SEEN in further and len(table[SEEN].unique()) < 2:
        table = table.drop_columns(SEEN)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read_hashes(root: str, journal: Journal) -> pa.Table:
    """The table (content_hash, key, label, split, and perhaps what is beside) of a unit's examples; no rows of none.

    Raises:
      OSError: they cannot be read.
      DatasetError: they are not what the unit left.
    """
    return decode_hashes(read_checked(root, journal.hashes) if journal.hashes else None)


def decode_hashes(content: bytes | None) -> pa.Table:
    """Reads what `encode_hashes` gave back; None stands for no examples."""
    return _HASHES.empty_table() if content is None else pa.ipc.open_file(content).read_all()


def hash_words(hashes: pa.Array) -> np.ndarray:
    """The first 16 bytes of content hashes, which all have one length: uint64 [examples, 2], which sort as they do."""
    if not len(hashes):
        return np.zeros((0, 2), np.uint64)
    fixed = hashes.cast(pa.binary(len(hashes[0].as_py())))
    width = fixed.type.byte_width
    words = np.frombuffer(fixed.buffers()[1], ">u8", width // 8 * len(fixed), width * fixed.offset)
    native: np.ndarray = words.reshape(len(fixed), -1)[:, :2].astype(np.uint64)
    return native
