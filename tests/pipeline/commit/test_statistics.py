"""The statistics against NumPy in float64, on the pixels that Pillow reads from the shards."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import STANDARD, Committed, apply_graph, contents, pixels, run_job, standard_recipe

from penstock.pipeline.formats.tfrecord import read_records


def statistics(dataset: Committed) -> dict[str, Any]:
    return json.loads((dataset.path / dataset.manifest.statistics.file.path).read_text())


def stored(dataset: Committed, name: str, split: str = "train") -> np.ndarray:
    """[examples, height, width, channels]."""
    return np.stack([pixels(example[name]) for example in dataset.examples(split)])


def records(dataset: Committed, split: str) -> list[bytes]:
    shards = dataset.manifest.splits[split].shards
    return [record for shard in shards for record in read_records(str(dataset.path / shard.path))]


def test_pixels_are_those_of_a_two_pass_computation(committed: Committed):
    values = stored(committed, "image").astype(np.float64)
    found = statistics(committed)["features"]["image"]
    mean = values.mean(axis=(0, 1, 2))
    std = np.sqrt(((values - mean) ** 2).mean(axis=(0, 1, 2)))
    assert np.abs(np.array(found["mean"]) - mean).max() < 1e-9
    assert np.abs(np.array(found["std"]) - std).max() < 1e-9
    assert found["min"] == values.min(axis=(0, 1, 2)).tolist()
    assert found["max"] == values.max(axis=(0, 1, 2)).tolist()
    assert found["pixels"] == found["count"][0] == values[..., 0].size
    for channel, quantiles in enumerate(found["quantiles"]):
        for percentile, value in quantiles.items():
            assert value == np.percentile(values[..., channel], int(percentile), method="inverted_cdf")


def test_masks_and_labels_are_counted_exactly(committed: Committed):
    found = statistics(committed)
    ids, counts = np.unique(stored(committed, "mask"), return_counts=True)
    assert found["features"]["mask"]["classes"] == {str(i): count for i, count in zip(ids, counts, strict=True)}
    for split in ("train", "validation", "test"):
        labels = Counter(example["label"].decode() for example in committed.examples(split))
        assert found["labels"][split] == labels
    assert found["features"]["label"]["counts"] == found["labels"]["train"]
    assert found["split"] == "train"
    assert found["examples"] == len(committed.examples("train"))


def test_the_graph_standardizes_by_the_same_mean_and_deviation(committed: Committed):
    values = stored(committed, "image").astype(np.float64)
    mean, std = values.mean(axis=(0, 1, 2)), values.std(axis=(0, 1, 2))
    for split in ("train", "test"):
        outputs = apply_graph(committed.graph, records(committed, split))
        expected = (stored(committed, "image", split) - mean) / std
        assert outputs["image"].dtype == np.float32
        assert np.abs(outputs["image"] - expected).max() < 1e-6
        assert np.array_equal(outputs["mask"], stored(committed, "mask", split).astype(np.int64) - 1)
        labels = [example["label"] for example in committed.examples(split)]
        assert [int(index) for index in outputs["label"]] == [[b"cat", b"dog"].index(label) for label in labels]


@pytest.mark.parametrize("shards", [1, 7])
def test_the_bits_are_the_same_for_any_number_of_shards(committed: Committed, tmp_path: Path, shards: int):
    recipe = standard_recipe(shards=shards)
    other = Committed(tmp_path, committed.source, run_job(recipe, committed.source, tmp_path, STANDARD).manifest)
    assert len(other.manifest.splits["train"].shards) == shards
    assert other.examples("train") == committed.examples("train")
    assert statistics(other) == statistics(committed)
    assert other.manifest.statistics.file.sha256 == committed.manifest.statistics.file.sha256
    ours, theirs = contents(Path(other.graph)), contents(Path(committed.graph))
    assert ours.keys() == theirs.keys()
    # TensorFlow numbers the functions of a process, and orders their arguments by address
    assert {path for path in ours if ours[path] != theirs[path]} <= {"transform_fn/saved_model.pb"}
    training = records(committed, "train")
    expected = apply_graph(committed.graph, training)
    for name, values in apply_graph(other.graph, training).items():
        assert values.dtype == expected[name].dtype
        assert values.tobytes() == expected[name].tobytes()
