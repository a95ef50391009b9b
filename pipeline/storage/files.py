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
from typing import IO, TYPE_CHECKING, BinaryIO, TypeVar, cast

if TYPE_CHECKING:
    import pyarrow as pa

from ..errors import RequestError
from . import objects
from .clients import SCHEMES
from .locks import locked_folder
from .objects import FileInfo, FileVersion
from .remote_files import RemoteFile, SequentialFile
from .stores import FileTooLargeError, StoreError, UnreachableError, VersionMismatch, redact
from .synced_file import SyncedFile

__all__ = [
    "FileInfo",
    "FileTooLargeError",
    "FileVersion",
    "StoreError",
    "UnreachableError",
    "VersionMismatch",
    "redact",
]
A = TypeVar("A")
T = TypeVar("T")
_BLOCK = 1 << 20  # bytes
_READ_AHEAD = 128 << 10  # bytes
_CALLS = 32  # at a time
_WAITING = 256 << 20  # bytes of files that were read and wait to be taken
_CUT_URI = re.compile(rf"(?:{'|'.join(SCHEMES)}):")
_UNLINKED = {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}  # say: no more links
_LITERAL = re.compile(r"[\w./ +=,~-]*")  # paths that nobody takes for a pattern


class SizeMismatch(OSError):
    """A file has another length than it is known to have."""


def join(root: str, *parts: str) -> str:
    """Joins path parts with `/`, whatever the store: `join("s3://b/d/", "x", "y") == "s3://b/d/x/y"`."""
    return "/".join([root.rstrip("/") if root != "/" else "", *parts])


def is_local(uri: str) -> bool:
    """Whether `uri` is a path of this machine's file system.

    Raises:
      RequestError: it begins as a URI and is none, as `s3:/bucket/key` does: a dataset would be written there.
    """
    if "://" in uri:
        return False
    if _CUT_URI.match(uri):
        raise RequestError(
            f"expected a path, or a URI such as s3://bucket/folder, found {uri}; write ./{uri} if it is a path"
        )
    return True


def is_unlisted(uri: str) -> bool:
    """Whether a URI is in a place that does not list its files: they are read by their names alone."""
    return uri.startswith(("http://", "https://"))


def absolute(uri: str) -> str:
    """The one way to write where a folder is, however it was spelled: an absolute path, and no slash at the end."""
    return os.path.abspath(uri) if is_local(uri) else uri.rstrip("/")


def open_read(uri: str) -> BinaryIO:
    """Opens a file for reading bytes.

    Raises:
      OSError: it is not there, cannot be read, or is no regular file.
      RequestError: it is no URI of a store that can be read.
    """
    if is_local(uri):
        return os.fdopen(open_descriptor(uri), "rb")
    return cast(BinaryIO, io.BufferedReader(SequentialFile(uri), _READ_AHEAD))


def open_descriptor(path: str) -> int:
    """Opens a local file for reading; a pipe or a device, which may never end, is refused and not waited for.

    Raises:
      OSError: it is not there, cannot be read, or is no regular file.
    """
    return _open_regular(path)[0]


def _open_regular(path: str) -> tuple[int, int]:
    """As `open_descriptor`, and the file's bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _expect_regular(path, status.st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _expect_regular(path: str, mode: int) -> None:
    """Raises OSError where a mode is not that of a regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise OSError(f"{path}: expected a regular file, found {kind}; remove it")


def open_remote(uri: str, size: int | None = None) -> RemoteFile:
    """Opens an object of a store for reading; `size` is its bytes, where they are known.

    Raises:
      OSError: it is not there or cannot be read.
    """
    return RemoteFile(uri, size)


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """The whole content of a file.

    Args:
      uri: The file.
      limit: If given, how many bytes it may have.

    Raises:
      OSError: it is not there, cannot be read, is no regular file, or is larger than it may be.
    """
    if is_local(uri):
        return _read_local(uri, limit)
    return objects.get(uri, limit)[0]


def _read_local(path: str, limit: int | None) -> bytes:
    """As `read_bytes`, by four calls to the system: threads that read small files wait for each other at every one."""
    descriptor, size = _open_regular(path)
    most = size if limit is None else min(size, limit)
    try:
        content = os.read(descriptor, most + 1)
        if len(content) != size:  # a part of it, or it changes, or it is of a kind that has no size
            with open(descriptor, "rb", closefd=False) as file:
                content += file.read() if limit is None else file.read(most + 1 - len(content))
    finally:
        os.close(descriptor)
    if limit is not None and len(content) > limit:
        raise FileTooLargeError(f"{path}: expected at most {limit} bytes, found more; remove it")
    return content


def read_versioned(uri: str, limit: int | None = None) -> tuple[bytes, FileVersion]:
    """A file's whole content, and which version of the file that is.

    Args:
      uri: The file.
      limit: If given, how many bytes it may have.

    Raises:
      OSError: it cannot be read, or is larger than it may be; FileNotFoundError: it is not there.
    """
    if not is_local(uri):
        return objects.get(uri, limit)
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
      OSError: it is not there, or cannot be read; SizeMismatch: it ends before; VersionMismatch: it has another ETag.
    """
    view = view_range(uri, begin, end, etag)
    whole = view.obj
    return whole if isinstance(whole, bytes) and len(whole) == len(view) else bytes(view)


def view_range(uri: str, begin: int, end: int, etag: str = "") -> memoryview:
    """As `read_range`, without a copy of what a store answered."""
    if begin == end:
        return memoryview(b"")
    if is_local(uri):
        with open_read(uri) as file:
            file.seek(begin)
            content = memoryview(file.read(end - begin))
    else:
        content = objects.get_range(uri, begin, end, etag)
    if len(content) != end - begin:
        raise SizeMismatch(
            f"{uri}: expected the bytes {begin} to {end}, found {len(content)} of them; the file was cut"
        )
    return content


def exists(uri: str) -> bool:
    """Whether there is a file or a folder at `uri`."""
    return os.path.exists(uri) if is_local(uri) else objects.exists(uri)


def size(uri: str) -> int:
    """A file's bytes.

    Raises:
      OSError: it is not there, or is no regular file.
    """
    if not is_local(uri):
        return objects.head(uri).size
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
    return objects.head(uri)


def map_files(function: Callable[[A], T], uris: Iterable[A], calls: int = _CALLS) -> Iterator[T]:
    """What a function says of each file, in order; some are looked at side by side.

    Args:
      function: Takes a URI, or whatever stands for a file, in any thread.
      uris: The files.
      calls: How many at a time; up to four times as many results wait to be taken.

    Raises:
      OSError: what the function raised for the first of them that it failed for.
    """
    pending: collections.deque[Future[T]] = collections.deque()
    pool = ThreadPoolExecutor(calls)
    try:
        for uri in uris:
            pending.append(pool.submit(function, uri))
            if len(pending) >= 4 * calls:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def calls_for(largest: int) -> int:
    """How many files at a time `map_files` may read whole, so that what waits to be taken stays within some memory.

    Args:
      largest: The bytes that the largest of them takes.
    """
    return max(1, min(_CALLS, _WAITING // (4 * max(1, largest))))


@contextlib.contextmanager
def create(uri: str) -> Iterator[IO[bytes]]:
    """Opens a new file for writing; it appears under its name, synced, when the block ends without an error."""
    if not is_local(uri):
        with objects.create(uri) as remote:
            yield remote
        return
    folder = os.path.dirname(uri) or os.curdir
    os.makedirs(folder, exist_ok=True)
    temporary = f"{uri}.{uuid.uuid4().hex}.tmp"
    try:
        with SyncedFile(temporary) as file:
            yield file
            file.sync()
        os.replace(temporary, uri)
        sync_folder(folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def link_or_copy(source: str, target: str, length: int) -> None:
    """Gives a file's content another name, mostly without a byte of it going through this machine.

    On a local disk the file gets a hard link, or is copied where the file system has none; a store copies objects
    itself. Whoever replaces a file, as `create` does, leaves its other names alone.

    Args:
      source: The file.
      target: The new name, in the same store; what is there is replaced.
      length: The file's bytes.

    Raises:
      OSError: it is not there, or cannot be copied; SizeMismatch: it has another length, on a local disk.
    """
    if not is_local(source):
        objects.copy(source, target, length)
        return
    if (found := size(source)) != length:
        raise SizeMismatch(f"{source}: expected {length} bytes, found {found}; the file was changed")
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    temporary = f"{target}.{uuid.uuid4().hex}.tmp"
    try:
        os.link(os.path.realpath(source), temporary)
        os.replace(temporary, target)
        sync_folder(folder)
    except OSError as error:
        if error.errno not in _UNLINKED:
            raise
        with open_read(source) as content, create(target) as file:
            shutil.copyfileobj(content, file, _BLOCK)
    finally:
        with contextlib.suppress(FileNotFoundError):  # it stays where both names are of one file already
            os.unlink(temporary)


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
    return objects.put_if(uri, content, None)


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
    return objects.put_if(uri, content, version)


def probe_conditions(folder: str) -> bool:
    """Whether `create_exclusive` and `replace_exactly` can be relied on in a folder; writes there, and cleans up.

    Raises:
      OSError: it cannot be written to.
    """
    return is_local(folder) or objects.keeps_conditions(folder)


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


def is_leftover(name: str) -> bool:
    """Whether a killed run may have left a file of this name in a dataset: a temporary one, or a probe of its store."""
    return is_temporary(name) or name.startswith(objects.PROBE)


def remove_temporaries(folder: str) -> None:
    """Removes what killed runs left behind below a local folder."""
    for info in list_folder(folder) if is_local(folder) else []:
        if is_temporary(os.path.basename(info.uri)):
            remove(info.uri)


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a whole file, or nothing."""
    if is_local(uri):
        with create(uri) as file:
            file.write(content)
    else:
        objects.put(uri, content)


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
        objects.remove_objects([uri])
        objects.remove_objects(info.uri for info in list_folder(uri))
    elif os.path.isdir(uri) and not os.path.islink(uri):
        shutil.rmtree(uri)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(uri)


def remove_files(uris: Iterable[str], check: Callable[[], None] | None = None) -> None:
    """Removes files, and no folders, if they are there; of one store many by one request.

    Args:
      uris: The files.
      check: Called before each try of a request to a store; raises OSError where nothing may be removed any more.

    Raises:
      OSError: some could not be removed.
    """
    remote = []
    for uri in uris:
        if is_local(uri):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(uri)
        else:
            remote.append(uri)
    objects.remove_objects(remote, check)


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
    return objects.names(uri)


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
