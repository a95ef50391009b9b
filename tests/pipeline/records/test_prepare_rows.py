"""`prepare` on rows: functions of batches, of examples, and filters, in one list. No engine runs here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from penstock.pipeline import Csv, PenstockError
from penstock.pipeline.features import describe_columns
from penstock.pipeline.make_records import RecordPreparer
from penstock.pipeline.splits import by_hash
from penstock.transforms import columns
from penstock.transforms.outcome import Filtered, Rejected

ROWS = 200
CONTENT = "n,t\n" + "".join(f"{number},text {number}\n" for number in range(ROWS))


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Any]:
    """The rows of a file after these steps."""
    (tmp_path / "a.csv").write_text(CONTENT)

    def prepare(*steps: Any, chunk: bool = False, features: pa.Schema | None = None) -> Any:
        source = Csv("a.csv")
        listing = source.find(str(tmp_path), 1 << 20)
        described = None if features is None else describe_columns(features)
        preparer = RecordPreparer(
            source, listing.schema, steps, by_hash({"train": 1.0}), ("train",), "train", 0, True, described
        )
        (piece,) = listing.ranges
        return preparer(piece) if chunk else preparer.prepare(piece)

    return prepare


@columns.vectorized
def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    return columns.put(batch, "n", pc.multiply(batch["n"], 2))


def numbers(rows: Any) -> list[Any]:
    return rows.batch["n"].to_pylist()


def test_functions_of_batches_and_examples_mix_in_order(prepared: Callable[..., Any]):
    rows = prepared(
        double,
        lambda example: example | {"n": example["n"] + 1},
        columns.where(lambda batch: pc.less(batch["n"], 101), "large"),
        double,
    )
    assert numbers(rows) == [2 * (2 * number + 1) for number in range(50)]
    assert rows.filtered == {"large": 150}
    assert rows.numbers.tolist() == list(range(50))
    assert len(rows.codes) == 50


def test_new_columns_of_every_kind(prepared: Callable[..., Any]):
    def more(example: dict[str, Any]) -> dict[str, Any]:
        return example | {"half": example["n"] / 2, "words": example["t"].split(), "odd": example["n"] % 2 == 1}

    rows = prepared(more)
    assert rows.batch.schema.names == ["n", "t", "half", "words", "odd"]
    assert rows.batch["words"][3].as_py() == ["text", "3"]
    features = describe_columns(rows.batch.schema)
    assert {name: (feature.dtype, feature.shape) for name, feature in features.items()} == {
        "n": ("int64", ()),
        "t": ("string", ()),
        "half": ("float32", ()),
        "words": ("string", (None,)),
        "odd": ("int64", ()),
    }


def test_rows_on_which_a_function_of_examples_fails_are_set_aside(prepared: Callable[..., Any]):
    def picky(example: dict[str, Any]) -> dict[str, Any]:
        if example["n"] == 5:
            raise Filtered("five")
        if example["n"] == 6:
            raise Rejected("six", "no sixes")
        return example | {"inverse": 1 / (example["n"] - 7)}

    rows = prepared(picky)
    assert len(rows.batch) == ROWS - 3
    assert rows.filtered == {"five": 1}
    codes = {problem.key: problem.code for problem in rows.problems}
    assert codes == {"a.csv:6": "six", "a.csv:7": "prepare_error"}
    assert "picky: ZeroDivisionError" in rows.problems[1].message
    assert rows.numbers.tolist() == [number for number in range(ROWS) if number not in (5, 6, 7)]


@pytest.mark.parametrize("bad", [[0], [ROWS - 1], [3, 4, 100], list(range(0, ROWS, 2))])
def test_a_function_of_batches_that_fails_on_some_rows(prepared: Callable[..., Any], bad: Sequence[int]):
    @columns.vectorized
    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        if np.isin(np.asarray(batch["n"]), bad).any():
            raise ValueError("a bad number")
        return columns.put(batch, "new", batch["n"])

    rows = prepared(picky, double)
    assert sorted(problem.key for problem in rows.problems) == sorted(f"a.csv:{number}" for number in bad)
    assert {problem.code for problem in rows.problems} == {"prepare_error"}
    kept = [number for number in range(ROWS) if number not in bad]
    assert rows.numbers.tolist() == kept
    assert rows.batch["new"].to_pylist() == kept
    assert numbers(rows) == [2 * number for number in kept]


def failing(_: Any) -> Any:
    raise ValueError("never")


@pytest.mark.parametrize("step", [failing, columns.vectorized(failing)], ids=["examples", "batches"])
def test_a_range_without_any_good_row_is_no_failure(prepared: Callable[..., Any], step: Any):
    """Even where `prepare` would have added columns: another range has them."""
    schema = pa.schema([("n", pa.int64()), ("added", pa.float64())])
    chunk = prepared(step, chunk=True, features=schema)
    assert (chunk.read, len(chunk.problems), chunk.records) == (ROWS, ROWS, {})


def test_a_range_that_a_filter_leaves_empty_is_no_failure(prepared: Callable[..., Any]):
    schema = pa.schema([("n", pa.int64()), ("added", pa.float64())])
    nothing = columns.where(lambda batch: pc.less(batch["n"], 0), "negative")
    chunk = prepared(nothing, lambda example: example | {"added": 0.5}, chunk=True, features=schema)
    assert (chunk.read, chunk.filtered["negative"], chunk.records) == (ROWS, ROWS, {})


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (lambda batch: batch.slice(1), f"{ROWS - 1} rows"),
        (lambda batch: batch.to_pydict(), "dict"),
        (lambda _: None, "None"),
    ],
    ids=["rows", "dict", "none"],
)
def test_a_function_of_batches_must_keep_the_rows(prepared: Callable[..., Any], step: Any, found: str):
    with pytest.raises(PenstockError, match=rf"expected a RecordBatch of as many rows .* found {found}.*where\("):
        prepared(columns.vectorized(step))


@pytest.mark.parametrize("made", [None, [1], "text"])
def test_a_function_of_examples_must_return_a_dict(prepared: Callable[..., Any], made: Any):
    rows = prepared(lambda example: made)
    assert len(rows.problems) == ROWS
    assert "expected a dict" in rows.problems[0].message


def test_values_of_another_type_than_the_first_cost_their_rows(prepared: Callable[..., Any]):
    rows = prepared(lambda example: example | {"n": "text" if example["n"] % 2 else 2**70 if example["n"] == 4 else 1})
    assert rows.batch["n"].to_pylist() == [1] * (ROWS // 2 - 1)
    assert rows.numbers.tolist() == [number for number in range(0, ROWS, 2) if number != 4]
    assert [problem.code for problem in rows.problems] == ["wrong_type"] * (ROWS // 2 + 1)
    assert "<lambda>: 'n': expected int64, found" in rows.problems[0].message


def test_a_range_whose_examples_all_lack_a_column_has_it_missing(prepared: Callable[..., Any]):
    planned = pa.schema([("t", pa.string()), ("n", pa.int64())])
    chunk = prepared(lambda example: {"t": example["t"]}, chunk=True, features=planned)
    assert len(chunk.records["train"]) == ROWS
    assert not chunk.problems


def test_a_list_that_lacks_a_value_costs_its_row(prepared: Callable[..., Any]):
    planned = pa.schema([("l", pa.list_(pa.int64()))])
    lists = columns.vectorized(
        lambda batch: columns.put(batch, "l", pa.array([[1, None] if n == 3 else [n] for n in batch["n"].to_pylist()]))
    )
    chunk = prepared(lists, chunk=True, features=planned)
    assert len(chunk.records["train"]) == ROWS - 1
    assert [problem.key.rpartition(":")[2] for problem in chunk.problems] == ["3"]
    assert "a list that lacks a value, [1, None]" in chunk.problems[0].message


def test_a_key_that_only_later_examples_have_is_not_lost(prepared: Callable[..., Any]):
    rows = prepared(lambda example: example | ({"late": example["n"]} if example["n"] > 100 else {}))
    assert rows.batch["late"].to_pylist() == [None] * 101 + list(range(101, ROWS))


def test_dtype_drift(prepared: Callable[..., Any]):
    """A batch whose column has another type than planned is cast where nothing is lost; else rows are set aside."""
    planned = pa.schema([("n", pa.float64())])
    assert len(prepared(chunk=True, features=planned).records["train"]) == ROWS
    half = columns.vectorized(lambda batch: columns.put(batch, "n", pc.divide(batch["n"].cast(pa.float64()), 2)))
    chunk = prepared(half, chunk=True, features=pa.schema([("n", pa.int64())]))
    assert len(chunk.records["train"]) == len(chunk.problems) == ROWS // 2
    assert chunk.problems[0].code == "wrong_type"
    assert chunk.problems[0].message == "'n': expected int64 as in the first rows, found 0.5; cast it in `prepare`"
    with pytest.raises(PenstockError, match=r"expected the column 'm' after `prepare`, found \['n', 't'\]"):
        prepared(chunk=True, features=pa.schema([("m", pa.int64())]))


def test_a_filter_that_fails_is_one_clear_error(prepared: Callable[..., Any]):
    with pytest.raises(PenstockError, match=r"where\(\.\.\., 'negative'\): KeyError: .*typo"):
        prepared(columns.where(lambda batch: pc.less(batch["typo"], 0), "negative"))
