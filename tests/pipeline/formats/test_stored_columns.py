"""Columns come back from stored examples as they were given, floats as float32 has them."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline.formats.example_writer import encode
from penstock.pipeline.formats.features import describe_columns, stored_schema
from penstock.pipeline.formats.stored_columns import decode
from penstock.pipeline.formats.tfrecord_columns import first_damaged, frame, frame_bytes, frame_sizes

VALUES = {
    "floats": [0.5, None, -1e30, float("inf"), 0.1],
    "integers": [1, -1, None, 1 << 62, -(1 << 63)],
    "strings": ["a", "", None, "é" * 100, "a"],
    "bytes": [b"\xff", b"", None, b"x" * 300, b"\x00"],
    "some floats": [[0.25], [], None, [1.0, 0.1, -2.5], [3.0]],
    "some integers": [[300], [], None, [-1, 0, 1 << 40], [7]],
    "some strings": [["x"], [], None, ["y", "", "zz"], [""]],
    "nothing": [None, None, None, None, 1.0],
}


def batch_of(rows: list[int]) -> pa.RecordBatch:
    types = {"floats": pa.float64(), "bytes": pa.binary(), "nothing": pa.float64()}
    batch = pa.RecordBatch.from_pydict({name: pa.array(values, types.get(name)) for name, values in VALUES.items()})
    return batch.cast(stored_schema(batch.schema)).take(pa.array(rows, pa.int64()))


def framed(batch: pa.RecordBatch) -> tuple[bytes, np.ndarray]:
    """The frames of rows, and where each begins in them, and where the last one ends."""
    frames = frame(encode(batch, describe_columns(batch.schema)))
    return frame_bytes(frames).to_pybytes(), np.concatenate([[0], np.cumsum(frame_sizes(frames))])


def expected(batch: pa.RecordBatch) -> dict[str, list[object]]:
    """Floats as float32 has them; a list without items is missing."""
    values = batch.to_pydict()
    for name in ("floats", "some floats"):
        column = batch[name]
        item = pa.large_list(pa.float32()) if name == "some floats" else pa.float32()
        values[name] = column.cast(item, safe=False).cast(column.type).to_pylist()
    return {name: [None if value == [] else value for value in column] for name, column in values.items()}


@pytest.mark.parametrize(
    "rows",
    [[0, 1, 2, 3, 4], [0, 1, 4, 4, 0], [2], [], [3, 0, 3, 1]],
    ids=["all", "single items", "none", "no", "lists"],
)
def test_columns_come_back(rows: list[int]):
    batch = batch_of(rows)
    content, offsets = framed(batch)
    features = describe_columns(batch.schema)
    decoded = decode(content, offsets[:-1] + 12, offsets[1:] - 4, features, batch.schema)
    assert decoded.schema == batch.schema
    assert decoded.to_pydict() == expected(batch)
    some = pa.schema([batch.schema.field("strings"), batch.schema.field("integers")])
    assert decode(content, offsets[:-1] + 12, offsets[1:] - 4, features, some).to_pydict() == {
        name: expected(batch)[name] for name in some.names
    }


def test_what_is_no_example_is_refused():
    schema = pa.schema([("x", pa.float64())])
    with pytest.raises(ValueError, match=r"expected a tf\.train\.Example"):
        decode(b"\x07\x07", np.array([0]), np.array([2]), describe_columns(schema), schema)


def test_the_first_damaged_frame_is_found():
    content, offsets = framed(batch_of([0, 1, 2, 3, 4]))
    assert first_damaged(content, offsets) is None
    for row in range(5):
        for place in (0, 9, 12, -1):
            damaged = bytearray(content)
            damaged[(offsets[row + 1] if place < 0 else offsets[row]) + place] ^= 4
            assert first_damaged(bytes(damaged), offsets) == row
    assert first_damaged(content[:-1], offsets) == 4
    assert first_damaged(content, np.array([0, offsets[1], offsets[1] + 3, *offsets[2:]])) == 1
