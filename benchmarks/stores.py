"""Measures what a store far away costs: the same work on data in a store and on a local disk, in one run.

    .venv/bin/python benchmarks/stores.py [--quick] [--latency SECONDS] [--only SECTION ...] [--json FILE] [--record]

The store (`_latency_store.py`) is a process on the same machine that answers every request 150 ms late, however many
are under way; the local files are in the page cache. It takes CPU time from what is measured, as no store elsewhere
would: how much is a row of its own. Its bandwidth is that of the machine, so what is measured is latency and the CPU
time of requests, and not the width of a line.

Photos of two megapixels become 224x224 JPEG; the census (UCI Adult), many times over, becomes TFRecord; and photos that
were prepared are loaded, shuffled, for several epochs, through a cache with room for a tenth of them. Whole processes
are measured, from start to exit; a rate is marginal: the additional examples of a large input divided by the additional
time. All series run once in each of several rounds, in random order; a ratio is computed for each round, and the median
is reported with the smallest and the largest.
"""

import argparse
import io
import itertools
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import _census
import _latency_store
import _options
import _photos
from _measure import Run, Series, measure, median, ratios, run, warm_up
from _report import Bar, Row, finish
from PIL import Image
from rich.console import Console

HERE = Path(__file__).parent
SECTIONS = ("images", "tables", "loading")
CORES = os.cpu_count() or 1
PHOTO = (1200, 1600)  # width, height
DISTINCT = 100  # photos; the rest are copies
LEAST_CACHE = 8 << 20  # bytes that a cache must have
BAR = Bar(0.90, at_least=True)

IMAGES = """
from penstock import Images, Recipe, folder
from penstock.transforms import image

recipe = Recipe(
    source=Images("*/*/*.jpg", label=folder()),
    prepare=[image.resize(224, 224)],
    encode={"image": image.jpeg(90)},
    splits={"train": 1.0},
)
"""
LOADED = """
from penstock import Images, Recipe, folder
from penstock.transforms import image

recipe = Recipe(
    source=Images("*/*/*.jpg", label=folder()),
    prepare=[image.resize(224, 224, fit="cover")],
    features=lambda inputs: {"image": image.standardize(inputs, "image")},
    encode={"image": image.jpeg(90)},
)
"""
TABLES = """
from penstock import Csv, Recipe

recipe = Recipe(source=Csv("*.data"), splits={"train": 0.9, "test": 0.1})
"""


@dataclass
class Bench:
    """Where data is, in which store, and the options.

    Attributes:
      root: Its folders are the store's buckets.
      store: The store.
      options: The command line's.
      store_cpu: The CPU seconds of the store, by series and size, a round each.
    """

    root: Path
    store: _latency_store.Running
    options: argparse.Namespace
    store_cpu: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = itertools.count()

    def pair(
        self,
        name: str,
        sizes: Sequence[int],
        bucket: Callable[[int], str],
        command: Callable[[str, Path], Sequence[str]],
    ) -> Iterator[Series]:
        """The same work on a disk and in the store.

        Args:
          name: What the series are called, with "_local" and "_store".
          sizes: The numbers of examples.
          bucket: The folder with so many of them, and the bucket.
          command: The work, of where its data is and a folder for its output.
        """
        yield Series(f"{name}_local", lambda count: self._run(command, str(self.root / bucket(count))), sizes)

        def in_store(count: int) -> Run:
            before = self.store.cpu()
            done = self._run(command, f"s3://{bucket(count)}")
            self.store_cpu.setdefault((name, count), []).append(self.store.cpu() - before)
            return done

        yield Series(f"{name}_store", in_store, sizes)

    def _run(self, command: Callable[[str, Path], Sequence[str]], where: str) -> Run:
        output = self.root.parent / f"output-{next(self._numbers)}"
        environment = {**self.store.environment, "TMPDIR": str(self.root.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            return run(list(command(where, output)), environment)
        finally:
            shutil.rmtree(output, ignore_errors=True)

    def recipe(self, name: str, content: str) -> Callable[[str, Path], Sequence[str]]:
        """The command of `penstock run` on a recipe."""
        path = self.root.parent / f"recipe_{name}.py"
        path.write_text(content)
        command = [sys.executable, "-m", "penstock.runners", "run", str(path), "--quiet"]
        return lambda where, output: [*command, "--input", where, "--output", str(output)]


def images_series(bench: Bench) -> Iterator[Series]:
    photos = [(label, _enlarge(content)) for label, content in _photos.load(bench.options.photos)[:DISTINCT]]
    sizes = (bench.options.images // 10, bench.options.images)
    for count in sizes:
        _photos.write(photos, count, bench.root / f"photos-{count}")
    return bench.pair("images", sizes, lambda count: f"photos-{count}", bench.recipe("images", IMAGES))


def tables_series(bench: Bench) -> Iterator[Series]:
    if not bench.options.census.is_dir():
        return
    sizes = [copies * _census.ROWS for copies in (1, bench.options.copies)]
    for rows in sizes:
        _census.write(bench.options.census, rows // _census.ROWS, bench.root / f"census-{rows}")
    yield from bench.pair("tables", sizes, lambda rows: f"census-{rows}", bench.recipe("tables", TABLES))


def _enlarge(content: bytes) -> bytes:
    """A photo of as many pixels as cameras make, so that decoding it is what takes time."""
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").resize(PHOTO).save(out, "JPEG", quality=85)
    return out.getvalue()


def loading_series(bench: Bench) -> Iterator[Series]:
    """Loads the same prepared photos; a run fails where the cache takes more than it may."""
    photos = _photos.load(bench.options.photos)
    _photos.write(photos, bench.options.loaded, bench.root.parent / "loaded-photos")
    dataset = bench.root / "loaded" / "dataset"
    recipe = bench.recipe("loading", LOADED)
    run(recipe(str(bench.root.parent / "loaded-photos"), dataset), bench.store.environment)
    data = sum(file.stat().st_size for file in dataset.rglob("*.tfrecord"))
    command = [sys.executable, str(HERE / "_load_epochs.py")]
    sizes = (bench.options.loaded // 2, int(2.5 * bench.options.loaded))

    def load(where: str, count: int, cache: Sequence[str] = ()) -> Run:
        return run([*command, where, str(count), *cache], bench.store.environment)

    def in_store(count: int) -> Run:
        before = bench.store.cpu()
        with tempfile.TemporaryDirectory(dir=bench.root.parent) as folder:
            done = load("s3://loaded/dataset", count, [folder, str(max(LEAST_CACHE, data // 10))])
        bench.store_cpu.setdefault(("loading", count), []).append(bench.store.cpu() - before)
        return done

    yield Series("loading_local", lambda count: load(str(dataset), count), sizes)
    yield Series("loading_store", in_store, sizes)


class Results:
    """The series by name, and the rows of the report."""

    def __init__(self, series: Sequence[Series], bench: Bench) -> None:
        self._series = {one.name: one for one in series}
        self._bench = bench

    def rows(self, section: str) -> Iterator[Row]:
        return self._compared(section, None if section == "tables" else BAR)

    def _compared(self, name: str, bar: Bar | None) -> Iterator[Row]:
        """Rows of the rates in the store and on the disk, their CPU time, and the store's own."""
        if f"{name}_store" not in self._series:
            yield Row(f"{name} from a store", "", "no data: see --census")
            return
        ours, local = self._series[f"{name}_store"], self._series[f"{name}_local"]
        unit = "rows/s" if name == "tables" else "images/s"
        for cpu in (False, True):
            a, b = ours.rates(cpu), local.rates(cpu)
            by_round = ratios(a, b)
            shown = [_microseconds(rates) if cpu else f"{median(rates):,.0f} {unit}" for rates in (a, b)]
            yield Row.of_rounds(
                "  CPU time an example" if cpu else f"{name} from a store, marginal rate",
                shown[0],
                f"{shown[1]}{'' if cpu else ', local disk, warm'}",
                by_round,
                None if cpu else bar,
            )
        small, large = min(ours.sizes), max(ours.sizes)
        cpu_seconds = [self._bench.store_cpu[name, size][-len(ours.runs[size]) :] for size in (small, large)]
        each = [(large - small) / (b - a) if b > a else math.nan for a, b in zip(*cpu_seconds, strict=True)]
        yield Row("  CPU time of the store itself", _microseconds(each))
        peaks = [max(one.peak for one in series.runs[large]) / 1e6 for series in (ours, local)]
        yield Row("  peak memory", f"{peaks[0]:.0f} MB", f"{peaks[1]:.0f} MB", peaks[0] / peaks[1])


def _microseconds(rates: Sequence[float]) -> str:
    return f"{1e6 / median(rates):,.1f} µs"


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "store"
        root.mkdir()
        with _latency_store.running(root, options.latency) as store:
            bench = Bench(root, store, options)
            makers = {"images": images_series, "tables": tables_series, "loading": loading_series}
            series = [one for section in options.only for one in makers[section](bench)]
            console = Console(stderr=True, highlight=False)
            for one in warm_up(series):
                console.print(f"warm-up: {one.name}", markup=False)
            measure(series, options, "examples", console)
        results = Results(series, bench)
        rows = {section: list(results.rows(section)) for section in options.only}
    finish("stores", rows, _notes(options), options, {one.name: one.to_json() for one in series})


def _notes(options: argparse.Namespace) -> list[str]:
    notes = [
        f"a store on this machine that answers after {1000 * options.latency:.0f} ms; {options.images} images of "
        f"{PHOTO[0]}x{PHOTO[1]}, {options.copies} copies of the census, {options.loaded} prepared photos loaded 2.5 "
        f"times with a cache for a tenth of them, on {CORES} cores; medians of {options.rounds} "
        "rounds",
        "a rate is (examples of the large run - small run) / (seconds of the large run - small run), whole processes",
    ]
    if options.quick:
        notes.append("--quick: too few examples and rounds for rates; it shows that everything runs")
    return notes


def _arguments() -> argparse.Namespace:
    parser = _options.parser(__doc__, SECTIONS, "400 images, one round: a minute or two")
    _options.add_photos(parser)
    _options.add_census(parser)
    parser.add_argument("--latency", type=float, default=0.15, help="seconds to the first byte (default: %(default)s)")
    parser.add_argument("--images", type=int, help="the large input; the small one is a tenth (default: 2000)")
    parser.add_argument("--loaded", type=int, help="prepared photos that are loaded (default: 10000)")
    parser.add_argument("--copies", type=int, help="of the census in the large input (default: 40)")
    options = _options.parse(parser, SECTIONS)
    options.images = options.images or (400 if options.quick else 2000)
    options.loaded = options.loaded or (1000 if options.quick else 10_000)
    options.copies = options.copies or (4 if options.quick else 40)
    return options


if __name__ == "__main__":
    main()
