"""Reading, listing and writing files, wherever they are.

Callers never ask where. Local paths are opened here; `stores` has the clients of object stores, and every error of a
store is an OSError of one line that names the URI.

A write is whole or absent. On a local disk a file is written under a temporary name, synced and renamed; on an object
store an object appears when its upload is complete.
"""

import collections
import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

if TYPE_CHECKING:
    import pyarrow as pa

from . import stores
from .locks import locked_folder
from .stores import StoreError, UnreachableError, VersionMismatch

__all__ = ["FileInfo", "FileVersion", "StoreError", "UnreachableError", "VersionMismatch"]
T = TypeVar("T")
_BLOCK = 1 << 20  # bytes
_READ_AHEAD = 1 << 20  # bytes
_PART = 8 << 20  # bytes of an upload in parts
_CALLS = 32  # at a time
_BULK = 1000  # objects that one request may delete
_LITERAL = re.compile(r"[\w./ +=,~-]*")  # paths that nobody takes for a pattern


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


def join(root: str, *parts: str) -> str:
    """Joins path parts with `/`, whatever the store: `join("s3://b/d/", "x", "y") == "s3://b/d/x/y"`."""
    return "/".join([root.rstrip("/") if root != "/" else "", *parts])


def is_local(uri: str) -> bool:
    """Whether `uri` is a path of this machine's file system."""
    return "://" not in uri


def open_read(uri: str) -> BinaryIO:
    """Opens a file for reading bytes.

    Raises:
      OSError: it is not there, cannot be read, or is no regular file.
      RequestError: it is no URI of a store that can be read.
    """
    if is_local(uri):
        return os.fdopen(open_descriptor(uri), "rb")
    return cast(BinaryIO, io.BufferedReader(open_remote(uri), _READ_AHEAD))


def open_descriptor(path: str) -> int:
    """Opens a local file for reading; a pipe or a device, which may never end, is refused and not waited for.

    Raises:
      OSError: it is not there, cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _expect_regular(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _expect_regular(path: str, mode: int) -> None:
    """Raises OSError where a mode is not that of a regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise OSError(f"{path}: expected a regular file, found {kind}; remove it")


class RemoteFile(io.RawIOBase):
    """An object of a store, read by ranges. `read_at` may be used from many threads."""

    def __init__(self, uri: str, size: int | None = None) -> None:
        """Opens it.

        Args:
          uri: Where it is.
          size: Its bytes, where they are known; the store is not asked then.

        Raises:
          OSError: it is not there or cannot be read.
        """
        super().__init__()
        self._uri = uri
        self._size = _remote_size(uri) if size is None else size
        self._position = 0

    def size(self) -> int:
        """Its bytes."""
        return self._size

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Bytes from an offset on, fewer at the end.

        Raises:
          OSError: it cannot be read.
        """
        end = min(offset + nbytes, self._size)
        return read_range(self._uri, offset, end) if end > offset else b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self._uri)
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = self.read_at(len(buffer), self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def readall(self) -> bytes:
        content = self.read_at(self._size, self._position)
        self._position += len(content)
        return content


def open_remote(uri: str, size: int | None = None) -> RemoteFile:
    """Opens an object of a store for reading; `size` is its bytes, where they are known.

    Raises:
      OSError: it is not there or cannot be read.
    """
    return RemoteFile(uri, size)


def _head(uri: str) -> dict[str, Any]:
    bucket, key = stores.locate(uri)
    head: dict[str, Any] = bucket.call("head", key, lambda: bucket.client.head(key))
    return head


def _remote_size(uri: str) -> int:
    return int(_head(uri)["size"])


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """The whole content of a file.

    Args:
      uri: The file.
      limit: If given, how many bytes it may have.

    Raises:
      OSError: it is not there, cannot be read, is no regular file, or is larger than it may be.
    """
    if is_local(uri):
        with open_read(uri) as file:
            if limit is not None:  # for so many bytes memory is taken before they are read
                size_limit = min(limit, file.seek(0, os.SEEK_END))
                file.seek(0)
            content = file.read() if limit is None else file.read(size_limit + 1)
        if limit is not None and len(content) > limit:
            raise _too_large(uri, limit)
        return content
    return _get(uri, limit)[0]


def _too_large(uri: str, limit: int) -> OSError:
    return OSError(f"{uri}: expected at most {limit} bytes, found more; remove it")


def _get(uri: str, limit: int | None = None) -> tuple[bytes, FileVersion]:
    """An object's whole content and its version, by one request."""
    bucket, key = stores.locate(uri)

    def request() -> tuple[bytes, FileVersion]:
        answer = bucket.client.get(key)
        if limit is not None and answer.meta["size"] > limit:
            raise _too_large(uri, limit)
        return bytes(answer.bytes()), _version(answer.meta)

    return bucket.call("get", key, request)


def _version(answer: Any) -> FileVersion:
    return FileVersion(answer.get("e_tag") or "", answer.get("version") or "")


def read_versioned(uri: str, limit: int | None = None) -> tuple[bytes, FileVersion]:
    """A file's whole content, and which version of the file that is.

    Args:
      uri: The file.
      limit: If given, how many bytes it may have.

    Raises:
      OSError: it cannot be read, or is larger than it may be; FileNotFoundError: it is not there.
    """
    if not is_local(uri):
        return _get(uri, limit)
    content = read_bytes(uri, limit)
    return content, _content_version(content)


def _content_version(content: bytes) -> FileVersion:
    return FileVersion(hashlib.sha256(content).hexdigest())


def read_range(uri: str, begin: int, end: int, etag: str = "") -> bytes:
    """The bytes of a file from one offset to before another.

    Args:
      uri: The file.
      begin: The first byte.
      end: The byte after the last one.
      etag: Of a file of a store: the ETag that it must have, with or without its quotes; empty: any.

    Raises:
      OSError: it is not there, cannot be read, or ends before; VersionMismatch: it has another ETag.
    """
    if begin == end:
        return b""
    if is_local(uri):
        with open_read(uri) as file:
            file.seek(begin)
            content = file.read(end - begin)
    else:
        bucket, key = stores.locate(uri)
        options: dict[str, Any] = {"range": (begin, end)}
        if etag:
            options["if_match"] = f'"{stores.plain_etag(etag)}"'
        content = bucket.call("get", key, lambda: bytes(bucket.client.get(key, options=options).bytes()))
    if len(content) != end - begin:
        raise OSError(f"{uri}: expected the bytes {begin} to {end}, found {len(content)} of them; the file was cut")
    return content


def exists(uri: str) -> bool:
    """Whether there is a file or a folder at `uri`."""
    if is_local(uri):
        return os.path.exists(uri)
    try:
        _head(uri)
        return True
    except FileNotFoundError:
        bucket, key = stores.locate(uri)
        prefix = key.rstrip("/") + "/"
        return bool(bucket.call("list", prefix, lambda: next(iter(bucket.client.list(prefix, chunk_size=1)), None)))


def size(uri: str) -> int:
    """A file's bytes.

    Raises:
      OSError: it is not there, or is no regular file.
    """
    if not is_local(uri):
        return _remote_size(uri)
    status = os.stat(uri)
    _expect_regular(uri, status.st_mode)
    return status.st_size


def sha256(uri: str) -> tuple[str, int]:
    """A file's SHA-256 and its bytes, read a block at a time.

    Raises:
      OSError: it is not there or cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with open_read(uri) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def describe(uri: str) -> FileInfo:
    """A file's bytes and time of change; the URI is taken literally.

    Raises:
      OSError: it is not there.
    """
    if is_local(uri):
        status = os.stat(uri)
        return FileInfo(uri, status.st_size, status.st_mtime)
    return _info(*stores.locate(uri)[:1], _head(uri))


def _info(bucket: stores.Bucket, head: Any) -> FileInfo:
    return FileInfo(
        bucket.uri(head["path"]), head["size"], head["last_modified"].timestamp(), stores.plain_etag(head["e_tag"])
    )


def map_files(function: Callable[[str], T], uris: Iterable[str]) -> Iterator[T]:
    """What a function says of each file, in order; some are looked at side by side.

    Args:
      function: Takes a URI, in any thread.
      uris: The files.

    Raises:
      OSError: what the function raised for the first of them that it failed for.
    """
    pending: collections.deque[Future[T]] = collections.deque()
    pool = ThreadPoolExecutor(_CALLS)
    try:
        for uri in uris:
            pending.append(pool.submit(function, uri))
            if len(pending) >= 4 * _CALLS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def create(uri: str) -> Iterator[IO[bytes]]:
    """Opens a new file for writing; it appears under its name, synced, when the block ends without an error."""
    if not is_local(uri):
        with tempfile.SpooledTemporaryFile(_PART) as spool:
            yield cast(IO[bytes], spool)
            _upload(uri, cast(IO[bytes], spool))
        return
    os.makedirs(os.path.dirname(uri), exist_ok=True)
    temporary = f"{uri}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, uri)
        sync_folder(os.path.dirname(uri))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _upload(uri: str, file: IO[bytes]) -> None:
    """Makes an object of a file's content, in parts where it is long."""
    bucket, key = stores.locate(uri)
    in_parts = file.seek(0, os.SEEK_END) > _PART

    def request() -> None:
        file.seek(0)
        content = file if in_parts else file.read()
        bucket.client.put(key, content, use_multipart=in_parts, chunk_size=_PART)

    bucket.call("put", key, request)


def create_exclusive(uri: str, content: bytes) -> FileVersion:
    """Writes a file where there is none.

    On a store the answer to the write may be lost, and the write made again: what is there then is read back, and if
    it is the same content it counts as written. Content that several may write needs something of its writer in it.

    Raises:
      OSError: it cannot be written; FileExistsError: it is there already.
    """
    if is_local(uri):
        with _temporary(uri, content) as temporary:
            os.link(temporary, uri)
        sync_folder(os.path.dirname(uri))
        return _content_version(content)
    return _put_if(uri, content, "create")


def replace_exactly(uri: str, content: bytes, version: FileVersion) -> FileVersion:
    """Writes a file over a version of it, as `read_versioned` told it; of a lost answer see `create_exclusive`.

    On a local disk the lock of the file's folder is taken meanwhile: the caller may not hold it.

    Raises:
      OSError: it cannot be written; VersionMismatch: it is gone, or another version is there by now.
    """
    if is_local(uri):
        with locked_folder(os.path.dirname(uri)):
            if not os.path.exists(uri) or read_versioned(uri)[1] != version:
                raise VersionMismatch(f"{uri}: another version is there by now")
            write_bytes(uri, content)
        return _content_version(content)
    return _put_if(uri, content, {"e_tag": version.etag or None, "version": version.version or None})


def _put_if(uri: str, content: bytes, mode: Any) -> FileVersion:
    """Writes an object under a condition; where an earlier try may have been applied, looks what is there."""
    bucket, key = stores.locate(uri)
    if isinstance(mode, dict):
        mode = {name: value for name, value in mode.items() if value}

    def read_back() -> FileVersion | None:
        with contextlib.suppress(FileNotFoundError):
            stored, version = _get(uri)
            return version if stored == content else None
        return None

    def request() -> FileVersion:
        return _version(bucket.client.put(key, content, mode=mode, use_multipart=False))

    try:
        return bucket.call("put", key, request, read_back)
    except FileNotFoundError as error:
        raise VersionMismatch(f"{uri}: expected a version to replace, found nothing") from error


@contextlib.contextmanager
def _temporary(uri: str, content: bytes) -> Iterator[str]:
    """A synced file with some content beside a local path, for as long as the block runs."""
    os.makedirs(os.path.dirname(uri), exist_ok=True)
    temporary = f"{uri}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `create` writes under, and that a killed run may have left behind."""
    return re.fullmatch(r".+\.[0-9a-f]{32}\.tmp", name, re.DOTALL) is not None


def remove_temporaries(folder: str) -> None:
    """Removes what killed runs left behind below a local folder."""
    for info in list_folder(folder) if is_local(folder) else []:
        if is_temporary(os.path.basename(info.uri)):
            remove(info.uri)


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a whole file, or nothing."""
    with create(uri) as file:
        file.write(content)


def sync_folder(path: str) -> None:
    """Makes a local folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(uri: str) -> None:
    """Removes a file or a whole folder, if it is there; of a link the link."""
    if not is_local(uri):
        remove_files([uri])
        remove_files([info.uri for info in list_folder(uri)])
    elif os.path.isdir(uri) and not os.path.islink(uri):
        shutil.rmtree(uri)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(uri)


def remove_files(uris: Iterable[str]) -> None:
    """Removes files, and no folders, if they are there; of one store many by one request.

    Raises:
      OSError: some could not be removed.
    """
    by_bucket: dict[stores.Bucket, list[str]] = {}
    for uri in uris:
        if is_local(uri):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(uri)
        else:
            bucket, key = stores.locate(uri)
            by_bucket.setdefault(bucket, []).append(key)
    for bucket, keys in by_bucket.items():
        for start in range(0, len(keys), _BULK):
            _remove_keys(bucket, keys[start : start + _BULK])


def _remove_keys(bucket: stores.Bucket, keys: list[str]) -> None:
    """Removes objects; where a store complains of one that is not there, it does not tell what became of the others."""
    try:
        bucket.call("delete", keys[0], lambda: bucket.client.delete(keys))
    except FileNotFoundError:
        for key in keys if len(keys) > 1 else []:
            _remove_keys(bucket, [key])


@contextlib.contextmanager
def literal_path(path: str) -> Iterator[str]:
    """A local folder's path in which TensorFlow and Beam find no pattern: its own, or a link to it for a while.

    They take `[`, `?`, `*` and backslashes in a name for a pattern, in reading and writing alike.
    """
    if _LITERAL.fullmatch(path):
        yield path
        return
    folder = tempfile.mkdtemp(prefix="penstock-")
    link = os.path.join(folder, "link")
    try:
        os.symlink(os.path.abspath(path), link)
        yield link
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the link, and not what it leads to


def list_names(uri: str) -> list[str]:
    """The names of what lies in a folder, sorted; a local disk's empty folders are among it."""
    if is_local(uri):
        return sorted(os.listdir(uri))
    bucket, key = stores.locate(uri)
    prefix = key.rstrip("/") + "/" if key else ""
    answer = bucket.call("list", prefix, lambda: bucket.client.list_with_delimiter(prefix or None))
    paths = [entry["path"] for entry in answer["objects"]] + list(answer["common_prefixes"])
    return sorted({path.rpartition("/")[2] for path in paths})


def list_folder(uri: str) -> list[FileInfo]:
    """Every file below a folder, in the order of their URIs; none where there is no such folder."""
    if is_local(uri):
        return sorted(_walk(uri, set()), key=lambda info: info.uri)
    from . import listing  # imports Arrow, which takes a while

    infos = [info for batch in listing.list_batches(uri) for info in to_infos(uri, batch)]
    return sorted(infos, key=lambda info: info.uri)


def to_infos(root: str, batch: "pa.RecordBatch") -> Iterator[FileInfo]:
    """The files of a batch that `list_batches` listed below a folder."""
    modified = batch.column("modified").cast("int64").to_pylist()
    for key, size, when, etag in zip(
        batch.column("key").to_pylist(),
        batch.column("size").to_pylist(),
        modified,
        batch.column("etag").to_pylist(),
        strict=True,
    ):
        yield FileInfo(join(root, key), size, when / 1e6, etag)


def _walk(path: str, seen: set[tuple[int, int]]) -> Iterator[FileInfo]:
    """Every file below a local folder; a folder that was seen, by device and inode, is left out."""
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            return  # links lead to it by another way, or back to it
        seen.add((status.st_dev, status.st_ino))
        entries = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    yield from _walk(entry.path, seen)
                elif entry.is_file():
                    stat = entry.stat()
                    yield FileInfo(entry.path, stat.st_size, stat.st_mtime)
            except OSError as error:
                if not (error.errno == errno.ELOOP and entry.is_symlink()):
                    raise
