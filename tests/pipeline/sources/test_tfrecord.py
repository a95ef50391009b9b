import functools
import gzip
import struct

import google_crc32c
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.formats.column_notes import ColumnNote, merge
from penstock.pipeline.sources import sampling, tfrecord
from penstock.pipeline.sources.tfrecord import TfRecord

SIZES = [200, 1 << 30]


def example(**features):
    from tensorflow.core.example import example_pb2

    message = example_pb2.Example()
    for name, values in features.items():
        feature = message.features.feature[name]
        for value in values if isinstance(values, list) else [values]:
            kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(value)]
            getattr(feature, kind).value.append(value)
    return message.SerializeToString()


def framed(record):
    length = struct.pack("<Q", len(record))
    return b"".join((length, masked_crc(length), record, masked_crc(record)))


def masked_crc(content):
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@pytest.fixture
def write(tmp_path):
    def _write(records, name="t.tfrecord"):
        content = b"".join(map(framed, records))
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path

    return _write


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["t.tfrecord", "t.tfrecord.gz"])
def test_round_trip(write, read_all, size, name):
    root = write([example(i=i, f=i / 4, b=b"\xff", l=[i, 2], e=[]) for i in range(50)] + [example(i=50)], name)
    read = read_all(TfRecord(name), root, size)
    assert read.rows[:2] == [
        {"b": b"\xff", "e": None, "f": 0.0, "i": 0, "l": [0, 2]},
        {"b": b"\xff", "e": None, "f": 0.25, "i": 1, "l": [1, 2]},
    ]
    assert read.rows[50] == {"b": None, "e": None, "f": None, "i": 50, "l": None}
    assert read.numbers == list(range(51))
    assert (len(read.listing.ranges) > 1) == (size == 200 and name == "t.tfrecord")
    assert read_all(TfRecord(name, columns={"i": "float64"}), root, size).rows[3] == {"i": 3.0}


@pytest.mark.parametrize("size", SIZES)
def test_what_does_not_fit_is_a_problem(write, read_all, size):
    root = write(
        [
            *(example(i=i, s=b"x") for i in range(10)),
            example(i=[1, 2]),
            b"\xff\xff",
            example(i=b"x"),
            example(s=b"\xff"),
            example(i=14, f=float("inf")),
        ]
    )
    content = bytearray((root / "t.tfrecord").read_bytes())
    content[20] ^= 1
    (root / "t.tfrecord").write_bytes(content)
    declared = {"i": "int64", "s": "string", "f": "float64"}
    read = read_all(TfRecord("t.tfrecord", columns=declared), root, size)
    assert [row["i"] for row in read.rows] == [*range(1, 10), 14]
    assert read.rows[-1]["f"] is None
    assert read.codes == {0: "bad_checksum", 10: "wrong_type", 11: "bad_example", 12: "wrong_type", 13: "encoding"}
    assert f"{root}/t.tfrecord, record 10: expected at most one value" in read.problems[1].message


def test_features_that_first_occur_late_are_read(write, read_all):
    records = [example(i=i, t=b"x" * 500) for i in range(3000)]
    root = write([*records, *(example(i=i, label=1) for i in range(10)), example(i=[1, 2], f=0.5)])
    read = read_all(TfRecord("t.tfrecord"), root)
    assert [str(kind) for kind in read.listing.schema.columns.types] == [
        "double",
        "list<item: int64>",
        "int64",
        "binary",
    ]
    assert sum(row["label"] or 0 for row in read.rows) == 10
    assert read.listing.schema.reasons["label"] == f"10 integers (1 in {root}/t.tfrecord, record 3000)"


def test_features_that_were_not_looked_at_are_told_of(write, read_all, monkeypatch):
    monkeypatch.setattr(sampling, "LOOKED_AT", 100)
    monkeypatch.setattr(sampling, "_HEAD", 100)
    late = [example(i=i, label=1) for i in range(20)]
    root = write([*(example(i=i) for i in range(100)), *late, *(example(i=i) for i in range(100))])
    for columns in (None, {"i": "int64", "*": "auto"}):
        source = TfRecord("t.tfrecord", columns=columns)
        listing = source.find(str(root), 2000)
        notes = [source.read(each, listing.schema).notes for each in listing.ranges]
        merged = functools.reduce(merge, notes, {})
        note = ColumnNote(20, 0, f"in {root}/t.tfrecord, record 100", ("t.tfrecord", 100))
        assert merged == {("left_out", "label"): note}
    only = TfRecord("t.tfrecord", columns={"i": "int64"})
    assert only.read(listing.ranges[0], only.find(str(root), 1 << 20).schema).notes == {}


def test_a_damaged_record_does_not_change_the_types_of_the_others(write, read_all):
    records = [example(n=300 + number, s=b"x") for number in range(20)]
    root = write(records)
    path = root / "t.tfrecord"
    content = path.read_bytes()
    whole = TfRecord("t.tfrecord").find(str(root), 1 << 20).schema.columns
    for place in range(12, 12 + len(records[0])):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            assert TfRecord("t.tfrecord").find(str(root), 1 << 20).schema.columns == whole
    assert read_all(TfRecord("t.tfrecord"), root).codes == {0: "bad_checksum"}


def test_a_file_that_is_cut_or_damaged_fails(write):
    root = write([example(i=i) for i in range(100)])
    path = root / "t.tfrecord"
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(RequestError, match="ends inside record 99"):
        TfRecord("t.tfrecord").find(str(root), 500)
    path.write_bytes(content[:-3] + b"abc")  # the checksum alone: the record is a problem, the file is whole
    listing = TfRecord("t.tfrecord").find(str(root), 500)
    assert TfRecord("t.tfrecord").read(listing.ranges[-1], listing.schema).problems[0].code == "bad_checksum"
    path.write_bytes(content)
    listing = TfRecord("t.tfrecord").find(str(root), 1 << 30)
    path.write_bytes(content[:-3])
    with pytest.raises(PenstockError, match="changed after it was listed"):
        TfRecord("t.tfrecord").read(listing.ranges[0], listing.schema)
    path.write_bytes(b"GIF89a" + content)
    with pytest.raises(RequestError, match="record 0, byte 0: expected a record's length"):
        TfRecord("t.tfrecord").find(str(root), 500)
    path.write_bytes(b"")
    with pytest.raises(RequestError, match="found none"):
        TfRecord("t.tfrecord").find(str(root), 500)


def test_a_cut_compressed_file_fails(write):
    root = write([example(i=i) for i in range(100)])
    (root / "t.tfrecord.gz").write_bytes(gzip.compress((root / "t.tfrecord").read_bytes())[:-12])
    with pytest.raises(RequestError, match=r"t\.tfrecord\.gz"):
        TfRecord("t.tfrecord.gz").find(str(root), 500)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("block", [20, 50, 1 << 20])
def test_records_are_read_in_blocks_and_one_that_is_too_long_costs_itself(
    write, tmp_path, monkeypatch, read_all, suffix, block
):
    records = [example(a=number, s=b"x" * (500 if number in (3, 9) else 5)) for number in range(10)]
    write(records, f"t.tfrecord{suffix}")
    monkeypatch.setattr(tfrecord, "_BLOCK", block)
    monkeypatch.setattr(tfrecord, "_LARGE_BLOCK", block)
    whole = read_all(TfRecord(f"t.tfrecord{suffix}"), tmp_path)
    assert whole.numbers == list(range(10))
    monkeypatch.setattr(tfrecord, "LONGEST_RECORD", 400)
    for size in (1, 200, 1 << 30):
        read = read_all(TfRecord(f"t.tfrecord{suffix}"), tmp_path, size)
        assert read.rows == [row for row in whole.rows if row["a"] not in (3, 9)]
        assert read.codes == {3: "row_too_long", 9: "row_too_long"}
        assert "record 3: expected at most 400 bytes in a record, found 5" in read.problems[0].message


@pytest.mark.parametrize("odd", [9007199254740993, [1, 9007199254740993]])
def test_integers_that_become_rounded_floats_are_warned_of(write, odd):
    for late in ([example(a=odd), example(a=0.5)], [example(a=0.5), example(a=odd)]):
        root = write([example(a=1), example(b=2), *late])
        (warning,) = TfRecord("t.tfrecord").find(str(root), 1000).warnings
        row = 2 if late[1] == example(a=0.5) else 3
        assert f"float64 rounds integers such as 9007199254740993 in {root}/t.tfrecord, record {row}" in warning
    for other in (9007199254740992, [1, 9007199254740994]):
        assert TfRecord("t.tfrecord").find(str(write([example(a=other), example(a=0.5)])), 1000).warnings == []
    assert TfRecord("t.tfrecord").find(str(write([example(a=odd)])), 1000).warnings == []
