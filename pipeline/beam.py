"""The whole Beam graph on one screen."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam

from .build.duplicates import DuplicateOptions, FindDuplicates, HashUnits
from .build.phases import EvaluatePhase, ReducePhase
from .build.scan import ResolveRanges, ScanOptions, ScanRanges
from .build.tasks import Signal, Spread, Wait
from .build.units import MakeOptions, MakeUnits, ShuffleGlobally
from .commit.commit import CommitOptions
from .commit.stage import Commit

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
        finished = set(self.finished)
        alone = [(unit,) for unit in self.order if unit not in finished]
        return alone + list(batched(sorted(finished & set(range(self.units))), _GROUP))


def batched(numbers: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Numbers in groups of a size; the last may be smaller."""
    return (tuple(numbers[start : start + size]) for start in range(0, len(numbers), size))


class Build(beam.PTransform):
    """A pipeline in; one outcome out, after the commit.

    Only numbers and signals cross a shuffle: all else goes by files.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        job = self._job
        ready = pipeline | beam.Impulse() | "Begin" >> beam.Map(lambda _: Signal())
        # Large text files are scanned for their rows before any unit is made of them.
        if job.make.scan:
            ready = ready | FindRows(job.make.scan, job.make.run)
        if job.make.duplicates:
            ready = ready | FindAllDuplicates(job.make.duplicates, job.make.run)
        units = ready | "Units" >> Spread(job.groups)
        made = units | "Make" >> beam.ParDo(MakeUnits(job.make, job.make.run)) | "Made" >> Wait()
        if job.commit.analysis.phases > 1:  # an analyzer is given what another gives
            made = made | Analyze(job)
        if job.make.targets:
            made = made | "Shuffle" >> ShuffleGlobally(job.make)
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
        scanned = ready | "Tasks" >> Spread(options.tasks) | "Scan" >> beam.ParDo(ScanRanges(options, run))
        table = scanned | "Scanned" >> Wait() | "Table" >> Spread(1)
        return table | "Resolve" >> beam.ParDo(ResolveRanges(options, run))


class FindAllDuplicates(beam.PTransform):
    """A signal in; one out, once it is known which rows equal earlier ones."""

    def __init__(self, options: DuplicateOptions, run: str) -> None:
        super().__init__()
        self._options = options
        self._run = run

    def expand(self, ready: beam.PCollection) -> beam.PCollection:
        options, run = self._options, self._run
        hashed = ready | "ToHash" >> Spread(options.units) | "Hash" >> beam.ParDo(HashUnits(options, run))
        partitions = hashed | "Hashed" >> Wait() | "Partitions" >> Spread(options.partitions)
        return partitions | "Duplicates" >> beam.ParDo(FindDuplicates(options, run)) | "Found" >> Wait()


class Analyze(beam.PTransform):
    """A signal in, when all units are made; one out, when all but the last phase of the analysis is evaluated.

    The first phase was reduced while the units were made, and the last one is evaluated by the commit.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, made: beam.PCollection) -> beam.PCollection:
        make, analysis, units = self._job.make, self._job.commit.analysis, self._job.units
        for phase in range(1, analysis.phases):
            evaluate = EvaluatePhase(make, analysis, units, phase - 1)
            reduce = ReducePhase(make, analysis, phase)
            results = made | f"Phase{phase}" >> Spread(1) | f"Evaluate{phase}" >> beam.ParDo(evaluate)
            numbers = results | f"Evaluated{phase}" >> Wait() | f"Units{phase}" >> Spread(units)
            made = numbers | f"Reduce{phase}" >> beam.ParDo(reduce) | f"Reduced{phase}" >> Wait()
        return made
