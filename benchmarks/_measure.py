"""Measures whole processes, in turns: every series has its turn in every round, so that noise falls on all alike."""

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Run:
    """What one process took, with the children that it waited for.

    Attributes:
      seconds: From its start to its end.
      cpu: Seconds on all cores.
      peak: The largest resident memory of any one process of it, in bytes.
    """

    seconds: float
    cpu: float
    peak: int


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
    """Runs a command to its end.

    Raises:
      RuntimeError: it failed; the end of what it printed is in the message.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(env or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            printed = output.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}\n{printed}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak)


@dataclass
class Series:
    """A job that is run on a small and on a large input.

    Attributes:
      name: What it is called in the JSON.
      start: Runs it on the input of that many examples.
      sizes: The numbers of examples; the marginal rate is that between the smallest and the largest.
      optional: Whether the others go on where it fails.
      runs: Number of examples to its runs, one a round.
      failure: Why it failed, where it did.
    """

    name: str
    start: Callable[[int], Run]
    sizes: Sequence[int]
    optional: bool = False
    runs: dict[int, list[Run]] = field(default_factory=dict)
    failure: str = ""

    def rates(self, cpu: bool = False) -> list[float]:
        """Marginal examples/s by round; with `cpu`, examples by second of CPU time."""
        small, large = min(self.sizes), max(self.sizes)
        pairs = zip(self.runs[small], self.runs[large], strict=True)
        took = [(b.cpu - a.cpu) if cpu else (b.seconds - a.seconds) for a, b in pairs]
        return [(large - small) / seconds if seconds > 0 else math.nan for seconds in took]

    def to_json(self) -> dict[str, Any]:
        """All that was measured."""
        entry: dict[str, Any] = {"runs": {size: [asdict(run) for run in runs] for size, runs in self.runs.items()}}
        if self.failure:
            entry["failure"] = self.failure
        elif len(self.sizes) > 1:
            entry |= {"rates": self.rates(), "rates_cpu": self.rates(cpu=True)}
        return entry


def warm_up(series: Sequence[Series]) -> Iterator[Series]:
    """Runs each on its smallest input, uncounted: files come into the page cache, and what does not work shows."""
    for one in series:
        _start(one, min(one.sizes))
        yield one


def measure(series: Sequence[Series], rounds: int) -> Iterator[tuple[int, Series, int, Run]]:
    """Runs everything once a round, every other round backwards; yields each run as it ends."""
    steps = [(one, size) for one in series for size in one.sizes]
    for number in range(rounds):
        for one, size in steps if number % 2 == 0 else reversed(steps):
            if not one.failure and (done := _start(one, size)):
                one.runs.setdefault(size, []).append(done)
                yield number, one, size, done


def _start(series: Series, size: int) -> Run | None:
    try:
        return series.start(size)
    except RuntimeError as error:
        if not series.optional:
            raise
        series.failure = str(error)
        return None


def median(values: Sequence[float]) -> float:
    """The median of those that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def ratios(ours: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Ours by the reference, round by round."""
    return [a / b for a, b in zip(ours, reference, strict=True)]
