"""Measures Penstock's claims about images, each next to a reference, in one run on one machine.

    .venv/bin/python benchmarks/images.py [--quick] [--photos FOLDER] [--json FILE]

Photos of 0.2 megapixels become 224x224 JPEG of quality 90. Whole processes are measured, from start to exit. A rate is
marginal: the additional examples of a large input divided by the additional time, so that start-up cancels out, for
Penstock and for its references. All series run in alternation for several rounds; a ratio is computed for each round,
and the median is reported with the smallest and the largest. If other processes are busy on the machine, single rounds
vary by 10 % and more: look at the spread before you trust a ratio, and at the CPU time per image, which varies less.
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

import _photos
from _measure import Run, Series, measure, median, ratios, run, warm_up
from _report import Bar, Row, save, show
from rich.console import Console

HERE = Path(__file__).parent
SECTIONS = ("rate", "statistics", "fixed", "memory", "peers", "workers")
CORES = os.cpu_count() or 1
FIXED = 64  # images of the fixed cost's run

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
    source=Images("*/*/*.jpg", label=folder()),
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
IMPORTS = (
    "from penstock.runners import cli, direct, report, run; from penstock.pipeline import beam, job; "
    "from penstock.pipeline.planning import sample"
)


@dataclass
class Bench:
    """Where the photos are and where output goes, and the options."""

    root: Path
    small: int
    large: int
    options: argparse.Namespace

    def __post_init__(self) -> None:
        self._numbers = itertools.count()

    @property
    def sizes(self) -> tuple[int, int]:
        return self.small, self.large

    def photos(self, count: int) -> Path:
        return self.root / f"photos-{count}"

    def in_new_folder(self, command: Callable[[int, Path], Sequence[str | Path]]) -> Callable[[int], Run]:
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

    def penstock(
        self,
        name: str,
        sizes: Sequence[int],
        features: str = "analyzed",
        encoding: str = "jpeg",
        counted: dict[str, str] = ALL,
        shards: int | None = None,
        options: Sequence[str] = (),
    ) -> Series:
        """`penstock run` on a recipe of these settings."""
        recipe = self.root / f"recipe_{name}.py"
        recipe.write_text(RECIPE.format(features=features, encoding=ENCODINGS[encoding], shards=shards, **counted))
        command = [sys.executable, "-m", "penstock.runners", "run", recipe, "--quiet", *options]
        start = self.in_new_folder(lambda count, out: [*command, "--input", self.photos(count), "--output", out])
        return Series(name, start, sizes)

    def peer(self, name: str, sizes: Sequence[int], python: str, file: str, workers: int) -> Series:
        """A script in this folder that takes FOLDER, OUTPUT and WORKERS."""
        start = self.in_new_folder(lambda count, out: [python, HERE / file, self.photos(count), out, str(workers)])
        return Series(name, start, sizes, optional=True)


def rate_series(bench: Bench) -> Iterator[Series]:
    yield bench.penstock("penstock", bench.sizes)
    for kind in ("penstock", "pillow"):
        command = [sys.executable, HERE / "_bare_pool.py", kind]
        yield Series(
            f"pool_{kind}",
            bench.in_new_folder(lambda count, _, command=command: [*command, bench.photos(count), str(CORES)]),
            bench.sizes,
        )


def statistics_series(bench: Bench) -> Iterator[Series]:
    for encoding in ["jpeg"] if bench.options.quick else ENCODINGS:
        if encoding != "jpeg":  # `rate_series` has JPEG
            yield bench.penstock(f"penstock_{encoding}", bench.sizes, encoding=encoding)
        yield bench.penstock(f"uncounted_{encoding}", bench.sizes, "not_analyzed", encoding, EIGHT)
    if not bench.options.quick:
        yield bench.penstock("counted", bench.sizes, "not_analyzed")


def fixed_series(bench: Bench) -> Iterator[Series]:
    yield bench.penstock("fixed", [FIXED])
    yield Series("imports", bench.in_new_folder(lambda _, out: [sys.executable, "-c", IMPORTS]), [FIXED])


def peer_series(bench: Bench) -> Iterator[Series]:
    options = bench.options
    naive = (bench.small, bench.small + (bench.large - bench.small) // 4)
    yield bench.peer("naive", naive, sys.executable, "_naive_tft.py", 1)
    yield bench.peer("naive_workers", naive, sys.executable, "_naive_tft.py", CORES)
    if options.litdata_python:
        yield bench.peer("litdata", bench.sizes, options.litdata_python, "_litdata.py", CORES)
    if options.img2dataset_python:
        yield bench.peer("img2dataset", bench.sizes, options.img2dataset_python, "_img2dataset.py", CORES)


def workers_series(bench: Bench) -> Iterator[Series]:
    for workers in (1, 2):
        yield bench.penstock(
            f"workers_{workers}", bench.sizes, shards=8, options=["--workers", str(workers), "--threads", "1"]
        )


class Results:
    """The series by name, and the rows of the report."""

    def __init__(self, series: Sequence[Series], bench: Bench) -> None:
        self._series = {one.name: one for one in series}
        self._bench = bench

    def rows(self) -> Iterator[Row]:
        makers = {
            "rate": self._rate,
            "statistics": self._statistics,
            "fixed": self._fixed,
            "memory": self._memory,
            "peers": self._peers,
            "workers": self._workers,
        }
        for section in self._bench.options.only:
            yield from makers[section]()

    def _compared(self, claim: str, ours: str, reference: str, what: str, bar: Bar | None = None) -> Iterator[Row]:
        """Rows of two marginal rates and their ratio, by wall clock and by CPU time."""
        for cpu in (False, True):
            a, b = self._series[ours].rates(cpu), self._series[reference].rates(cpu)
            by_round = ratios(a, b)
            shown = [f"{1000 / median(x):.2f} ms" if cpu else f"{median(x):.0f} images/s" for x in (a, b)]
            yield Row(
                "  CPU time per image" if cpu else claim,
                shown[0],
                f"{shown[1]} {'' if cpu else what}",
                median(by_round),
                None if cpu else bar,
                (min(by_round), max(by_round)),
            )

    def _rate(self) -> Iterator[Row]:
        what = f"bare pool of {CORES} threads"
        bar = Bar(0.90, at_least=True)
        yield from self._compared("marginal rate", "penstock", "pool_penstock", f"{what}, same functions", bar)
        yield from self._compared("marginal rate", "penstock", "pool_pillow", f"{what}, Pillow alone")

    def _statistics(self) -> Iterator[Row]:
        bar = Bar(5, at_least=False, unit=" %")
        for encoding in ENCODINGS:
            if f"uncounted_{encoding}" in self._series:
                ours = "penstock" if encoding == "jpeg" else f"penstock_{encoding}"
                claim = f"full-pass statistics, stored as {encoding}"
                yield from self._cost(claim, ours, f"uncounted_{encoding}", "without any", bar)
        if "counted" in self._series:
            claim = "  of which tf.Transform's analyzers (jpeg)"
            yield from self._cost(claim, "penstock", "counted", "pixels counted, no analyzers")

    def _cost(self, claim: str, ours: str, reference: str, what: str, bar: Bar | None = None) -> Iterator[Row]:
        """Rows of how much more time an example takes, in %, by wall clock and by CPU time."""
        for cpu in (False, True):
            a, b = self._series[ours].rates(cpu), self._series[reference].rates(cpu)
            costs = [(1 / ratio - 1) * 100 for ratio in ratios(a, b)]
            yield Row(
                "  CPU time per image" if cpu else claim,
                f"{1000 / median(a):.2f} ms",
                f"{1000 / median(b):.2f} ms {'' if cpu else what}",
                median(costs),
                None if cpu else bar,
                (min(costs), max(costs)),
                " %",
            )

    def _fixed(self) -> Iterator[Row]:
        for claim, name, limit in (("command to commit, 64 images", "fixed", 12), ("  of which imports", "imports", 6)):
            runs = self._series[name].runs[FIXED]
            seconds = [one.seconds for one in runs]
            ours = f"{median(seconds):.1f} s, {median([one.cpu for one in runs]):.1f} s of CPU"
            bar = Bar(limit, at_least=False, unit=" s")
            yield Row(claim, ours, "", median(seconds), bar, (min(seconds), max(seconds)), " s")

    def _memory(self) -> Iterator[Row]:
        runs = self._series["penstock"].runs
        small, large = ([one.peak for one in runs[size]] for size in self._bench.sizes)
        by_round = ratios(large, small)
        yield Row(
            f"peak memory, {self._bench.large // self._bench.small} times the data",
            f"{median(large) / 1e6:.0f} MB, {self._bench.large} images",
            f"{median(small) / 1e6:.0f} MB, {self._bench.small} images",
            median(by_round),
            Bar(1.15, at_least=False),
            (min(by_round), max(by_round)),
        )

    def _peers(self) -> Iterator[Row]:
        peers = {
            "naive": "Beam + tf.Transform on pixels by hand, 1 process",
            "naive_workers": f"the same, {CORES} worker processes",
            "litdata": f"LitData optimize, {CORES} workers",
            "img2dataset": f"img2dataset, {CORES} processes",
        }
        for name, what in peers.items():
            if name not in self._series:
                yield Row("marginal rate", "", f"{what}: not installed (see --{name}-python)")
            elif self._series[name].failure:
                yield Row("marginal rate", "", f"{what}: failed")
            else:
                yield from self._compared("marginal rate", "penstock", name, what)

    def _workers(self) -> Iterator[Row]:
        if "workers_2" in self._series:
            what = "1 process, 1 thread"
            yield from self._compared("2 worker processes, 1 thread each", "workers_2", "workers_1", what)


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as root:
        small = options.images // 10
        bench = Bench(Path(root), small, options.images, options)
        series = _series(bench)
        _write_photos(bench, series)
        console = Console(stderr=True, highlight=False)
        for one in warm_up(series):
            console.print(f"warm-up: {one.name}{one.failure and f' failed: {one.failure}'}", markup=False)
        measure(series, options.rounds, "images", console)
    rows = list(Results(series, bench).rows())
    show(rows, _notes(options))
    if options.json:
        settings = {name: str(value) for name, value in vars(options).items()}
        save(options.json, rows, settings, {one.name: one.to_json() for one in series})


def _series(bench: Bench) -> list[Series]:
    only = bench.options.only
    series: list[Series] = []
    if only != ["fixed"] and only != ["workers"]:
        series += rate_series(bench)  # the other sections compare with it
    if "statistics" in only:
        series += statistics_series(bench)
    if "fixed" in only:
        series += fixed_series(bench)
    if "peers" in only:
        series += peer_series(bench)
    if "workers" in only:
        series += workers_series(bench)
    return series


def _write_photos(bench: Bench, series: Sequence[Series]) -> None:
    photos = _photos.load(bench.options.photos)
    for count in {size for one in series for size in one.sizes}:
        _photos.write(photos, count, bench.photos(count))


def _notes(options: argparse.Namespace) -> list[str]:
    kind = f"copies of the photos in {options.photos}" if options.photos.is_dir() else "photos drawn for this benchmark"
    notes = [
        f"{options.images} images, {kind}, on {CORES} cores; medians of {options.rounds} rounds; load average now "
        f"{os.getloadavg()[0]:.1f}",
        "a rate is (images of the large run - small run) / (seconds of the large run - small run), whole processes",
    ]
    if options.quick:
        notes.append(
            "--quick: too few images and rounds for rates; it shows that everything runs; no peers, no workers"
        )
    return notes


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--photos",
        type=Path,
        default=HERE.parent.parent / "shared/data/clothing",
        metavar="FOLDER",
        help="photos as .../<label>/<name>.jpg; drawn ones if there is no such folder (default: %(default)s)",
    )
    parser.add_argument("--images", type=int, help="the large input; the small one is a tenth (default: 4000)")
    parser.add_argument("--rounds", type=int, help="how many times everything is run (default: 3)")
    parser.add_argument("--quick", action="store_true", help="1000 images, one round, fewer series: a minute or two")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    for peer in ("litdata", "img2dataset"):
        parser.add_argument(
            f"--{peer}-python",
            default=os.environ.get(f"{peer.upper()}_PYTHON"),
            metavar="PYTHON",
            help=f"a Python that has {peer} (default: ${peer.upper()}_PYTHON)",
        )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    options = parser.parse_args()
    options.images = options.images or (1000 if options.quick else 4000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.only = options.only or list(SECTIONS[:4] if options.quick else SECTIONS)
    return options


if __name__ == "__main__":
    main()
