"""Moments of columns: count, mean, standard deviation, smallest and largest, of all values or of those of each key.

They are exact: merged in any order and any grouping, they give the same bits.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from . import exact

Number = int | float


@dataclass(frozen=True)
class Moments:
    """Count, sum, sum of squares, smallest and largest of numbers, all exact.

    Attributes:
      count: How many finite values there are: those that all but the counts below are about.
      missing: How many are null.
      nan: How many are no number.
      positive_inf: How many are infinite.
      negative_inf: How many are minus infinity.
      total: Their sum, times 2**1074: a whole number.
      squares: The sum of their squares, times 2**2148.
      min: The smallest value, an int in a column of integers; None where there is none.
      max: The largest.
    """

    count: int = 0
    missing: int = 0
    nan: int = 0
    positive_inf: int = 0
    negative_inf: int = 0
    total: int = 0
    squares: int = 0
    min: Number | None = None
    max: Number | None = None

    @classmethod
    def of(cls, array: pa.Array | pa.ChunkedArray | npt.NDArray[Any]) -> "Moments":
        """The moments of a column.

        Args:
          array: [n] integers, floats or booleans, with or without nulls; also as a dictionary.

        Raises:
          ValueError: it holds something else.
        """
        if isinstance(array, pa.DictionaryArray):
            if pa.types.is_integer(array.type.value_type) and not array.dictionary.null_count:
                return cls._of_integers(array)
            array = array.dictionary_decode()
        values, missing = _numbers_of(array, "Moments.of")
        finite = values
        nan = positive = negative = 0
        if values.dtype.kind == "f":
            is_finite = np.isfinite(values)
            if not is_finite.all():
                nonfinite = (np.isnan(values), values == np.inf, values == -np.inf)
                nan, positive, negative = (int(np.count_nonzero(is_kind)) for is_kind in nonfinite)
                finite = values[is_finite]
        total, squares = exact.exact_sums(finite)
        low, high = (finite.min().item(), finite.max().item()) if len(finite) else (None, None)
        # 0.0 is added since the smaller of 0.0 and -0.0 depends on the order
        low, high = (value + 0.0 if isinstance(value, float) else value for value in (low, high))
        return cls(len(finite), missing, nan, positive, negative, total, squares, low, high)

    @classmethod
    def of_each(cls, columns: Sequence[pa.Array]) -> "list[Moments]":
        """The moments of several columns of one length: as `of` gives them, of many short columns in less time.

        Raises:
          ValueError: one of them holds something else than numbers.
        """
        moments: dict[int, Moments] = {}
        together = [at for at, each in enumerate(columns) if pa.types.is_float64(each.type) and not each.null_count]
        if together and len(columns[together[0]]):
            values = np.stack([columns[at].to_numpy() for at in together])
            chosen = np.flatnonzero(np.isfinite(values).all(axis=1))
            values = values[chosen]
            lows, highs = (values.min(axis=1) + 0.0).tolist(), (values.max(axis=1) + 0.0).tolist()
            sums = exact.exact_sums_of_rows(values)
            for at, (total, squares), low, high in zip(chosen.tolist(), sums, lows, highs, strict=True):
                moments[together[at]] = cls(values.shape[1], total=total, squares=squares, min=low, max=high)
        return [moments[at] if at in moments else cls.of(column) for at, column in enumerate(columns)]

    @classmethod
    def _of_integers(cls, array: pa.DictionaryArray) -> "Moments":
        """The moments of integers, from how often each distinct one occurs."""
        indices = array.indices
        codes = np.asarray(indices.drop_null() if indices.null_count else indices)
        counts = np.bincount(codes, minlength=len(array.dictionary)).tolist()
        occurring = [each for each in zip(array.dictionary.to_pylist(), counts, strict=True) if each[1]]
        total = sum(value * count for value, count in occurring) << exact.POINT
        squares = sum(value * value * count for value, count in occurring) << 2 * exact.POINT
        values = [value for value, _ in occurring]
        low, high = min(values, default=None), max(values, default=None)
        return cls(len(codes), indices.null_count, total=total, squares=squares, min=low, max=high)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both together."""
        lows = [value for value in (self.min, other.min) if value is not None]
        highs = [value for value in (self.max, other.max) if value is not None]
        return Moments(
            self.count + other.count,
            self.missing + other.missing,
            self.nan + other.nan,
            self.positive_inf + other.positive_inf,
            self.negative_inf + other.negative_inf,
            self.total + other.total,
            self.squares + other.squares,
            min(lows, key=_by_value, default=None),
            max(highs, key=_by_value, default=None),
        )

    @property
    def sum(self) -> float:
        """The sum, correctly rounded."""
        return exact.divide(self.total, 1 << exact.POINT)

    @property
    def mean(self) -> float:
        """The mean, correctly rounded; NaN of no values."""
        return exact.divide(self.total, self.count << exact.POINT) if self.count else math.nan

    @property
    def variance(self) -> float:
        """The population variance (divided by the count), correctly rounded; NaN of no values."""
        return exact.divide(self._spread, self.count**2 << 2 * exact.POINT) if self.count else math.nan

    @property
    def std(self) -> float:
        """The population standard deviation, correctly rounded; NaN of no values."""
        return exact.sqrt(self._spread, self.count**2 << 2 * exact.POINT) if self.count else math.nan

    @property
    def _spread(self) -> int:
        return self.count * self.squares - self.total**2  # count**2 times the variance: exact, and never below 0

    def as_floats(self) -> tuple[float, float, float, float, float]:
        """Count, mean, population standard deviation, smallest and largest; NaN for each that no values have."""
        low, high = (math.nan if value is None else float(value) for value in (self.min, self.max))
        return float(self.count), self.mean, self.std, low, high

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; whole numbers beyond 64 bits as "mantissa p exponent" in hexadecimal."""
        return vars(self) | {"total": _to_hex(self.total), "squares": _to_hex(self.squares)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Moments":
        """Reads it back: the very same."""
        return cls(**(dict(entry) | {name: _from_hex(entry[name]) for name in ("total", "squares")}))

    def to_bytes(self) -> bytes:
        """Its bytes; equal moments have equal bytes."""
        return json.dumps(self.to_json(), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Moments":
        """Reads them back."""
        return cls.from_json(json.loads(content))


class GroupedMoments:
    """Moments of the values of each key; the columns are kept as arrays, so that 100,000 keys are no burden.

    Attributes:
      keyless: How many values have no key: they are in no group.
    """

    def __init__(
        self,
        keys: Mapping[bytes, int] | None = None,
        counts: npt.NDArray[np.int64] | None = None,
        sums: npt.NDArray[Any] | None = None,
        bounds: npt.NDArray[np.float64] | None = None,
        point: int = 0,
        keyless: int = 0,
    ) -> None:
        self._keys = dict(keys or {})  # to positions in the arrays
        # [keys, 5]: finite, missing, NaN, inf, -inf
        self._counts = np.zeros((0, 5), np.int64) if counts is None else counts
        self._sums = np.zeros((2, 0), object) if sums is None else sums  # Python integers: sums, sums of squares
        self._bounds = np.zeros((2, 0)) if bounds is None else bounds  # smallest, largest; inf, -inf of no values
        self._point = point  # the sums are times 2**point, those of squares times 2**(2 * point)
        self.keyless = keyless

    @classmethod
    def of(cls, values: pa.Array | npt.NDArray[Any], keys: pa.Array) -> "GroupedMoments":
        """The moments of a column by another.

        Args:
          values: [n] integers (up to 2**53), floats or booleans, with or without nulls.
          keys: [n] text, bytes or integers, which stand for their decimal text; also as a dictionary.

        Raises:
          ValueError: they hold something else, or are not of one length.
        """
        values = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        if len(values) != len(keys):
            raise ValueError(f"GroupedMoments.of: expected as many keys as values, found {len(keys)}, {len(values)}")
        encoded = _encode_keys(keys)
        names = encoded.dictionary.to_pylist()
        groups = len(names)
        codes = np.asarray(encoded.indices.fill_null(groups), np.intp)
        keyed, is_missing = codes < groups, np.asarray(values.is_null())
        missing = np.bincount(codes[keyed & is_missing], minlength=groups)
        numbers, _ = _numbers_of(values, "GroupedMoments.of")
        if numbers.dtype.kind in "iu" and len(numbers) and (numbers.max() > 2**53 or numbers.min() < -(2**53)):
            raise ValueError(
                f"GroupedMoments.of: expected integers up to 2**53, found {numbers.min()} to {numbers.max()}; cast "
                "the column to float64 in `prepare`"
            )
        codes = codes[~is_missing]
        floats, codes = numbers[codes < groups].astype(np.float64), codes[codes < groups]
        nonfinite = [np.isnan(floats), floats == np.inf, floats == -np.inf]
        finite = np.isfinite(floats)
        nonfinite_counts = [np.bincount(codes[is_kind], minlength=groups) for is_kind in nonfinite]
        floats, codes = floats[finite], codes[finite]
        point = exact.point_of(floats)
        sums = exact.grouped_sums(floats, codes, groups, point)
        bounds = np.stack([np.full(groups, np.inf), np.full(groups, -np.inf)])
        np.minimum.at(bounds[0], codes, floats + 0.0)
        np.maximum.at(bounds[1], codes, floats + 0.0)
        return cls(
            {name: position for position, name in enumerate(names)},
            np.stack([np.bincount(codes, minlength=groups), missing, *nonfinite_counts], axis=1),
            np.stack(sums),
            bounds,
            point,
            int(np.count_nonzero(~keyed)),
        )

    def merge(self, other: "GroupedMoments") -> "GroupedMoments":
        """The moments of both together; takes time in proportion to the smaller, once its keys are known."""
        small, large = sorted((self, other), key=len)
        keys = dict(large._keys)
        for key in small._keys:
            keys.setdefault(key, len(keys))
        where = np.fromiter((keys[key] for key in small._keys), np.intp, len(small))
        positions = np.fromiter(small._keys.values(), np.intp, len(small))
        more, point = len(keys) - len(large), max(self._point, other._point)
        counts = np.concatenate([large._counts, np.zeros((more, 5), np.int64)])
        counts[where] += small._counts[positions]
        sums = np.concatenate([large._sums_at(point), np.full((2, more), 0, object)], axis=1)
        sums[:, where] += small._sums_at(point)[:, positions]
        bounds = np.concatenate([large._bounds, np.repeat([[np.inf], [-np.inf]], more, axis=1)], axis=1)
        bounds[0, where] = np.minimum(bounds[0, where], small._bounds[0, positions])
        bounds[1, where] = np.maximum(bounds[1, where], small._bounds[1, positions])
        return GroupedMoments(keys, counts, sums, bounds, point, self.keyless + other.keyless)

    def __len__(self) -> int:
        return len(self._keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupedMoments) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def keys(self) -> list[bytes]:
        """The keys, ordered by their bytes; text as UTF-8."""
        return sorted(self._keys)

    def results(self) -> list[Moments]:
        """The moments of each key's values, in the order of `keys`."""
        shift = exact.POINT - self._point
        results = []
        for _, at in sorted(self._keys.items()):
            count, missing, nan, positive, negative = self._counts[at].tolist()
            total, squares = self._sums[0, at] << shift, self._sums[1, at] << 2 * shift
            low, high = self._bounds[:, at].tolist() if count else (None, None)
            results.append(Moments(count, missing, nan, positive, negative, total, squares, low, high))
        return results

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, ordered by key; keys as hexadecimal bytes."""
        order = sorted(self._keys.items())
        return {
            "point": self._point,
            "keyless": self.keyless,
            "groups": [
                [
                    key.hex(),
                    *self._counts[at].tolist(),
                    _to_hex(self._sums[0, at]),
                    _to_hex(self._sums[1, at]),
                    *(bound.hex() for bound in self._bounds[:, at].tolist()),
                ]
                for key, at in order
            ],
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "GroupedMoments":
        """Reads it back."""
        groups = entry["groups"]
        sums = np.zeros((2, len(groups)), object)
        for at, group in enumerate(groups):
            sums[:, at] = _from_hex(group[6]), _from_hex(group[7])
        return cls(
            {bytes.fromhex(group[0]): at for at, group in enumerate(groups)},
            np.array([group[1:6] for group in groups], np.int64).reshape(-1, 5),
            sums,
            np.array([[float.fromhex(bound) for bound in group[8:]] for group in groups]).reshape(-1, 2).T.copy(),
            entry["point"],
            entry["keyless"],
        )

    def to_bytes(self) -> bytes:
        """Its bytes; equal moments have equal bytes."""
        return json.dumps(self.to_json(), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "GroupedMoments":
        """Reads them back."""
        return cls.from_json(json.loads(content))

    def _sums_at(self, point: int) -> npt.NDArray[Any]:
        more = point - self._point
        return np.stack([self._sums[0] << more, self._sums[1] << 2 * more]) if more and len(self) else self._sums


def _numbers_of(array: pa.Array | pa.ChunkedArray | npt.NDArray[Any], function: str) -> tuple[npt.NDArray[Any], int]:
    """The values that are not null, as float64 or integers, and how many are null."""
    if not isinstance(array, pa.Array | pa.ChunkedArray):
        array = pa.array(np.ravel(array))
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(0), len(array)
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ValueError(f"{function}: expected integers, floats or booleans, found {kind}; cast the column before")
    missing = array.null_count
    values = (pc.drop_null(array) if missing else array).to_numpy(zero_copy_only=False)
    return values.astype(np.float64, copy=False) if values.dtype.kind == "f" else values, missing


def _encode_keys(keys: pa.Array | pa.ChunkedArray) -> Any:
    """Keys as one dictionary array of distinct bytes."""
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    if pa.types.is_dictionary(keys.type):
        keys = keys.cast(keys.type.value_type)
    if pa.types.is_integer(keys.type) or pa.types.is_null(keys.type):
        keys = keys.cast(pa.string())
    kind = keys.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_bytes(kind)):
        raise ValueError(f"GroupedMoments.of: expected text, bytes or integers as keys, found {kind}; cast them before")
    return keys.cast(pa.large_binary()).dictionary_encode()


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _by_value(number: Number) -> tuple[Number, bool]:
    """Orders numbers by value, and an int before a float that equals it.

    `min` and `max` return the first of equals: without this, whether 1 or 1.0 comes out would depend on the order.
    """
    return number, isinstance(number, float)


def _to_hex(number: int) -> str:
    """As the digits up to the last that isn't 0, and how many zeros follow: "-1f3p1052"."""
    zeros = (number & -number).bit_length() - 1 if number else 0
    return f"{number >> zeros:x}p{zeros}"


def _from_hex(text: str) -> int:
    digits, _, zeros = text.partition("p")
    return int(digits, 16) << int(zeros)
