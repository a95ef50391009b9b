"""Back to an earlier generation: only to a whole one, and never past somebody else's commit."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stored_datasets import manifest_content

from penstock.pipeline import DatasetError, NotCommittedError, PenstockError, RequestError
from penstock.pipeline.commit import rollback
from penstock.pipeline.commit.history import history
from penstock.pipeline.commit.prune import find_unused, remove_unused
from penstock.pipeline.commit.rollback import roll_back
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.formats.pointer import Pointer, publish
from penstock.pipeline.storage import files, leases
from penstock.pipeline.storage.leases import leased_folder

FIRST, SECOND, THIRD = "1" * 16, "2" * 16, "3" * 16
_NUMBERS = itertools.count()


def add(dataset: str, generation: str) -> Pointer:
    """A whole generation of one file, not published."""
    entry = {"path": f"{generation}/data/a", "bytes": 3, "sha256": "0" * 64}
    content = manifest_content(generation)
    content |= {"splits": {}, "created": f"2026-11-0{generation[0]}T00:00:00+00:00"}
    content["transform_graph"] = {**content["transform_graph"], "files": [], "golden": entry}
    content["statistics"] = {**entry, "split": "train", "values": entry}
    content["duplicates"] = {**content["duplicates"], "file": None}
    content["quarantine"] = content["filtered_lists"] = []
    encoded = Manifest.from_json(content).encode()
    pointer = Pointer.to(generation, encoded)
    files.write_bytes(files.join(dataset, generation, "data/a"), b"abc")
    files.write_bytes(files.join(dataset, generation, "manifest.json"), encoded)
    files.write_bytes(files.join(dataset, generation, "manifest.sha256"), pointer.manifest_sum())
    return pointer


@pytest.fixture(params=["local", "store"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(leases, "_BEAT", 0.1)
    root = str(tmp_path) if request.param == "local" else f"memory://rollback-{next(_NUMBERS)}/dataset"
    for generation in (FIRST, SECOND, THIRD):
        publish(root, add(root, generation), Pointer.read(root))
    return root


def current(dataset: str) -> str:
    return Manifest.load(dataset).generation


def test_back_to_the_one_before_and_further(dataset: str):
    manifest, before = roll_back(dataset)
    assert (manifest.generation, before, current(dataset)) == (SECOND, THIRD, SECOND)
    assert roll_back(dataset)[0].generation == current(dataset) == FIRST
    with pytest.raises(RequestError, match="made before the current one, found none among 3333"):
        roll_back(dataset)
    assert roll_back(dataset, "3")[0].generation == current(dataset) == THIRD


def test_the_history_tells_of_it_until_the_next_commit(dataset: str):
    assert history(dataset)["rolled_back"] is None
    roll_back(dataset)
    entry = history(dataset)
    assert (entry["current"], entry["rolled_back"]) == (SECOND, THIRD)
    assert [each["generation"] for each in entry["generations"]] == [THIRD, SECOND, FIRST]
    publish(dataset, add(dataset, "4" * 16), Pointer.read(dataset))
    assert history(dataset)["rolled_back"] is None


def test_nothing_else_is_written(dataset: str):
    before = {info.uri: files.read_bytes(info.uri) for info in files.list_folder(dataset)}
    roll_back(dataset)
    after = {info.uri: files.read_bytes(info.uri) for info in files.list_folder(dataset)}
    assert {uri for uri in after.keys() | before.keys() if after.get(uri) != before.get(uri)} == {
        files.join(dataset, "_DATASET.json")
    }


@pytest.mark.parametrize("damage", [b"ab", None])
def test_a_generation_that_is_not_whole_is_refused(dataset: str, damage: bytes | None):
    uri = files.join(dataset, SECOND, "data/a")
    files.remove(uri)
    if damage is not None:
        files.write_bytes(uri, damage)
    with pytest.raises(DatasetError, match="expected a whole generation, found 1 files that are damaged or missing"):
        roll_back(dataset)
    assert current(dataset) == THIRD


def test_from_a_damaged_generation_there_is_a_way_back(dataset: str):
    files.write_bytes(files.join(dataset, THIRD, "manifest.json"), b"{}")
    assert roll_back(dataset)[0].generation == current(dataset) == SECOND


def test_what_is_no_other_generation_is_refused(dataset: str, tmp_path: Path):
    for generation, words in ((THIRD, "another generation than the current one"), ("4", "found '4', which 0 have")):
        with pytest.raises(RequestError, match=words):
            roll_back(dataset, generation)
    with pytest.raises(NotCommittedError):
        roll_back(str(tmp_path / "nothing"))
    assert current(dataset) == THIRD


def test_a_commit_meanwhile_wins(dataset: str, monkeypatch: pytest.MonkeyPatch):
    """The pointer is replaced only if it still says what was seen."""
    find_damage: Callable[..., Any] = rollback.find_damage
    new = add(dataset, "4" * 16)

    def commit_meanwhile(*arguments: Any) -> Any:
        publish(dataset, new, Pointer.read(dataset))
        return find_damage(*arguments)

    monkeypatch.setattr(rollback, "find_damage", commit_meanwhile)
    with pytest.raises(DatasetError, match="another run committed generation 4444444444444444"):
        roll_back(dataset)
    assert current(dataset) == "4" * 16


def test_a_commit_that_began_before_loses_to_it(dataset: str):
    seen, new = Pointer.read(dataset), add(dataset, "4" * 16)
    roll_back(dataset)
    with pytest.raises(DatasetError, match=f"another run committed generation {SECOND}"):
        publish(dataset, new, seen)
    assert current(dataset) == SECOND


def test_of_many_at_once_each_change_is_one_of_them(dataset: str):
    """Every pointer that was ever there names a whole generation, and each rollback that succeeded was seen."""
    outcomes: list[str] = []

    def go(generation: str) -> None:
        try:
            roll_back(dataset, generation)
            outcomes.append(generation)
        except (DatasetError, RequestError, PenstockError):
            pass

    threads = [threading.Thread(target=go, args=(each,)) for each in (FIRST, SECOND) * 4]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert current(dataset) in (FIRST, SECOND, THIRD)
    for thread in threads:
        thread.join()
    assert outcomes
    assert current(dataset) in outcomes


def test_what_is_being_removed_or_made_is_left_alone(dataset: str):
    with (
        leased_folder(files.join(dataset, SECOND), "_work/lease.json", "run"),
        pytest.raises(PenstockError, match="another run is at work on"),
    ):
        roll_back(dataset, SECOND)
    assert current(dataset) == THIRD


def test_prune_keeps_the_current_one_and_the_newest_others(dataset: str):
    roll_back(dataset, FIRST)
    assert find_unused(dataset) == [files.join(dataset, each) for each in (SECOND, THIRD)]
    assert find_unused(dataset, keep=1) == [files.join(dataset, SECOND)]
    assert find_unused(dataset, keep=2) == []
    assert dict(remove_unused(dataset, keep=1)) == {files.join(dataset, SECOND): True}
    assert [each["generation"] for each in history(dataset)["generations"]] == [THIRD, FIRST]
