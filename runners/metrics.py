"""A run's figures in a file, for schedulers and dashboards.

It is in Prometheus' text format, as node_exporter's textfile collector reads it, and is rewritten atomically every few
seconds: its age tells whether the command is alive.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..pipeline.build.progress import Progress
from ..pipeline.errors import INTERRUPTED, PenstockError, RequestError
from ..pipeline.planned_run import PlannedRun
from ..pipeline.storage import files
from .follow import Detached
from .job_record import JobRecord
from .reporter import MAKING, Both, Reporter, Silent

_EVERY = 5.0  # seconds between two times that the file is written
_STATES = ("planning", MAKING, "submitted", "committed", "up_to_date", "failed")
_HELP = {
    "penstock_run_info": ("gauge", "What is made, and where: always 1."),
    "penstock_run_state": ("gauge", "1 for the state that the run is in."),
    "penstock_run_start_time_seconds": ("gauge", "When the command began, in seconds since 1970."),
    "penstock_run_end_time_seconds": ("gauge", "When the command ended."),
    "penstock_run_exit_code": ("gauge", "The command's exit code, once it ended."),
    "penstock_run_warnings": ("gauge", "How many warnings there were."),
    "penstock_examples_planned": ("gauge", "How many examples the input holds, where planning tells."),
    "penstock_examples_read_total": ("counter", "Examples taken in hand."),
    "penstock_examples_written_total": ("counter", "Examples in shards of finished units."),
    "penstock_examples_quarantined_total": ("counter", "Examples that could not be prepared."),
    "penstock_shard_bytes_total": ("counter", "Bytes of the shards of finished units."),
}


@dataclass
class _Figures:
    """What the file tells."""

    dataset: str
    start: float
    end: float | None = None
    exit_code: int | None = None
    state: str = "planning"
    warnings: int = 0
    planned: int | None = None
    progress: Progress = field(default_factory=Progress)
    info: dict[str, str] = field(default_factory=dict)

    def samples(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Every metric's name, labels beside the dataset, and value; those of one name together."""
        yield "penstock_run_info", self.info, 1
        for state in _STATES:
            yield "penstock_run_state", {"state": state}, state == self.state
        values = {
            "penstock_run_start_time_seconds": self.start,
            "penstock_run_end_time_seconds": self.end,
            "penstock_run_exit_code": self.exit_code,
            "penstock_run_warnings": self.warnings,
            "penstock_examples_planned": self.planned,
            "penstock_examples_read_total": self.progress.read,
            "penstock_examples_written_total": self.progress.written,
            "penstock_examples_quarantined_total": self.progress.quarantined,
            "penstock_shard_bytes_total": self.progress.bytes,
        }
        for name, value in values.items():
            if value is not None:
                yield name, {}, value

    def encode(self) -> bytes:
        """The file's content."""
        lines: list[str] = []
        last = ""
        for name, labels, value in self.samples():
            if name != last:
                kind, words = _HELP[name]
                lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
            last = name
            pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in {"dataset": self.dataset, **labels}.items())
            lines.append(f"{name}{{{pairs}}} {float(value)!r}")
        return ("\n".join(lines) + "\n").encode(errors="replace")


class MetricsFile(Silent):
    """A reporter that keeps a file with figures up to date."""

    def __init__(self, path: str, dataset: str) -> None:
        """Writes the file.

        Raises:
          RequestError: it cannot be written.
        """
        self._path = os.path.abspath(path)
        self._figures = _Figures(dataset, time.time())
        try:
            self._write()
        except OSError as error:
            raise RequestError(f"--metrics: expected a file that can be written, found: {error}") from error
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_new, name="metrics", daemon=True)
        self._thread.start()

    def stage(self, text: str) -> None:
        if text.startswith(MAKING):
            self._figures.state = MAKING

    def planned(self, planned: PlannedRun) -> None:
        self.settled(planned)
        self._figures.warnings += len(planned.warnings)

    def settled(self, planned: PlannedRun) -> None:
        self._figures.planned = planned.plan.units.examples
        self._figures.info = self._figures.info | {"generation": planned.generation_id}

    def submitted(self, record: JobRecord) -> None:
        self._figures.planned = record.examples
        told = {"engine": record.engine, "job": record.job_id, "url": record.url or ""}
        self._figures.info = self._figures.info | told
        self._figures.state = MAKING

    def warn(self, warnings: Sequence[str]) -> None:
        self._figures.warnings += len(warnings)

    def progress(self, progress: Progress) -> None:
        self._figures.progress = progress

    def committed(self, warnings: Sequence[str]) -> None:
        self._figures.warnings += len(warnings)
        self._figures.state = "committed"

    @property
    def is_committed(self) -> bool:
        """Whether something was committed."""
        return self._figures.state == "committed"

    def end(self, exit_code: int, state: str) -> None:
        """The command ends: tells how."""
        self._ended.set()
        self._thread.join()
        self._figures.state, self._figures.exit_code, self._figures.end = state, exit_code, time.time()
        with contextlib.suppress(OSError):
            self._write()

    def _keep_new(self) -> None:
        while not self._ended.wait(_EVERY):
            with contextlib.suppress(OSError):  # a run does not fail because its figures cannot be told
                self._write()

    def _write(self) -> None:
        files.write_bytes(self._path, self._figures.encode())


@contextlib.contextmanager
def kept_metrics(path: str | None, dataset: str, reporter: Reporter) -> Iterator[Reporter]:
    """Keeps a file with figures as long as the block runs, and tells in it how that ended.

    Args:
      path: The file; None: there is none.
      dataset: The dataset's URI.
      reporter: Is told everything, too.

    Raises:
      RequestError: the file cannot be written.
    """
    if path is None:
        yield reporter
        return
    figures = MetricsFile(path, dataset)
    try:
        yield Both(reporter, figures)
    except Detached as detached:
        figures.end(detached.exit_code, "submitted")
        raise
    except BaseException as error:
        figures.end(exit_code_of(error), "failed")
        raise
    figures.end(0, "committed" if figures.is_committed else "up_to_date")


def exit_code_of(error: BaseException) -> int:
    """The exit code that the command line ends with for an error."""
    if isinstance(error, PenstockError | Detached):
        return error.exit_code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else PenstockError.exit_code


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
