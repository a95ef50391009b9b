"""What files hold: a file may be compressed as a whole, which its suffix tells; it is then one range, a stream.

Of a file in a store, parts are fetched before they are needed, many at a time; see `PartReader`.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, Protocol

import pyarrow as pa

from ..cores import cores
from ..errors import PenstockError
from ..storage import files
from ..storage.files import FileInfo, UnreachableError

UNKNOWN_SIZE = -1
LONGEST_PART = 64 << 20  # bytes that are fetched at once; what is longer is read bit by bit
_READERS = 16  # each holds about 30 MB of what it looks at
_PIECE = 8 << 20  # bytes of a request: longer parts are fetched by several of them side by side
_PIECES = 8  # of one part at a time
_KEPT = 64 << 20  # bytes of files' beginnings and ends
_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4"}


def compression(uri: str) -> str | None:
    """How the file is compressed, as Arrow names it; None: it is not."""
    return _CODECS.get(uri.rpartition(".")[2].lower())


def reading_threads(infos: Collection[FileInfo]) -> int:
    """How many threads read parts of files while they are listed: stores answer late, and many at a time."""
    if all(files.is_local(info.uri) for info in infos):
        return min(_READERS, max(cores(), len(infos)))
    return _READERS


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


@dataclass(frozen=True)
class FileParts:
    """Parts of a file that were fetched.

    Attributes:
      contents: Where each part begins, and its bytes.
      file_size: The file's bytes; UNKNOWN_SIZE where nobody asked.
    """

    contents: Mapping[int, bytes]
    file_size: int = UNKNOWN_SIZE

    @property
    def size(self) -> int:
        """The bytes of all parts."""
        return sum(map(len, self.contents.values()))

    def read(self, begin: int, count: int) -> bytes:
        """So many bytes from an offset on, or fewer where no part has the next one."""
        found = b""
        while len(found) < count and (more := self._read_part(begin + len(found), count - len(found))):
            found = found + more if found else more
        return found

    def _read_part(self, begin: int, count: int) -> bytes:
        """What the part that has the byte at `begin` gives."""
        for start, content in self.contents.items():
            if start <= begin < start + len(content):
                return content[begin - start : begin - start + count]
        return b""


class PartReader:
    """Reads parts of files in stores. May be used from many threads.

    It keeps what every range of a file needs, as its header, so that a store is asked for it once.
    """

    def __init__(self, error: type[PenstockError] = PenstockError) -> None:
        """Reads nothing yet; `error` is what to raise."""
        self._error = error
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], Future[Any]] = OrderedDict()
        self._kept_bytes = 0

    def read(self, uri: str, begin: int, end: int) -> bytes:
        """The bytes of a file from one offset to before another.

        Raises:
          PenstockError: they cannot be read.
        """
        try:
            return read_in_pieces(uri, begin, end)
        except OSError as failure:
            raise _unreadable(uri, failure, self._error) from failure

    def read_all(self, uri: str, spans: Sequence[tuple[int, int]]) -> dict[int, bytes]:
        """The bytes of several parts of a file, from one offset to before another, by where they begin.

        Raises:
          PenstockError: they cannot be read.
        """
        if len(spans) < 2:
            return {begin: self.read(uri, begin, end) for begin, end in spans}
        with ThreadPoolExecutor(min(_PIECES, len(spans))) as pool:
            contents = pool.map(lambda span: self.read(uri, *span), spans)
            return {begin: content for (begin, _), content in zip(spans, contents, strict=True)}

    def keep(self, uri: str, begin: int, end: int) -> bytes:
        """The same, of bytes that will be asked for again.

        Raises:
          PenstockError: they cannot be read.
        """
        content: bytes = self._keep((uri, begin, end), lambda: self.read(uri, begin, end))
        return content

    def size(self, uri: str) -> int:
        """A file's bytes.

        Raises:
          PenstockError: it cannot be read.
        """

        def ask() -> int:
            try:
                return files.size(uri)
            except OSError as failure:
                raise _unreadable(uri, failure, self._error) from failure

        size: int = self._keep((uri, -1, -1), ask)
        return size

    def _keep(self, key: tuple[str, int, int], ask: Callable[[], Any]) -> Any:
        """What was asked for before, or is being asked for by another thread; what was not used for longest goes."""
        with self._lock:
            known = self._kept.pop(key, None)
            future = self._kept[key] = known or Future()
            self._kept_bytes += 0 if known else _weight(key)
            while self._kept_bytes > _KEPT and len(self._kept) > 1:
                self._kept_bytes -= _weight(self._kept.popitem(last=False)[0])
        if known is None:
            try:
                future.set_result(ask())
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    if self._kept.pop(key, None):
                        self._kept_bytes -= _weight(key)
        return future.result()


def _weight(key: tuple[str, int, int]) -> int:
    """About the bytes that it takes to keep a part."""
    uri, begin, end = key
    return len(uri) + 256 + end - begin


def read_in_pieces(uri: str, begin: int, end: int, etag: str = "") -> bytes:
    """The bytes of a file from one offset to before another; many are asked for by several requests side by side.

    Args:
      uri: The file.
      begin: The first byte.
      end: The one after the last.
      etag: The ETag that the object must have; empty: any.

    Raises:
      OSError: they cannot be read; VersionMismatch: the object has another ETag.
    """
    if files.is_local(uri) or end - begin <= 2 * _PIECE:
        return files.read_range(uri, begin, end, etag)
    begins = range(begin, end, _PIECE)
    with ThreadPoolExecutor(min(_PIECES, len(begins))) as pool:
        return b"".join(pool.map(lambda at: files.read_range(uri, at, min(at + _PIECE, end), etag), begins))


@contextlib.contextmanager
def open_content(
    uri: str, error: type[PenstockError], begin: int = 0, parts: FileParts | None = None
) -> Iterator[Stream]:
    """Opens a file for reading; a compressed one gives what it holds. What goes wrong says which file it is.

    Args:
      uri: The file.
      error: What to raise.
      begin: Where to begin in it; 0 in a compressed one.
      parts: What was fetched of it: the file is opened where more is needed.

    Raises:
      PenstockError: `error`, here and from every read, if the file cannot be read or does not decompress.
    """
    if parts is not None:
        with contextlib.ExitStack() as later:
            yield _FetchedFile(uri, error, begin, parts, later)
        return
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


@contextlib.contextmanager
def open_range(
    uri: str,
    error: type[PenstockError],
    begin: int,
    end: int,
    parts: FileParts | None = None,
    file_size: int = UNKNOWN_SIZE,
) -> Iterator[Stream]:
    """Opens a file that is not compressed for reading a range, which takes one request of a store unless it is long.

    Args:
      uri: The file.
      error: What to raise.
      begin: The first byte.
      end: The one after the last; what is behind it can be read too.
      parts: What was fetched of the file.
      file_size: The file's bytes, where they are known: a store is not asked for what follows them.

    Raises:
      PenstockError: `error`, here and from every read, if the file cannot be read.
    """
    if parts is None and not files.is_local(uri) and end - begin <= LONGEST_PART:
        parts = FileParts({begin: PartReader(error).read(uri, begin, end)}, file_size)
    with open_content(uri, error, begin, parts) as file:
        yield file


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


class _FetchedFile:
    """A file of which parts were fetched."""

    def __init__(
        self, uri: str, error: type[PenstockError], begin: int, parts: FileParts, later: contextlib.ExitStack
    ) -> None:
        self._uri, self._error, self._position, self._parts, self._later = uri, error, begin, parts, later
        self._rest: Stream | None = None

    def read(self, count: int) -> bytes:
        content = b"" if self._rest else self._parts.read(self._position, count)
        if not content and count and self._position != self._parts.file_size:
            self._rest = self._rest or self._later.enter_context(open_content(self._uri, self._error, self._position))
            content = self._rest.read(count)
        self._position += len(content)
        return content

    def position(self) -> int:
        return self._position


def _unreadable(uri: str, failure: Exception, error: type[PenstockError]) -> PenstockError:
    if isinstance(failure, UnreachableError):
        return error(f"{uri}: expected the store to answer, found: {failure}; run again when it does")
    what = "a file that decompresses" if compression(uri) else "a file that can be read"
    return error(f"{uri}: expected {what}, found: {failure}; make it again")
