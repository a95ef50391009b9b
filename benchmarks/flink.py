"""Measures what Flink adds to a job, and what a second TaskManager brings.

    .venv/bin/python benchmarks/flink.py [--quick] [--photos FOLDER] [--json FILE] [--record]

A standalone cluster is started on this machine, of two TaskManagers with one slot each: a job of parallelism 1 has one
of them, a job of parallelism 2 both. `make test-engines` installs what it consists of. Photos of 0.2 megapixels become
224x224 JPEG, by one thread in each worker. Whole commands are measured, from start to exit: the job server that is
started for each job, the submission and the start of Python workers are in the fixed cost, and cancel out of the rates,
which are marginal: the additional images of a large input divided by the additional time.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import _options
import _photos
from _measure import Run, Series, measure, median, ratios, run, warm_up
from _report import Bar, Row, finish
from rich.console import Console

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # which has the cluster
from engines.flink_cluster import INSTALLED, FlinkCluster, flink_job_server  # noqa: E402

CORES = os.cpu_count() or 1
SECTIONS = ("rate", "fixed")
FIXED = 64  # images of the fixed cost's run
RECIPE = """
from penstock import Images, Recipe, folder
from penstock.transforms import image

recipe = Recipe(
    source=Images("*/*/*.jpg", label=folder()),
    prepare=[image.resize(224, 224)],
    features=lambda inputs: {"image": image.standardize(inputs, "image")},
    encode={"image": image.jpeg(90)},
    splits={"train": 1.0},
    shards=16,
)
"""


@dataclass
class Bench:
    """Where the photos are and where output goes, and the cluster."""

    root: Path
    cluster: FlinkCluster
    job_server: Path

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._recipe = self.root / "recipe.py"
        self._recipe.write_text(RECIPE)

    def photos(self, count: int) -> Path:
        return self.root / f"photos-{count}"

    def series(self, name: str, sizes: Sequence[int], engine: Sequence[str], beam: Sequence[str] = ()) -> Series:
        """`penstock run` on an engine."""

        def start(count: int) -> Run:
            output = self.root / f"output-{next(self._numbers)}"
            command = [sys.executable, "-m", "penstock.runners", "run", self._recipe, "--input", self.photos(count)]
            command += ["--output", output, "--quiet", "--threads", "1", *engine, *beam]
            try:
                return run([str(word) for word in command], {"TF_CPP_MIN_LOG_LEVEL": "3"})
            finally:
                shutil.rmtree(output, ignore_errors=True)

        return Series(name, start, sizes)

    def on_flink(self, name: str, sizes: Sequence[int], parallelism: int) -> Series:
        """`penstock run` on so many of the TaskManagers."""
        engine = ["--runner", "flink", "--flink-master", self.cluster.address]
        engine += ["--flink-job-server-jar", str(self.job_server)]
        return self.series(name, sizes, engine, ["--", f"--parallelism={parallelism}"])


def rows(series: dict[str, Series], section: str) -> Iterator[Row]:
    if section == "rate":
        one, two = series["one"], series["two"]
        yield Row.of_rounds(
            "two TaskManagers compared with one",
            f"{median(two.rates()):.0f} images/s",
            f"{median(one.rates()):.0f} images/s",
            ratios(two.rates(), one.rates()),
            Bar(1.8, at_least=True),
        )
    if section == "fixed":
        seconds, here = ([run.seconds for run in series[name].runs[FIXED]] for name in ("fixed", "direct"))
        yield Row.of_rounds(
            f"from command to commit on Flink, {FIXED} images",
            f"{median(seconds):.1f} s",
            f"{median(here):.1f} s in process",
            seconds,
            Bar(40, at_least=False, unit=" s"),
            " s",
        )


def main() -> None:
    options = _arguments()
    if not INSTALLED.is_dir():
        print("left out: Flink is not installed; `make test-engines` does it")
        return
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        photos = _photos.load(options.photos)
        sizes = (options.images // 8, options.images)
        for count in (FIXED, *sizes):
            _photos.write(photos, count, root / f"photos-{count}")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {"PENSTOCK_BOOT": str(INSTALLED / "bin/container"), "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
        cluster = FlinkCluster(root / "flink", 2, {"taskmanager.numberOfTaskSlots": 1}, environment)
        try:
            bench = Bench(root, cluster, flink_job_server(root))
            series = []
            if "rate" in options.only:
                series += [bench.on_flink("one", sizes, 1), bench.on_flink("two", sizes, 2)]
            if "fixed" in options.only:
                series += [bench.on_flink("fixed", [FIXED], 2), bench.series("direct", [FIXED], [])]
            console = Console(stderr=True, highlight=False)
            for one in warm_up(series):
                console.print(f"warm-up: {one.name}", markup=False)
            measure(series, options, "images", console)
        finally:
            cluster.close()
    by_name = {one.name: one for one in series}
    table = {section: list(rows(by_name, section)) for section in options.only}
    notes = [
        f"Flink on this machine, {CORES} cores; {sizes[0]} and {sizes[1]} images; medians of {options.rounds} rounds"
    ]
    finish("flink", table, notes, options, {one.name: one.to_json() for one in series})


def _arguments() -> argparse.Namespace:
    parser = _options.parser(__doc__, SECTIONS, "800 images, one round: some minutes")
    _options.add_photos(parser)
    parser.add_argument("--images", type=int, help="the large input; the small one is an eighth (default: 8000)")
    options = _options.parse(parser, SECTIONS)
    options.images = options.images or (800 if options.quick else 8000)
    return options


if __name__ == "__main__":
    main()
