import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stored_datasets import write_shard

from penstock.pipeline import DatasetError
from penstock.pipeline.load import Dataset
from penstock.pipeline.load.records import ShardRecords

RECORDS = [b"a", b"", b"ccc" * 100, b"d"]


@pytest.fixture
def records(tmp_path: Path) -> ShardRecords:
    return ShardRecords(
        [
            write_shard(tmp_path, "0", RECORDS[:2]),
            write_shard(tmp_path, "1", []),
            write_shard(tmp_path, "2", RECORDS[2:]),
        ]
    )


def test_records_are_numbered_through_all_shards(records: ShardRecords) -> None:
    assert len(records) == 4
    assert records.sizes == (2, 0, 2)
    assert [records[number] for number in range(4)] == RECORDS


def test_records_pickle(records: ShardRecords) -> None:
    records[0]
    assert pickle.loads(pickle.dumps(records))[3] == RECORDS[3]


@pytest.mark.parametrize("name", ["{}", "{}.gz"])
def test_each_record_is_given_or_says_why_not(tmp_path: Path, name: str) -> None:
    shards = [write_shard(tmp_path, name.format(number), RECORDS[number : number + 2]) for number in (0, 2)]
    records = ShardRecords(shards)
    assert dict(records.each([3, 0, 2, 0])) == {0: RECORDS[3], 1: RECORDS[0], 2: RECORDS[2], 3: RECORDS[0]}
    Path(shards[1].uri).unlink()
    given = dict(ShardRecords(shards).each([3, 0]))
    assert given[1] == RECORDS[0]
    assert isinstance(given[0], DatasetError)
    assert "/2" in str(given[0])


def test_a_record_is_read_when_it_is_asked_for(records: ShardRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(ShardRecords, "__getitem__", lambda _, number: read.append(number) or RECORDS[number])
    given = records.each([3, 0, 2])
    assert next(given) == (1, RECORDS[0])
    assert read == [0]
    assert list(given) == [(2, RECORDS[2]), (0, RECORDS[3])]


def test_a_store_is_read_in_ranges(tmp_path: Path) -> None:
    records = ShardRecords([write_shard(tmp_path, "0", RECORDS, prefix="file://")])
    assert [records[number] for number in (3, 0, 2)] == [RECORDS[3], RECORDS[0], RECORDS[2]]


def test_every_flipped_bit_of_a_record_is_found(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "0", [b"abc", b"def"])
    content = bytearray(Path(shard.uri).read_bytes())
    for position in range(12, 19):  # the first record and its checksum
        damaged = content.copy()
        damaged[position] ^= 1
        Path(shard.uri).write_bytes(damaged)
        records = ShardRecords([shard])
        with pytest.raises(DatasetError, match=r"record 0 is damaged.*penstock verify"):
            records[0]
        assert records[1] == b"def"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "0", RECORDS)
    Path(shard.uri).unlink()
    with pytest.raises(DatasetError, match=r"/0: a file of the dataset is missing"):
        ShardRecords([shard])[0]


def test_an_index_of_another_length_is_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "0", RECORDS)
    Path(shard.index_uri).write_bytes(np.zeros(3, "<u8").tobytes())
    with pytest.raises(DatasetError, match="expected 5 offsets, found 3"):
        ShardRecords([shard])[0]


@pytest.mark.parametrize("offsets", [[0] * 5, [0, 17, 33, 1 << 40, 366], [1, 17, 33, 349, 366], [0, 17, 33, 349, 360]])
def test_offsets_that_are_none_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    shard = write_shard(tmp_path, "0", RECORDS)
    assert shard.bytes == 366
    Path(shard.index_uri).write_bytes(np.array(offsets, "<u8").tobytes())
    with pytest.raises(DatasetError, match="expected the offsets of records in 366 bytes, found others"):
        ShardRecords([shard])[0]


@pytest.mark.parametrize("place", [0, 12, 20, -2])
def test_damaged_compression_is_named(tmp_path: Path, place: int) -> None:
    shard = write_shard(tmp_path, "0.gz", RECORDS)
    content = bytearray(Path(shard.uri).read_bytes())
    content[place] ^= 255
    Path(shard.uri).write_bytes(content)
    with pytest.raises(DatasetError, match=r"0.gz: its compression is damaged"):
        ShardRecords([shard])[0]


@pytest.mark.slow
def test_a_dataset_in_a_store_is_read_without_beam(dataset: Dataset) -> None:
    """`file://` stands for a store: whatever has a scheme goes through a store's client."""
    script = f"""
import sys
from penstock.pipeline import NotCommittedError, open_dataset
remote, local = open_dataset("file://{dataset.uri}", verify=True), open_dataset("{dataset.uri}")
for one, other in zip(remote.numpy("train", 4), local.numpy("train", 4), strict=True):
    assert all((one[name] == other[name]).all() for name in other)
assert remote.source("train")[3]["row"] == local.source("train")[3]["row"]
try:
    open_dataset("file://{dataset.uri}/nothing")
except NotCommittedError as error:
    print(error)
assert "apache_beam" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "nothing" in ran.stdout
