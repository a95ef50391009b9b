"""Measures how long the exported model takes for one photo or one row, next to what one would write by hand.

    .venv/bin/python benchmarks/serving.py [--quick] [--only SECTION ...] [--photos FOLDER] [--json FILE] [--record]

A request has one photo (of 0.2 megapixels, to 224x224, stored as JPEG, standardized) or one row (of the census, by
examples/census.py). Each contestant is a process of its own with one thread, which answers requests one after the
other, after 200 that do not count. By hand, with Pillow and NumPy, the same is done (the storage, too, which training
sees), but not to the bit; TensorFlow's own decoder and resizer give other pixels, and store nothing. In each round all
run once, in random order; a ratio is computed for each round.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import _census
import _options
import _photos
from _measure import median, orders, ratios, run
from _report import Bar, Row, finish
from _serve import CONTESTANTS, QUALITY, SIDE, WARM
from rich.console import Console

HERE = Path(__file__).parent
SECTIONS = ("photo", "row")
PHOTOS = 200
MEASURED = ("p50", "p99", "cpu")
LIMIT = Bar(1.5, at_least=False)  # of Pillow's time
WORDS = {"pillow": "Pillow and NumPy by hand", "numpy": "NumPy by hand", "tensorflow": "TensorFlow's own operations"}

RECIPE = f"""
from penstock import Images, Recipe
from penstock.transforms import image

recipe = Recipe(
    source=Images("*/*/*.jpg"),
    prepare=[image.resize({SIDE}, {SIDE})],
    features=lambda inputs: {{"image": image.standardize(inputs, "image")}},
    encode={{"image": image.jpeg({QUALITY})}},
    splits={{"train": 1.0}},
)
"""
EXPORT = "import sys; from penstock import open_dataset; open_dataset(sys.argv[1]).export(sys.argv[2])"


def main() -> None:
    options = _arguments()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data = Path(folder)
        for kind in options.only:
            _export(kind, data, options)
        steps = [(kind, contestant) for kind in options.only for contestant in CONTESTANTS[kind][1]]
        measured: dict[str, list[dict[str, float]]] = {f"{kind}_{name}": [] for kind, name in steps}
        console.print(f"order of the rounds: --seed {options.seed}")
        for number, order in enumerate(orders(steps, options)):
            for kind, contestant in order:
                output = data / "measured.json"
                count = options.requests if kind == "photo" else 5 * options.requests
                command = [sys.executable, HERE / "_serve.py", kind, contestant, data, count, output]
                run([str(word) for word in command], {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"})
                times = json.loads(output.read_text())
                measured[f"{kind}_{contestant}"].append(times)
                shown = ", ".join(f"{name} {value:.3f} ms" for name, value in times.items())
                console.print(f"round {number + 1} of {options.rounds}: {kind}, {contestant}: {shown}")
    rows = {kind: list(_rows(kind, measured)) for kind in options.only}
    notes = [
        f"{options.requests:,} requests of one photo and {5 * options.requests:,} of one row, after {WARM}, on one "
        f"thread; medians of {options.rounds} rounds; a ratio is Penstock's time divided by the other's"
    ]
    finish("serving", rows, notes, options, measured)


def _export(kind: str, data: Path, options: argparse.Namespace) -> None:
    """Prepares a dataset and exports its model to the folder named after the kind."""
    if kind == "photo":
        _photos.write(_photos.load(options.photos), PHOTOS, data / "photos")
        recipe, source = data / "photo_recipe.py", data / "photos"
        recipe.write_text(RECIPE)
    else:
        _census.write(options.census, 1, data / "census")
        recipe, source = HERE.parent / "examples/census.py", data / "census"
    dataset = data / f"{kind}_dataset"
    prepare = ["-m", "penstock.runners", "run", "--quiet", recipe, "--input", source, "--output", dataset]
    for arguments in (prepare, ["-c", EXPORT, dataset, data / kind]):
        subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True)


def _rows(kind: str, measured: dict[str, list[dict[str, float]]]) -> Iterator[Row]:
    def values(contestant: str, name: str) -> Sequence[float]:
        return [times[name] for times in measured[f"{kind}_{contestant}"]]

    for contestant in CONTESTANTS[kind][1]:
        if contestant == "penstock":
            continue
        for name in MEASURED:
            ours, theirs = values("penstock", name), values(contestant, name)
            yield Row.of_rounds(
                f"one {kind}, {'CPU time' if name == 'cpu' else name}, compared with {WORDS[contestant]}",
                f"{median(ours):.2f} ms",
                f"{median(theirs):.2f} ms" if kind == "photo" else f"{median(theirs):.3f} ms",
                ratios(ours, theirs),
                LIMIT if contestant == "pillow" else None,
            )


def _arguments() -> argparse.Namespace:
    parser = _options.parser(__doc__, SECTIONS, "200 requests, one round: it shows that everything runs")
    _options.add_photos(parser)
    _options.add_census(parser)
    parser.add_argument("--requests", type=int, help="of one photo; five times as many of one row (default: 2000)")
    options = _options.parse(parser, SECTIONS)
    options.requests = options.requests or (200 if options.quick else 2000)
    return options


if __name__ == "__main__":
    main()
