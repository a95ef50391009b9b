"""Locks on local folders, between processes; the kernel frees them when a process dies."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

_PAUSE = 0.05  # seconds between two tries


@contextlib.contextmanager
def locked_folder(path: str, patience: float | None = None) -> Iterator[bool]:
    """Holds the lock of a folder while the block runs.

    Args:
      path: The folder, which must be there.
      patience: Seconds to wait for another process that holds it; None: for ever.

    Yields:
      Whether it is held; not if another process still has it.

    Raises:
      OSError: there is no such folder.
    """
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            held = _acquire(descriptor, deadline)
            if held and not _is_same(descriptor, path):
                continue  # renamed or removed while it was waited for: that lock is of no use
            yield held
            return
        finally:
            os.close(descriptor)


def _acquire(descriptor: int, deadline: float | None) -> bool:
    """Takes the lock; whether it was got before the deadline."""
    if deadline is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE)


def _is_same(descriptor: int, path: str) -> bool:
    """Whether an open folder is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
