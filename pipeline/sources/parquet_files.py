"""What Parquet and ORC files hold: a damaged one costs itself and not this process; see `parquet_child`."""

import atexit
import functools
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from ..errors import RequestError
from ..storage import files
from ..storage.child_process import ChildPool, ChildProcess
from ..storage.files import FileInfo
from . import parquet_child
from .file_content import FileParts, PartReader, read_in_pieces

_MODULE = "penstock.pipeline.sources.parquet_child"
_TIMEOUT = 60.0  # seconds, and one more for each of
_BYTES_A_SECOND = 1 << 20
_SMALL = 4 << 20  # bytes of a file that is fetched whole
_TAIL = 64 << 10  # bytes at a file's end, which Arrow reads for the footer
_MAGIC = 4  # bytes behind the footer's length


class UnreadableError(Exception):
    """A file cannot be read; the message says why."""


def metadata(info: FileInfo) -> tuple[pa.Schema, list[tuple[int, int]]]:
    """A file's columns, and the rows and bytes of each of its row groups; see `parquet_child.metadata`.

    Raises:
      RequestError: a file in a store cannot be read.
      UnreadableError: it is no Parquet file, or it makes the process that reads it crash or hang.
    """
    parts = None if files.is_local(info.uri) else _footer(info.uri, info.size, PartReader(RequestError).read)
    schema, groups = _request(info.uri, 0, parts, "metadata")
    return pa.ipc.read_schema(pa.py_buffer(schema)), groups


def fetch_groups(uri: str, begin: int, end: int, names: Sequence[str], size: int, reader: PartReader) -> FileParts:
    """What `read_groups` takes of a file in a store: its footer, asked for once a file, and the columns' bytes.

    Args:
      uri: The file.
      begin: The first row group.
      end: The one after the last.
      names: The columns.
      size: About their bytes in the file.
      reader: Reads.

    Raises:
      PenstockError: they cannot be read.
      UnreadableError: it is no Parquet file, or it makes the process that reads it crash or hang.
    """
    file_size = reader.size(uri)
    if file_size <= _SMALL:
        return FileParts({0: reader.read(uri, 0, file_size)}, file_size)
    footer = _footer(uri, file_size, reader.keep)
    spans = _request(uri, size, footer, "column_spans", begin, end, list(names))
    return FileParts({**reader.read_all(uri, spans), **footer.contents}, file_size)


def read_groups(
    uri: str, begin: int, end: int, names: Sequence[str], size: int, parts: FileParts | None = None
) -> pa.Table:
    """Some row groups' columns; those of strings of which not all are UTF-8, as bytes.

    Args:
      uri: The file.
      begin: The first row group.
      end: The one after the last.
      names: The columns.
      size: About their bytes in the file.
      parts: What was fetched of a file in a store.

    Raises:
      PenstockError: a file in a store cannot be read.
      UnreadableError: they cannot be read, or make the process that reads them crash or hang.
    """
    if parts is None and not files.is_local(uri):
        parts = fetch_groups(uri, begin, end, names, size, PartReader())
    content = _request(uri, size, parts, "read_groups", begin, end, list(names))
    return pa.ipc.open_stream(pa.py_buffer(content)).read_all()


def orc_metadata(info: FileInfo) -> tuple[pa.Schema, int]:
    """The columns of an ORC file, and how many stripes it has.

    Raises:
      UnreadableError: it is no ORC file, or it makes the process that reads it crash or hang.
    """
    parts = None if files.is_local(info.uri) else FileParts({}, info.size)
    schema, stripes = _request(info.uri, 0, parts, "orc_metadata")
    return pa.ipc.read_schema(pa.py_buffer(schema)), stripes


def read_stripe(uri: str, number: int, names: Sequence[str], size: int) -> pa.Table:
    """A stripe's columns.

    Args:
      uri: The file.
      number: The stripe.
      names: The columns.
      size: About its bytes.

    Raises:
      UnreadableError: it cannot be read, or makes the process that reads it crash or hang.
    """
    parts = None if files.is_local(uri) else FileParts({}, files.size(uri))
    content = _request(uri, size, parts, "read_stripe", number, list(names))
    return pa.ipc.open_stream(pa.py_buffer(content)).read_all()


def _footer(uri: str, file_size: int, read: Callable[[str, int, int], bytes]) -> FileParts:
    """The end of a file in a store: all of its footer, by one request where it is not long."""
    begin = max(0, file_size - _TAIL)
    tail = read(uri, begin, file_size)
    length = int.from_bytes(tail[-_MAGIC - 4 : -_MAGIC], "little") + 4 + _MAGIC
    if len(tail) < length <= file_size:  # else the process that reads it says what is wrong
        begin = file_size - length
        tail = read(uri, begin, file_size)
    return FileParts({begin: tail}, file_size)


def _request(uri: str, size: int, parts: FileParts | None, name: str, *arguments: Any) -> Any:
    """What a function of `parquet_child` gives for a local file, or for one of which parts were fetched."""
    timeout = _TIMEOUT + size / _BYTES_A_SECOND
    child: ChildProcess | None = None
    try:
        path = None if parts else _local_path(uri)
        with _children(os.getpid()).child() as child:
            child.send(pickle.dumps((name, path, parts.file_size if parts else 0, arguments)))
            kind, content = _answer(child, uri, parts, timeout)
    except TimeoutError as error:
        raise UnreadableError(f"no answer within {timeout:.0f} s of the process that reads it") from error
    except EOFError as error:
        assert child is not None  # one that cannot start raises another error
        raise UnreadableError(f"the process that reads it {child.epitaph()}") from error
    except OSError as error:
        raise UnreadableError(str(error)) from error
    if kind == parquet_child.FAILED:
        raise UnreadableError(content)
    return content


def _local_path(uri: str) -> str:
    """A local file's absolute path: this process may change its folder.

    Raises:
      OSError: it cannot be opened, or is no regular file, for which the other process would wait.
    """
    with files.open_read(uri):
        return os.path.abspath(uri)


def _answer(child: ChildProcess, uri: str, parts: FileParts | None, timeout: float) -> tuple[str, Any]:
    """The child's answer; until it comes, the child is given what it asks for of the file."""
    while True:
        kind, content = pickle.loads(child.receive(timeout))
        if kind != parquet_child.READ:
            return kind, content
        assert parts is not None  # it opens local files itself
        place, count = content
        fetched = parts.read(place, count)
        if len(fetched) < count:
            fetched += read_in_pieces(uri, place + len(fetched), place + count)
        child.send(fetched)


@functools.cache
def _children(process: int) -> ChildPool:
    """The processes that read for this one; a copy of it, made by a fork, has others."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ChildPool(functools.partial(ChildProcess, _MODULE), count)
    atexit.register(pool.close)
    return pool
