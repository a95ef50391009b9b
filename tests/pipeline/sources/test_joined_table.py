"""A joined table in a file gives the rows that one in memory gives, whatever its keys, in little memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import Made, run_job, write

from penstock.pipeline import Csv, JsonLines, Recipe, RequestError, Union, join
from penstock.pipeline.sources import joined_table
from penstock.pipeline.sources.join import JoinTable
from penstock.pipeline.sources.joined_table import DiskTable, MemoryTable, hash_keys, in_memory, write_sorted

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64()), ("words", pa.list_(pa.string())), ("raw", pa.binary())])


def rows(count: int, seed: int = 0) -> pa.RecordBatch:
    """Rows with a key each, but for every 50th."""
    order = np.random.default_rng(seed).permutation(count).tolist()
    return pa.RecordBatch.from_pylist(
        [
            {
                "id": None if number % 50 == 7 else f"key {number}",
                "n": number if number % 3 else None,
                "words": ["w"] * (number % 4) if number % 5 else None,
                "raw": bytes([number % 256]) * (number % 3),
            }
            for number in order
        ],
        SCHEMA,
    )


def parts(batch: pa.RecordBatch, size: int) -> list[pa.RecordBatch]:
    return [batch.slice(begin, size) for begin in range(0, len(batch), size)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of few rows, that wait for few others."""
    monkeypatch.setattr(joined_table, "_PART_BYTES", 1000)
    monkeypatch.setattr(joined_table, "_WAITING", 5000)
    monkeypatch.setattr(joined_table, "IN_MEMORY", 0)


def both(tmp_path: Path, batch: pa.RecordBatch) -> tuple[MemoryTable, DiskTable]:
    write_sorted(iter(parts(batch, 37)), SCHEMA, "id", 20_000, str(tmp_path / "table.arrow"))
    return MemoryTable(*in_memory([batch], SCHEMA, "id")), DiskTable(str(tmp_path / "table.arrow"))


def looked_up(table: Any, names: pa.Array) -> list[dict[str, Any]]:
    columns = table.take(table.find(names))
    return pa.RecordBatch.from_arrays(columns, schema=table.schema).to_pylist()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_lookups_are_those_of_memory(tmp_path: Path, count: int):
    memory, disk = both(tmp_path, rows(count))
    assert (disk.count, disk.schema) == (memory.count, memory.schema)
    assert set(disk.keys()) == set(memory.keys())
    assert [*disk.keys()][:2] == [*memory.keys()][:2]
    generator = np.random.default_rng(1)
    for size in (0, 1, 500):
        names = [f"key {number}" for number in generator.integers(0, 1200, size).tolist()]
        asked = pa.array([*names, None, "", "key", "key 7"] if size else [], pa.string())
        assert disk.find(asked).is_null().equals(memory.find(asked).is_null())
        assert looked_up(disk, asked) == looked_up(memory, asked)


@pytest.mark.usefixtures("small")
def test_different_keys_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def coarse(names: pa.Array) -> np.ndarray:
        return hash_keys(names) >> np.uint64(60) << np.uint64(60)

    monkeypatch.setattr(joined_table, "hash_keys", coarse)
    memory, disk = both(tmp_path, rows(300))
    asked = pa.array([f"key {number}" for number in range(320)], pa.string())
    assert looked_up(disk, asked) == looked_up(memory, asked)


@pytest.mark.usefixtures("small")
def test_a_key_that_stands_twice_is_refused_in_the_same_words(tmp_path: Path):
    batch = rows(400)
    more = pa.Table.from_batches([batch, *parts(batch, 30)[2:4], batch.slice(5, 1)]).combine_chunks().to_batches()[0]
    with pytest.raises(RequestError) as here:
        in_memory([more], SCHEMA, "id")
    with pytest.raises(RequestError) as there:
        write_sorted(iter(parts(more, 37)), SCHEMA, "id", 20_000, str(tmp_path / "table.arrow"))
    assert str(there.value) == str(here.value)
    assert f"{batch['id'][5].as_py()!r} 2 times" in str(here.value)


LEFT = "id,x\n" + "".join(f"{number % 900},{number}\n" for number in range(2000))
RIGHT = "id,name\n" + "".join(f"{number},row {number}\n" for number in range(0, 1000, 2))


def joined(how: str = "left") -> Recipe:
    source = Union(
        {
            "one": join(Csv("left.csv"), Csv("right.csv"), on="id", how=how),
            "two": join(JsonLines("left.jsonl"), Csv("right.csv"), on="id", how=how),
        }
    )
    return Recipe(source=source, features=lambda inputs: {"x": inputs["x"]}, splits={"train": 0.8, "test": 0.2})


@pytest.mark.parametrize("how", ["left", "inner"])
def test_a_run_makes_the_same_of_a_large_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    raw = write(tmp_path / "raw", {"left.csv": LEFT, "right.csv": RIGHT, "left.jsonl": '{"id": 4, "x": 1}\n' * 9})
    here = run_job(joined(how), raw, tmp_path / "here", hash="6" * 64)
    monkeypatch.setattr(joined_table, "IN_MEMORY", 0)
    read: list[str] = []
    load = JoinTable._load

    def counted(self: JoinTable, listing: Any) -> Any:
        read.append(listing.digest)
        return load(self, listing)

    monkeypatch.setattr(JoinTable, "_load", counted)
    there = run_job(joined(how), raw, tmp_path / "there", hash="6" * 64)
    assert len(read) == 2  # while planning, once for each join: workers look into the files
    for split in ("train", "test"):
        assert Made(tmp_path / "there", there.manifest).records(split) == Made(
            tmp_path / "here", here.manifest
        ).records(split)
    assert there.manifest.warnings == here.manifest.warnings
    assert there.manifest.filtered == here.manifest.filtered


def test_a_table_is_looked_up_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of what Arrow allocates: a few parts, whatever the table's size."""
    monkeypatch.setattr(joined_table, "_PART_BYTES", 1 << 20)
    monkeypatch.setattr(joined_table, "_WAITING", 2 << 20)
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    before = pa.total_allocated_bytes()
    peak = 0

    def batches() -> Any:
        nonlocal peak
        for begin in range(0, 400_000, 10_000):
            peak = max(peak, pa.total_allocated_bytes() - before)
            names = [str(number) for number in range(begin, begin + 10_000)]
            yield pa.RecordBatch.from_pydict({"id": names, "text": [name * 20 for name in names]}, schema)

    write_sorted(batches(), schema, "id", 48 << 20, str(tmp_path / "table.arrow"))
    assert (tmp_path / "table.arrow").stat().st_size > 48 << 20
    assert peak < 16 << 20
    table = DiskTable(str(tmp_path / "table.arrow"))
    (texts,) = table.take(table.find(pa.array(["7", "399999", "x"])))
    assert texts.to_pylist() == ["7" * 20, "399999" * 20, None]
    del texts
    assert pa.total_allocated_bytes() - before < 1 << 20
