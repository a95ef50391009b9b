"""The pointer on a disk and on a store: of several who publish, one wins, and the others are told who."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.pipeline import DatasetError
from penstock.pipeline.formats.pointer import Pointer, mark_removing, publish
from penstock.pipeline.storage import files

_NUMBERS = itertools.count()
OLD, NEW, OTHER = (Pointer.to(digit * 16, digit.encode()) for digit in "123")


@pytest.fixture(params=["local", "store"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else remote()


def remote() -> str:
    return f"memory://pointer-{next(_NUMBERS)}/dataset"


def test_it_is_created_and_replaced(dataset: str):
    assert Pointer.read(dataset) is None
    publish(dataset, OLD, None)
    assert Pointer.read(dataset) == OLD
    publish(dataset, NEW, OLD)
    publish(dataset, NEW, OLD)  # again: it is there already
    assert Pointer.read(dataset) == NEW


@pytest.mark.parametrize("seen", [None, OTHER])
def test_who_saw_another_pointer_is_told_who_won(dataset: str, seen: Pointer | None):
    publish(dataset, OLD, None)
    with pytest.raises(DatasetError, match=f"another run committed generation {OLD.generation} while this one"):
        publish(dataset, NEW, seen)
    assert Pointer.read(dataset) == OLD


def test_a_pointer_that_is_gone_is_not_written_again(dataset: str):
    with pytest.raises(DatasetError, match="committed generation none"):
        publish(dataset, NEW, OLD)
    assert Pointer.read(dataset) is None


@pytest.mark.parametrize("before", [None, OLD])
def test_of_many_that_publish_one_wins(dataset: str, before: Pointer | None):
    if before:
        publish(dataset, before, None)
    barrier, told, won = threading.Barrier(8), [], []

    def work(digit: str) -> None:
        pointer = Pointer.to(digit * 16, digit.encode())
        barrier.wait()
        try:
            publish(dataset, pointer, before)
            won.append(pointer)
        except DatasetError as error:
            told.append(str(error))

    threads = [threading.Thread(target=work, args=(digit,)) for digit in "456789ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [Pointer.read(dataset)] == won
    assert len(told) == 7
    assert all(won[0].generation in words for words in told)


def interleave(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], None]) -> None:
    """Lets something happen just before the first call of a function of `files`."""
    function = getattr(files, name)

    def call(*arguments: Any) -> Any:
        monkeypatch.setattr(files, name, function)
        action()
        return function(*arguments)

    monkeypatch.setattr(files, name, call)


def test_what_is_published_between_the_look_and_the_write_is_not_lost(monkeypatch: pytest.MonkeyPatch):
    dataset = remote()
    interleave(monkeypatch, "create_exclusive", lambda: publish(dataset, OTHER, None))
    with pytest.raises(DatasetError, match=OTHER.generation):
        publish(dataset, NEW, None)
    interleave(monkeypatch, "replace_exactly", lambda: publish(dataset, OLD, OTHER))
    with pytest.raises(DatasetError, match=OLD.generation):
        publish(dataset, NEW, OTHER)
    assert Pointer.read(dataset) == OLD


def test_what_is_being_removed_cannot_become_current(monkeypatch: pytest.MonkeyPatch):
    dataset = remote()
    publish(dataset, OLD, None)
    interleave(monkeypatch, "replace_exactly", lambda: mark_removing(dataset, [NEW.generation]))
    with pytest.raises(
        DatasetError, match=f"{NEW.generation}: expected a generation that stays, found `penstock prune`"
    ):
        publish(dataset, NEW, OLD)
    publish(dataset, OTHER, OLD)
    current = Pointer.read(dataset)
    assert current == OTHER
    assert current.removing == (NEW.generation,)  # the next pointer still says so
    mark_removing(dataset, [], [NEW.generation])
    publish(dataset, NEW, OTHER)


def test_what_is_current_by_now_is_not_removed(monkeypatch: pytest.MonkeyPatch):
    dataset = remote()
    publish(dataset, OLD, None)
    interleave(monkeypatch, "replace_exactly", lambda: publish(dataset, NEW, OLD))
    with pytest.raises(DatasetError, match=f"that are not current, found {NEW.generation}"):
        mark_removing(dataset, [NEW.generation])
    mark_removing(dataset, [OLD.generation])
    mark_removing(dataset, [OTHER.generation])  # by another `prune`
    current = Pointer.read(dataset)
    assert current
    assert current.removing == (OLD.generation, OTHER.generation)


def test_a_store_that_cannot_be_read_is_not_a_damaged_pointer(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> bytes:
        raise PermissionError("s3://b/d/_DATASET.json: refused")

    monkeypatch.setattr(files, "read_bytes", fail)
    with pytest.raises(DatasetError, match=r"expected a dataset that can be read, found: s3://.*: refused$"):
        Pointer.read("s3://b/d")
