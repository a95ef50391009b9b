import pyarrow as pa
import pytest

from penstock.pipeline.errors import DatasetError
from penstock.pipeline.formats import raw_schema
from penstock.pipeline.sources.column_types import TYPES


def test_text_round_trip():
    columns = pa.schema([(f"column {name}", kind) for name, kind in TYPES.items()])
    assert raw_schema.from_text(raw_schema.to_text(columns)).equals(columns)
    assert raw_schema.to_text(columns) == raw_schema.to_text(columns)


def test_text_that_is_none_is_refused():
    with pytest.raises(DatasetError, match="tensorflow_metadata"):
        raw_schema.from_text("feature {")
    with pytest.raises(DatasetError, match="expected INT"):
        raw_schema.from_text('feature { name: "a" type: STRUCT }')


def test_drift_is_named():
    old = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.list_(pa.float64()))])
    new = pa.schema([("d", pa.binary()), ("c", pa.float64()), ("a", pa.int64())])
    assert raw_schema.compare(old, old) == []
    assert raw_schema.compare(old, new) == [
        "missing column 'b' (string)",
        "new column 'd' (binary)",
        "new type of column 'c': float64, was list<float64>",
    ]
