"""What the page cache has of a local file, copied by this process: the kernel takes three times as long for it.

A file is mapped, and read through the mapping only where all that is asked for is in memory, as `mincore` tells. So no
thread waits for a disk here, and what cannot be read, which would end the process, is left to the kernel. On Linux
only, and of files that the process may write to: of others `mincore` tells nothing.
"""

import ctypes
import mmap
import os
import sys
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MOST_PAGES = 1 << 14  # of what is copied at a time


class _Pages(threading.local):
    """What `mincore` tells a thread: a byte for each page, 1 where it is in memory."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(_MOST_PAGES)
        self.address = ctypes.addressof(self.buffer)


_told = _Pages()
if sys.platform == "linux":
    _mincore = ctypes.CDLL(None).mincore
    _mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class MappedFile:
    """A local file, mapped into memory; for any thread.

    Args:
      descriptor: The file's, which stays open.

    Raises:
      OSError: it cannot be mapped.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._bytes = np.frombuffer(mmap.mmap(descriptor, self._size, prot=mmap.PROT_READ), np.uint8)
        self._address = self._bytes.ctypes.data

    def fill(self, start: int, parts: Sequence[npt.NDArray[np.uint8]]) -> bool:
        """Fills arrays with the bytes from an offset on, one after the other.

        Returns:
          False: they are not all in memory, or the file has changed its size; the arrays are as they were.
        """
        stop = start + sum(map(len, parts))
        first, last = start // mmap.PAGESIZE, -(-stop // mmap.PAGESIZE)
        if stop > self._size or os.fstat(self._descriptor).st_size != self._size or not self._has(first, last - first):
            return False
        for part in parts:
            part[...] = self._bytes[start : start + len(part)]
            start += len(part)
        return True

    def _has(self, first: int, pages: int) -> bool:
        """Whether some pages are in memory."""
        if pages > _MOST_PAGES:
            return False
        failed = _mincore(self._address + first * mmap.PAGESIZE, pages * mmap.PAGESIZE, _told.address)
        return not failed and ctypes.string_at(_told.address, pages).count(1) == pages


def map_file(descriptor: int) -> MappedFile | None:
    """A file as a mapped one; None where it cannot be, or nobody tells what of it is in memory."""
    if sys.platform != "linux":
        return None
    status = os.fstat(descriptor)
    if not status.st_size or not (status.st_uid == os.geteuid() or os.access(f"/proc/self/fd/{descriptor}", os.W_OK)):
        return None
    try:
        return MappedFile(descriptor)
    except OSError:
        return None
