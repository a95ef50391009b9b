"""Which generations there are, and one of them by the beginning of its id."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from stored_datasets import manifest_content

from penstock.pipeline import DatasetError, NotCommittedError, RequestError
from penstock.pipeline.formats.generations import list_generations, load_generation
from penstock.pipeline.formats.pointer import Pointer
from penstock.pipeline.storage import files

FIRST, SECOND, THIRD, UNFINISHED = "a1" + "0" * 14, "a2" + "0" * 14, "b3" + "0" * 14, "c4" + "0" * 14
_NUMBERS = itertools.count()


def add(dataset: str, generation: str, day: int, **fields: Any) -> Pointer:
    """Makes a generation and points to it."""
    created = {"created": f"2026-11-{day:02d}T00:00:00+00:00"}
    encoded = json.dumps({**manifest_content(generation), "generation": generation, **created, **fields}).encode()
    pointer = Pointer.to(generation, encoded)
    files.write_bytes(files.join(dataset, generation, "manifest.json"), encoded)
    files.write_bytes(files.join(dataset, generation, "manifest.sha256"), pointer.manifest_sum())
    files.write_bytes(files.join(dataset, "_DATASET.json"), pointer.to_bytes())
    return pointer


@pytest.fixture(params=["local", "store"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Three generations, of which the second in time is current, and an unfinished one."""
    root = str(tmp_path) if request.param == "local" else f"memory://generations-{next(_NUMBERS)}/dataset"
    add(root, THIRD, 3)
    add(root, FIRST, 1)
    files.write_bytes(files.join(root, UNFINISHED, "manifest.json"), b"{}")
    files.write_bytes(files.join(root, UNFINISHED, "_work/plan.arrow"), b"")
    files.write_bytes(files.join(root, f"{'d' * 16}.hashes", "x"), b"")
    add(root, SECOND, 2)
    return root


def ids(dataset: str) -> list[tuple[str, bool]]:
    return [(each.id, each.is_current) for each in list_generations(dataset)]


def test_they_are_listed_by_their_time(dataset: str):
    assert ids(dataset) == [(THIRD, False), (SECOND, True), (FIRST, False)]


def test_a_lease_alone_is_no_unfinished_work(dataset: str):
    """Who looks after a finished generation on a store may be killed meanwhile."""
    files.write_bytes(files.join(dataset, FIRST, "_work/lease.json"), b"{}")
    assert len(ids(dataset)) == 3
    files.write_bytes(files.join(dataset, FIRST, "_work/run"), b"x")
    assert ids(dataset) == [(THIRD, False), (SECOND, True)]


def test_what_is_being_removed_is_none(dataset: str):
    current = Pointer.read(dataset)
    assert current
    marked = Pointer(current.generation, current.manifest, current.sha256, removing=(FIRST,))
    files.write_bytes(files.join(dataset, "_DATASET.json"), marked.to_bytes())
    assert ids(dataset) == [(THIRD, False), (SECOND, True)]
    with pytest.raises(RequestError, match="found 'a1'"):
        load_generation(dataset, "a1")


def test_a_damaged_manifest_is_told_and_hides_no_other(dataset: str):
    files.write_bytes(files.join(dataset, SECOND, "manifest.json"), b"{}")
    last = list_generations(dataset)[-1]
    assert (last.id, last.is_current, last.manifest) == (SECOND, True, None)
    assert "expected SHA-256" in last.fault
    with pytest.raises(DatasetError, match="expected SHA-256"):
        load_generation(dataset, None)
    assert load_generation(dataset, THIRD)[0].generation == THIRD


@pytest.mark.parametrize(("text", "generation"), [(None, SECOND), ("a1", FIRST), ("b", THIRD), (FIRST, FIRST)])
def test_the_beginning_of_an_id_is_enough_where_one_has_it(dataset: str, text: str | None, generation: str):
    manifest, pointer = load_generation(dataset, text)
    assert manifest.generation == pointer.generation == generation
    assert Pointer.to(generation, files.read_bytes(files.join(dataset, pointer.manifest))) == pointer


@pytest.mark.parametrize(("text", "count"), [("a", 2), ("", 0), ("e", 0), (UNFINISHED, 0), ("../a1", 0), ("*", 0)])
def test_what_names_none_or_several_is_refused_with_those_that_are_there(dataset: str, text: str, count: int):
    with pytest.raises(RequestError) as raised:
        load_generation(dataset, text)
    assert f"found {text!r}, which {count} have; there are" in str(raised.value)
    assert f"{FIRST}, {SECOND} (current), {THIRD}" in str(raised.value)


def test_without_a_pointer_there_is_no_dataset(dataset: str):
    files.remove(files.join(dataset, "_DATASET.json"))
    for action in (lambda: list_generations(dataset), lambda: load_generation(dataset, FIRST)):
        with pytest.raises(NotCommittedError):
            action()
