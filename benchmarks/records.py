"""Measures Penstock's claims about tables, each next to a reference, in one run on one machine.

    .venv/bin/python benchmarks/records.py [--quick] [--only SECTION ...] [--census FOLDER] [--json FILE] [--record]

One and many copies of the census (UCI Adult) are prepared with examples/census.py: statistics of every column, 8
vocabularies, 4 z-scores and a bucketized age, written to TFRecord. The references compute the same features:
tf.Transform's own example (CSV TFXIO, AnalyzeAndTransformDataset, TFRecord), Beam's MLTransform, and, as the upper
limit, pyarrow alone, which reads the CSV and computes the statistics but writes nothing. Whole processes are measured,
from start to exit. A rate is marginal: the additional rows of a large input divided by the additional time, so that
start-up cancels out. The first two references are slow, so they get fewer rows. All series run once in each of
several rounds, in random order; a ratio is computed for each round, and the median is reported with the smallest and
the largest.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import _census
import _options
from _measure import Run, Series, measure, median, ratios, run
from _report import Bar, Row, finish
from rich.console import Console

HERE = Path(__file__).parent
RECIPE = HERE.parent / "examples/census.py"
SECTIONS = ("rate", "fixed", "memory", "peers")
CORES = os.cpu_count() or 1
SLOW = (1, 4)  # copies of the census for the slow references


@dataclass
class Bench:
    """Where the copies are and where output goes."""

    root: Path

    def __post_init__(self) -> None:
        self._numbers = itertools.count()

    def folder(self, rows: int) -> Path:
        """The input with this number of rows."""
        return self.root / f"census-{rows // _census.ROWS}"

    def series(self, name: str, copies: Sequence[int], command: Callable[[Path, Path], Sequence[str | Path]]) -> Series:
        """Runs a command, with a folder of its own for its output, which is removed afterwards."""

        def start(rows: int) -> Run:
            output = self.root / f"output-{next(self._numbers)}"
            try:
                words = [str(word) for word in command(self.folder(rows), output)]
                return run([sys.executable, *words], {"TMPDIR": str(self.root), "TF_CPP_MIN_LOG_LEVEL": "3"})
            finally:
                shutil.rmtree(output, ignore_errors=True)

        return Series(name, start, [count * _census.ROWS for count in copies])


def all_series(bench: Bench, options: argparse.Namespace) -> Iterator[Series]:
    copies = sorted({1, min(10, options.copies), options.copies})
    command = ["-m", "penstock.runners", "run", RECIPE, "--quiet", "--input"]
    yield bench.series("penstock", copies, lambda folder, output: [*command, folder, "--output", output])
    yield bench.series("arrow", (1, options.copies), lambda folder, _: [HERE / "_census.py", folder])
    if "peers" in options.only:
        slow = SLOW if not options.quick else (1, 2)
        for name, script in (("tft", "_tft_census.py"), ("mltransform", "_mltransform_census.py")):
            yield bench.series(name, slow, lambda folder, output, script=script: [HERE / script, folder, output])


class Results:
    """The series by name, and the rows of the report."""

    def __init__(self, series: Sequence[Series], options: argparse.Namespace) -> None:
        self._series = {one.name: one for one in series}
        self._options = options

    def rows(self, section: str) -> Iterator[Row]:
        return {"rate": self._rate, "fixed": self._fixed, "memory": self._memory, "peers": self._peers}[section]()

    def _rate(self) -> Iterator[Row]:
        rates = [rate / 1000 for rate in self._series["penstock"].rates()]
        bar = Bar(130, at_least=True, unit=" k")
        yield Row("marginal rate", _rate(rates), "", median(rates), bar, (min(rates), max(rates)), " k rows/s")
        cpu = [rate / 1000 for rate in self._series["penstock"].rates(cpu=True)]
        yield Row("  by CPU time", f"{_rate(cpu)} of CPU", "", median(cpu), None, (min(cpu), max(cpu)), " k rows/s")
        yield self._compared("share of the upper limit", "arrow", "pyarrow: reads and computes, writes nothing")

    def _compared(self, claim: str, reference: str, what: str, bar: Bar | None = None, cpu: bool = False) -> Row:
        """A row of two marginal rates and their ratio."""
        a, b = self._series["penstock"].rates(cpu), self._series[reference].rates(cpu)
        by_round = ratios(a, b)
        shown = [_rate([rate / 1000 for rate in rates]) for rates in (a, b)]
        return Row(claim, shown[0], f"{shown[1]}, {what}", median(by_round), bar, (min(by_round), max(by_round)))

    def _fixed(self) -> Iterator[Row]:
        for name, claim in (
            ("penstock", "fixed cost"),
            ("tft", "  tf.Transform's example"),
            ("mltransform", "  MLTransform"),
        ):
            if name not in self._series:
                continue
            one = self._series[name]
            runs = one.runs[_census.ROWS]
            seconds = [took.seconds - _census.ROWS / rate for took, rate in zip(runs, one.rates(), strict=True)]
            ours = f"{median([took.seconds for took in runs]):.1f} s for {_census.ROWS} rows"
            cpu = f"{median([took.cpu for took in runs]):.1f} s of CPU"
            bar = Bar(8, at_least=False, unit=" s") if name == "penstock" else None
            yield Row(claim, f"{ours}, {cpu}", "", median(seconds), bar, (min(seconds), max(seconds)), " s")

    def _memory(self) -> Iterator[Row]:
        for name, one in self._series.items():
            if name == "arrow":
                continue
            small, *larger = sorted(one.runs)
            for size in larger:
                by_round = ratios([took.peak for took in one.runs[size]], [took.peak for took in one.runs[small]])
                claim = (
                    f"peak memory, {size // small} times the data"
                    if name == "penstock"
                    else f"  {name}, {size // small} times"
                )
                bar = Bar(1.15, at_least=False) if name == "penstock" and size // small == 10 else None
                shown = [f"{median([took.peak for took in one.runs[rows]]) / 1e6:.0f} MB" for rows in (size, small)]
                yield Row(claim, shown[0], shown[1], median(by_round), bar, (min(by_round), max(by_round)))

    def _peers(self) -> Iterator[Row]:
        yield self._compared(
            "times tf.Transform's example", "tft", "CSV TFXIO, AnalyzeAndTransform", Bar(15, at_least=True)
        )
        yield self._compared("  by CPU time", "tft", "the same", cpu=True)
        yield self._compared("times MLTransform", "mltransform", "Beam's MLTransform")


def _rate(rates: Sequence[float]) -> str:
    return f"{median(rates):.1f} k rows/s"


def main() -> None:
    options = _arguments()
    if not (options.census / _census.FILE).is_file():
        sys.exit(
            f"expected the census at {options.census / _census.FILE}, found nothing; name its folder with --census"
        )
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as root:
        bench = Bench(Path(root))
        series = list(all_series(bench, options))
        for rows in {size for one in series for size in one.sizes}:
            _census.write(options.census, rows // _census.ROWS, bench.folder(rows))
        console = Console(stderr=True)
        measure(series, options, "rows", console)
    results = Results(series, options)
    rows = {section: list(results.rows(section)) for section in options.only}
    finish("records", rows, _notes(options), options, {one.name: one.to_json() for one in series})


def _notes(options: argparse.Namespace) -> list[str]:
    notes = [
        f"{options.copies * _census.ROWS} rows on {CORES} cores; medians of {options.rounds} rounds",
        "a rate is (rows of the largest run - smallest run) / (seconds of the largest - smallest), whole processes; "
        "the fixed cost is the time of the smallest run minus that of its rows at that rate",
    ]
    if options.quick:
        notes.append("--quick: too few rows and rounds for rates; it shows that everything runs")
    return notes


def _arguments() -> argparse.Namespace:
    parser = _options.parser(__doc__, SECTIONS, "4 copies, one round: two minutes")
    _options.add_census(parser)
    parser.add_argument("--copies", type=int, help="copies of its 32,561 rows in the large input (default: 40)")
    options = _options.parse(parser, SECTIONS)
    options.copies = options.copies or (4 if options.quick else 40)
    if options.copies < 2:
        parser.error("--copies: expected at least 2: a rate needs two sizes")
    return options


if __name__ == "__main__":
    main()
