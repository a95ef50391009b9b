"""What happened to values of a column on their way, counted in journals, for the commit to warn of.

What is seen in images is counted alike: `transforms.observations` tells of kinds (the codes) and values (the columns).
"""

from collections.abc import Mapping
from dataclasses import dataclass

LEFT_OUT = "left_out"  # a key or a feature that the table's schema has not
OVERFLOW = "overflow"  # a number beyond float32's range, which became a missing value
ROUNDED = "rounded"  # a number whose whole part float32 cannot hold
COLLAPSED = "collapsed"  # different numbers that are one as float32

_MOST = 1 << 16  # notes that are kept: the palettes of masks could be endless


@dataclass(frozen=True)
class ColumnNote:
    """How many values of a column something happened to.

    Attributes:
      count: So many.
      of: Of so many that were looked at; 0 where that does not matter.
      example: One of them, in words.
    """

    count: int
    of: int
    example: str


Notes = Mapping[tuple[str, str], ColumnNote]  # by code and column


def merge(first: Notes, second: Notes) -> dict[tuple[str, str], ColumnNote]:
    """The notes of both, as far as they can be kept; the example is the first's, if it has one."""
    merged = dict(first)
    for name, note in second.items():
        if name not in merged and len(merged) == _MOST:
            continue
        before = merged.get(name, ColumnNote(0, 0, ""))
        merged[name] = ColumnNote(before.count + note.count, before.of + note.of, before.example or note.example)
    return merged
