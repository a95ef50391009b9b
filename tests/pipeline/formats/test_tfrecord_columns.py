"""Frames made by columns are those that are made one by one, which test_tfrecord.py compares with TensorFlow's."""

import io
import random

import pyarrow as pa
import pytest

from penstock.pipeline.formats.tfrecord import RecordWriter
from penstock.pipeline.formats.tfrecord_columns import frame, frame_bytes, frame_sizes, unframe

PICK = random.Random(5)
RECORDS = [b"", b"a", bytes(range(256)) * 300, *(PICK.randbytes(PICK.randrange(400)) for _ in range(300)), b""]


def one_by_one(records: list[bytes]) -> tuple[bytes, list[int]]:
    out = io.BytesIO()
    writer = RecordWriter(out)
    writer.append(records)
    return out.getvalue(), writer.offsets


@pytest.mark.parametrize("part", [slice(None), slice(0, 0), slice(2, 9), slice(250, None)])
def test_frames_are_those_of_a_writer(part: slice):
    frames = frame(pa.array(RECORDS, pa.large_binary())[part])
    expected, offsets = one_by_one(RECORDS[part])
    assert frame_bytes(frames).to_pybytes() == expected
    assert [0, *frame_sizes(frames).cumsum().tolist()] == [*offsets]
    assert unframe(frames) == RECORDS[part]


def test_a_slice_of_frames_is_itself_alone():
    frames = frame(pa.array(RECORDS, pa.large_binary()))[3:7]
    expected, _ = one_by_one(RECORDS[3:7])
    assert frame_bytes(frames).to_pybytes() == expected
    assert len(frame_sizes(frames)) == 4
