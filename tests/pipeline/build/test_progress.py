"""How far workers are, told by each in a file of its own."""

import itertools
from pathlib import Path

import pytest

from penstock.pipeline.build import progress
from penstock.pipeline.build.progress import ProgressWriter, read_progress
from penstock.pipeline.storage import stores

_NUMBERS = itertools.count()


@pytest.fixture(params=["local", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "p") if request.param == "local" else f"memory://progress-{next(_NUMBERS)}/p"


def test_all_workers_are_added_up_and_two_attempts_at_a_unit_count_once(folder: str, monkeypatch: pytest.MonkeyPatch):
    assert read_progress(folder) == (0, 0)
    for name in ("_INTERVAL", "_SHARE"):
        monkeypatch.setattr(progress, name, 0)
    first, second = ProgressWriter(folder), ProgressWriter(folder)
    first.tell(0, 10, 1)
    second.tell(1, 5, 0)
    assert read_progress(folder) == (15, 1)
    second.tell(1, 9, 2)
    second.tell(0, 7, 0)  # of the same unit as the first worker's, and not as far
    assert read_progress(folder) == (19, 3)


def test_little_is_written_and_all_of_it_at_the_end(folder: str):
    writer = ProgressWriter(folder)
    before = stores.COUNTS.snapshot()
    for read in range(100):
        writer.tell(read, 2, 1)
    assert read_progress(folder) == (2, 1)
    writer.flush()
    writer.flush()
    assert read_progress(folder) == (200, 100)
    puts = stores.COUNTS.snapshot().get("put", 0) - before.get("put", 0)
    assert puts == (2 if folder.startswith("memory") else 0)


def test_where_nobody_looks_nothing_is_written(tmp_path: Path):
    writer = ProgressWriter(None)
    writer.tell(0, 1, 0)
    writer.flush()
    assert list(tmp_path.iterdir()) == []
