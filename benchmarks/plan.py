"""Measures the plan of millions of images: listed by a reference list, labelled, split, deduplicated, sorted and cut.

    .venv/bin/python benchmarks/plan.py [--quick] [--millions 1 3 10] [--rounds N] [--json FILE] [--record]

The list is a Parquet file of keys of 56 characters, URIs, sizes and ETags, of which 2 % are another's; labels come from
a CSV file in another order, which names each example by its key, or by its stem. There are no objects: what a plan
learns by preparing a few of them is made up. A process that plans is measured from start to exit. What is said of a
hundred million is a straight line through the smallest and the largest input.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import _options
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from _measure import Run, run
from _report import Bar, Row, finish

from penstock.pipeline import job
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.planned_run import RunRequest
from penstock.pipeline.planning import sample
from penstock.pipeline.planning.recipe import load_recipe

BATCH = 200_000
SECONDS, PEAK = Bar(60, at_least=False, unit=" s"), Bar(1.5, at_least=False, unit=" GB")
EXTRAPOLATED = 100  # millions
RECIPE = """
from penstock import Images, Recipe, references, table
from penstock.transforms import image

recipe = Recipe(
    source=Images(uris=references("list.parquet", key="key", uri="uri"), label=table("{labels}", "name", "label")),
    prepare=[image.resize(224, 224)],
    splits={{"train": 0.9, "test": 0.1}},
    deduplicate=True,
)
"""
NAMES: dict[str, Callable[[int], str]] = {
    "keys": lambda number: f"train/class_{number % 1000:04}/shard_{number % 977:04}/img_{number:010}_abcdefgh.jpeg",
    "stems": lambda number: f"img_{number:010}_abcdefgh",
}


def write(folder: Path, count: int) -> None:
    """Writes a list of so many images, and their labels by key and by stem."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    names = pa.schema([("name", pa.string()), ("label", pa.string())])
    columns = [("key", pa.string()), ("uri", pa.string()), ("size", pa.int64()), ("etag", pa.string())]
    unquoted = pc.WriteOptions(quoting_style="none")
    with (
        pq.ParquetWriter(folder / "list.parquet", pa.schema(columns)) as objects,
        pc.CSVWriter(folder / "keys.csv", names, write_options=unquoted) as keys,
        pc.CSVWriter(folder / "stems.csv", names, write_options=unquoted) as stems,
    ):
        for begin in range(0, count, BATCH):
            numbers = np.arange(begin, min(begin + BATCH, count))
            contents = np.where(generator.random(len(numbers)) < 0.02, numbers * 7 % count, numbers)
            etags = [f"{number * 0x9E3779B97F4A7C15 % (1 << 128):032x}" for number in contents.tolist()]
            sizes = 20_000 + contents * 2654435761 % 200_000
            written = [NAMES["keys"](number) for number in numbers.tolist()]
            uris = [f"s3://photos/raw/{key}" for key in written]
            objects.write(pa.table([written, uris, sizes, etags], pa.schema(columns)))
            others = (count - 1 - numbers).tolist()  # from the last to the first
            for writer, name in ((keys, NAMES["keys"]), (stems, NAMES["stems"])):
                labels = [f"class_{number % 1000:04}" for number in others]
                writer.write(pa.table([list(map(name, others)), labels], names))


def plan_here(recipe: str, folder: str) -> None:
    """Plans in this process; the few examples that a plan prepares are not there."""
    features = {"image": Feature("image", "uint8", (224, 224, 3), "jpeg")}
    made_up = sample.Sample(features, example_bytes=20_000.0, seconds=0.003)
    request = RunRequest(load_recipe(recipe), folder, f"{folder}.out")
    with mock.patch.object(sample, "take", return_value=made_up):
        planned = job.plan(request)
    if planned.plan.inventory.read != sum(unit.examples for unit in planned.plan.units.units) + sum(
        planned.plan.inventory.filtered.values()
    ):
        raise RuntimeError(f"expected every image in a unit or left out as a duplicate, found {planned.plan.splits}")


def plan(folder: Path, labels: str) -> Run:
    """Plans a list with the labels of a file, in a process of its own."""
    recipe = folder / f"{labels}.py"
    recipe.write_text(RECIPE.format(labels=f"{labels}.csv"))
    return run([sys.executable, __file__, "--plan", str(recipe), str(folder)], {"TMPDIR": str(folder)})


def measure(options: argparse.Namespace, folder: Path) -> dict[str, dict[float, Run]]:
    """The fastest plan of each size, by how labels name their examples."""
    runs: dict[str, dict[float, Run]] = {labels: {} for labels in NAMES}
    for millions in options.millions:
        write(folder / "raw", round(millions * 1e6))
        for labels in NAMES:
            rounds = [plan(folder / "raw", labels) for _ in range(options.rounds)]
            runs[labels][millions] = min(rounds, key=lambda each: each.seconds)
        shutil.rmtree(folder / "raw")
    return runs


def rows(runs: dict[float, Run], labels: str) -> list[Row]:
    """What is claimed of the plans of several sizes."""
    small, large = min(runs), max(runs)
    shown = ", ".join(f"{millions:g} M {each.seconds:.1f} s" for millions, each in runs.items())
    cpu = ", ".join(f"{each.cpu:.1f} s" for each in runs.values())
    peaks = ", ".join(f"{each.peak / 1e9:.2f} GB" for each in runs.values())
    per_million = (runs[large].seconds - runs[small].seconds) / (large - small) if large > small else 0.0
    hundred = runs[large].seconds + per_million * (EXTRAPOLATED - large)
    what = f"labels by {labels}"
    growth = runs[large].peak / runs[small].peak
    is_asked = large == 10 and labels == "keys"
    return [
        Row(f"plan, {what}", shown, f"CPU {cpu}", runs[large].seconds, SECONDS if is_asked else None, unit=" s"),
        Row(f"peak memory, {what}", peaks, "", runs[large].peak / 1e9, PEAK if is_asked else None, unit=" GB"),
        Row(f"growth of memory, {what}", f"{growth:.2f} of {small:g} M", f"{large / small:g} times as many", growth),
        Row(f"{EXTRAPOLATED} M, extrapolated, {what}", f"{hundred / 60:.1f} min", f"{per_million:.2f} s a million"),
    ]


def main() -> None:
    """Measures and reports."""
    parser = _options.parser(__doc__, ["plan"], "0.01 and 0.03 millions: it shows that everything runs", rounds=1)
    parser.add_argument("--millions", type=float, nargs="+", help="sizes of the list (default: 1 3 10)")
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    options = _options.parse(parser, ["plan"])
    if options.plan:
        plan_here(*options.plan)
        return
    options.millions = options.millions or ([0.01, 0.03] if options.quick else [1, 3, 10])
    with tempfile.TemporaryDirectory() as folder:
        runs = measure(options, Path(folder))
    measured = [row for labels, each in runs.items() for row in rows(each, labels)]
    series = {f"{labels}, {size:g} M": vars(each) for labels, sizes in runs.items() for size, each in sizes.items()}
    notes = [f"whole processes on {os.cpu_count()} cores; the fastest of {options.rounds} rounds"]
    finish("plan", {"plan": measured}, notes, options, series)


if __name__ == "__main__":
    main()
