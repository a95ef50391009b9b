"""The cache of blocks: its size is never exceeded, processes share it, and one that is killed leaves no harm."""

import fcntl
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from penstock.pipeline import RequestError
from penstock.pipeline.load import block_cache
from penstock.pipeline.load.block_cache import BlockCache, Demand

BLOCK = 1 << 14
LIMIT = 20 * (BLOCK + 256) + 20_000  # twenty blocks, and what the folder itself takes


def _content(file: int, blocks: int = 8) -> bytes:
    return b"".join(hashlib.sha256(b"%d %d" % (file, row)).digest() for row in range(blocks * BLOCK // 32))


def _sha256(file: int) -> str:
    return hashlib.sha256(_content(file)).hexdigest()


def _fill(cache: BlockCache, file: int, numbers: list[int], demand: Demand | None = None) -> bytes:
    """Some neighbouring blocks of a file, as a reader asks for them that are not in the cache."""
    content, sizes = _content(file), [BLOCK] * len(numbers)
    names = [(_sha256(file), number) for number in numbers]
    first = numbers[0] * BLOCK
    return cache.fill(
        names, sizes, (0, sum(sizes)), lambda start, stop: content[first + start : first + stop], demand or Demand()
    )


def _cached(cache: BlockCache, file: int, number: int) -> bytes | None:
    return cache.read((_sha256(file), number), BLOCK, 0, BLOCK)


def _taken(cache: BlockCache) -> int:
    """What the folder and its files take, as `du` counts them, while none is made or removed."""
    taken = {}
    with cache._locked():
        for path in [cache.folder, *(entry.path for entry in os.scandir(cache.folder))]:
            with suppress(FileNotFoundError):
                status = os.stat(path)
                taken[status.st_ino] = max(status.st_size, status.st_blocks * 512)
    return sum(taken.values())


@contextmanager
def _watched(cache: BlockCache) -> Iterator[list[int]]:
    """The most that a cache took while the block ran."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            most[0] = max(most[0], _taken(cache))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(str(tmp_path / "cache"), LIMIT, BLOCK)


def test_blocks_are_kept_and_given_in_parts(cache: BlockCache) -> None:
    assert _cached(cache, 0, 1) is None
    assert _fill(cache, 0, [1, 2]) == _content(0)[BLOCK : 3 * BLOCK]
    assert _cached(cache, 0, 1) == _content(0)[BLOCK : 2 * BLOCK]
    assert cache.read((_sha256(0), 2), BLOCK, 10, 20) == _content(0)[2 * BLOCK + 10 : 2 * BLOCK + 20]
    assert _cached(cache, 1, 1) is None
    assert _cached(pickle.loads(pickle.dumps(cache)), 0, 2) is not None


def test_only_what_is_needed_is_fetched_where_nothing_is_kept(cache: BlockCache) -> None:
    asked = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    names = [("a" * 64, 0), ("a" * 64, 1)]
    full = Demand(lambda names, size: [0.0] * len(names))
    _fill_up(cache, full)
    assert len(cache.fill(names, [BLOCK, BLOCK], (5, BLOCK + 7), fetch, full)) == BLOCK + 2
    assert asked == [(5, BLOCK + 7)]


def _fill_up(cache: BlockCache, demand: Demand) -> None:
    for file in range(4):
        _fill(cache, file, list(range(8)), demand)


def test_the_size_is_never_exceeded(cache: BlockCache) -> None:
    with _watched(cache) as most, ThreadPoolExecutor(8) as pool:
        jobs = [(file % 10, [number, number + 1]) for file in range(60) for number in range(0, 8, 2)]
        for (file, numbers), content in zip(jobs, pool.map(lambda job: _fill(cache, *job), jobs), strict=True):
            assert content == _content(file)[numbers[0] * BLOCK : (numbers[1] + 1) * BLOCK]
    assert 0.6 * LIMIT < most[0] <= LIMIT


def test_those_used_longest_ago_go_first(cache: BlockCache) -> None:
    _fill_up(cache, Demand())
    here = [[_cached(cache, file, number) is not None for number in range(8)] for file in range(4)]
    assert here[0] == [False] * 8
    assert here[3] == [True] * 8


def test_those_needed_last_go_first_and_for_none_that_is_needed_later(cache: BlockCache) -> None:
    needed = {(_sha256(file), number): float(file) for file in range(4) for number in range(8)}
    demand = Demand(lambda names, size: [needed.get(name) for name in names])
    for file in (3, 2, 1, 0):
        _fill(cache, file, list(range(8)), demand)
    here = [sum(_cached(cache, file, number) is not None for number in range(8)) for file in range(4)]
    assert here[:2] == [8, 8]
    assert here[3] == 0
    _fill(cache, 3, list(range(8)), demand)
    assert not any(_cached(cache, 3, number) for number in range(8)) or here[2] < 8


def test_one_of_many_that_want_a_block_fetches_it(cache: BlockCache) -> None:
    asked, together = [], threading.Barrier(6)

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        time.sleep(0.2)
        return _content(0)[start:stop]

    def want(_: int) -> bytes:
        together.wait()
        return cache.fill([(_sha256(0), 0)], [BLOCK], (0, BLOCK), fetch, Demand())

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(want, range(6))) == {_content(0)[:BLOCK]}
    assert asked == [(0, BLOCK)]


def test_a_block_that_cannot_be_fetched_leaves_nothing(cache: BlockCache) -> None:
    def fail(start: int, stop: int) -> bytes:
        raise OSError("gone")

    for _ in range(50):
        with pytest.raises(OSError, match="gone"):
            cache.fill([(_sha256(0), 0)], [BLOCK], (0, BLOCK), fail, Demand())
    assert os.listdir(cache.folder) == ["usage"]
    assert _fill(cache, 0, list(range(8))) == _content(0)
    assert all(_cached(cache, 0, number) for number in range(8))


def test_a_block_of_another_size_is_none(cache: BlockCache) -> None:
    _fill(cache, 0, [0])
    os.truncate(os.path.join(cache.folder, f"{_sha256(0)}.0"), 100)
    assert _cached(cache, 0, 0) is None
    assert _fill(cache, 0, [0]) == _content(0)[:BLOCK]
    assert _cached(cache, 0, 0) == _content(0)[:BLOCK]


def test_a_block_is_not_removed_while_it_is_read(cache: BlockCache) -> None:
    _fill(cache, 0, list(range(8)))
    with open(os.path.join(cache.folder, f"{_sha256(0)}.3"), "rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        for file in range(1, 5):
            _fill(cache, file, list(range(8)))
        assert [_cached(cache, 0, number) is not None for number in range(8)] == [number == 3 for number in range(8)]


FILL = """
import sys, time
from test_block_cache import *
from test_block_cache import _content, _fill
cache = BlockCache(sys.argv[1], LIMIT, BLOCK)
print("begun", flush=True)
for turn in range(int(sys.argv[2]), 10**9):
    file, number = turn % 7, turn % 4
    assert _fill(cache, file, [number, number + 1]) == _content(file)[number * BLOCK : (number + 2) * BLOCK]
"""


def _start(cache: BlockCache, turn: int) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", FILL, cache.folder, str(turn)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_processes_share_it_and_killed_ones_leave_no_harm(cache: BlockCache) -> None:
    with _watched(cache) as most:
        for round_ in range(2):
            children = [_start(cache, turn) for turn in (0, 3, 5)]
            for child in children:
                assert child.stdout
                assert child.stdout.readline() == "begun\n"
            time.sleep(0.5 + 0.3 * round_)
            for child in children:
                assert child.poll() is None
                child.send_signal(signal.SIGKILL)
                child.wait()
    assert 0.6 * LIMIT < most[0] <= LIMIT
    for file in range(7):
        assert _fill(cache, file, list(range(8))) == _content(file)
    _fill_up(cache, Demand())
    assert not [name for name in os.listdir(cache.folder) if name.endswith(".part")]
    assert _taken(cache) > 0.6 * LIMIT


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RequestError, match=r"cache_dir: .*expected a folder that can be written to"):
        BlockCache(str(tmp_path / "file"), LIMIT, BLOCK)
    with pytest.raises(RequestError, match="cache_bytes: expected at least 8388608, found 100"):
        BlockCache(str(tmp_path / "cache"), 100)


def test_a_smaller_bound_holds_from_the_beginning(cache: BlockCache) -> None:
    _fill_up(cache, Demand())
    smaller = BlockCache(cache.folder, LIMIT // 2, BLOCK)
    assert _taken(smaller) <= LIMIT // 2
    assert sum(_cached(smaller, 3, number) is not None for number in range(8)) >= 6


def test_nobody_waits_for_ever_for_a_process_that_was_stopped(
    cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_cache, "_PATIENCE", 0.2)
    with open(os.path.join(cache.folder, f"{_sha256(0)}.0.part"), "wb") as claimed:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        assert _fill(cache, 0, [0, 1]) == _content(0)[: 2 * BLOCK]
    with open(os.path.join(cache.folder, "usage"), "rb") as usage:
        fcntl.flock(usage, fcntl.LOCK_EX)
        with pytest.warns(UserWarning, match="another process keeps it"):
            assert _fill(cache, 1, [0]) == _content(1)[:BLOCK]
    assert _cached(cache, 1, 0) is None


def test_a_full_disk_keeps_nothing_and_breaks_nothing(cache: BlockCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.warns(UserWarning, match="blocks are not kept: .*No space left"):
            assert _fill(cache, 0, [0, 1]) == _content(0)[: 2 * BLOCK]
    assert os.listdir(cache.folder) == ["usage"]
    assert _fill(cache, 0, list(range(8))) == _content(0)
    assert all(_cached(cache, 0, number) for number in range(8))
