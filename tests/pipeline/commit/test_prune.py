"""Removing generations from a store: never one that is current, becomes current, or that a run is at work on."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from stored_datasets import manifest_content

from penstock.pipeline import DatasetError, NotCommittedError
from penstock.pipeline.commit.prune import find_unused, remove_unused
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.formats.pointer import Pointer, mark_removing, publish
from penstock.pipeline.storage import files, leases
from penstock.pipeline.storage.leases import Lease, leased_folder

_NUMBERS = itertools.count()
OLD, CURRENT, UNFINISHED = ("1" * 16, "2" * 16, "3" * 16)


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset on a store, with an older generation and an unfinished one."""
    root = f"memory://prune-{next(_NUMBERS)}/dataset"
    for generation in (OLD, CURRENT):
        files.write_bytes(files.join(root, generation, "data/a"), b"abc")
        make_current(root, generation)
    files.write_bytes(files.join(root, UNFINISHED, "_work/plan.arrow"), b"plan")
    return root


def make_current(root: str, generation: str) -> None:
    entry = {"path": f"{generation}/data/a", "bytes": 3, "sha256": "0" * 64}
    content = manifest_content(generation)
    content["splits"] = {}
    content["transform_graph"] = {**content["transform_graph"], "files": [], "golden": entry}
    content["statistics"] = {**entry, "split": "train", "values": entry}
    content["duplicates"] = {**content["duplicates"], "file": None}
    content["quarantine"] = content["filtered_lists"] = []
    encoded = Manifest.from_json(content).encode()
    files.write_bytes(files.join(root, generation, "manifest.json"), encoded)
    publish(root, Pointer.to(generation, encoded), Pointer.read(root))


def left(root: str) -> set[str]:
    return {info.uri[len(root) + 1 :].partition("/")[0] for info in files.list_folder(root)}


def removing(root: str) -> tuple[str, ...]:
    current = Pointer.read(root)
    assert current
    return current.removing


def test_all_but_the_current_one_go(dataset: str):
    assert find_unused(dataset) == [files.join(dataset, OLD), files.join(dataset, UNFINISHED)]
    assert dict(remove_unused(dataset)) == {files.join(dataset, each): True for each in (OLD, UNFINISHED)}
    assert left(dataset) == {"_DATASET.json", CURRENT}
    assert removing(dataset) == ()
    assert list(remove_unused(dataset)) == []


def test_what_a_run_is_at_work_on_stays(dataset: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "_BEAT", 0.1)
    with leased_folder(files.join(dataset, UNFINISHED), "_work/lease.json", "run"):
        assert dict(remove_unused(dataset)) == {files.join(dataset, OLD): True, files.join(dataset, UNFINISHED): False}
    assert left(dataset) == {"_DATASET.json", CURRENT, UNFINISHED}
    assert removing(dataset) == ()


def test_what_becomes_current_meanwhile_stays(dataset: str, monkeypatch: pytest.MonkeyPatch):
    """A worker of a run whose lease was lost commits it."""
    read = Pointer.read

    def commit_then_read(root: str) -> Any:
        monkeypatch.setattr(Pointer, "read", read)
        current = read(root)
        make_current(root, OLD)
        return current

    unused = find_unused(dataset)
    monkeypatch.setattr("penstock.pipeline.commit.prune.find_unused", lambda *_: unused)
    monkeypatch.setattr(Pointer, "read", commit_then_read)
    with pytest.raises(DatasetError, match=f"that are not current, found {OLD}"):
        list(remove_unused(dataset))
    assert Manifest.load(dataset).generation == OLD
    assert left(dataset) == {"_DATASET.json", OLD, CURRENT, UNFINISHED}


def test_what_is_half_removed_cannot_become_current_and_is_removed_by_the_next(
    dataset: str, monkeypatch: pytest.MonkeyPatch
):
    class Stop(Exception):
        pass

    def die(self: Any, folder: str) -> None:
        files.remove(files.join(folder, "data"))
        raise Stop

    current = Pointer.read(dataset)
    store_lease: Any = leases._StoreLease
    with monkeypatch.context() as patch:
        patch.setattr(store_lease, "remove", die)
        with pytest.raises(Stop):
            list(remove_unused(dataset))
    assert removing(dataset) == (OLD,)
    content = files.read_bytes(files.join(dataset, OLD, "manifest.json"))
    with pytest.raises(DatasetError, match="found `penstock prune` removing it"):
        publish(dataset, Pointer.to(OLD, content), current)
    assert all(removed for _, removed in remove_unused(dataset))
    assert left(dataset) == {"_DATASET.json", CURRENT}
    assert removing(dataset) == ()


def test_a_mark_of_what_is_gone_is_taken_away(dataset: str):
    mark_removing(dataset, ["4" * 16])
    list(remove_unused(dataset))
    assert removing(dataset) == ()


def test_who_lost_the_lease_removes_nothing(dataset: str, monkeypatch: pytest.MonkeyPatch):
    store_lease: Any = leases._StoreLease
    monkeypatch.setattr(store_lease, "is_held", lambda _: False)
    with pytest.raises(OSError, match="expected this process to have the lease, found it lost"):
        list(remove_unused(dataset))
    assert {OLD, UNFINISHED} < left(dataset)
    assert Lease().is_held()


def test_without_a_current_generation_nothing_is_removed(dataset: str):
    files.remove(files.join(dataset, CURRENT, "data/a"))
    with pytest.raises(DatasetError, match="nothing was removed"):
        find_unused(dataset)
    files.remove(files.join(dataset, "_DATASET.json"))
    with pytest.raises(NotCommittedError):
        list(remove_unused(dataset))


@pytest.mark.parametrize("is_local", [False, True])
def test_what_a_run_takes_examples_over_from_stays(
    dataset: str, is_local: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leases, "_BEAT", 0.1)
    if is_local:
        for info in files.list_folder(dataset):
            files.write_bytes(files.join(str(tmp_path), info.uri[len(dataset) + 1 :]), files.read_bytes(info.uri))
        dataset = str(tmp_path)
    files.write_bytes(files.join(dataset, UNFINISHED, "_work/base"), OLD.encode())
    with leased_folder(files.join(dataset, UNFINISHED), "_work/lease.json", "run"):
        assert dict(remove_unused(dataset)) == {files.join(dataset, each): False for each in (OLD, UNFINISHED)}
        assert left(dataset) == {"_DATASET.json", OLD, CURRENT, UNFINISHED}
    assert dict(remove_unused(dataset)) == {files.join(dataset, each): True for each in (OLD, UNFINISHED)}
    assert left(dataset) == {"_DATASET.json", CURRENT}
