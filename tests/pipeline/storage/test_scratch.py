import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.storage import scratch
from penstock.pipeline.storage.scratch import ScratchDatabase, ScratchFolder

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def batches(count: int, rows: int = 1000) -> Iterator[pa.RecordBatch]:
    for begin in range(0, count, rows):
        numbers = np.arange(begin, begin + rows)
        texts = [f"{number:>200}" for number in numbers.tolist()]
        yield pa.RecordBatch.from_arrays([pa.array(numbers), pa.array(texts)], schema=SCHEMA)


def test_batches_go_in_and_come_out():
    database = ScratchDatabase()
    database.create("t", SCHEMA, batches(5000))
    database.append("t", pa.schema([SCHEMA.field("n")]), [pa.RecordBatch.from_pydict({"n": [-1]})])
    assert database.rows("SELECT count(*), min(n), count(text) FROM t WHERE n < ?", 4000) == [(4001, -1, 4000)]
    assert database.value("SELECT max(n) FROM t") == 4999
    ordered = [n for batch in database.batches("SELECT n FROM t ORDER BY n DESC") for n in batch["n"].to_pylist()]
    assert ordered == list(range(4999, -2, -1))


def test_a_query_may_be_read_while_another_table_is_made_of_it():
    database = ScratchDatabase()
    database.create("t", SCHEMA, batches(200_000, 10_000))
    schema = pa.schema([SCHEMA.field("n")])
    database.create("half", schema, (batch.select(["n"]) for batch in database.batches("FROM t WHERE n % 2 = 0")))
    assert database.value("SELECT count(*) FROM half JOIN t USING (n)") == 100_000


def test_what_exceeds_memory_goes_to_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(scratch, "_MEMORY", "128MiB")
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    database = ScratchDatabase()
    database.create("t", SCHEMA, batches(1_000_000, 10_000))  # 200 MB
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) > 10 << 20
    first = next(database.batches("FROM t ORDER BY text DESC"))
    assert first["n"][0].as_py() == 999_999


def test_the_folder_goes_with_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    database, folder = ScratchDatabase(), ScratchFolder()
    assert os.path.isdir(folder.path)
    assert len(os.listdir(tmp_path)) == 2
    del database, folder
    assert os.listdir(tmp_path) == []


def test_what_a_batchs_maker_raises_comes_back():
    def fail() -> Iterator[pa.RecordBatch]:
        yield from batches(1000)
        raise RequestError("expected a list, found none")

    database = ScratchDatabase()
    with pytest.raises(RequestError, match=r"^expected a list, found none$"):
        database.create("t", SCHEMA, fail())
    database.create("t", SCHEMA, batches(1000))  # nothing of the first attempt is there
    assert database.value("SELECT count(*) FROM t") == 1000


def test_a_lack_of_space_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch, "_MEMORY", "1MiB")
    database = ScratchDatabase()
    with pytest.raises(OSError, match=r"expected space for what does not fit in memory, found .*set TMPDIR"):
        database.create("t", SCHEMA, batches(400_000, 10_000))


def test_a_mistake_in_a_query_is_no_lack_of_space():
    with pytest.raises(PenstockError, match="the plan's database failed: Catalog Error"):
        ScratchDatabase().run("FROM nothing")


def test_a_fork_leaves_the_folder_alone():
    folder = ScratchFolder()
    child = os.fork()
    if not child:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.path.isdir(folder.path)
