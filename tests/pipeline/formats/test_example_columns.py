"""Many examples decoded at once are those decoded one by one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from stored_datasets import EXAMPLE, serialize

from penstock.pipeline.formats.decode import Decoder, allocate
from penstock.pipeline.formats.features import Feature

FEATURES = {
    "b_text": Feature("text", "string", (), optional=True),
    "a_number": Feature("number", "int64", (), optional=True),
    "real": Feature("number", "float32", (), optional=True),
    "pair": Feature("number", "int64", (2,)),
    "matrix": Feature("number", "float32", (2, 2)),
    "ids": Feature("number", "int64", (None,), optional=True),
    "floats": Feature("number", "float32", (None,), optional=True),
    "words": Feature("text", "string", (None,), optional=True),
    "ü": Feature("number", "int64", (), optional=True),
}


def example(generator: np.random.Generator) -> dict[str, Any]:
    def integer() -> int:
        return int(generator.integers(-(2**63), 2**63 - 1)) >> int(generator.integers(0, 64))

    values: dict[str, Any] = {
        "b_text": bytes(generator.integers(0, 256, generator.choice([0, 1, 127, 128, 20000]), np.uint8)),
        "a_number": [integer()],
        "real": [float(generator.normal())],
        "pair": [integer(), integer()],
        "matrix": generator.normal(size=4).tolist(),
        "ids": [integer() for _ in range(generator.integers(1, 300))],
        "floats": generator.normal(size=generator.integers(1, 70)).tolist(),
        "words": b"word",
        "ü": [3],
    }
    optional = [name for name, feature in FEATURES.items() if feature.optional]
    for name in generator.choice(optional, generator.integers(0, 4)):
        values.pop(name, None)
    return values


def decoded(records: list[bytes], features: Mapping[str, Feature] = FEATURES) -> tuple[Any, list[int]]:
    arrays = allocate(features, len(records) + 1)
    return arrays, Decoder(features, FEATURES).write_all(records, arrays, 1)


def assert_equal(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(5))
def test_all_at_once_is_one_by_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    records = [serialize(example(generator)) for _ in range(200)]
    arrays, left = decoded(records)
    assert left == []
    for row, record in enumerate(records, 1):
        for name, expected in Decoder(FEATURES).decode(record).items():
            assert_equal(arrays[name][row], expected)


def test_equal_strings_are_one_object() -> None:
    words = [b"", b"a", b"a\0", b"\0", b"12345678", b"123456789", b"123456780", b"x" * 48, b"x" * 47 + b"y"]
    texts = {name: FEATURES[name] for name in ("a_number", "b_text")}
    records = [serialize({"a_number": [row], **({"b_text": words[row % 9]} if row % 10 else {})}) for row in range(900)]
    arrays = allocate(texts, 900)
    assert Decoder(texts).write_all(records, arrays, 0) == []
    assert arrays["b_text"].tolist() == [words[row % 9] if row % 10 else b"" for row in range(900)]
    assert len(set(map(id, arrays["b_text"].tolist()))) == 9


def test_only_some_features_are_decoded() -> None:
    records = [serialize(example(np.random.default_rng(seed))) for seed in range(9)]
    wanted = {name: FEATURES[name] for name in ("real", "pair")}
    arrays, left = decoded(records, wanted)
    assert (set(arrays), left) == ({"real", "pair"}, [])


def test_what_is_otherwise_is_left() -> None:
    generator = np.random.default_rng(1)
    good = {**example(generator), "pair": [1, 2], "matrix": [1.0, 2.0, 3.0, 4.0], "a_number": [7]}
    other_order = b"".join(
        b"\x0a" + bytes([len(entry)]) + entry
        for entry in (
            b"\x0a\x04real\x12\x08\x12\x06\x0a\x04" + np.array([1.5], "<f4").tobytes(),
            b"\x0a\x04pair\x12\x06\x1a\x04\x0a\x02\x01\x02",
            b"\x0a\x06matrix\x12\x14\x12\x12\x0a\x10" + np.zeros(4, "<f4").tobytes(),
        )
    )
    several = EXAMPLE.FromString(serialize(good))
    several.features.feature["words"].bytes_list.value[:] = [b"two", b"", b"words"]
    records = [
        serialize(good),
        b"\x0a" + bytes([len(other_order)]) + other_order,
        serialize({**good, "real": [1]}),  # integers instead of floats
        serialize({**good, "pair": [1, 2, 3]}),
        serialize({**good, "stranger": [1]}),
        serialize({name: value for name, value in good.items() if name != "pair"}),
        several.SerializeToString(deterministic=True),
        serialize(good)[:-1],
        b"",
        b"\xff" * 40,
        serialize(good),
    ]
    arrays, left = decoded(records)
    assert left == list(range(1, 10))
    assert arrays["a_number"][[1, 11]].tolist() == [7, 7]
    one = Decoder(FEATURES)
    assert one.decode(records[1])["real"] == np.float32(1.5)
    assert one.decode(records[6])["words"].tolist() == [b"two", b"", b"words"]
    for number, words in (
        (2, "'real': expected floats, found integers"),
        (3, "'pair': "),
        (5, "'pair': expected a value"),
    ):
        with pytest.raises(ValueError, match=words):
            one.decode(records[number])
    for number in (7, 8, 9):
        with pytest.raises(ValueError, match="expected a"):
            one.decode(records[number])
