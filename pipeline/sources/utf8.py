"""Where bytes are no UTF-8, found for many rows at a time, and the encoding that they may be in."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CONTINUES = 0x80, 0xBF
_SECOND = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}  # of the other leads any


def _lengths() -> np.ndarray:
    """By first byte, how many bytes a character has; 0: none begins with it."""
    lengths = np.zeros(256, np.int8)
    lengths[:0x80], lengths[0xC2:0xE0], lengths[0xE0:0xF0], lengths[0xF0:0xF5] = 1, 2, 3, 4
    return lengths


_LENGTHS = _lengths()


def invalid_bytes(data: np.ndarray) -> np.ndarray:
    """Positions of the bytes that are part of no character: int64, ascending.

    Args:
      data: uint8 [n].
    """
    if data.max(initial=0) < 0x80:
        return np.zeros(0, np.int64)
    valid = data < 0x80
    lengths = _LENGTHS[data]
    padded = np.append(data, np.zeros(3, np.uint8))
    for length in (2, 3, 4):
        leads = np.flatnonzero(lengths == length)
        for offset in range(1, length):
            byte = padded[leads + offset]
            continues = (byte >= _CONTINUES[0]) & (byte <= _CONTINUES[1])
            if offset == 1:
                for lead, (least, most) in _SECOND.items():
                    continues &= (data[leads] != lead) | ((byte >= least) & (byte <= most))
            leads = leads[continues]
        for offset in range(length):
            valid[leads + offset] = True
    return np.flatnonzero(~valid)


def invalid_rows(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which rows of a buffer hold bytes that are part of no character: int64, ascending.

    Args:
      data: The buffer, uint8 [n]; a row's last byte or the next row's first is ASCII.
      ends: Where each row ends.
    """
    return np.unique(np.searchsorted(ends, invalid_bytes(data), "right"))


def invalid_values(values: pa.Array) -> np.ndarray:
    """Which values of a column of bytes are no UTF-8: int64, ascending."""
    end, joint = (pa.scalar(content, pa.large_binary()) for content in (b"\n", b""))
    joined = pc.binary_join_element_wise(pc.fill_null(values.cast(pa.large_binary()), b""), end, joint)
    offsets = np.frombuffer(joined.buffers()[1], np.int64)[joined.offset : joined.offset + len(joined) + 1]
    data = np.frombuffer(joined.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    return invalid_rows(data, offsets[1:] - offsets[0])


def suggest_encoding(value: bytes) -> str | None:
    """The encoding of one byte a character that bytes, which are no UTF-8, are most likely in; None where none is.

    Text that holds characters of UTF-8 too is UTF-8 that was damaged.
    """
    decoded = value.decode("utf-8", "replace")
    if any(character > "\x7f" and character != "\ufffd" for character in decoded):
        return None
    if not any(0x80 <= byte < 0xA0 for byte in value):
        return "latin-1"
    try:
        value.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return "cp1252"
