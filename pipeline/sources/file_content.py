"""What files hold: a file may be compressed as a whole, which its suffix tells, and is then one range."""

import contextlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from ..errors import PenstockError
from ..storage import files
from .listing import RecordRange

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


def read_range(record_range: RecordRange) -> bytes:
    """The bytes of a range of a file; of a compressed file all that it holds.

    Raises:
      PenstockError: the file cannot be read, became shorter, or holds more than LARGEST bytes.
    """
    uri, size = record_range.uri, record_range.end - record_range.begin
    is_compressed = compression(uri) is not None
    try:
        with open_whole(uri) as file:
            if not is_compressed:
                file.seek(record_range.begin)
            data = read_fully(file, LARGEST + 1 if is_compressed else size)
    except (OSError, pa.ArrowException) as error:
        whole = "a file that decompresses" if is_compressed else "a file that can be read"
        raise PenstockError(f"{uri}: expected {whole}, found: {error}; make it again") from error
    if len(data) < size and not is_compressed:
        raise PenstockError(
            f"{uri}: expected {record_range.end} bytes, found {record_range.begin + len(data)}; "
            "the file changed after it was listed: run again"
        )
    if len(data) > LARGEST:
        raise PenstockError(
            f"{uri}: expected at most {LARGEST} bytes in a range, found more; split the compressed file, or store it "
            "uncompressed"
        )
    return data
