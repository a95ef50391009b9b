"""What Parquet files hold, read so that a damaged one costs itself and not this process; see `parquet_child`."""

import atexit
import functools
import os
import pickle
from collections.abc import Sequence
from typing import IO, Any

import pyarrow as pa

from ..storage import files
from ..storage.child_process import ChildPool, ChildProcess
from . import parquet_child

_MODULE = "penstock.pipeline.sources.parquet_child"
_TIMEOUT = 60.0  # seconds, and one more for each of
_BYTES_A_SECOND = 1 << 20


class UnreadableError(Exception):
    """A file cannot be read; the message says why."""


def metadata(uri: str) -> tuple[pa.Schema, list[tuple[int, int]]]:
    """A file's columns, and the rows and bytes of each of its row groups; see `parquet_child.metadata`.

    Raises:
      UnreadableError: it is no Parquet file, or it makes the process that reads it crash or hang.
    """
    schema, groups = _request(uri, 0, "metadata")
    return pa.ipc.read_schema(pa.py_buffer(schema)), groups


def read_groups(uri: str, begin: int, end: int, names: Sequence[str], size: int) -> pa.Table:
    """Some row groups' columns; those of strings of which not all are UTF-8, as bytes.

    Args:
      uri: The file.
      begin: The first row group.
      end: The one after the last.
      names: The columns.
      size: About their bytes in the file.

    Raises:
      UnreadableError: they cannot be read, or make the process that reads them crash or hang.
    """
    content = _request(uri, size, "read_groups", begin, end, list(names))
    return pa.ipc.open_stream(pa.py_buffer(content)).read_all()


def _request(uri: str, size: int, name: str, *arguments: Any) -> Any:
    """What a function of `parquet_child` gives for a file."""
    timeout = _TIMEOUT + size / _BYTES_A_SECOND
    child: ChildProcess | None = None
    try:
        with files.open_read(uri) as file, _children(os.getpid()).child() as child:
            path = os.path.abspath(uri) if files.is_local(uri) else None  # this process may change its folder
            child.send(pickle.dumps((name, path, file.seek(0, os.SEEK_END), arguments)))
            kind, content = _answer(child, file, timeout)
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


def _answer(child: ChildProcess, file: IO[bytes], timeout: float) -> tuple[str, Any]:
    """The child's answer; until it comes, the child is given what it asks for of the file."""
    while True:
        kind, content = pickle.loads(child.receive(timeout))
        if kind != parquet_child.READ:
            return kind, content
        place, count = content
        file.seek(place)
        child.send(file.read(count))


@functools.cache
def _children(process: int) -> ChildPool:
    """The processes that read for this one; a copy of it, made by a fork, has others."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ChildPool(functools.partial(ChildProcess, _MODULE), count)
    atexit.register(pool.close)
    return pool
