"""The type of a column whose values come with types of their own: those that occur, counted, with the first of each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from .column_types import Inferred, merge
from .inference import Cell

BEYOND, NESTED, MIXED = "integers beyond int64", "objects or lists of lists", "lists of numbers and strings"
Kind = Any  # a pa.DataType, or one of the words above
_WORDS = {pa.int64(): "integers", pa.float64(): "floats", pa.string(): "strings", pa.binary(): "bytes"}


@dataclass
class TypedEvidence:
    """The types of a column's values.

    Attributes:
      counts: Type, or one of this module's words, to count of values; under null, of those that are missing.
      firsts: The first value of each, where there is any.
      inexact: The first integer that float64 does not hold, if any was looked for.
    """

    counts: Counter[Kind] = field(default_factory=Counter)
    firsts: dict[Kind, Cell] = field(default_factory=dict)
    inexact: Cell | None = None

    def add(self, kind: Kind, count: int, cell: Cell | None) -> None:
        """Adds values of a kind, and the first of them."""
        self.counts[kind] += count
        if cell is not None:
            self.firsts.setdefault(kind, cell)

    def merge(self, other: "TypedEvidence") -> None:
        """Adds what was seen further on."""
        self.counts.update(other.counts)
        self.firsts = {**other.firsts, **self.firsts}
        self.inexact = self.inexact or other.inexact

    @property
    def odd(self) -> Counter[str]:
        """The count of values that are no column's, by kind."""
        return Counter({kind: self.counts[kind] for kind in (NESTED, MIXED) if self.counts[kind]})

    @property
    def proper(self) -> int:
        """How many values there are that a column can hold."""
        return sum(self.counts.values()) - self.odd.total() - self.counts[pa.null()]


def merge_evidence(parts: Iterable[Mapping[str, TypedEvidence]]) -> dict[str, TypedEvidence]:
    """The evidence of parts of an input, by column, in the order in which columns first occur."""
    merged: dict[str, TypedEvidence] = {}
    for part in parts:
        for name, evidence in part.items():
            merged.setdefault(name, TypedEvidence()).merge(evidence)
    return merged


def infer_typed(name: str, evidence: TypedEvidence, lists_vary: bool = False) -> Inferred:
    """The type that holds every value that a column can hold, and why.

    Args:
      name: The column.
      evidence: Its values' types.
      lists_vary: Whether it is usual that a value of a column of lists stands alone.
    """
    kinds = [kind for kind in evidence.counts if isinstance(kind, pa.DataType)]
    beyond = evidence.counts[BEYOND]
    has_lists = any(pa.types.is_list(kind) for kind in kinds)
    if beyond and not has_lists and not {pa.float64(), pa.string()} & set(kinds):
        words = f"{BEYOND} such as {evidence.firsts[BEYOND]}"
        advice = "it is read as string, which loses no digit; declare it float64 to have numbers"
        return Inferred(pa.string(), words, f"{name!r} holds {words}: {advice}")
    if beyond:
        kinds.append(pa.float64())
    kind, differ = merge(kinds)
    told = " and ".join(
        f"{evidence.counts[each]} {_in_words(each)} ({evidence.firsts[each]})"
        for each in evidence.counts
        if each in evidence.firsts and each not in (NESTED, MIXED)
    )
    if not told:
        return Inferred(pa.null() if pa.types.is_string(kind) else kind, "no values")
    if pa.types.is_list(kind) and not lists_vary:
        differ |= any(not pa.types.is_list(each) for each in kinds if not pa.types.is_null(each))
    inexact = evidence.inexact or evidence.firsts.get(BEYOND)
    if inexact and kind in (pa.float64(), pa.list_(pa.float64())):
        strings = "string" if kind == pa.float64() else "list<string>"
        advice = f"float64 rounds integers such as {inexact}: declare it {strings} to keep their digits"
        return Inferred(kind, told, f"{name!r} holds {told}; {advice}")
    return Inferred(kind, told, f"{name!r} holds {told}: it is read as {kind}" if differ else "")


def _in_words(kind: Kind) -> str:
    if isinstance(kind, str):
        return kind
    if pa.types.is_list(kind):
        return "empty lists" if pa.types.is_null(kind.value_type) else f"lists of {_in_words(kind.value_type)}"
    return _WORDS.get(kind, str(kind))
