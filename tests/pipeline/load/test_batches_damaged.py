"""Damaged examples: what comes before them is given, and they are passed over where that is asked for."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from stored_datasets import GENERATION, write

from penstock.pipeline import DatasetError, RequestError
from penstock.pipeline.load import Dataset, open_dataset
from penstock.pipeline.load.batches import Batches

DAMAGED = [8, 16]  # of 21 examples: the second of the second shard, and the fifth of the third
MESSAGE = r"train-00001-of-00003.tfrecord: record 1 is damaged or truncated; run `penstock verify`"


@pytest.fixture
def damaged(tmp_path: Path) -> Dataset:
    root = write(tmp_path)
    for shard, record in ((1, 1), (2, 4)):
        name = f"train-{shard:05d}-of-00003"
        offsets = np.fromfile(root / GENERATION / f"index/{name}.u64", "<u8")
        file = root / GENERATION / f"data/{name}.tfrecord"
        content = bytearray(file.read_bytes())
        content[int(offsets[record]) + 40] ^= 1
        file.write_bytes(content)
    return open_dataset(root)


def _collect(loader: Batches, rows: list[int]) -> None:
    for batch in loader:
        rows += batch["row"].tolist()


@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("cache", [True, False])
def test_good_batches_before_a_damaged_example_are_given(damaged: Dataset, features: bool, cache: bool) -> None:
    loader = damaged.numpy("train", 3, prefetch=5, threads=2, features=features, cache=cache)
    rows: list[int] = []
    with pytest.raises(DatasetError, match=MESSAGE):
        _collect(loader, rows)
    assert rows == list(range(6))
    assert loader.state()["position"] == 6
    assert loader.skipped == 0


@pytest.mark.filterwarnings("ignore:.*passed over")
@pytest.mark.parametrize("features", [True, False, "host"])
@pytest.mark.parametrize("cache", [True, False])
def test_damaged_examples_are_passed_over_and_counted(damaged: Dataset, features: bool, cache: bool) -> None:
    loader = damaged.numpy("train", 4, features=features, cache=cache, skip_damaged=True, repeat=2)
    batches = list(loader)
    rows = [batch["row"].tolist() for batch in batches]
    assert [len(each) for each in rows] == [4, 4, 3, 4, 3, 1] * 2
    assert list(chain.from_iterable(rows)) == [row for row in range(21) if row not in DAMAGED] * 2
    assert loader.skipped == 2
    whole = next(iter(damaged.numpy("train", 3, features=features)))
    np.testing.assert_array_equal(batches[0]["image"][:3], whole["image"])


@pytest.mark.filterwarnings("ignore:.*train-00002.*passed over")
def test_a_warning_names_what_is_passed_over(damaged: Dataset) -> None:
    with pytest.warns(UserWarning, match=MESSAGE + "; passed over, as skip_damaged=True asks") as warned:
        list(damaged.numpy("train", 21, skip_damaged=True))
    assert len(warned) == 2


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_a_full_batch_has_other_examples_in_their_places(damaged: Dataset) -> None:
    loader = damaged.numpy("train", 5, skip_damaged=True, drop_remainder=True)
    rows = [batch["row"].tolist() for batch in loader]
    assert rows == [list(range(5)), [5, 6, 7, 5, 9], list(range(10, 15)), [15, 15, 17, 18, 19]]
    with pytest.raises(DatasetError, match="expected an intact example in a batch of 1"):
        list(damaged.numpy("train", 1, skip_damaged=True, drop_remainder=True))


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_a_batch_without_an_intact_example_is_left_out(damaged: Dataset) -> None:
    rows = [batch["row"].tolist() for batch in damaged.numpy("train", 1, skip_damaged=True)]
    assert rows == [[row] for row in range(21) if row not in DAMAGED]


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_a_missing_shard_is_never_passed_over(damaged: Dataset) -> None:
    (Path(damaged.uri) / GENERATION / "data/train-00002-of-00003.tfrecord").unlink()
    rows: list[int] = []
    loader = damaged.numpy("train", 6, skip_damaged=True)
    with pytest.raises(DatasetError, match="is missing"):
        _collect(loader, rows)
    assert rows == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]


def test_the_first_example_may_be_damaged(tmp_path: Path) -> None:
    root = write(tmp_path)
    file = root / GENERATION / "data/train-00000-of-00003.tfrecord"
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="record 0 is damaged"):
        batch = next(iter(open_dataset(root).numpy("train", 4, skip_damaged=True)))
    assert batch["row"].tolist() == [1, 2, 3]


def test_the_option_is_a_bool(damaged: Dataset) -> None:
    with pytest.raises(RequestError, match="skip_damaged: expected True or False, found 'yes'"):
        damaged.numpy("train", skip_damaged="yes")  # type: ignore[arg-type]


@pytest.mark.extras("jax")
def test_jax_gives_the_batch_that_is_under_way_before_a_damaged_example(damaged: Dataset) -> None:
    loader = damaged.jax("train", 4)
    rows: list[int] = []
    with pytest.raises(DatasetError, match=MESSAGE):
        _collect(loader, rows)
    assert rows == list(range(8))
    assert loader.state()["position"] == 8
