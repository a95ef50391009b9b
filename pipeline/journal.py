"""What a finished unit leaves behind: the sign that it need not be made again, and all that the commit needs of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from . import files, layout

_HASHES = pa.schema([("sha256", pa.binary(32)), ("key", pa.string())])


@dataclass(frozen=True)
class StoredFile:
    """A file of the generation: path inside the generation, examples (or lines) in it, bytes, SHA-256."""

    path: str
    examples: int
    bytes: int
    sha256: str


@dataclass
class Journal:
    """The result of one unit.

    Attributes:
      unit: The unit's number.
      split: Its split.
      shard: Its shard.
      index: Where each record begins in the shard.
      read: How many examples it held.
      filtered: Filter reason to count.
      quarantined: Reason code to count.
      quarantine: Its quarantine file; None where nothing was quarantined.
      labels: Label to count, of the examples that were written.
      histograms: Feature name to [channels][256] counts of its stored pixels; of the statistics' split only.
    """

    unit: int
    split: str
    shard: StoredFile
    index: StoredFile
    read: int
    filtered: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantine: StoredFile | None = None
    labels: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, list[list[int]]] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """How many examples were written."""
        return self.shard.examples

    def write(self, generation: str) -> None:
        """Makes the unit finished."""
        content = json.dumps(asdict(self), sort_keys=True).encode()
        files.write_bytes(layout.join(generation, layout.unit_journal(self.unit)), content)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Journal":
        """Reads the JSON object back."""
        quarantine = entry["quarantine"]
        return cls(
            **{
                **entry,
                "shard": StoredFile(**entry["shard"]),
                "index": StoredFile(**entry["index"]),
                "quarantine": StoredFile(**quarantine) if quarantine else None,
            }
        )

    @classmethod
    def read_finished(cls, generation: str, unit: int) -> "Journal | None":
        """The journal of a unit that is finished and whose files are there; else None."""
        uri = layout.join(generation, layout.unit_journal(unit))
        try:
            journal = cls.from_json(json.loads(files.read_bytes(uri)))
            stored = [file for file in (journal.shard, journal.index, journal.quarantine) if file]
            whole = all(files.size(layout.join(generation, file.path)) == file.bytes for file in stored)
        except FileNotFoundError:
            return None
        return journal if whole else None


def write_hashes(generation: str, unit: int, sha256: list[bytes], keys: list[str]) -> None:
    """Writes the content hashes of a unit's payloads, for the duplicate report."""
    with (
        files.create(layout.join(generation, layout.unit_hashes(unit))) as file,
        pa.ipc.new_file(file, _HASHES) as writer,
    ):
        writer.write(pa.record_batch([pa.array(sha256, pa.binary(32)), pa.array(keys, pa.string())], schema=_HASHES))


def read_hashes(generation: str, unit: int) -> pa.Table:
    """The table (sha256, key) of a unit."""
    with files.open_read(layout.join(generation, layout.unit_hashes(unit))) as file:
        return pa.ipc.open_file(file).read_all()
