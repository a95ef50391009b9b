"""How a run is shown while it goes, and what is asked when it is interrupted: a bar on a terminal, else plain lines."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich import progress as bars
from rich.console import Console

from ..pipeline.build.progress import Progress
from ..pipeline.formats.printable import printable
from ..pipeline.planned_run import PlannedRun
from .job_record import JobRecord
from .process import spoken_if_possible
from .reporter import MAKING, Interrupt, Reporter, Silent
from .reuse import planned_in_words

_LINE_EVERY = 5.0  # seconds between progress lines where there is no terminal


@contextlib.contextmanager
def reporter(quiet: bool) -> Iterator[Reporter]:
    """A bar on a terminal, plain lines elsewhere, nothing where quiet or where standard error is closed."""
    if quiet or sys.stderr is None:
        yield _Quiet()
    elif sys.stderr.isatty():
        with _Bar() as bar:
            yield _Careful(bar)
    else:
        yield _Careful(_Lines())


class _Careful:
    """A reporter whose standard error may be full or closed: a run does not fail because nobody hears of it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def stage(self, text: str) -> None:
        with spoken_if_possible():
            self._reporter.stage(text)

    def planned(self, planned: PlannedRun) -> None:
        with spoken_if_possible():
            self._reporter.planned(planned)

    def settled(self, planned: PlannedRun) -> None:
        with spoken_if_possible():
            self._reporter.settled(planned)

    def submitted(self, record: JobRecord) -> None:
        with spoken_if_possible():
            self._reporter.submitted(record)

    def warn(self, warnings: Sequence[str]) -> None:
        with spoken_if_possible():
            self._reporter.warn(warnings)

    def progress(self, progress: Progress) -> None:
        with spoken_if_possible():
            self._reporter.progress(progress)

    def committed(self, warnings: Sequence[str]) -> None:
        with spoken_if_possible():
            self._reporter.committed(warnings)

    def interrupted(self) -> Interrupt:
        return self._reporter.interrupted()


class _Quiet(Silent):
    """Says nothing, but asks."""

    def interrupted(self) -> Interrupt:
        return _ask()


class _Bar:
    """A progress bar with examples/s, the quarantined so far and the time left."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False)
        self._progress = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TextColumn("{task.fields[quarantined]} quarantined"),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("planning", total=None, rate="", quarantined=0, visible=False)
        self._start = 0.0
        self._first = 0
        self._whole = 0  # examples that are taken over as they are, before all others

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def interrupted(self) -> Interrupt:
        self._progress.stop()  # or it would write over the question
        try:
            return _ask()
        finally:
            self._progress.start()

    def stage(self, text: str) -> None:
        if text == MAKING:
            self._progress.update(self._task, description=MAKING, visible=True)
        else:
            self._console.print(printable(f"{text} …"), style="dim")

    def planned(self, planned: PlannedRun) -> None:
        self.settled(planned)
        warn(self._console, planned.warnings)

    def settled(self, planned: PlannedRun) -> None:
        for line in _plan_lines(planned):
            self._console.print(printable(line), soft_wrap=True)
        self._whole = planned.whole_examples
        self._progress.update(self._task, total=_left(planned))

    def progress(self, progress: Progress) -> None:
        read = max(0, progress.read - self._whole)
        if read and not self._start:  # what was there before is an earlier run's work, or an engine's start
            self._first, self._start = read, time.monotonic()
        rate = (read - self._first) / max(time.monotonic() - self._start, 1e-9)
        words = f"{rate:,.0f} examples/s" if rate else ""
        self._progress.update(self._task, completed=read, quarantined=progress.quarantined, rate=words)

    def submitted(self, record: JobRecord) -> None:
        self._console.print(printable(_job_line(record)), soft_wrap=True)
        self._progress.update(self._task, total=None if record.examples is None else record.examples - self._whole)

    def warn(self, warnings: Sequence[str]) -> None:
        warn(self._console, warnings)

    def committed(self, warnings: Sequence[str]) -> None:
        warn(self._console, warnings)


class _Lines:
    """A plain line for every stage, and one every few seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._next = 0.0
        self._total: int | None = 0
        self._whole = 0

    def stage(self, text: str) -> None:
        self._next = time.monotonic() + _LINE_EVERY
        self._say(f"{text} …")

    def planned(self, planned: PlannedRun) -> None:
        self.settled(planned)
        warn(Console(stderr=True, markup=False, highlight=False), planned.warnings)

    def settled(self, planned: PlannedRun) -> None:
        self._total, self._whole = _left(planned), planned.whole_examples
        for line in _plan_lines(planned):
            self._say(line)

    def progress(self, progress: Progress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY
            read = max(0, progress.read - self._whole)
            self._say(f"{read} of {self._total or '?'} examples, {progress.quarantined} quarantined")

    def submitted(self, record: JobRecord) -> None:
        self._say(_job_line(record))
        self._total = None if record.examples is None else record.examples - self._whole

    def warn(self, warnings: Sequence[str]) -> None:
        warn(Console(stderr=True, markup=False, highlight=False), warnings)

    def committed(self, warnings: Sequence[str]) -> None:
        warn(Console(stderr=True, markup=False, highlight=False), warnings)

    def interrupted(self) -> Interrupt:
        return Interrupt.CANCEL

    def _say(self, text: str) -> None:
        print(printable(f"[{time.monotonic() - self._start:6.1f} s] {text}"), file=sys.stderr, flush=True)


def _ask() -> Interrupt:
    """Asks on the terminal what an interrupted command is to do with its job; where there is none, it is cancelled."""
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return Interrupt.CANCEL
    answers = {"c": Interrupt.CANCEL, "d": Interrupt.DETACH, "f": Interrupt.FOLLOW}
    try:
        while True:
            sys.stderr.write("\ninterrupted: (c)ancel the job, (d)etach and let it go on, or (f)ollow it further? ")
            sys.stderr.flush()
            answer = sys.stdin.readline()
            if not answer:
                return Interrupt.CANCEL
            if choice := answers.get(answer.strip().lower()[:1]):
                return choice
    except (KeyboardInterrupt, OSError):
        return Interrupt.CANCEL


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def warn(console: Console, warnings: Sequence[str]) -> None:
    """Prints warnings, one a line."""
    for warning in warnings:
        console.print(printable(f"warning: {warning}"), style="yellow", soft_wrap=True, markup=False)


def _job_line(record: JobRecord) -> str:
    return f"{record.engine} has the job: {record.url or record.job_id}"


def _left(planned: PlannedRun) -> int | None:
    """How many examples there are in units that are not taken over as they are; None where that is not known."""
    examples = planned.plan.units.examples
    return None if examples is None else examples - planned.whole_examples


def _plan_lines(planned: PlannedRun) -> list[str]:
    """What is planned, and what of it is taken over."""
    return [line for line in (_plan_line(planned), planned_in_words(planned)) if line]


def _plan_line(planned: PlannedRun) -> str:
    plan = planned.plan
    splits = ", ".join(
        name if split.examples < 0 else f"{name} {split.examples}" for name, split in plan.splits.items()
    )
    count = f"{plan.inventory.read} examples" if plan.inventory.read >= 0 else "an unknown number of examples"
    return f"{count} ({splits}) in {len(plan.units)} units"
