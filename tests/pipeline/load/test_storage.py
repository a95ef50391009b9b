import pickle
from pathlib import Path

import numpy as np
import pytest

from penstock.pipeline import DatasetError
from penstock.pipeline.load.storage import Records, ShardFile

from .datasets import frame


def _shard(folder: Path, name: str, records: list[bytes], prefix: str = "") -> ShardFile:
    content, offsets = frame(records)
    (folder / name).write_bytes(content)
    (folder / f"{name}.u64").write_bytes(offsets)
    return ShardFile(f"{prefix}{folder / name}", f"{prefix}{folder / name}.u64", len(records), len(content))


RECORDS = [b"a", b"", b"ccc" * 100, b"d"]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records([_shard(tmp_path, "0", RECORDS[:2]), _shard(tmp_path, "1", []), _shard(tmp_path, "2", RECORDS[2:])])


def test_records_are_numbered_through_all_shards(records: Records) -> None:
    assert len(records) == 4
    assert records.sizes == (2, 0, 2)
    assert [records[number] for number in range(4)] == RECORDS


def test_records_pickle(records: Records) -> None:
    records[0]
    assert pickle.loads(pickle.dumps(records))[3] == RECORDS[3]


def test_a_store_is_read_in_ranges(tmp_path: Path) -> None:
    records = Records([_shard(tmp_path, "0", RECORDS, prefix="file://")])
    assert [records[number] for number in (3, 0, 2)] == [RECORDS[3], RECORDS[0], RECORDS[2]]


def test_every_flipped_bit_of_a_record_is_found(tmp_path: Path) -> None:
    shard = _shard(tmp_path, "0", [b"abc", b"def"])
    content = bytearray(Path(shard.uri).read_bytes())
    for position in range(12, 19):  # the first record and its checksum
        damaged = content.copy()
        damaged[position] ^= 1
        Path(shard.uri).write_bytes(damaged)
        records = Records([shard])
        with pytest.raises(DatasetError, match=r"record 0 is damaged.*penstock verify"):
            records[0]
        assert records[1] == b"def"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    shard = _shard(tmp_path, "0", RECORDS)
    Path(shard.uri).unlink()
    with pytest.raises(DatasetError, match=r"/0: a file of the dataset is missing"):
        Records([shard])[0]


def test_an_index_of_another_length_is_refused(tmp_path: Path) -> None:
    shard = _shard(tmp_path, "0", RECORDS)
    Path(shard.index_uri).write_bytes(np.zeros(3, "<u8").tobytes())
    with pytest.raises(DatasetError, match="expected 5 offsets, found 3"):
        Records([shard])[0]
