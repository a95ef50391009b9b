"""Objects of stores: read whole or by ranges, written whole, created and replaced under a condition, removed.

What is not sure to have been done is looked at, never guessed: a read that was cut off goes on where it was, and where
the answer to a conditional write was lost, what stands there is read back.
"""

import contextlib
import os
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, cast

from ..errors import RequestError
from .stores import (
    COUNTS,
    Bucket,
    FileTooLargeError,
    StoreError,
    TryAgain,
    UnreachableError,
    VersionMismatch,
    locate,
    plain_etag,
)

PROBE = "_PROBE-"  # what the names of objects begin with that only try a store
PART = 8 << 20  # bytes of an upload in parts, and of a read ahead
_MOST_PARTS = 9_000  # of an upload; stores take 10,000
_UPLOADS = 4  # parts of one object at a time
_MOST_COPIED = 5 << 30  # bytes that S3 copies by one request
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
    except UnreachableError:
        raise
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
    bucket.call("put", key, lambda: bucket.writer(content).put(key, content, use_multipart=False))


def _put_parts(uri: str, file: IO[bytes], length: int) -> None:
    """Uploads a file in parts; where one fails too often, or the last answer is lost, all of it again."""
    bucket, key = _expect_writable(uri)
    part = max(PART, -(-length // _MOST_PARTS))

    def request() -> None:
        file.seek(0)
        COUNTS.add("put", -(-length // part) + 1)
        bucket.patient.put(key, file, use_multipart=True, chunk_size=part, max_concurrency=_UPLOADS)

    bucket.call("put", key, request)


def copy(source: str, target: str, length: int) -> None:
    """Copies an object; within a bucket the store does it, and only what it cannot copy is read and written.

    Args:
      source: The object.
      target: The URI of the copy; what is there is replaced.
      length: The object's bytes.

    Raises:
      OSError: it is not there, or could not be copied.
    """
    bucket, key = locate(source)
    target_bucket, target_key = _expect_writable(target)
    if bucket == target_bucket and length <= _MOST_COPIED:
        bucket.call("put", key, lambda: bucket.copier.copy(key, target_key))
        return
    with create(target) as file:
        for begin in range(0, length, PART):
            file.write(get_range(source, begin, min(begin + PART, length)))


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
            return _version(bucket.writer(content).put(key, content, mode=mode, use_multipart=False))
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


def remove_objects(uris: Iterable[str], check: Callable[[], None] | None = None) -> None:
    """Removes objects, if they are there; of one bucket many by one request.

    Args:
      uris: The objects.
      check: Called before each try of a request; raises OSError where nothing may be removed any more.

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
        _remove_keys(*bulks[0], check)
    elif bulks:
        with ThreadPoolExecutor(_DELETES_AT_ONCE) as pool:
            deque(pool.map(lambda bulk: _remove_keys(bulk[0], bulk[1], check), bulks), maxlen=0)


def _remove_keys(bucket: Bucket, keys: list[str], check: Callable[[], None] | None) -> None:
    """Removes objects; where a store complains of one that is not there, it does not tell what became of the others."""

    def request() -> None:
        if check:
            check()
        bucket.client.delete(keys if len(keys) > 1 else keys[0])

    if len(keys) == 1:
        with contextlib.suppress(FileNotFoundError):
            bucket.call("delete", keys[0], request)
        return
    if bucket.root.startswith("gs:"):
        COUNTS.add("delete", len(keys) - 1)  # which it removes one by one
    try:
        bucket.call("delete", keys[0], request)
    except FileNotFoundError:
        with ThreadPoolExecutor(_DELETES_AT_ONCE) as pool:
            deque(pool.map(lambda key: _remove_keys(bucket, [key], check), keys), maxlen=0)
