"""A commit that is made twice, side by side, or that stops anywhere: one manifest, whole, and never changed again."""

import contextlib
import itertools
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from stored_datasets import manifest_content

from penstock.pipeline import DatasetError, PenstockError
from penstock.pipeline.commit import sealing
from penstock.pipeline.commit.sealing import Attempt, committed_already, has_record, seal
from penstock.pipeline.formats.damage import all_files, find_damage
from penstock.pipeline.formats.manifest import Manifest, stored_file
from penstock.pipeline.formats.pointer import Pointer, publish
from penstock.pipeline.storage import files

_NUMBERS = itertools.count()
GENERATION = "1" * 16


class Stop(Exception):
    """The process dies here."""


def attempt(name: str, generation: str = GENERATION, unit: bytes = b"shard") -> Attempt:
    """What an attempt would write; graph, golden outputs and time differ between two of them."""
    contents = {
        "transform_graph/transform_fn/saved_model.pb": f"graph of {name}".encode(),
        f"transform_graph/transform_fn/assets/{name}": b"one\ntwo\n",
        "statistics/golden.json": f"golden of {name}".encode(),
        "statistics/statistics.json": b"{}",
        "statistics/values.arrow": b"values",
        "croissant.json": f"metadata of {name}".encode(),
        "SHA256SUMS": b"sums",
    }
    stored = {path: stored_file(f"{generation}/{path}", content) for path, content in contents.items()}
    entry = manifest_content(generation, created=name)
    shard = stored_file(f"{generation}/data/train-00000-of-00001.tfrecord", unit, 1).to_json()
    entry["splits"] = {"train": {"examples": 1, "shards": [{**shard, "index": None}]}}
    graph = [file.to_json() for path, file in sorted(stored.items()) if path.startswith("transform_graph")]
    golden = stored["statistics/golden.json"].to_json()
    entry["transform_graph"] = {**entry["transform_graph"], "files": graph, "golden": golden}
    statistics, values = (stored[f"statistics/{name}"].to_json() for name in ("statistics.json", "values.arrow"))
    entry["statistics"] = {**statistics, "split": "train", "values": values}
    entry["duplicates"] = {**entry["duplicates"], "file": None}
    entry["croissant"] = {**stored["croissant.json"].to_json(), "checksums": stored["SHA256SUMS"].to_json()}
    entry["quarantine"] = entry["filtered_lists"] = []
    return Attempt(Manifest.from_json(entry), contents)


@pytest.fixture(params=["local", "store"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = str(tmp_path) if request.param == "local" else f"memory://sealing-{next(_NUMBERS)}/dataset"
    files.write_bytes(files.join(root, GENERATION, "data/train-00000-of-00001.tfrecord"), b"shard")
    return root


def expect_whole(dataset: str) -> Manifest:
    """The committed manifest, all of whose files are as it says."""
    manifest = Manifest.load(dataset)
    assert find_damage(dataset, manifest) == {}
    assert Manifest.read_generation(dataset, manifest.generation)[0] == manifest
    for file in all_files(dataset, manifest):
        content = files.read_bytes(files.join(dataset, file.path))
        assert stored_file(file.path, content, file.examples) == file
    return manifest


def test_a_second_attempt_changes_nothing(dataset: str):
    first = seal(dataset, attempt("a"), None, None)
    assert first == expect_whole(dataset)
    before = {info.uri: files.read_bytes(info.uri) for info in files.list_folder(dataset) if "_work" not in info.uri}
    assert seal(dataset, attempt("b"), None, None) == first
    assert {uri: files.read_bytes(uri) for uri in before} == before
    assert committed_already(dataset, GENERATION, None) == first
    assert committed_already(dataset, GENERATION, Pointer.read(dataset)) is None
    assert committed_already(dataset, "2" * 16, None) is None


@pytest.mark.parametrize("seed", range(20))
def test_attempts_that_stop_anywhere_and_work_side_by_side_agree(
    dataset: str, monkeypatch: pytest.MonkeyPatch, seed: int
):
    """Every call that writes may be the last of its attempt, done or not; the one after them ends the commit."""
    generator, lock, dying = random.Random(seed), threading.Lock(), threading.local()

    def deadly(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            with lock:
                when = generator.choice(["before", "after", *["never"] * 6])
            if getattr(dying, "may", False) and when == "before":
                raise Stop
            result = function(*arguments)
            if getattr(dying, "may", False) and when == "after":
                raise Stop
            return result

        return call

    def in_this_thread(function: Any, items: Any, *_: Any) -> Any:
        return map(function, items)

    monkeypatch.setattr(files, "map_files", in_this_thread)
    for name in ("write_bytes", "create_exclusive", "replace_exactly"):
        monkeypatch.setattr(files, name, deadly(getattr(files, name)))
    seen: list[Manifest] = []

    def work(name: str) -> None:
        dying.may = True
        with contextlib.suppress(Stop):
            seen.append(seal(dataset, attempt(name), None, None))

    for each in range(3):
        threads = [threading.Thread(target=work, args=(f"{each}{side}",)) for side in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seen.append(seal(dataset, attempt("last"), None, None))
    assert {manifest.created for manifest in seen} == {expect_whole(dataset).created}


def test_what_was_decided_but_not_ended_is_ended_from_its_record(dataset: str, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(sealing._LocalPlace, "write", stop)
        patch.setattr(sealing._StorePlace, "write", stop)
        with pytest.raises(Stop):
            seal(dataset, attempt("first"), None, None)
    root = files.join(dataset, GENERATION)
    assert has_record(root, files.read_bytes(files.join(root, "manifest.json")))
    assert seal(dataset, attempt("second"), None, None).created == "first"
    assert expect_whole(dataset).created == "first"


@pytest.mark.parametrize("path", ["statistics/golden.json", "croissant.json"])
def test_without_a_record_it_is_ended_where_all_is_there_and_else_refused(dataset: str, path: str):
    root = files.join(dataset, GENERATION)
    seal(dataset, attempt("first"), None, None)
    files.remove(files.join(dataset, "_DATASET.json"))
    files.remove(files.join(root, "_work"))
    assert not has_record(root, files.read_bytes(files.join(root, "manifest.json")))
    assert seal(dataset, attempt("second"), None, None).created == "first"
    files.remove(files.join(dataset, "_DATASET.json"))
    files.remove(files.join(root, "_work"))
    files.remove(files.join(root, path))
    with pytest.raises(PenstockError, match=rf"found that it is not whole .*{path}.*; remove its manifest.json"):
        seal(dataset, attempt("third"), None, None)
    assert Pointer.read(dataset) is None


def test_a_damaged_manifest_is_made_again_and_by_one_attempt_only(dataset: str):
    root = files.join(dataset, GENERATION)
    seal(dataset, attempt("old"), None, None)
    pointer = Pointer.read(dataset)
    files.remove(files.join(root, "_work"))
    files.write_bytes(files.join(root, "manifest.json"), b"damaged")
    superseded = Pointer.to(GENERATION, b"damaged").sha256
    assert seal(dataset, attempt("new"), superseded, pointer).created == "new"
    assert seal(dataset, attempt("late"), superseded, pointer).created == "new"
    assert expect_whole(dataset).created == "new"


def test_the_loser_is_told_who_won_and_nothing_of_the_winner_is_touched(dataset: str):
    winner = seal(dataset, attempt("winner", "2" * 16), None, None)
    with pytest.raises(DatasetError, match=f"another run committed generation {'2' * 16} while this one was at work"):
        seal(dataset, attempt("loser"), None, None)
    assert Manifest.load(dataset) == winner
    assert not files.exists(files.join(dataset, GENERATION, "manifest.json"))


def test_units_that_came_out_otherwise_are_not_committed_under_another_attempts_manifest(dataset: str):
    seal(dataset, attempt("first"), None, None)
    files.remove(files.join(dataset, "_DATASET.json"))
    with pytest.raises(PenstockError, match=r"found that .*data/train-00000-of-00001.tfrecord came out otherwise"):
        seal(dataset, attempt("second", unit=b"other"), None, None)
    assert Pointer.read(dataset) is None


def test_a_slow_attempt_writes_nothing_over_what_was_made_again(monkeypatch: pytest.MonkeyPatch):
    """It decided on a manifest that another run has superseded since."""
    dataset = f"memory://sealing-{next(_NUMBERS)}/dataset"
    root = files.join(dataset, GENERATION)
    files.write_bytes(files.join(root, "data/train-00000-of-00001.tfrecord"), b"shard")
    write = sealing._StorePlace.write

    def overtaken(place: Any, path: str, content: bytes, decided: str) -> None:
        monkeypatch.setattr(sealing._StorePlace, "write", write)
        seal(dataset, attempt("faster"), decided, None)
        write(place, path, content, decided)

    monkeypatch.setattr(sealing._StorePlace, "write", overtaken)
    with pytest.raises(PenstockError, match="another run is making it again; wait for its end, then run again"):
        seal(dataset, attempt("slow"), None, None)
    assert expect_whole(dataset).created == "faster"
    with pytest.raises(DatasetError, match="committed generation"):
        publish(dataset, Pointer.to(GENERATION, attempt("slow").manifest.encode()), None)
