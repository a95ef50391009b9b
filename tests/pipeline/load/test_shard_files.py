"""Files of shards: a bounded number is open, whoever reads, and what is near is read together."""

import errno
import os
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_datasets import write_shard

from penstock.pipeline.load import shard_files
from penstock.pipeline.load.open_files import OpenFiles
from penstock.pipeline.load.records import ShardRecords, merge_ranges
from penstock.pipeline.load.shard_files import LocalFile, OpenShards, RemoteFile, ShardFile

SHARDS, RECORDS = 12, 30


def _record(number: int) -> bytes:
    return b"%d " % number * (number % 7)


def _remote(shard: ShardFile) -> RemoteFile:
    return RemoteFile(f"file://{shard.uri}", shard.bytes)


@pytest.fixture
def shards(tmp_path: Path) -> list[Any]:
    return [
        write_shard(tmp_path, f"{shard}", [_record(shard * RECORDS + row) for row in range(RECORDS)])
        for shard in range(SHARDS)
    ]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts the files that are open now, that were at most, and the reads."""
    counts, lock = {"now": 0, "most": 0, "reads": 0}, threading.Lock()

    class Counted(LocalFile):
        def __init__(self, path: str) -> None:
            super().__init__(path)
            with lock:
                counts["now"] += 1
                counts["most"] = max(counts["most"], counts["now"])

        def __del__(self) -> None:
            super().__del__()
            with lock:
                counts["now"] -= 1

        def frame(self, start: int, stop: int) -> tuple[bytes, bytes]:
            counts["reads"] += 1
            return super().frame(start, stop)

        def ranges(self, bounds: Any) -> Iterator[bytes]:
            counts["reads"] += len(bounds)
            return super().ranges(bounds)

    monkeypatch.setattr(shard_files, "LocalFile", Counted)
    return counts


def test_only_so_many_files_are_open_while_threads_read(shards: list[Any], opened: dict[str, int]) -> None:
    records, threads = ShardRecords(shards), 3
    records._open = OpenShards(records.shards, OpenFiles(2))
    numbers = np.random.default_rng(0).permutation(len(records)).tolist()
    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(records.__getitem__, numbers)) == [_record(number) for number in numbers]
        assert pool.submit(records.read, numbers).result() == ([_record(number) for number in numbers], {})
    assert opened["most"] <= 2 + threads
    assert opened["now"] == 2
    del records
    assert opened["now"] == 0


def test_the_files_used_last_stay_open(shards: list[Any], opened: dict[str, int]) -> None:
    opener = OpenShards(shards, OpenFiles(2))
    first = opener.source(0)
    for other in range(1, SHARDS):
        opener.source(other)
        assert opener.source(0) is first


def test_a_process_without_a_descriptor_left_closes_its_own(
    shards: list[Any], opened: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = ShardRecords(shards)
    counted = shard_files.LocalFile

    def scarce(path: str) -> LocalFile:
        if opened["now"] >= 3:
            raise OSError(errno.EMFILE, "Too many open files", path)
        return counted(path)

    monkeypatch.setattr(shard_files, "LocalFile", scarce)
    assert records.read(range(len(records)))[0] == [_record(number) for number in range(len(records))]
    assert opened["most"] == 3


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_many_records_at_once_are_those_one_by_one(tmp_path: Path, suffix: str, prefix: str) -> None:
    contents = [[b"", b"a" * 70_000, b"b"], [], [b"c" * number for number in range(20)]]
    shards = [write_shard(tmp_path, f"{number}{suffix}", each, prefix) for number, each in enumerate(contents)]
    expected = [record for each in contents for record in each]
    numbers = [*np.random.default_rng(1).permutation(len(expected)).tolist(), 5, 5, 0]
    assert ShardRecords(shards).read(numbers) == ([expected[number] for number in numbers], {})
    assert ShardRecords(shards).read([]) == ([], {})


def test_neighbours_are_read_together(shards: list[Any], opened: dict[str, int]) -> None:
    records = ShardRecords(shards)
    records.read(range(len(records)))
    assert opened["reads"] == SHARDS
    records.read(np.random.default_rng(0).permutation(len(records))[:200].tolist())
    assert opened["reads"] == 2 * SHARDS


def test_what_is_read_together_is_near_and_not_too_much() -> None:
    starts = np.array([0, 10, 100, 160, 170, 1000])
    stops = np.array([10, 20, 160, 170, 200, 9000])
    assert merge_ranges(starts, stops, gap=1000) == [(0, 6)]
    assert merge_ranges(starts, stops, gap=80) == [(0, 5), (5, 6)]
    assert merge_ranges(starts, stops, gap=79) == [(0, 2), (2, 5), (5, 6)]
    assert merge_ranges(starts, stops, gap=1000, most=70) == [(0, 2), (2, 4), (4, 5), (5, 6)]
    assert merge_ranges(starts[:0], stops[:0], gap=1) == []


def test_a_damaged_record_is_the_only_one_that_is_lost(shards: list[Any]) -> None:
    path = Path(shards[1].uri)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    Path(shards[3].uri).unlink()
    records, damage = ShardRecords(shards).read(range(len(shards) * RECORDS))
    gone = [2 * RECORDS - 1, *range(3 * RECORDS, 4 * RECORDS)]
    assert sorted(damage) == gone
    assert str(damage[gone[0]]).endswith("/1: record 29 is damaged or truncated; run `penstock verify`")
    assert "is missing" in str(damage[gone[1]])
    assert records == [b"" if number in gone else _record(number) for number in range(len(records))]


@pytest.mark.parametrize("cut", [1, 4, 5, 40])
def test_a_file_that_ends_early_loses_what_is_cut_off(shards: list[Any], cut: int) -> None:
    content = Path(shards[0].uri).read_bytes()
    offsets = np.fromfile(shards[0].index_uri, "<u8")
    Path(shards[0].uri).write_bytes(content[:-cut])
    _, damage = ShardRecords(shards[:1]).read(range(RECORDS))
    assert sorted(damage) == [row for row in range(RECORDS) if offsets[row + 1] > len(content) - cut]


def test_a_store_has_several_requests_under_way(shards: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    file = _remote(shards[0])
    together = threading.Barrier(3, timeout=20)

    def read(start: int, stop: int) -> bytes:
        together.wait()
        return b"%d" % start

    monkeypatch.setattr(file, "read", read)
    assert list(file.ranges([(0, 1), (1, 2), (2, 3)])) == [b"0", b"1", b"2"]


def test_no_thread_of_a_store_goes_on_when_its_reader_stops(shards: list[Any]) -> None:
    file = _remote(shards[0])
    asked = []
    file.read = lambda *bounds: asked.append(bounds) or b""  # type: ignore[method-assign, func-returns-value]
    ranges = file.ranges([(number, number + 1) for number in range(1000)])
    next(ranges)
    ranges.close()
    assert len(asked) < 100


def test_memory_that_a_short_file_leaves_unwritten_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    for source in (LocalFile(str(tmp_path / "file")), RemoteFile(f"file://{tmp_path / 'file'}", 3)):
        parts = [np.full(2, 9, np.uint8), np.full(3, 9, np.uint8), np.full(2, 9, np.uint8)]
        source.fill(1, parts)
        assert [part.tolist() for part in parts] == [[98, 99], [0, 0, 0], [0, 0]]


def test_a_split_of_more_shards_than_files_may_be_open(shards: list[Any]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 6, hard))
        records = ShardRecords(shards)
        assert [records[number] for number in range(len(records))] == [_record(n) for n in range(len(records))]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_reads_of_a_slow_disk_are_under_way_together(shards: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    records, pread, under_way = ShardRecords(shards[:1]), os.pread, {"now": 0, "most": 0}
    monkeypatch.setattr(LocalFile, "gap", 0)

    def slow(*arguments: int) -> bytes:
        under_way["now"] += 1
        under_way["most"] = max(under_way["most"], under_way["now"])
        time.sleep(0.005)
        under_way["now"] -= 1
        return pread(*arguments)

    numbers = list(range(0, RECORDS, 2))
    assert records.read(numbers) == ([_record(number) for number in numbers], {})
    monkeypatch.setattr(os, "pread", slow)
    assert records.read(numbers) == ([_record(number) for number in numbers], {})
    assert under_way["most"] > 2


def test_a_fast_disk_needs_no_threads(shards: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "ThreadPoolExecutor", None)
    monkeypatch.setattr(shard_files, "_SLOW", 1.0)
    monkeypatch.setattr(LocalFile, "gap", 0)
    numbers = list(range(0, RECORDS, 2))
    assert len(ShardRecords(shards[:1]).read(numbers)[0]) == len(numbers)


def test_the_time_between_two_reads_is_not_the_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "ThreadPoolExecutor", None)
    monkeypatch.setattr(shard_files, "_SLOW", 1e-3)
    for number in shard_files.in_time(abs, range(2 * shard_files._TRIED)):
        time.sleep(2e-3 if number < shard_files._TRIED else 0)


def test_slow_shards_of_a_disk_are_read_side_by_side(shards: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "_SLOW", 0.0)
    records, together = ShardRecords(shards), threading.Barrier(SHARDS - shard_files._TRIED, timeout=20)
    pread, reads = os.pread, []

    def slow(*arguments: int) -> bytes:
        reads.append(arguments)
        if len(reads) > shard_files._TRIED:
            together.wait()
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", slow)
    assert records.read(range(len(records)))[0] == [_record(number) for number in range(len(records))]
    assert len(reads) == SHARDS


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_compressed_shards_are_read_one_after_the_other(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is in memory as a whole."""
    monkeypatch.setattr(shard_files, "ThreadPoolExecutor", None)
    monkeypatch.setattr(shard_files, "_SLOW", 0.0)
    shards = [write_shard(tmp_path, f"{shard}.gz", [_record(shard)], prefix) for shard in range(SHARDS)]
    assert ShardRecords(shards).read(range(SHARDS)) == ([_record(shard) for shard in range(SHARDS)], {})
