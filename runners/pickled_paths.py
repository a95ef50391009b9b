"""Pickles without paths of this machine: a pipeline that others can read does not tell where it was built."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import PurePath


@contextlib.contextmanager
def without_local_paths() -> Iterator[None]:
    """While it lasts, code that Beam pickles names its files as tracebacks of workers need them, by `imported_name`."""
    from apache_beam.internal.cloudpickle_pickler import DEFAULT_CONFIG

    before = DEFAULT_CONFIG.filepath_interceptor
    DEFAULT_CONFIG.filepath_interceptor = imported_name
    try:
        yield
    finally:
        DEFAULT_CONFIG.filepath_interceptor = before


def imported_name(path: str) -> str:
    """A file's path below the folder it is imported from, such as `apache_beam/transforms/core.py`; else its name."""
    for folder in sorted(filter(os.path.isabs, sys.path), key=len, reverse=True):
        below = path.removeprefix(os.path.join(folder, ""))
        if below != path:
            return below
    return PurePath(path).name
