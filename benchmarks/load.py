"""Measures how fast prepared examples reach a training loop, next to other loaders of the same examples, in one run.

    .venv/bin/python benchmarks/load.py [--quick] [--only SECTION ...] [--loaders NAME ...] [--json FILE] [--record]

The section `photos` prepares two datasets first: photos stored as JPEG, and the same photos stored raw. Every reference
reads the same JPEG bytes in its own format and yields shuffled batches of 64 decoded photos. The section `rows` loads
the census in batches of 256 rows. A package that is not installed is left out: `make peers` installs all.

Each loader runs in a process of its own; in every round each runs once, in random order. "warm": from the page cache,
after an epoch. "cold": the first epoch, with imports and with the files dropped from the page cache. CPU time is that
of all processes of a loader. Workers are threads for Penstock, tf.data, SPDL, DALI and the bare decoder, processes for
the others; Grain has both.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import _census
import _options
import _peers
import _photos
from _loaders import LOADERS, WRITERS
from _measure import median, orders, ratios
from _report import Bar, Row, finish
from rich.console import Console

import penstock
from penstock.pipeline.formats import example_reader

HERE = Path(__file__).parent
SECTIONS = ("photos", "rows")
FORMATS = ("litdata", "webdataset", "mosaicml streaming", "grain, threads", "grain, processes")  # that store datasets
PEERS = (*FORMATS, "spdl", "dali")
CENSUS = HERE.parent / "examples/census.py"
RECIPE = """
from penstock import Images, Recipe, folder
from penstock.transforms import image


def features(inputs):
    return {"image": image.standardize(inputs, "image"), "label": inputs["label"]}


def recipe_of(encoding):
    return Recipe(
        source=Images("*/*/*.jpg", label=folder()),
        prepare=[image.resize(224, 224, fit="cover")],
        features=features,
        encode={"image": encoding},
        splits={"train": 1.0},
    )


jpeg, raw = recipe_of(image.jpeg(95)), recipe_of(image.raw())
"""
Figures = dict[str, list[dict[str, float]]]  # by loader, one a round


def main() -> None:
    options = _arguments()
    peers = _peers.find(sorted({loader.package for loader in LOADERS.values()}), options.peers)
    console = Console(stderr=True, highlight=False, markup=False)
    names = [
        name
        for name, loader in LOADERS.items()
        if loader.package in (*peers, "penstock")
        and ("rows" if loader.data == "rows" else "photos") in options.only
        and (not options.loaders or name.startswith(tuple(options.loaders)))
    ]
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        _write_data(options, names, peers, Path(scratch))
        figures: Figures = {name: [] for name in names}
        console.print(f"order of the rounds: --seed {options.seed}")
        for number, order in enumerate(orders(names, options)):
            for name in order:
                if name not in figures:  # it failed
                    continue
                words = [name, f"{scratch}/{LOADERS[name].data}", options.workers, options.seconds]
                try:
                    measured = json.loads(_call(name, peers, "measure", *words).splitlines()[-1])
                except RuntimeError as error:
                    if name not in PEERS:
                        raise
                    del figures[name]
                    console.print(f"left out: {error}")
                    continue
                figures[name].append(measured)
                said = f"{measured['warm']:,.0f} examples/s, {1e6 * measured['cpu']:.0f} µs of CPU"
                console.print(f"round {number + 1} of {options.rounds}: {name}: {said}")
    rows = {section: list(_rows(section, figures)) for section in options.only}
    versions = {each.package: each.version for each in peers.values()}
    finish("load", rows, _notes(options, [name for name in PEERS if name not in figures]), options, figures, versions)


def _write_data(
    options: argparse.Namespace, names: Sequence[str], peers: Mapping[str, _peers.Peer], scratch: Path
) -> None:
    """Writes what the loaders read, each kind in a folder of its name."""
    kinds = {LOADERS[name].data: name for name in names}
    if "rows" in kinds:
        _prepare(str(CENSUS), options.census, scratch / "rows")
    if kinds.keys() == {"rows"}:
        return
    _photos.write(_photos.load(options.photos), options.images, scratch / "photos")
    (scratch / "photos.py").write_text(RECIPE)
    for name in {"jpeg", *kinds} & {"jpeg", "raw"}:
        _prepare(f"{scratch}/photos.py:{name}", scratch / "photos", scratch / name)
    (scratch / "files").mkdir()
    for number, record in enumerate(penstock.open_dataset(str(scratch / "jpeg")).source("train").records):
        (scratch / f"files/{number:06d}.jpg").write_bytes(example_reader.parse(record)["image"][1])
    for kind in kinds.keys() & WRITERS.keys():
        (scratch / kind).mkdir()
        _call(kinds[kind], peers, "write", kind, scratch / "files", scratch / kind)
    shutil.rmtree(scratch / "photos")


def _prepare(recipe: str, data: Path, output: Path) -> None:
    command = [sys.executable, "-m", "penstock.runners", "run", "--quiet", recipe, "--input", data, "--output", output]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _call(loader: str, peers: Mapping[str, _peers.Peer], command: str, *words: object) -> str:
    """Runs a command of `_loaders.py` by the Python that has a loader's package; returns what it printed."""
    peer = peers.get(LOADERS[loader].package)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    if loader.startswith("penstock"):
        environment["PYTHONPATH"] = str(Path(penstock.__path__[0]).parent)
    python = peer.python if peer else sys.executable
    result = subprocess.run(
        [python, HERE / "_loaders.py", command, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    if result.returncode:
        raise RuntimeError(f"{loader}, {command}: exit code {result.returncode}\n{result.stderr[-1500:]}")
    return result.stdout


def _rows(section: str, figures: Figures) -> Iterator[Row]:
    for name, rounds in figures.items():
        if (LOADERS[name].data == "rows") == (section == "rows"):
            warm = [each["warm"] for each in rounds]
            cpu, first, cold = (median([each[key] for each in rounds]) for key in ("cpu", "first", "cold"))
            ours = f"{1e6 * cpu:.1f} µs of CPU; an epoch's first batch after {1000 * first:.1f} ms"
            unit = " rows/s" if section == "rows" else " images/s"
            yield Row.of_rounds(name, ours, f"cold: {cold:,.0f}", warm, unit=unit)
    yield from _photo_claims(figures) if section == "photos" else _row_claims(figures)


def _photo_claims(figures: Figures) -> Iterator[Row]:
    best = "the best of LitData, WebDataset, Streaming, Grain, SPDL and DALI"
    for claim, name, limit in (
        ("PyTorch, decoded", "penstock torch, decoded", 2),
        ("PyTorch, all features on the CPU", "penstock torch, features", 1.6),
        ("PyTorch, stored raw", "penstock torch, raw", 3),
    ):
        yield from _ratio(figures, claim, name, PEERS, best, Bar(limit, at_least=True))
        yield from _ratio(figures, "  the same", name, FORMATS, "the best of LitData, WebDataset, Streaming and Grain")
    tuned, untuned = "tf.data by hand", "tf.data by hand, not autotuned"
    claim, name = "TensorFlow, all features on the CPU", "penstock tf, features"
    yield from _ratio(figures, claim, name, [untuned], f"{untuned}, no features", Bar(1, at_least=True))
    yield from _ratio(figures, "  the same", name, [tuned], f"{tuned}, no features")
    yield from _ratio(figures, "TensorFlow, decoded", "penstock tf, decoded", [untuned], untuned)
    jpeg = "penstock numpy, decoded"
    yield from _ratio(figures, "NumPy, raw", "penstock numpy, raw", [jpeg], "JPEG", Bar(5, at_least=True))
    yield from _ratio(figures, "NumPy, host's part of features", "penstock numpy, host part", [jpeg], "decoded only")
    yield from _ratio(figures, "NumPy, all features on the CPU", "penstock numpy, features", [jpeg], "decoded only")
    yield from _cpu_ratio(figures, "NumPy, decoded: CPU time an image", jpeg, "bare decoder", Bar(1.15, at_least=False))


def _row_claims(figures: Figures) -> Iterator[Row]:
    ours, theirs = "penstock rows tf, features", "tf.data rows by hand"
    what = "parse_example by hand, without features"
    yield from _ratio(figures, "TensorFlow, all features", ours, [theirs], what)
    yield from _cpu_ratio(figures, "  CPU time a row", ours, theirs)
    if ours in figures:
        cpu = [1e6 * each["cpu"] for each in figures[ours]]
        yield Row.of_rounds("  CPU time a row", "", "", cpu, Bar(12, at_least=False, unit=" µs"), " µs")


def _ratio(
    figures: Figures, claim: str, ours: str, theirs: Sequence[str], what: str, bar: Bar | None = None
) -> Iterator[Row]:
    """A row of a rate compared with the best of others, round by round; none if either was left out."""
    others = [figures[name] for name in theirs if name in figures]
    if ours not in figures or not others:
        return
    best = [max(each["warm"] for each in rounds) for rounds in zip(*others, strict=True)]
    warm = [each["warm"] for each in figures[ours]]
    yield Row.of_rounds(claim, f"{median(warm):,.0f}", f"{median(best):,.0f}, {what}", ratios(warm, best), bar)


def _cpu_ratio(figures: Figures, claim: str, ours: str, theirs: str, bar: Bar | None = None) -> Iterator[Row]:
    if ours in figures and theirs in figures:
        a, b = ([1e6 * each["cpu"] for each in figures[name]] for name in (ours, theirs))
        yield Row.of_rounds(claim, f"{median(a):.1f} µs", f"{median(b):.1f} µs, {theirs}", ratios(a, b), bar)


def _notes(options: argparse.Namespace, missing: Sequence[str]) -> list[str]:
    notes = [
        f"{options.images} photos of 224x224 and {_census.ROWS} rows of the census an epoch, shuffled, with "
        f"{options.workers} threads or processes on {os.cpu_count()} cores; epochs for {options.seconds:g} seconds, "
        f"after one for the page cache; medians of {options.rounds} rounds",
    ]
    if missing and "photos" in options.only:
        notes.append(f"left out, not installed or failed: {'; '.join(missing)}")
    if options.quick:
        notes.append("--quick: too short for rates; it shows that everything runs")
    return notes


def _arguments() -> argparse.Namespace:
    parser = _options.parser(__doc__, SECTIONS, "1000 photos, one round of half a second: three minutes")
    _options.add_photos(parser)
    _options.add_census(parser)
    parser.add_argument("--images", type=int, help="photos in an epoch (default: 4000)")
    parser.add_argument("--seconds", type=float, help="for each loader and round (default: 3)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads or processes (all cores)")
    parser.add_argument("--loaders", nargs="+", metavar="NAME", help="only those whose names start like this")
    _peers.add_option(parser)
    options = _options.parse(parser, SECTIONS)
    if options.record and options.loaders:
        parser.error("--record: expected all loaders, found --loaders")
    options.images = options.images or (1000 if options.quick else 4000)
    options.seconds = options.seconds or (0.5 if options.quick else 3)
    return options


if __name__ == "__main__":
    main()
