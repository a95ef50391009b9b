import numpy as np
import pytest
from stored_datasets import EXAMPLE, serialize

from penstock.pipeline.formats import example_reader
from penstock.pipeline.formats.example_format import BYTES, FLOATS, INTEGERS

VALUES = {"text": b"\x00\xffabc", "long": bytes(300), "number": [5], "none": b"", "floats": [1.5, -2.25]}


def test_values_are_those_that_were_written() -> None:
    found = example_reader.parse(serialize(VALUES))
    assert {name: kind for name, (kind, _) in found.items()} == {
        "text": BYTES,
        "long": BYTES,
        "none": BYTES,
        "number": INTEGERS,
        "floats": FLOATS,
    }
    assert bytes(found["text"][1]) == VALUES["text"]
    assert bytes(found["long"][1]) == VALUES["long"]
    assert bytes(found["none"][1]) == b""
    assert example_reader.floats(found["floats"][1]).tolist() == [1.5, -2.25]


@pytest.mark.parametrize("numbers", [[0], [1, 127, 128, 300], [-1, 2**63 - 1, -(2**63)], [10**12, -5]])
def test_integers_of_all_sizes(numbers: list[int]) -> None:
    values = example_reader.integers(example_reader.parse(serialize({"n": numbers}))["n"][1])
    assert values.dtype == np.int64
    assert values.tolist() == numbers


def test_a_feature_without_a_value_is_left_out() -> None:
    example = EXAMPLE()
    example.features.feature["nothing"].SetInParent()
    example.features.feature["empty"].int64_list.SetInParent()
    example.features.feature["some"].int64_list.value.append(1)
    assert list(example_reader.parse(example.SerializeToString())) == ["some"]


def test_an_empty_example_has_no_features() -> None:
    assert example_reader.parse(b"") == {}


def test_damage_is_a_value_error_and_nothing_else() -> None:
    record = serialize(VALUES)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(record[: generator.integers(len(record) + 1)])
        for _ in range(generator.integers(3)):
            if damaged:
                damaged[generator.integers(len(damaged))] = generator.integers(256)
        try:
            example_reader.parse(bytes(damaged))
        except ValueError:
            refused += 1
    assert 1500 < refused < 2000


def test_several_values_of_bytes() -> None:
    example = EXAMPLE()
    example.features.feature["two"].bytes_list.value.extend([b"a", b"", b"bc"])
    kind, content = example_reader.parse(example.SerializeToString())["two"]
    assert kind == example_reader.STRINGS
    assert example_reader.strings(content) == [b"a", b"", b"bc"]


def test_numbers_of_more_than_ten_bytes_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="expected a length of at most 10 bytes"):
        example_reader.parse(b"\x0a" + 10 * b"\x80" + b"\x00")
    for content in (10 * b"\x80" + b"\x00", 9 * b"\xff" + b"\x7f"):  # eleven bytes; seventy bits
        with pytest.raises(ValueError, match="at most 64 bits"):
            example_reader.integers(memoryview(content))
    assert example_reader.integers(memoryview(9 * b"\xff" + b"\x01")).tolist() == [-1]
