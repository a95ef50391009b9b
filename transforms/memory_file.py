"""Pillow's encoders beside each other: files in memory, to which it writes without the interpreter's lock.

Pillow keeps the lock while it encodes into Python's memory, and lets it go where it writes to a file descriptor: two
threads that encode JPEGs take half the time so. Each thread keeps its file, since a new one costs a tenth of what
encoding a small image does. Only Linux has such files, and Python only where it was compiled with glibc 2.27 or later,
which conda's and uv's were not: elsewhere, and where a sandbox forbids them, Pillow encodes into Python's memory.
"""

import io
import os
import threading
from typing import Any

from PIL import Image

_KEPT = 1 << 20  # bytes of a file that are kept for the next image


def save(image: Image.Image, pillow_format: str, **options: Any) -> bytes:
    """An image in one of Pillow's formats: the bytes that `Image.save` writes, with these options.

    >>> save(Image.new("L", (8, 8)), "JPEG")[:3].hex()
    'ffd8ff'
    """
    file = _own_file()
    if file is None:
        out = io.BytesIO()
        image.save(out, pillow_format, **options)
        return out.getvalue()
    descriptor = file.fileno()
    os.lseek(descriptor, 0, os.SEEK_SET)
    image.save(file, pillow_format, **options)  # type: ignore[arg-type]  # all that it needs of a file
    size = os.lseek(descriptor, 0, os.SEEK_CUR)
    content = os.pread(descriptor, size, 0)
    if size > _KEPT:
        os.ftruncate(descriptor, 0)
    return content


class _MemoryFile:
    """A file that has no name and is in memory."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._descriptor = os.memfd_create("image")

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        """Does nothing: what is written is there at once."""

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class _Local(threading.local):
    file: _MemoryFile | None = None


_local = _Local()


def _own_file() -> _MemoryFile | None:
    """This thread's file; None where there can be none."""
    file = _local.file
    if file is None or file.process != os.getpid():  # a process and its fork would write into each other's images
        try:
            file = _local.file = _MemoryFile() if hasattr(os, "memfd_create") else None
        except OSError:
            return None
    return file
