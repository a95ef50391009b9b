"""Measures whole processes: every series runs once in every round, in random order, so that noise affects all alike."""

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from rich.console import Console

Step = TypeVar("Step")


@dataclass(frozen=True)
class Run:
    """The resources that one process used, including the children that it waited for.

    Attributes:
      seconds: Wall-clock time from start to exit.
      cpu: CPU seconds on all cores.
      peak: The largest resident memory of any single process, in bytes.
      load: The machine's load average over a minute when it started.
    """

    seconds: float
    cpu: float
    peak: int
    load: float


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
    """Runs a command and waits for it.

    Raises:
      RuntimeError: it failed; the message has the end of its output.
    """
    load = os.getloadavg()[0]
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
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, load)


@dataclass
class Series:
    """A job that is run on a small and on a large input.

    Attributes:
      name: Its name in the JSON.
      start: Runs it on an input with the given number of examples.
      sizes: The numbers of examples; the marginal rate is computed from the smallest and the largest.
      optional: Whether a failure is recorded instead of raised.
      runs: Number of examples to its runs, one per round.
      failure: The error message, if it failed; its last line goes to the JSON.
    """

    name: str
    start: Callable[[int], Run]
    sizes: Sequence[int]
    optional: bool = False
    runs: dict[int, list[Run]] = field(default_factory=dict)
    failure: str = ""

    def rates(self, cpu: bool = False) -> list[float]:
        """Marginal examples/s of each round; with `cpu`, examples per CPU second."""
        small, large = min(self.sizes), max(self.sizes)
        pairs = zip(self.runs[small], self.runs[large], strict=True)
        elapsed = [(b.cpu - a.cpu) if cpu else (b.seconds - a.seconds) for a, b in pairs]
        return [(large - small) / seconds if seconds > 0 else math.nan for seconds in elapsed]

    def to_json(self) -> dict[str, Any]:
        """All measurements."""
        entry: dict[str, Any] = {"runs": {size: [asdict(run) for run in runs] for size, runs in self.runs.items()}}
        if self.failure:
            entry["failure"] = self.failure.strip().rpartition("\n")[2]
        elif len(self.sizes) > 1:
            entry |= {"rates": self.rates(), "rates_cpu": self.rates(cpu=True)}
        return entry


def warm_up(series: Sequence[Series]) -> Iterator[Series]:
    """Runs each once on its smallest input, unmeasured: fills the page cache, and reveals failures."""
    for one in series:
        _start(one, min(one.sizes))
        yield one


def measure(series: Sequence[Series], options: argparse.Namespace, unit: str, console: Console) -> None:
    """Runs everything once per round, in another order each time, and says of each run what it took.

    Args:
      series: What to run; it keeps the runs.
      options: Has the number of `rounds` and the `seed` of their order.
      unit: What the series' sizes count, such as "images".
      console: Where to say it.
    """
    console.print(f"order of the rounds: --seed {options.seed}")
    for number, steps in enumerate(orders([(one, size) for one in series for size in one.sizes], options)):
        for one, size in steps:
            if one.failure or not (done := _start(one, size)):
                continue
            one.runs.setdefault(size, []).append(done)
            console.print(
                f"round {number + 1} of {options.rounds}: {one.name}, {size} {unit}: {done.seconds:.1f} s, "
                f"{done.cpu:.1f} s of CPU, {done.peak / 1e6:.0f} MB"
            )


def orders(steps: Sequence[Step], options: argparse.Namespace) -> Iterator[list[Step]]:
    """The steps of each round, all of them, in an order that depends on the seed and the round."""
    generator = random.Random(options.seed)
    for _ in range(options.rounds):
        yield generator.sample(steps, len(steps))


def _start(series: Series, size: int) -> Run | None:
    try:
        return series.start(size)
    except RuntimeError as error:
        if not series.optional:
            raise
        series.failure = str(error)
        return None


def median(values: Sequence[float]) -> float:
    """The median, ignoring NaN."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def ratios(ours: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Ours divided by the reference, round by round."""
    return [a / b for a, b in zip(ours, reference, strict=True)]
