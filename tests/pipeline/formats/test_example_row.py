"""One row, decoded alone, is what `example_reader` and `example_columns` make of it."""

from typing import Any

import numpy as np
import pytest
from stored_datasets import serialize

from penstock.pipeline.formats.decode import Decoder, allocate
from penstock.pipeline.formats.example_reader import parse
from penstock.pipeline.formats.features import Feature

FEATURES = {
    "count": Feature("number", "int64", (), optional=True),
    "grid": Feature("number", "float32", (2, 2)),
    "long": Feature("number", "float32", (40,), optional=True),
    "ids": Feature("number", "int64", (None,), optional=True),
    "pair": Feature("number", "int64", (2,)),
    "text": Feature("text", "string", (), optional=True),
    "Wörter": Feature("text", "string", ()),
    "x": Feature("number", "float32", (), optional=True),
}


def _values(random: np.random.Generator) -> dict[str, Any]:
    values = {
        "count": [int(random.choice([0, 1, 127, 128, -1, 2**62, -(2**63)]))],
        "grid": random.normal(size=4).astype(np.float32).tolist(),
        "long": random.normal(size=40).astype(np.float32).tolist(),
        "ids": random.integers(-5, 500, random.integers(0, 5)).tolist(),
        "pair": random.integers(0, 300, 2).tolist(),
        "text": bytes(random.integers(0, 256, random.choice([0, 1, 50, 100, 126, 127, 128, 20000]), np.uint8)),
        "Wörter": b"\n\x05count\x12\x05\x1a\x03\n\x01\x07",
        "x": [float(random.choice([0.0, -0.0, 1e-40, np.inf]))],
    }
    optional = [name for name, feature in FEATURES.items() if feature.optional]
    return {name: value for name, value in values.items() if name not in optional or random.random() < 0.8}


def _equal(one: Any, other: Any) -> bool:
    return np.asarray(one).tobytes() == np.asarray(other).tobytes() if not isinstance(one, bytes) else one == other


@pytest.mark.parametrize("names", [list(FEATURES), ["x", "text"]])
def test_a_row_is_what_the_general_reader_makes_of_it(names: list[str]) -> None:
    decoder = Decoder({name: FEATURES[name] for name in names}, FEATURES)
    random = np.random.default_rng(0)
    for _ in range(300):
        record = serialize(_values(random))
        expected = allocate(decoder.features, 1)
        decoder.write_values(parse(record), expected, 0)
        assert decoder._row(record) is not None
        row = decoder.decode(record)
        assert list(row) == names
        for name, value in row.items():
            assert type(value) is type(expected[name][0])
            assert _equal(value, expected[name][0]), name


@pytest.mark.parametrize("name", ["grid", "Wörter"])
def test_what_is_not_there_is_named(name: str) -> None:
    values = {other: value for other, value in _values(np.random.default_rng(1)).items() if other != name}
    with pytest.raises(ValueError, match=f"feature '{name}': expected a value"):
        Decoder(FEATURES).decode(serialize(values))


def test_a_row_of_other_features_or_cut_off_is_left_to_the_general_reader() -> None:
    decoder = Decoder({"x": Feature("number", "float32", ())}, {"x": Feature("number", "float32", ())})
    assert decoder.decode(serialize({"x": [1.5], "y": [2]}))["x"] == 1.5
    record = serialize({"x": [1.5]})
    for size in range(1, len(record)):
        with pytest.raises(ValueError, match="expected"):
            decoder.decode(record[:size])


def test_the_value_of_a_missing_vector_is_the_callers_own() -> None:
    decoder = Decoder({"v": Feature("number", "float32", (3,), optional=True)})
    decoder.decode(b"\n\x00")["v"][:] = 1
    assert np.isnan(decoder.decode(b"\n\x00")["v"]).all()
