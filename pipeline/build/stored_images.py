"""Reads what a base has stored of a unit of images: its examples, in any order, as if they were prepared again.

Nothing of it is decoded but pixels that must be counted, and an example is told to be what was written by its checksum.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...transforms import observations
from ...transforms.histogram import Histogram
from ...transforms.image_codec import CODECS
from ..formats import example_reader
from ..formats.column_notes import ColumnNote, Notes, merge_all
from ..formats.example_writer import select
from ..formats.features import Feature
from ..formats.stored_columns import value_of
from ..formats.tfrecord_columns import view_records
from ..prepare import summaries
from ..prepare.chunk import DOUBLES, SEEN, Chunk, SplitExamples
from ..prepare.images import ImagePreparer
from ..prepare.summaries import Summaries, SummarySpec
from ..sources.quarantine import FilteredExample, QuarantinedExample
from .base import BaseGeneration
from .stored_shard import StoredShard

_EXAMPLES = 256  # that are read at a time
_BYTES = 1 << 20  # of them: what a processor's cache holds
_COUNTED = 64  # images that are decoded before their histograms are added up

Row = dict[str, Any]


class StoredImages:
    """What became of the images of a base's unit.

    Attributes:
      is_told_apart: Whether it is known what was seen in each of them; else their chunks have no notes.
    """

    def __init__(self, base: BaseGeneration, number: int, split: str, preparer: ImagePreparer) -> None:
        """Reads the hashes of the unit.

        Args:
          base: The base.
          number: The unit.
          split: The split that it holds.
          preparer: How its images were prepared.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        self._base = base
        self._journal = base.journal(number)
        self._split = split
        self._preparer = preparer
        if self._journal.shards.keys() != {split}:
            raise base.damaged(
                f"expected unit {number} to hold the split {split!r}, found {sorted(self._journal.shards)}"
            )
        self._shard = StoredShard(base, self._journal.shards[split])
        self._hashes = base.hashes(self._journal).combine_chunks()
        self._rows = {key: row for row, key in enumerate(self._hashes["key"].to_pylist())}
        statistics = preparer.statistics
        self._analyzed = statistics.columns if split == statistics.split else ()
        self._summarized = preparer.summarized_columns(split).names
        self._seen = self._what_was_seen()
        self.is_told_apart = self._seen is not None

    def close(self) -> None:
        """Gives up what it takes on the disk."""
        self._shard.close()

    def has(self, key: str) -> bool:
        """Whether it is known what became of an image."""
        return key in self._rows or key in self._quarantined or self._reason(key) is not None

    def written(self, keys: Sequence[str]) -> list[int]:
        """The numbers of those images that are stored, in this unit."""
        return [self._rows[key] for key in keys if key in self._rows]

    @cached_property
    def keys(self) -> list[str]:
        """The keys of all that are stored, in their order."""
        return list(self._rows)

    @property
    def has_values(self) -> bool:
        """Whether any values of its examples are summarized, or analyzed by tft's analyzers."""
        return bool(self._summarized or self._analyzed)

    def parts(self, keys: Sequence[str]) -> Iterator[tuple[Chunk, list[Row]]]:
        """A chunk for some images at a time, and what is summarized of those that are stored: as `ImageWorker.parts`.

        Pixels are not counted: see `histograms`.

        Raises:
          PenstockError: what is stored is damaged.
        """
        part: list[str] = []
        size = 0
        for key in keys:
            row = self._rows.get(key)
            taken = 0 if row is None else int(self._shard.offsets[row + 1] - self._shard.offsets[row])
            if part and (len(part) == _EXAMPLES or size + taken > _BYTES):
                yield self._part(part)
                part, size = [], 0
            part.append(key)
            size += taken
        if part:
            yield self._part(part)

    def _part(self, keys: Sequence[str]) -> tuple[Chunk, list[Row]]:
        chunk = Chunk()
        for key in keys:
            if key in self._rows:
                continue
            if example := self._quarantined.get(key):
                chunk.quarantined.append(example)
            elif (reason := self._reason(key)) is not None:
                chunk.filtered[reason] += 1
                chunk.filtered_examples.append(FilteredExample(key, reason))
        rows = self.written(keys)
        if not rows:
            return chunk, []
        frames = self._shard.frames(rows)
        batch = self._hashes_of(rows)
        labels = Counter(label for label in batch["label"].to_pylist() if label is not None)
        chunk.splits[self._split] = SplitExamples(frames, labels=labels or None, hashes=self._with_seen(batch, rows))
        chunk.notes = self._notes(rows)
        if not self.has_values:
            return chunk, []
        records = view_records(frames)
        if self._analyzed:
            chunk.analyzed = [select(record, self._analyzed) for record in records]
        doubles = batch[DOUBLES].to_pylist() if DOUBLES in batch.schema.names else [None] * len(rows)
        return chunk, [self._values(record, dict(kept or ())) for record, kept in zip(records, doubles, strict=True)]

    def summarize(self, rows: Sequence[Row]) -> Iterator[Chunk]:
        """A chunk of what is known of columns, given what `parts` gave of all images; or none."""
        return self._preparer.summarize_rows(self._split, rows)

    def histograms(self, rows: Sequence[int], pool: ThreadPoolExecutor) -> Summaries:
        """The histograms of some of its images: those of all without those of the others, where these are fewer.

        Args:
          rows: The images' numbers in the unit.
          pool: Decodes.

        Raises:
          PenstockError: what is stored is damaged.
        """
        counted = {name: each for name, each in self._preparer.features.items() if _is_counted(each)}
        if not counted or not rows:
            return {}
        others = np.setdiff1d(np.arange(len(self._rows)), rows)
        of_all: Summaries = (
            summaries.decode(self._base.read(self._journal.summaries)) if self._journal.summaries else {}
        )
        specs = [SummarySpec("histogram", name) for name in counted]
        if not all(spec in of_all for spec in specs) or len(others) >= len(rows):
            return self._count(sorted(rows), counted, pool)
        of_others = self._count(others.tolist(), counted, pool)
        return {spec: _without(of_all[spec], of_others.get(spec)) for spec in specs}

    def _count(self, rows: Sequence[int], counted: Mapping[str, Feature], pool: ThreadPoolExecutor) -> Summaries:
        total: Summaries = {}
        for begin in range(0, len(rows), _COUNTED):
            records = view_records(self._shard.frames(rows[begin : begin + _COUNTED]))
            counts = list(pool.map(lambda record: _counts_of(record, counted), records))
            total = summaries.merge(total, summaries.of_histograms(counts))
        return total

    def _what_was_seen(self) -> list[str | None] | None:
        """What was seen in each image that is stored, as JSON; None where it is known of all together alone."""
        if SEEN in self._hashes.schema.names:
            seen: list[str | None] = self._hashes[SEEN].to_pylist()
            return seen
        notes = {name: note for name, note in self._journal.notes.items() if name[0] in observations.KINDS}
        if any(note.count != len(self._rows) for note in notes.values()):
            return None
        return [json.dumps(sorted(notes)) if notes else None] * len(self._rows)

    def _hashes_of(self, rows: Sequence[int]) -> pa.RecordBatch:
        """The hashes of some images, without the split, which is that of all."""
        (batch,) = self._hashes.drop_columns("split").to_batches()
        if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            return batch.slice(rows[0], len(rows))
        return batch.take(pa.array(rows))

    def _with_seen(self, batch: pa.RecordBatch, rows: Sequence[int]) -> pa.RecordBatch:
        """Hashes with what was seen in each image, in another unit not in all alike perhaps."""
        if self._seen is None or SEEN in batch.schema.names or not any(self._seen):
            return batch
        return batch.append_column(SEEN, pa.array([self._seen[row] for row in rows], pa.string()))

    def _notes(self, rows: Sequence[int]) -> Notes:
        """What was seen in some images, those that are alike at once."""
        if self._seen is None:
            return {}
        alike: dict[str, list[str]] = {}
        for row in rows:
            if seen := self._seen[row]:
                alike.setdefault(seen, []).append(self.keys[row])
        return merge_all(
            {(kind, value): ColumnNote(len(keys), 0, min(keys)) for kind, value in json.loads(seen)}
            for seen, keys in alike.items()
        )

    @cached_property
    def _quarantined(self) -> dict[str, QuarantinedExample]:
        if self._journal.quarantine is None:
            return {}
        lines = self._base.read(self._journal.quarantine).splitlines()
        examples = [QuarantinedExample(**json.loads(line)) for line in lines]
        return {example.key: example for example in examples}

    @cached_property
    def _filtered(self) -> dict[str, str]:
        if self._journal.filtered_list is None:
            return {}
        entries = map(json.loads, self._base.read(self._journal.filtered_list).splitlines())
        return {entry["key"]: entry["reason"] for entry in entries}

    def _reason(self, key: str) -> str | None:
        """Why an image that is neither stored nor quarantined was filtered; None: nobody knows."""
        reasons = list(self._journal.filtered)
        return self._filtered.get(key) or (reasons[0] if len(reasons) == 1 else None)

    def _values(self, record: memoryview, doubles: Mapping[str, list[float]]) -> Row:
        """The values that are summarized as they were before they were stored, or the items of arrays and lists."""
        stored = example_reader.parse(record)
        values: Row = {}
        for name in self._summarized:
            feature, kept = self._preparer.features[name], doubles.get(name)
            values[name] = value_of(feature, stored.get(name)) if kept is None else kept if feature.shape else kept[0]
        return values


def _is_counted(feature: Feature) -> bool:
    return feature.is_pixels and feature.dtype == "uint8"


def _counts_of(record: memoryview, counted: Mapping[str, Feature]) -> dict[str, npt.NDArray[np.int64]]:
    """The counts of the stored pixels of an example, by feature."""
    stored = example_reader.parse(record)
    return {
        name: CODECS[feature.encoding or ""].count([bytes(stored[name][1])], feature.pixel_shape)
        for name, feature in counted.items()
    }


def _without(of_all: Any, others: Any) -> Histogram:
    return Histogram(of_all.counts - others.counts) if others else of_all
