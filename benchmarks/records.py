"""Measures Penstock's claims about tables, each next to a reference, in one run on one machine.

    .venv/bin/python benchmarks/records.py [--quick] [--only SECTION ...] [--census FOLDER] [--json FILE] [--record]

One and many copies of the census (UCI Adult) are prepared with examples/census.py: statistics of every column, 8
vocabularies, 4 z-scores and a bucketized age, written to TFRecord; the section `parquet` reads them from Parquet, and
writes them to Parquet. The references compute the same features: tf.Transform's own example (CSV TFXIO,
AnalyzeAndTransformDataset, TFRecord), Beam's MLTransform, and, as the upper limit, pyarrow alone, which reads the file
and computes the statistics but writes nothing. The section `wide` prepares a table of 300 numbers and 100 strings.

Whole processes are measured, from start to exit. A rate is marginal: the additional rows of a large input divided by
the additional time, so that start-up cancels out. The first two references are slow, so they get fewer rows. All series
run once in each of several rounds, in random order; a ratio is computed for each round, and the median is reported with
the smallest and the largest.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import _census
import _options
import numpy as np
import pyarrow as pa
import pyarrow.csv
from _measure import Run, Series, measure, median, ratios, run
from _report import Bar, Row, finish
from rich.console import Console

HERE = Path(__file__).parent
RECIPE = HERE.parent / "examples/census.py"
# What each section compares.
SECTIONS = {
    "rate": ("penstock", "arrow"),
    "fixed": ("penstock",),
    "memory": ("penstock",),
    "parquet": ("from_parquet", "arrow_parquet", "to_parquet", "arrow"),
    "wide": ("wide",),
    "peers": ("penstock", "tft", "mltransform"),
}
CORES = os.cpu_count() or 1
ARROW, UPPER = "pyarrow: reads and computes, writes nothing", Bar(0.3, at_least=True)
SLOW = (1, 4)  # copies of the census for the slow references
WIDE_NUMBERS, WIDE_STRINGS, WIDE_ROWS = 300, 100, 10_000
RECIPES = {
    "census": RECIPE.read_text(),
    "from_parquet": f"""{RECIPE.read_text()}
from penstock import Parquet

recipe = replace(recipe, source=Parquet("{_census.PARQUET}"))
""",
    "to_parquet": f"""{RECIPE.read_text()}
recipe = replace(recipe, format="parquet")
""",
    "wide": f"""
from penstock import Csv, Recipe
from penstock.transforms import categorical, numeric


def features(inputs):
    outputs = {{f"n{{i}}": numeric.standardize(inputs, f"n{{i}}") for i in range({WIDE_NUMBERS})}}
    return outputs | {{f"s{{i}}": categorical.vocabulary(inputs, f"s{{i}}") for i in range({WIDE_STRINGS})}}


recipe = Recipe(source=Csv("wide.csv"), features=features)
""",
}


@dataclass
class Bench:
    """Where the copies are and where output goes."""

    root: Path
    options: argparse.Namespace
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def series(self, name: str) -> Series:
        """A series of SECTIONS."""
        copies = self.options.copies
        match name:
            case "penstock":
                return self._penstock(name, "census", sorted({1, min(10, copies), copies}))
            case "from_parquet" | "to_parquet":
                return self._penstock(name, name, (1, copies))
            case "wide":
                return Series(name, self._run(lambda folder, out: self._command("wide", folder, out)), [WIDE_ROWS])
            case "arrow" | "arrow_parquet":
                file = _census.FILE if name == "arrow" else _census.PARQUET
                return self._series(name, (1, copies), lambda folder, _: [HERE / "_census.py", folder / file])
            case _:
                slow = (1, 2) if self.options.quick else SLOW
                return self._series(name, slow, lambda folder, output: [HERE / f"_{name}_census.py", folder, output])

    def folder(self, rows: int) -> Path:
        """The input with this number of rows."""
        return self.root / f"rows-{rows}"

    def write(self, rows: int) -> None:
        """Writes this input: the census, or a wide table."""
        if rows % _census.ROWS == 0:
            _census.write(self.options.census, rows // _census.ROWS, self.folder(rows))
        else:
            _write_wide(self.folder(rows), rows)

    def _penstock(self, name: str, recipe: str, copies: Sequence[int]) -> Series:
        return self._series(name, copies, lambda folder, output: self._command(recipe, folder, output))

    def _command(self, recipe: str, folder: Path, output: Path) -> list[str | Path]:
        path = self.root / f"{recipe}.py"
        path.write_text(RECIPES[recipe])
        return ["-m", "penstock.runners", "run", path, "--quiet", "--input", folder, "--output", output]

    def _series(
        self, name: str, copies: Sequence[int], command: Callable[[Path, Path], Sequence[str | Path]]
    ) -> Series:
        return Series(name, self._run(command), [count * _census.ROWS for count in copies])

    def _run(self, command: Callable[[Path, Path], Sequence[str | Path]]) -> Callable[[int], Run]:
        """Runs a command, with a folder of its own for its output, which is removed afterwards."""

        def start(rows: int) -> Run:
            output = self.root / f"output-{next(self._numbers)}"
            try:
                words = [str(word) for word in command(self.folder(rows), output)]
                return run([sys.executable, *words], {"TMPDIR": str(self.root), "TF_CPP_MIN_LOG_LEVEL": "3"})
            finally:
                shutil.rmtree(output, ignore_errors=True)

        return start


def _write_wide(folder: Path, rows: int) -> None:
    """Writes normally distributed numbers, and strings of 50 values a column."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    columns = {f"n{number}": np.round(generator.normal(size=rows), 4) for number in range(WIDE_NUMBERS)}
    values = np.array([f"value{number}" for number in range(50)])
    columns |= {f"s{number}": values[generator.integers(50, size=rows)] for number in range(WIDE_STRINGS)}
    pyarrow.csv.write_csv(pa.table(columns), folder / "wide.csv")


class Results:
    """The series by name, and the rows of the report."""

    def __init__(self, series: Sequence[Series], options: argparse.Namespace) -> None:
        self._series = {one.name: one for one in series}
        self._options = options

    def rows(self, section: str) -> Iterator[Row]:
        return {
            "rate": self._rate,
            "fixed": self._fixed,
            "memory": self._memory,
            "parquet": self._parquet,
            "wide": self._wide,
            "peers": self._peers,
        }[section]()

    def _rate(self) -> Iterator[Row]:
        rates = [rate / 1000 for rate in self._series["penstock"].rates()]
        bar = Bar(130, at_least=True, unit=" k")
        yield Row.of_rounds("marginal rate", _rate(rates), "", rates, bar, " k rows/s")
        cpu = [rate / 1000 for rate in self._series["penstock"].rates(cpu=True)]
        yield Row.of_rounds("  by CPU time", f"{_rate(cpu)} of CPU", "", cpu, unit=" k rows/s")
        yield self._compared("share of the upper limit", "penstock", "arrow", ARROW, UPPER)

    def _parquet(self) -> Iterator[Row]:
        claim = "from Parquet: share of the upper limit"
        yield self._compared(claim, "from_parquet", "arrow_parquet", f"{ARROW}, from Parquet", UPPER)
        yield self._compared("to Parquet: share of the upper limit", "to_parquet", "arrow", f"{ARROW}, from CSV", UPPER)

    def _wide(self) -> Iterator[Row]:
        runs = self._series["wide"].runs[WIDE_ROWS]
        cpu = [took.cpu for took in runs]
        claim = f"{WIDE_NUMBERS} numbers and {WIDE_STRINGS} strings, {WIDE_ROWS:,} rows: CPU time"
        ours = f"{median([took.seconds for took in runs]):.1f} s from command to commit"
        yield Row.of_rounds(claim, ours, "", cpu, Bar(15, at_least=False, unit=" s"), " s")

    def _compared(
        self, claim: str, ours: str, reference: str, what: str, bar: Bar | None = None, cpu: bool = False
    ) -> Row:
        """A row of two marginal rates and their ratio."""
        a, b = self._series[ours].rates(cpu), self._series[reference].rates(cpu)
        shown = [_rate([rate / 1000 for rate in rates]) for rates in (a, b)]
        return Row.of_rounds(claim, shown[0], f"{shown[1]}, {what}", ratios(a, b), bar)

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
            bar = Bar(5, at_least=False, unit=" s") if name == "penstock" else None
            yield Row.of_rounds(claim, f"{ours}, {cpu}", "", seconds, bar, " s")

    def _memory(self) -> Iterator[Row]:
        for name in ("penstock", "tft", "mltransform"):
            if name not in self._series:
                continue
            one = self._series[name]
            small, *larger = sorted(one.runs)
            for size in larger:
                by_round = ratios([took.peak for took in one.runs[size]], [took.peak for took in one.runs[small]])
                claim = (
                    f"peak memory, {size // small} times the data"
                    if name == "penstock"
                    else f"  {name}, {size // small} times"
                )
                bar = Bar(1.1, at_least=False) if name == "penstock" and size // small == 10 else None
                shown = [f"{median([took.peak for took in one.runs[rows]]) / 1e6:.0f} MB" for rows in (size, small)]
                yield Row.of_rounds(claim, shown[0], shown[1], by_round, bar)

    def _peers(self) -> Iterator[Row]:
        what, bar = "CSV TFXIO, AnalyzeAndTransform", Bar(15, at_least=True)
        yield self._compared("times tf.Transform's example", "penstock", "tft", what, bar)
        yield self._compared("  by CPU time", "penstock", "tft", "the same", cpu=True)
        yield self._compared("times MLTransform", "penstock", "mltransform", "Beam's MLTransform")


def _rate(rates: Sequence[float]) -> str:
    return f"{median(rates):.1f} k rows/s"


def main() -> None:
    options = _arguments()
    if not (options.census / _census.FILE).is_file():
        sys.exit(
            f"expected the census at {options.census / _census.FILE}, found nothing; name its folder with --census"
        )
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as root:
        bench = Bench(Path(root), options)
        names = dict.fromkeys(name for section in options.only for name in SECTIONS[section])
        series = [bench.series(name) for name in names]
        for rows in {size for one in series for size in one.sizes}:
            bench.write(rows)
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
    parser = _options.parser(__doc__, list(SECTIONS), "4 copies, one round: four minutes")
    _options.add_census(parser)
    parser.add_argument("--copies", type=int, help="copies of its 32,561 rows in the large input (default: 80)")
    options = _options.parse(parser, list(SECTIONS))
    options.copies = options.copies or (4 if options.quick else 80)
    if options.copies < 2:
        parser.error("--copies: expected at least 2: a rate needs two sizes")
    return options


if __name__ == "__main__":
    main()
