"""Pixels that are read straight into a batch are those that `Decoder` gives."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.pipeline import DatasetError
from penstock.pipeline.features import Feature
from penstock.pipeline.load.decode import Decoder, allocate
from penstock.pipeline.load.raw import find_layout
from penstock.pipeline.load.reader import RecordReader
from penstock.pipeline.load.storage import Records

from .datasets import serialize, write_shard

FEATURES = {
    "image": Feature("image", "uint8", (5, 7, 3), "raw"),
    "key": Feature("text", "string", ()),
    "label": Feature("text", "string", ()),
    "mask": Feature("mask", "uint16", (5, 7, 1), "raw"),
    "row": Feature("number", "int64", (), optional=True),
}
# Texts of one length together, not one by one: records of one length whose pixels are at different places.
TEXTS = [(b"a", b"four"), (b"ab", b"two"), (b"abcd", b"z"), (b"a", b"four"), (b"ab", b"fou"), (b"abc", b"")]

pytestmark = pytest.mark.skipif(sys.byteorder == "big", reason="uint16 is read directly where it is little-endian")


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
    reader = RecordReader(Records([write_shard(tmp_path, name, RECORDS, prefix)]), Decoder(features, FEATURES))
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
    reader = RecordReader(Records([shard]), Decoder(FEATURES))
    arrays = allocate(FEATURES, 2)
    reader.fill(arrays, [0, 0], 0)
    with pytest.raises(DatasetError, match=r"record 1 is damaged or truncated.*penstock verify"):
        reader.fill(arrays, [1], 0)


def test_a_shard_that_ends_early_is_damaged(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "0", [RECORDS[0]] * 2)
    Path(shard.uri).write_bytes(Path(shard.uri).read_bytes()[:-60])
    reader = RecordReader(Records([shard]), Decoder(FEATURES))
    with pytest.raises(DatasetError, match="record 1 is damaged or truncated"):
        reader.fill(allocate(FEATURES, 2), [0, 1], 0)


def test_what_is_missing_is_named_where_the_layout_is_known(tmp_path: Path) -> None:
    values = {name: value for name, value in _values(0).items() if name != "key"}
    reader = RecordReader(Records([write_shard(tmp_path, "0", [serialize(values)] * 2)]), Decoder(FEATURES))
    for _ in range(2):
        with pytest.raises(DatasetError, match="record 1: feature 'key': expected a value"):
            reader.fill(allocate(FEATURES, 1), [1], 0)


def test_a_layout_tells_a_record_of_its_length_that_is_otherwise() -> None:
    sizes = {"image": 105, "mask": 70}
    one, other, alike = (serialize(_values(number)) for number in (0, 1, 3))
    layout = find_layout(one, sizes)
    assert layout is not None

    def framing(record: bytes, values: Mapping[str, Any]) -> bytes:
        assert len(record) == len(one)
        rest = bytearray()
        done = 0
        for name, _ in layout.pixels:
            rest += record[done : record.index(values[name])]
            done = record.index(values[name]) + sizes[name]
        return layout.framing_of(bytes(rest + record[done:]))

    assert framing(alike, _values(3)) == layout.framing
    assert framing(other, _values(1)) != layout.framing


def test_pixels_of_another_size_have_no_layout() -> None:
    assert find_layout(RECORDS[0], {"image": 104, "mask": 70}) is None
    assert find_layout(RECORDS[0], {"image": 105, "mask": 70, "other": 1}) is None
    assert find_layout(RECORDS[0], {"image": 105}) is not None
