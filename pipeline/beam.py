"""The whole Beam graph on one screen."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsList

from .analysis.graph_writer import AnalyzeAndWriteGraph
from .build.duplicates import DuplicateOptions, FindDuplicates, HashUnits
from .build.journal import Journal
from .build.scan import ResolveRanges, ScanOptions, ScanRanges
from .build.units import BATCHES, MakeOptions, MakeUnits, ShuffleGlobally, read_back
from .commit.commit import CommitOptions, commit
from .errors import PenstockError
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
    """Groups of unit numbers in (`Job.groups`); one outcome out, after the commit.

    Only unit numbers, journals and what the analyzers reduce cross a shuffle; a global shuffle goes by files.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        job = self._job
        phases = job.make.analysis.phases
        scratch = job.commit.scratch or ""
        # Large text files are scanned for their rows before any unit is made of them.
        ready = [AsList(units.pipeline | FindRows(job.make.scan))] if job.make.scan else []
        if job.make.duplicates:
            ready = [AsList(units.pipeline | FindAllDuplicates(job.make.duplicates, ready))]
        outputs = units | "Make" >> beam.ParDo(MakeUnits(job.make), *ready).with_outputs(BATCHES, main="journals")
        journals = outputs["journals"]
        # journals: Journal;  BATCHES: pa.RecordBatch of the statistics' split
        if phases == 0:
            start = units.pipeline | beam.Impulse()  # the commit writes the graph
        elif phases == 1:
            start = outputs[BATCHES] | "Analyze" >> AnalyzeAndWriteGraph(job.make.analysis, scratch)
        else:
            # Later phases wait for earlier ones: journals wait, and every phase reads the shards itself. tf.Transform
            # copies what leads to its input for every phase, as far back as a shuffle. There must be none: what reads
            # from one shuffle is fused into one stage, which would keep the batches for the later phases.
            numbers = units.pipeline | beam.Impulse() | "Again" >> beam.FlatMap(lambda _: range(job.units))
            by_unit = journals | "ByUnit" >> beam.Map(lambda journal: (journal.unit, journal))
            batches = numbers | "ReadBack" >> beam.ParDo(ReadBack(job.make), AsDict(by_unit))
            # pa.RecordBatch
            start = batches | "Analyze" >> AnalyzeAndWriteGraph(job.make.analysis, scratch)
        # one element, whatever it is
        if job.make.targets:
            gathered = journals | "Shuffle" >> ShuffleGlobally(job.make)
            journals = (journals, gathered) | beam.Flatten()
        return start | "Commit" >> beam.ParDo(Commit(job.commit), AsList(journals))
        # dict, the outcome


class FindRows(beam.PTransform):
    """A pipeline in; one signal out, once it is known which rows the ranges of large text files have."""

    def __init__(self, options: ScanOptions) -> None:
        super().__init__()
        self._options = options

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        tasks = pipeline | "Tasks" >> beam.Create(range(self._options.tasks))
        scanned = tasks | "Scan" >> beam.ParDo(ScanRanges(self._options))
        return (
            pipeline
            | "Scanned" >> beam.Impulse()
            | "Resolve" >> beam.ParDo(ResolveRanges(self._options), AsList(scanned))
        )


class FindAllDuplicates(beam.PTransform):
    """A pipeline in; signals out, once it is known which rows equal earlier ones."""

    def __init__(self, options: DuplicateOptions, ready: Sequence[AsList]) -> None:
        super().__init__()
        self._options = options
        self._ready = ready

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        options = self._options
        units = pipeline | "Hashed" >> beam.Create(range(options.units))
        hashed = units | "Hash" >> beam.ParDo(HashUnits(options), *self._ready)
        partitions = pipeline | "Partitions" >> beam.Create(range(options.partitions))
        return partitions | "Duplicates" >> beam.ParDo(FindDuplicates(options), AsList(hashed))


class ReadBack(beam.DoFn):
    """Unit numbers in; the analyzers' RecordBatches of these units out, when all of them are made."""

    def __init__(self, options: MakeOptions) -> None:
        self._options = options

    def process(self, number: int, journals: Mapping[int, Journal]) -> Iterator[Any]:
        yield from read_back(self._options, journals[number])


class Commit(beam.DoFn):
    """A start signal and all journals in; the outcome out, and in a file of the run's.

    A refusal is an outcome and no exception: an engine would only retry it, and bury its words in a traceback.
    """

    def __init__(self, options: CommitOptions) -> None:
        self._options = options

    def process(self, _: object, journals: Sequence[Journal]) -> Iterator[dict[str, Any]]:
        try:
            commit(self._options, journals)
            outcome: dict[str, Any] = {"committed": self._options.generation_id}
        except PenstockError as error:
            outcome = {"refused": type(error).__name__, "message": str(error)}
        uri = files.join(self._options.root, paths.outcome(self._options.run))
        files.write_bytes(uri, json.dumps(outcome).encode())
        yield outcome
