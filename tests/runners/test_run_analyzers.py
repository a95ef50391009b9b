"""tft's own analyzers where workers share no folder: on stores, in several processes, in one: the same results."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from helpers import contents, penstock, request, write

from penstock.pipeline import Csv, OverBudgetError, PenstockError, Recipe, by_column
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.formats.paths import CROISSANT, INPUTS
from penstock.pipeline.storage import files
from penstock.runners.run import run
from penstock.transforms import numeric
from penstock.transforms.outcome import Filtered

ROWS = 3000
RECIPE = """
import tensorflow as tf
import tensorflow_transform as tft

from penstock import Csv, Recipe


def features(inputs):
    x = inputs["x"]
    return {
        "z": tft.scale_to_z_score(x),
        "bucket": tft.bucketize(x, 5),
        "id": tft.compute_and_apply_vocabulary(inputs["word"], vocab_filename="words"),
        "keyed": tft.scale_to_z_score_per_key(x, inputs["word"]),
        "zz": tft.scale_to_z_score(tft.scale_to_z_score(x) ** 2),
    }


recipe = Recipe(source=Csv("*.csv"), features=features, shards=4, splits={"train": 0.8, "test": 0.2})
"""


class Largest(beam.PTransform):
    """Of all values the largest, as a transform of the recipe's own finds it."""

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return batches | beam.FlatMap(lambda batch: [float(batch[0].max())]) | beam.CombineGlobally(max)


def features(inputs: Any) -> dict[str, Any]:
    x = inputs["x"]
    (largest,) = tft.experimental.ptransform_analyzer([x], Largest(), [tf.float32], [[]])
    scaled = numeric.standardize(inputs, "x")
    return {
        "z": tft.scale_to_z_score(x),
        "bucket": tft.bucketize(x, 5),
        "quantiles": tf.searchsorted(tft.quantiles(x, 4, 0.01)[0], x, "right"),
        "id": tft.compute_and_apply_vocabulary(inputs["word"], vocab_filename="words"),
        "waits": tft.scale_to_0_1(scaled),  # for a statistic
        "largest": largest + 0 * x,
    }


def table(folder: Path) -> Path:
    values = np.random.default_rng(3).normal(5, 2, ROWS).round(5)
    rows = "".join(f"{number},{value},w{number % 17}\n" for number, value in enumerate(values.tolist()))
    return write(folder, {f"{name}.csv": f"n,x,word\n{rows}" for name in "abc"})


def results(dataset: Path) -> dict[str, str]:
    """All but what tells the time or follows from it, and TensorFlow's file, whose order follows from addresses."""
    named = ("manifest.json", "manifest.sha256", "_DATASET.json", "saved_model.pb", "golden.json")
    return {
        path.partition("/")[2]: digest for path, digest in contents(dataset).items() if not path.endswith(named)
    } | {"outputs": golden(dataset)}


def golden(dataset: Path) -> str:
    (path,) = dataset.glob("*/statistics/golden.json")
    entry = json.loads(path.read_text())
    return json.dumps({name: value for name, value in entry.items() if name != "shard"}, sort_keys=True)


@pytest.mark.slow
def test_a_store_without_a_shared_folder_gives_what_a_disk_does(tmp_path: Path):
    raw = table(tmp_path / "raw")
    recipe = Recipe(source=Csv("*.csv"), features=features, shards=4, splits={"train": 0.8, "test": 0.2})
    run(request(recipe, raw, tmp_path / "local", "0" * 64))
    source, output = "memory://analyzers/raw", "memory://analyzers/dataset"
    for path in raw.glob("*.csv"):
        files.write_bytes(f"{source}/{path.name}", path.read_bytes())
    run(request(recipe, source, output, "0" * 64))  # type: ignore[arg-type]
    there = tmp_path / "there"
    for info in files.list_folder(output):
        write(there, {info.uri[len(output) + 1 :]: files.read_bytes(info.uri)})
    kept, kept_locally = results(there), results(tmp_path / "local")
    for path in (INPUTS, CROISSANT):  # of ETags and of times of change; the generation's id
        assert kept.pop(path) != kept_locally.pop(path)
    assert kept == kept_locally
    assert not any("_work" in path for path in contents(there))


@pytest.mark.slow
def test_two_workers_give_what_one_does(tmp_path: Path):
    raw = table(tmp_path / "raw")
    (tmp_path / "recipe.py").write_text(RECIPE)
    for workers in (1, 2):
        output = tmp_path / f"of{workers}"
        arguments = ["run", tmp_path / "recipe.py", "--input", raw, "--output", output, "--workers", str(workers)]
        ended = penstock(*arguments)
        assert ended.returncode == 0, ended.stderr
    assert results(tmp_path / "of2") == results(tmp_path / "of1")
    assert Manifest.load(str(tmp_path / "of2")).transform_graph.outputs == {
        "z": "float32",
        "bucket": "int64",
        "id": "int64",
        "keyed": "float32",
        "zz": "float32",
    }


def centered(inputs: Any) -> dict[str, Any]:
    """Two phases, the first of which gives the same for fewer rows."""
    x = inputs["x"]
    return {"x": tft.scale_to_z_score(x - tft.min(inputs["n"]))}


def test_a_unit_that_comes_out_otherwise_is_reduced_again_for_later_phases(tmp_path: Path):
    raw = write(tmp_path / "raw", {f"{name}.csv": "n,x\n1,2\n1,5\n1,90\n" for name in "ab"})
    mark = tmp_path / "out of order"

    def prepare(example: dict[str, Any]) -> dict[str, Any]:
        if mark.exists() and example["x"] == 90:
            raise ValueError("out of order")
        return example

    recipe = Recipe(source=Csv("*.csv"), prepare=[prepare], features=centered, shards=2, splits={"train": 1})
    arguments: Any = (recipe, raw, tmp_path / "dataset", "0" * 64)
    mark.touch()
    with pytest.raises(OverBudgetError):
        run(request(*arguments))
    mark.unlink()
    for shard in (tmp_path / "dataset").glob("*/data/*.tfrecord"):
        shard.unlink()
    run(request(*arguments))
    run(request(recipe, raw, tmp_path / "again", "0" * 64))
    assert results(tmp_path / "dataset") == results(tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [None, "global"])
def test_units_without_rows_of_the_statistics_split_have_no_part(tmp_path: Path, shuffle: Any):
    raw = write(tmp_path / "raw", {"a.csv": "n,x,s\n1,2,train\n1,5,train\n", "b.csv": "n,x,s\n1,2,test\n1,9,test\n"})
    split = by_column("s", ["train", "test"])
    recipe = Recipe(source=Csv("*.csv"), features=centered, shards=2, splits=split, shuffle=shuffle)
    manifest = run(request(recipe, raw, tmp_path / "dataset", "0" * 64)).manifest
    assert manifest.written == 4


@pytest.mark.slow
def by_key(inputs: Any) -> dict[str, Any]:
    """What the first phase computes of nothing is no result that the second could be given."""
    buckets = tft.bucketize_per_key(inputs["x"], inputs["s"], 3)
    return {"x": tft.scale_to_z_score(tf.cast(buckets, tf.float32))}


@pytest.mark.parametrize("quarantines", [False, True])
def test_why_nothing_is_left_to_analyze_is_told(tmp_path: Path, quarantines: bool):
    raw = write(tmp_path / "raw", {"a.csv": "n,x,s\n1,2,test\n1,5,test\n1,7,train\n"})

    def prepare(example: dict[str, Any]) -> dict[str, Any]:
        if example["s"] == "train":
            raise ValueError("never") if quarantines else Filtered("no")
        return example

    recipe = Recipe(source=Csv("*.csv"), prepare=[prepare], features=by_key, splits=by_column("s", ["train", "test"]))
    with pytest.raises(OverBudgetError if quarantines else PenstockError, match="never" if quarantines else "empty"):
        run(request(recipe, raw, tmp_path / "dataset", "0" * 64))
