"""The type of a column of text: how its values are written, counted over the input, and the type that loses nothing.

Counts are merged over files and positions, so that the type depends on all that was looked at and not on its order. A
number is one that is written in decimal, without a plus. Each kind of number keeps its first cell, for messages.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .column_types import Inferred, parse
from .row_errors import shorten

TEXT, INTEGER, BEYOND, ZEROS, WHOLE, EXPONENT, FRACTION, NONFINITE = range(8)
_NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_INTEGER = r"^-?[0-9]+$"
_PATTERNS = (
    (INTEGER, _INTEGER),
    (WHOLE, r"^-?[0-9]+\.0*$"),
    (EXPONENT, r"^-?[0-9]+[eE][0-9]+$"),  # as no program writes a float, but as ids look
)
_NONFINITE = r"^[-+]?(?i:nan|inf|infinity)$"
_HEAD = 256  # values that show of a block whether it holds fractions
_LONGEST_INT64 = 18  # digits that every number of so many has in int64
_EXACT_DIGITS = 15  # and in float64
_FIRST = np.isin(np.arange(256), np.frombuffer(b"0123456789.-", np.uint8))
_FIRST_OF_WORDS = np.isin(np.arange(256), np.frombuffer(b"nNiI+-", np.uint8))


@dataclass(frozen=True)
class Cell:
    """A value and where it is."""

    value: object
    where: str

    def __str__(self) -> str:
        return f"{shorten(self.value)} in {self.where}"


@dataclass
class Evidence:
    """How a column's values are written.

    Attributes:
      counts: Kind to count of values; those that stand for a missing one are in none.
      firsts: Kind to the first of them.
      rounded: The first whole number, written as a float, that float32 does not hold.
      inexact: The first integer that float64 does not hold.
    """

    counts: Counter[int] = field(default_factory=Counter)
    firsts: dict[int, Cell] = field(default_factory=dict)
    rounded: Cell | None = None
    inexact: Cell | None = None

    def merge(self, other: "Evidence") -> None:
        """Adds what was seen further on."""
        self.counts += other.counts
        self.firsts = {**other.firsts, **self.firsts}
        self.rounded = self.rounded or other.rounded
        self.inexact = self.inexact or other.inexact


def classify(values: pa.StringArray) -> np.ndarray:
    """The kind of each string: int8 [n].

    Args:
      values: Without nulls. Bytes that are no UTF-8 may be in them.
    """
    kinds = np.full(len(values), TEXT, np.int8)
    first, second = _first_bytes(values)
    numeric = np.flatnonzero(_FIRST[first])
    if len(numeric):
        kinds[numeric] = _classify_numbers(values if len(numeric) == len(values) else values.take(pa.array(numeric)))
        kinds[(kinds != TEXT) & second] = ZEROS
    words = np.flatnonzero((kinds == TEXT) & _FIRST_OF_WORDS[first])
    if len(words):
        kinds[words[_matches(values.take(pa.array(words)), _NONFINITE)]] = NONFINITE
    return kinds


def has_zeros(values: pa.StringArray) -> np.ndarray:
    """Which strings begin with a zero before another digit, as no number does: bool [n]. A null does not."""
    zeros: np.ndarray = _first_bytes(values)[1] & np.asarray(values.is_valid())
    return zeros


def _first_bytes(values: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """The first byte of each string (0 of an empty one); and whether a digit follows a zero there, or after a minus."""
    offsets = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, 4 * values.offset).astype(np.int64)
    data = np.frombuffer(values.buffers()[2] or b"", np.uint8)
    data = np.append(data, np.zeros(3, np.uint8))
    begins, lengths = offsets[:-1], np.diff(offsets)
    first = np.where(lengths > 0, data[begins], 0).astype(np.uint8)
    digits = begins + (first == ord("-"))
    after = data[digits + 1]
    is_digit = (after >= ord("0")) & (after <= ord("9")) & (digits + 1 < offsets[1:])
    return first, (data[digits] == ord("0")) & is_digit


def _classify_numbers(values: pa.StringArray) -> np.ndarray:
    """As `classify`, of strings that begin as numbers do; zeros and what is not finite aside."""
    head = _kinds_by_pattern(values[:_HEAD])  # tells what to try: a cast that fails is slow
    try:
        if (head == INTEGER).all():
            parse(values, pa.int64())
            return np.full(len(values), INTEGER, np.int8)
        is_float = (head == FRACTION).any() and (head != TEXT).all()
        if is_float and np.isfinite(values.cast(pa.float64()).to_numpy()).all():  # no other kind of number matters
            return np.concatenate([head, np.full(len(values) - len(head), FRACTION, np.int8)])
    except pa.ArrowInvalid:
        pass
    return _kinds_by_pattern(values)


def _kinds_by_pattern(values: pa.StringArray) -> np.ndarray:
    kinds = np.full(len(values), TEXT, np.int8)
    numbers = np.flatnonzero(_matches(values, _NUMBER))
    floats = values.take(pa.array(numbers)).cast(pa.float64()).to_numpy()
    numbers = numbers[np.isfinite(floats)]  # 12e45678 is one that no type holds
    kinds[numbers] = FRACTION
    written = values if len(numbers) == len(values) else values.take(pa.array(numbers))
    for kind, pattern in _PATTERNS:
        kinds[numbers[_matches(written, pattern)]] = kind
    long = np.flatnonzero((kinds == INTEGER) & (np.asarray(pc.binary_length(values)) > _LONGEST_INT64))
    beyond = [not -(2**63) <= int(values[int(at)].as_py()) < 2**63 for at in long]
    kinds[long[np.array(beyond, bool)]] = BEYOND
    return kinds


def _matches(values: pa.StringArray, pattern: str) -> np.ndarray:
    return np.asarray(pc.match_substring_regex(values, pattern))


def collect(
    values: pa.StringArray, kinds: np.ndarray, wheres: "Wheres", occurrences: np.ndarray | None = None
) -> Evidence:
    """The evidence of a block's values.

    Args:
      values: As for `classify`; in the order in which they first occur, where each stands for all that equal it.
      kinds: What that gave.
      wheres: Says where a value is.
      occurrences: int64 [n], how often each occurs; None: once.
    """
    counts = np.bincount(kinds, occurrences, NONFINITE + 1)  # as floats, below 2**53
    present = np.flatnonzero(counts).tolist()
    evidence = Evidence(Counter({kind: int(counts[kind]) for kind in present}))
    for kind in present:
        evidence.firsts[kind] = _cell(values, int(np.argmax(kinds == kind)), wheres)
    place = _first_inexact(values, kinds)
    evidence.inexact = None if place is None else _cell(values, place, wheres)
    whole = np.flatnonzero(kinds == WHOLE)
    if len(whole):
        numbers = values.take(pa.array(whole)).cast(pa.float64()).to_numpy()
        with np.errstate(over="ignore"):
            rounded = np.flatnonzero((numbers.astype(np.float32) != numbers) & (np.abs(numbers) < 2**53))
        if len(rounded):
            evidence.rounded = _cell(values, int(whole[rounded[0]]), wheres)
    return evidence


def _first_inexact(values: pa.StringArray, kinds: np.ndarray) -> int | None:
    """The position of an integer that float64 does not hold; of those with more than 18 digits few are looked at."""
    lengths = np.asarray(pc.binary_length(values))
    long = np.flatnonzero((kinds != TEXT) & (lengths > _EXACT_DIGITS))
    if not len(long):
        return None
    long = long[_matches(values.take(pa.array(long)), _INTEGER)]
    short = long[lengths[long] <= _LONGEST_INT64]
    integers = values.take(pa.array(short)).cast(pa.int64()).to_numpy()
    changed = short[integers.astype(np.float64).astype(np.int64) != integers]
    for place in (*changed[:1].tolist(), *long[lengths[long] > _LONGEST_INT64][:_HEAD].tolist()):
        integer = int(values[place].as_py())
        if int(float(integer)) != integer:
            return int(place)
    return None


@dataclass(frozen=True)
class Wheres:
    """Says where the values of some rows are.

    Attributes:
      parts: What the places of some rows are called (a file), and the line of each of these rows; of all rows in turn.
      row_of: Gives the row in which a value, by its position, first is; by default there is one in each.
    """

    parts: Sequence[tuple[str, Sequence[int] | np.ndarray]]
    row_of: Callable[[int], int] = int

    def __getitem__(self, position: int) -> str:
        row = self.row_of(position)
        for uri, lines in self.parts:
            if row < len(lines):
                return f"{uri}, line {int(lines[row])}"
            row -= len(lines)
        raise IndexError(position)


def _cell(values: pa.StringArray, position: int, wheres: Wheres) -> Cell:
    value = values[position].cast(pa.binary()).as_py().decode("utf-8", "replace")
    return Cell(value, wheres[position])


def infer(name: str, evidence: Evidence) -> Inferred:
    """The type of a column, and why."""
    counts, firsts = evidence.counts, evidence.firsts
    total = counts.total()
    numbers = total - counts[TEXT] - counts[NONFINITE]
    if not total:
        return Inferred(pa.null(), "no values")
    if counts[TEXT] or not numbers:
        return _infer_text(name, evidence, numbers)
    if counts[ZEROS]:
        return Inferred(pa.string(), f"{firsts[ZEROS]} would lose its zeros as a number")
    if counts[EXPONENT] and counts[INTEGER] and not counts[FRACTION] + counts[WHOLE]:
        reason = f"integers, and {firsts[EXPONENT]}, which may be an id"
        return Inferred(pa.string(), reason, _as_string(name, reason, "to have numbers"))
    if counts[BEYOND] and counts[BEYOND] + counts[INTEGER] == total:
        reason = f"integers beyond int64 such as {firsts[BEYOND]}"
        return Inferred(
            pa.string(), reason, _as_string(name, f"{reason}, of which no digit is lost so", "to have numbers")
        )
    if counts[INTEGER] == total:
        return Inferred(pa.int64(), f"{total} integers")
    if counts[INTEGER] + counts[WHOLE] == total and evidence.rounded:
        return Inferred(pa.int64(), f"{total} whole numbers, of which float32 would round {evidence.rounded}")
    first = next(firsts[kind] for kind in (FRACTION, EXPONENT, NONFINITE, WHOLE, BEYOND) if kind in firsts)
    warning = ""
    if evidence.inexact:
        warning = (
            f"the column {name!r} holds floats such as {first}, and integers such as {evidence.inexact}, which float64 "
            "rounds: declare it string to keep their digits"
        )
    return Inferred(pa.float64(), f"{total} numbers, such as {first}", warning)


def _infer_text(name: str, evidence: Evidence, numbers: int) -> Inferred:
    """Of a column that holds text; warns where most of its values are numbers."""
    counts, firsts = evidence.counts, evidence.firsts
    others = counts[TEXT] + counts[NONFINITE]
    first = firsts[TEXT if counts[TEXT] else NONFINITE]
    if not numbers:
        return Inferred(pa.string(), f"{others} strings, such as {first}")
    reason = f"{numbers} numbers and {others} other strings such as {first}"
    if numbers < others:
        return Inferred(pa.string(), reason)
    advice = f"to quarantine the others, or name {shorten(first.value)} in missing=[...] if it stands for no value"
    return Inferred(pa.string(), reason, _as_string(name, reason, advice))


def _as_string(name: str, reason: str, purpose: str) -> str:
    return f"the column {name!r} holds {reason}: it is read as string; declare it float64 {purpose}"
