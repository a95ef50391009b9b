"""A damaged Parquet file costs itself: this process lives, and says which file it is."""

import io
import os
import random
import re
import signal
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.sources import parquet_child, parquet_files
from penstock.pipeline.sources.file_content import FileParts, PartReader
from penstock.pipeline.sources.parquet import Parquet
from penstock.pipeline.sources.parquet_files import UnreadableError
from penstock.pipeline.storage import files, stores
from penstock.pipeline.storage.child_process import ChildPool, ChildProcess
from penstock.pipeline.storage.files import FileInfo

MODULE = "penstock.pipeline.sources.parquet_child"

TABLE = pa.table({"i": [1, 2, 3], "s": ["a", "b", None], "l": [[1], [2, 3], []]})


def encoded(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_a_footer_that_makes_arrow_crash_is_refused_by_name(tmp_path):
    content = encoded(TABLE, store_schema=False)
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    crashes = 0
    for at in range(footer + 18, footer + 30):
        damaged = bytearray(content)
        damaged[at] ^= 0x0F
        (tmp_path / "t.parquet").write_bytes(damaged)
        try:
            listing = Parquet("t.parquet").find(str(tmp_path), 1 << 20)
            Parquet("t.parquet").read(listing.ranges[0], listing.schema)
        except PenstockError as error:
            crashes += bool(re.search(r"t\.parquet.*: .*the process that reads it was ended by SIG", str(error)))
    assert crashes >= 2
    (tmp_path / "t.parquet").write_bytes(content)
    assert Parquet("t.parquet").find(str(tmp_path), 1 << 20).ranges[0].rows == 3


def test_a_file_that_takes_too_long_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "_TIMEOUT", 0.3)
    (tmp_path / "t.parquet").write_bytes(encoded(TABLE))
    pool = ChildPool(lambda: ChildProcess(MODULE), 1)
    with pool.child() as child:
        os.kill(child._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(parquet_files, "_children", lambda process: pool)
    with pytest.raises(RequestError, match=r"t\.parquet: .*no answer within 0 s of the process that reads it"):
        Parquet("t.parquet").find(str(tmp_path), 1 << 20)
    assert Parquet("t.parquet").find(str(tmp_path), 1 << 20).ranges[0].rows == 3  # by another process
    pool.close()


def info(uri):
    return files.describe(uri)


@pytest.mark.parametrize("root", ["disk", "memory://many-threads"])
def test_many_threads_read_what_was_written(tmp_path, monkeypatch, root):
    monkeypatch.setattr(parquet_files, "_SMALL", 0)  # nothing is fetched whole
    root = str(tmp_path) if root == "disk" else root
    tables = [TABLE.slice(0, number % 3 + 1) for number in range(12)]
    for number, table in enumerate(tables):
        files.write_bytes(f"{root}/{number}.parquet", encoded(table, row_group_size=2))

    def read(number):
        uri = f"{root}/{number}.parquet"
        schema, groups = parquet_files.metadata(info(uri))
        return parquet_files.read_groups(uri, 0, len(groups), schema.names, 0)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(12))) == tables
    with pytest.raises((UnreadableError, RequestError), match=r"No such file|nothing is there"):
        parquet_files.metadata(FileInfo(f"{root}/none.parquet", 100, 0.0))


def test_a_store_that_fails_costs_one_request(monkeypatch):
    uri = "memory://fails/t.parquet"
    files.write_bytes(uri, encoded(TABLE))
    pool = ChildPool(lambda: ChildProcess(MODULE), 1)
    monkeypatch.setattr(parquet_files, "_children", lambda process: pool)

    def fail(uri, begin, end, etag=""):
        raise files.UnreachableError("reset by peer (after 10 tries in 60 s)")

    with monkeypatch.context() as patch:
        patch.setattr(files, "read_range", fail)
        with pytest.raises(RequestError, match="expected the store to answer, found: reset by peer"):
            parquet_files.metadata(info(uri))
        with pytest.raises(PenstockError, match="expected the store to answer, found: reset by peer"):
            parquet_files.read_groups(uri, 0, 1, ["i"], 0)
        patch.setattr(parquet_files, "read_in_pieces", fail)
        with pytest.raises(UnreadableError, match="reset by peer"):  # what was fetched is not all that it takes
            parquet_files.read_groups(uri, 0, 1, ["i"], 0, FileParts({}, files.size(uri)))
    assert parquet_files.metadata(info(uri))[0].names == TABLE.column_names
    pool.close()


def spans_of(content, names, begin=0, end=None):
    class Content(io.BytesIO):
        def size(self):
            return len(content)

    groups = pq.ParquetFile(io.BytesIO(content)).num_row_groups
    return parquet_child.column_spans(Content(content), begin, groups if end is None else end, names)


def test_only_the_bytes_of_the_columns_are_fetched(monkeypatch):
    uri = "memory://spans/t.parquet"
    noise = np.random.default_rng(0).integers(0, 1 << 60, (3, 200_000))
    table = pa.table({"a.b": noise[0], "x": noise[1], "l": pa.array(noise[2].reshape(-1, 2).tolist() * 2)})
    content = encoded(table, row_group_size=50_000, compression="none", use_dictionary=False)
    files.write_bytes(uri, content)
    groups = parquet_files.metadata(info(uri))[1]
    assert len(groups) == 4
    for names in (["a.b"], ["x"], ["l"], ["a.b", "l"], ["l", "x", "a.b"]):
        before = stores.COUNTS.snapshot()
        reader = PartReader()
        for begin, end in ((1, 3), (0, 1), (3, 4)):
            fetched = parquet_files.fetch_groups(uri, begin, end, names, 0, reader)
            with monkeypatch.context() as patch:  # what was fetched is enough
                patch.setattr(files, "read_range", None)
                found = parquet_files.read_groups(uri, begin, end, names, 0, fetched)
            assert found == table.slice(begin * 50_000, (end - begin) * 50_000).select(names)
            assert fetched.size < 8 * 50_000 * (end - begin) * (len(names) + ("l" in names)) + (100 << 10)
        after = stores.COUNTS.snapshot()
        assert after["head"] - before.get("head", 0) == 1
        spans = [len(spans_of(content, names, *span)) for span in ((1, 3), (0, 1), (3, 4))]
        assert after["get"] - before["get"] == 1 + sum(spans)  # the footer once
    assert spans_of(content, ["l", "x", "a.b"]) == [(4, sum(size for _, size in groups) + 4)]


def test_a_long_footer_is_asked_for_twice():
    uri = "memory://long-footer/t.parquet"
    table = pa.table({f"column_{number}": [number] for number in range(2000)})
    files.write_bytes(uri, encoded(table))
    before = stores.COUNTS.snapshot()
    assert parquet_files.metadata(FileInfo(uri, files.size(uri), 0.0))[0].names == table.column_names
    assert stores.COUNTS.snapshot()["get"] - before.get("get", 0) == 2


def test_a_small_file_is_fetched_whole():
    uri = "memory://small/t.parquet"
    files.write_bytes(uri, encoded(TABLE))
    before = stores.COUNTS.snapshot()
    fetched = parquet_files.fetch_groups(uri, 0, 1, ["i", "s", "l"], 0, PartReader())
    assert parquet_files.read_groups(uri, 0, 1, ["i", "s", "l"], 0, fetched) == TABLE
    after = stores.COUNTS.snapshot()
    assert {kind: count - before.get(kind, 0) for kind, count in after.items() if count != before.get(kind, 0)} == {
        "head": 1,
        "get": 1,
    }


def test_damaged_files_of_stores_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(parquet_files, "_SMALL", 0)
    content = encoded(TABLE)
    rng = random.Random(0)
    for number in range(40):
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(content) * 2 // 3, len(content))] ^= rng.randrange(1, 256)
        uri = f"memory://damaged/{number}.parquet"
        files.write_bytes(uri, bytes(damaged))
        try:
            found = parquet_files.read_groups(uri, 0, 1, ["i", "s", "l"], 0)
            assert found.num_rows == 3
        except UnreadableError:
            pass


def test_a_relative_path_is_one_of_the_folder_that_this_process_is_in(tmp_path, monkeypatch):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        pq.write_table(TABLE.slice(0, number), tmp_path / str(number) / "t.parquet")
        monkeypatch.chdir(tmp_path / str(number))
        assert parquet_files.metadata(info("t.parquet"))[1][0][0] == number


def test_strings_that_are_no_utf8_cost_their_rows(tmp_path, read_all):
    words = pa.array([b"a", b"\xff", "é".encode(), None]).view(pa.string())
    lists = pa.ListArray.from_arrays([0, 1, 2, 3, 3], words[:3])
    (tmp_path / "t.parquet").write_bytes(encoded(pa.table({"n": [1, 2, 3, 4], "s": words})))
    read = read_all(Parquet("t.parquet"), tmp_path)
    assert [row["s"] for row in read.rows] == ["a", "é", None]
    assert read.codes == {1: "encoding"}
    (tmp_path / "t.parquet").write_bytes(encoded(pa.table({"l": lists, "d": words.dictionary_encode()})))
    read = read_all(Parquet("t.parquet", columns={"l": "auto"}), tmp_path)
    assert [row["l"] for row in read.rows] == [["a"], ["é"], []]
    assert read.codes == {1: "encoding"}
    assert read_all(Parquet("t.parquet", columns={"d": "auto"}), tmp_path).codes == {1: "encoding"}
