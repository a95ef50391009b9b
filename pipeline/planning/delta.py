"""What a run takes over from the dataset's current generation, its base, and how its units are laid out for that.

A piece of the plan (a reference, or a range) that the base was made from, too, is *stored*: what became of it need not
be made again. Where the layout is free, the base's units stay as they are but for the pieces that are gone, and new
pieces make units of their own, at the end of their split. A unit with the very pieces of one of the base's takes over
its files. Else it is *assembled* from the base's units that have its pieces, and from those that are prepared.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pyarrow as pa

from .piece_hashes import are_versioned, hash_pieces
from .plan_file import BASE, BASE_PLACE, PlannedUnits, Unit

_MOST_SHARDS = 2  # times as many as the canonical layout has: of more, a split is laid out anew
_SMALL, _MOST_SMALL = 0.5, 0.25  # shards below half the canonical mean have a quarter of a split at most

_PART = 1 << 20  # pieces that are looked for at a time

Cut = Callable[[np.ndarray], np.ndarray]  # bytes of new pieces of a split, int64 [pieces], to the unit of each, from 0


@dataclass(frozen=True)
class Pieces:
    """The pieces of units, in their order.

    Attributes:
      units: The units.
      begins: int64 [units + 1], where the pieces of each unit begin, and where the last one ends.
      hashes: uint64 [pieces, 2], as `hash_pieces` gives them; none once they were compared.
      versioned: bool [pieces], whether an equal hash tells that the content is what it was.
      sizes: int64 [pieces], their bytes.
      examples: int64 [pieces], how many examples each holds; -1 where that is not known.
    """

    units: Sequence[Unit]
    begins: np.ndarray
    hashes: np.ndarray
    versioned: np.ndarray
    sizes: np.ndarray
    examples: np.ndarray

    @classmethod
    def of(cls, kept: Iterable[tuple[Unit, pa.RecordBatch]]) -> "Pieces":
        """The pieces that `PlannedUnits.kept` or `read_inputs` gives, one unit after the other."""
        units: list[Unit] = []
        begins = [0]
        hashes: list[np.ndarray] = []
        versioned: list[np.ndarray] = []
        sizes: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for unit, batch in kept:
            units.append(unit)
            begins.append(begins[-1] + len(batch))
            hashes.append(hash_pieces(batch, unit.shards))
            versioned.append(are_versioned(batch))
            sizes.append(np.maximum(np.asarray(batch["size"].fill_null(0)), 0))
            if "rows" in batch.schema.names:
                rows.append(np.asarray(batch["rows"]))
        return cls(
            units,
            np.array(begins),
            np.concatenate(hashes),
            np.concatenate(versioned),
            np.concatenate(sizes),
            np.concatenate(rows) if rows else np.broadcast_to(np.int64(1), begins[-1]),
        )

    def __len__(self) -> int:
        return int(self.begins[-1])

    def owners(self, places: np.ndarray) -> np.ndarray:
        """The units of some pieces: int64 [pieces], positions in `units`."""
        return np.searchsorted(self.begins, places, "right") - 1

    def without_hashes(self) -> "Pieces":
        """The same, once the hashes were compared: they are the most of what is in memory."""
        return replace(self, hashes=np.zeros((0, 2), np.uint64))


@dataclass(frozen=True)
class Layout:
    """A unit to be made of pieces of a plan.

    Attributes:
      rows: int64 [pieces], their places in the plan.
      whole: The base's unit that it is as a whole, a position; None: it is none.
    """

    rows: np.ndarray
    whole: int | None


@dataclass(frozen=True)
class Takeover:
    """A plan that takes over what a base has stored.

    Attributes:
      base: The base's generation.
      units: The units of the run.
      whole_units: How many of them are the base's as they are.
      whole_examples: How many examples these have.
      stored_examples: How many examples are assembled from what other units of the base have stored.
      new_pieces: How many references or ranges are prepared.
      to_prepare: Of each unit, how many of its pieces are prepared, and their bytes.
      is_canonical: Whether the units are laid out as a run without a base would do it.
    """

    base: str
    units: PlannedUnits
    whole_units: int
    whole_examples: int
    stored_examples: int
    new_pieces: int
    to_prepare: Sequence[tuple[int, int]]
    is_canonical: bool

    @property
    def examples(self) -> int:
        """How many examples are taken over."""
        return self.whole_examples + self.stored_examples


def find_stored(pieces: Pieces, base: Pieces) -> np.ndarray:
    """Which piece of a base each piece of a plan is: int64 [pieces], -1 where it is none. No two are the same one."""
    order = np.argsort(base.hashes[:, 0], kind="stable")
    words = base.hashes[order, 0]
    stored = np.full(len(pieces), -1)
    taken = np.zeros(len(base), bool)
    for begin in range(0, len(pieces), _PART):
        part = slice(begin, begin + _PART)
        hashes = pieces.hashes[part]
        found = order[np.minimum(np.searchsorted(words, hashes[:, 0]), len(order) - 1)]
        is_stored = (base.hashes[found] == hashes).all(axis=1) & pieces.versioned[part] & ~taken[found]
        _, first = np.unique(np.where(is_stored, found, -1), return_index=True)
        is_first = np.zeros(len(found), bool)
        is_first[first] = True
        is_stored &= is_first
        stored[part] = np.where(is_stored, found, -1)
        taken[found[is_stored]] = True
    return stored


def lay_out(pieces: Pieces, base: Pieces, stored: np.ndarray, cut: Cut, is_fixed: bool) -> list[list[Layout]]:
    """The units of a run that takes over what is stored.

    Args:
      pieces: The plan's pieces, in its canonical layout.
      base: The base's pieces.
      stored: What `find_stored` gives.
      cut: Cuts the new pieces of a split into units.
      is_fixed: Whether the units must be the canonical ones.

    Returns:
      The units by what they hold: of images a list for each split, of tables one.
    """
    begins = pieces.begins
    groups = []
    numbers = range(len(pieces.units))
    for _, group in groupby(numbers, lambda number: tuple(pieces.units[number].shards)):
        units = list(group)
        canonical = [np.arange(begins[unit], begins[unit + 1]) for unit in units]
        rows = np.arange(begins[units[0]], begins[units[-1] + 1])
        chosen = canonical
        if not is_fixed:
            free = [*_survivors(rows, base, stored), *_new_units(rows[stored[rows] < 0], pieces, cut)]
            weights = pieces.sizes if (pieces.examples < 0).any() else pieces.examples
            chosen = canonical if _is_fragmented(free, len(units), weights) else free
        groups.append([Layout(unit_rows, _whole(stored[unit_rows], base)) for unit_rows in chosen])
    return groups


def _survivors(rows: np.ndarray, base: Pieces, stored: np.ndarray) -> Iterator[np.ndarray]:
    """What is still there of each of the base's units, in their order and in the base's order of pieces."""
    there = rows[stored[rows] >= 0]
    there = there[np.argsort(stored[there], kind="stable")]
    ends = np.flatnonzero(np.diff(base.owners(stored[there]))) + 1
    return (part for part in np.split(there, ends) if len(part))


def _new_units(rows: np.ndarray, pieces: Pieces, cut: Cut) -> Iterator[np.ndarray]:
    """New pieces in units, in their order."""
    if not len(rows):
        return iter(())
    ends = np.flatnonzero(np.diff(cut(pieces.sizes[rows]))) + 1
    return iter(np.split(rows, ends))


def _is_fragmented(units: Sequence[np.ndarray], canonical: int, weights: np.ndarray) -> bool:
    """Whether a split has so many, or so many small, shards that reading them costs.

    Args:
      units: The pieces of each unit.
      canonical: How many units the canonical layout has.
      weights: int64 [pieces], examples or bytes.
    """
    totals = np.array([weights[rows].sum() for rows in units])
    small = totals[totals < _SMALL * totals.sum() / canonical].sum()
    return len(units) > _MOST_SHARDS * canonical or small > _MOST_SMALL * totals.sum()


def _whole(stored: np.ndarray, base: Pieces) -> int | None:
    """The unit of the base that has these of its pieces, in this order and no others; None: there is none."""
    if stored[0] < 0:
        return None
    (owner,) = base.owners(stored[:1]).tolist()
    begin, end = base.begins[owner : owner + 2]
    return owner if np.array_equal(stored, np.arange(begin, end)) else None


@dataclass(frozen=True)
class Overlap:
    """What a plan and a base have in common.

    Attributes:
      planned: The plan's units, in their canonical layout.
      pieces: Their pieces.
      generation: The base.
      base: Its pieces.
      read: int64 [the base's pieces], how many examples each was.
      stored: What `find_stored` gives.
      retried: bool [the base's pieces], those that are to be made again though they did not change.
    """

    planned: PlannedUnits
    pieces: Pieces
    generation: str
    base: Pieces
    read: np.ndarray
    stored: np.ndarray
    retried: np.ndarray

    @classmethod
    def between(
        cls,
        planned: PlannedUnits,
        pieces: Pieces,
        generation: str,
        base: Pieces,
        read: np.ndarray,
        retried: np.ndarray,
    ) -> "Overlap":
        """What a plan and a base have in common, whose pieces have their hashes."""
        stored = find_stored(pieces, base)
        return cls(planned, pieces.without_hashes(), generation, base.without_hashes(), read, stored, retried)

    def take_over(self, cut: Cut, is_fixed: bool) -> Takeover | None:
        """The units of a run that takes over what is stored; None where that is nothing.

        Args:
          cut: Cuts the new pieces of a split into units.
          is_fixed: Whether the units must be the canonical ones.
        """
        pieces = self.pieces
        is_new = (self.stored < 0) | self.retried[self.stored]
        if is_new.all():
            return None
        stored = np.where(is_new, -1, self.stored)
        groups = lay_out(pieces, self.base, stored, cut, is_fixed)
        layouts = [layout for group in groups for layout in group]
        wholes = [layout for layout in layouts if layout.whole is not None]
        whole_examples = sum(int(self.read[stored[layout.rows]].sum()) for layout in wholes)
        canonical = np.split(np.arange(len(pieces)), pieces.begins[1:-1])
        return Takeover(
            base=self.generation,
            units=PlannedUnits(_units(self, groups, is_new)),
            whole_units=len(wholes),
            whole_examples=whole_examples,
            stored_examples=int(self.read[stored[~is_new]].sum()) - whole_examples,
            new_pieces=int(is_new.sum()),
            to_prepare=[_to_prepare(pieces, layout.rows[is_new[layout.rows]]) for layout in layouts],
            is_canonical=len(layouts) == len(canonical)
            and all(np.array_equal(layout.rows, rows) for layout, rows in zip(layouts, canonical, strict=True)),
        )


def _to_prepare(pieces: Pieces, rows: np.ndarray) -> tuple[int, int]:
    return len(rows), int(pieces.sizes[rows].sum())


def _units(
    overlap: Overlap, groups: Sequence[Sequence[Layout]], is_new: np.ndarray
) -> Iterator[tuple[Unit, pa.RecordBatch]]:
    """The units of a layout and what each reads and where that is stored; their shards are numbered in their order."""
    pieces, base = overlap.pieces, overlap.base
    numbers = np.array([unit.index for unit in base.units], np.int32)
    index = 0
    with overlap.planned.open_pieces() as file:
        for group in groups:
            names = pieces.units[pieces.owners(group[0].rows[:1])[0]].shards
            for number, layout in enumerate(group):
                rows = layout.rows
                examples = pieces.examples[rows]
                unit = Unit(
                    index,
                    {split: replace(name, index=number, count=len(group)) for split, name in names.items()},
                    -1 if (examples < 0).any() else int(examples.sum()),
                    int(pieces.sizes[rows].sum()),
                    None if layout.whole is None else int(numbers[layout.whole]),
                )
                stored = overlap.stored[rows]
                owners = base.owners(stored)
                bases = pa.array(numbers[owners], mask=is_new[rows])
                places = pa.array((stored - base.begins[owners]).astype(np.int32), mask=is_new[rows])
                yield unit, file.take(rows).append_column(BASE, bases).append_column(BASE_PLACE, places)
                index += 1
