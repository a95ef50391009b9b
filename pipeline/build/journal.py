"""What a finished unit leaves behind: the sign that it need not be made again, and all that the commit needs of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from ..formats import paths
from ..formats.manifest import Shard, StoredFile
from ..prepare import summaries
from ..prepare.summaries import Summaries
from ..storage import files

_HASHES = pa.schema([("sha256", pa.binary(32)), ("key", pa.string()), ("split", pa.string())])


@dataclass(frozen=True)
class Segment:
    """A part of a unit's scattered file: whose rows (split and target) lie between which bytes, and how many."""

    split: str
    target: int
    begin: int
    end: int
    rows: int


@dataclass
class Journal:
    """The result of one unit.

    Attributes:
      unit: The unit's number.
      read: How many examples it held.
      shards: Split to the unit's shard of it.
      filtered: Filter reason to count.
      quarantined: Reason code to count.
      quarantine: Its quarantine file; None where nothing was quarantined.
      labels: Split to label to count, of the examples that were written.
      scattered: The file with its rows where a global shuffle sends them to other units' shards; else None.
      segments: Which part of that file holds what.
      summaries: The file with the summaries of columns and images, of the statistics' split only; None: there are none.
    """

    unit: int
    read: int
    shards: dict[str, Shard]
    filtered: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantine: StoredFile | None = None
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    summaries: StoredFile | None = None
    scattered: StoredFile | None = None
    segments: list[Segment] = field(default_factory=list)

    @property
    def written(self) -> int:
        """How many examples were written."""
        return sum(shard.examples for shard in self.shards.values())

    @property
    def files(self) -> list[StoredFile]:
        """Every file that the unit wrote."""
        shards = [file for shard in self.shards.values() for file in (shard.file, shard.index)]
        return [file for file in (*shards, self.quarantine, self.summaries, self.scattered) if file]

    def write(self, generation: str) -> None:
        """Makes the unit finished."""
        content = json.dumps(asdict(self), sort_keys=True).encode()
        files.write_bytes(files.join(generation, paths.unit_journal(self.unit)), content)

    def read_summaries(self, generation: str) -> Summaries:
        """The summaries of the unit's columns and images."""
        if self.summaries is None:
            return {}
        return summaries.decode(files.read_bytes(files.join(generation, self.summaries.path)))

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Journal":
        """Reads the JSON object back."""
        shards = {
            split: Shard(StoredFile(**shard["file"]), _stored(shard["index"]))
            for split, shard in entry["shards"].items()
        }
        optional = {name: _stored(entry[name]) for name in ("quarantine", "summaries", "scattered")}
        segments = [Segment(**segment) for segment in entry["segments"]]
        return cls(**{**entry, "shards": shards, "segments": segments, **optional})

    @classmethod
    def read_finished(cls, generation: str, unit: int) -> "Journal | None":
        """The journal of a unit that is finished and whose files are there; else None."""
        uri = files.join(generation, paths.unit_journal(unit))
        try:
            journal = cls.from_json(json.loads(files.read_bytes(uri)))
            whole = all(files.size(files.join(generation, file.path)) == file.bytes for file in journal.files)
        except FileNotFoundError:
            return None
        return journal if whole else None


def _stored(entry: Mapping[str, Any] | None) -> StoredFile | None:
    return StoredFile(**entry) if entry else None


def write_hashes(generation: str, unit: int, rows: list[tuple[bytes, str, str]]) -> None:
    """Writes the content hash, key and split of each of a unit's payloads, for the duplicate report."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [[], [], []]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _HASHES, strict=True)]
    with (
        files.create(files.join(generation, paths.unit_hashes(unit))) as file,
        pa.ipc.new_file(file, _HASHES) as writer,
    ):
        writer.write(pa.record_batch(arrays, schema=_HASHES))


def read_hashes(generation: str, unit: int) -> pa.Table:
    """The table (sha256, key, split) of a unit; no rows where its examples have no payloads."""
    uri = files.join(generation, paths.unit_hashes(unit))
    if not files.exists(uri):
        return _HASHES.empty_table()
    with files.open_read(uri) as file:
        return pa.ipc.open_file(file).read_all()
