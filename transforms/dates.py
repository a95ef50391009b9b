"""Dates: parsed in `prepare`, by whole batches, into numbers; and as points of a circle in `features`.

In the examples, `inputs_of(x=[1.0, None])` is what `features` receives of such a column, with its statistics.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .check import expect
from .columns import Vectorized, put
from .inputs import Inputs, column_of
from .step import config_of

Part = Literal["year", "month", "day", "weekday", "hour", "minute", "seconds"]
Unparsable = Literal["error", "missing"]

_ISO_8601 = (
    r"^\s*(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})"
    r"(?:[T ](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?"
    r"\s?(?P<zone>Z|[+-]\d{2}:?\d{2})?)?\s*$"
)


def parse(
    name: str,
    parts: tuple[Part, ...] = ("year", "month", "day", "weekday", "seconds"),
    *,
    unparsable: Unparsable = "error",
) -> Vectorized:
    """For `prepare`: adds columns with the parts of a date, int64, named like "sold_month" for the month of "sold".

    Args:
      name: A column of ISO 8601 text ("2024-02-29", "2024-02-29T13:05", "2024-02-29 13:05:07.25+01:00"), or of Arrow
        dates or timestamps.
      parts: Which: "year", "month" (1 to 12), "day" (of the month, from 1), "weekday" (Monday is 0), "hour", "minute":
        all as written, in the text's own time zone; and "seconds" since 1970-01-01 UTC, fractions cut off, where text
        without a zone counts as UTC.
      unparsable: What becomes of text that is no date: "error" puts its row into the quarantine; "missing" makes its
        parts missing, as those of a missing date always are, and statistics.json counts them among these.

    Raises:
      ValueError: an argument is not what it should be.

    >>> batch = pa.record_batch({"sold": ["2024-02-29T13:05:07+01:00", None]})
    >>> dates.parse("sold", ("year", "weekday", "hour"))(batch).drop_columns(["sold"]).to_pydict()
    {'sold_year': [2024, None], 'sold_weekday': [3, None], 'sold_hour': [13, None]}
    """
    expect(isinstance(name, str) and bool(name), "parse(name)", "the name of a column", name)
    known = get_args(Part)
    expect(bool(parts) and all(part in known for part in parts), "parse(parts)", f"some of {known}", parts)
    expect(unparsable in get_args(Unparsable), "parse(unparsable=...)", f"one of {get_args(Unparsable)}", unparsable)
    return Vectorized(_Parse(name, tuple(parts), unparsable), f"dates.parse({name!r})")


@dataclass(frozen=True)
class _Parse:
    step_id: ClassVar[str] = "dates.parse"

    name: str
    parts: tuple[Part, ...]
    unparsable: Unparsable

    @property
    def touches(self) -> tuple[str, ...]:
        """The columns that it adds."""
        return tuple(f"{self.name}_{part}" for part in self.parts)

    def config(self) -> dict[str, Any]:
        """The arguments of `parse`, by name."""
        return config_of(self)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        expect(self.name in batch.schema.names, "parse(name)", f"one of the columns {batch.schema.names}", self.name)
        column = batch.column(self.name)
        local, offsets, valid = _read(column)
        wrong = ~valid & np.asarray(column.is_valid())
        if self.unparsable == "error" and wrong.any():
            text = column[int(np.flatnonzero(wrong)[0])].as_py()
            raise ValueError(
                f"parse({self.name!r}): expected an ISO 8601 date such as 2024-02-29 or 2024-02-29T13:05:07Z, found "
                f"{text!r}; fix it before, or use unparsable='missing'"
            )
        for part in self.parts:
            values = _part(local, part) - (offsets if part == "seconds" else 0)
            batch = put(batch, f"{self.name}_{part}", pa.array(values, pa.int64(), mask=~valid))
        return batch


def _read(column: pa.Array) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Local times in seconds, how many seconds these are ahead of UTC, and which of them are dates at all."""
    kind = column.type
    if pa.types.is_null(kind):
        column = column.cast(pa.string())
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        is_zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        local = _as_seconds(pc.local_timestamp(column) if is_zoned else column)
        utc = _as_seconds(column.cast(pa.timestamp(kind.unit)) if is_zoned else column)
        return local, (local - utc).astype(np.int64), np.asarray(column.is_valid())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ValueError(f"parse: expected a column of text, dates or timestamps, found {kind}; cast it before")
    matched = pc.extract_regex(column, _ISO_8601)
    valid = np.asarray(matched.is_valid())
    year, month, day, hour, minute, second = (
        _field(matched, field, valid) for field in ("year", "month", "day", "hour", "minute", "second")
    )
    valid &= (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(valid, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    valid &= days.astype("datetime64[M]") == months  # there is no 30th of February
    offsets = _offsets(matched, valid)
    valid &= np.abs(offsets) < 86_400
    local = days.astype("datetime64[s]") + (hour * 3600 + minute * 60 + second)
    return local, offsets, valid


def _as_seconds(column: pa.Array) -> npt.NDArray[np.datetime64]:
    filled = column.cast(pa.timestamp("us")).fill_null(0)
    microseconds: npt.NDArray[np.int64] = np.asarray(filled.cast(pa.int64()))
    seconds: npt.NDArray[np.datetime64] = (microseconds // 1_000_000).astype("datetime64[s]")
    return seconds


def _field(matched: pa.StructArray, field: str, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """A field of the matches as integers; 0 where there is none."""
    digits = pc.if_else(pa.array(valid), matched.field(field), "0")
    return np.asarray(pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()))


def _offsets(matched: pa.StructArray, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    zones = pc.if_else(pa.array(valid), matched.field("zone"), "").dictionary_encode()
    seconds = [_offset(zone) for zone in zones.dictionary.to_pylist()]
    return np.array(seconds, np.int64)[np.asarray(zones.indices)] if len(zones) else np.zeros(0, np.int64)


def _offset(zone: str) -> int:
    """How many seconds a zone such as "+01:00" is ahead of UTC; a day where it is none."""
    if zone in ("", "Z"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        return 86_400
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


def _part(local: npt.NDArray[np.datetime64], part: Part) -> npt.NDArray[np.int64]:
    """One part of local times; "seconds" are those since 1970-01-01 in local time."""
    days = local.astype("datetime64[D]")
    months = local.astype("datetime64[M]")
    seconds = local.astype(np.int64)
    if part == "year":
        return local.astype("datetime64[Y]").astype(np.int64) + 1970
    if part == "month":
        return months.astype(np.int64) % 12 + 1
    if part == "day":
        first = months.astype("datetime64[D]")
        return days.astype(np.int64) - first.astype(np.int64) + 1
    if part == "weekday":
        return (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    if part == "hour":
        return seconds % 86_400 // 3600
    if part == "minute":
        return seconds % 3600 // 60
    return seconds


def cyclical(inputs: Inputs, name: str, period: float, *, start: float = 0.0) -> Any:
    """For `features`: numbers that recur as points of a circle, so that December is next to January.

    Args:
      inputs: What `features` received.
      name: A column of numbers, such as "sold_month".
      period: After how much it starts over: 12 for months, 7 for weekdays.
      start: What is at (0, 1): 1 for months.

    Returns:
      float32, in the column's shape and [2]: sine and cosine; (0, 0), which is no point of the circle, for missing
      values.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(month=[1, 4, 7, None])
    >>> dates.cyclical(inputs, "month", 12, start=1).numpy().round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [0.0, 0.0]]
    """
    is_period = isinstance(period, int | float) and 0 < period < math.inf
    expect(is_period, "cyclical(period)", "a number above 0", period)
    values = column_of(inputs, name, "cyclical", "tf.sin and tf.cos")
    if not (values.dtype.is_integer or values.dtype.is_floating):
        raise ValueError(
            f"cyclical: expected a column of numbers, found {name!r} of {values.dtype.name}; use parse in `prepare`"
        )
    import tensorflow as tf

    numbers = tf.cast(values, tf.float64)
    absent = ~tf.math.is_finite(numbers)
    if name in inputs.missing:
        absent |= inputs.missing[name]
    # reduced to one turn first: the sine of a large angle is only as exact as the angle
    turn = tf.math.floormod(numbers - start, tf.constant(period, tf.float64)) / period
    angle = tf.where(absent, tf.zeros_like(turn), turn) * (2 * math.pi)
    point = tf.stack([tf.sin(angle), tf.cos(angle)], axis=-1)
    return tf.cast(tf.where(absent[..., tf.newaxis], tf.zeros_like(point), point), tf.float32)
