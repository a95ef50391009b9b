import hashlib
import json
import threading
from pathlib import Path

import pytest

from penstock.pipeline import DatasetError, NotCommittedError
from penstock.pipeline.formats import manifest
from penstock.pipeline.formats.manifest import Pointer

GENERATIONS = [f"{number:016x}" for number in range(4)]


def make(dataset: Path, generation: str, **fields: object) -> tuple[Pointer, dict[str, object]]:
    content = {"format": 1, "generation": generation, **fields}
    encoded = manifest.encode(content)
    (dataset / generation).mkdir(parents=True, exist_ok=True)
    (dataset / generation / "manifest.json").write_bytes(encoded)
    return Pointer.to(generation, encoded), content


def test_what_was_published_is_read(tmp_path: Path):
    first, content = make(tmp_path, GENERATIONS[0], x=1)
    manifest.publish(str(tmp_path), first, None)
    assert manifest.read(str(tmp_path)) == content
    assert json.loads((tmp_path / "_DATASET.json").read_text()) == {
        "format": 1,
        "generation": GENERATIONS[0],
        "manifest": f"{GENERATIONS[0]}/manifest.json",
        "sha256": hashlib.sha256((tmp_path / GENERATIONS[0] / "manifest.json").read_bytes()).hexdigest(),
    }
    second, content = make(tmp_path, GENERATIONS[1], x=2)
    manifest.publish(str(tmp_path), second, first)
    assert manifest.read(str(tmp_path)) == content
    manifest.publish(str(tmp_path), second, first)  # a retry of what succeeded
    assert Pointer.read(str(tmp_path)) == second


def test_of_two_that_commit_at_once_the_second_fails_and_the_first_stays(tmp_path: Path):
    winner, content = make(tmp_path, GENERATIONS[0])
    loser, _ = make(tmp_path, GENERATIONS[1])
    manifest.publish(str(tmp_path), winner, None)
    with pytest.raises(DatasetError, match=f"another run committed generation {GENERATIONS[0]} .* run again"):
        manifest.publish(str(tmp_path), loser, None)
    assert manifest.read(str(tmp_path)) == content
    third, content = make(tmp_path, GENERATIONS[2])
    manifest.publish(str(tmp_path), third, winner)
    with pytest.raises(DatasetError, match="another run committed"):
        manifest.publish(str(tmp_path), loser, winner)
    assert manifest.read(str(tmp_path)) == content


def test_of_many_that_commit_at_once_exactly_one_wins(tmp_path: Path):
    for attempt in range(20):
        dataset = tmp_path / str(attempt)
        pointers = [make(dataset, generation)[0] for generation in GENERATIONS]
        barrier, outcomes = threading.Barrier(len(pointers)), []

        def commit(pointer: Pointer, dataset=dataset, barrier=barrier, outcomes=outcomes) -> None:
            barrier.wait()
            try:
                manifest.publish(str(dataset), pointer, None)
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
        manifest.read(str(tmp_path / "none"))
    make(tmp_path, GENERATIONS[0])
    with pytest.raises(NotCommittedError, match=r"is not committed.*run the recipe again"):
        manifest.read(str(tmp_path))


def test_a_leftover_of_a_killed_commit_is_no_pointer_and_goes(tmp_path: Path):
    pointer, _ = make(tmp_path, GENERATIONS[0])
    (tmp_path / f"_DATASET.json.{'0' * 32}.tmp").write_bytes(pointer.to_bytes())
    with pytest.raises(NotCommittedError):
        manifest.read(str(tmp_path))
    manifest.publish(str(tmp_path), pointer, None)
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
        '{"format": "one", "generation": "x", "manifest": "x/manifest.json", "sha256": "0"}',
    ],
)
def test_a_damaged_pointer_is_named(tmp_path: Path, content: str):
    (tmp_path / "_DATASET.json").write_text(content)
    with pytest.raises(DatasetError, match=r"_DATASET.json: expected a pointer to a generation"):
        manifest.read(str(tmp_path))


def test_a_newer_format_asks_for_a_newer_penstock(tmp_path: Path):
    pointer, _ = make(tmp_path, GENERATIONS[0])
    manifest.publish(str(tmp_path), pointer, None)
    entry = json.loads((tmp_path / "_DATASET.json").read_text())
    (tmp_path / "_DATASET.json").write_text(json.dumps({**entry, "format": 2}))
    with pytest.raises(DatasetError, match="expected format 1 or older, found 2; install a newer penstock"):
        manifest.read(str(tmp_path))
    pointer, _ = make(tmp_path, GENERATIONS[0], format=99)
    (tmp_path / "_DATASET.json").write_bytes(pointer.to_bytes())
    with pytest.raises(DatasetError, match="found 99; install a newer penstock"):
        manifest.read(str(tmp_path))


def test_a_manifest_that_is_missing_or_changed_is_named(tmp_path: Path):
    pointer, _ = make(tmp_path, GENERATIONS[0], x=1)
    manifest.publish(str(tmp_path), pointer, None)
    make(tmp_path, GENERATIONS[0], x=2)
    with pytest.raises(DatasetError, match=r"expected SHA-256 .*the manifest was changed"):
        manifest.read(str(tmp_path))
    (tmp_path / GENERATIONS[0] / "manifest.json").unlink()
    with pytest.raises(DatasetError, match="expected the manifest that the pointer names, found none"):
        manifest.read(str(tmp_path))
