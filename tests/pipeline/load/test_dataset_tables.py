"""Tables through the adapters: from TFRecord and from Parquet shards, with missing values and lists of any length."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import run_job

from penstock.pipeline import DatasetError, Parquet, PenstockError, Recipe, open_dataset

ROWS = 5000


def features(inputs: Any) -> dict[str, Any]:
    from penstock.transforms import numeric

    return {"x": numeric.standardize(inputs, "x"), "n": inputs["n"], "text": inputs["text"]}


def lengths(inputs: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {"ids": inputs["ids"], "sum": tf.reduce_sum(inputs["ids"], axis=1), "n": inputs["n"]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw")
    generator = np.random.default_rng(0)
    table = pa.table(
        {
            "n": pa.array(range(ROWS), pa.int64()),
            "x": pa.array(
                [None if number % 7 == 0 else value for number, value in enumerate(generator.normal(size=ROWS))]
            ),
            "text": pa.array([None if number % 5 == 0 else f"text {number}" for number in range(ROWS)]),
            "ids": pa.array([None if number % 11 == 0 else list(range(number % 4)) for number in range(ROWS)]),
            "words": pa.array([["a", "", f"w{number}"][: number % 4] for number in range(ROWS)]),
        }
    )
    pq.write_table(table, path / "rows.parquet", row_group_size=700)
    return path


@pytest.fixture(scope="module", params=["tfrecord", "parquet"])
def dataset(request: pytest.FixtureRequest, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("dataset")
    run_job(Recipe(source=Parquet("*.parquet"), features=features, shards=3, format=request.param), raw, path)
    return open_dataset(str(path))


def collected(batches: Any) -> dict[str, Any]:
    parts = list(batches)
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def expected_of(number: int) -> tuple[Any, Any]:
    ids = [] if number % 11 == 0 else list(range(number % 4))
    return ids, [b"a", b"", b"w%d" % number][: number % 4]


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": True, "seed": 3}, {"shuffle": "exact"}, {"cache": True, "repeat": 2}]
)
def test_every_row_comes_with_its_values(dataset: Any, options: Any) -> None:
    found = collected(dataset.numpy("train", 64, features=False, **options))
    times = options.get("repeat", 1)
    assert sorted(found["n"].tolist()) == sorted(list(range(ROWS)) * times)
    for row in range(0, ROWS * times, 37):
        number = found["n"][row]
        ids, words = expected_of(number)
        assert found["ids"][row].tolist() == ids
        assert found["ids"][row].dtype == np.int64
        assert found["words"][row].tolist() == words
        assert found["text"][row] == (b"" if number % 5 == 0 else b"text %d" % number)
        assert np.isnan(found["x"][row]) == (number % 7 == 0)
    assert found["x"].dtype == np.float32


def test_features_and_state_go_over_blocks(dataset: Any) -> None:
    whole = dataset.numpy("train", 100, shuffle=True, seed=1)
    everything = collected(whole)
    assert abs(np.nanmean(everything["x"])) < 1e-6
    begun = iter(dataset.numpy("train", 100, shuffle=True, seed=1))
    first = [next(begun) for _ in range(43)]  # in the middle of a block of rows that are read at once
    loader = dataset.numpy("train", 100, shuffle=True, seed=1)
    rest = collected(dataset.numpy("train", 100, shuffle=True, seed=1, state=loader.state_after(43)))
    again = np.concatenate([np.concatenate([part["n"] for part in first]), rest["n"]])
    assert np.array_equal(again, everything["n"])


@pytest.mark.slow
def test_tf_begins_no_epoch_of_which_no_batch_was_used(dataset: Any) -> None:
    expected = dataset.numpy("train", 1000, shuffle="exact")
    epochs = [next(iter(expected))["n"].tolist() for _ in range(3)]
    batches = dataset.tf("train", 1000, shuffle="exact", repeat=3)
    for epoch in epochs:  # each iteration is broken off in the first of its epochs
        assert [batch["n"].numpy().tolist() for batch in batches.take(1)] == [epoch]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"drop_remainder": True}, {"repeat": 2}, {"graph": "saved"}])
def test_tf_gives_the_batches_of_numpy(dataset: Any, options: Any) -> None:
    alike = {name: value for name, value in options.items() if name != "graph"}
    expected = dataset.numpy("train", 96, shuffle=True, **alike)
    batches = dataset.tf("train", 96, shuffle=True, **options)
    assert batches.cardinality().numpy() == len(expected)
    for _ in range(2):
        for batch, values in zip(batches.as_numpy_iterator(), expected, strict=True):
            assert batch.keys() == values.keys()
            for name, value in values.items():
                np.testing.assert_array_equal(batch[name], value)


@pytest.mark.parametrize("features", [True, False])
def test_a_row_alone_is_the_batchs(dataset: Any, features: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both alone and of a block."""
    whole = collected(dataset.numpy("train", 1000, features=features))
    source = dataset.source("train", features=features)
    for number in [*range(20), ROWS - 1, 2000]:
        row = source[number]
        assert list(row) == list(source[[number]][0])
        for name, value in row.items():
            np.testing.assert_array_equal(value, whole[name][number])
            assert type(value) is type(whole[name][number])


@pytest.mark.parametrize("dataset", ["tfrecord"], indirect=True)
def test_a_row_alone_is_not_decoded_as_a_batch_of_one(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes a hundred times as long as a row of a batch."""
    source, expected = dataset.source("train"), collected(dataset.numpy("train", 100, features=False))
    monkeypatch.setattr("penstock.pipeline.formats.example_columns.find", None)
    assert source[4]["text"] == expected["text"][4]
    assert [row["n"] for row in source[2:5]] == expected["n"][2:5].tolist()


@pytest.mark.parametrize("dataset", ["tfrecord"], indirect=True)
def test_features_of_a_source_are_computed_as_those_of_batches(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, expected = dataset.source("train", features=True), collected(dataset.numpy("train", 100))
    source[0]  # compiled
    monkeypatch.setattr("penstock.pipeline.graph.portable.PortableGraph.run", None)
    assert [row["n"] for row in source[2:5]] == expected["n"][2:5].tolist()


def test_random_access_and_another_process(dataset: Any) -> None:
    used = dataset.source("train")
    used[0]
    source = pickle.loads(pickle.dumps(used))
    assert len(source) == ROWS
    assert source[4]["n"] == collected(dataset.numpy("train", 32, features=False))["n"][4]
    assert [len(item["ids"]) for item in source[[0, 1]]] == [len(source[0]["ids"]), len(source[1]["ids"])]


def test_a_loader_that_was_used_goes_to_another_process(dataset: Any) -> None:
    loader = dataset.numpy("train", 100, features=False, shuffle="exact")
    next(iter(loader))
    again = pickle.loads(pickle.dumps(loader))
    assert again.state() == loader.state()
    for one, other in zip(again, loader, strict=True):  # both begin the second epoch
        assert one["n"].tolist() == other["n"].tolist()


def test_lists_become_ragged_tensors(dataset: Any) -> None:
    import tensorflow as tf

    for batch in dataset.tf("train", 1000, features=False).take(1):
        assert isinstance(batch["ids"], tf.RaggedTensor)
        for row in range(20):
            assert (batch["ids"][row].numpy().tolist(), batch["words"][row].numpy().tolist()) == expected_of(
                int(batch["n"][row])
            )


@pytest.mark.extras("torch")
def test_lists_become_lists_of_tensors(dataset: Any) -> None:
    import torch

    batch = next(iter(dataset.torch("train", 16, features=False)))
    for number, ids in zip(batch["n"].tolist(), batch["ids"], strict=True):
        assert isinstance(ids, torch.Tensor)
        assert ids.tolist() == expected_of(number)[0]


def test_a_graph_on_lists_is_tensorflows(raw: Path, tmp_path: Path) -> None:
    run_job(Recipe(source=Parquet("*.parquet"), features=lengths, shards=2), raw, tmp_path)
    made = open_dataset(str(tmp_path))
    with pytest.raises(PenstockError, match="ids"):
        made.numpy("train", 10)
    for batch in made.tf("train", 1000).take(2):
        for row in range(0, 1000, 50):
            ids, _ = expected_of(int(batch["n"][row]))
            assert int(batch["sum"][row]) == sum(ids)
            assert batch["ids"][row].numpy().tolist() == ids


def test_a_damaged_row_group_is_named(raw: Path, tmp_path: Path) -> None:
    run_job(Recipe(source=Parquet("*.parquet"), shards=1, format="parquet"), raw, tmp_path)
    made = open_dataset(str(tmp_path))
    shard = tmp_path / made.manifest.splits["train"].shards[0].path
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(DatasetError, match=r"\.parquet: row group 0 is damaged .*: its 5000 rows cannot be read"):
        list(made.numpy("train", 100, features=False))
