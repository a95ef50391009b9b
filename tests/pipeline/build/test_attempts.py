"""Marks of attempts tell a unit that may have killed its worker from all others."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.pipeline.build.attempts import Attempts
from penstock.pipeline.build.journal import FinishedUnits
from penstock.pipeline.formats import paths
from penstock.pipeline.storage import files, stores
from penstock.pipeline.storage.leases import Owner

_NUMBERS = itertools.count()


@pytest.fixture(params=["memory", "local"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://marks-{next(_NUMBERS)}/generation"


def leave(root: str, unit: int, process: int = 4_000_000, run: str = "this run") -> None:
    """A mark of a process that is no more."""
    owner = replace(Owner.this_process(run), process=process)
    files.write_bytes(files.join(root, paths.attempt(unit)), owner.encode())


def attempts(root: str) -> Attempts:
    return Attempts(root, "this run", FinishedUnits(root))


def is_suspect(worker: Attempts, unit: int) -> bool:
    with worker.begin(paths.attempt(unit)) as suspect:
        return suspect


def test_a_unit_that_nobody_began_is_trusted_and_so_is_one_of_this_process(root: str) -> None:
    files.write_bytes(files.join(root, paths.RUN), b"this run")
    worker = attempts(root)
    assert [is_suspect(worker, unit) for unit in (0, 1, 0)] == [False, False, False]
    assert not is_suspect(attempts(root), 0)  # the engine's second attempt in this process
    assert FinishedUnits(root).has_file(paths.attempt(0))


@pytest.mark.parametrize("seen", [True, False])
def test_a_unit_that_another_process_began_is_not(root: str, seen: bool) -> None:
    """Whether its mark was there when the worker began, or came later."""
    files.write_bytes(files.join(root, paths.RUN), b"this run")
    if seen:
        leave(root, 3)
    worker = attempts(root)
    if not seen:
        leave(root, 3)
    assert [is_suspect(worker, unit) for unit in (2, 3, 4)] == [False, True, False]


def test_after_two_deaths_no_unit_is_trusted(root: str) -> None:
    leave(root, 3)
    leave(root, 4)  # in the same process: that died once
    worker = attempts(root)
    assert [is_suspect(worker, unit) for unit in (3, 4, 5)] == [True, True, False]
    leave(root, 6, 4_000_001)
    assert [is_suspect(worker, unit) for unit in (7, 6, 8)] == [False, True, True]
    assert is_suspect(attempts(root), 9)  # another worker


def test_the_end_of_an_earlier_run_is_one_death_however_many_processes_it_took(root: str) -> None:
    for unit in range(5):
        leave(root, unit, 4_000_000 + unit, "earlier")
    worker = attempts(root)
    assert [is_suspect(worker, unit) for unit in range(7)] == [True] * 5 + [False] * 2
    leave(root, 7, 4_000_009, "another")
    assert [is_suspect(worker, unit) for unit in (7, 8)] == [True, True]


def test_an_attempt_that_fails_in_words_leaves_no_suspicion(root: str) -> None:
    worker = attempts_of_nothing(root)
    with pytest.raises(OSError, match="full"), worker.begin(paths.attempt(1)):
        raise OSError("the disk is full")
    assert not files.exists(files.join(root, paths.attempt(1)))


def attempts_of_nothing(root: str) -> Attempts:
    files.write_bytes(files.join(root, paths.RUN), b"this run")
    return attempts(root)


def test_a_mark_that_nobody_can_read_is_one(root: str) -> None:
    files.write_bytes(files.join(root, paths.attempt(1)), b"\xff{")
    assert is_suspect(attempts(root), 1)


def test_a_mark_costs_one_request() -> None:
    root = f"memory://marks-{next(_NUMBERS)}/generation"
    worker = attempts_of_nothing(root)
    before = stores.COUNTS.snapshot()
    assert not is_suspect(worker, 0)
    after = stores.COUNTS.snapshot()
    assert {kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)} == {
        "put": 1
    }


def test_a_store_that_ignores_conditions_still_shows_marks_that_were_there(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(root, 1)
    worker = attempts(root)
    create: Callable[..., Any] = files.write_bytes
    monkeypatch.setattr(files, "create_exclusive", create)
    assert [is_suspect(worker, unit) for unit in (1, 2)] == [True, False]


def test_a_mark_says_whose_it_is(root: str) -> None:
    worker = attempts_of_nothing(root)
    with worker.begin(paths.attempt(0)):
        mark = json.loads(files.read_bytes(files.join(root, paths.attempt(0))))
    assert mark["run"] == "this run"
    assert mark["host"]
