"""Reading, listing and writing files, wherever they are.

Local paths are opened here. From other places, files are read by Arrow's file systems, which are light to import and
take reads from any thread, and listed and written by Beam's.

A write is whole or absent. On a local disk a file is written under a temporary name, synced and renamed; on an object
store an object appears when its upload is complete.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from ..errors import RequestError

_BLOCK = 1 << 20  # bytes
_LITERAL = re.compile(r"[\w./ +=,~-]*")  # paths that nobody takes for a pattern


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A listed file: its URI, bytes, and when it was last changed (seconds since 1970)."""

    uri: str
    size: int
    modified: float


def join(root: str, *parts: str) -> str:
    """Joins path parts with `/`, whatever the store: `join("s3://b/d/", "x", "y") == "s3://b/d/x/y"`."""
    return "/".join([root.rstrip("/") if root != "/" else "", *parts])


def is_local(uri: str) -> bool:
    """Whether `uri` is a path of this machine's file system."""
    return "://" not in uri


def _filesystems() -> Any:
    from apache_beam.io.filesystems import FileSystems  # takes seconds: only for the stores that need it

    return FileSystems


def open_read(uri: str) -> IO[bytes]:
    """Opens a file for reading bytes.

    Raises:
      OSError: it is not there, cannot be read, or is no regular file.
      RequestError: it is no URI of a store that can be read.
    """
    return os.fdopen(open_descriptor(uri), "rb") if is_local(uri) else open_remote(uri)


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


def open_remote(uri: str) -> Any:
    """Opens a file in a store for reading: a pyarrow.NativeFile, which has `read_at` for any thread.

    Raises:
      OSError: it is not there or cannot be read.
    """
    filesystem, path = _arrow_filesystem(uri)
    return filesystem.open_input_file(path)


def _arrow_filesystem(uri: str) -> tuple[Any, str]:
    import pyarrow as pa  # takes a while: only for the stores that need it
    from pyarrow import fs

    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        raise RequestError(f"expected a path, or a URI such as gs:// or s3://, found {uri}: {error}") from error
    return filesystem, path


def _arrow_info(uri: str) -> Any:
    filesystem, path = _arrow_filesystem(uri)
    info = filesystem.get_file_info(path)
    return info if info.type.name != "NotFound" else None


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """The whole content of a file.

    Args:
      uri: The file.
      limit: If given, how many bytes it may have.

    Raises:
      OSError: it is not there, cannot be read, is no regular file, or is larger than it may be.
    """
    with open_read(uri) as file:
        if limit is not None:  # for so many bytes memory is taken before they are read
            size_limit = min(limit, file.seek(0, os.SEEK_END))
            file.seek(0)
        content = file.read() if limit is None else file.read(size_limit + 1)
    if limit is not None and len(content) > limit:
        raise OSError(f"{uri}: expected at most {limit} bytes, found more; remove it")
    return content


def exists(uri: str) -> bool:
    """Whether there is a file or a folder at `uri`."""
    return os.path.exists(uri) if is_local(uri) else _arrow_info(uri) is not None


def size(uri: str) -> int:
    """A file's bytes.

    Raises:
      OSError: it is not there, or is no regular file.
    """
    if is_local(uri):
        status = os.stat(uri)
        _expect_regular(uri, status.st_mode)
        return status.st_size
    info = _arrow_info(uri)
    if info is None or info.size is None:
        raise FileNotFoundError(f"no file at {uri}")
    return int(info.size)


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
    info = _arrow_info(uri)
    if info is None or info.size is None:
        raise FileNotFoundError(f"no file at {uri}")
    return FileInfo(uri, int(info.size), info.mtime.timestamp() if info.mtime else 0.0)


@contextlib.contextmanager
def create(uri: str) -> Iterator[IO[bytes]]:
    """Opens a new file for writing; it appears under its name, synced, when the block ends without an error."""
    if not is_local(uri):
        with _filesystems().create(uri, compression_type="uncompressed") as file:
            yield file
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
        if exists(uri):
            _filesystems().delete([uri])
    elif os.path.isdir(uri) and not os.path.islink(uri):
        shutil.rmtree(uri)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(uri)


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
    """The names of what lies in a local folder, sorted; empty folders are among it."""
    return sorted(os.listdir(uri))


def list_folder(uri: str) -> list[FileInfo]:
    """Every file below a folder, in the order of their URIs; none where there is no such folder."""
    if is_local(uri):
        return sorted(_walk(uri, set()), key=lambda info: info.uri)
    matches = _filesystems().match([join(uri, "**")])[0].metadata_list
    infos = [FileInfo(match.path, match.size_in_bytes, match.last_updated_in_seconds or 0.0) for match in matches]
    return sorted(infos, key=lambda info: info.uri)


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
