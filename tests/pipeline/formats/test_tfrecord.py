import gzip
import io
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf

from penstock.pipeline import DatasetError
from penstock.pipeline.formats.tfrecord import RecordWriter, is_intact, mask_crc, read_length, read_records

RECORDS = [b"", b"a", bytes(range(256)) * 300, b"last"]


def write(path: Path, records: list[bytes] = RECORDS) -> RecordWriter:
    with path.open("wb") as file:
        writer = RecordWriter(file, "gzip" if path.suffix == ".gz" else None)
        writer.append(records)
        writer.digest = writer.finish()
    return writer


def test_bytes_are_tensorflows(tmp_path: Path):
    writer = write(tmp_path / "ours")
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as theirs:
        for record in RECORDS:
            theirs.write(record)
    content = (tmp_path / "ours").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert writer.records == len(RECORDS)
    assert writer.size == len(content)
    assert writer.offsets[0] == 0
    assert writer.offsets[-1] == len(content)
    for start, end, record in zip(writer.offsets, writer.offsets[1:], RECORDS, strict=False):
        assert content[start + 12 : end - 4] == record


def test_a_checksum_is_masked_alike_alone_and_in_an_array():
    """The mask of leveldb's log format (util/crc32c.h), rotated by hand: 0xE3069283 is the CRC-32C of "123456789"."""
    crcs = np.array([0, 1, 0xE3069283, 0xFFFFFFFF], np.uint64)
    expected = [0xA282EAD8, 0xA284EAD8, 0xC78AB0E5, 0xA282EAD7]
    assert [mask_crc(int(crc)) for crc in crcs] == mask_crc(crcs).tolist() == expected
    assert is_intact(b"123456789", (0xC78AB0E5).to_bytes(4, "little"))


def test_a_header_that_is_cut_off_or_damaged_has_no_length():
    header = (7).to_bytes(8, "little")
    header += mask_crc(google_crc32c.value(header)).to_bytes(4, "little")
    assert read_length(header) == 7
    assert read_length(header[:11]) is None
    assert read_length(b"\x08" + header[1:]) is None


def test_no_records_make_an_empty_file(tmp_path: Path):
    writer = write(tmp_path / "ours", [])
    assert (writer.records, writer.size, [*writer.offsets]) == (0, 0, [0])
    assert list(read_records(str(tmp_path / "ours"))) == []


def test_gzip_is_the_same_bytes_every_time_and_tensorflow_reads_it(tmp_path: Path):
    first, second = write(tmp_path / "one.gz"), write(tmp_path / "two.gz")
    content = (tmp_path / "one.gz").read_bytes()
    assert content == (tmp_path / "two.gz").read_bytes()
    assert first.digest == second.digest
    assert first.size == len(content)
    assert first.offsets[-1] == len(gzip.decompress(content))
    assert list(tf.data.TFRecordDataset(str(tmp_path / "one.gz"), "GZIP").as_numpy_iterator()) == RECORDS


@pytest.mark.parametrize("name", ["shard", "shard.gz"])
def test_records_are_read_back(tmp_path: Path, name: str):
    write(tmp_path / name)
    assert list(read_records(str(tmp_path / name))) == RECORDS


@pytest.mark.parametrize("name", ["shard", "shard.gz"])
def test_any_truncation_is_found(tmp_path: Path, name: str):
    records = [b"first", b"second" * 9]
    offsets = write(tmp_path / name, records).offsets
    content = (tmp_path / name).read_bytes()
    whole_at = set(offsets) if name == "shard" else {0}  # a cut between records is found by the counts
    for length in range(len(content)):
        (tmp_path / name).write_bytes(content[:length])
        if length in whole_at:
            assert len(list(read_records(str(tmp_path / name)))) == offsets.index(length)
        else:
            with pytest.raises(DatasetError, match="penstock verify"):
                list(read_records(str(tmp_path / name)))


def test_any_flipped_bit_is_found(tmp_path: Path):
    write(tmp_path / "shard", [b"first", b"second"])
    content = (tmp_path / "shard").read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "shard").write_bytes(flipped)
        with pytest.raises(DatasetError, match=r"record \d is damaged|record \d has a damaged"):
            list(read_records(str(tmp_path / "shard")))


def test_a_flipped_bit_of_a_compressed_shard_never_gives_other_records(tmp_path: Path):
    records = [b"first" * 30, b"second" * 20]
    write(tmp_path / "shard.gz", records)
    content = (tmp_path / "shard.gz").read_bytes()
    unnoticed = 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "shard.gz").write_bytes(flipped)
        try:
            found = list(read_records(str(tmp_path / "shard.gz")))
        except DatasetError:
            continue
        assert found == records
        unnoticed += 1
    assert unnoticed <= 8 * 6 + 7  # the header's time, level and system, and what fills up the last byte


def test_the_digest_is_of_the_file(tmp_path: Path):
    import hashlib

    out = io.BytesIO()
    writer = RecordWriter(out)
    writer.append(RECORDS)
    assert writer.finish() == hashlib.sha256(out.getvalue()).hexdigest()
