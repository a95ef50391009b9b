"""Measures what a run costs where a part of its input, or a line of its recipe, has changed, next to a full run.

    .venv/bin/python benchmarks/changes.py [--quick] [--only SECTION ...] [--photos FOLDER] [--census FOLDER]
                                           [--json FILE] [--record]

Photos of 0.2 megapixels become 224x224, stored as JPEG or raw, with labels from a list; rows of the census (UCI Adult)
in a hundred CSV files become TFRecord. A dataset of each is made once, and each change is run on a copy of it: one
photo or file in a hundred more, or fewer; another label for one photo in a hundred; another line in `features`; or
nothing. A run whose statistics.json is not, byte for byte, that of a full run on the same input ends the benchmark.

Whole processes are measured, from start to exit, and compared beyond the fixed cost: what any run takes that makes a
generation, for imports, the plan, the transform graph and the commit. A run that finds nothing to do is no measure of
it, for it makes no graph and commits nothing: it has a row of its own. The fixed cost is where the straight line
through full runs of a small and of the whole input meets an empty input. All series run once in each of several rounds,
in random order; a share is computed for each round, and the median is reported with the smallest and the largest.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import _census
import _options
import _photos
from _measure import Run, Series, measure, median, ratios, run
from _report import Bar, Row, finish
from rich.console import Console

HERE = Path(__file__).parent
CORES = os.cpu_count() or 1
PART = 100  # one photo or file in so many changes; and of so many files the table is
SMALL = 64  # photos of the small input; that of the table is one file
ROWS = 500_000  # what the bar for a changed line of `features` is for
SECTIONS = {
    "jpeg": ("more", "fewer", "relabelled", "features", "nothing"),
    "raw": ("more", "fewer", "relabelled", "features", "nothing"),
    "table": ("more", "fewer", "features", "nothing"),
}
TITLES = {"jpeg": "photos as JPEG", "raw": "photos, raw", "table": "table"}
CLAIMS = {
    "more": "1 % more",
    "fewer": "1 % fewer",
    "relabelled": "1 % relabelled",
    "features": "a line of `features` changed",
    "nothing": "nothing changed",
}
SHARE, SECONDS = Bar(5, at_least=False, unit=" %"), Bar(10, at_least=False, unit=" s")
PHOTOS = """
import tensorflow_transform as tft
from penstock import Images, Recipe, table
from penstock.transforms import image


def features(inputs):
    return {{
        "image": image.standardize(inputs, "image"),
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }}


recipe = Recipe(
    source=Images("*/*/*.jpg", label=table("labels.csv", "name", "label")),
    prepare=[image.resize(224, 224)],
    features=features,
    encode={{"image": {encoding}}},
    splits={{"train": 0.9, "test": 0.1}},
)
"""
INTEGERS = (*_census.NUMBERS, "fnlwgt", "education-num")
COLUMNS = {name: "int64" if name in INTEGERS else "string" for name in _census.NAMES}  # no file is read to infer them
RECIPES = {
    "jpeg": PHOTOS.format(encoding="image.jpeg(90)"),
    "raw": PHOTOS.format(encoding="image.raw()"),
    "table": f"""{(HERE.parent / "examples/census.py").read_text()}
recipe = replace(recipe, source=Csv("*.csv", columns={COLUMNS}), splits={{"train": 0.9, "test": 0.1}})
""",
}
PIXELS = ('image.standardize(inputs, "image")', 'image.standardize(inputs, "image", per_channel=False)')
LINES = {  # of `features`, and what becomes of them; that of the table needs a statistic that was not there
    "jpeg": PIXELS,
    "raw": PIXELS,
    "table": ('numeric.bucketize(inputs, "age", 10)', 'numeric.bucketize(inputs, "hours-per-week", 10)'),
}


@dataclass
class Bench:
    """Where inputs, recipes and datasets are, and the options."""

    root: Path
    options: argparse.Namespace
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def sizes(self, section: str) -> tuple[int, int]:
        """How many examples the small and the whole input have."""
        return (self.options.rows // PART, self.options.rows) if section == "table" else (SMALL, self.options.images)

    def series(self, section: str) -> Iterator[Series]:
        """Full runs of both sizes, and runs after each change; makes the dataset that changes."""
        small, whole = self.sizes(section)
        inputs = {small: "small", whole: "whole"}
        yield Series(f"{section}_full", lambda count: self._full(section, inputs[count])[0], (small, whole))
        dataset = self.root / f"{section}-dataset"
        self._penstock(section, "whole", dataset)
        for change in SECTIONS[section]:
            yield Series(f"{section}_{change}", self._changed(section, change, dataset), [whole])

    def _changed(self, section: str, change: str, dataset: Path) -> Callable[[int], Run]:
        """Runs a change on a copy of the dataset, and raises RuntimeError where that does not come to a full run's."""
        _, expected = self._full(section, change)

        def start(_: int) -> Run:
            with self._output() as output:
                shutil.copytree(dataset, output, copy_function=os.link)
                took = self._penstock(section, change, output)
                if statistics(output) != expected:
                    raise RuntimeError(f"{section}, {change}: expected the statistics of a full run, found other ones")
                return took

        return start

    def _full(self, section: str, change: str) -> tuple[Run, bytes]:
        """What a run that makes all takes, and its statistics."""
        with self._output() as output:
            return self._penstock(section, change, output), statistics(output)

    def _penstock(self, section: str, change: str, output: Path) -> Run:
        """`penstock run` on the input and the recipe after a change, or on the input `small` or `whole`."""
        recipe = self.root / f"{section}_recipe.py"
        recipe.write_text(RECIPES[section].replace(*LINES[section]) if change == "features" else RECIPES[section])
        folder = self.root / ("table" if section == "table" else "photos") / change
        source = folder if folder.is_dir() else folder.with_name("whole")
        command = [sys.executable, "-m", "penstock.runners", "run", recipe, "--quiet"]
        words = [str(word) for word in (*command, "--input", source, "--output", output)]
        return run(words, {"TMPDIR": str(self.root), "TF_CPP_MIN_LOG_LEVEL": "3"})

    @contextlib.contextmanager
    def _output(self) -> Iterator[Path]:
        """A folder that is not there yet, and is removed afterwards."""
        folder = self.root / f"output-{next(self._numbers)}"
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def statistics(dataset: Path) -> bytes:
    """The file with the statistics of a dataset's current generation."""
    generation = json.loads((dataset / "_DATASET.json").read_text())["generation"]
    return (dataset / generation / "statistics/statistics.json").read_bytes()


def inputs(files: Sequence[Path], count: int, small: int) -> dict[str, Sequence[Path]]:
    """Which files each input has.

    Args:
      files: All files.
      count: How many the whole input has; the others are new.
      small: How many the small one has.
    """
    whole = files[:count]
    fewer = [file for number, file in enumerate(whole) if not is_changed(number)]
    return {"small": whole[:small], "whole": whole, "more": files, "fewer": fewer}


def is_changed(number: int) -> bool:
    """Whether a photo or a file is one that changes."""
    return number % PART == PART // 2


def write_photos(source: Path, count: int, folder: Path) -> None:
    """Writes photos, by input, with a list of their labels."""
    pool = folder / "all"
    _photos.write(_photos.load(source), count + count // PART, pool)
    files = sorted(pool.rglob("*.jpg"), key=lambda file: file.name)
    labels = {file.stem: file.parent.name for file in files}
    names = sorted(set(labels.values()))
    others = labels | {
        stem: names[(names.index(label) + 1) % len(names)]
        for number, (stem, label) in enumerate(labels.items())
        if is_changed(number)
    }
    chosen = inputs(files, count, SMALL)
    for name, photos in (chosen | {"relabelled": chosen["whole"]}).items():
        link(photos, pool, folder / name)
        told = others if name == "relabelled" else labels
        lines = [f"{photo.stem},{told[photo.stem]}\n" for photo in photos]
        (folder / name / "labels.csv").write_text("".join(["name,label\n", *lines]))


def write_table(source: Path, count: int, folder: Path) -> None:
    """Writes rows of the census as files, by input. Their third column, `fnlwgt`, is their number: no two are equal."""
    pool = folder / "all"
    pool.mkdir(parents=True)
    header, *lines = (source / _census.FILE).read_bytes().rstrip().split(b"\n")
    columns = [line.split(b",", 3) for line in lines]
    numbered = enumerate(itertools.cycle(columns))
    for part in range(PART + 1):
        rows = [b"%b,%b,%d,%b\n" % (*left, row, right) for row, (*left, _, right) in islice(numbered, count // PART)]
        (pool / f"part-{part:03d}.csv").write_bytes(b"".join([header, b"\n", *rows]))
    for name, files in inputs(sorted(pool.iterdir()), PART, 1).items():
        link(files, pool, folder / name)


def link(files: Sequence[Path], pool: Path, folder: Path) -> None:
    """Links files of a folder into another one, where they keep their names and times."""
    for file in files:
        target = folder / file.relative_to(pool)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, target)


def rows(section: str, measured: Mapping[str, Series]) -> Iterator[Row]:
    """What is told of a section, by CPU time and by wall clock.

    Args:
      section: The section.
      measured: The series by their names.
    """
    full = measured[f"{section}_full"]
    whole = max(full.sizes)
    for cpu in (True, False):
        clock = "CPU time" if cpu else "wall clock"
        total = taken(full.runs[whole], cpu)
        marginal = [whole / rate for rate in full.rates(cpu)]
        fixed = [a - b for a, b in zip(total, marginal, strict=True)]
        reference = f"{median(marginal):.2f} of {median(total):.1f} s, full run"
        yield Row.of_rounds(f"{TITLES[section]}: fixed cost, {clock}", "", reference, fixed, unit=" s")
        for change in SECTIONS[section]:
            claim = f"{TITLES[section]}: {CLAIMS[change]}, {clock}"
            seconds = taken(measured[f"{section}_{change}"].runs[whole], cpu)
            beyond = [a - b for a, b in zip(seconds, fixed, strict=True)]
            ours = f"{median(beyond):.2f} of {median(seconds):.1f} s"
            if change == "nothing":
                yield Row.of_rounds(claim, "", "", seconds, unit=" s")
            elif (section, change) == ("table", "features"):
                yield Row.of_rounds(claim, ours, reference, beyond, SECONDS if cpu and whole == ROWS else None, " s")
            else:
                shares = [100 * ratio for ratio in ratios(beyond, marginal)]
                yield Row.of_rounds(claim, ours, reference, shares, SHARE if cpu else None, " %")


def taken(runs: Sequence[Run], cpu: bool) -> list[float]:
    """The seconds of each run, of CPU time or by the clock."""
    return [each.cpu if cpu else each.seconds for each in runs]


def main() -> None:
    """Measures and reports."""
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as root:
        bench = Bench(Path(root), options)
        if "table" in options.only:
            write_table(options.census, options.rows, bench.root / "table")
        if {"jpeg", "raw"} & set(options.only):
            write_photos(options.photos, options.images, bench.root / "photos")
        console = Console(stderr=True, highlight=False)
        console.print("making the datasets, and what each change must come to")
        series = [one for section in options.only for one in bench.series(section)]
        measure(series, options, "examples", console)
    measured = {one.name: one for one in series}
    told = {section: list(rows(section, measured)) for section in options.only}
    finish("changes", told, _notes(options), options, {name: one.to_json() for name, one in measured.items()})


def _notes(options: argparse.Namespace) -> list[str]:
    notes = [
        f"{options.images} photos and {options.rows} rows, in {PART} files, on {CORES} cores; medians of "
        f"{options.rounds} rounds",
        "seconds beyond the fixed cost, of those that the whole process took; a share is of a full run's beyond it",
        "each run's statistics were those of a full run, byte for byte",
    ]
    if options.quick:
        notes.append("--quick: too few examples and rounds for shares; it shows that everything runs")
    return notes


def _arguments() -> argparse.Namespace:
    quick = "200 photos stored as JPEG and 20,000 rows, one round: two minutes"
    parser = _options.parser(__doc__, list(SECTIONS), quick)
    _options.add_photos(parser)
    _options.add_census(parser)
    parser.add_argument("--images", type=int, help="photos of the whole input (default: 4000)")
    parser.add_argument("--rows", type=int, help="rows of the whole table (default: 500000)")
    options = _options.parse(parser, list(SECTIONS), quick=("jpeg", "table"))
    options.images = options.images or (200 if options.quick else 4000)
    options.rows = options.rows or (20_000 if options.quick else ROWS)
    if "table" in options.only and not (options.census / _census.FILE).is_file():
        parser.error(
            f"expected the census at {options.census / _census.FILE}, found nothing; name its folder with --census"
        )
    return options


if __name__ == "__main__":
    main()
