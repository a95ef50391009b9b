"""Makes units: prepares a unit's examples, packs them into its shards, and reduces them for tft's analyzers."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from ..cores import cores
from ..formats import column_notes, paths
from ..formats.column_notes import Notes
from ..formats.manifest import StoredFile
from ..planning.plan_file import PlanReader, Unit, UnitInputs
from ..prepare import range_totals, summaries
from ..prepare.chunk import Chunk
from ..prepare.images import ImagePreparer, ImageWorker
from ..prepare.preparer import Preparer, Worker
from ..prepare.range_totals import RangeTotals
from ..prepare.shipping import Carrying
from ..prepare.summaries import Summaries
from ..prepare.tables import TablePreparer
from ..prepare.threads import OneBehind
from ..sources.listing import RecordRange
from ..sources.quarantine import LISTED, FilteredExample, QuarantinedExample
from ..storage import files
from . import duplicates
from .assembly import ImageAssembler, RangeAssembler
from .attempts import Attempts
from .base import BaseGeneration, link_unit
from .claim import expect_claimed
from .duplicates import DuplicateOptions
from .global_shuffle import SegmentWriter, combine, count_groups, gather_segments, group_size, write_digests
from .journal import FinishedUnits, Journal, RangeCounts, encode_hashes
from .progress import NAMESPACE, Progress, ProgressWriter
from .restatement import Restatement
from .scan import ResolvedRanges, ScanOptions, scan_here
from .shards import ShardSet, store, write_lines
from .tasks import Spread, StageDoFn, Wait

if TYPE_CHECKING:
    from ..analysis.phases import PhaseReducer, UnitReducer
    from ..analysis.trace import Analysis

T = TypeVar("T")

_WRITES = 4  # of a unit's files at a time, beside its shards


@dataclass(frozen=True)
class MakeOptions(Carrying):
    """What a worker must know to make a unit.

    Attributes:
      root: The generation's URI.
      run: The run's id, unlike any other's.
      preparer: Prepares what the unit is to read.
      analysis: What tft's analyzers need of the units; None: `features` calls none, and no worker that makes units
        imports TensorFlow for it.
      threads: Images or ranges prepared at a time by one worker; None: as many as it has cores.
      targets: In a global shuffle, how many units share their rows out among their shards; else 0.
      splits: The splits' names.
      scan: How the rows of nominal ranges are found first; None where there are none.
      duplicates: How rows that are to be left out are found first; None where there are none, or the plan has them.
      progress: The folder where workers tell how far they are; None: nobody looks.
      base: The generation that has what some units are, or are made of; None: all is prepared.
    """

    root: str
    run: str
    preparer: Preparer
    analysis: "Analysis | None"
    threads: int | None = 1
    targets: int = 0
    splits: Sequence[str] = ()
    scan: ScanOptions | None = None
    duplicates: DuplicateOptions | None = None
    progress: str | None = None
    base: BaseGeneration | None = None


class MakeUnits(StageDoFn[MakeOptions]):
    """Makes units.

    A unit whose journal is there is not made again. What is there is found out by one listing a worker: nothing is
    asked of the store about a unit that has just begun.

    A unit's files are written while the next one is prepared, or the bundle ends: only then a signal tells of it.
    """

    def setup(self) -> None:
        self._maker: UnitMaker | None = None
        self._journals: dict[int, Journal] = {}
        self._ending: Future[Journal] | None = None
        self._progress = ProgressWriter(self._options.progress)

    def start_bundle(self) -> None:
        self._ending = None  # a bundle that failed is given again

    def finish_bundle(self) -> Iterator[WindowedValue]:
        signal = self.signal(lambda _: self._end(), ())
        yield WindowedValue(signal, GlobalWindow().max_timestamp(), [GlobalWindow()])
        self._progress.end_bundle()

    def teardown(self) -> None:
        self._progress.flush()
        if self._maker:
            self._maker.close()

    def do(self, numbers: Sequence[int]) -> int:
        if self._maker is None:
            self._maker = UnitMaker(self._options, self._progress)
        journals = self._maker.before.read(numbers)
        done = 0
        for number in numbers:
            if finished := self._journals.get(number) or journals.get(number):
                self._tell(finished)
                done += 1
            else:
                ending = self._maker.make(number)
                done += self._end()
                self._ending = ending
        return done

    def _end(self) -> int:
        """Waits for the unit whose files are being written, if there is one; gives how many there are."""
        if self._ending is None:
            return 0
        ending, self._ending = self._ending, None
        finished = ending.result()
        self._journals[finished.unit] = finished
        self._tell(finished)
        return 1

    def _tell(self, finished: Journal) -> None:
        self._progress.tell(finished.unit, _progress(finished))
        _count(finished)


class UnitMaker:
    """Makes units in this process, whatever there is of them already.

    Attributes:
      before: What there was of the generation when it began.
    """

    def __init__(self, options: MakeOptions, progress: ProgressWriter) -> None:
        """Lists what is there.

        Raises:
          OSError: it cannot be listed.
        """
        self._options = options
        self._progress = progress
        self.before = FinishedUnits(options.root)
        self._ranges = ResolvedRanges(options.root)
        if isinstance(options.preparer, TablePreparer):
            options.preparer.use_joined(options.root)
        self._attempts = Attempts(options.root, options.run, self.before)
        self._threads = options.threads or cores()
        self._worker = options.preparer.start(self._threads)
        self._isolated: Worker | None = None
        self._ends = OneBehind("end")
        self._plan = PlanReader(files.join(options.root, paths.PLAN))
        self._reducer = _first_phase(options.analysis)
        self._assembler: ImageAssembler | RangeAssembler | None = None
        if options.base and isinstance(options.preparer, ImagePreparer):
            self._assembler = ImageAssembler(options.base, options.preparer, self._threads)
        elif options.base and isinstance(options.preparer, TablePreparer):
            self._assembler = RangeAssembler(options.base, options.preparer)

    def __enter__(self) -> "UnitMaker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends its threads and processes, once the last unit's files are written."""
        self._ends.close()
        self._plan.close()
        self._worker.close()
        if self._isolated:
            self._isolated.close()
        if self._reducer:
            self._reducer.close()
        if self._assembler:
            self._assembler.close()

    def make(self, number: int) -> Future[Journal]:
        """Makes a unit: prepares it; its files are then written by another thread, once those of the last one are.

        Raises:
          PenstockError: another run makes the generation by now, or a function of `prepare` does what it must not.
          Exception: what prevented that the last one's files were written.
        """
        options = self._options
        expect_claimed(options.root, options.run)
        inputs = self._plan.read(number)
        if inputs.unit.base is not None and options.base and options.base.same_statistics:
            return self._ends.run(partial(_take_over, options, options.base, inputs.unit, self.before))
        mark = paths.attempt(number)
        with self._attempts.begin(mark) as is_suspect:
            if is_suspect and (finished := Journal.read_finished(options.root, number)):
                return self._ends.run(lambda: finished)  # since this worker began
            unit = inputs.unit
            if unit.base is not None and self._assembler:
                restated = self._assembler.restate(unit.base, list(unit.shards), self._start_reducer(unit))
                take_over = partial(_take_over, options, self._assembler.base, unit, self.before, restated)
                return self._end(mark, take_over)
            worker = self._isolating() if is_suspect else self._worker
            chunks = self._chunks(worker, inputs)
            ranges = [piece.number for piece in inputs.pieces if isinstance(piece, RecordRange)]
            reducer, end = self._start_reducer(unit), partial(self._end, mark)
            return _make_unit(options, unit, ranges, chunks, reducer, self.before, self._progress, end)

    def _end(self, mark: str, write: Callable[[], Journal]) -> Future[Journal]:
        """Has the files be written of a unit that is prepared, as a part of its attempt."""

        def end() -> Journal:
            with self._attempts.go_on(mark):
                return write()

        return self._ends.run(end)

    def _chunks(self, worker: Worker, inputs: UnitInputs) -> Iterator[Chunk]:
        """The chunks of a unit, from what is stored of it in the base and from what is prepared."""
        splits = list(inputs.unit.shards)
        if isinstance(self._assembler, ImageAssembler) and isinstance(worker, ImageWorker) and inputs.is_stored:
            return self._assembler.chunks(worker, splits, inputs)
        if isinstance(self._assembler, RangeAssembler) and inputs.is_stored:
            return self._assembler.chunks(worker, splits, inputs, self._ranges.resolve)
        pieces = self._ranges.resolve(inputs.pieces)
        if self._options.duplicates:
            pieces = duplicates.mark(self._options.duplicates, inputs.unit.index, pieces)
        return worker.chunks(splits, pieces)

    def _start_reducer(self, unit: Unit) -> "UnitReducer | None":
        """Begins to reduce a unit for tft's analyzers; None: there are none, or nothing for them."""
        has_statistics = self._options.preparer.statistics.split in unit.shards
        return self._reducer.start() if has_statistics and self._reducer else None

    def _isolating(self) -> Worker:
        """The worker for units that may kill their process."""
        if self._isolated is None:
            self._isolated = self._options.preparer.start(self._threads, self._options.root, isolated=True)
        return self._isolated


def _take_over(
    options: MakeOptions,
    base: BaseGeneration,
    unit: Unit,
    before: FinishedUnits,
    restated: Restatement | None = None,
) -> Journal:
    """Gives a unit the files of the base's unit that it is, and writes its journal.

    Args:
      options: What a worker must know.
      base: The base.
      unit: The unit.
      before: What was there before.
      restated: What the unit keeps for the statistics; None: what the base's unit does.

    Raises:
      PenstockError: the base is not there any more, or another run makes the generation by now.
    """
    _remove_journal(options.root, unit, before)
    try:
        _expect_first(options, unit.index)
    except _MadeElsewhere as other:
        return other.journal
    root = options.root
    journal = link_unit(base, root, unit)
    if restated:
        encoded = summaries.encode(restated.summaries) if restated.summaries else None
        journal = replace(
            journal,
            summaries=_store_kept(root, paths.unit_summaries(unit.index), bytes, encoded, before),
            accumulators=_store_kept(root, paths.unit_accumulators(unit.index), bytes, restated.accumulators, before),
            notes=restated.notes,
        )
    kept = {file.path for file in journal.files}
    left = [path for path in paths.unit_files(unit.index) if path not in kept and before.has_file(path)]
    files.remove_files(files.join(root, path) for path in left)
    journal.write(root)
    return journal


def _remove_journal(root: str, unit: Unit, before: FinishedUnits) -> None:
    """Removes the journal of an attempt whose files are not all there: what one finishes meanwhile is known by its."""
    if before.has_journal(unit.index):
        files.remove_files([files.join(root, paths.unit_journal(unit.index))])


def _make_unit(
    options: MakeOptions,
    unit: Unit,
    ranges: Sequence[int],
    chunks: Iterable[Chunk],
    reducer: "UnitReducer | None",
    before: FinishedUnits,
    progress: ProgressWriter,
    end: Callable[[Callable[[], Journal]], Future[Journal]],
) -> Future[Journal]:
    """Packs a unit, and has its files be written.

    Args:
      options: What a worker must know.
      unit: The unit.
      ranges: The numbers of its ranges; of images none.
      chunks: What is in it.
      reducer: Reduces the unit for tft's analyzers; None: there are none, or nothing for them.
      before: What was there before; a journal of the unit is of no use then.
      progress: Is told how far it is.
      end: Has a function be called that writes them.

    Raises:
      Exception: what prevents it.
    """
    _remove_journal(options.root, unit, before)
    tally = _Tally()
    packer: ShardSet | SegmentWriter
    if options.targets:
        schema = options.preparer.stored_schema
        packer = SegmentWriter.of_unit(options.root, unit.index, list(unit.shards), options.targets, schema)
    else:
        packer = ShardSet(options.root, unit.shards, options.preparer.stored_schema)
    with _abandoned_on_error(packer):
        for chunk in chunks:
            tally.take(chunk)
            progress.tell(unit.index, Progress(tally.read, len(tally.quarantined)))
            for name, split in chunk.splits.items():
                if len(split.examples):
                    packer.add(name, split.examples, split.positions)
            if reducer and len(chunk.analyzed):
                reducer.add(chunk.analyzed)
        accumulated = reducer.finish() if reducer else None
        prepared = _PreparedUnit(unit.index, ranges, tally, accumulated, packer)
        return end(partial(_finish_unit, options, prepared, before))


def _finish_unit(options: MakeOptions, prepared: "_PreparedUnit", before: FinishedUnits) -> Journal:
    """Writes a unit's shards, quarantine, hashes, summaries, accumulators and, last, its journal.

    Raises:
      PenstockError: another run makes the generation by now.
    """
    try:
        with _abandoned_on_error(prepared.packer):
            _expect_first(options, prepared.number)
    except _MadeElsewhere as other:
        return other.journal
    finished = _write_files(options.root, prepared, before)
    finished.write(options.root)
    return finished


def _first_phase(analysis: "Analysis | None") -> "PhaseReducer | None":
    """Reduces units for the first phase of the analysis; None: there is none."""
    if analysis is None:
        return None
    from ..analysis.phases import PhaseReducer  # imports Beam's and tf.Transform's analyzers: half a second

    return PhaseReducer(analysis, {}, analysis.first_columns)


def _write_files(root: str, prepared: "_PreparedUnit", before: FinishedUnits) -> Journal:
    """Writes a unit's files side by side, since a store answers each write late; gives the journal that lists them."""
    unit, tally = prepared.number, prepared.tally
    with ThreadPoolExecutor(_WRITES, "write") as pool:
        quarantine = pool.submit(_store_lines, root, paths.unit_quarantine(unit), tally.quarantined, before)
        filtered = pool.submit(_store_lines, root, paths.unit_filtered(unit), tally.filtered_examples, before)
        summarized = pool.submit(
            _store_kept, root, paths.unit_summaries(unit), summaries.encode, tally.summaries or None, before
        )
        hashes = pool.submit(_store_kept, root, paths.unit_hashes(unit), encode_hashes, tally.hashes or None, before)
        of_ranges = [tally.ranges.get(number) or RangeTotals(number) for number in prepared.ranges]
        totals = pool.submit(_store_kept, root, paths.unit_ranges(unit), range_totals.encode, of_ranges or None, before)
        reduced = pool.submit(_store_kept, root, paths.unit_accumulators(unit), bytes, prepared.accumulated, before)
        with _abandoned_on_error(prepared.packer):
            packed = prepared.packer.finish()
        return Journal(
            unit=unit,
            read=tally.read,
            shards=packed.shards,
            segment_file=packed.segment_file,
            filtered=dict(tally.filtered),
            quarantined=dict(Counter(example.code for example in tally.quarantined)),
            quarantine=quarantine.result(),
            filtered_list=filtered.result(),
            labels={split: dict(counts) for split, counts in tally.labels.items()},
            summaries=summarized.result(),
            hashes=hashes.result(),
            accumulators=reduced.result(),
            notes=tally.notes,
            ranges=[RangeCounts(each.read, each.quarantined) for each in of_ranges],
            range_totals=totals.result(),
        )


class _MadeElsewhere(Exception):
    """Another attempt at the unit was faster."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal.unit)
        self.journal = journal


def _expect_first(options: MakeOptions, unit: int) -> None:
    """Raises where a unit's files may not be written: an example's failure may depend on the moment, and so may they.

    Raises:
      _MadeElsewhere: another attempt of this run has finished the unit: what it made stays.
      PenstockError: another run makes the generation by now, or this one has ended.
    """
    with ThreadPoolExecutor(1) as pool:  # both are asked for at once
        journal = pool.submit(Journal.load, options.root, unit)
        expect_claimed(options.root, options.run)
        if found := journal.result():
            raise _MadeElsewhere(found)


def _store_lines(
    root: str, path: str, examples: Sequence[QuarantinedExample | FilteredExample], before: FinishedUnits
) -> StoredFile | None:
    """Writes a unit's list of examples; None where it is empty: then a list of an earlier attempt is removed."""
    if not examples and before.has_file(path):
        files.remove_files([files.join(root, path)])
    return write_lines(root, path, [example.to_line() for example in examples])


def make_units(options: MakeOptions, numbers: Iterable[int]) -> Iterator[Journal]:
    """Makes some units of a plan in this process, whatever there is of them already; yields their journals."""
    if options.scan:
        scan_here(options.scan)
    if options.duplicates:
        duplicates.find_here(options.duplicates, options.run)
    with UnitMaker(options, ProgressWriter(None)) as maker:
        for number in numbers:
            yield maker.make(number).result()


@contextlib.contextmanager
def _abandoned_on_error(packer: ShardSet | SegmentWriter) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        packer.abandon(error)
        raise


@dataclass
class _Tally:
    """What is counted while a unit is made."""

    read: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    filtered_examples: list[FilteredExample] = field(default_factory=list)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    quarantined: list[QuarantinedExample] = field(default_factory=list)
    hashes: list[tuple[str, pa.RecordBatch]] = field(default_factory=list)
    summaries: Summaries = field(default_factory=dict)
    listed: Counter[str] = field(default_factory=Counter)
    notes: Notes = field(default_factory=dict)
    ranges: dict[int, RangeTotals] = field(default_factory=dict)

    def take(self, chunk: Chunk) -> None:
        self.read += chunk.read
        self.quarantined += chunk.quarantined
        self.filtered.update(chunk.filtered)
        examples = iter(chunk.filtered_examples)
        for totals in chunk.ranges:
            self._take_range(replace(totals, listed=self._list(islice(examples, totals.listed))))
        self._list(examples)
        for name, split in chunk.splits.items():
            if split.hashes is not None:
                self.hashes.append((name, split.hashes))
            if split.labels is not None:
                self.labels.setdefault(name, Counter()).update(split.labels)
        if chunk.summaries:
            self.summaries = summaries.merge(self.summaries, chunk.summaries)
        if chunk.notes:
            self.notes = column_notes.merge(self.notes, chunk.notes)

    def _list(self, examples: Iterable[FilteredExample]) -> int:
        """Lists filtered examples, the first ones of each reason; tells how many."""
        before = len(self.filtered_examples)
        for example in examples:
            if self.listed[example.reason] < LISTED:
                self.listed[example.reason] += 1
                self.filtered_examples.append(example)
        return len(self.filtered_examples) - before

    def _take_range(self, totals: RangeTotals) -> None:
        """Takes what became of a range, or of a part of one."""
        for split, counts in totals.labels.items():
            self.labels.setdefault(split, Counter()).update(counts)
        self.notes = column_notes.merge(self.notes, totals.notes)
        self.summaries = summaries.merge(self.summaries, totals.moments)
        before = self.ranges.get(totals.number)
        self.ranges[totals.number] = before.merge(totals) if before else totals


def _store_kept(
    root: str, path: str, encode: Callable[[T], bytes], value: T | None, before: FinishedUnits
) -> StoredFile | None:
    """Writes what a unit leaves for later runs; None where it is nothing: then what an earlier attempt left goes."""
    if value is None:
        if before.has_file(path):
            files.remove_files([files.join(root, path)])
        return None
    return store(root, path, None, encode(value))


class ShuffleGlobally(beam.PTransform):
    """One signal in, when all units have segment files; one out, when the targets' shards are there."""

    def __init__(self, options: MakeOptions) -> None:
        super().__init__()
        self._options = options

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        options = self._options
        if group_size(options.targets) > 1:
            pairs = count_groups(options.targets) ** 2
            units = (
                units
                | "Digests" >> Spread(1)
                | "Digest" >> beam.ParDo(DigestSegments(options, options.run))
                | "Pairs" >> Spread(pairs)
                | "Combine" >> beam.ParDo(CombineSegments(options, options.run))
                | "Combined" >> Wait()
            )
        targets = units | "Targets" >> Spread(options.targets)
        return targets | "Gather" >> beam.ParDo(GatherTargets(options, options.run)) | "Gathered" >> Wait()


class DigestSegments(StageDoFn[MakeOptions]):
    """Writes down which segment file each unit has, in one file for the steps that follow."""

    def do(self, numbers: Sequence[int]) -> int:
        write_digests(self._options.root, self._options.targets)
        return len(numbers)


class CombineSegments(StageDoFn[MakeOptions]):
    """Combines the segment files of pairs of groups."""

    def do(self, numbers: Sequence[int]) -> int:
        options = self._options
        expect_claimed(options.root, options.run)
        for task in numbers:
            combine(options.root, options.targets, task, options.splits)
        return len(numbers)


class GatherTargets(StageDoFn[MakeOptions]):
    """Gathers targets' rows in their shards."""

    def setup(self) -> None:
        self._plan = PlanReader(files.join(self._options.root, paths.PLAN))

    def teardown(self) -> None:
        self._plan.close()

    def do(self, numbers: Sequence[int]) -> int:
        options = self._options
        expect_claimed(options.root, options.run)
        for target in numbers:
            gather_segments(options.root, options.targets, target, self._plan.read(target).unit.shards)
        return len(numbers)


def _progress(finished: Journal) -> Progress:
    """How far a finished unit is."""
    shard_bytes = sum(shard.file.bytes for shard in finished.shards.values())
    return Progress(finished.read, sum(finished.quarantined.values()), finished.written, shard_bytes)


def _count(finished: Journal) -> None:
    """Beam's counters, for the engines' own displays and for those who follow a job."""
    progress = _progress(finished)
    Metrics.counter(NAMESPACE, "read").inc(progress.read)
    Metrics.counter(NAMESPACE, "written").inc(progress.written)
    Metrics.counter(NAMESPACE, "bytes").inc(progress.bytes)
    for code, count in finished.quarantined.items():
        Metrics.counter(NAMESPACE, f"quarantined/{code}").inc(count)
    for reason, count in finished.filtered.items():
        Metrics.counter(NAMESPACE, f"filtered/{reason}").inc(count)
    logging.getLogger(__name__).debug("unit %d: %d of %d written", finished.unit, finished.written, finished.read)


@dataclass(frozen=True)
class _PreparedUnit:
    """A unit whose examples are packed, and of which all is known that its files say.

    Attributes:
      number: The unit's.
      ranges: The numbers of its ranges; of images none.
      tally: What was counted.
      accumulated: What tft's analyzers have accumulated; None: there are none.
      packer: Has its examples.
    """

    number: int
    ranges: Sequence[int]
    tally: _Tally
    accumulated: bytes | None
    packer: ShardSet | SegmentWriter
