"""The whole Beam graph on one screen."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList

from .analysis.graph_writer import AnalyzeAndWriteGraph
from .build.duplicates import DuplicateOptions, FindDuplicates, HashUnits
from .build.journal import Journal
from .build.scan import ResolveRanges, ScanOptions, ScanRanges
from .build.tasks import Refusal, Signal, Spread, Wait, each, is_worth_another_try
from .build.units import BATCHES, MakeOptions, MakeUnits, ShuffleGlobally, read_back
from .build.versions import expect_launchers
from .commit.commit import CommitOptions, commit
from .formats import paths
from .storage import files

_GROUP = 64  # finished units whose journals are read side by side


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
      make: What to make.
      commit: How to commit it.
      order: The units, those first that take longest.
      finished: The units that had a journal when the run began.
    """

    make: MakeOptions
    commit: CommitOptions
    order: Sequence[int]
    finished: Collection[int] = ()

    @property
    def units(self) -> int:
        """How many units there are to make; those that gather after a global shuffle come on top."""
        return self.commit.plan.units - self.make.targets

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The units in groups, the elements of the pipeline: one by one where there is work to do for each."""
        finished = set() if self.make.emits_batches else set(self.finished)
        alone = [(unit,) for unit in self.order if unit not in finished]
        return alone + list(batched(sorted(finished & set(range(self.units))), _GROUP))


def batched(numbers: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Numbers in groups of a size; the last may be smaller."""
    return (tuple(numbers[start : start + size]) for start in range(0, len(numbers), size))


class Build(beam.PTransform):
    """A pipeline in; one outcome out, after the commit.

    Only unit numbers, signals and what the analyzers reduce cross a shuffle: all else goes by files.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        job = self._job
        phases = job.make.analysis.phases
        scratch = job.commit.scratch or ""
        ready = pipeline | beam.Impulse() | "Begin" >> beam.Map(lambda _: Signal())
        # Large text files are scanned for their rows before any unit is made of them.
        if job.make.scan:
            ready = ready | FindRows(job.make.scan, job.make.run)
        if job.make.duplicates:
            ready = ready | FindAllDuplicates(job.make.duplicates, job.make.run)
        units = ready | "Units" >> Spread(job.groups)
        outputs = units | "Make" >> beam.ParDo(MakeUnits(job.make)).with_outputs(BATCHES, main="signals")
        # signals: Signal;  BATCHES: pa.RecordBatch of the statistics' split
        made = outputs["signals"] | "Made" >> Wait()
        if job.make.targets:
            made = made | "Shuffle" >> ShuffleGlobally(job.make)
        if phases:  # else the commit writes the graph
            if phases == 1:
                batches = outputs[BATCHES]
            else:
                # Later phases wait for earlier ones: every phase reads the shards itself. tf.Transform copies what
                # leads to its input for every phase, as far back as a shuffle. There must be none: what reads from
                # one shuffle is fused into one stage, which would keep the batches for the later phases.
                numbers = pipeline | "Again" >> beam.Impulse() | "All" >> beam.FlatMap(lambda _: range(job.units))
                batches = numbers | "ReadBack" >> beam.ParDo(ReadBack(job.make), AsList(made))
            analyzed = batches | "Analyze" >> AnalyzeAndWriteGraph(job.make.analysis, scratch)
            # one element, whatever it is
            written = analyzed | "Analyzed" >> beam.Map(lambda _: Signal())
            made = (made, written) | beam.Flatten() | "All made" >> Wait()
        return made | "Commit" >> beam.ParDo(Commit(job.commit))
        # dict, the outcome


class FindRows(beam.PTransform):
    """A signal in; one out, once it is known which rows the ranges of large text files have."""

    def __init__(self, options: ScanOptions, run: str) -> None:
        super().__init__()
        self._options = options
        self._run = run

    def expand(self, ready: beam.PCollection) -> beam.PCollection:
        options, run = self._options, self._run
        scanned = ready | "Tasks" >> Spread(each(options.tasks)) | "Scan" >> beam.ParDo(ScanRanges(options, run))
        table = scanned | "Scanned" >> Wait() | "Table" >> Spread(each(1))
        return table | "Resolve" >> beam.ParDo(ResolveRanges(options, run))


class FindAllDuplicates(beam.PTransform):
    """A signal in; one out, once it is known which rows equal earlier ones."""

    def __init__(self, options: DuplicateOptions, run: str) -> None:
        super().__init__()
        self._options = options
        self._run = run

    def expand(self, ready: beam.PCollection) -> beam.PCollection:
        options, run = self._options, self._run
        hashed = ready | "ToHash" >> Spread(each(options.units)) | "Hash" >> beam.ParDo(HashUnits(options, run))
        partitions = hashed | "Hashed" >> Wait() | "Partitions" >> Spread(each(options.partitions))
        return partitions | "Duplicates" >> beam.ParDo(FindDuplicates(options, run)) | "Found" >> Wait()


class ReadBack(beam.DoFn):
    """Unit numbers in; the analyzers' RecordBatches of these units out, when all of them are made."""

    def __init__(self, options: MakeOptions) -> None:
        self._options = options

    def process(self, number: int, _made: object) -> Iterator[Any]:
        if journal := Journal.load(self._options.root, number):
            yield from read_back(self._options, journal)


class Commit(beam.DoFn):
    """A signal in, when all is made; the outcome out, and in a file of the run's.

    A refusal is an outcome and no exception: an engine would only retry it, and bury its words in a traceback.
    """

    def __init__(self, options: CommitOptions) -> None:
        self._options = options

    def process(self, made: Signal) -> Iterator[dict[str, Any]]:
        refusal = made.refusal or self._commit()
        outcome: dict[str, Any] = {"committed": self._options.generation_id}
        if refusal:
            is_whole = made.refusal is None  # all units were made
            outcome = {"refused": refusal.kind, "message": refusal.message, "is_whole": is_whole}
        uri = files.join(self._options.root, paths.outcome(self._options.run))
        files.write_bytes(uri, json.dumps(outcome).encode())
        yield outcome

    def _commit(self) -> Refusal | None:
        """Commits; says why it cannot.

        Raises:
          OSError: another worker may do better.
        """
        try:
            expect_launchers(self._options.versions, self._options.own)
            commit(self._options)
        except Exception as error:
            if is_worth_another_try(error):
                raise
            return Refusal.of(error)
        return None
