"""Makes units: prepares a unit's examples, packs them into its shards, and hands the analyzers what they need."""

import contextlib
import functools
import json
import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from ..analysis.batcher import Batcher
from ..analysis.trace import Analysis
from ..formats import paths
from ..formats.manifest import StoredFile
from ..planning import plan
from ..planning.plan import Unit
from ..prepare import image_chunks, summaries, tables
from ..prepare.chunk import Chunk
from ..prepare.images import Preparer
from ..prepare.isolate import IsolatedPreparer
from ..prepare.summaries import Summaries, default_specs
from ..prepare.tables import RecordPreparer
from ..sources.quarantine import QuarantinedExample
from ..storage import files
from . import journal
from .global_shuffle import ScatterWriter, gather, read_segments
from .journal import Journal
from .shards import ShardSet, read_examples, store

BATCHES = "batches"
_HEARTBEAT = 0.5  # seconds


@dataclass(frozen=True)
class MakeOptions:
    """What a worker must know to make a unit.

    Attributes:
      generation: The generation's URI.
      preparer: Prepares one image, or one range of a table.
      analysis: What the analyzers need.
      statistics: The split that statistics come from.
      threads: Images or ranges prepared at a time by one worker.
      timeout: Seconds that an image may take in a process of its own; None prepares in threads.
      targets: In a global shuffle, how many units share their rows out among their shards; else 0.
    """

    generation: str
    preparer: Preparer | RecordPreparer
    analysis: Analysis
    statistics: str
    threads: int = 1
    timeout: float | None = None
    targets: int = 0


class MakeUnits(beam.DoFn):
    """Unit numbers in; journals out, and RecordBatches for the analyzers under the tag `BATCHES`.

    A unit whose journal is there is not made again: its batches are read back from its shards.
    """

    def __init__(self, options: MakeOptions, emit_batches: bool) -> None:
        self._options = options
        self._emit_batches = emit_batches

    def setup(self) -> None:
        options = self._options
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with a file, the quarantine tells
        self._pool = ThreadPoolExecutor(options.threads, "prepare")
        self._isolated = None
        if options.timeout and isinstance(options.preparer, Preparer):
            self._isolated = IsolatedPreparer(options.preparer, options.threads, options.timeout)

    def teardown(self) -> None:
        self._pool.shutdown()
        if self._isolated:
            self._isolated.close()

    def process(self, number: int) -> Iterator[Any]:
        options = self._options
        finished = Journal.read_finished(options.generation, number)
        if finished is None:
            finished = yield from self._make(number)
        elif self._emit_batches:
            for batch in read_back(options, finished):
                yield TaggedOutput(BATCHES, batch)
        _count(finished)
        yield finished

    def _make(self, number: int) -> Generator[Any, None, Journal]:
        options = self._options
        unit, pieces = plan.read_unit(files.join(options.generation, paths.PLAN), number)
        counting = options.statistics in unit.shards
        batcher = options.analysis.batcher() if counting and self._emit_batches else None
        return (yield from _make_unit(options, unit, self._chunks(unit, pieces, counting), batcher))

    def _chunks(self, unit: Unit, pieces: list[Any], counting: bool) -> Iterator[Chunk]:
        options = self._options
        if isinstance(options.preparer, RecordPreparer):
            return tables.chunks(options.preparer, self._pool, 2 * options.threads, pieces)
        (split,) = unit.shards
        prepare = functools.partial(self._isolated or options.preparer, histograms=counting)
        features = options.preparer.features or {}
        specs = summaries.combine(options.analysis.summary_specs, default_specs(features)) if counting else ()
        specs = tuple(spec for spec in specs if not features[spec.column].is_pixels)
        columns = options.analysis.columns if counting and self._emit_batches else ()
        analyzed = {name: features[name] for name in columns}
        return image_chunks.chunks(prepare, features, self._pool, 4 * options.threads, split, pieces, specs, analyzed)


def _make_unit(
    options: MakeOptions, unit: Unit, chunks: Iterable[Chunk], batcher: Batcher | None
) -> Generator[TaggedOutput, None, Journal]:
    """Writes a unit's shards, quarantine, hashes, summaries and, last, its journal; yields batches while it does."""
    tally = _Tally()
    heartbeat = _Heartbeat(options.generation, unit.index)
    schema = getattr(options.preparer, "stored_schema", None)
    packer: ShardSet | ScatterWriter
    if options.targets:
        packer = ScatterWriter(options.generation, unit.index, options.targets)
    else:
        packer = ShardSet(options.generation, unit.shards, schema)
    with _abandoned_on_error(packer):
        for chunk in chunks:
            tally.take(chunk)
            heartbeat.beat(tally)
            for split, records in chunk.records.items():
                packer.add(split, records, chunk.positions[split] if chunk.positions is not None else None)
            if batcher:
                yield from _tagged(batcher.add(chunk))
        if batcher:
            yield from _tagged(batcher.flush(tally.summaries))
        packed = packer.finish()
    finished = Journal(
        unit=unit.index,
        read=tally.read,
        shards=packed.shards,
        scattered=packed.scattered,
        segments=packed.segments,
        filtered=dict(tally.filtered),
        quarantined=dict(Counter(problem.code for problem in tally.problems)),
        quarantine=write_quarantine(options.generation, paths.unit_quarantine(unit.index), tally.problems),
        labels={split: dict(counts) for split, counts in tally.labels.items()},
        summaries=_write_summaries(options.generation, unit.index, tally.summaries),
    )
    if tally.hashes:
        journal.write_hashes(options.generation, unit.index, tally.hashes)
    finished.write(options.generation)
    heartbeat.stop()
    return finished


@contextlib.contextmanager
def _abandoned_on_error(packer: ShardSet | ScatterWriter) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        packer.abandon(error)
        raise


def _tagged(batches: Iterable[pa.RecordBatch]) -> Iterator[TaggedOutput]:
    return (TaggedOutput(BATCHES, batch) for batch in batches)


@dataclass
class _Tally:
    """What is counted while a unit is made."""

    read: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[QuarantinedExample] = field(default_factory=list)
    hashes: list[tuple[bytes, str, str]] = field(default_factory=list)
    summaries: Summaries = field(default_factory=dict)

    def take(self, chunk: Chunk) -> None:
        self.read += chunk.read
        self.problems += chunk.problems
        self.filtered.update(chunk.filtered)
        self.hashes += chunk.hashes
        for split, counts in chunk.labels.items():
            self.labels.setdefault(split, Counter()).update(counts)
        if chunk.summaries:
            self.summaries = summaries.merge(self.summaries, chunk.summaries)


class _Heartbeat:
    """Says how far a unit is, in a small local file that the progress display reads."""

    def __init__(self, generation: str, unit: int) -> None:
        self._path = files.join(generation, paths.unit_progress(unit)) if files.is_local(generation) else None
        self._next = 0.0
        if self._path:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)

    def beat(self, tally: _Tally) -> None:
        now = time.monotonic()
        if self._path is None or now < self._next:
            return
        self._next = now + _HEARTBEAT
        with open(self._path + ".tmp", "w") as file:
            json.dump({"read": tally.read, "quarantined": len(tally.problems)}, file)
        os.replace(self._path + ".tmp", self._path)

    def stop(self) -> None:
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


def write_quarantine(generation: str, path: str, problems: list[QuarantinedExample]) -> StoredFile | None:
    """Writes a quarantine file, a JSON object a line; None, and no file, where there are no problems."""
    if not problems:
        files.remove(files.join(generation, path))  # of an attempt that was killed
        return None
    content = "".join(json.dumps(problem.to_json(), sort_keys=True) + "\n" for problem in problems).encode()
    return store(generation, path, len(problems), content)


def _write_summaries(generation: str, unit: int, found: Summaries) -> StoredFile | None:
    return store(generation, paths.unit_summaries(unit), 0, summaries.encode(found)) if found else None


def read_back(options: MakeOptions, finished: Journal) -> Iterator[pa.RecordBatch]:
    """The analyzers' batches of a unit that is finished, from its shards and its summaries."""
    if options.statistics not in finished.shards and finished.scattered is None:
        return
    batcher = options.analysis.batcher()
    if options.analysis.columns:
        for record in _stored_examples(options, finished):
            yield from batcher.add(Chunk(1, analyzed=[record]))
    yield from batcher.flush(finished.read_summaries(options.generation))


def _stored_examples(options: MakeOptions, finished: Journal) -> Iterator[bytes]:
    if finished.scattered:
        return (record for _, record in read_segments(options.generation, finished, options.statistics, None))
    return read_examples(files.join(options.generation, finished.shards[options.statistics].file.path))


class GatherUnits(beam.DoFn):
    """Unit numbers and, aside, all journals in; the journals of the units' shards out. For a global shuffle."""

    def __init__(self, options: MakeOptions) -> None:
        self._options = options

    def process(self, number: int, journals: list[Journal]) -> Iterator[Journal]:
        generation = self._options.generation
        unit, _ = plan.read_unit(files.join(generation, paths.PLAN), number)
        yield gather(generation, sorted(journals, key=lambda journal: journal.unit), number, unit.shards)


def _count(finished: Journal) -> None:
    """Beam's counters, for the engines' own displays."""
    Metrics.counter("penstock", "read").inc(finished.read)
    Metrics.counter("penstock", "written").inc(finished.written)
    for code, count in finished.quarantined.items():
        Metrics.counter("penstock", f"quarantined/{code}").inc(count)
    for reason, count in finished.filtered.items():
        Metrics.counter("penstock", f"filtered/{reason}").inc(count)
    logging.getLogger(__name__).debug("unit %d: %d of %d written", finished.unit, finished.written, finished.read)
