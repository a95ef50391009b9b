"""What files hold: a file may be compressed as a whole, which its suffix tells; it is then one range, a stream."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol

import pyarrow as pa

from ..errors import PenstockError
from ..storage import files

_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4"}


def compression(uri: str) -> str | None:
    """How the file is compressed, as Arrow names it; None: it is not."""
    return _CODECS.get(uri.rpartition(".")[2].lower())


class Readable(Protocol):
    """What gives bytes: a store's file may give fewer at once than are asked for, and gives none at its end alone."""

    def read(self, count: int, /) -> bytes:
        """The next bytes."""


class Stream(Readable, Protocol):
    """What a file holds, from where it was opened on."""

    def position(self) -> int:
        """About how many of the file's own bytes, compressed as they are, were read."""


def read_fully(file: Readable, count: int) -> bytes:
    """`count` bytes, or fewer at the file's end; a store's file may give fewer at once."""
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


@contextlib.contextmanager
def open_content(uri: str, error: type[PenstockError], begin: int = 0) -> Iterator[Stream]:
    """Opens a file for reading; a compressed one gives what it holds. What goes wrong says which file it is.

    Args:
      uri: The file.
      error: What to raise.
      begin: Where to begin in it; 0 in a compressed one.

    Raises:
      PenstockError: `error`, here and from every read, if the file cannot be read or does not decompress.
    """
    codec = compression(uri)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(files.open_read(uri))
            content = stack.enter_context(pa.CompressedInputStream(file, codec)) if codec else file
            if begin:
                file.seek(begin)
        except (OSError, pa.ArrowException) as failure:
            raise _unreadable(uri, failure, error) from failure
        yield _File(file, content, uri, error)


@dataclass(frozen=True)
class _File:
    """A file, and what it holds; they differ where it is compressed."""

    file: IO[bytes]
    content: IO[bytes]
    uri: str
    error: type[PenstockError]

    def read(self, count: int) -> bytes:
        try:
            return self.content.read(count)
        except (OSError, pa.ArrowException) as failure:
            raise _unreadable(self.uri, failure, self.error) from failure

    def position(self) -> int:
        return self.file.tell()


def _unreadable(uri: str, failure: Exception, error: type[PenstockError]) -> PenstockError:
    what = "a file that decompresses" if compression(uri) else "a file that can be read"
    return error(f"{uri}: expected {what}, found: {failure}; make it again")
