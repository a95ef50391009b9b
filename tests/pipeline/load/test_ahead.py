"""Reading ahead from a store: the same batches as from a disk, in few requests, within its memory."""

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_store import SlowStore, serve
from stored_datasets import GENERATION, write

from penstock.pipeline import DatasetError
from penstock.pipeline.load import Dataset, open_dataset
from penstock.pipeline.load import ahead as ahead_module
from penstock.pipeline.load.ahead import Part, Use, look_ahead, part_sizes
from penstock.pipeline.load.block_cache import BlockCache
from penstock.pipeline.load.order import Order
from penstock.pipeline.load.records import ShardRecords
from penstock.pipeline.load.shard_files import RemoteFile, shard_files
from penstock.pipeline.storage import stores

SIZES = (300, 200, 0, 412)
COUNT = sum(SIZES)
ORDERS: list[dict[str, Any]] = [
    {},
    {"shuffle": True, "window": 100},
    {"shuffle": "exact"},
    {"shuffle": True, "window": 100, "shard": (1, 3), "equal": True},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write(folder / "plain", SIZES)
    write(folder / "gz", SIZES, compressed=True)
    return folder


@pytest.fixture
def store(root: Path) -> Iterator[SlowStore]:
    with serve(root, delay=0.02) as served:
        yield served


def _data_bytes(dataset: Dataset) -> int:
    return sum(shard.file.bytes for shard in dataset.manifest.splits["train"].shards)


def _read(store: SlowStore, folder: str = "data") -> int:
    return sum(stop - start for path, start, stop in store.requests if f"/{folder}/" in path)


def _opened(store: SlowStore, folder: Path | None = None, blocks: int = 64, name: str = "plain") -> Dataset:
    """The dataset in the store, with a cache of so many small blocks in a folder, if it is given."""
    dataset = open_dataset(f"{store.uri}/{name}")
    if folder:
        cache = BlockCache(str(folder), blocks * ((1 << 12) + 256) + 30_000, 1 << 12)
        dataset = Dataset(dataset.uri, dataset.manifest, False, cache)
    store.requests.clear()
    return dataset


def _assert_same(batches: Any, expected: Any) -> None:
    for one, other in zip(batches, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("options", ORDERS, ids=str)
@pytest.mark.parametrize("name", ["plain", "gz"])
@pytest.mark.parametrize("blocks", [0, 30, 1000])
def test_batches_are_those_of_a_disk(
    store: SlowStore, root: Path, tmp_path: Path, options: dict[str, Any], name: str, blocks: int
) -> None:
    remote = _opened(store, tmp_path / "cache" if blocks else None, blocks, name)
    local = open_dataset(root / name)
    _assert_same(remote.numpy("train", 32, repeat=2, **options), local.numpy("train", 32, repeat=2, **options))


@pytest.mark.parametrize("options", ORDERS[:3], ids=str)
def test_an_epoch_takes_few_requests(store: SlowStore, options: dict[str, Any]) -> None:
    remote = _opened(store)
    before = stores.COUNTS.snapshot()["get"]
    assert sum(len(batch["row"]) for batch in remote.numpy("train", 32, **options)) == COUNT
    data = [request for request in store.requests if "/data/" in request[0]]
    # the example that tells shapes, the first batch, and then all that is left, from each of the three shards
    assert len(data) <= 9
    assert _read(store) < 2 * _data_bytes(remote)
    assert len([request for request in store.requests if "/index/" in request[0]]) == len(SIZES)
    assert stores.COUNTS.snapshot()["get"] - before == len(store.requests)


def test_the_first_batch_takes_as_long_as_a_few_requests(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoteFile, "gap", 0)  # each example is a request
    remote = _opened(store)
    store.delay = 0.2
    begun = time.monotonic()
    batch = next(iter(remote.numpy("train", 64, shuffle="exact", features=False)))
    # indexes, the example that tells shapes, and four times 16 examples
    assert time.monotonic() - begun < 3.0
    assert len(batch["row"]) == 64
    assert 16 <= store.most <= 64


def test_more_requests_are_under_way_where_batches_wait(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoteFile, "gap", 0)
    store.delay = 0.05
    for _ in _opened(store).numpy("train", 64, shuffle="exact", features=False):
        pass
    hurried = store.most
    assert hurried > 20
    fetcher = ahead_module._Fetcher(ShardRecords([]))
    fetcher._seconds, fetcher._mean = 0.1, 1000.0
    fetcher.adapt(100_000.0)
    assert fetcher._limit == 20  # a hundred a second, each of which takes a tenth: ten, twice
    fetcher.adapt(1.0)
    assert fetcher._limit == ahead_module._LEAST


class _Block:
    def __init__(self, numbers: Any, first: int, end: int) -> None:
        self.epoch, self.numbers, self.first, self.end = 0, numbers, first, end


def _blocks(order: Order, size: int) -> Iterator[_Block]:
    for first in range(0, order.count, size):
        end = min(first + size, order.count)
        yield _Block(order.examples(0, np.arange(first, end)), first, end)


@pytest.mark.parametrize("shuffle", [None, "window", "exact"])
def test_parts_are_held_to_their_budget(store: SlowStore, monkeypatch: pytest.MonkeyPatch, shuffle: Any) -> None:
    monkeypatch.setattr(ahead_module, "_SECOND_PART", 20_000)
    dataset = _opened(store)
    shards = shard_files(dataset.uri, dataset.manifest.splits["train"].shards)
    records = ShardRecords(shards)
    order = Order(records.sizes, shuffle, 1, 50)
    budget, most, count = 200_000, 0, 0
    for block, part in look_ahead(records, _blocks(order, 10), Use(order), budget):
        assert part is not None
        assert part.has(block.numbers).all()
        count += len(block.numbers)
        time.sleep(0.005)
        most = max(most, sum(len(each) for each in gc.get_objects() if isinstance(each, Part)))
    assert count == COUNT
    assert 0.4 * budget < most < 1.1 * budget < 0.5 * _data_bytes(dataset)


def _sizes(*arguments: Any) -> list[int]:
    return list(islice(part_sizes(*arguments), 6))


def test_parts_grow_and_become_a_window_where_most_of_it_would_be_read_for_less() -> None:
    megabytes, photo, most = 1 << 20, 20_000, 400 << 20
    second, third = 4 * megabytes, 32 * megabytes
    assert _sizes(0, photo, most) == [1, second, third, 256 * megabytes, most, most]
    assert _sizes(80 * megabytes, photo, most)[:4] == [1, second, 80 * megabytes, most]
    assert _sizes(80 * megabytes, photo, 60 * megabytes)[:3] == [1, second, 60 * megabytes]
    assert _sizes(4000 * megabytes, photo, most)[:4] == [1, second, third, 256 * megabytes]  # far from each other
    assert _sizes(10 * megabytes, 200, most)[:3] == [1, 10 * megabytes, 80 * megabytes]
    assert _sizes(megabytes, 200, most)[:3] == [1, second, third]  # of several windows


def test_parts_are_planned_while_one_is_in_use(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as earlier ones leave memory for it, and not only when the one is used up."""
    planned: list[int] = []

    class Plans(ahead_module._Plans[Any]):
        def make(self, size: int) -> Any:
            planned.append(size)
            return super().make(size)

    monkeypatch.setattr(ahead_module, "_Plans", Plans)
    monkeypatch.setattr(ahead_module, "_SECOND_PART", 20_000)
    dataset = _opened(store)
    records = ShardRecords(shard_files(dataset.uri, dataset.manifest.splits["train"].shards))
    order = Order(records.sizes)
    blocks = look_ahead(records, _blocks(order, 10), Use(order), 300_000)
    first_of_part: list[int] = []
    for block, part in blocks:
        if not first_of_part or not part.has(np.array(first_of_part[-1:])).all():
            first_of_part.append(block.first)
            inside = 0
        inside += 1
        if (len(first_of_part), inside) == (3, 6):  # of thirty
            break
    deadline = time.monotonic() + 10
    while len(planned) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    blocks.close()
    assert planned == [1, 20_000, 150_000, 150_000]


def test_what_the_last_blocks_need_is_fetched_after_the_last_block_was_given(
    store: SlowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteFile, "gap", 0)  # each example is a request: more than are under way at a time
    store.delay = 0.05
    dataset = _opened(store)
    records = ShardRecords(shard_files(dataset.uri, dataset.manifest.splits["train"].shards))
    order = Order(records.sizes, "exact", 1, 50)
    parts = [part for _, part in look_ahead(records, _blocks(order, 200), Use(order))]
    assert any(not chunk.done.done() for part in parts if part for chunk in part.chunks)
    for part in parts:
        assert part is not None
        assert sum(len(part.content(chunk)) for chunk in range(len(part.chunks))) == len(part)


def test_a_window_is_read_from_its_shards_in_one_go(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts end where windows do, if a window fits: then hardly a byte is read twice or thrown away."""
    dataset = _opened(store)
    records = ShardRecords(shard_files(dataset.uri, dataset.manifest.splits["train"].shards))
    order = Order(records.sizes, "window", 1, 100)
    window = _data_bytes(dataset) * 100 / COUNT
    monkeypatch.setattr(RemoteFile, "gap", 0)
    parts = {
        id(part): (part, block.first)
        for block, part in look_ahead(records, _blocks(order, 10), Use(order), int(2.6 * window))
    }
    begins = [first for _, first in parts.values()]
    assert sum(first % 100 == 90 for first in begins[2:]) >= len(begins) - 3  # the last block of a window is its last
    assert _read(store) < 1.1 * _data_bytes(dataset)


def test_compressed_shards_are_in_memory_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "gz", (20,) * 8, compressed=True)
    now: list[int] = []
    most = []
    content = RemoteFile.content

    def count(file: RemoteFile) -> bytes:
        now.append(1)
        most.append(len(now))
        try:
            return content(file)
        finally:
            now.pop()

    with serve(tmp_path, delay=0.05) as store:
        remote = _opened(store, name="gz")
        monkeypatch.setattr(RemoteFile, "content", count)
        monkeypatch.setattr(ahead_module, "_UNDER_WAY", 2.5 * remote.splits["train"].bytes / 8)
        batch = next(iter(remote.numpy("train", 16, shuffle="exact", features=False)))
    assert len(batch["row"]) == 16
    assert max(most) <= 2


def test_no_request_is_made_when_an_iteration_was_broken_off(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoteFile, "gap", 0)
    batches = iter(_opened(store).numpy("train", 8, shuffle="exact"))
    next(batches)
    batches.close()
    made = len(store.requests)
    time.sleep(0.5)
    assert made <= len(store.requests) <= made + 64
    assert len(store.requests) < COUNT / 2
    deadline = time.monotonic() + 20
    while any(thread.name.startswith("penstock-") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_read_that_fails_names_its_file_and_its_example(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_TRIES", 2)
    batches = iter(_opened(store).numpy("train", 10, features=False, prefetch=1))
    monkeypatch.setattr(ahead_module, "_SECOND_PART", 1)
    store.fail = lambda path: "train-00001" in path and "/data/" in path
    given = []
    error = ""
    try:
        for batch in batches:
            given += batch["row"].tolist()
    except DatasetError as raised:
        error = str(raised)
    said = r".*train-00001-of-00004.tfrecord: record 0, example 300 of its split, cannot be read: .*503.*2 tries.*"
    assert re.fullmatch(said, error)
    assert given == list(range(300))


def test_a_column_is_read_ahead_too(store: SlowStore, root: Path) -> None:
    remote = _opened(store)
    assert remote.column("train", "label").tolist() == open_dataset(root / "plain").column("train", "label").tolist()
    assert len(store.requests) == len(SIZES) + 3


def test_a_read_that_fails_once_is_made_again(store: SlowStore) -> None:
    failed: set[str] = set()

    def fail(path: str) -> bool:
        fails = path not in failed
        failed.add(path)
        return fails

    remote = _opened(store)
    store.fail = fail
    assert sum(len(batch["row"]) for batch in remote.numpy("train", 10)) == COUNT
    assert len(failed) >= 6


@pytest.mark.parametrize("options", ORDERS[1:3], ids=str)
def test_a_resumed_epoch_reads_what_is_left_of_it(
    store: SlowStore, root: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteFile, "gap", 0)
    expected = list(open_dataset(root / "plain").numpy("train", 32, **options))
    batches = iter(_opened(store).numpy("train", 32, **options))
    loader = _opened(store).numpy("train", 32, **options)
    for _ in zip(range(20), loader, strict=False):
        pass
    state = loader.state()
    batches.close()
    store.requests.clear()
    _assert_same(_opened(store).numpy("train", 32, state=state, **options), expected[state["position"] // 32 :])
    read = _read(store)
    assert read < (0.9 if "window" in options else 1.8) * _data_bytes(_opened(store))


def test_what_is_decoded_and_kept_is_not_read_again(store: SlowStore) -> None:
    loader = _opened(store).numpy("train", 32, shuffle=True, cache=True)
    assert len(list(loader)) == len(loader)
    store.requests.clear()
    assert len(list(loader)) == len(loader)
    assert store.requests == []


def test_what_fits_into_the_cache_is_read_once(store: SlowStore, tmp_path: Path) -> None:
    remote = _opened(store, tmp_path, 1000)
    for shuffle in (True, "exact", False):
        assert len(list(remote.numpy("train", 32, shuffle=shuffle, repeat=2))) == 2 * len(remote.numpy("train", 32))
    assert _read(store) == _data_bytes(remote)
    store.requests.clear()
    assert open_dataset(remote.uri).uri  # another process, say, of another day
    again = _opened(store, tmp_path, 1000)
    assert len(again.source("train")[[5, 400, 800]]) == 3
    assert store.requests == []


@pytest.mark.parametrize("options", ORDERS, ids=str)
def test_an_epoch_longer_than_the_cache(
    store: SlowStore, root: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache holds a tenth of the data, and is never larger; part of each later epoch comes from it."""
    remote = _opened(store)
    store.delay = 0.0
    blocks = _data_bytes(remote) // 10 // (1 << 12)
    monkeypatch.setattr(ahead_module, "_MOST_BYTES", 150_000)
    monkeypatch.setattr(ahead_module, "_LEAST_BYTES", 150_000)
    monkeypatch.setattr(ahead_module, "_SECOND_PART", 20_000)
    remote = _opened(store, tmp_path, blocks)
    assert remote.cache
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            taken = {}
            with remote.cache._locked():  # type: ignore[union-attr]
                for name in os.listdir(tmp_path):
                    with suppress(FileNotFoundError):  # renamed meanwhile
                        status = os.stat(tmp_path / name)
                        taken[status.st_ino] = max(status.st_size, 512 * status.st_blocks)
            most[0] = max(most[0], sum(taken.values()))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        local = open_dataset(root / "plain").numpy("train", 32, repeat=3, **options)
        _assert_same(remote.numpy("train", 32, repeat=3, **options), local)
        ended.set()
        watching.result()
    assert 0.5 * remote.cache.limit < most[0] <= remote.cache.limit
    store.requests.clear()
    loader = remote.numpy("train", 32, repeat=1)
    assert len(list(loader)) == len(loader)
    assert 0.5 * _data_bytes(remote) < _read(store) < 0.97 * _data_bytes(remote)


def test_a_damaged_cache_is_fetched_anew(store: SlowStore, root: Path, tmp_path: Path) -> None:
    for name in ("plain", "gz"):
        remote = _opened(store, tmp_path / name, 1000, name)
        expected = list(open_dataset(root / name).numpy("train", 32))
        _assert_same(remote.numpy("train", 32), expected)
        for path in (tmp_path / name).iterdir():
            if path.name != "usage":
                content = bytearray(path.read_bytes())
                for place in range(50, len(content), 500):
                    content[place] ^= 255
                path.write_bytes(content)
        store.requests.clear()
        _assert_same(_opened(store, tmp_path / name, 1000, name).numpy("train", 32), expected)
        assert _read(store) >= 0.99 * _data_bytes(remote)  # one shard is empty
        store.requests.clear()
        _assert_same(_opened(store, tmp_path / name, 1000, name).numpy("train", 32), expected)
        assert _read(store) == _read(store, "index") == 0


def test_a_damaged_index_in_the_cache_is_fetched_anew(store: SlowStore, root: Path, tmp_path: Path) -> None:
    remote = _opened(store, tmp_path / "cache", 1000)
    expected = list(open_dataset(root / "plain").numpy("train", 32))
    _assert_same(remote.numpy("train", 32), expected)
    for shard in remote.manifest.splits["train"].shards:
        assert shard.index
        for path in (tmp_path / "cache").glob(f"{shard.index.sha256}.*"):
            offsets = np.frombuffer(path.read_bytes(), "<u8").copy()
            offsets[10:20] -= 20  # they still rise
            path.write_bytes(offsets.tobytes())
    _assert_same(_opened(store, tmp_path / "cache", 1000).numpy("train", 32), expected)
    assert _read(store, "index") == 8 * (COUNT + 3)  # one shard is empty


def test_damage_in_the_store_is_still_found(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "ds", (50, 30))
    path = tmp_path / "ds" / GENERATION / "data/train-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)
    with serve(tmp_path) as store:
        for cache in (None, tmp_path / "cache"):
            with pytest.raises(DatasetError, match=r"train-00001-of-00002.tfrecord: record \d+ is damaged"):
                list(_opened(store, cache, 1000, "ds").numpy("train", 8, shuffle=True))
            loader = _opened(store, cache, 1000, "ds").numpy("train", 8, skip_damaged=True)
            with pytest.warns(UserWarning, match="passed over"):
                batches = list(loader)
            assert sum(len(batch["row"]) for batch in batches) == 79


def test_a_cache_that_was_removed_is_missed_by_nobody(tmp_path: Path) -> None:
    write(tmp_path / "ds", (50,))
    with serve(tmp_path) as store:
        dataset = _opened(store, tmp_path / "cache", 1000, "ds")
        loader = dataset.numpy("train", 8, skip_damaged=True)
        assert sum(len(batch["row"]) for batch in loader) == 50
        shutil.rmtree(tmp_path / "cache")
        path = tmp_path / "ds" / GENERATION / "data/train-00000-of-00001.tfrecord"
        content = bytearray(path.read_bytes())
        content[3000] ^= 1
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="passed over"):
            assert sum(len(batch["row"]) for batch in loader) == 49


def test_a_dataset_made_anew_meets_no_old_blocks(tmp_path: Path) -> None:
    with serve(tmp_path) as store:
        write(tmp_path / "ds", (50,))
        assert (
            sum(len(batch["row"]) for batch in _opened(store, tmp_path / "cache", 1000, "ds").numpy("train", 8)) == 50
        )
        write(tmp_path / "ds", (20, 40))
        batches = list(_opened(store, tmp_path / "cache", 1000, "ds").numpy("train", 8, features=False))
        _assert_same(batches, open_dataset(tmp_path / "ds").numpy("train", 8, features=False))


LOAD = """
import sys
from pathlib import Path
from test_ahead import *
from penstock.pipeline.load.block_cache import BlockCache
uri, folder, index, count = sys.argv[1:]
dataset = open_dataset(uri)
dataset = Dataset(uri, dataset.manifest, False, BlockCache(folder, 1000 * (1 << 12), 1 << 12))
loader = dataset.numpy("train", 8, shuffle=True, window=100, shard=(int(index), int(count)))
print("opened", flush=True)
sys.stdin.readline()
rows = [row for batch in loader for row in batch["row"].tolist()]
print(sorted(rows), flush=True)
"""


def _load(uri: str, folder: Path, index: int, count: int) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", LOAD, uri, str(folder), str(index), str(count)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_of_a_host_fetch_what_they_share_once(store: SlowStore, tmp_path: Path) -> None:
    uri = f"{store.uri}/plain"
    children = [_load(uri, tmp_path / "cache", index, 3) for index in range(3)]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "opened\n"
    store.requests.clear()
    rows: list[int] = []
    outputs = [child.communicate("\n")[0] for child in children]
    for output in outputs:
        rows += eval(output)
    assert sorted(rows) == list(range(COUNT))
    assert _read(store) < 1.3 * _data_bytes(open_dataset(uri))


def test_a_killed_process_leaves_a_cache_that_others_use(store: SlowStore, root: Path, tmp_path: Path) -> None:
    uri = f"{store.uri}/plain"
    store.delay = 0.1
    child = _load(uri, tmp_path / "cache", 0, 1)
    assert child.stdin
    assert child.stdout
    child.stdout.readline()
    child.stdin.write("\n")
    child.stdin.flush()
    time.sleep(0.25)
    child.send_signal(signal.SIGKILL)
    child.wait()
    remote = _opened(store, tmp_path / "cache", 1000)
    _assert_same(remote.numpy("train", 32), open_dataset(root / "plain").numpy("train", 32))
