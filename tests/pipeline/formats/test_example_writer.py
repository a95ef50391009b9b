"""The vectorized encoder against protobuf's deterministic serialization, and against TensorFlow's parser."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from penstock.pipeline.formats.example_writer import (
    RowEncoder,
    _Repeated,
    concat_batches,
    encode,
    serialize,
    with_dictionaries,
)
from penstock.pipeline.formats.features import Feature, describe, describe_columns
from penstock.pipeline.graph.savedmodel import example_spec

INTEGERS = [0, 1, -1, 127, 128, -128, 300, 2**14 - 1, 2**14, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63)]
REALS = [0.0, -0.0, 1.5, -2.25, 1e-45, 1e300, -1e300, 3.4e38, float("inf"), float("-inf"), 0.1]
TEXTS = ["", "a", "ab" * 60, "c" * 127, "d" * 128, "e" * 20000, "grüße", "日本語", "😀 e\u0301", "a\0b", "line\nbreak"]
BYTES = [b"", b"\xff\xfe", b"\0" * 200, bytes(range(256))]
POOLS: dict[str, tuple[pa.DataType, Sequence[Any]]] = {
    "int": (pa.int64(), INTEGERS),
    "small": (pa.int8(), [-128, -1, 0, 127]),
    "float": (pa.float64(), REALS),
    "single": (pa.float32(), [0.0, -0.0, 1.5, float("inf")]),
    "text": (pa.string(), TEXTS),
    "large": (pa.large_string(), TEXTS),
    "bytes": (pa.binary(), BYTES),
}


def expected(batch: pa.RecordBatch) -> list[bytes]:
    """What protobuf makes of the rows, with the entries in the order of their names' bytes.

    So C++ and Go order them. Python's own (upb 33) puts `age2` before `age`, but the rest of its bytes are the same.
    """
    features = describe_columns(batch.schema)
    rows = []
    for row in batch.to_pylist():
        entries = b""
        for name, value in sorted(row.items(), key=lambda item: item[0].encode()):
            if value is None:
                continue
            one = tf.train.Features()
            values = value if isinstance(value, list) else [value]
            kind = {"string": "bytes_list", "int64": "int64_list", "float32": "float_list"}[features[name].dtype]
            into = getattr(one.feature[name], kind)
            into.SetInParent()  # an empty list is not a missing one
            if kind == "bytes_list":
                values = [item.encode() if isinstance(item, str) else item for item in values]
            elif kind == "float_list":
                with np.errstate(over="ignore"):
                    values = np.array(values, np.float64).astype(np.float32).tolist()
            into.value.extend(values)
            entries += one.SerializeToString()
        example = tf.train.Example(features=tf.train.Features.FromString(entries))
        assert len(example.SerializeToString()) == len(entries) + 1 + len(varint(len(entries)))
        rows.append(b"\x0a" + varint(len(entries)) + entries)
    return rows


def parse(record: bytes) -> Any:
    return tf.train.Example.FromString(record).features.feature


def varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + varint(number >> 7)


def encoded(batch: pa.RecordBatch) -> list[bytes]:
    features = describe_columns(batch.schema)
    records: list[bytes] = encode(batch, features).to_pylist()
    parts = [batch[: len(batch) // 3], batch[len(batch) // 3 :]]
    compact = concat_batches([with_dictionaries(part) for part in parts])
    assert encode(compact, features).to_pylist() == records
    order = np.random.default_rng(len(batch)).permutation(len(batch))
    assert RowEncoder(compact, features).encode(order).to_pylist() == [records[row] for row in order]
    return records


def test_repeated_strings_and_integers_become_dictionaries_and_others_do_not():
    columns = {"s": ["a", "b"] * 8, "t": list(map(str, range(16))), "n": [1] * 16, "m": list(range(16))}
    batch = pa.RecordBatch.from_pydict(columns)
    compact = with_dictionaries(batch)
    assert [pa.types.is_dictionary(column.type) for column in compact.columns] == [True, False, True, False]
    assert compact.to_pylist() == batch.to_pylist()


@pytest.mark.parametrize("distinct", [64, 65, 200])
def test_many_distinct_values_are_encoded_as_few_are(distinct: int):
    values = [f"w{number % distinct}" * (number % distinct) for number in range(2000)]
    batch = pa.RecordBatch.from_pydict({"s": [None, *values], "n": [*range(distinct), *[3] * (2001 - distinct)]})
    assert encoded(batch) == expected(batch)


def test_columns_of_few_values_that_follow_each_other_are_encoded_together():
    generator = np.random.default_rng(5)
    few = {name: generator.integers(count, size=3000) for name, count in (("a", 3), ("b", 4), ("c", 5), ("e", 60))}
    columns = {name: pa.array(values, mask=values == 2) for name, values in few.items()}
    batch = pa.record_batch(columns | {"d": pa.array(generator.normal(size=3000))})
    encoder = RowEncoder(batch, describe_columns(batch.schema))
    assert [len(part.entries) for part in encoder._parts if isinstance(part, _Repeated)] == [3 * 4 * 5, 60]
    assert encoded(batch) == expected(batch)


def test_columns_whose_combinations_are_many_are_encoded_apart():
    values = np.random.default_rng(6).integers(90, size=(2, 3000))
    batch = pa.record_batch({"a": pa.array(values[0]), "b": pa.array(values[1])})
    encoder = RowEncoder(batch, describe_columns(batch.schema))
    assert [len(part.entries) for part in encoder._parts if isinstance(part, _Repeated)] == [90, 90]
    assert encoded(batch) == expected(batch)


@pytest.mark.parametrize("length", [1 << 16, (1 << 16) - 40])
def test_long_values_among_short_ones(length: int):
    batch = pa.record_batch({"x": pa.array(["a", "b" * length, "c" * 3] * 7)})
    assert encoded(batch) == expected(batch)


def draw_column(kind: str, rows: int, generator: random.Random) -> pa.Array:
    item, pool = POOLS[kind]
    distinct = generator.choice([1, 2, len(pool)])  # few distinct values take the encoder's short cut
    pool = generator.sample(list(pool), min(distinct, len(pool)))
    share = generator.choice([0, 0.3, 1])

    def value() -> Any:
        return None if generator.random() < share else generator.choice(pool)

    if generator.random() < 0.3:
        present = [v for v in pool if v is not None]
        lists = [
            None if generator.random() < share else generator.choices(present, k=generator.randint(0, 4))
            for _ in range(rows)
        ]
        return pa.array(lists, generator.choice([pa.list_, pa.large_list])(item))
    return pa.array([value() for _ in range(rows)], item)


@pytest.mark.parametrize("seed", range(40))
def test_random_tables_give_protobufs_bytes(seed: int):
    generator = random.Random(seed)
    rows = generator.choice([1, 2, 7, 60, 300])
    names = generator.sample(["a", "b", "key", "ünïcode", "a-b", "a_b", "Z", "x" * 200, "", "\U0001f600"], 5)
    columns = [draw_column(generator.choice(list(POOLS)), rows, generator) for _ in names]
    batch = pa.RecordBatch.from_arrays(columns, names=names)
    part = batch.slice(rows // 3, rows // 2)  # whose arrays have offsets
    assert encoded(batch) == expected(batch)
    assert encoded(part) == expected(part)


def test_every_integer_length():
    values = sorted({sign * (1 << bits) + delta for bits in range(63) for delta in (-1, 0, 1) for sign in (-1, 1)})
    batch = pa.record_batch({"x": pa.array(values, pa.int64())})
    assert encoded(batch) == expected(batch)


@pytest.mark.parametrize("kind", POOLS)
def test_every_value_alone_and_repeated(kind: str):
    item, pool = POOLS[kind]
    for value in pool:
        for values in ([value], [value, None] * 40):
            batch = pa.record_batch({"x": pa.array(values, item)})
            assert encoded(batch) == expected(batch)


def test_zero_and_minus_zero_stay_apart_among_repeated_values():
    batch = pa.record_batch({"x": pa.array([0.0, -0.0, float("nan")] * 100)})
    first, second, third = encode(batch, describe_columns(batch.schema)).to_pylist()[:3]
    assert first != second
    parsed = [parse(record)["x"].float_list.value[0] for record in (first, second, third)]
    assert np.signbit(parsed[:2]).tolist() == [False, True]
    assert np.isnan(parsed[2])


def test_columns_that_repeat_at_first_and_not_later():
    values = [7] * 5000 + list(range(5000))
    texts = ["same"] * 5000 + [f"text {number}" for number in range(5000)]
    batch = pa.record_batch({"x": pa.array(values), "t": pa.array(texts)})
    assert encoded(batch) == expected(batch)


def test_empty_and_missing_lists_are_two_things():
    batch = pa.record_batch({"x": pa.array([[], None, [1], [1, -1]], pa.list_(pa.int64()))})
    found = encode(batch, describe_columns(batch.schema)).to_pylist()
    assert ["x" in parse(record) for record in found] == [True, False, True, True]
    assert encoded(batch) == expected(batch)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
def test_lists_with_missing_items(kind: pa.DataType):
    """An item that is missing is left out: no list of tf.train.Example can hold it."""
    one = {pa.int64(): 1, pa.float64(): 1.0, pa.string(): "a"}[kind]
    full = pa.record_batch({"x": pa.array([[one, None, one], [None], []], pa.list_(kind))})
    left = pa.record_batch({"x": pa.array([[one, one], [], []], pa.list_(kind))})
    assert encode(full, describe_columns(full.schema)).to_pylist() == expected(left)


def test_no_rows():
    batch = pa.record_batch({"x": pa.array([], pa.int64()), "y": pa.array([], pa.string())})
    assert len(encode(batch, describe_columns(batch.schema))) == 0


def test_tensorflow_parses_what_the_spec_says():
    batch = pa.record_batch(
        {
            "number": pa.array([1, None, -5]),
            "real": pa.array([0.5, None, float("inf")]),
            "text": pa.array(["a", None, ""]),
            "items": pa.array([[1, 2], None, []], pa.list_(pa.int64())),
        }
    )
    features = describe_columns(batch.schema)
    parsed = tf.io.parse_example(encode(batch, features).to_pylist(), example_spec(features))
    assert parsed["number"].numpy().tolist() == [1, -(2**63), -5]
    np.testing.assert_array_equal(parsed["real"].numpy(), np.array([0.5, np.nan, np.inf], np.float32))
    assert parsed["text"].numpy().tolist() == [b"a", b"", b""]
    assert tf.RaggedTensor.from_sparse(parsed["items"]).to_list() == [[1, 2], [], []]


def test_serialized_examples_parse_in_tensorflow():
    values = {"image": b"\x89PNG", "text": "é", "n": np.int8(-3), "b": True, "v": [1, 2.5, 3]}
    values["m"] = np.arange(6).reshape(2, 3)
    described = {
        "image": Feature("image", "uint8", (4, 5, 3), "png"),
        "text": describe("text", "é", ""),
        "n": describe("n", values["n"], ""),
        "b": describe("b", values["b"], ""),
        "v": describe("v", values["v"], ""),
        "m": describe("m", values["m"], ""),
    }
    content = serialize(values, described)
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "text": tf.io.FixedLenFeature([], tf.string),
        "n": tf.io.FixedLenFeature([], tf.int64),
        "b": tf.io.FixedLenFeature([], tf.int64),
        "v": tf.io.FixedLenFeature([3], tf.float32),
        "m": tf.io.FixedLenFeature([2, 3], tf.int64),
    }
    parsed = tf.io.parse_single_example(content, spec)
    assert parsed["image"] == b"\x89PNG"
    assert parsed["text"] == "é".encode()
    assert parsed["n"] == -3
    assert parsed["b"] == 1
    assert parsed["v"].numpy().tolist() == [1, 2.5, 3]
    assert parsed["m"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_equal_values_give_equal_bytes_whatever_their_order():
    described = {"b": Feature("number", "int64", ()), "a": Feature("text", "string", ())}
    one = serialize({"a": "x", "b": 1}, described)
    assert one == serialize({"b": 1, "a": "x"}, dict(reversed(described.items())))
    assert one != serialize({"b": 2, "a": "x"}, described)


def test_one_example_is_what_protobuf_writes():
    features = {
        "z": Feature("text", "string", ()),
        "é": Feature("number", "int64", (5,)),
        "a": Feature("number", "float32", (2, 2)),
        "image": Feature("image", "uint8", (4, 5, 3), "png"),
        "words": Feature("text", "string", (None,)),
        "none": Feature("text", "string", (None,)),
        "absent": Feature("number", "int64", (), optional=True),
    }
    values = {
        "z": "ü",
        "é": np.array([0, -1, 127, 128, -(2**63)]),
        "a": np.array([[1.5, np.nan], [-np.inf, 0.1]]),
        "image": b"\x89PNG" * 50,
        "words": ["a", b"", "b" * 200],
        "none": [],
        "absent": None,
    }
    example = tf.train.Example()
    entries = example.features.feature
    entries["z"].bytes_list.value.append("ü".encode())
    entries["é"].int64_list.value.extend(values["é"].tolist())
    entries["a"].float_list.value.extend(values["a"].ravel().tolist())
    entries["image"].bytes_list.value.append(values["image"])
    entries["words"].bytes_list.value.extend([b"a", b"", b"b" * 200])
    entries["none"].bytes_list.value.extend([])
    assert serialize(values, features) == example.SerializeToString(deterministic=True)
    assert serialize({"z": None}, {"z": features["z"]}) == tf.train.Example().SerializeToString()
