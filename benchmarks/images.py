"""Measures Penstock's claims about images, each next to a reference, in one run on one machine.

    .venv/bin/python benchmarks/images.py [--quick] [--only SECTION ...] [--photos FOLDER] [--json FILE] [--record]

Photos of 0.2 megapixels (the section `large`: of 6 to 12) become 224x224 JPEG of quality 90. Whole processes are
measured, from start to exit. A rate is marginal: the additional examples of a large input divided by the additional
time, so that start-up cancels out, for Penstock and for its references. All series run once in each of several rounds,
in random order; a ratio is computed for each round, and the median is reported with the smallest and the largest. If
other processes are busy on the machine, single rounds vary by 10 % and more: look at the spread before you trust a
ratio, and at the CPU time per image, which varies less.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import _options
import _peers
import _photos
from _measure import Run, Series, measure, median, ratios, run, warm_up
from _report import Bar, Row, finish
from rich.console import Console

HERE = Path(__file__).parent
CORES = os.cpu_count() or 1
FIXED = 64  # images of the fixed cost's run

# What each section compares. `naive` and `workers` take as long as all others together.
SECTIONS = {
    "rate": ("penstock", "uncounted_jpeg", "pool_penstock", "pool_pillow"),
    "statistics": (
        "penstock", "uncounted_jpeg", "penstock_png", "uncounted_png", "penstock_raw", "uncounted_raw",
    ),
    "fixed": ("fixed",),
    "memory": ("penstock",),
    "large": ("penstock_large", "pool_pillow_large"),
    "peers": ("penstock", "litdata", "img2dataset"),
    "naive": ("penstock", "naive", "naive_workers"),
    "workers": ("workers_1", "workers_2"),
}  # fmt: skip
DEFAULT = ("rate", "statistics", "fixed", "memory", "large", "peers")
PEERS = ("litdata", "img2dataset")

RECIPE = """
import tensorflow_transform as tft
from penstock import Images, Recipe, by_folder, folder
from penstock.transforms import image


def analyzed(inputs):
    return {{
        "image": image.standardize(inputs, "image"),
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }}


def not_analyzed(inputs):
    return {{"image": image.scale(inputs, "image"), "label": inputs["label"]}}


recipe = Recipe(
    source=Images("*/*/*.jpg", label=folder(), decode={decode}),
    prepare=[image.resize(224, 224)],
    features={features},
    encode={{"image": {encoding}}},
    splits={splits},
    statistics={statistics!r},
    shards={shards},
)
"""
ENCODINGS = {"jpeg": "image.jpeg(90)", "png": "image.png()", "raw": "image.raw()"}
ALL = {"splits": '{"train": 1.0}', "statistics": "train"}
EIGHT = {"splits": "by_folder()", "statistics": "few"}  # statistics from the eight photos in that folder
WHOLE, SCALED = "image.decode()", "image.decode(scale=2)"


@dataclass
class Bench:
    """Where photos are and where output goes, and the options.

    Attributes:
      root: A temporary folder.
      options: The command line's.
      peers: The other packages that are installed.
    """

    root: Path
    options: argparse.Namespace
    peers: Mapping[str, _peers.Peer]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def sizes(self) -> tuple[int, int]:
        return self.options.images // 10, self.options.images

    def photos(self, count: int, kind: str = "photos") -> Path:
        return self.root / f"{kind}-{count}"

    def series(self, name: str) -> Series | None:
        """A series of SECTIONS; None if its package is not installed."""
        small, large = self.sizes
        if name in PEERS:
            return self._peer(name) if name in self.peers else None
        match name.split("_"):
            case ["penstock"]:
                return self._penstock(name, self.sizes)
            case ["penstock", "large"]:
                return self._penstock(name, (large // 80, large // 8), decode=SCALED, photos=name)
            case ["penstock", encoding]:
                return self._penstock(name, self.sizes, encoding=encoding)
            case ["uncounted", encoding]:
                return self._penstock(name, self.sizes, features="not_analyzed", encoding=encoding, counted=EIGHT)
            case ["fixed"]:
                return self._penstock(name, [FIXED])
            case ["pool", functions]:
                return self._pool(name, self.sizes, functions)
            case ["pool", functions, "large"]:
                return self._pool(name, (large // 320, large // 32), functions, photos=name)
            case ["workers", workers]:
                options = ["--workers", workers, "--threads", "1"]
                return self._penstock(name, self.sizes, shards=8, options=options)
            case ["naive", *more]:
                sizes = (small, small + (large - small) // 4)
                return self._script(name, sizes, sys.executable, "_naive_tft.py", CORES if more else 1)
        raise ValueError(f"expected a series of SECTIONS, found {name!r}")

    def _penstock(
        self,
        name: str,
        sizes: Sequence[int],
        *,
        decode: str = WHOLE,
        features: str = "analyzed",
        encoding: str = "jpeg",
        counted: Mapping[str, str] = ALL,
        shards: int | None = None,
        options: Sequence[str] = (),
        photos: str = "photos",
    ) -> Series:
        """`penstock run` on a recipe of these settings."""
        recipe = self.root / f"recipe_{name}.py"
        recipe.write_text(
            RECIPE.format(decode=decode, features=features, encoding=ENCODINGS[encoding], shards=shards, **counted)
        )
        command = [sys.executable, "-m", "penstock.runners", "run", recipe, "--quiet", *options]
        return Series(
            name,
            self._in_new_folder(lambda count, out: [*command, "--input", self.photos(count, photos), "--output", out]),
            sizes,
        )

    def _pool(self, name: str, sizes: Sequence[int], functions: str, photos: str = "photos") -> Series:
        """A bare thread pool."""
        command = [sys.executable, HERE / "_bare_pool.py", functions]
        start = self._in_new_folder(lambda count, _: [*command, self.photos(count, photos), str(CORES)])
        return Series(name, start, sizes)

    def _peer(self, name: str) -> Series:
        return self._script(name, self.sizes, self.peers[name].python, f"_{name}.py", CORES)

    def _script(self, name: str, sizes: Sequence[int], python: str, file: str, workers: int) -> Series:
        """A script in this folder that takes FOLDER, OUTPUT and WORKERS."""
        start = self._in_new_folder(lambda count, out: [python, HERE / file, self.photos(count), out, str(workers)])
        return Series(name, start, sizes, optional=True)

    def _in_new_folder(self, command: Callable[[int, Path], Sequence[str | Path]]) -> Callable[[int], Run]:
        """Runs a command with a folder of its own for its output, which is removed afterwards."""

        def start(count: int) -> Run:
            output = self.root / f"output-{next(self._numbers)}"
            try:
                return run([str(word) for word in command(count, output)], self._environment())
            finally:
                shutil.rmtree(output, ignore_errors=True)

        return start

    def _environment(self) -> dict[str, str]:
        caches = {f"DATA_OPTIMIZER_{name}FOLDER": f"{self.root}/litdata{name}" for name in ("CACHE_", "DATA_CACHE_")}
        return {**caches, "TMPDIR": str(self.root), "NO_ALBUMENTATIONS_UPDATE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class Results:
    """The series by name, and the rows of the report."""

    def __init__(self, series: Sequence[Series], bench: Bench) -> None:
        self._series = {one.name: one for one in series}
        self._bench = bench

    def rows(self, section: str) -> Iterator[Row]:
        return {
            "rate": self._rate,
            "statistics": self._statistics,
            "fixed": self._fixed,
            "memory": self._memory,
            "large": self._large,
            "peers": self._peers,
            "naive": self._naive,
            "workers": self._workers,
        }[section]()

    def _compared(self, claim: str, ours: str, reference: str, what: str, bar: Bar | None = None) -> Iterator[Row]:
        """Rows of two marginal rates and their ratio, by wall clock and by CPU time."""
        for cpu in (False, True):
            a, b = self._series[ours].rates(cpu), self._series[reference].rates(cpu)
            by_round = ratios(a, b)
            shown = [f"{1000 / median(x):.2f} ms" if cpu else f"{median(x):.0f} images/s" for x in (a, b)]
            yield Row.of_rounds(
                "  CPU time per image" if cpu else claim,
                shown[0],
                f"{shown[1]} {'' if cpu else what}",
                by_round,
                None if cpu else bar,
            )

    def _rate(self) -> Iterator[Row]:
        what = f"bare pool of {CORES} threads"
        same, pillow = Bar(0.93, at_least=True), Bar(1.35, at_least=True)
        claim = "marginal rate, statistics included"
        yield from self._compared(claim, "penstock", "pool_pillow", f"{what}, Pillow alone", pillow)
        yield from self._compared(claim, "penstock", "pool_penstock", f"{what}, same functions", same)
        claim = "marginal rate, without statistics"
        yield from self._compared(claim, "uncounted_jpeg", "pool_penstock", f"{what}, same functions", same)

    def _statistics(self) -> Iterator[Row]:
        for encoding in ENCODINGS:
            ours = "penstock" if encoding == "jpeg" else f"penstock_{encoding}"
            bar = Bar(15 if encoding == "jpeg" else 3, at_least=False, unit=" %")
            yield from self._cost(f"full-pass statistics, stored as {encoding}", ours, f"uncounted_{encoding}", bar)

    def _cost(self, claim: str, ours: str, reference: str, bar: Bar) -> Iterator[Row]:
        """Rows of how much more time an example takes, in %, by wall clock and by CPU time."""
        for cpu in (False, True):
            a, b = self._series[ours].rates(cpu), self._series[reference].rates(cpu)
            costs = [(1 / ratio - 1) * 100 for ratio in ratios(a, b)]
            yield Row.of_rounds(
                "  CPU time per image" if cpu else claim,
                f"{1000 / median(a):.2f} ms",
                f"{1000 / median(b):.2f} ms {'' if cpu else 'without any'}",
                costs,
                None if cpu else bar,
                " %",
            )

    def _fixed(self) -> Iterator[Row]:
        runs = self._series["fixed"].runs[FIXED]
        seconds = [one.seconds for one in runs]
        ours = f"{median(seconds):.1f} s, {median([one.cpu for one in runs]):.1f} s of CPU"
        bar = Bar(5, at_least=False, unit=" s")
        yield Row.of_rounds(f"command to commit, {FIXED} images", ours, "", seconds, bar, " s")

    def _memory(self) -> Iterator[Row]:
        runs = self._series["penstock"].runs
        small, large = self._bench.sizes
        peaks = {size: [one.peak for one in runs[size]] for size in (small, large)}
        by_round = ratios(peaks[large], peaks[small])
        yield Row.of_rounds(
            f"peak memory, {large // small} times the data",
            f"{median(peaks[large]) / 1e6:.0f} MB, {large} images",
            f"{median(peaks[small]) / 1e6:.0f} MB, {small} images",
            by_round,
            Bar(1.1, at_least=False),
        )

    def _large(self) -> Iterator[Row]:
        what = f"bare pool of {CORES} threads, Pillow alone, without `draft`"
        claim = "photos of 6 to 12 megapixels, scaled decoding, statistics included"
        yield from self._compared(claim, "penstock_large", "pool_pillow_large", what, Bar(3, at_least=True))

    def _peers(self) -> Iterator[Row]:
        for name, what in (("litdata", "LitData optimize"), ("img2dataset", "img2dataset")):
            yield from self._against(name, f"{what}, {CORES} workers, no statistics", Bar(1.4, at_least=True))

    def _naive(self) -> Iterator[Row]:
        yield from self._against("naive", "Beam + tf.Transform on pixels by hand, 1 process")
        yield from self._against("naive_workers", f"the same, {CORES} worker processes")

    def _against(self, name: str, what: str, bar: Bar | None = None) -> Iterator[Row]:
        if name not in self._series:
            yield Row("marginal rate", "", f"{what}: not installed", bar=bar)
        elif self._series[name].failure:
            yield Row("marginal rate", "", f"{what}: failed", bar=bar)
        else:
            yield from self._compared("marginal rate, statistics included", "penstock", name, what, bar)

    def _workers(self) -> Iterator[Row]:
        what = "1 process, 1 thread"
        yield from self._compared("2 worker processes, 1 thread each", "workers_2", "workers_1", what)


def main() -> None:
    options = _arguments()
    peers = _peers.find(PEERS, options.peers)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as root:
        bench = Bench(Path(root), options, peers)
        names = dict.fromkeys(name for section in options.only for name in SECTIONS[section])
        series = [one for name in names if (one := bench.series(name))]
        _write_photos(bench, series)
        console = Console(stderr=True, highlight=False)
        for one in warm_up([series[0], *(other for other in series[1:] if other.optional)]):
            console.print(f"warm-up: {one.name}{one.failure and f' failed: {one.failure}'}", markup=False)
        measure(series, options, "images", console)
    results = Results(series, bench)
    rows = {section: list(results.rows(section)) for section in options.only}
    measured = {one.name: one.to_json() for one in series}
    finish("images", rows, _notes(options), options, measured, {each.package: each.version for each in peers.values()})


def _write_photos(bench: Bench, series: Sequence[Series]) -> None:
    """Writes the photos of every size that a series has: small ones, or large ones for the series of `large`."""
    photos = _photos.load(bench.options.photos)
    large = _photos.tiled(photos) if "large" in bench.options.only else []
    for one in series:
        for count in one.sizes:
            if one.name.endswith("_large"):
                _photos.write(large, count, bench.photos(count, one.name))
            elif not bench.photos(count).exists():
                _photos.write(photos, count, bench.photos(count))


def _notes(options: argparse.Namespace) -> list[str]:
    kind = "copies of real photos" if options.photos.is_dir() else "photos drawn for this benchmark"
    notes = [
        f"{options.images} images of 0.2 megapixels to 224x224, {kind}, on {CORES} cores; medians of {options.rounds} "
        "rounds",
        "a rate is (images of the large run - small run) / (seconds of the large run - small run), whole processes",
    ]
    if "large" in options.only:
        notes.append("the large photos are tiled from small ones, enlarged; Pillow gets a quarter as many as Penstock")
    if options.quick:
        notes.append("--quick: too few images and rounds for rates; it shows that everything runs; no peers")
    return notes


def _arguments() -> argparse.Namespace:
    parser = _options.parser(__doc__, list(SECTIONS), "1000 images, one round, without peers: two minutes")
    _options.add_photos(parser)
    parser.add_argument("--images", type=int, help="the large input; the small one is a tenth (default: 4000)")
    _peers.add_option(parser)
    options = _options.parse(parser, DEFAULT, quick=DEFAULT[:-1])
    options.images = options.images or (1000 if options.quick else 4000)
    return options


if __name__ == "__main__":
    main()
