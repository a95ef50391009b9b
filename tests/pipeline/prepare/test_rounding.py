import numpy as np
import pyarrow as pa

from penstock.pipeline.formats.column_notes import COLLAPSED, ROUNDED, ColumnNote
from penstock.pipeline.prepare.rounding import rounding_notes


def notes(values, kind=None):
    return rounding_notes(pa.record_batch({"x": pa.array(values, kind or pa.float64())}))


def test_whole_parts_that_float32_cannot_hold_are_counted():
    found = notes([1700000000.123, 2.0**24, 2.0**24 + 1, 5.25, None, float("inf"), float("nan"), -123456789.0])
    assert found[ROUNDED, "x"].of == 5
    assert found[ROUNDED, "x"].count == 2  # 1700000000.123 keeps its whole part
    assert found[ROUNDED, "x"].example == "16777217.0 as 16777216.0"


def test_lists_are_looked_into_and_other_types_are_not():
    found = notes([[1.0, 16777217.0], None, []], pa.large_list(pa.float64()))
    assert found[ROUNDED, "x"] == ColumnNote(1, 2, "16777217.0 as 16777216.0")
    for kind in (pa.int64(), pa.string(), pa.large_list(pa.int64())):
        assert notes([], kind) == {}
    assert notes([2**53 + 1], pa.int64()) == {}


def test_values_that_become_equal_are_counted_whatever_lies_far_away():
    times = 1e4 + np.arange(1000) * 1e-5
    found = notes([*times, 1e9])
    assert found[COLLAPSED, "x"].count > 900
    assert found[COLLAPSED, "x"].of == 1001
    assert found[COLLAPSED, "x"].example == f"{times[0]} and {times[1]}"


def test_random_numbers_and_what_is_float32_already_are_no_accident():
    values = np.random.default_rng(0).normal(size=200_000)
    found = notes(values)
    assert found[COLLAPSED, "x"].count < 0.05 * found[COLLAPSED, "x"].of
    assert found[ROUNDED, "x"].count == 0
    single = notes((values * 1e12).astype(np.float32).astype(np.float64))
    assert single[ROUNDED, "x"].count == single[COLLAPSED, "x"].count == 0
