"""Objects of stores as files: read by ranges from anywhere, or ahead of who reads them from beginning to end."""

import errno
import io
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .objects import PART, get, get_range, head
from .stores import StoreError, UnreachableError, locate, plain_etag

_FIRST_READ = 1 << 20  # bytes
_LEAST_READ = 128 << 10  # bytes
_READS = 4  # ahead, at a time


class RemoteFile(io.RawIOBase):
    """An object, read by ranges. `read_at` may be used from many threads."""

    def __init__(self, uri: str, size: int | None = None, etag: str = "") -> None:
        """Opens it.

        Args:
          uri: Where it is.
          size: Its bytes, where they are known; the store is not asked then.
          etag: Its ETag, where that is known: a read fails if it is another by then.

        Raises:
          OSError: it is not there or cannot be read.
        """
        super().__init__()
        if size is None:
            info = head(uri)
            size, etag = info.size, info.etag
        self.uri, self.etag = uri, etag
        self._size, self._position = size, 0

    def __reduce__(self) -> tuple[type["RemoteFile"], tuple[str, int, str]]:
        return RemoteFile, (self.uri, self._size, self.etag)

    def size(self) -> int:
        """Its bytes."""
        return self._size

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Bytes from an offset on, fewer at the end.

        Raises:
          OSError: it cannot be read; VersionMismatch: it was replaced since it was opened.
        """
        end = min(offset + nbytes, self._size)
        if end <= offset:
            return b""
        content = bytes(get_range(self.uri, offset, end, self.etag))
        if len(content) != end - offset:
            raise StoreError(f"{self.uri}: expected the bytes {offset} to {end}, found {len(content)} of them")
        return content

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.uri)
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = self._next(len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def readall(self) -> bytes:
        parts = []
        while part := self._next(PART):
            self._position += len(part)
            parts.append(bytes(part))
        return b"".join(parts)

    def _next(self, count: int) -> bytes | memoryview:
        """Bytes at the position; fewer, but some, if it pleases, and none at the end."""
        return self.read_at(count, self._position)


class SequentialFile(RemoteFile):
    """An object that is mostly read from its beginning on: the more of it is, the more is asked for ahead.

    Its first request tells its size, so that a small object takes one request.
    """

    def __init__(self, uri: str) -> None:
        """Opens it.

        Args:
          uri: Where it is.

        Raises:
          OSError: it is not there or cannot be read.
        """
        content, size, etag = _first_part(uri)
        super().__init__(uri, size, etag)
        self._block, self._begin = memoryview(content), 0
        self._ahead: deque[tuple[int, int, Future[bytes]]] = deque()  # first byte, last, the bytes between
        self._window = 0  # blocks to ask for ahead
        self._process = os.getpid()
        self._pool: ThreadPoolExecutor | None = None

    def _next(self, count: int) -> memoryview:
        if self._position >= self._size:
            return memoryview(b"")
        if not self._begin <= self._position < self._begin + len(self._block):
            self._load(count)
        start = self._position - self._begin
        return self._block[start : start + count]

    def _load(self, count: int) -> None:
        """Makes the block at the position the one that is read from; asks for more ahead where one follows another."""
        if self._process != os.getpid():  # what was asked for stays in the process that this was forked from
            self._ahead, self._pool, self._process = deque(), None, os.getpid()
        follows = self._position == self._begin + len(self._block)
        self._window = min(self._window + 1, _READS) if follows else 0
        while self._ahead and not self._ahead[0][0] <= self._position < self._ahead[0][1]:
            self._ahead.popleft()[2].cancel()
        self._ask_ahead()
        if self._ahead:
            begin, _, future = self._ahead.popleft()
            self._block, self._begin = memoryview(future.result()), begin
            self._ask_ahead()
        else:
            content = self.read_at(max(count, _LEAST_READ), self._position)
            self._block, self._begin = memoryview(content), self._position

    def _ask_ahead(self) -> None:
        begin = self._ahead[-1][1] if self._ahead else max(self._position, self._begin + len(self._block))
        while begin < self._size and len(self._ahead) < self._window:
            self._pool = self._pool or ThreadPoolExecutor(_READS, "read-ahead")
            end = min(begin + (_FIRST_READ << (self._window - 1)), self._size)
            self._ahead.append((begin, end, self._pool.submit(self.read_at, end - begin, begin)))
            begin = end

    def close(self) -> None:
        if self._pool and self._process == os.getpid():
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        super().close()


def _first_part(uri: str) -> tuple[bytes, int, str]:
    """An object's first bytes, how many it has, and its ETag."""
    bucket, key = locate(uri)

    def request() -> tuple[bytes, Any]:
        answer = bucket.client.get(key, options={"range": (0, _FIRST_READ)})
        return bytes(answer.bytes()), answer.meta

    try:
        content, meta = bucket.call("get", key, request)
    except UnreachableError:
        raise
    except StoreError:
        if uri.startswith(("https:", "http:")):  # some servers give all or nothing
            content, version = get(uri)
            return content, len(content), plain_etag(version.etag)
        info = head(uri)
        if info.size:  # of nothing there is no first byte to give
            raise
        return b"", 0, info.etag
    return content, meta["size"], plain_etag(meta["e_tag"])
