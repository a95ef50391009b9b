"""Tables in a store: what is read is what a disk gives, and by how many requests."""

import gzip
import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.pipeline import Csv, JsonLines, Parquet, TfRecord, Union, join
from penstock.pipeline.errors import PenstockError
from penstock.pipeline.formats.example_writer import serialize
from penstock.pipeline.formats.features import describe
from penstock.pipeline.formats.tfrecord import RecordWriter
from penstock.pipeline.prepare.fetch import RangeFetcher
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.pipeline.prepare.tables import TablePreparer, TableSteps
from penstock.pipeline.sources import parquet_files, row_scan, text_ranges
from penstock.pipeline.splits.rules import by_hash
from penstock.pipeline.storage import files, stores

RANGE = 20 << 10
NUMBERS = range(12_000)
STORED = pa.schema([("n", pa.int64()), ("s", pa.string())])
_names = itertools.count()


def text(number: int) -> str:
    return f'a "quoted" line\nof {number}' if number % 7 == 0 else f"text {number * 37}"


def csv_rows(numbers: Sequence[int]) -> str:
    return "n,s\n" + "".join(f'{number},"{text(number).replace(chr(34), chr(34) * 2)}"\n' for number in numbers)


def json_rows(numbers: Sequence[int]) -> str:
    return "".join(json.dumps({"n": number, "s": text(number)}) + "\n" for number in numbers)


def records(numbers: Sequence[int]) -> bytes:
    features = {"n": describe("n", 1, ""), "s": describe("s", "", "")}
    out = io.BytesIO()
    RecordWriter(out).append(serialize({"n": number, "s": text(number)}, features) for number in numbers)
    return out.getvalue()


def parquet(numbers: Sequence[int]) -> bytes:
    out = io.BytesIO()
    table = pa.table({"n": pa.array(numbers, pa.int64()), "s": [text(number) for number in numbers]})
    pq.write_table(table, out, row_group_size=1500)
    return out.getvalue()


FILES = {
    "csv": csv_rows(NUMBERS).encode(),
    "jsonl": json_rows(NUMBERS).encode(),
    "tfrecord": records(NUMBERS),
    "parquet": parquet(NUMBERS),
    "csv.gz": gzip.compress(csv_rows(NUMBERS[:2000]).encode()),
    "right.csv": ("n,x\n" + "".join(f"{number},{number * 3}\n" for number in NUMBERS)).encode(),
}
SOURCES = {
    "csv": Csv("t.csv"),
    "jsonl": JsonLines("t.jsonl"),
    "tfrecord": TfRecord("t.tfrecord", columns={"n": "int64", "s": "string"}),
    "parquet": Parquet("t.parquet"),
    "csv.gz": Csv("t.csv.gz"),
    "union": Union({"a": Csv("t.csv"), "b": Parquet("t.parquet")}, tag=None),
    "join": join(JsonLines("t.jsonl"), Csv("t.right.csv"), on="n"),
}


@pytest.fixture
def root(tmp_path: Path) -> str:
    """The same files in a folder, and in a store, whose URI this is."""
    uri = f"memory://tables-{next(_names)}"
    for suffix, content in FILES.items():
        (tmp_path / f"t.{suffix}").write_bytes(content)
        files.write_bytes(f"{uri}/t.{suffix}", content)
    return uri


def worker_of(source: Any, root: str, stored: pa.Schema = STORED) -> tuple[Any, Any]:
    listing = source.find(root, RANGE)
    steps = TableSteps(source, listing.schema, [], by_hash({"train": 0.5, "test": 0.5}), ("train", "test"))
    if "x" in listing.schema.columns.names:
        stored = stored.append(pa.field("x", pa.int64()))
    return TablePreparer(steps, stored, True, 0, StatisticsSpec("train")).start(threads=2), listing


def made(source: Any, root: str, stored: pa.Schema = STORED) -> tuple[list[Any], int, dict[str, int]]:
    """What a unit of all ranges becomes; how many ranges there are; and the requests that it took."""
    worker, listing = worker_of(source, root, stored)
    before = stores.COUNTS.snapshot()
    try:
        chunks = list(worker.chunks(["train", "test"], listing.ranges))
    finally:
        worker.close()
    after = stores.COUNTS.snapshot()
    counts = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    return chunks, len(listing.ranges), {kind: count for kind, count in counts.items() if count}


def content(chunks: Sequence[Any]) -> list[Any]:
    return [
        (name, list(part.examples), part.positions.tolist()) for chunk in chunks for name, part in chunk.splits.items()
    ]


@pytest.mark.parametrize("kind", SOURCES)
def test_what_a_store_gives_is_what_a_disk_does(root: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet_files, "_SMALL", 0)
    from_disk, ranges, no_requests = made(SOURCES[kind], str(tmp_path))
    assert not no_requests
    from_store, remote_ranges, requests = made(SOURCES[kind], root)
    assert ranges == remote_ranges
    assert ranges >= 8 or kind == "csv.gz"
    assert content(from_store) == content(from_disk)
    assert sum(chunk.read for chunk in from_store) == {"csv.gz": 2000, "union": 24_000}.get(kind, 12_000)
    groups = 8
    expected = {
        "csv": {"get": ranges + 1},  # the file's beginning once
        "jsonl": {"get": ranges},
        "tfrecord": {"get": ranges},
        "parquet": {"head": 1, "get": groups + 1},  # the footer once
        "csv.gz": {"get": 1},
        "union": {"head": 1, "get": ranges + 2},
    }
    if kind != "join":  # of which a worker reads the right side, too
        assert requests == expected[kind]


@pytest.mark.parametrize(
    ("source", "content"),
    [
        (Csv("*.csv"), csv_rows(NUMBERS[:100]).encode()),
        (Csv("*.csv", names=["n", "s"]), csv_rows(NUMBERS[:100]).encode()),
        (JsonLines("*.csv"), json_rows(NUMBERS[:100]).encode()),
        (TfRecord("*.csv"), records(NUMBERS[:100])),
        (Parquet("*.csv"), parquet(NUMBERS[:100])),
    ],
    ids=["csv", "csv-without-header", "jsonl", "tfrecord", "parquet"],
)
def test_small_files_take_one_request_each_to_plan_and_one_or_two_to_make(source: Any, content: bytes):
    uri = f"memory://tables-{next(_names)}"
    for number in range(5):
        files.write_bytes(f"{uri}/{number}.csv", content)
    before = stores.COUNTS.snapshot()
    listing = source.find(uri, RANGE)
    after = stores.COUNTS.snapshot()
    assert len(listing.ranges) == 5
    assert after["get"] - before.get("get", 0) == 5
    assert after.get("head", 0) == before.get("head", 0)
    _, _, requests = made(
        source, uri, pa.schema([(name, listing.schema.columns.field(name).type) for name in ("n", "s")])
    )
    assert requests in ({"get": 5}, {"get": 5, "head": 5})
    assert "head" not in requests or isinstance(source, Parquet)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "tfrecord", "parquet"])
def test_a_store_that_fails_while_a_unit_is_made_fails_the_unit(root: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    worker, listing = worker_of(SOURCES[kind], root)

    def fail(uri: str, begin: int, end: int, etag: str) -> bytes:
        raise files.UnreachableError(f"{uri}: no answer (after 10 tries in 60 s)")

    monkeypatch.setattr(files, "read_range", fail)
    try:
        with pytest.raises(PenstockError, match=rf"t\.{kind}: expected the store to answer, found: .*after 10 tries"):
            list(worker.chunks(["train", "test"], listing.ranges))
    finally:
        worker.close()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "tfrecord", "parquet"])
def test_a_file_that_is_gone_fails_the_unit_by_name(root: str, kind: str):
    worker, listing = worker_of(SOURCES[kind], root)
    files.remove(f"{root}/t.{kind}")
    try:
        with pytest.raises(PenstockError, match=rf"{root}/t\.{kind}: .*found: .*nothing is there"):
            list(worker.chunks(["train", "test"], listing.ranges))
    finally:
        worker.close()


def test_ranges_are_scanned_for_rows_by_one_request_each(root: str, tmp_path: Path):
    dialect = Csv("t.csv").format.dialect
    begin = len("n,s\n")
    from_disk, from_store = (
        text_ranges.nominal_ranges(files.describe(f"{folder}/t.csv"), "t.csv", RANGE, begin)
        for folder in (str(tmp_path), root)
    )
    fetcher = RangeFetcher(2)
    before = stores.COUNTS.snapshot()
    scans = [row_scan.scan_range(each, dialect) for each in fetcher.ahead(row_scan.fetch_window, from_store)]
    after = stores.COUNTS.snapshot()
    fetcher.close()
    assert scans == [row_scan.scan_range(each, dialect) for each in from_disk]
    assert fetcher.ahead(row_scan.fetch_window, from_disk) is from_disk
    assert len(scans) > 8
    assert after["get"] - before["get"] == len(scans)
    assert after.get("head", 0) == before.get("head", 0)
