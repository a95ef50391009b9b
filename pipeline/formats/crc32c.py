"""CRC-32C of rows of an array, without the interpreter's lock: other threads work meanwhile.

google_crc32c keeps the lock, but for bytes objects of a megabyte. So the function that it calls is called by ctypes,
which lets the lock go, where the library that has it can be found.
"""

import ctypes
import importlib
from collections.abc import Callable

import google_crc32c
import numpy as np
import numpy.typing as npt

# Of a CRC, an address and a number of bytes, the CRC of all that the first one is of and of these bytes.
Extend = Callable[[int, int, int], int]


def load_library() -> Extend | None:
    """The library's own function; None: google_crc32c has none here, or hides it."""
    try:
        extension = importlib.import_module("google_crc32c._crc32c").__file__
        extend = ctypes.CDLL(extension).crc32c_extend
    except (ImportError, OSError, AttributeError):
        return None
    extend.argtypes = (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t)
    extend.restype = ctypes.c_uint32
    return extend


_extend = load_library()


class RowChecksums:
    """Checksums that go on over rows of an array, from any thread.

    Args:
      rows: uint8 [n, size], contiguous.
    """

    def __init__(self, rows: npt.NDArray[np.uint8]) -> None:
        self._rows = rows
        self._size = rows.shape[1]
        self._address = rows.ctypes.data

    def extend(self, crc: int, row: int) -> int:
        """The CRC-32C of what a CRC-32C is of, and a row after it."""
        if _extend is None:
            extended: int = google_crc32c.extend(crc, self._rows[row])
            return extended
        return _extend(crc, self._address + row * self._size, self._size)
