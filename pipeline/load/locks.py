"""A lock that a forked process finds open."""

import os
import threading


class ProcessLock:
    """A lock among a process's threads.

    A process that is forked while a thread of its parent has a lock would wait for that thread for ever: it has no such
    thread. So each process has a lock of its own.
    """

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    def __enter__(self) -> None:
        process = os.getpid()
        lock = self._locks.get(process)
        if lock is None:
            lock = self._locks.setdefault(process, threading.Lock())  # the same for all threads
        lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._locks[os.getpid()].release()
