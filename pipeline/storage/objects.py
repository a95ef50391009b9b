"""Objects of stores: read whole or by ranges, written whole, created and replaced under a condition, removed.

What is not sure to have been done is looked at, never guessed: a read that was cut off goes on where it was, and where
the answer to a conditional write was lost, what stands there is read back.
"""

import contextlib
import errno
import io
import os
import tempfile
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, cast

from ..errors import RequestError
from .stores import COUNTS, Bucket, FileTooLargeError, StoreError, TryAgain, VersionMismatch, locate, plain_etag

PROBE = "_PROBE-"  # what the names of objects begin with that only try a store
PART = 8 << 20  # bytes of an upload in parts, and of a read ahead
_MOST_PARTS = 9_000  # of an upload; stores take 10,000
_UPLOADS = 4  # parts of one object at a time
_FIRST_READ = 1 << 20  # bytes
_LEAST_READ = 128 << 10  # bytes
_READS = 4  # ahead, at a time
_DELETES = 1000  # objects in one request
_DELETES_AT_ONCE = 8  # requests


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A listed file: its URI, bytes, when it was last changed (seconds since 1970), and its store's ETag, if any."""

    uri: str
    size: int
    modified: float
    etag: str = ""


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Which of the contents that a file had one after another: what `replace_exactly` compares.

    Attributes:
      etag: The store's ETag; of a local file the SHA-256 of its content.
      version: The store's generation or version id, where it has one.
    """

    etag: str
    version: str = ""


def head(uri: str) -> FileInfo:
    """What a store tells of an object without giving it.

    Raises:
      OSError: it is not there or cannot be looked at.
    """
    bucket, key = locate(uri)
    try:
        meta = bucket.call("head", key, lambda: bucket.client.head(key))
    except (StoreError, PermissionError, FileNotFoundError):
        if not uri.startswith(("https:", "http:")):
            raise
        # some servers refuse to tell without giving
        meta = bucket.call("get", key, lambda: bucket.client.get(key, options={"range": (0, 1)}).meta)
    return FileInfo(uri, meta["size"], meta["last_modified"].timestamp(), plain_etag(meta["e_tag"]))


def get(uri: str, limit: int | None = None) -> tuple[bytes, FileVersion]:
    """An object's whole content and its version, by one request unless that is cut off.

    Args:
      uri: The object.
      limit: If given, how many bytes it may have.

    Raises:
      OSError: it is not there, cannot be read, or is larger than it may be.
    """
    bucket, key = locate(uri)
    parts: list[bytes] = []
    meta: Any = None

    def request() -> None:
        nonlocal meta
        if not parts:
            answer = bucket.client.get(key)
            meta = answer.meta
            if limit is not None and meta["size"] > limit:
                raise FileTooLargeError(f"{uri}: expected at most {limit} bytes, found {meta['size']}; remove it")
        else:
            answer = bucket.client.get(key, options=_options(sum(map(len, parts)), meta["size"], meta["e_tag"]))
        before = len(parts)
        try:
            for part in answer.stream(min_chunk_size=PART):
                parts.append(bytes(part))
        except Exception:
            if len(parts) == before:
                raise
            COUNTS.add("retry")  # by another call, for this one brought something

    while meta is None or sum(map(len, parts)) < meta["size"]:
        received = len(parts)
        bucket.call("get", key, request)
        if len(parts) == received and meta["size"]:
            raise StoreError(f"{uri}: expected {meta['size']} bytes, found {sum(map(len, parts))}")
    return parts[0] if len(parts) == 1 else b"".join(parts), _version(meta)


def get_range(uri: str, begin: int, end: int, etag: str = "") -> memoryview:
    """The bytes of an object from one offset to before another, fewer where it ends before; not copied.

    Args:
      uri: The object.
      begin: The first byte.
      end: The byte after the last one.
      etag: The ETag that it must have; empty: any.

    Raises:
      OSError: it is not there, cannot be read, or ends at or before the first byte; VersionMismatch: it has another
        ETag.
    """
    bucket, key = locate(uri)
    options = _options(begin, end, etag)
    return bucket.call("get", key, lambda: memoryview(bucket.client.get(key, options=options).bytes()))


def _options(begin: int, end: int, etag: str | None) -> dict[str, Any]:
    """What obstore is asked for; an ETag of the weak kind matches nothing, and is not asked for."""
    known = plain_etag(etag)
    condition = {"if_match": f'"{known}"'} if known and not known.startswith("W/") else {}
    return {"range": (begin, end), **condition}


def _version(answer: Any) -> FileVersion:
    return FileVersion(answer.get("e_tag") or "", answer.get("version") or "")


def exists(uri: str) -> bool:
    """Whether there is an object at a URI, or one below it; at a bucket's own, whether there is one in it."""
    bucket, key = locate(uri)
    if prefix := key.rstrip("/"):
        with contextlib.suppress(FileNotFoundError):
            head(uri)
            return True
    return bool(bucket.call("list", prefix, lambda: next(iter(bucket.client.list(prefix, chunk_size=1)), None)))


def names(uri: str) -> list[str]:
    """The names of the objects in a folder, and of the folders in it, sorted."""
    bucket, key = locate(uri)
    folder = key.rstrip("/")
    answer = bucket.call("list", folder, lambda: bucket.patient.list_with_delimiter(folder or None))  # of many pages
    paths = [entry["path"] for entry in answer["objects"]] + list(answer["common_prefixes"])
    return sorted({path.rpartition("/")[2] for path in paths if path != folder})


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
            self._begin, _, future = self._ahead.popleft()
            self._block = memoryview(future.result())
            self._ask_ahead()
        else:
            self._block = memoryview(self.read_at(max(count, _LEAST_READ), self._position))
            self._begin = self._position

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
    except StoreError:
        if uri.startswith(("https:", "http:")):  # some servers give all or nothing
            content, version = get(uri)
            return content, len(content), plain_etag(version.etag)
        info = head(uri)
        if info.size:  # of nothing there is no first byte to give
            raise
        return b"", 0, info.etag
    return content, meta["size"], plain_etag(meta["e_tag"])


@contextlib.contextmanager
def create(uri: str) -> Iterator[IO[bytes]]:
    """Opens a new object for writing; it appears when the block ends without an error.

    Until then its content is in memory, or on the local disk where it is longer than a part: an upload may have to be
    made again.

    Raises:
      OSError: it could not be written.
    """
    _expect_writable(uri)
    with tempfile.SpooledTemporaryFile(PART) as spool:
        yield cast(IO[bytes], spool)
        length = spool.seek(0, os.SEEK_END)
        spool.seek(0)
        if length <= PART:
            put(uri, spool.read())
        else:
            _put_parts(uri, cast(IO[bytes], spool), length)


def put(uri: str, content: bytes) -> None:
    """Makes an object of some bytes, by one request.

    Raises:
      OSError: it could not be written.
    """
    bucket, key = _expect_writable(uri)
    bucket.call("put", key, lambda: bucket.client.put(key, content, use_multipart=False))


def _put_parts(uri: str, file: IO[bytes], length: int) -> None:
    """Uploads a file in parts; where one fails too often, or the last answer is lost, all of it again."""
    bucket, key = _expect_writable(uri)
    part = max(PART, -(-length // _MOST_PARTS))

    def request() -> None:
        file.seek(0)
        COUNTS.add("put", -(-length // part) + 1)
        bucket.patient.put(key, file, use_multipart=True, chunk_size=part, max_concurrency=_UPLOADS)

    bucket.call("put", key, request)


def put_if(uri: str, content: bytes, version: FileVersion | None) -> FileVersion:
    """Makes an object where there is none, or of a version of it.

    Args:
      uri: The object.
      content: Its bytes.
      version: What is to be replaced; None: nothing, none may be there.

    Returns:
      The version that was written.

    Raises:
      OSError: it cannot be written; FileExistsError: it is there already; VersionMismatch: it is gone, or is another.
    """
    bucket, key = _expect_writable(uri)
    mode: Any = "create"
    if version:
        mode = {name: value for name, value in (("e_tag", version.etag), ("version", version.version)) if value}
        if not mode:
            raise StoreError(f"{uri}: expected the store to tell an ETag or a generation, found neither")

    def request() -> FileVersion:
        try:
            return _version(bucket.client.put(key, content, mode=mode, use_multipart=False))
        except Exception as error:
            if version is None and _is_unexplained_conflict(error) and not _is_object(bucket, key):
                raise TryAgain(f"the store answered 409 Conflict, and nothing is there: {error}") from error
            raise

    def read_back() -> FileVersion | None:
        with contextlib.suppress(FileNotFoundError):
            stored, its_version = get(uri)
            return its_version if stored == content else None
        return None

    try:
        return bucket.call("put", key, request, read_back)
    except FileNotFoundError as error:
        if version is None:
            raise
        raise VersionMismatch(f"{uri}: expected a version to replace, found nothing") from error


def keeps_conditions(folder: str) -> bool:
    """Whether a store refuses to create what is there, and to replace another version than the one that is there.

    An object is written to find out, and removed.

    Raises:
      OSError: it cannot be written, read or removed.
    """
    uri = f"{folder.rstrip('/')}/{PROBE}{uuid.uuid4().hex}"
    try:
        first = put_if(uri, b"1", None)
        with contextlib.suppress(FileExistsError):
            put_if(uri, b"2", None)
            return False
        put_if(uri, b"3", first)
        with contextlib.suppress(VersionMismatch):
            put_if(uri, b"4", first)
            return False
        return True
    except StoreError as error:
        if "501" in str(error) or "NotImplemented" in str(error) or "expected the store to tell" in str(error):
            return False
        raise
    finally:
        remove_objects([uri])


def _is_unexplained_conflict(error: Exception) -> bool:
    """Whether a store said 409, which may mean that it is there, or that another writes at the same time."""
    return (
        type(error).__name__ == "AlreadyExistsError" and "409" in str(error) and "BlobAlreadyExists" not in str(error)
    )


def _is_object(bucket: Bucket, key: str) -> bool:
    """Whether there is an object of this very key."""
    try:
        bucket.call("head", key, lambda: bucket.client.head(key))
    except FileNotFoundError:
        return False
    return True


def _expect_writable(uri: str) -> tuple[Bucket, str]:
    bucket, key = locate(uri)
    if uri.startswith(("https:", "http:")):
        raise RequestError(f"{uri}: expected a store to write to, found an address that can only be read")
    return bucket, key


def remove_objects(uris: Iterable[str]) -> None:
    """Removes objects, if they are there; of one bucket many by one request.

    Raises:
      OSError: some could not be removed.
    """
    by_bucket: dict[Bucket, list[str]] = {}
    for uri in uris:
        bucket, key = _expect_writable(uri)
        if key:
            by_bucket.setdefault(bucket, []).append(key)
    bulks = [
        (bucket, keys[start : start + _DELETES])
        for bucket, keys in by_bucket.items()
        for start in range(0, len(keys), _DELETES)
    ]
    if len(bulks) == 1:
        _remove_keys(*bulks[0])
    elif bulks:
        with ThreadPoolExecutor(_DELETES_AT_ONCE) as pool:
            deque(pool.map(lambda bulk: _remove_keys(*bulk), bulks), maxlen=0)


def _remove_keys(bucket: Bucket, keys: list[str]) -> None:
    """Removes objects; where a store complains of one that is not there, it does not tell what became of the others."""
    if len(keys) == 1:
        with contextlib.suppress(FileNotFoundError):
            bucket.call("delete", keys[0], lambda: bucket.client.delete(keys[0]))
        return
    if bucket.root.startswith("gs:"):
        COUNTS.add("delete", len(keys) - 1)  # which it removes one by one
    try:
        bucket.call("delete", keys[0], lambda: bucket.client.delete(keys))
    except FileNotFoundError:
        with ThreadPoolExecutor(_DELETES_AT_ONCE) as pool:
            deque(pool.map(lambda key: _remove_keys(bucket, [key]), keys), maxlen=0)
