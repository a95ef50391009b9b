"""Quantiles of a column in bounded memory, whose bits follow from its values alone: not from their order or grouping.

Values are counted in bins: one a distinct value while there are few, and beyond that the values whose floats begin with
the same bits. Floats are ordered as their bits are, so bins are intervals, narrow near 0 and wide far from it; only
those that hold values are kept, and they are as narrow as a limit of their number allows. A part never needs wider bins
than the whole, so bins of parts become those of the whole: merging widens, and never loses what the whole would show.

A bin that holds little stands for its values well enough. One that holds much and several values does where most of it
is known to be one value; else the column must be looked at again, at this bin alone (`CloserLook`).
"""

import bisect
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_DISTINCT = 2**14  # up to so many distinct values each has a bin of its own
_BINS = 32  # times 1 / epsilon: how many bins there may be beyond
_FEWEST, _MOST = 2**10, 2**14  # of these
_FREQUENT = 8  # bins a value that is counted beside them
_SLACK = 2**13  # bins that may wait to be merged, however few there are
_BITS = 64

Values = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class _Bins(NamedTuple):
    """Bins in rising order, none of them empty.

    Attributes:
      shift: How many of a float's last bits do not tell bins apart; after a closer look, some bins are narrower.
      least: float64 [bins], the smallest value in each.
      greatest: float64 [bins], the largest one.
      counts: int64 [bins], how many values are in each.
    """

    shift: int
    least: Values
    greatest: Values
    counts: Integers


class _Frequent(NamedTuple):
    """Values that occur often, in rising order, and how often at least: some of their occurrences may be forgotten."""

    values: Values
    counts: Integers


_NONE = _Bins(0, np.empty(0), np.empty(0), np.empty(0, np.int64))
_NO_FREQUENT = _Frequent(np.empty(0), np.empty(0, np.int64))


class Quantiles:
    """The quantiles of a column of numbers; values that are not finite have no part in them.

    They are exact for up to 16,384 distinct values. Beyond, their rank is off by at most `epsilon` of the count, for
    which the column may have to be looked at again (`look`).

    Attributes:
      epsilon: The rank error allowed, more than 0 and less than 1.
      count: How many finite values there are.
    """

    def __init__(
        self,
        epsilon: float,
        count: int = 0,
        pieces: Sequence[_Bins] = (),
        frequent: Sequence[_Frequent] = (),
    ) -> None:
        if not 0 < epsilon < 1:
            raise ValueError(f"Quantiles(epsilon): expected more than 0 and less than 1, found {epsilon!r}")
        self.epsilon = epsilon
        self.count = count
        self._pieces = tuple(pieces)
        self._frequent = tuple(frequent)  # of those pieces whose bins are no single values

    @classmethod
    def of(cls, array: pa.Array | pa.ChunkedArray | npt.NDArray[Any], epsilon: float) -> "Quantiles":
        """The quantiles of a column of numbers; what is missing or not finite has no part in them.

        Raises:
          ValueError: it holds something else, or epsilon is not what it should be.
        """
        values, counts = np.unique(_finite(array), return_counts=True)
        quantiles = cls(epsilon, int(counts.sum()), [_Bins(0, values, values, counts.astype(np.int64))])
        return quantiles._merged() if len(values) > _DISTINCT else quantiles

    def merge(self, other: "Quantiles") -> "Quantiles":
        """The quantiles of both together.

        Raises:
          ValueError: they have different epsilons.
        """
        if self.epsilon != other.epsilon:
            raise ValueError(
                f"Quantiles.merge: expected one epsilon, found {self.epsilon} and {other.epsilon}; use the same"
            )
        pieces, frequent = [*self._pieces, *other._pieces], [*self._frequent, *other._frequent]
        shift = max((piece.shift for piece in pieces), default=0)
        for position, piece in enumerate(pieces):
            if piece.shift < shift:
                if not piece.shift:
                    frequent.append(_most_frequent(piece.least, piece.counts, self._limit))
                pieces[position] = _widen(piece, shift)
        merged = Quantiles(self.epsilon, self.count + other.count, pieces, frequent)
        sizes = [len(piece.counts) for piece in pieces]
        return merged._merged() if sum(sizes) > 2 * max(sizes, default=0) + _SLACK else merged

    def without(self, part: "Quantiles") -> "Quantiles | None":
        """The quantiles without a part of the values; None where not each distinct value has a bin of its own."""
        bins, others = (each._merged()._pieces[0] for each in (self, part))
        if bins.shift or others.shift:
            return None
        counts = bins.counts.copy()
        counts[np.searchsorted(bins.least, others.least)] -= others.counts
        values = bins.least[counts > 0]
        return Quantiles(self.epsilon, self.count - part.count, [_Bins(0, values, values, counts[counts > 0])])

    def boundaries(self, num_buckets: int) -> Values:
        """The boundaries between buckets that hold equally many values.

        Returns:
          float64 [num_buckets - 1], not falling: the smallest values v such that at least i / num_buckets of the values
          are <= v (NumPy's method "inverted_cdf"), or values of the column whose rank is off by at most epsilon. NaN of
          no values.

        Raises:
          ValueError: the column must be looked at again first (`look`).
        """
        if num_buckets < 2 or not self.count:
            return np.full(max(num_buckets - 1, 0), np.nan)
        values, unknown = self._locate(num_buckets)
        if len(unknown):
            raise ValueError(f"Quantiles.boundaries({num_buckets}): expected a closer look before; call look()")
        return values

    def look(self, num_buckets: Iterable[int]) -> "CloserLook | None":
        """What must be looked at again for some numbers of buckets; None where nothing must.

        Give all of the column to what it returns, then take it to `closer`, and ask again: bins within a bin may hold
        too much, too. Each look tells 9 more bits of a float apart at least, so there are 6 of them at most.
        """
        if not self.count:
            return None
        unknown = {position for number in num_buckets if number > 1 for position in self._locate(number)[1].tolist()}
        bins = self._merged()._pieces[0]
        intervals = [(float(bins.least[each]), float(bins.greatest[each])) for each in sorted(unknown)]
        return CloserLook(intervals, self.epsilon) if intervals else None

    def closer(self, look: "CloserLook") -> "Quantiles":
        """These quantiles, with narrower bins where the column was looked at again.

        Raises:
          ValueError: it was another column.
        """
        merged = self._merged()
        bins = merged._pieces[0]
        parts, start = [], 0
        for (least, _), within in zip(look.intervals, look.within, strict=True):
            position = int(np.searchsorted(bins.least, least))
            if within.count != bins.counts[position]:
                raise ValueError(
                    f"Quantiles.closer: expected {bins.counts[position]} values in the bin of {least}, found "
                    f"{within.count}; look at the column that the quantiles are of"
                )
            parts += [_slice(bins, start, position), within._merged()._pieces[0]]
            start = position + 1
        parts.append(_slice(bins, start, len(bins.counts)))
        columns = [np.concatenate(arrays) for arrays in zip(*(part[1:] for part in parts), strict=True)]
        return Quantiles(self.epsilon, self.count, [_Bins(bins.shift, *columns)], merged._frequent)

    def to_bytes(self) -> bytes:
        """Its bytes; while each distinct value has a bin of its own, equal quantiles have equal bytes."""
        merged = self._merged()
        bins = merged._pieces[0] if merged._pieces else _NONE
        frequent = merged._frequent[0] if merged._frequent else _NO_FREQUENT
        about = {"epsilon": self.epsilon, "count": self.count, "shift": bins.shift, "frequent": len(frequent.values)}
        # of single values `greatest` says nothing
        arrays = [*frequent, bins.least, bins.counts, *([bins.greatest] if bins.shift else [])]
        content = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
        return json.dumps(about, sort_keys=True).encode() + b"\n" + content

    @classmethod
    def from_bytes(cls, content: bytes) -> "Quantiles":
        """Reads them back."""
        header, _, rest = content.partition(b"\n")
        about = json.loads(header)
        words = np.frombuffer(rest, "<i8").astype(np.int64)
        counted = about["frequent"]
        frequent = _Frequent(words[:counted].view(np.float64), words[counted : 2 * counted])
        columns = words[2 * counted :].reshape(3 if about["shift"] else 2, -1)
        least = columns[0].view(np.float64)
        greatest = columns[2].view(np.float64) if about["shift"] else least
        bins = _Bins(about["shift"], least, greatest, columns[1])
        return cls(about["epsilon"], about["count"], [bins], [frequent] if counted else [])

    @property
    def _limit(self) -> int:
        """How many bins there may be where distinct values are too many."""
        return int(min(max(_BINS / self.epsilon, _FEWEST), _MOST))

    def _merged(self) -> "Quantiles":
        """Itself in one piece, whose bins are as narrow as its limit allows."""
        if len(self._pieces) == 1 and (self._pieces[0].shift or len(self._pieces[0].counts) <= _DISTINCT):
            bins, frequent = self._pieces[0], list(self._frequent)
        else:
            joined = _join(self._pieces)
            bins, frequent = _within(joined, self._limit), list(self._frequent)
            if bins.shift and not joined.shift:
                frequent.append(_most_frequent(joined.least, joined.counts, self._limit))
        if len(frequent) > 1:
            values, where = np.unique(np.concatenate([each.values for each in frequent]), return_inverse=True)
            counts = np.zeros(len(values), np.int64)
            np.add.at(counts, where, np.concatenate([each.counts for each in frequent]))
            frequent = [_most_frequent(values, counts, self._limit)]
        self._pieces, self._frequent = (bins,), tuple(frequent)
        return self

    def _locate(self, num_buckets: int) -> tuple[Values, Integers]:
        """The boundaries, and the bins of those that are not known.

        A bin that holds no more than twice the error allowed has an end whose rank is near enough. In one that holds
        more, the boundary is the very value of that rank, where it is known: the bin's only value, or a frequent one
        that has this rank wherever in the bin the values are that are not known.
        """
        merged = self._merged()
        bins = merged._pieces[0]
        ranks = np.array([-(-self.count * number // num_buckets) for number in range(1, num_buckets)])  # rounded up
        after = np.cumsum(bins.counts)
        where = np.searchsorted(after, ranks)
        ahead, behind = ranks - (after - bins.counts)[where] - 1, after[where] - ranks  # others in the bin
        values = np.where(ahead <= behind, bins.least[where], bins.greatest[where])
        is_heavy = (bins.counts > 2 * self.epsilon * self.count) & (bins.least < bins.greatest)
        unknown = []
        for number in np.flatnonzero(is_heavy[where]):
            least, greatest = bins.least[where[number]], bins.greatest[where[number]]
            value = merged._certain(least, greatest, int(ahead[number]), int(behind[number]))
            if value is None:
                unknown.append(where[number])
            else:
                values[number] = value
        return values, np.array(unknown, np.int64)

    def _certain(self, least: float, greatest: float, ahead: int, behind: int) -> float | None:
        """The frequent value that has so many others of a bin ahead of it and behind it, if that is certain of one."""
        if not self._frequent:
            return None
        values, counts = self._frequent[0]
        start, end = np.searchsorted(values, least), np.searchsorted(values, greatest, "right")
        values, counts = values[start:end], counts[start:end]
        others = ahead + 1 + behind - int(counts.sum())  # of the bin; they may be anywhere
        before = np.cumsum(counts) - counts
        is_certain = (before + others <= ahead) & (ahead < before + counts) & (counts > 2 * self.epsilon * self.count)
        return float(values[is_certain][0]) if is_certain.any() else None


class CloserLook:
    """What is counted of a column when it is looked at again: the values in some intervals, each with bins of its own.

    Attributes:
      intervals: The least and the greatest value of each interval, in rising order.
      within: The quantiles of the values in each.
    """

    def __init__(self, intervals: Sequence[tuple[float, float]], epsilon: float) -> None:
        self.intervals = tuple(intervals)
        self.within = [Quantiles(epsilon)] * len(intervals)
        self._epsilon = epsilon

    def add(self, array: pa.Array | pa.ChunkedArray | npt.NDArray[Any]) -> None:
        """Takes some more of the column."""
        values = np.sort(_finite(array))
        for position, (least, greatest) in enumerate(self.intervals):
            inside = values[np.searchsorted(values, least) : np.searchsorted(values, greatest, "right")]
            if len(inside):
                self.within[position] = self.within[position].merge(Quantiles.of(inside, self._epsilon))


def _finite(array: pa.Array | pa.ChunkedArray | npt.NDArray[Any]) -> Values:
    """The finite numbers of a column, with one 0."""
    array = array if isinstance(array, pa.Array | pa.ChunkedArray) else pa.array(np.ravel(array))
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise ValueError(f"Quantiles.of: expected integers or floats, found {kind}; cast the column before")
    values = pc.drop_null(array).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    finite: Values = values[np.isfinite(values)] + 0.0
    return finite


def _keys(values: Values, shift: int) -> Integers:
    """int64 in the order of the values, equal where all but their last bits are; without these."""
    bits = values.view(np.int64)
    keys: Integers = (bits ^ ((bits >> np.int64(_BITS - 1)) & np.int64(2 ** (_BITS - 1) - 1))) >> np.int64(shift)
    return keys


def _slice(bins: _Bins, start: int, end: int) -> _Bins:
    return _Bins(bins.shift, bins.least[start:end], bins.greatest[start:end], bins.counts[start:end])


def _widen(bins: _Bins, shift: int) -> _Bins:
    """The same values in wider bins; of sorted bins, some of which may be the same one already."""
    if not len(bins.counts):
        return bins._replace(shift=shift)
    keys = _keys(bins.least, shift)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    if len(starts) == len(keys):
        return bins._replace(shift=shift)
    greatest = np.maximum.reduceat(bins.greatest, starts)
    return _Bins(shift, bins.least[starts], greatest, np.add.reduceat(bins.counts, starts))


def _join(pieces: Sequence[_Bins]) -> _Bins:
    """The values of all pieces in one, as wide as the widest."""
    if not pieces:
        return _NONE
    least = np.concatenate([piece.least for piece in pieces])
    order = np.argsort(least, kind="stable")
    greatest = np.concatenate([piece.greatest for piece in pieces])[order]
    counts = np.concatenate([piece.counts for piece in pieces])[order]
    shift = max(piece.shift for piece in pieces)
    return _widen(_Bins(shift, least[order], greatest, counts), shift)


def _within(bins: _Bins, limit: int) -> _Bins:
    """The same values in the narrowest bins that are no more than the limit, if single values are too many."""
    if not bins.shift and len(bins.counts) <= _DISTINCT:
        return bins

    def is_few(shift: int) -> bool:
        keys = _keys(bins.least, shift)
        return bool(np.count_nonzero(keys[1:] != keys[:-1]) < limit)

    shifts = range(max(bins.shift, 1), _BITS)
    return _widen(bins, shifts[bisect.bisect_left(shifts, True, key=is_few)])


def _most_frequent(values: Values, counts: Integers, limit: int) -> _Frequent:
    """The values that occur most often, and more than once: at most as many as may be counted beside so many bins."""
    next_one = -(limit // _FREQUENT) - 1
    too_few = max(1, int(np.partition(counts, next_one)[next_one])) if len(counts) >= -next_one else 1
    chosen = counts > too_few
    return _Frequent(values[chosen], counts[chosen])
