"""A lock that a forked process finds open."""

import os
import threading


class ProcessLock:
    """A lock among a process's threads.

    A process that is forked while a thread of its parent holds a lock would wait for that thread for ever: it has no
    such thread. It begins with a lock of its own.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self._begin()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
