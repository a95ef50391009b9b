"""Damage of every kind is found, and named."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Committed

from penstock.pipeline import DatasetError, NotCommittedError
from penstock.pipeline.commit.verify import verify


def shard(dataset: Committed, number: int = 0, split: str = "train") -> Path:
    return dataset.path / dataset.manifest.splits[split].shards[number].path


def flip_bit(path: Path, position: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(position * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def change_manifest(dataset: Committed, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest that says something else, and a pointer that agrees with it."""
    path = dataset.generation / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    pointer = json.loads((dataset.path / "_DATASET.json").read_text())
    pointer["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (dataset.generation / "manifest.sha256").write_text(f"{pointer['sha256']}  manifest.json\n")
    (dataset.path / "_DATASET.json").write_text(json.dumps(pointer))


def faults(dataset: Committed, graph: bool = False) -> list[str]:
    return list(verify(str(dataset.path), graph=graph))


def test_a_whole_dataset_has_no_faults(committed: Committed):
    assert faults(committed, graph=True) == []


@pytest.mark.parametrize("position", [0.0, 0.3, 0.9, 1.0])
def test_a_flipped_bit_in_a_shard(damaged: Committed, position: float):
    flip_bit(shard(damaged), position)
    found = faults(damaged, graph=True)
    assert any("its content was changed" in fault for fault in found)
    assert any("its records cannot be read" in fault for fault in found)
    assert all(str(shard(damaged)) in fault for fault in found)


def test_a_flipped_bit_in_any_file(damaged: Committed):
    for path in sorted(damaged.generation.rglob("*")):
        if path.is_file() and path.stat().st_size and path.name != "manifest.json":
            content = path.read_bytes()
            flip_bit(path)
            assert any(str(path) in fault for fault in faults(damaged)), path
            path.write_bytes(content)
    assert faults(damaged) == []


@pytest.mark.parametrize("count", [1, 4, 100])
def test_a_truncated_shard(damaged: Committed, count: int):
    size = shard(damaged).stat().st_size
    cut(shard(damaged), count)
    found = faults(damaged)
    assert f"{shard(damaged)}: expected {size} bytes, found {size - count}" in found
    assert any("damaged or truncated" in fault for fault in found)


def test_a_shard_that_ends_after_a_whole_record(damaged: Committed):
    index = damaged.path / damaged.manifest.splits["train"].shards[0].index.path
    offsets = memoryview(index.read_bytes()).cast("Q")
    shard(damaged).write_bytes(shard(damaged).read_bytes()[: offsets[-2]])
    found = faults(damaged)
    count = damaged.manifest.splits["train"].shards[0].examples
    assert f"{shard(damaged)}: expected {count} examples, found {count - 1}" in found
    assert any(f"found {offsets[-2]}" in fault and "bytes" in fault for fault in found)


def test_missing_files(damaged: Committed):
    shard(damaged).unlink()
    (damaged.generation / "statistics" / "statistics.json").unlink()
    found = faults(damaged, graph=True)
    assert len(found) == 2
    assert all("the file is missing" in fault for fault in found)


def test_swapped_shards(damaged: Committed):
    one, two = shard(damaged, 0), shard(damaged, 1)
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    found = faults(damaged)
    assert {path for path in (one, two) for fault in found if str(path) in fault} == {one, two}


def test_a_manifest_that_swaps_shards_of_two_splits_of_one_size(damaged: Committed):
    def swap(content: dict[str, Any]) -> None:
        train, test = content["splits"]["train"]["shards"], content["splits"]["test"]["shards"]
        train[0], test[0] = test[0], train[0]

    change_manifest(damaged, swap)
    assert any(fault.startswith("split 'train': expected") for fault in faults(damaged))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["splits"]["train"]["shards"][0].update(examples=1), "expected 1 examples, found"),
        (lambda content: content["splits"]["train"].update(examples=1), "split 'train': expected 1 examples, found"),
        (lambda content: content.update(written=39), "expected 39 written examples, found 40 in the splits"),
        (lambda content: content.update(read=41), "expected read = written + quarantined + filtered, found 41 = 40"),
        (lambda content: content.update(quarantined=1, read=41), "expected 1 quarantined examples, found 0"),
        (lambda content: content["statistics"].update(bytes=1), "statistics.json: expected 1 bytes"),
        (lambda content: content["statistics"].update(sha256="0"), "statistics.json: expected SHA-256 0"),
    ],
)
def test_a_manifest_that_says_something_else(damaged: Committed, change: Callable[[dict[str, Any]], None], words: str):
    change_manifest(damaged, change)
    assert any(words in fault for fault in faults(damaged)), faults(damaged)


def test_a_changed_manifest_is_not_believed(damaged: Committed):
    flip_bit(damaged.generation / "manifest.json")
    with pytest.raises(DatasetError, match="it was changed; run the recipe again"):
        faults(damaged)


def test_a_graph_that_computes_something_else(damaged: Committed):
    """As another version of TensorFlow may, with every file in its place."""
    golden = damaged.path / damaged.manifest.transform_graph.golden.path
    content = json.loads(golden.read_text())
    content["outputs"]["label"]["sha256"] = "0" * 64
    content["outputs"]["image"]["sha256"] = "0" * 64  # only its bits: its numbers are the same
    golden.write_text(json.dumps(content))
    entry = {"bytes": golden.stat().st_size, "sha256": hashlib.sha256(golden.read_bytes()).hexdigest()}
    change_manifest(damaged, lambda content: content["transform_graph"]["golden"].update(entry))
    (fault,) = faults(damaged, graph=True)
    assert "output 'label' is not what it was when the dataset was written" in fault


def test_what_is_not_committed_cannot_be_verified(tmp_path: Path):
    with pytest.raises(NotCommittedError):
        list(verify(str(tmp_path)))
