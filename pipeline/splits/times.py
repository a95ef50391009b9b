"""Times of examples as numbers that can be compared: those of strings are microseconds since 1970, in UTC."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from ..sources.row_errors import RowError, shorten

Time = str | int | float | date
NO_TIME = "no_time"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(time: Time) -> int | float:
    """A time as a number: a number is one; a date is its beginning, in UTC where no zone is named.

    Raises:
      ValueError: it cannot be read.
    """
    if isinstance(time, int | float) and time == time:
        return time
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.strip())
        except ValueError as error:
            raise ValueError(f"expected a time such as '2024-01-31' or '2024-01-31 12:00', found {time!r}") from error
    if not isinstance(time, date):
        raise ValueError(f"expected a time (a string, a date or a number), found {time!r}")
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def moment(instant: int) -> datetime:
    """The time that is so many microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=instant)


def read_times(values: pa.Array, name: str) -> tuple[np.ndarray, dict[int, RowError]]:
    """A column's times.

    Args:
      values: Numbers, or strings.
      name: The column's name, for messages.

    Returns:
      int64 or float64 [rows] as `instant` gives them, 0 where there is none; and why there is none, by position.
    """
    if not pa.types.is_string(values.type):
        numbers = np.asarray(values.fill_null(0))
        wrong = np.asarray(values.is_null()) | (numbers != numbers)
        return np.where(wrong, 0, numbers), {row: _no_time(name, None) for row in np.flatnonzero(wrong).tolist()}
    try:  # at the speed of columns where every value is one that Arrow reads, and in UTC
        parsed = values.cast(pa.timestamp("us")).cast(pa.int64())
    except pa.ArrowInvalid:
        return _read_each(values, name)
    missing = np.flatnonzero(np.asarray(parsed.is_null())).tolist()
    return np.asarray(parsed.fill_null(0)), {row: _no_time(name, None) for row in missing}


def _read_each(values: pa.Array, name: str) -> tuple[np.ndarray, dict[int, RowError]]:
    """As `read_times`, each distinct string for itself."""
    encoded = values.dictionary_encode()
    read: list[int | float | None] = []
    for text in encoded.dictionary.to_pylist():
        try:
            read.append(instant(text))
        except ValueError:
            read.append(None)
    times = np.zeros(len(values), np.int64)
    errors: dict[int, RowError] = {}
    for row, code in enumerate(encoded.indices.to_pylist()):
        time = None if code is None else read[code]
        if time is None:
            errors[row] = _no_time(name, None if code is None else encoded.dictionary[code].as_py())
        else:
            times[row] = time
    return times, errors


def _no_time(name: str, value: str | None) -> RowError:
    found = "a missing value" if value is None else shorten(value)
    return RowError(NO_TIME, f"{name!r}: expected a time for by_time, such as '2024-01-31 12:00', found {found}")
