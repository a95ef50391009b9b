import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from penstock.transforms import columns

BATCH = pa.record_batch({"a": [1, 2, None], "b": ["x", None, "z"], "c": [0.5, 1.5, 2.5]})


@columns.vectorized
def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return columns.put(batch, "a", pc.multiply(batch["a"], 2))


def adults(batch: pa.RecordBatch) -> Any:
    return pc.greater(batch["a"], 1)


def test_vectorized_marks_a_function() -> None:
    assert isinstance(doubled, columns.Vectorized)
    assert doubled(BATCH)["a"].to_pylist() == [2, 4, None]
    assert doubled.function(BATCH) == doubled(BATCH)
    with pytest.raises(ValueError, match=r"vectorized\(function\)"):
        columns.vectorized(3)  # type: ignore[arg-type]


def test_where_tells_what_is_false_from_what_is_null() -> None:
    step = columns.where(adults, "under age")
    assert step.mask(BATCH).to_pylist() == [False, True, None]
    assert (step.reason, step.null_reason) == ("under age", "under age (null)")
    assert step == pickle.loads(pickle.dumps(step))
    numpy = columns.where(lambda batch: np.array([True, False, True]), "odd")
    assert numpy.mask(BATCH).to_pylist() == [True, False, True]
    assert columns.where(lambda batch: pa.chunked_array([[True], [None, False]]), "x").mask(BATCH).to_pylist() == [
        True,
        None,
        False,
    ]


@pytest.mark.parametrize("returned", [True, np.ones(2, bool), pa.array([1, 2, 3]), None, [True] * 3])
def test_where_refuses_what_is_no_mask(returned: object) -> None:
    with pytest.raises(ValueError, match=r"where\(..., 'odd'\): expected a predicate that returns 3 booleans"):
        columns.where(lambda batch: returned, "odd").mask(BATCH)


def test_where_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match=r"where\(predicate\)"):
        columns.where(None, "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"where\(reason=...\)"):
        columns.where(adults, " ")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (columns.select("c", "a"), {"c": [0.5, 1.5, 2.5], "a": [1, 2, None]}),
        (columns.drop("b", "c"), {"a": [1, 2, None]}),
        (columns.rename({"a": "b", "b": "a"}), {"b": [1, 2, None], "a": ["x", None, "z"], "c": [0.5, 1.5, 2.5]}),
        (columns.cast({"a": "float64", "c": pa.float32()}), {**BATCH.to_pydict(), "a": [1.0, 2.0, None]}),
        (columns.fill({"a": 0, "b": "?"}), {**BATCH.to_pydict(), "a": [1, 2, 0], "b": ["x", "?", "z"]}),
    ],
)
def test_steps_do_what_they_say_and_pickle(step: columns.Vectorized, expected: dict[str, list[object]]) -> None:
    assert isinstance(step, columns.Vectorized)
    assert step(BATCH).to_pydict() == expected
    assert list(step(BATCH).schema.names) == list(expected)
    assert pickle.loads(pickle.dumps(step)) == step
    assert step(BATCH[:0]).num_rows == 0


def test_cast_sets_the_types_and_fails_on_what_does_not_fit() -> None:
    assert columns.cast({"a": "int32", "c": "string"})(BATCH).schema.types == [pa.int32(), pa.string(), pa.string()]
    with pytest.raises(pa.ArrowInvalid):
        columns.cast({"b": "int64"})(BATCH)
    with pytest.raises(pa.ArrowInvalid):
        columns.cast({"c": "int64"})(BATCH)


def test_put_replaces_in_place_and_appends() -> None:
    assert columns.put(BATCH, "b", np.arange(3)).schema.names == ["a", "b", "c"]
    assert columns.put(BATCH, "d", pa.chunked_array([[1], [2, 3]]))["d"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    "step",
    [
        columns.select("d"),
        columns.drop("d"),
        columns.rename({"d": "e"}),
        columns.cast({"d": "int64"}),
        columns.fill({"d": 0}),
    ],
)
def test_a_column_that_is_not_there_is_named(step: columns.Vectorized) -> None:
    with pytest.raises(ValueError, match=r"expected one of the columns \['a', 'b', 'c'\], found 'd'"):
        step(BATCH)


def test_names_are_checked() -> None:
    for make in (columns.select, columns.drop):
        with pytest.raises(ValueError, match="names of columns, each once"):
            make()
        with pytest.raises(ValueError, match="names of columns, each once"):
            make("a", "a")
    with pytest.raises(ValueError, match="new names that differ"):
        columns.rename({"a": "x", "b": "x"})
    with pytest.raises(ValueError, match="no name that another column has"):
        columns.rename({"a": "b"})(BATCH)
    with pytest.raises(ValueError, match="types of Arrow or"):
        columns.cast({"a": "int"})
