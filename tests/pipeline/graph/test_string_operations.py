"""Operations on strings, one by one, against TensorFlow's, to the bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from penstock.pipeline import RequestError
from penstock.pipeline.graph.backends import NUMPY
from penstock.pipeline.graph.string_operations import OPERATIONS, object_array

GENERATOR = np.random.default_rng(0)


def _run(kind: str, values: Any, *arguments: Any, **attributes: Any) -> list[Any]:
    values = object_array(values) if isinstance(values, list) else values
    results: list[Any] = OPERATIONS[kind](NUMPY, attributes, values, *arguments).tolist()
    return results


@pytest.mark.parametrize(("kind", "change"), [("StringLower", tf.strings.lower), ("StringUpper", tf.strings.upper)])
def test_case_is_tensorflows_for_every_character(kind: str, change: Callable[..., Any]) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    sigmas = [
        "\u0391Σ",
        "\u0391Σ.",
        "Σ",
        "\u0391Σ\u0392",
        "\u0391.Σ",
        "\u0391Σ \u0392",
        "\u00adΣ",
        "1Σ",
        "İ",
        "\u0391Σ\u0301",
        "ǅ",
        "ﬁ",
        "a\0B",
        "\ua7c0AΣ",
    ]
    sigmas += ["".join(GENERATOR.choice(list("\u0391Σβ\u03c3.1 '\u0301\u00adéİÅ"), 6)) for _ in range(2000)]
    strings = [each.encode() for each in characters + sigmas] + [GENERATOR.bytes(6) for _ in range(2000)]
    for encoding in ("utf-8", ""):
        assert _run(kind, strings, encoding=encoding) == change(strings, encoding=encoding).numpy().tolist()


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"scientific": True}, {"shortest": True}, {"precision": 0}, {"precision": 3}, {"width": 12}),
        *({"width": 12, "fill": "0"}, {"width": 12, "fill": "-"}, {"fill": "+"}, {"fill": " "}),
    ],
)
def test_numbers_are_written_as_tensorflow_writes_them(options: dict[str, Any]) -> None:
    floats = GENERATOR.integers(0, 2**32, 5000, dtype=np.uint32).view(np.float32)
    floats = floats[~(np.abs(floats) < np.finfo(np.float32).tiny)]  # TensorFlow's threads may take these for 0
    floats = np.concatenate([floats, np.array([1.5, 0, -0.0, np.nan, np.inf, -np.inf], np.float32)])
    assert _run("AsString", floats, **options) == tf.strings.as_string(floats, **options).numpy().tolist()
    if not options.keys() & {"scientific", "shortest", "precision"}:
        integers = GENERATOR.integers(-(2**63), 2**63 - 1, 100)
        assert _run("AsString", integers, **options) == tf.strings.as_string(integers, **options).numpy().tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_read_to_the_nearest(dtype: str) -> None:
    numbers = GENERATOR.normal(size=5000) * 10.0 ** GENERATOR.integers(-37, 38, 5000)
    strings = [f"{number:.{GENERATOR.integers(1, 20)}g}".encode() for number in numbers]
    # half-way between two floats of 32 bits, and next to it
    strings += [b"16777217", b"16777217.0000000000000000000001", b"16777216.9999999999999999999999", b"-16777219.0"]
    strings += [b" 7\t", b"0x1F", b"-inf", b"Infinity", b"1e400", b"1e-400", b".5", b"5.", b"+3"]
    expected = tf.strings.to_number(strings, tf.as_dtype(dtype)).numpy().tolist()
    assert _run("StringToNumber", strings, out_type=dtype) == expected


@pytest.mark.parametrize(
    ("string", "dtype"), [(b"1.5", "int64"), (b"", "float32"), (b"1_0", "int64"), (b"x", "float64")]
)
def test_what_is_no_number_is_told(string: bytes, dtype: str) -> None:
    with pytest.raises(RequestError, match=rf"to_number: expected a number of {dtype}, found {string!r}"):
        _run("StringToNumber", [string], out_type=dtype)


@pytest.mark.parametrize(("position", "length"), [(0, 2), (1, 9), (3, 1), (-2, 1), (-3, 2), (1, 0)])
@pytest.mark.parametrize("unit", ["BYTE", "UTF8_CHAR"])
def test_substrings_are_tensorflows(position: int, length: int, unit: str) -> None:
    strings = ["äbc", "abc", "日本語"]
    expected = tf.strings.substr(strings, position, length, unit=unit).numpy().tolist()
    encoded = [string.encode() for string in strings]
    assert _run("Substr", encoded, position, length, unit=unit) == expected


@pytest.mark.parametrize("position", [4, -4])
def test_a_position_outside_of_a_string_is_told(position: int) -> None:
    with pytest.raises(RequestError, match=f"expected a position within b'abc', found {position}"):
        _run("Substr", [b"abc"], position, 1, unit="BYTE")
