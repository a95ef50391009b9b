"""How far workers are, told by each in a file of its own."""

import itertools
from pathlib import Path

import pytest

from penstock.pipeline.build import progress
from penstock.pipeline.build.progress import Progress, ProgressReader, ProgressWriter
from penstock.pipeline.storage import files, stores

_NUMBERS = itertools.count()


@pytest.fixture(params=["local", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "p") if request.param == "local" else f"memory://progress-{next(_NUMBERS)}/p"


@pytest.fixture
def store() -> str:
    return f"memory://progress-{next(_NUMBERS)}/p"


def requests(before: dict[str, int]) -> dict[str, int]:
    """How many requests of each kind were made since some were counted."""
    now = stores.COUNTS.snapshot()
    return {kind: now[kind] - before.get(kind, 0) for kind in now if now[kind] != before.get(kind, 0)}


def test_all_workers_are_added_up_and_two_attempts_at_a_unit_count_once(folder: str, monkeypatch: pytest.MonkeyPatch):
    reader = ProgressReader(folder)
    assert reader.look() == Progress()
    for name in ("_INTERVAL", "_STORE_INTERVAL", "_SHARE"):
        monkeypatch.setattr(progress, name, 0)
    first, second = ProgressWriter(folder), ProgressWriter(folder)
    first.tell(0, Progress(10, 1))
    second.tell(1, Progress(5, 0))
    assert reader.look() == Progress(15, 1)
    second.tell(1, Progress(9, 2, 7, 700))
    second.tell(0, Progress(7, 0))  # of the same unit as the first worker's, and not as far
    assert reader.look() == Progress(19, 3, 7, 700) == ProgressReader(folder).look()


def test_little_is_written_and_all_of_it_at_the_end(folder: str):
    writer, reader = ProgressWriter(folder), ProgressReader(folder)
    before = stores.COUNTS.snapshot()
    for number in range(100):
        writer.tell(number, Progress(2, 1))
    assert reader.look() == Progress(2, 1)
    writer.end_bundle()
    assert reader.look() == (Progress(200, 100) if files.is_local(folder) else Progress(2, 1))
    writer.flush()
    writer.flush()
    assert reader.look() == Progress(200, 100)
    assert requests(before).get("put", 0) == (0 if files.is_local(folder) else 2)


def test_a_look_asks_for_what_is_new(store: str):
    writers, reader = [ProgressWriter(store) for _ in range(5)], ProgressReader(store)
    for number, writer in enumerate(writers):
        writer.tell(number, Progress(1))
    for changed in (5, 0, 1):
        for writer in writers[:changed]:
            writer.tell(9, Progress(changed))
            writer.flush()
        before = stores.COUNTS.snapshot()
        reader.look()
        assert requests(before) == {"list": 1} | ({"get": changed} if changed else {})


def test_a_run_goes_on_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    writer = ProgressWriter(str(tmp_path / "file" / "p"))
    writer.tell(0, Progress(1))
    writer.flush()


def test_where_nobody_looks_nothing_is_written(tmp_path: Path):
    writer = ProgressWriter(None)
    writer.tell(0, Progress(1))
    writer.end_bundle()
    writer.flush()
    assert list(tmp_path.iterdir()) == []
