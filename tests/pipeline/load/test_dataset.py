import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_datasets import GENERATION, MEAN, SHAPE, pixels, portable, write

from penstock.pipeline import DatasetError, NotCommittedError, RequestError
from penstock.pipeline.graph.portable import NotPortableError
from penstock.pipeline.load import Dataset, open_dataset


def test_it_says_what_it_holds(dataset: Dataset) -> None:
    assert dataset.splits["train"].examples == len(dataset) == 21
    assert dataset.splits["train"].shards == 3
    assert dataset.features["image"].shape == SHAPE
    assert dataset.schema["image"] == (np.dtype("uint8"), SHAPE)
    assert dataset.statistics["image"].mean == MEAN.tolist()
    assert dataset.labels["train"] == {"cat": 11, "dog": 10}
    assert dataset.transform.outputs["mask"] == "uint8"


def test_its_repr_is_for_terminals_and_notebooks(dataset: Dataset) -> None:
    for text in (repr(dataset), dataset._repr_html_()):
        for part in ("train", "21 examples", "3 shards", "uint8 [16, 24, 3]", "jpeg", "float32", GENERATION):
            assert part in text


def test_sample_examples(dataset: Dataset) -> None:
    first = dataset.examples("train", 2)[0]
    assert first["key"] == b"k000"
    assert first["label"] == b"cat"
    assert np.abs(first["image"].astype(int) - pixels(0)).max() < 30
    assert np.unique(first["mask"]).tolist() == [1]


def test_it_pickles(dataset: Dataset) -> None:
    again = pickle.loads(pickle.dumps(dataset))
    assert repr(again) == repr(dataset)
    assert again.examples("train", 1)[0]["key"] == b"k000"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotCommittedError, match="found nothing there; check the path"):
        open_dataset(str(tmp_path / "nowhere"))


def test_not_committed(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "_DATASET.json").unlink()
    with pytest.raises(NotCommittedError, match="run the recipe again to resume"):
        open_dataset(str(root))


def test_a_newer_format(tmp_path: Path) -> None:
    root = write(tmp_path)
    pointer = json.loads((root / "_DATASET.json").read_text())
    (root / "_DATASET.json").write_text(json.dumps(pointer | {"format": 99}))
    with pytest.raises(DatasetError, match="install a newer penstock"):
        open_dataset(str(root))


@pytest.mark.parametrize("path", ["data/train-00001-of-00003.tfrecord", "index/train-00000-of-00003.u64"])
def test_a_file_of_another_size(tmp_path: Path, path: str) -> None:
    root = write(tmp_path)
    file = root / GENERATION / path
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=rf"{path}: expected \d+ bytes, found \d+; run `penstock verify`"):
        open_dataset(str(root))


def test_a_missing_file(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / GENERATION / "data/train-00002-of-00003.tfrecord").unlink()
    with pytest.raises(DatasetError, match=r"train-00002-of-00003.tfrecord: a file that the manifest lists is missing"):
        open_dataset(str(root))


def test_changed_content_is_found_on_request(tmp_path: Path) -> None:
    root = write(tmp_path)
    file = root / GENERATION / "data/train-00001-of-00003.tfrecord"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    open_dataset(str(root))
    with pytest.raises(DatasetError, match="expected SHA-256"):
        open_dataset(str(root), verify=True)


def _write_manifest(root: Path, edit: Callable[[Any], None]) -> None:
    file = root / GENERATION / "manifest.json"
    content = json.loads(file.read_bytes())
    edit(content)
    file.write_text(json.dumps(content))
    pointer = json.loads((root / "_DATASET.json").read_bytes())
    pointer["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (root / "_DATASET.json").write_text(json.dumps(pointer))


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content["features"]["row"].update(other=1),
        lambda content: content["features"]["row"].pop("shape"),
        lambda content: content.pop("transform_graph"),
        lambda content: content.pop("splits"),
        lambda content: content.update(features=[]),
    ],
)
def test_a_manifest_of_another_form(tmp_path: Path, edit: Callable[[Any], None]) -> None:
    root = write(tmp_path)
    _write_manifest(root, edit)
    with pytest.raises(DatasetError, match=r"expected a manifest as this penstock writes it.*install the one"):
        open_dataset(root)


def test_what_is_no_dataset_says_what_to_do(tmp_path: Path) -> None:
    root = write(tmp_path)
    with pytest.raises(NotCommittedError, match="found a generation of one; open its parent folder"):
        open_dataset(root / GENERATION)
    with pytest.raises(NotCommittedError, match=r"has no _DATASET.json"):
        open_dataset(root / "_DATASET.json")
    with pytest.raises(RequestError, match="expected a path, or a URI with one of s3://"):
        open_dataset("foo://bucket/data")
    with pytest.raises(RequestError, match="found an empty string"):
        open_dataset("")
    (root / "_DATASET.json").unlink()
    (root / "_DATASET.json").mkdir()
    with pytest.raises(DatasetError, match="found a folder; remove it"):
        open_dataset(root)


def test_examples_by_number_and_slice(dataset: Dataset) -> None:
    source = dataset.source("train")
    assert source[np.int64(3)]["row"] == source[-18]["row"] == 3
    assert [example["row"] for example in source[18:]] == [18, 19, 20]
    assert [example["row"] for example in source[np.array([4, 2])]] == [4, 2]
    assert source[[]] == source[30:] == []
    with pytest.raises(IndexError, match="expected a number from -21 to 20, found 21"):
        source[[21]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, r"split: expected one of \['train'\], found 'trian'"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1, found 0"),
        ({"shuffle": "full"}, 'shuffle: expected True, False, "window" or "exact"'),
        ({"shard": (3, 2)}, "shard: expected"),
        ({"repeat": 0}, "repeat"),
        ({"batch_size": 22, "drop_remainder": True}, "expected at least one batch of 22"),
        ({"state": {"seed": 4, "epoch": 0, "position": 0, "order": 0, "start": 0}}, "expected one with seed 0"),
        ({"state": {}}, "expected what a loader's state.. returned"),
        ({"state": 3}, "expected what a loader's state.. returned"),
        ({"window": 0}, "window: expected a whole number from 1, found 0"),
        ({"seed": "a"}, "seed: expected a whole number, found 'a'"),
        ({"shard": 3}, "shard: expected .index, count., found 3"),
        ({"shard": (0,)}, "shard: expected .index, count., found .0,."),
        ({"batch_size": None}, "batch_size: expected a whole number from 1, found None"),
        ({"features": "hst"}, "features: expected True, False or \"host\", found 'hst'"),
    ],
)
def test_wrong_requests_say_what_to_do(dataset: Dataset, options: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        dataset.numpy(**{"split": "train", **options})


def test_the_names_of_classes(dataset: Dataset) -> None:
    names = dataset.vocabulary()
    assert names == ["cat", "dog"]
    batch = next(iter(dataset.numpy("train", 21)))
    assert [names[number].encode() for number in batch["label"]] == dataset.column("train").tolist()
    with pytest.raises(RequestError, match=r"vocabulary: .*'image'"):
        dataset.vocabulary("image")


def test_a_column_is_read_in_the_order_of_storage_without_pixels(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.pipeline.load.dataset._BLOCK", 4)
    monkeypatch.setattr("penstock.pipeline.formats.decode._write_pixels", None)
    assert dataset.column("train", "row").tolist() == list(range(21))
    labels = dataset.column("train")
    assert labels.tolist() == [b"cat" if number % 2 == 0 else b"dog" for number in range(21)]
    with pytest.raises(RequestError, match=r"column: expected one of .*\['key', 'label', 'row'\], found 'image'"):
        dataset.column("train", "image")


def test_classes_are_in_the_order_of_numbers(dataset: Dataset) -> None:
    fresh = open_dataset(dataset.uri)
    fresh.__dict__["_statistics"] = {
        "labels": {"train": {"1": 5, "10": 6, "2": 7}},
        "features": {"mask": {"kind": "mask", "classes": {"0": 1, "11": 2, "3": 4}}},
    }
    assert list(fresh.labels["train"]) == ["1", "2", "10"]
    assert list(fresh.statistics["mask"].classes) == ["0", "3", "11"]


def test_classes_have_names_where_another_output_is_not_portable(tmp_path: Path) -> None:
    graph = portable()
    del graph["outputs"]["mask"]
    graph["unsupported"] = [{"op": "Mystery", "outputs": ["mask"]}]
    dataset = open_dataset(write(tmp_path, graph=graph))
    assert dataset.vocabulary() == ["cat", "dog"]
    for use in (lambda: dataset.vocabulary("mask"), lambda: dataset.numpy("train")):
        with pytest.raises(NotPortableError, match=r"Mystery \(for mask\)"):
            use()
