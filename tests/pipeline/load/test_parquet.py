"""Parquet shards: a bounded number of open files, and only damaged row groups are lost."""

import errno
import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from slow_store import SlowStore, serve

from penstock.pipeline import DatasetError
from penstock.pipeline.formats.decode import allocate
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.load import ahead as ahead_module
from penstock.pipeline.load import parquet as parquet_module
from penstock.pipeline.load.ahead import Use, look_ahead
from penstock.pipeline.load.batches import Batches, LoadOptions
from penstock.pipeline.load.block_cache import BlockCache
from penstock.pipeline.load.open_files import OpenFiles
from penstock.pipeline.load.order import Integers, Order
from penstock.pipeline.load.parquet import ParquetReader
from penstock.pipeline.load.shard_files import ShardFile

FEATURES = {"n": Feature("number", "int64", ()), "v": Feature("number", "int64", (None,))}
ROWS, GROUP = 100, 30


@pytest.fixture
def reader(tmp_path: Path) -> ParquetReader:
    shards = []
    for shard in range(6):
        numbers = list(range(shard * ROWS, (shard + 1) * ROWS))
        path = tmp_path / f"{shard}.parquet"
        table = pa.table({"n": numbers, "v": [[number] for number in numbers]})
        pq.write_table(table, path, row_group_size=GROUP, write_page_checksum=True, compression="none")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        shards.append(ShardFile(str(path), None, ROWS, path.stat().st_size, sha256))
    return ParquetReader(shards, FEATURES)


def _damage(reader: ParquetReader, shard: int, group: int) -> None:
    path = Path(reader.shards[shard].uri)
    column = pq.ParquetFile(path).metadata.row_group(group).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 255
    path.write_bytes(content)


def test_only_so_many_files_are_open(reader: ParquetReader) -> None:
    reader._open_files = OpenFiles(2)
    numbers = np.random.default_rng(0).permutation(len(reader)).tolist()
    arrays = allocate(FEATURES, len(numbers))
    reader.fill(arrays, numbers, 0)
    assert arrays["n"].tolist() == numbers
    assert len(reader._open_files) == 2
    assert [reader.example(number)["n"] for number in numbers] == numbers
    assert len(reader._open_files) == 2


def test_where_no_descriptor_is_left_open_shards_are_let_go(
    reader: ParquetReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = pq.ParquetFile

    def open_one(*arguments: object, **options: object) -> object:
        if len(reader._open_files):
            raise OSError(errno.EMFILE, "Failed to open local file")
        return opening(*arguments, **options)

    monkeypatch.setattr(pq, "ParquetFile", open_one)
    assert [reader.example(number)["n"] for number in (0, ROWS, 2 * ROWS)] == [0, ROWS, 2 * ROWS]


def test_a_row_is_the_callers_own(reader: ParquetReader) -> None:
    reader.example(7)["v"][:] = 0
    assert reader.example(7)["v"].tolist() == [7]


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_only_the_rows_of_a_damaged_row_group_are_lost(reader: ParquetReader) -> None:
    _damage(reader, 2, 1)
    order = Order(reader.sizes)
    before = iter(Batches(reader, order, LoadOptions(10)))
    assert [row for _ in range(23) for row in next(before)["n"].tolist()] == list(range(230))
    with pytest.raises(DatasetError, match=r"2.parquet: row group 1 is damaged .*: its 30 rows cannot be read"):
        next(before)
    loader = Batches(reader, order, LoadOptions(8, skip_damaged=True))
    rows = [row for batch in loader for row in batch["n"].tolist()]
    assert rows == [row for row in range(600) if not 230 <= row < 260]
    assert loader.skipped == 30


@pytest.fixture
def remote(tmp_path: Path, reader: ParquetReader) -> Iterator[tuple[ParquetReader, SlowStore]]:
    """The same shards in a store, with a cache of blocks that has room for them."""
    with serve(tmp_path, delay=0.02) as store:
        shards = [replace(shard, uri=f"{store.uri}/{Path(shard.uri).name}") for shard in reader.shards]
        blocks = BlockCache(str(tmp_path / "blocks"), 1 << 22, 1 << 9)
        yield ParquetReader(shards, FEATURES, blocks=blocks), store


def _rows(reader: ParquetReader, shuffle: Literal["window", "exact"] | None, **options: Any) -> list[int]:
    rows: list[int] = []
    for batch in Batches(reader, Order(reader.sizes, shuffle, 1, 50), LoadOptions(batch_size=16, **options)):
        assert [values.tolist() for values in batch["v"]] == [[number] for number in batch["n"].tolist()]
        rows += batch["n"].tolist()
    return rows


@pytest.mark.parametrize("shuffle", [None, "window", "exact"])
def test_a_store_gives_the_rows_of_a_disk_in_few_requests(
    reader: ParquetReader, remote: tuple[ParquetReader, SlowStore], shuffle: Any
) -> None:
    in_store, store = remote
    in_store = ParquetReader(in_store.shards, FEATURES)
    assert _rows(in_store, shuffle) == _rows(reader, shuffle)
    # of each of six files its footer, and its row groups together
    assert len(store.requests) <= 18
    store.requests.clear()
    assert _rows(in_store, shuffle) == _rows(reader, shuffle)  # row groups are kept
    assert store.requests == []


@dataclass(frozen=True)
class _Shuffled:
    """A block of an order's examples."""

    first: int
    end: int
    order: Order
    epoch: int = 0

    @property
    def numbers(self) -> Integers:
        return self.order.examples(0, np.arange(self.first, self.end))


def test_row_groups_that_are_read_ahead_stay_within_some_memory(
    reader: ParquetReader, remote: tuple[ParquetReader, SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_store, _ = remote
    most = 4 * sum(end - begin for begin, end in in_store.bounds(0)[:1])
    monkeypatch.setattr(ahead_module, "_memory", lambda: 16 * most)
    monkeypatch.setattr(parquet_module, "KEPT_BYTES", 0)
    order = Order(in_store.sizes, "exact", 1)
    in_store = ParquetReader(in_store.shards, FEATURES)
    sizes = []
    blocks = [_Shuffled(first, min(first + 16, len(reader)), order) for first in range(0, len(reader), 16)]
    storage = in_store.remote
    assert storage
    arrays = allocate(FEATURES, 16)
    for block, part in look_ahead(storage, blocks, Use(order), budget=2):
        assert part is not None
        sizes.append(len(part))
        in_store.fill(arrays, block.numbers.tolist(), 0, part)
        assert arrays["n"][: len(block.numbers)].tolist() == block.numbers.tolist()
    assert most / 2 < max(sizes) <= most


def test_row_groups_come_from_the_cache_and_damaged_ones_from_the_store(
    reader: ParquetReader, remote: tuple[ParquetReader, SlowStore], tmp_path: Path
) -> None:
    in_store, store = remote
    assert _rows(in_store, "exact") == _rows(reader, "exact")
    store.requests.clear()
    assert _rows(pickle.loads(pickle.dumps(in_store)), "exact") == _rows(reader, "exact")
    assert store.requests == []
    assert pickle.loads(pickle.dumps(in_store)).example(333)["n"] == 333
    assert store.requests == []
    for path in (tmp_path / "blocks").glob("*.*"):
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
    assert _rows(pickle.loads(pickle.dumps(in_store)), "exact") == _rows(reader, "exact")
    assert store.requests != []
    store.requests.clear()
    assert _rows(pickle.loads(pickle.dumps(in_store)), "exact") == _rows(reader, "exact")
    assert store.requests == []


def test_a_damaged_footer_in_the_cache_is_fetched_anew(
    reader: ParquetReader, remote: tuple[ParquetReader, SlowStore], tmp_path: Path
) -> None:
    in_store, store = remote
    expected = _rows(reader, None)
    assert _rows(in_store, None) == expected
    shard = in_store.shards[2]
    content = (store.root / "2.parquet").read_bytes()
    begin = shard.bytes - 8 - int.from_bytes(content[-8:-4], "little")
    assert in_store._blocks
    for place in range(begin, shard.bytes, 29):  # of some of these Arrow finds nothing wrong, or it crashes
        number, inside = divmod(place, in_store._blocks.block)
        path = tmp_path / "blocks" / f"{shard.sha256}.{number}"
        damaged = bytearray(path.read_bytes())
        damaged[inside] ^= 1
        path.write_bytes(damaged)
        again = pickle.loads(pickle.dumps(in_store))
        assert [again.example(row)["n"] for row in (200, 299)] == [200, 299]
        assert path.read_bytes() == content[number * 512 :][:512]


def test_damage_in_a_store_loses_its_row_group_alone(
    reader: ParquetReader, remote: tuple[ParquetReader, SlowStore]
) -> None:
    _damage(reader, 1, 2)
    in_store, store = remote
    for blocks in (in_store._blocks, None):
        again = ParquetReader(in_store.shards, FEATURES, blocks=blocks)
        with pytest.warns(UserWarning, match=r"1.parquet: row group 2 is damaged.*its 30 rows cannot be read"):
            rows = _rows(again, "exact", skip_damaged=True)
        assert sorted(rows) == [row for row in range(len(reader)) if not 160 <= row < 190]
    (store.root / "3.parquet").unlink()
    with pytest.raises(DatasetError, match=r"3.parquet: a file of the dataset is missing"):
        _rows(ParquetReader(in_store.shards, FEATURES), "window")
