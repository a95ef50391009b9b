"""Makes units: reads, prepares and packs a unit's examples into its shard, and hands the analyzers what they need."""

import contextlib
import functools
import hashlib
import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from . import files, journal, layout, plan
from .analyze import Analysis, Batcher
from .features import serialize
from .isolate import IsolatedPreparer
from .journal import Journal, StoredFile
from .layout import ShardName
from .plan import Unit
from .prepare import Preparer
from .records import RecordWriter, read_records
from .reference import Dropped, Outcome, Prepared, Problem

BATCHES = "batches"
_HEARTBEAT = 0.5  # seconds
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class MakeOptions:
    """What a worker must know to make a unit.

    Attributes:
      generation: The generation's URI.
      preparer: Prepares one example.
      analysis: What the analyzers need.
      statistics: The split that statistics come from.
      compression: None or "gzip".
      threads: Examples prepared at a time by one worker.
      timeout: Seconds an example may take in a process of its own; None prepares in threads.
    """

    generation: str
    preparer: Preparer
    analysis: Analysis
    statistics: str
    compression: str | None = None
    threads: int = 1
    timeout: float | None = None


class MakeUnits(beam.DoFn):
    """Unit numbers in; journals out, and RecordBatches for the analyzers under the tag `BATCHES`.

    A unit whose journal is there is not made again: its batches are read back from its shard.
    """

    def __init__(self, options: MakeOptions, emit_batches: bool) -> None:
        self._options = options
        self._emit_batches = emit_batches

    def setup(self) -> None:
        options = self._options
        self._pool = ThreadPoolExecutor(options.threads, "prepare")
        self._isolated = (
            IsolatedPreparer(options.preparer, options.threads, options.timeout) if options.timeout else None
        )

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
            yield from _tagged(read_back(options, finished))
        _count(finished)
        yield finished

    def _make(self, number: int) -> Generator[Any, None, Journal]:
        options = self._options
        plan_uri = layout.join(options.generation, layout.PLAN)
        unit = plan.read_units(plan_uri)[number]
        counting = unit.split == options.statistics
        prepare = functools.partial(self._isolated or options.preparer, histograms=counting)
        references = plan.read_references(plan_uri, number)
        outcomes = ordered_map(self._pool, prepare, references, 4 * options.threads)
        batcher = Batcher(options.analysis) if counting and self._emit_batches else None
        return (yield from _make_unit(options, unit, outcomes, batcher))


def _tagged(batches: Iterable[pa.RecordBatch]) -> Iterator[TaggedOutput]:
    return (TaggedOutput(BATCHES, batch) for batch in batches)


def _make_unit(
    options: MakeOptions, unit: Unit, outcomes: Iterable[Outcome], batcher: Batcher | None
) -> Generator[TaggedOutput, None, Journal]:
    """Writes a unit's shard, quarantine, hashes and, last, its journal; yields batches while it does."""
    name = ShardName(unit.split, unit.shard, unit.shards, options.compression == "gzip")
    tally = _Tally()
    heartbeat = _Heartbeat(options.generation, unit.index)
    with files.create(layout.join(options.generation, name.path)) as file:
        writer = RecordWriter(file, options.compression)
        for outcome in outcomes:
            tally.take(outcome)
            heartbeat.beat(tally)
            if not isinstance(outcome, Prepared):
                continue
            serialized = serialize(outcome.values, options.analysis.features)
            writer.append(serialized)
            if batcher and (batch := batcher.add(serialized, outcome.histograms)):
                yield TaggedOutput(BATCHES, batch)
        if batcher and (batch := batcher.flush()):
            yield TaggedOutput(BATCHES, batch)
        sha256 = writer.finish()
    finished = Journal(
        unit=unit.index,
        split=unit.split,
        shard=StoredFile(name.path, writer.records, writer.size, sha256),
        index=_store(options.generation, name.index_path, writer.records, np.array(writer.offsets, "<u8").tobytes()),
        read=unit.examples,
        filtered=dict(tally.filtered),
        quarantined=dict(Counter(problem.code for problem in tally.problems)),
        quarantine=write_quarantine(options.generation, layout.unit_quarantine(unit.index), tally.problems),
        labels=dict(tally.labels),
        histograms={name: counts.tolist() for name, counts in tally.histograms.items()},
    )
    journal.write_hashes(options.generation, unit.index, tally.hashes, tally.keys)
    finished.write(options.generation)
    heartbeat.stop()
    return finished


@dataclass
class _Tally:
    """What is counted while a unit is made."""

    filtered: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)

    def take(self, outcome: Outcome) -> None:
        if isinstance(outcome, Problem):
            self.problems.append(outcome)
        elif isinstance(outcome, Dropped):
            self.filtered[outcome.reason] += 1
        else:
            self.hashes.append(bytes.fromhex(outcome.sha256))
            self.keys.append(outcome.key)
            if outcome.label is not None:
                self.labels[outcome.label] += 1
            for name, counts in outcome.histograms.items():
                self.histograms[name] = self.histograms.get(name, 0) + counts

    @property
    def read(self) -> int:
        return len(self.keys) + len(self.problems) + self.filtered.total()


class _Heartbeat:
    """Says how far a unit is, in a small local file that the progress display reads."""

    def __init__(self, generation: str, unit: int) -> None:
        self._path = layout.join(generation, layout.unit_progress(unit)) if files.is_local(generation) else None
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


def write_quarantine(generation: str, path: str, problems: list[Problem]) -> StoredFile | None:
    """Writes a quarantine file, a JSON object a line; None, and no file, where there are no problems."""
    if not problems:
        return None
    content = "".join(json.dumps(problem.to_json(), sort_keys=True) + "\n" for problem in problems).encode()
    return _store(generation, path, len(problems), content)


def _store(generation: str, path: str, examples: int, content: bytes) -> StoredFile:
    files.write_bytes(layout.join(generation, path), content)
    return StoredFile(path, examples, len(content), hashlib.sha256(content).hexdigest())


def read_back(options: MakeOptions, finished: Journal) -> Iterator[pa.RecordBatch]:
    """The analyzers' batches of a unit that is finished, from its shard and its journal."""
    if finished.split != options.statistics:
        return
    batcher = Batcher(options.analysis)
    batcher.add_histograms({name: np.array(counts, np.int64) for name, counts in finished.histograms.items()})
    if options.analysis.columns:
        for serialized in read_records(layout.join(options.generation, finished.shard.path)):
            if batch := batcher.add(serialized, {}):
                yield batch
    if batch := batcher.flush():
        yield batch


def ordered_map(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], window: int
) -> Iterator[R]:
    """`map` in a thread pool, in the order of the items, with at most `window` of them begun and not yet taken."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) >= window:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _count(finished: Journal) -> None:
    """Beam's counters, for the engines' own displays."""
    Metrics.counter("penstock", "read").inc(finished.read)
    Metrics.counter("penstock", "written").inc(finished.written)
    for code, count in finished.quarantined.items():
        Metrics.counter("penstock", f"quarantined/{code}").inc(count)
    for reason, count in finished.filtered.items():
        Metrics.counter("penstock", f"filtered/{reason}").inc(count)
    logging.getLogger(__name__).debug("unit %d: %d of %d written", finished.unit, finished.written, finished.read)
