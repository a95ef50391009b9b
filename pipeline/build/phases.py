"""The phases of tf.Transform's analysis: units are reduced for each, and one task evaluates what they come to.

Units are reduced for the first phase while they are made, and for later ones from what they have stored. All goes by
files of the generation, so workers share no folder; what a phase gives follows from the units in their order alone.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from ..errors import PenstockError
from ..formats import paths
from ..prepare.summaries import Summaries
from ..storage import files
from .claim import expect_claimed
from .global_shuffle import read_split
from .journal import FinishedUnits, Journal, merge_summaries, read_checked
from .shards import read_examples
from .tasks import StageDoFn
from .units import MakeOptions

if TYPE_CHECKING:
    from ..analysis.phases import PhaseReducer, Results
    from ..analysis.trace import Analysis

_DIGITS = 16  # of a digest in a file's name


def evaluate_phase(
    root: str, analysis: "Analysis", phase: int, journals: Iterable[Journal], summaries: Summaries
) -> "Results":
    """What the analyzers of a phase give, and those of the phases before it.

    Args:
      root: The generation's URI.
      analysis: The recipe's `features`.
      phase: The phase, whose accumulators are all written.
      journals: Of all units, in their order.
      summaries: The merged summaries of the statistics' split; of use in the first phase only.

    Raises:
      PenstockError: workers found other analyzers in `features` than there are here, or accumulators are damaged.
    """
    from ..analysis.phases import evaluate  # imports Beam's and tf.Transform's analyzers: half a second

    before, digest = _results_before(root, phase)
    reduced = [journal for journal in journals if journal.accumulators]
    first = [files.join(root, _accumulators(phase, digest, journal)) for journal in reduced[:1]]
    calls = files.calls_for(max(map(files.size, first), default=0))
    read = partial(_read_accumulators, root, phase, digest)
    contents = files.map_files(read, reduced, calls)
    with tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True) as folder:
        return evaluate(analysis, before, [partial(read, journal) for journal in reduced], contents, summaries, folder)


def _read_accumulators(root: str, phase: int, digest: str, journal: Journal) -> bytes:
    """A unit's accumulators for a phase; those of the first one are checked, for they may be another generation's."""
    if phase == 0 and journal.accumulators:
        return read_checked(root, journal.accumulators)
    return files.read_bytes(files.join(root, _accumulators(phase, digest, journal)))


def _accumulators(phase: int, digest: str, journal: Journal) -> str:
    """Where a unit's accumulators for a phase are: elsewhere where the unit was made again and came out otherwise."""
    if not phase:
        return paths.unit_accumulators(journal.unit)
    checksums = "".join(file.sha256 for file in journal.files)
    content = hashlib.sha256(checksums.encode()).hexdigest()[:_DIGITS]
    return paths.phase_accumulators(phase, digest, journal.unit, content)


def stored_examples(root: str, journal: Journal, splits: Sequence[str], split: str) -> Iterator[bytes]:
    """The serialized examples that a unit has stored of a split, wherever these are to go.

    Args:
      root: The generation's URI.
      journal: The unit's.
      splits: The names of all splits.
      split: The split.
    """
    if journal.segment_file:
        yield from read_split(root, paths.unit_segments(journal.unit), splits, split)
    elif split in journal.shards:
        yield from read_examples(files.join(root, journal.shards[split].file.path))


def _results_before(root: str, phase: int) -> tuple["Results", str]:
    """What the phases before one gave, and what of it names the files that depend on it."""
    from ..analysis.phases import decode_results

    if phase == 0:
        return {}, ""
    content = files.read_bytes(files.join(root, paths.phase_results(phase - 1)))
    return decode_results(content), hashlib.sha256(content).hexdigest()[:_DIGITS]


class EvaluatePhase(StageDoFn[MakeOptions]):
    """Evaluates a phase for the next one: its results go to a file."""

    def __init__(self, options: MakeOptions, analysis: "Analysis", units: int, phase: int) -> None:
        super().__init__(options, options.run)
        self._analysis = analysis
        self._units = units
        self._phase = phase

    def do(self, numbers: Sequence[int]) -> int:
        from ..analysis.phases import encode_results

        root = self._options.root
        journals = list(FinishedUnits(root).load(range(self._units)))
        if len(journals) != self._units:
            raise PenstockError(f"{root}: expected {self._units} journals, found {len(journals)}; run again")
        summaries = self._summaries(journals) if self._phase == 0 else {}
        results = evaluate_phase(root, self._analysis, self._phase, journals, summaries)
        expect_claimed(root, self._options.run)
        files.write_bytes(files.join(root, paths.phase_results(self._phase)), encode_results(results))
        return len(numbers)

    def _summaries(self, journals: Sequence[Journal]) -> Summaries:
        from ..analysis.closer_look import look_closer  # imports TensorFlow

        options = self._options
        split = options.preparer.statistics.split

        def read() -> Iterator[bytes]:
            return chain.from_iterable(stored_examples(options.root, each, options.splits, split) for each in journals)

        return look_closer(self._analysis, merge_summaries(options.root, journals), read)


class ReducePhase(StageDoFn[MakeOptions]):
    """Reduces units for a phase that needs the results of the one before it."""

    def __init__(self, options: MakeOptions, analysis: "Analysis", phase: int) -> None:
        super().__init__(options, options.run)
        self._analysis = analysis
        self._phase = phase

    def setup(self) -> None:
        self._reducer: PhaseReducer | None = None

    def teardown(self) -> None:
        if self._reducer:
            self._reducer.close()

    def do(self, numbers: Sequence[int]) -> int:
        root = self._options.root
        expect_claimed(root, self._options.run)
        for number in numbers:
            journal = Journal.load(root, number)
            if journal is None:
                raise PenstockError(f"{root}: expected the journal of unit {number}, found none; run again")
            if journal.accumulators:
                self._reduce(journal)
        return len(numbers)

    def _reduce(self, journal: Journal) -> None:
        """Writes a unit's accumulators, unless an attempt has that was given the same results and the same unit."""
        from ..analysis.phases import PhaseReducer

        root, analysis = self._options.root, self._analysis
        if self._reducer is None:
            results, self._digest = _results_before(root, self._phase)
            self._reducer = PhaseReducer(analysis, results, analysis.columns)
        uri = files.join(root, _accumulators(self._phase, self._digest, journal))
        if files.exists(uri):
            return
        unit = self._reducer.start()
        split = self._options.preparer.statistics.split
        for example in stored_examples(root, journal, self._options.splits, split):
            unit.add([example])
        files.write_bytes(uri, unit.finish())
