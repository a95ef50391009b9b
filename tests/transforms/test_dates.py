import datetime
import math
import pickle
import re
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from penstock.transforms import dates

from .tables import inputs, traced

PARTS = ("year", "month", "day", "weekday", "hour", "minute", "seconds")


def parts(column: pa.Array, **options: str) -> list[tuple[int | None, ...]]:
    batch = dates.parse("t", PARTS, **options)(pa.record_batch({"t": column}))  # type: ignore[arg-type]
    assert batch.schema.names == ["t", *(f"t_{part}" for part in PARTS)]
    return list(zip(*(batch[f"t_{part}"].to_pylist() for part in PARTS), strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", (1970, 1, 1, 3, 0, 0, 0)),
        ("2024-02-29", (2024, 2, 29, 3, 0, 0, 1709164800)),
        ("1969-12-31T23:59:59", (1969, 12, 31, 2, 23, 59, -1)),
        (" 2024-02-29 13:05 ", (2024, 2, 29, 3, 13, 5, 1709211900)),
        ("2024-02-29T13:05:07.999Z", (2024, 2, 29, 3, 13, 5, 1709211907)),
        ("2024-02-29T00:30:00+01:00", (2024, 2, 29, 3, 0, 30, 1709163000)),
        ("2024-02-29T00:30:00-0530", (2024, 2, 29, 3, 0, 30, 1709186400)),
        ("0001-01-01", (1, 1, 1, 0, 0, 0, -62135596800)),
        ("9999-12-31", (9999, 12, 31, 4, 0, 0, 253402214400)),
    ],
)
def test_iso_8601(text: str, expected: tuple[int, ...]) -> None:
    assert parts(pa.array([text, None])) == [expected, (None,) * 7]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2023-02-29",
        "2024-13-01",
        "2024-00-10",
        "2024-01-00",
        "2024-01-32",
        "2024-01-01T24:00",
        "2024-01-01T00:60",
        "2024-01-01T00:00:60",
        "2024-01-01T00:00+24:00",
        "2024-1-1",
        "01/02/2024",
        "2024-01-01x",
    ],
)
def test_what_is_no_date(text: str) -> None:
    column = pa.array(["2024-01-01", text, None])
    assert parts(column, unparsable="missing")[1:] == [(None,) * 7] * 2
    with pytest.raises(ValueError, match=re.escape(f"found {text!r}; fix it")):
        parts(column)


def test_dates_agree_with_pandas() -> None:
    seconds = np.random.default_rng(5).integers(-(10**10), 10**10, 2_000)
    reference = pd.Series(pd.to_datetime(seconds, unit="s"))
    expected = zip(
        reference.dt.year,
        reference.dt.month,
        reference.dt.day,
        reference.dt.day_of_week,
        reference.dt.hour,
        reference.dt.minute,
        seconds.tolist(),
        strict=True,
    )
    assert parts(pa.array(reference.dt.strftime("%Y-%m-%dT%H:%M:%S").tolist())) == list(expected)


def test_arrow_dates_and_timestamps() -> None:
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 13, 5, 7, 999_999)
    assert parts(pa.array([day, None], pa.date32()))[0] == (2024, 2, 29, 3, 0, 0, 1709164800)
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array([moment.replace(microsecond=0), None], pa.timestamp(unit))
        assert parts(column) == [(2024, 2, 29, 3, 13, 5, 1709211907), (None,) * 7]
    zoned = pa.array([1709211907], pa.timestamp("s", "Europe/Berlin"))
    assert parts(zoned) == [(2024, 2, 29, 3, 14, 5, 1709211907)]
    early = pa.array([-1], pa.timestamp("ms"))
    assert parts(early) == [(1969, 12, 31, 2, 23, 59, -1)]
    assert parts(pa.array([None, None])) == [(None,) * 7] * 2
    assert parts(pa.array([], pa.string())) == []


def test_parse_pickles_and_checks_its_arguments() -> None:
    step = dates.parse("t", ("year",))
    assert pickle.loads(pickle.dumps(step)) == step
    for bad in (lambda: dates.parse(""), lambda: dates.parse("t", ("week",)), lambda: dates.parse("t", ())):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"parse\(.*expected"):
            bad()
    with pytest.raises(ValueError, match=r"unparsable"):
        dates.parse("t", unparsable="drop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"one of the columns \['x'\], found 't'"):
        step(pa.record_batch({"x": [1]}))
    with pytest.raises(ValueError, match="expected a column of text, dates or timestamps, found int64"):
        step(pa.record_batch({"t": [1]}))


def test_cyclical_goes_round() -> None:
    given = inputs({"month": pa.array([1, 4, 7, 10, 13, None])})
    expected = [[0, 1], [1, 0], [0, -1], [-1, 0], [0, 1], [0, 0]]
    np.testing.assert_allclose(dates.cyclical(given, "month", 12, start=1), expected, atol=1e-7)
    np.testing.assert_array_equal(
        traced(partial(dates.cyclical, name="month", period=12, start=1), given),
        dates.cyclical(given, "month", 12, start=1),
    )
    floats = inputs({"x": pa.array([0.25, math.nan, math.inf])})
    np.testing.assert_allclose(dates.cyclical(floats, "x", 1), [[1, 0], [0, 0], [0, 0]], atol=1e-7)


def test_cyclical_of_large_numbers_is_exact() -> None:
    given = inputs({"seconds": pa.array([86_400 * 10**9 + 21_600])})
    np.testing.assert_allclose(dates.cyclical(given, "seconds", 86_400), [[1, 0]], atol=1e-7)


def test_cyclical_refuses_what_it_cannot_use() -> None:
    given = inputs({"x": pa.array(["a"])})
    with pytest.raises(ValueError, match="found 'x' of string"):
        dates.cyclical(given, "x", 12)
    with pytest.raises(ValueError, match=r"cyclical\(period\)"):
        dates.cyclical(given, "x", 0)
