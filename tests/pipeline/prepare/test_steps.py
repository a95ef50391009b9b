"""`prepare` on rows: functions of batches, of examples, and filters, in one list. No engine runs here."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from penstock.pipeline import Csv, PenstockError
from penstock.pipeline.formats.features import describe_columns, stored_schema
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.pipeline.prepare.steps import conform, unite
from penstock.pipeline.prepare.tables import TablePreparer, TableSteps
from penstock.pipeline.sources.listing import RecordRange
from penstock.pipeline.splits.rules import by_hash
from penstock.transforms import columns, dates
from penstock.transforms.moments import Moments
from penstock.transforms.outcome import Filtered, Rejected

ROWS = 200
PIECE = RecordRange("a.csv", "a.csv", 0, 0, 0, ROWS, 0)
CONTENT = "n,t\n" + "".join(f"{number},text {number}\n" for number in range(ROWS))


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Any]:
    """The rows of a file after these steps; the chunk of them, where it is said what columns are stored."""
    (tmp_path / "a.csv").write_text(CONTENT)

    def prepare(*steps: Any, stored: pa.Schema | None = None) -> Any:
        source = Csv("a.csv")
        listing = source.find(str(tmp_path), 1 << 20)
        (record_range,) = listing.ranges
        table_steps = TableSteps(source, listing.schema, steps, by_hash({"train": 1.0}), ("train",))
        if stored is None:
            (rows,) = (table_steps.prepare_rows(record_range, part) for part in table_steps.read(record_range))
            return rows
        preparer = TablePreparer(table_steps, stored_schema(stored), True, 0, StatisticsSpec("train"))
        (chunk,) = preparer(record_range)
        return chunk

    return prepare


@columns.vectorized
def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    return columns.put(batch, "n", pc.multiply(batch["n"], 2))


def numbers(rows: Any) -> list[Any]:
    return rows.batch["n"].to_pylist()


def test_rows_whose_comparison_is_null_are_counted_apart(prepared: Callable[..., Any]):
    rows = prepared(
        columns.where(lambda batch: pc.less(pc.if_else(pc.less(batch["n"], 5), None, batch["n"]), 50), "large"),
    )
    assert rows.filtered == {"large": ROWS - 50, "large (null)": 5}
    listed = {
        reason: [each.key for each in rows.filtered_examples if each.reason == reason] for reason in rows.filtered
    }
    assert listed["large (null)"] == [f"a.csv:{number}" for number in range(5)]
    assert listed["large"] == [f"a.csv:{number}" for number in range(50, ROWS)]
    assert numbers(rows) == list(range(5, 50))


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
    codes = {example.key: example.code for example in rows.quarantined}
    assert codes == {"a.csv:6": "six", "a.csv:7": "prepare_error"}
    assert "picky: ZeroDivisionError" in rows.quarantined[1].message
    assert rows.numbers.tolist() == [number for number in range(ROWS) if number not in (5, 6, 7)]


@pytest.mark.parametrize("bad", [[0], [ROWS - 1], [3, 4, 100], list(range(0, ROWS, 2))])
def test_a_function_of_batches_that_fails_on_some_rows(prepared: Callable[..., Any], bad: Sequence[int]):
    @columns.vectorized
    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        if np.isin(np.asarray(batch["n"]), bad).any():
            raise ValueError("a bad number")
        return columns.put(batch, "new", batch["n"])

    rows = prepared(picky, double)
    assert sorted(example.key for example in rows.quarantined) == sorted(f"a.csv:{number}" for number in bad)
    assert {example.code for example in rows.quarantined} == {"prepare_error"}
    kept = [number for number in range(ROWS) if number not in bad]
    assert rows.numbers.tolist() == kept
    assert rows.batch["new"].to_pylist() == kept
    assert numbers(rows) == [2 * number for number in kept]


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_function_that_would_end_the_process_costs_its_rows(prepared: Callable[..., Any], vectorized: bool):
    def leave(example: dict[str, Any]) -> dict[str, Any]:
        if example["n"] == 5:
            sys.exit("that is all")
        return example

    def leave_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
        if np.isin(np.asarray(batch["n"]), [5]).any():
            sys.exit("that is all")
        return batch

    rows = prepared(columns.vectorized(leave_batch) if vectorized else leave)
    ((key, code, message),) = [(example.key, example.code, example.message) for example in rows.quarantined]
    assert (key, code) == ("a.csv:5", "prepare_error")
    assert "SystemExit: that is all" in message


def failing(_: Any) -> Any:
    raise ValueError("never")


@pytest.mark.parametrize("step", [failing, columns.vectorized(failing)], ids=["examples", "batches"])
def test_a_range_without_any_good_row_is_no_failure(prepared: Callable[..., Any], step: Any):
    """Even where `prepare` would have added columns: another range has them."""
    schema = pa.schema([("n", pa.int64()), ("added", pa.float64())])
    chunk = prepared(step, stored=schema)
    assert (chunk.read, len(chunk.quarantined), chunk.splits) == (ROWS, ROWS, {})


def test_a_range_that_a_filter_leaves_empty_is_no_failure(prepared: Callable[..., Any]):
    schema = pa.schema([("n", pa.int64()), ("added", pa.float64())])
    nothing = columns.where(lambda batch: pc.less(batch["n"], 0), "negative")
    chunk = prepared(nothing, lambda example: example | {"added": 0.5}, stored=schema)
    assert (chunk.read, chunk.filtered["negative"], chunk.splits) == (ROWS, ROWS, {})


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
    assert len(rows.quarantined) == ROWS
    assert "expected a dict" in rows.quarantined[0].message


@pytest.mark.parametrize("made", [{}, {5: 1}, {"": 1}])
def test_columns_must_have_names(prepared: Callable[..., Any], made: Any):
    rows = prepared(lambda example: made if example["n"] == 3 else example)
    assert len(rows.batch) == ROWS - 1
    (example,) = rows.quarantined
    assert (example.key, example.code) == ("a.csv:3", "wrong_result")
    assert f"<lambda>: expected a dict of columns by their names, found {made!r}; fix `prepare`" == example.message


def test_values_of_another_type_than_the_first_cost_their_rows(prepared: Callable[..., Any]):
    rows = prepared(lambda example: example | {"n": "text" if example["n"] % 2 else 2**70 if example["n"] == 4 else 1})
    assert rows.batch["n"].to_pylist() == [1] * (ROWS // 2 - 1)
    assert rows.numbers.tolist() == [number for number in range(0, ROWS, 2) if number != 4]
    assert [example.code for example in rows.quarantined] == ["wrong_type"] * (ROWS // 2 + 1)
    assert "<lambda>: 'n': expected int64, found" in rows.quarantined[0].message


def test_a_range_whose_examples_all_lack_a_column_has_it_missing(prepared: Callable[..., Any]):
    planned = pa.schema([("t", pa.string()), ("n", pa.int64())])
    chunk = prepared(lambda example: {"t": example["t"]}, stored=planned)
    assert len(chunk.splits["train"].examples) == ROWS
    assert not chunk.quarantined


def test_a_list_that_lacks_a_value_costs_its_row(prepared: Callable[..., Any]):
    planned = pa.schema([("n", pa.int64()), ("t", pa.string()), ("l", pa.list_(pa.int64()))])
    lists = columns.vectorized(
        lambda batch: columns.put(batch, "l", pa.array([[1, None] if n == 3 else [n] for n in batch["n"].to_pylist()]))
    )
    chunk = prepared(lists, stored=planned)
    assert len(chunk.splits["train"].examples) == ROWS - 1
    assert [example.key.rpartition(":")[2] for example in chunk.quarantined] == ["3"]
    assert "a list that lacks a value, [1, None]" in chunk.quarantined[0].message


def test_a_key_that_only_later_examples_have_is_not_lost(prepared: Callable[..., Any]):
    rows = prepared(lambda example: example | ({"late": example["n"]} if example["n"] > 100 else {}))
    assert rows.batch["late"].to_pylist() == [None] * 101 + list(range(101, ROWS))


def test_dtype_drift(prepared: Callable[..., Any]):
    """A batch whose column has another type than planned is cast where nothing is lost; else rows are set aside."""
    planned = pa.schema([("n", pa.float64()), ("t", pa.string())])
    assert len(prepared(stored=planned).splits["train"].examples) == ROWS
    half = columns.vectorized(lambda batch: columns.put(batch, "n", pc.divide(batch["n"].cast(pa.float64()), 2)))
    chunk = prepared(half, stored=pa.schema([("n", pa.int64()), ("t", pa.string())]))
    assert len(chunk.splits["train"].examples) == len(chunk.quarantined) == ROWS // 2
    assert chunk.quarantined[0].code == "wrong_type"
    assert chunk.quarantined[0].message == "'n': expected int64 as in the first rows, found 0.5; cast it in `prepare`"
    with pytest.raises(PenstockError, match=r"expected the column 'm' after `prepare`, found \['n', 't'\]"):
        prepared(stored=pa.schema([("m", pa.int64())]))


def test_a_filter_that_fails_is_one_clear_error(prepared: Callable[..., Any]):
    with pytest.raises(PenstockError, match=r"where\(\.\.\., 'negative'\): KeyError: .*typo"):
        prepared(columns.where(lambda batch: pc.less(batch["typo"], 0), "negative"))


def test_reals_beyond_float32_are_infinite_in_statistics_too(prepared: Callable[..., Any]):
    values = [1.0, 1e300, None, math.nan, -math.inf, -1e39, float(np.finfo(np.float32).max), 2.0**128 - 2.0**103]
    add = columns.vectorized(lambda batch: columns.put(batch.select(["n"])[: len(values)], "x", pa.array(values)))
    few = columns.where(lambda batch: pc.less(batch["n"], len(values)), "more")
    schema = pa.schema([("n", pa.int64()), ("x", pa.float64())])
    rows = conform(prepared(few, add), stored_schema(schema), PIECE)
    stored = rows.batch["x"].to_pylist()
    assert [value for value in stored if value == value] == [
        1.0, math.inf, None, -math.inf, -math.inf, float(np.finfo(np.float32).max), math.inf,
    ]  # fmt: skip
    moments = Moments.of(rows.batch["x"])
    assert (moments.count, moments.missing, moments.nan) == (2, 1, 1)
    assert (moments.positive_inf, moments.negative_inf) == (2, 2)
    assert moments.max == np.finfo(np.float32).max


def test_a_column_that_only_later_ranges_have_is_not_lost(prepared: Callable[..., Any]):
    """A function of batches fails the run; one of examples loses the rows that have a value there."""
    planned = pa.schema([("n", pa.int64()), ("t", pa.string())])
    late = columns.vectorized(lambda batch: columns.put(batch, "late", batch["n"]))
    with pytest.raises(PenstockError, match=r"expected no column but \['n', 't'\] .* found \['late', 'n', 't'\]"):
        prepared(late, stored=planned)
    chunk = prepared(
        lambda example: example | ({"late": example["n"] or None} if example["n"] < 3 else {}),
        stored=planned,
    )
    assert [(example.key, example.code) for example in chunk.quarantined] == [
        ("a.csv:1", "wrong_columns"),
        ("a.csv:2", "wrong_columns"),
    ]
    assert "expected the columns ['n', 't'] as in the first rows, found 'late' as well" in chunk.quarantined[0].message
    assert len(chunk.splits["train"].examples) == ROWS - 2


def test_a_column_whose_values_are_all_missing_keeps_its_type(prepared: Callable[..., Any]):
    rows = prepared(lambda example: {"n": None, "t": None, "new": None, "empty": []})
    assert rows.batch.schema.types[:2] == [pa.int64(), pa.string()]
    assert pa.types.is_null(rows.batch.schema.field("new").type)
    chunk = prepared(
        lambda example: example | {"new": None, "empty": []},
        stored=pa.schema(
            [("n", pa.int64()), ("t", pa.string()), ("new", pa.binary()), ("empty", pa.list_(pa.float64()))]
        ),
    )
    assert len(chunk.splits["train"].examples) == ROWS


def test_text_that_utf_8_cannot_hold_costs_its_row(prepared: Callable[..., Any]):
    rows = prepared(lambda example: example | {"t": "\ud800" if example["n"] == 2 else "fine"})
    assert [(example.key, example.code) for example in rows.quarantined] == [("a.csv:2", "wrong_type")]


def halved(values: Callable[[list[int]], Any]) -> Any:
    """A function of batches that fails on row 100, and adds what `values` makes of the numbers of rows."""

    def step(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 100 in batch["n"].to_pylist():
            raise ValueError("no hundreds")
        return columns.put(batch, "y", values(batch["n"].to_pylist()))

    return columns.vectorized(step)


def test_halves_of_a_batch_may_come_out_with_different_types(prepared: Callable[..., Any]):
    rows = prepared(halved(lambda numbers: [1 if number == 150 else None for number in numbers]))
    assert rows.batch["y"].type == pa.int64()
    assert [value for value in rows.batch["y"].to_pylist() if value] == [1]
    rows = prepared(halved(lambda numbers: [number if number < 100 else number / 2 for number in numbers]))
    assert rows.batch["y"].to_pylist() == [n if n < 100 else n / 2 for n in range(ROWS) if n != 100]


def test_rows_whose_types_cannot_be_united_are_set_aside(prepared: Callable[..., Any]):
    rows = prepared(halved(lambda numbers: [number if number < 100 else f"word {number}" for number in numbers]))
    assert rows.batch["y"].to_pylist() == list(range(100))
    assert rows.numbers.tolist() == list(range(100))
    assert sorted({example.code for example in rows.quarantined}) == ["prepare_error", "wrong_type"]
    assert len(rows.quarantined) == ROWS - 100
    words = {example.message for example in rows.quarantined if example.key == "a.csv:101"}
    assert words == {"step: 'y': expected int64 as in other rows, found 'word 101'"}


def test_bytes_and_text_of_one_column_come_out_as_one_type(prepared: Callable[..., Any]):
    """A Parquet shard has one schema, whatever a range lacks."""
    schema = stored_schema(pa.schema([("b", pa.binary()), ("t", pa.string())]))
    made = {None: {"b": None, "t": None}, "text": {"b": "text", "t": "text"}, "bytes": {"b": b"\xff", "t": b"text"}}
    for example in made.values():
        rows = conform(prepared(lambda _, example=example: example), schema, PIECE, by_example=True)
        assert rows.batch.schema == schema
        assert len(rows.batch) == ROWS
    rows = conform(prepared(lambda _: {"b": b"", "t": b"\xff"}), schema, PIECE, by_example=True)
    assert not len(rows.batch)
    assert "'t': expected string as in the first rows, found b'\\xff'" in rows.quarantined[0].message


def test_types_are_those_of_all_values_seen():
    def batch(**values: Any) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict(values)

    united = unite(
        [
            batch(a=[1], b=pa.array([None], pa.string()), c=[None], d=[1]),
            batch(a=[1.5], b=[7], c=[[]], d=["text"], e=[True]),
            batch(a=[1], c=[[1]], d=[2]),
        ]
    )
    assert united == pa.schema(
        [("a", pa.float64()), ("b", pa.int64()), ("c", pa.list_(pa.int64())), ("d", pa.int64()), ("e", pa.bool_())]
    )


def test_messages_name_the_step_as_the_recipe_does_and_the_line(prepared: Callable[..., Any]):
    rows = prepared(dates.parse("t"))
    assert rows.quarantined[0].message.startswith("dates.parse('t'): ValueError: ")
    rows = prepared(columns.drop("m", "k"))
    assert rows.quarantined[0].message.startswith("columns.drop('m', 'k'): ValueError: ")
    line = failing.__code__.co_firstlineno + 1
    for step in (failing, columns.vectorized(failing)):
        expected = f"failing: ValueError: never (test_steps.py, line {line})"
        assert prepared(step).quarantined[0].message == expected
