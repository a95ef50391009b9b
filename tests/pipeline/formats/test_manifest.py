import copy
import hashlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from stored_datasets import manifest_content

from penstock.pipeline import DatasetError, NotCommittedError
from penstock.pipeline.formats.damage import find_damage
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.formats.pointer import Pointer, publish

GENERATIONS = [f"{number:016x}" for number in range(4)]


def entry(name: str, **fields: object) -> dict[str, object]:
    return {"path": f"{GENERATIONS[0]}/{name}", **fields, "bytes": 3, "sha256": "a" * 64}


FULL = {  # a manifest with every kind of file in it
    "written": 5,
    "filtered": 1,
    "quarantined": 2,
    "read": 8,
    "reasons": {
        "filtered": {"small": 1},
        "quarantined": {"truncated": 2},
        "examples": {"filtered": {"small": "1.png"}, "quarantined": {"truncated": "2.png: expected more"}},
    },
    "quarantine": [entry("lines", lines=2)],
    "filtered_lists": [entry("filtered", lines=1)],
    "splits": {
        "train": {
            "examples": 5,
            "shards": [
                {**entry("shard", examples=2), "index": entry("index", examples=2)},
                {**entry("alone", examples=3), "index": None},
            ],
        }
    },
    "transform_graph": {
        "path": f"{GENERATIONS[0]}/transform_graph",
        "sha256": "b" * 64,
        "files": [entry("graph")],
        "outputs": {"image": {"dtype": "float32"}},
        "golden": entry("golden"),
    },
    "statistics": {**entry("statistics"), "split": "train", "values": entry("values")},
    "duplicates": {
        "groups": 1,
        "across_splits": 0,
        "shared": {},
        "contradicting": 0,
        "examples": [{"sha256": "c"}],
        "file": entry("duplicates"),
    },
}


def make(dataset: Path, generation: str, **fields: object) -> tuple[Pointer, Manifest]:
    content = manifest_content(generation, **fields)
    encoded = json.dumps(content).encode()
    (dataset / generation).mkdir(parents=True, exist_ok=True)
    (dataset / generation / "manifest.json").write_bytes(encoded)
    return Pointer.to(generation, encoded), Manifest.from_json({**content, "format": 1})


def test_what_was_published_is_read(tmp_path: Path):
    first, content = make(tmp_path, GENERATIONS[0], created="then")
    publish(str(tmp_path), first, None)
    assert Manifest.load(str(tmp_path)) == content
    assert json.loads((tmp_path / "_DATASET.json").read_text()) == {
        "format": 1,
        "generation": GENERATIONS[0],
        "manifest": f"{GENERATIONS[0]}/manifest.json",
        "sha256": hashlib.sha256((tmp_path / GENERATIONS[0] / "manifest.json").read_bytes()).hexdigest(),
    }
    second, content = make(tmp_path, GENERATIONS[1], created="now")
    publish(str(tmp_path), second, first)
    assert Manifest.load(str(tmp_path)) == content
    publish(str(tmp_path), second, first)  # a retry of what succeeded
    assert Pointer.read(str(tmp_path)) == second


def test_of_two_that_commit_at_once_the_second_fails_and_the_first_stays(tmp_path: Path):
    winner, content = make(tmp_path, GENERATIONS[0])
    loser, _ = make(tmp_path, GENERATIONS[1])
    publish(str(tmp_path), winner, None)
    with pytest.raises(DatasetError, match=f"another run committed generation {GENERATIONS[0]} .* run again"):
        publish(str(tmp_path), loser, None)
    assert Manifest.load(str(tmp_path)) == content
    third, content = make(tmp_path, GENERATIONS[2])
    publish(str(tmp_path), third, winner)
    with pytest.raises(DatasetError, match="another run committed"):
        publish(str(tmp_path), loser, winner)
    assert Manifest.load(str(tmp_path)) == content


def test_of_many_that_commit_at_once_exactly_one_wins(tmp_path: Path):
    for attempt in range(20):
        dataset = tmp_path / str(attempt)
        pointers = [make(dataset, generation)[0] for generation in GENERATIONS]
        barrier, outcomes = threading.Barrier(len(pointers)), []

        def commit(pointer: Pointer, dataset=dataset, barrier=barrier, outcomes=outcomes) -> None:
            barrier.wait()
            try:
                publish(str(dataset), pointer, None)
                outcomes.append(pointer)
            except DatasetError:
                outcomes.append(None)

        threads = [threading.Thread(target=commit, args=(pointer,)) for pointer in pointers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [outcome for outcome in outcomes if outcome]
        assert Pointer.read(str(dataset)) == winner
        assert sorted(path.name for path in dataset.iterdir()) == sorted([*GENERATIONS, "_DATASET.json"])


def test_what_is_not_committed_says_so(tmp_path: Path):
    with pytest.raises(NotCommittedError, match="found nothing there; check the path"):
        Manifest.load(str(tmp_path / "none"))
    make(tmp_path, GENERATIONS[0])
    with pytest.raises(NotCommittedError, match=r"is not committed.*run the recipe again"):
        Manifest.load(str(tmp_path))


def test_a_leftover_of_a_killed_commit_is_no_pointer_and_goes(tmp_path: Path):
    pointer, _ = make(tmp_path, GENERATIONS[0])
    (tmp_path / f"_DATASET.json.{'0' * 32}.tmp").write_bytes(pointer.to_bytes())
    with pytest.raises(NotCommittedError):
        Manifest.load(str(tmp_path))
    publish(str(tmp_path), pointer, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [GENERATIONS[0], "_DATASET.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"format": 1}',
        '{"format": 1, "generation": "0000000000000000", "manifest": "../elsewhere/manifest.json", "sha256": "0"}',
        '{"format": 1, "generation": "../elsewhere", "manifest": "x/manifest.json", "sha256": "0"}',
        '{"format": 1, "generation": "0000000000000000", "manifest": "x/manifest.json", "sha256": 0}',
        '{"format": "one", "generation": "x", "manifest": "x/manifest.json", "sha256": "0"}',
    ],
)
def test_a_damaged_pointer_is_named(tmp_path: Path, content: str):
    (tmp_path / "_DATASET.json").write_text(content)
    with pytest.raises(DatasetError, match=r"_DATASET.json: expected a pointer to a generation"):
        Manifest.load(str(tmp_path))


def test_a_newer_format_asks_for_a_newer_penstock(tmp_path: Path):
    pointer, _ = make(tmp_path, GENERATIONS[0])
    publish(str(tmp_path), pointer, None)
    entry = json.loads((tmp_path / "_DATASET.json").read_text())
    (tmp_path / "_DATASET.json").write_text(json.dumps({**entry, "format": 2}))
    with pytest.raises(DatasetError, match="expected format 1 or older, found 2; install a newer penstock"):
        Manifest.load(str(tmp_path))
    pointer, _ = make(tmp_path, GENERATIONS[0], format=99)
    (tmp_path / "_DATASET.json").write_bytes(pointer.to_bytes())
    with pytest.raises(DatasetError, match="found 99; install a newer penstock"):
        Manifest.load(str(tmp_path))


def test_a_manifest_that_is_missing_or_changed_is_named(tmp_path: Path):
    pointer, _ = make(tmp_path, GENERATIONS[0], created="then")
    publish(str(tmp_path), pointer, None)
    make(tmp_path, GENERATIONS[0], created="now")
    with pytest.raises(DatasetError, match=r"expected SHA-256 .*it was changed; run the recipe again"):
        Manifest.load(str(tmp_path))
    (tmp_path / GENERATIONS[0] / "manifest.json").unlink()
    with pytest.raises(DatasetError, match=r"expected a manifest, found: .*No such file"):
        Manifest.load(str(tmp_path))


def test_no_character_of_a_pointer_changes_without_notice(tmp_path: Path):
    pointer, manifest = make(tmp_path, GENERATIONS[0])
    publish(str(tmp_path), pointer, None)
    path = tmp_path / "_DATASET.json"
    content = path.read_bytes()
    for position in range(len(content)):
        for bit in range(7):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            try:
                assert Manifest.load(str(tmp_path)) == manifest
                assert Pointer.read(str(tmp_path)) == pointer  # a blank became another
            except DatasetError:
                continue


def test_a_pointer_to_another_generations_manifest_is_refused(tmp_path: Path):
    make(tmp_path, GENERATIONS[0])
    pointer, _ = make(tmp_path, GENERATIONS[1])
    entry = json.loads(pointer.to_bytes())
    (tmp_path / "_DATASET.json").write_text(json.dumps({**entry, "generation": GENERATIONS[0]}))
    with pytest.raises(DatasetError, match=rf"key manifest: expected the generation's, {GENERATIONS[0]}/manifest.json"):
        Manifest.load(str(tmp_path))
    encoded = (tmp_path / GENERATIONS[1] / "manifest.json").read_bytes()
    (tmp_path / GENERATIONS[0] / "manifest.json").write_bytes(encoded)
    (tmp_path / "_DATASET.json").write_bytes(Pointer.to(GENERATIONS[0], encoded).to_bytes())
    with pytest.raises(DatasetError, match=f"expected generation {GENERATIONS[0]}, found {GENERATIONS[1]}"):
        Manifest.load(str(tmp_path))


def test_a_generation_is_known_by_the_checksum_beside_its_manifest(tmp_path: Path):
    manifest = Manifest.from_json(manifest_content(GENERATIONS[0]))
    (tmp_path / GENERATIONS[0]).mkdir()
    (tmp_path / GENERATIONS[0] / "manifest.json").write_bytes(manifest.encode())
    pointer = Pointer.to(GENERATIONS[0], manifest.encode())
    pointer.write_sum(str(tmp_path))
    assert Manifest.read_generation(str(tmp_path), GENERATIONS[0]) == (manifest, pointer)
    path = tmp_path / GENERATIONS[0] / "manifest.sha256"
    content = (tmp_path / GENERATIONS[0] / "manifest.json").read_bytes()
    assert path.read_text() == f"{hashlib.sha256(content).hexdigest()}  manifest.json\n"
    for wrong in (path.read_bytes()[:-1], b"", path.read_bytes().replace(b"  ", b" *")):
        path.write_bytes(wrong)
        with pytest.raises(DatasetError, match=r"manifest.json: expected the SHA-256 in .*; run the recipe again"):
            Manifest.read_generation(str(tmp_path), GENERATIONS[0])


def test_damage_is_found_by_size(tmp_path: Path):
    manifest = Manifest.from_json(manifest_content(GENERATIONS[0], **FULL))
    assert find_damage(str(tmp_path), manifest).keys() == {file.path for file in manifest.files()}
    for file in manifest.files():
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_bytes(b"abc")
    assert find_damage(str(tmp_path), manifest) == {}
    shard, index = tmp_path / GENERATIONS[0] / "shard", tmp_path / GENERATIONS[0] / "index"
    shard.write_bytes(b"ab")
    index.unlink()
    os.mkfifo(index)
    assert find_damage(str(tmp_path), manifest) == {
        f"{GENERATIONS[0]}/shard": f"{shard}: expected 3 bytes, found 2",
        f"{GENERATIONS[0]}/index": f"{index}: the file cannot be read: {index}: expected a regular file, found a pipe; "
        "remove it",
    }


def test_a_manifest_is_read_back_as_it_was_written():
    content = manifest_content(GENERATIONS[0], **FULL)
    manifest = Manifest.from_json(content)
    assert manifest.to_json() == content
    assert Manifest.decode(manifest.encode(), "manifest.json") == manifest


def test_every_listed_file_comes_once():
    paths = [file.path for file in Manifest.from_json(manifest_content(GENERATIONS[0], **FULL)).files()]
    names = ("shard", "index", "alone", "lines", "filtered", "graph", "golden", "statistics", "values", "duplicates")
    assert paths == [f"{GENERATIONS[0]}/{name}" for name in names]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("written", None, "key written: expected a whole number from 0, found None"),
        ("written", -1, "key written: expected a whole number from 0, found -1"),
        ("written", True, "key written: expected a whole number from 0, found True"),
        ("written", 1.0, "key written: expected a whole number from 0, found 1.0"),
        ("created", 3, "key created: expected a string, found 3"),
        ("generation", "../x", "key generation: expected 16 hexadecimal digits, found '../x'"),
        ("warnings", [1], "key warnings: expected a list of strings, found [1]"),
        ("splits", [], "key splits: expected a JSON object, found []"),
        ("splits.train.shards.0.examples", -1, "key splits.train.shards[0].examples: expected a whole number"),
        ("splits.train.shards.0.path", "../x", "key splits.train.shards[0].path: expected a relative path"),
        ("splits.train.shards.0.index.path", "/x", "key splits.train.shards[0].index.path: expected a relative path"),
        ("splits.train.shards.0.index", 0, "key splits.train.shards[0].index: expected a JSON object, found 0"),
        (
            "quarantine.0.path",
            "a/../../x",
            "key quarantine[0].path: expected a relative path that stays in the dataset",
        ),
        ("statistics.path", "s3://bucket/x", "key statistics.path: expected a relative path"),
        ("statistics.values.path", "a//b", "key statistics.values.path: expected a relative path"),
        ("transform_graph.path", "", "key transform_graph.path: expected a relative path"),
        ("transform_graph.outputs.image", "float32", "key transform_graph.outputs.image: expected a JSON object"),
        ("features.row.shape", [-1], "key features.row.shape: expected a list of whole numbers"),
        ("features.row.optional", 1, "key features.row.optional: expected true or false, found 1"),
        ("reasons.filtered", {"why": "x"}, "key reasons.filtered.why: expected a whole number"),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path: Path, key: str, value: object, message: str):
    content = copy.deepcopy(manifest_content(GENERATIONS[0], **FULL))
    *outer, last = (int(name) if name.isdigit() else name for name in key.split("."))
    target: Any = content
    for name in outer:
        target = target[name]
    target[last] = value
    uri = write_and_publish(tmp_path, content)
    with pytest.raises(
        DatasetError, match=f"^{re.escape(f'{uri}: expected a manifest as this penstock writes it: {message}')}"
    ):
        Manifest.load(str(tmp_path))


@pytest.mark.parametrize("key", [*manifest_content("0"), "transform_graph.golden", "statistics.split", "recipe.hash"])
def test_a_field_that_is_missing_is_named(tmp_path: Path, key: str):
    content = copy.deepcopy(manifest_content(GENERATIONS[0], **FULL))
    outer, _, last = key.rpartition(".")
    (content[outer] if outer else content).pop(last)
    uri = write_and_publish(tmp_path, content)
    with pytest.raises(
        DatasetError, match=re.escape(f"{uri}: ") + rf".*key {re.escape(key)}: expected a value, found none"
    ):
        Manifest.load(str(tmp_path))


@pytest.mark.parametrize("content", ["[]", "3", "null", "{"])
def test_what_is_no_object_is_no_manifest(content: str):
    with pytest.raises(DatasetError, match=r"^x/manifest.json: expected a manifest as this penstock writes it"):
        Manifest.decode(content.encode(), "x/manifest.json")


def write_and_publish(dataset: Path, content: object) -> Path:
    file = dataset / GENERATIONS[0] / "manifest.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    publish(str(dataset), Pointer.to(GENERATIONS[0], file.read_bytes()), None)
    return file
