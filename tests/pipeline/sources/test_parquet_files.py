"""A damaged Parquet file costs itself: this process lives, and says which file it is."""

import io
import os
import re
import signal
import struct
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.sources import parquet_files
from penstock.pipeline.sources.parquet import Parquet
from penstock.pipeline.sources.parquet_files import UnreadableError
from penstock.pipeline.storage.child_process import ChildPool, ChildProcess

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


@pytest.mark.parametrize("local", [True, False])
def test_many_threads_read_what_was_written(tmp_path, monkeypatch, local):
    monkeypatch.setattr(parquet_files.files, "is_local", lambda uri: local)
    monkeypatch.setattr(parquet_files.files, "open_read", lambda uri: io.FileIO(uri))
    tables = [TABLE.slice(0, number % 3 + 1) for number in range(12)]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=2)

    def read(number):
        uri = str(tmp_path / f"{number}.parquet")
        schema, groups = parquet_files.metadata(uri)
        return parquet_files.read_groups(uri, 0, len(groups), schema.names, 0)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(12))) == tables
    with pytest.raises(UnreadableError, match="No such file"):
        parquet_files.metadata(str(tmp_path / "none.parquet"))


def test_a_store_that_fails_costs_one_request(tmp_path, monkeypatch):
    class Failing(io.FileIO):
        def read(self, size=-1):
            raise ConnectionError("reset by peer")

    pq.write_table(TABLE, tmp_path / "t.parquet")
    pool = ChildPool(lambda: ChildProcess(MODULE), 1)
    monkeypatch.setattr(parquet_files, "_children", lambda process: pool)
    monkeypatch.setattr(parquet_files.files, "is_local", lambda uri: False)
    monkeypatch.setattr(parquet_files.files, "open_read", Failing)
    with pytest.raises(UnreadableError, match="reset by peer"):
        parquet_files.metadata(str(tmp_path / "t.parquet"))
    monkeypatch.setattr(parquet_files.files, "open_read", lambda uri: io.FileIO(uri))
    assert parquet_files.metadata(str(tmp_path / "t.parquet"))[0].names == TABLE.column_names
    pool.close()


def test_a_relative_path_is_one_of_the_folder_that_this_process_is_in(tmp_path, monkeypatch):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        pq.write_table(TABLE.slice(0, number), tmp_path / str(number) / "t.parquet")
        monkeypatch.chdir(tmp_path / str(number))
        assert parquet_files.metadata("t.parquet")[1][0][0] == number


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
