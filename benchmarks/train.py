"""Trains ResNets on a GPU from a prepared dataset, next to what else may feed them, in one run.

    .venv/bin/python benchmarks/train.py [--quick] [--only SECTION ...] [--datasets FOLDER] [--json FILE] [--record]

"train": torchvision's ResNets, in bfloat16, channels last, fed by one batch that is on the device already, which is the
limit; by Penstock in threads, whose device's part of the graph runs there; by the same in a DataLoader's processes; and
by torchvision's ImageFolder with the same photos.
"loading": the same batches, and those of `ds.jax`, where nothing is done with them on the device. "outputs": what the
graph gives there, compared with NumPy on the CPU.

`--write FOLDER` prepares the datasets there, and measures nothing; on a machine with a GPU, `--datasets FOLDER` takes
them, and needs no TensorFlow. Whoever has no GPU measures the CPU, which means little. PyTorch, torchvision and JAX are
looked for here, and in what `make peers` installs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import _options
import _peers
import _photos
from _census import FILE
from _measure import median, ratios
from _report import Bar, Row, finish
from _train import RESIDENT, Figures, Settings
from rich.console import Console

import penstock
from penstock.pipeline.formats import example_reader

HERE = Path(__file__).parent
SECTIONS = ("train", "loading", "outputs")
PACKAGES = ("torch", "torchvision", "jax")
CENSUS = HERE.parent / "examples/census.py"
RAW_PART = 4  # of so many photos one is stored raw, too
RECIPE = """
from penstock import Images, Recipe, folder
from penstock.transforms import categorical, image


def features(inputs):
    return {"image": image.standardize(inputs, "image"), "label": categorical.vocabulary(inputs, "label")}


def recipe_of(encoding):
    return Recipe(
        source=Images("*/*/*.jpg", label=folder()),
        prepare=[image.resize(224, 224, fit="cover")],
        features=features,
        encode={"image": encoding},
        splits={"train": 1.0},
    )


jpeg, raw = recipe_of(image.jpeg()), recipe_of(image.raw())
"""


def main() -> None:
    options = _arguments()
    if options.write:
        _write_datasets(options, options.write)
        return
    peers = _peers.find(PACKAGES, options.peers)
    if missing := [name for name in PACKAGES if name not in peers]:
        sys.exit(f"expected PyTorch, torchvision and JAX, found none of {missing}; `make peers` installs them")
    console = Console(stderr=True, highlight=False, markup=False)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        datasets = options.datasets or Path(scratch)
        if not options.datasets:
            _write_datasets(options, datasets)
        bench = _Bench(options, peers, datasets, console)
        console.print(f"order of the rounds: --seed {options.seed}")
        rows: dict[str, list[Row]] = {}
        if "train" in options.only:
            rows["train"] = [row for model in options.models for row in bench.train(model)]
        if "loading" in options.only:
            rows["loading"] = list(bench.load())
        if "outputs" in options.only:
            rows["outputs"] = list(bench.compare())
    versions = {each.package: each.version for each in peers.values()}
    finish("train", rows, bench.notes(), options, bench.series, versions)


def _write_datasets(options: argparse.Namespace, folder: Path) -> None:
    """Prepares photos as JPEG, some of them raw, and the census, if it is there."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        photos, recipe = _photos.load(options.photos), Path(scratch, "photos.py")
        recipe.write_text(RECIPE)
        for name, count in (("jpeg", options.images), ("raw", options.images // RAW_PART)):
            _photos.write(photos, count, Path(scratch, name))
            _prepare(f"{recipe}:{name}", Path(scratch, name), folder / name)
    if (options.census / FILE).exists():
        _prepare(str(CENSUS), options.census, folder / "rows")


def _prepare(recipe: str, data: Path, output: Path) -> None:
    command = [sys.executable, "-m", "penstock.runners", "run", "--quiet", recipe, "--input", data, "--output", output]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _write_files(dataset: Path, folder: Path) -> None:
    """Writes the JPEGs of a dataset as `<label>/<number>.jpg`."""
    for number, record in enumerate(penstock.open_dataset(dataset).source("train").records):
        example = example_reader.parse(record)
        path = folder / bytes(example["label"][1]).decode() / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example["image"][1])


class _Bench:
    """Runs the commands of `_train.py`, and makes rows of their figures.

    Attributes:
      series: All figures.
    """

    def __init__(
        self, options: argparse.Namespace, peers: Mapping[str, _peers.Peer], datasets: Path, console: Console
    ) -> None:
        self.series: dict[str, Any] = {}
        self._peers = peers
        self._console = console
        self._settings = Settings(
            str(datasets),
            options.epoch,
            options.batch,
            1 if options.quick else 8,
            options.seconds,
            options.rounds,
            options.seed,
            options.workers,
        )
        self._machines = {framework: self._call(framework, "machine", framework) for framework in ("torch", "jax")}
        if not (datasets / "files").exists():
            _write_files(datasets / "jpeg", datasets / "files")

    def train(self, model: str) -> Iterator[Row]:
        """What feeds a model, compared with one batch that is there."""
        figures: Figures = self._measure("torchvision", model, "train", model)
        limit = [each["images"] for each in figures.pop(RESIDENT)]
        yield Row.of_rounds(f"{model}, {RESIDENT}", "", "", limit, unit=" images/s")
        for name, rounds in figures.items():
            images = [each["images"] for each in rounds]
            bar = Bar(0.95, at_least=True) if name.startswith("Penstock") else None
            ours = f"{median(images):,.0f} images/s, {_cpu(rounds)}"
            reference = f"{median(limit):,.0f} images/s"
            yield Row.of_rounds(f"{model}, {name}, compared with it", ours, reference, ratios(images, limit), bar)

    def load(self) -> Iterator[Row]:
        """Rates of batches that come to the device, and of copies alone."""
        figures = {f"PyTorch, {name}": each for name, each in self._measure("torchvision", "load", "load").items()}
        figures |= {f"JAX, {name}": each for name, each in self._measure("jax", "load-jax", "load-jax").items()}
        for name, rounds in figures.items():
            images, size = ([each[key] for each in rounds] for key in ("images", "bytes"))
            ours = f"{median(size) / 1e9:.2f} GB/s, {_cpu(rounds)}"
            yield Row.of_rounds(f"{name}, onto the device", ours, "", images, unit=" images/s")
        copies = self._measure("torch", "copy", "copy")
        for name in ("pageable", "pinned"):
            rates = [each["bytes"] / 1e9 for each in copies[name]]
            yield Row.of_rounds(f"copies of one batch from {name} memory", "", "", rates, unit=" GB/s")
        took = [1000 * each["seconds"] for each in copies["device's part"]]
        yield Row.of_rounds("the device's part of the graph, a batch", "", "", took, unit=" ms")

    def compare(self) -> Iterator[Row]:
        """What the outputs of the device differ in from NumPy's."""
        for framework, name in (("torch", "PyTorch"), ("jax", "JAX")):
            for dataset, compared in self._measure(framework, f"outputs {framework}", "outputs", framework).items():
                claim = f"{name}, {dataset}: outputs there and NumPy's"
                floats = f"{compared['floats']:,} floats, the largest difference"
                yield Row(f"{claim}, floats", floats, value=compared["ulps"], bar=Bar(1, at_least=False), unit=" ulp")
                others = f"{compared['others']:,} integers, of which differ"
                yield Row(f"{claim}, integers", others, value=compared["different"], bar=Bar(0, at_least=False))

    def notes(self) -> list[str]:
        """How it was measured."""
        torch, settings = self._machines["torch"], self._settings
        cuda = f", CUDA {torch['cuda']}, cuDNN {torch['cudnn']}" if "cuda" in torch else ""
        return [
            f"the device of PyTorch is {torch['device']}, of JAX {self._machines['jax']['device']}{cuda}",
            f"batches of {settings.batch} photos of 224x224, shuffled, in epochs of at least {settings.epoch} images, "
            f"which are in the page cache, on {os.cpu_count()} cores: Penstock in its default number of threads or in "
            f"{max(1, settings.workers // 2)} processes, ImageFolder in {settings.workers} processes; "
            f"steps for {settings.seconds:g} seconds after {settings.warm_up} that do not count; "
            f"medians of {settings.rounds} rounds",
            "CPU time is of all processes that load and train; bytes are those that travel to the device",
        ]

    def _measure(self, package: str, series: str, command: str, *words: str) -> Any:
        figures = self._call(package, command, *words, json.dumps(asdict(self._settings)))
        self._console.print(f"{series}: {json.dumps(figures)}")
        self.series[series] = figures
        return figures

    def _call(self, package: str, *words: str) -> Any:
        """What a command of `_train.py` prints, by the Python that has a package."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(penstock.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        python = self._peers[package].python
        done = subprocess.run([python, HERE / "_train.py", *words], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def _cpu(rounds: list[dict[str, float]]) -> str:
    return f"{1000 * median([each['cpu'] for each in rounds]):.2f} ms of CPU an image"


def _arguments() -> argparse.Namespace:
    quick = "ResNet-18, 64 photos in batches of 4, a step or two each: a minute"
    parser = _options.parser(__doc__, SECTIONS, quick, rounds=3)
    _options.add_photos(parser)
    _options.add_census(parser)
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="prepare the datasets there, and end")
    parser.add_argument("--datasets", type=Path, metavar="FOLDER", help="what --write wrote, on whatever machine")
    parser.add_argument("--images", type=int, help="photos that are prepared (default: 512)")
    parser.add_argument("--epoch", type=int, help="images in an epoch, which reads them again (default: 10240)")
    parser.add_argument("--batch", type=int, help="images in a batch (default: 256)")
    parser.add_argument("--seconds", type=float, help="for each feed and round (default: 5)")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="of torchvision (default: resnet50 resnet18)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of ImageFolder (all cores)")
    _peers.add_option(parser)
    options = _options.parse(parser, SECTIONS)
    options.images = options.images or (64 if options.quick else 512)
    options.epoch = options.epoch or (64 if options.quick else 10240)
    options.batch = options.batch or (4 if options.quick else 256)
    options.seconds = options.seconds or (0.1 if options.quick else 5)
    options.models = options.models or (["resnet18"] if options.quick else ["resnet50", "resnet18"])
    return options


if __name__ == "__main__":
    main()
