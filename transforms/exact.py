"""Exact sums and sums of squares of floats and integers: the same integers whatever the order.

Every value is cut into pieces: small integers times a power of two that is common to many values. Sums and products of
pieces stay below 2**53, where float64 arithmetic is exact, so that NumPy adds them at full speed; only the few totals
become Python integers. This is the splitting of Ogita, Rump and Oishi, "Accurate sum and dot product" (2005), with
enough pieces to leave no remainder.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

POINT = 1074  # every float64 is a whole multiple of 2**-1074
Floats = npt.NDArray[np.float64]

_BITS, _PIECES, _CHUNK = 20, 4, 2**13  # a chunk fits a cache, and 2**13 products of up to 2**38 stay below 2**53
_GROUP_BITS, _GROUP_PIECES, _GROUP_CHUNK = 16, 5, 2**18  # 5 products up to 2**30 each, 2**18 times: below 2**51
_EXTREME = 900  # the pieces of values beyond 2**900, or below 2**-900, could over- or underflow
_FEW = 16  # so many values are faster one by one


def exact_sums(values: npt.NDArray[Any]) -> tuple[int, int]:
    """The sum and the sum of squares, exactly.

    Args:
      values: [n] finite floats, or integers of any width.

    Returns:
      sum * 2**1074 and sum of squares * 2**2148.

    >>> total, squares = exact_sums(np.array([0.5, 1e300, -1e300]))
    >>> total / 2**1074
    0.5
    """
    total = squares = 0
    if values.dtype.kind in "iu":
        values, large = _as_floats(values)
        for start in range(0, len(large), 2**13):
            part = large[start : start + 2**13]
            total, squares = _fold(_split_integers(part), [60, 40, 20, 0], total, squares)
    values = np.asarray(values, np.float64)
    pieces, scratch = np.empty((_PIECES, min(len(values), _CHUNK))), np.empty((2, min(len(values), _CHUNK)))
    for start in range(0, len(values), _CHUNK):
        rest = values[start : start + _CHUNK]
        while len(rest):
            exponent = _exponent(rest)
            if len(rest) <= _FEW or abs(exponent) > _EXTREME:
                one_by_one = _is_extreme(rest, exponent)
                for value in rest[one_by_one].tolist():
                    scaled = scale(value)
                    total, squares = total + scaled, squares + scaled * scaled
                rest = rest[~one_by_one]
                continue
            used, left = split(rest, exponent, _BITS, pieces[:, : len(rest)], scratch[:, : len(rest)])
            units = [exponent - _BITS * (place + 1) + 1 for place in range(len(used))]
            total, squares = _fold(used, units, total, squares)
            rest = rest[:0] if left is None else rest[left]
    return total, squares


def exact_sums_of_rows(values: Floats) -> list[tuple[int, int]]:
    """The sum and the sum of squares of each row of a matrix, as `exact_sums` gives them: of short rows, in less time.

    Args:
      values: [rows, n], all finite.

    >>> [total / 2**1074 for total, _ in exact_sums_of_rows(np.array([[0.5, 0.25], [3.0, -1.0]]))]
    [0.75, 2.0]
    """
    count, length = values.shape
    if length > _CHUNK:
        return [exact_sums(row) for row in values]
    exponents = np.frexp(np.abs(values).max(axis=1, initial=0.0))[1].astype(np.int64)
    is_plain = np.abs(exponents) <= _EXTREME
    remainder = np.where(is_plain[:, None], values, 0.0)
    pieces = np.zeros((_PIECES, count, length))
    units = np.where(is_plain, exponents, 0) - _BITS * np.arange(1, _PIECES + 1)[:, None] + 1
    for piece, unit in zip(pieces, units, strict=True):
        np.rint(remainder * np.ldexp(1.0, -unit)[:, None], out=piece)
        remainder -= piece * np.ldexp(1.0, unit)[:, None]
        if not remainder.any():
            break
    is_plain &= ~remainder.any(axis=1)
    sums = pieces.sum(axis=2).astype(np.int64).T.tolist()
    products = np.einsum("icn,jcn->cij", pieces, pieces).astype(np.int64).tolist()
    result = []
    for row, plain in enumerate(is_plain.tolist()):
        if not plain:
            result.append(exact_sums(values[row]))
            continue
        result.append(_combine(sums[row], products[row], units[:, row].tolist()))
    return result


def scale(value: float) -> int:
    """Scales a value by 2**1074, to a whole number.

    >>> scale(0.5) == 2**1073
    True
    """
    numerator, denominator = value.as_integer_ratio()
    return (numerator << POINT) // denominator


def split(
    values: Floats, exponent: int, bits: int, pieces: Floats, scratch: Floats
) -> tuple[Floats, npt.NDArray[np.bool_] | None]:
    """Cuts values into pieces: value = sum over k of pieces[k] * 2**(exponent - bits * (k + 1) + 1).

    Args:
      values: [n], |value| <= 2**exponent.
      exponent: From -900 to 900.
      bits: Pieces are whole numbers of at most 2**(bits - 1), positive or negative.
      pieces: [k, n], where to put them.
      scratch: [2, n].

    Returns:
      pieces[:used], and which values have bits beyond the last piece: their pieces are 0. None where no value has.
    """
    remainder, product = scratch
    np.copyto(remainder, values)
    for place, piece in enumerate(pieces):
        unit = exponent - bits * (place + 1) + 1
        np.multiply(remainder, math.ldexp(1, -unit), out=piece)
        np.rint(piece, out=piece)
        np.multiply(piece, math.ldexp(1, unit), out=product)
        np.subtract(remainder, product, out=remainder)
        if not remainder.any():
            return pieces[: place + 1], None
    left = remainder != 0
    pieces[:, left] = 0
    return pieces, left


def grouped_sums(values: Floats, codes: npt.NDArray[np.intp], groups: int, point: int) -> tuple[Any, Any]:
    """The sums and sums of squares by group, exactly.

    Args:
      values: [n] finite.
      codes: [n] each value's group, from 0.
      groups: How many there are.
      point: Such that every value is a whole multiple of 2**-point: `point_of(values)` or more.

    Returns:
      Python integers, as object arrays [groups]: sum * 2**point and sum of squares * 2**(2 * point).

    >>> sums, squares = grouped_sums(np.array([1.0, 2.0, 4.0]), np.array([0, 1, 1]), 2, point=0)
    >>> sums.tolist(), squares.tolist()
    ([1, 6], [1, 20])
    """
    totals, squares = np.full(groups, 0, object), np.full(groups, 0, object)
    pieces, scratch = np.empty((_GROUP_PIECES, min(len(values), _GROUP_CHUNK))), np.empty((2, len(values)))
    for start in range(0, len(values), _GROUP_CHUNK):
        rest, where = values[start : start + _GROUP_CHUNK], codes[start : start + _GROUP_CHUNK]
        while len(rest):
            exponent = _exponent(rest)
            if len(rest) <= _FEW or abs(exponent) > _EXTREME:
                one_by_one = _is_extreme(rest, exponent)
                for value, code in zip(rest[one_by_one].tolist(), where[one_by_one].tolist(), strict=True):
                    scaled = scale(value) >> (POINT - point)
                    totals[code] += scaled
                    squares[code] += scaled * scaled
                rest, where = rest[~one_by_one], where[~one_by_one]
                continue
            used, left = split(rest, exponent, _GROUP_BITS, pieces[:, : len(rest)], scratch[:, : len(rest)])
            top = exponent - _GROUP_BITS + 1
            for place, piece in enumerate(used):
                _add_shifted(totals, np.bincount(where, piece, groups), top - _GROUP_BITS * place + point)
            for order in range(2 * len(used) - 1):
                first = max(0, order - len(used) + 1)
                products = sum(used[i] * used[order - i] for i in range(first, order - first + 1))
                by_group = np.bincount(where, products, groups)
                _add_shifted(squares, by_group, 2 * (top + point) - _GROUP_BITS * order)
            rest, where = (rest[:0], where[:0]) if left is None else (rest[left], where[left])
    return totals, squares


def point_of(values: Floats) -> int:
    """A number p, no matter the order or the number of values, such that each is a whole multiple of 2**-p.

    >>> point_of(np.array([2.0, 0.75])) >= 2  # 0.75 is 3 * 2**-2
    True
    """
    sizes = np.abs(values)
    smallest = float(np.min(sizes, initial=np.inf, where=sizes > 0))
    return 0 if smallest == np.inf else min(max(53 - math.frexp(smallest)[1], 0), POINT)


def divide(numerator: int, denominator: int) -> float:
    """The quotient of integers, correctly rounded; infinite where no float is as large.

    >>> divide(1, 4), divide(-(10**400), 1)
    (0.25, -inf)
    """
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def sqrt(numerator: int, denominator: int) -> float:
    """The square root of a quotient of integers (0 or more), correctly rounded.

    >>> sqrt(9, 4)
    1.5
    """
    if not numerator:
        return 0.0
    # of 64 bits or more, and a last bit that says whether there was a remainder: then rounding once is rounding right
    shift = max(0, 66 - (numerator.bit_length() - denominator.bit_length()) // 2)
    scaled = numerator << 2 * shift
    root = math.isqrt(scaled // denominator)
    exact = root * root * denominator == scaled
    return ((root << 1) | (not exact)) / (1 << (shift + 1))


def _fold(pieces: Floats, units: list[int], total: int, squares: int) -> tuple[int, int]:
    sums, products = pieces.sum(axis=1).astype(np.int64), (pieces @ pieces.T).astype(np.int64)
    further_total, further_squares = _combine(sums.tolist(), products.tolist(), units)
    return total + further_total, squares + further_squares


def _combine(sums: list[int], products: list[list[int]], units: list[int]) -> tuple[int, int]:
    """The sum and the sum of squares of values, from those of their pieces and of the pieces' products."""
    shifts = [unit + POINT for unit in units]
    total = sum(each << shift for each, shift in zip(sums, shifts, strict=True))
    squares = sum(
        each << (one + other)
        for of_piece, one in zip(products, shifts, strict=True)
        for each, other in zip(of_piece, shifts, strict=True)
    )
    return total, squares


def _add_shifted(totals: Any, sums: npt.NDArray[Any], places: int) -> None:
    """Adds sums * 2**places, which are whole numbers, to Python integers."""
    if sums.any():
        whole = sums.astype(np.int64).astype(object)
        totals += whole << places if places >= 0 else whole >> -places


def _exponent(values: Floats) -> int:
    """The smallest e with |value| < 2**e for all of them; 0 where all are 0."""
    return math.frexp(max(float(values.max()), -float(values.min())))[1]


def _is_extreme(values: Floats, exponent: int) -> npt.NDArray[np.bool_]:
    """Which values to add one by one: those beyond the pieces' reach, or all where these are few."""
    if exponent > _EXTREME and len(values) > _FEW:
        return np.asarray(np.abs(values) >= 2.0 ** (_EXTREME - 1))
    return np.ones(len(values), bool)


def _as_floats(values: npt.NDArray[Any]) -> tuple[Floats, npt.NDArray[Any]]:
    """Integers as floats, and those apart that no float represents."""
    limit = 2**53
    if values.dtype.itemsize < 8 or not len(values) or (values.max() <= limit and values.min() >= -limit):
        return values.astype(np.float64), values[:0]
    fits = values <= limit
    if values.dtype.kind == "i":
        fits &= values >= -limit
    return values[fits].astype(np.float64), values[~fits]


def _split_integers(values: npt.NDArray[Any]) -> Floats:
    """Pieces of 64-bit integers for the units 2**60, 2**40, 2**20 and 1; only the first may be negative."""
    low = [(values >> values.dtype.type(shift)) & values.dtype.type(2**20 - 1) for shift in (40, 20, 0)]
    return np.stack([values >> values.dtype.type(60), *low]).astype(np.float64)
