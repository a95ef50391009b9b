"""Pixels that are read straight into a batch are those that `Decoder` gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_datasets import serialize, write_shard

from penstock.pipeline import DatasetError
from penstock.pipeline.formats.decode import Decoder, allocate
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.load.raw import find_layout
from penstock.pipeline.load.reader import RecordReader
from penstock.pipeline.load.records import ShardRecords

FEATURES = {
    "image": Feature("image", "uint8", (5, 7, 3), "raw"),
    "key": Feature("text", "string", ()),
    "label": Feature("text", "string", ()),
    "mask": Feature("mask", "uint16", (5, 7, 1), "raw"),
    "row": Feature("number", "int64", (), optional=True),
}
# Texts of one length together, not one by one: records of one length whose pixels are at different places.
TEXTS = [(b"a", b"four"), (b"ab", b"two"), (b"abcd", b"z"), (b"a", b"four"), (b"ab", b"fou"), (b"abc", b"")]


def _values(number: int) -> dict[str, Any]:
    random = np.random.default_rng(number)
    key, label = TEXTS[number % len(TEXTS)]
    values = {
        "image": random.integers(0, 256, (5, 7, 3), np.uint8).tobytes(),
        "key": key,
        "label": label,
        "mask": random.integers(0, 1 << 16, (5, 7, 1), np.uint16).astype("<u2").tobytes(),
        "row": [number * 50 + 128],
    }
    if number % 5 == 4:
        del values["row"]
    return values


RECORDS = [serialize(_values(number)) for number in range(40)]


@pytest.mark.parametrize("prefix", ["", "file://"])
@pytest.mark.parametrize("name", ["0", "0.gz"])
@pytest.mark.parametrize("wanted", [list(FEATURES), ["image"], ["mask", "key"], ["row", "image"]])
def test_a_batch_is_what_decoding_gives(tmp_path: Path, wanted: list[str], name: str, prefix: str) -> None:
    features = {name: FEATURES[name] for name in wanted}
    reader = RecordReader(ShardRecords([write_shard(tmp_path, name, RECORDS, prefix)]), Decoder(features, FEATURES))
    found, expected = allocate(features, len(RECORDS)), allocate(features, len(RECORDS))
    for _ in range(2):  # the second time, the layouts are known
        for array in found.values():
            array[:] = 0
        reader.fill(found, range(len(RECORDS)), 0)
        for row, record in enumerate(RECORDS):
            Decoder(features).write(record, expected, row)
        for feature in wanted:
            np.testing.assert_array_equal(found[feature], expected[feature])


@pytest.mark.parametrize("place", [12, 20, 60, 150, -30, -5, -1])
def test_damage_is_found_where_the_layout_is_known(tmp_path: Path, place: int) -> None:
    shard = write_shard(tmp_path, "0", [RECORDS[0]] * 2)
    content = bytearray(Path(shard.uri).read_bytes())
    middle = len(content) // 2
    content[middle + place if place > 0 else place] ^= 4
    Path(shard.uri).write_bytes(content)
    reader = RecordReader(ShardRecords([shard]), Decoder(FEATURES))
    arrays = allocate(FEATURES, 2)
    reader.fill(arrays, [0, 0], 0)
    with pytest.raises(DatasetError, match=r"record 1 is damaged or truncated.*penstock verify"):
        reader.fill(arrays, [1], 0)


def test_a_shard_that_ends_early_is_damaged(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "0", [RECORDS[0]] * 2)
    Path(shard.uri).write_bytes(Path(shard.uri).read_bytes()[:-60])
    reader = RecordReader(ShardRecords([shard]), Decoder(FEATURES))
    with pytest.raises(DatasetError, match="record 1 is damaged or truncated"):
        reader.fill(allocate(FEATURES, 2), [0, 1], 0)


def test_what_is_missing_is_named_where_the_layout_is_known(tmp_path: Path) -> None:
    values = {name: value for name, value in _values(0).items() if name != "key"}
    reader = RecordReader(ShardRecords([write_shard(tmp_path, "0", [serialize(values)] * 2)]), Decoder(FEATURES))
    for _ in range(2):
        with pytest.raises(DatasetError, match="record 1: feature 'key': expected a value"):
            reader.fill(allocate(FEATURES, 1), [1], 0)


class _Counted(ShardRecords):
    """Records that count how often storage is asked, and how often for a whole record to be decoded."""

    requests = decoded = 0

    def __getitem__(self, number: int) -> bytes:
        self.requests += 1
        self.decoded += 1
        return super().__getitem__(number)

    def read_into(self, jobs: Any) -> Any:
        self.requests += len(jobs)
        return super().read_into(jobs)


def test_records_that_are_alike_are_read_directly(tmp_path: Path) -> None:
    records = _Counted([write_shard(tmp_path, "0", [serialize(_values(number)) for number in (0, 3, 6, 9)])])
    reader = RecordReader(records, Decoder(FEATURES))
    for _ in range(3):
        reader.fill(allocate(FEATURES, 4), range(4), 0)
    assert records.requests == 12
    assert records.decoded == 2  # 9 has no row, so another length


def test_no_record_is_asked_for_twice_and_wrong_guesses_end(tmp_path: Path) -> None:
    records = _Counted([write_shard(tmp_path, "0", RECORDS[:3])])
    reader = RecordReader(records, Decoder(FEATURES))
    found, expected = allocate(FEATURES, 3), allocate(FEATURES, 3)
    for epoch in range(1, 101):
        reader.fill(found, range(3), 0)
        assert records.requests == 3 * epoch
    for row in range(3):
        Decoder(FEATURES).write(records[row], expected, row)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert records.decoded > 100  # first two of three are taken for the last one's like, then none


def test_pixels_of_another_size_have_no_layout() -> None:
    assert find_layout(RECORDS[0], {"image": 104, "mask": 70}) is None
    assert find_layout(RECORDS[0], {"image": 105, "mask": 70, "other": 1}) is None
    assert find_layout(RECORDS[0], {"image": 105}) is not None
