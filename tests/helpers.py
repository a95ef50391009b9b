"""What the tests share: images that are drawn, recipes that are run, shards that are read without Penstock's code."""

import hashlib
import io
import itertools
import json
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

if TYPE_CHECKING:
    from penstock.pipeline.formats.manifest import Manifest

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared" / "data"

LABEL = r"(?P<label>.+)_\d+"  # cat_007.png is a cat

RECIPE_HEADER = """
import os, signal, sys, time
import numpy as np
import tensorflow_transform as tft
from penstock.pipeline import Images, Recipe, by_folder, by_hash, by_list, by_path, folder, table
from penstock.transforms import image
from penstock.transforms.outcome import keep

"""


def draw(folder: Path, count: int = 12, size: tuple[int, int] = (8, 6), masks: bool = False, seed: int = 0) -> Path:
    """Writes `images/{cat,dog}_<n>.png`, a third of them dogs, and `masks/` with the classes 1 to 3."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        name = f"{'cat' if number % 3 else 'dog'}_{number:03d}.png"
        save(folder / "images" / name, generator.integers(0, 256, (*size, 3), np.uint8))
        mask = generator.integers(1, 4, size, np.uint8)  # drawn in any case: the images are the same without masks
        if masks:
            save(folder / "masks" / name, mask)
    return folder


def save(path: Path, pixels: Any) -> Path:
    """Writes an array as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def tar(contents: Mapping[str, bytes]) -> bytes:
    """A tar file of these files, by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(contents: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of these files, by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def stored(contents: Mapping[str, bytes]) -> bytes:
    """A zip file of these files, without compression."""
    return zipped(contents, zipfile.ZIP_STORED)


_NUMBERS = itertools.count()


def run_job(recipe: Any, source: Path, output: Path, hash: str | None = None, **options: Any) -> Any:
    """Runs a recipe. Without `hash` every call stands for another recipe file."""
    from penstock.runners.run import run

    return run(request(recipe, source, output, hash, **options))


def plan_job(recipe: Any, source: Path, output: Path = Path("/nowhere"), **options: Any) -> Any:
    """The plan of a run: what `--dry-run` shows."""
    from penstock.pipeline.job import plan

    return plan(request(recipe, source, output, **options)).plan


def request(
    recipe: Any,
    source: Path,
    output: Path,
    hash: str | None = None,
    shape: str | None = None,
    graph: str | None = None,
    frame: str = "",
    **options: Any,
) -> Any:
    """A request for `run` or `plan`; `shape` and `graph` are its hashes where only one of them is to be another."""
    from penstock.pipeline.planned_run import RunRequest
    from penstock.pipeline.planning.recipe import LoadedRecipe

    hash = hash or f"{next(_NUMBERS):064x}"
    loaded = LoadedRecipe(recipe, "test", hash, shape or hash, graph or hash, frame=frame)
    return RunRequest(loaded, str(source), str(output), **options)


def prepare_job(asked: Any, planned: Any) -> Any:
    """The job of a planned run, as `run` gives it to an engine."""
    from penstock.pipeline.job import analyze, prepare
    from penstock.pipeline.planned_run import settle

    analysis = analyze(asked, planned)
    return prepare(asked, settle(planned, analysis), analysis)


def contents(folder: Path) -> dict[str, str]:
    """Relative path to SHA-256 of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_shards(dataset: Path, manifest: "Manifest", split: str) -> list[dict[str, Any]]:
    """The examples of a split as TensorFlow reads them: feature name to a value, or a list where it has several."""
    import tensorflow as tf

    examples = []
    for shard in manifest.splits[split].shards:
        compression = "GZIP" if shard.path.endswith(".gz") else ""
        for record in tf.data.TFRecordDataset(str(dataset / shard.path), compression).as_numpy_iterator():
            entries = tf.train.Example.FromString(record).features.feature
            example = {}
            for name, feature in entries.items():
                values = list(getattr(feature, feature.WhichOneof("kind")).value)
                example[name] = values[0] if len(values) == 1 else values
            examples.append(example)
    return examples


def pixels(encoded: bytes) -> np.ndarray:
    """What Pillow makes of a stored JPEG or PNG: [height, width, channels]."""
    array = np.asarray(Image.open(io.BytesIO(encoded)))
    return array if array.ndim == 3 else array[:, :, np.newaxis]


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], ulps: int | Mapping[str, int] = 0) -> list[str]:
    """In what the arrays of two batches differ; floats may be `ulps` units in the last place away."""
    messages = [f"{name} is in one of the two" for name in sorted(expected.keys() ^ found.keys())]
    for name in expected.keys() & found.keys():
        have, want = np.asarray(found[name]), np.asarray(expected[name])
        try:
            if want.dtype.kind == "f":
                np.testing.assert_array_max_ulp(have, want, ulps if isinstance(ulps, int) else ulps.get(name, 0))
            else:
                np.testing.assert_array_equal(have, want)
        except AssertionError as error:
            messages.append(f"{name}: {error}")
    return messages


def penstock(*arguments: object, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "penstock.runners", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


@dataclass
class Cli:
    """Runs the command line in this process."""

    folder: Path

    def __call__(self, *arguments: object) -> Any:
        from click.testing import CliRunner

        from penstock.runners.cli import main

        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    def recipe(self, fields: str, functions: str = "", name: str = "recipe.py") -> Path:
        """Writes a recipe file."""
        path = self.folder / name
        path.write_text(f"{RECIPE_HEADER}{functions}\n\nrecipe = Recipe({fields})\n")
        return path

    def run(self, recipe: Path, source: Path, *arguments: object, output: Path | None = None) -> Any:
        """`penstock run`, to `dataset` in the test's folder."""
        return self("run", recipe, "--input", source, "--output", output or self.folder / "dataset", *arguments)


def quarantined(generation: Path) -> list[dict[str, Any]]:
    """The lines of a generation's quarantine."""
    paths = sorted((generation / "quarantine").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@dataclass(frozen=True)
class Committed:
    """A committed dataset, what it was made from, and the manifest that `run` returned."""

    path: Path
    source: Path
    manifest: "Manifest"

    @property
    def generation(self) -> Path:
        return self.path / self.manifest.generation

    @property
    def graph(self) -> str:
        return str(self.generation / "transform_graph")

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        return quarantined(self.generation)

    def examples(self, split: str) -> list[dict[str, Any]]:
        return read_shards(self.path, self.manifest, split)


STANDARD = "5" * 64  # what stands for the hash of its file


def standard_recipe(**fields: Any) -> Any:
    """Masks, labels, JPEG images with standardized pixels, a vocabulary; two shards a split."""
    import tensorflow_transform as tft

    from penstock.pipeline import Images, Recipe
    from penstock.transforms import image

    def features(inputs: Any) -> dict[str, Any]:
        return {
            "image": image.standardize(inputs, "image"),
            "mask": inputs["mask"] - 1,
            "label": tft.compute_and_apply_vocabulary(inputs["label"]),
        }

    standard = {
        "source": Images("images/*.png", mask="masks/{stem}.png", label=LABEL),
        "features": features,
        "splits": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "shards": 2,
    }
    return Recipe(**{**standard, **fields})


def apply_graph(path: str, records: list[bytes]) -> dict[str, np.ndarray]:
    """A transform graph's outputs on stored examples, as its users have them: by tf.Transform alone."""
    import tensorflow as tf
    import tensorflow_transform as tft

    output = tft.TFTransformOutput(path)
    parsed = tf.io.parse_example(tf.constant(records), output.raw_feature_spec())
    found = output.transform_raw_features(parsed, drop_unused_features=True)
    return {name: np.asarray(_dense(value)) for name, value in found.items()}


def _dense(value: Any) -> Any:
    import tensorflow as tf

    if isinstance(value, tf.SparseTensor):
        return tf.sparse.to_dense(value)
    return value.to_tensor() if isinstance(value, tf.RaggedTensor) else value


@dataclass(frozen=True)
class Made:
    """A dataset that was made of a table."""

    path: Path
    manifest: "Manifest"

    @property
    def generation(self) -> Path:
        return self.path / self.manifest.generation

    @property
    def statistics(self) -> dict[str, Any]:
        """What statistics.json says of each column."""
        return self.statistics_file["features"]

    @property
    def statistics_file(self) -> dict[str, Any]:
        return json.loads((self.generation / "statistics/statistics.json").read_text())

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        return quarantined(self.generation)

    def records(self, split: str = "train") -> list[bytes]:
        """The stored examples, in their order."""
        from penstock.pipeline.build.shards import read_examples

        shards = self.manifest.splits[split].shards
        return [record for shard in shards for record in read_examples(str(self.path / shard.path))]

    def rows(self, split: str = "train") -> list[dict[str, Any]]:
        """The stored examples as dicts, in their order; a list where a feature holds other than one value."""
        import tensorflow as tf

        rows = []
        for record in self.records(split):
            row = {}
            for name, feature in tf.train.Example.FromString(record).features.feature.items():
                values = list(getattr(feature, feature.WhichOneof("kind")).value)
                row[name] = values[0] if len(values) == 1 else values
            rows.append(row)
        return rows

    def column(self, name: str, split: str = "train") -> list[Any]:
        return [row.get(name) for row in self.rows(split)]

    def apply(self, split: str = "train") -> dict[str, np.ndarray]:
        """The transform graph's outputs on all stored examples."""
        return apply_graph(str(self.generation / "transform_graph"), self.records(split))

    def keyed(self) -> Counter[tuple[str, ...]]:
        """Key, content hash, label and split of every example."""
        rows: Counter[tuple[str, ...]] = Counter()
        for path in (self.generation / "units").glob("[0-9]*.arrow"):
            for row in pa.ipc.open_file(path.read_bytes()).read_all().to_pylist():
                rows[row["key"], row["content_hash"].hex(), str(row["label"]), row["split"]] += 1
        return rows

    def assets(self) -> dict[str, list[bytes]]:
        """The vocabularies by name."""
        folder = self.generation / "transform_graph/transform_fn/assets"
        return {path.name: path.read_bytes().splitlines() for path in sorted(folder.iterdir())}


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def list_images(source: Any, root: str) -> Any:
    """What an image source lists: its references, problems, filtered examples, warnings and digest."""
    listing = source.find(root)
    filtered, examples = listing.table.filtered()
    return SimpleNamespace(
        references=list(listing.table.references(listing.table.query(order="files.key"))),
        problems=list(listing.table.quarantined()),
        filtered=filtered,
        filtered_examples=examples,
        warnings=listing.warnings,
        digest=listing.digest,
    )


def reference_table(keys: Sequence[str]) -> Any:
    """A table of references with these keys."""
    from penstock.pipeline.sources.references import FileListing, ReferenceTable

    columns = {"key": pa.array(keys, pa.string()), "uri": keys, "size": [1] * len(keys)}
    table = ReferenceTable()
    table.add(FileListing(iter([pa.RecordBatch.from_pydict(columns)])))
    return table
