"""Records in memory or in a file are given alike, and a shard is the same whether they fit into memory or not."""

import hashlib
import math
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.pipeline.build import record_buffer, shards
from penstock.pipeline.build.global_shuffle import SegmentWriter, read_bucket
from penstock.pipeline.build.record_buffer import BatchBuffer, RecordBuffer
from penstock.pipeline.build.shards import ParquetShard, TfRecordShard
from penstock.pipeline.formats import paths
from penstock.pipeline.formats.example_writer import encode, with_dictionaries
from penstock.pipeline.formats.features import describe_columns
from penstock.pipeline.formats.paths import ShardName
from penstock.pipeline.formats.tfrecord import read_records
from penstock.pipeline.formats.tfrecord_columns import frame

PICK = random.Random(3)
RECORDS = [PICK.randbytes(PICK.randrange(40)) for _ in range(500)]
POSITIONS = np.random.default_rng(3).integers(0, 2**64, 500, np.uint64)


@pytest.mark.parametrize("most", [0, 100, 3000, 1 << 20])
def test_records_are_given_by_number(most: int):
    buffer = RecordBuffer(most)
    for begin in range(0, 500, 7):
        buffer.extend(RECORDS[begin : begin + 7])
    assert len(buffer) == 500
    assert [buffer[number] for number in reversed(range(500))] == RECORDS[::-1]
    assert (buffer._file is None) == (most == 1 << 20)
    buffer.close()


ROWS = pa.table(
    {
        "n": pa.array(range(500)),
        "s": pa.array([None if number % 7 == 0 else f"word {number}" for number in range(500)]),
        "l": pa.array([list(range(number % 4)) for number in range(500)]),
    }
).to_batches()[0]


def plain(rows: pa.Table) -> bytes:
    """As PyArrow writes a table at once."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True, row_group_size=200)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("most", [0, 3000, 1 << 20])
@pytest.mark.parametrize("positions", [POSITIONS, None])
@pytest.mark.parametrize("count", [500, 0])
def test_a_parquet_shard_is_as_pyarrow_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, positions: np.ndarray | None, count: int
):
    monkeypatch.setattr(shards, "BatchBuffer", lambda schema: BatchBuffer(schema, most))
    monkeypatch.setattr(shards, "_ROW_GROUP", 200)
    shard = ParquetShard(str(tmp_path), ShardName("train", 0, 1, False, "parquet"), ROWS.schema)
    for part in parts()[:count]:
        shard.add(ROWS[part], None if positions is None else positions[part])
    stored = shard.finish().file
    order = np.arange(count) if positions is None else np.argsort(positions[:count], kind="stable")
    expected = plain(pa.Table.from_batches([ROWS]).take(pa.array(order)))
    content = (tmp_path / stored.path).read_bytes()
    assert content == expected
    assert (stored.bytes, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def parts() -> list[slice]:
    return [slice(begin, begin + 9) for begin in range(0, 500, 9)]


def test_a_shard_and_a_segment_file_are_the_same_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = []
    for most in (record_buffer.MOST, 100):
        monkeypatch.setattr(shards, "BatchBuffer", lambda schema, most=most: BatchBuffer(schema, most))
        monkeypatch.setattr("penstock.pipeline.build.global_shuffle.RecordBuffer", lambda most=most: RecordBuffer(most))
        root = tmp_path / str(most)
        shard = TfRecordShard(str(root), ShardName("train", 0, 1, False))
        writer = SegmentWriter.of_unit(str(root), 0, ["train"], 3)
        for part in parts():
            frames = frame(pa.array(RECORDS[part], pa.large_binary()))
            shard.add(frames, POSITIONS[part])
            writer.add("train", frames, POSITIONS[part])
        written.append((shard.finish(), writer.finish()))
    assert written[0] == written[1]
    ordered = [RECORDS[row] for row in np.argsort(POSITIONS)]
    assert list(shards.read_examples(str(root / written[0][0].file.path))) == ordered
    first = range(math.ceil(2**64 / 3))
    assert [record for _, record in read_bucket(str(root), paths.unit_segments(0), ["train"], 0)["train"]] == [
        record for record, position in zip(RECORDS, POSITIONS.tolist(), strict=True) if position in first
    ]


COLUMNS = pa.record_batch(
    {
        "a": [f"word {number % 3}" for number in range(500)],
        "b": [number % 5 for number in range(500)],
        "c": [None if number % 7 == 0 else number / 3 for number in range(500)],
    }
)


@pytest.mark.parametrize("most", [record_buffer.MOST, 3000, 0])
@pytest.mark.parametrize("kind", ["columns", "frames between"])
@pytest.mark.parametrize("positions", [POSITIONS, None])
def test_columns_are_written_as_their_records_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, kind: str, positions: np.ndarray | None
):
    monkeypatch.setattr(shards, "MOST", most)
    monkeypatch.setattr(shards, "_FRAMES", 60)
    features = describe_columns(COLUMNS.schema)
    records = encode(COLUMNS, features)
    shard = TfRecordShard(str(tmp_path), ShardName("train", 0, 1, False), features)
    for begin in range(0, 500, 100):
        part = slice(begin, begin + 100)
        is_frames = kind == "frames between" and begin in (100, 400)
        examples = frame(records[part]) if is_frames else with_dictionaries(COLUMNS[part])
        shard.add(examples, None if positions is None else positions[part])
    stored = shard.finish()
    order = np.arange(500) if positions is None else np.argsort(positions)
    assert list(read_records(str(tmp_path / stored.file.path))) == records.take(pa.array(order)).to_pylist()
    assert (stored.file.examples, stored.index.bytes) == (500, 8 * 501)


def test_a_segment_file_of_columns_is_that_of_their_records(tmp_path: Path):
    written = []
    records = encode(COLUMNS, describe_columns(COLUMNS.schema))
    for folder, examples in (("columns", with_dictionaries(COLUMNS)), ("records", records.to_pylist())):
        writer = SegmentWriter.of_unit(str(tmp_path / folder), 0, ["train"], 3, COLUMNS.schema)
        writer.add("train", examples, POSITIONS)
        written.append(writer.finish())
    assert written[0] == written[1]


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize("size", [1, 200, 1 << 20])
def test_frames_are_written_as_the_records_are(
    tmp_path: Path, size: int, is_gzip: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards, "_WRITTEN", size)
    written = []
    for folder, positions in (("records", None), ("frames", None), ("ordered", np.arange(500, dtype=np.uint64))):
        shard = TfRecordShard(str(tmp_path / folder), ShardName("train", 0, 1, is_gzip))
        for part in parts():
            records = RECORDS[part] if folder == "records" else frame(pa.array(RECORDS[part], pa.large_binary()))
            shard.add(records, None if positions is None else positions[part])
        stored = shard.finish()
        index = (tmp_path / folder / stored.index.path).read_bytes()
        written.append((index, list(read_records(str(tmp_path / folder / stored.file.path)))))
    assert written[0] == written[1] == written[2]
    assert written[0][1] == RECORDS
