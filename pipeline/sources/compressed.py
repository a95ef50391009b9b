"""Files that are compressed as a whole, told by their suffix."""

import contextlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from ..storage import files

_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4"}

LARGEST = 1 << 30  # bytes of text in one range: Arrow counts a column's bytes in 31 bits


def compression(uri: str) -> str | None:
    """How the file is compressed, as Arrow names it; None: it is not."""
    return _CODECS.get(uri.rpartition(".")[2].lower())


@contextlib.contextmanager
def open_whole(uri: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading from its beginning; a compressed one gives what it holds.

    Raises:
      OSError: it cannot be read, or its compressed stream is damaged or ends early.
    """
    codec = compression(uri)
    with files.open_read(uri) as file:
        if codec is None:
            yield file
        else:
            with pa.CompressedInputStream(file, codec) as stream:
                yield stream


def read_fully(file: IO[bytes], count: int) -> bytes:
    """`count` bytes, or fewer at the file's end; a store's file may give fewer at once."""
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data
