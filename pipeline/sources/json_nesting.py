"""How deep JSON is nested, counted for many lines at a time and without parsing: a parser's stack is finite."""

import numpy as np

from .row_boundaries import escaped_bytes

MOST = 64  # levels of objects and lists


def nesting(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The levels of objects and lists in each line, up to where it stops being JSON: int32 [lines].

    Args:
      data: The bytes of the lines, uint8; between lines there may be others.
      starts: Where each line begins.
      ends: Where it ends; no line is empty.
    """
    opening = (data == ord("{")) | (data == ord("["))
    counts = np.concatenate([np.zeros(1, np.int32), np.cumsum(opening, dtype=np.int32)])
    levels: np.ndarray = counts[ends] - counts[starts]  # no line is deeper
    many = np.flatnonzero(levels > MOST)
    if not len(many):
        return levels
    lengths = ends[many] - starts[many]
    keep = np.zeros(len(data) + 1, np.int8)
    np.add.at(keep, starts[many], 1)
    np.add.at(keep, ends[many], -1)
    chosen = np.cumsum(keep[:-1], dtype=np.int8) > 0
    levels[many] = _count_levels(data[chosen], np.cumsum(lengths) - lengths)
    return levels


def _count_levels(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The levels in each line of a buffer of lines that begin at `starts`: brackets in strings do not count."""
    quotes = data == ord('"')
    escaped = escaped_bytes(data, ord("\\"))
    quotes[escaped[escaped < len(data)]] = False
    before = np.cumsum(quotes, dtype=np.int32) - quotes
    line = np.zeros(len(data), np.int32)
    line[starts[1:]] = 1
    line = np.cumsum(line, dtype=np.int32)
    outside = (before - before[starts][line]) % 2 == 0
    step = ((data == ord("{")) | (data == ord("["))).astype(np.int32)
    step -= (data == ord("}")) | (data == ord("]"))
    depth = np.cumsum(step * outside, dtype=np.int32)
    reached: np.ndarray = np.maximum.reduceat(depth, starts) - (depth[starts] - (step * outside)[starts])
    return reached
