"""Processes of this machine and what descends from them, by Linux's /proc."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def parents() -> dict[int, int]:
    """Each process's parent."""
    pairs = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text()
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                pairs[int(folder.name)] = int(parent)
    return pairs


def descendants(pid: int) -> list[int]:
    """All that a process started, and what those did; not the process itself."""
    children: dict[int, list[int]] = {}
    for child, parent in parents().items():
        children.setdefault(parent, []).append(child)
    below, waiting = [], [pid]
    while waiting:
        started = children.get(waiting.pop(), [])
        below += started
        waiting += started
    return below


def command_line(pid: int) -> str:
    """A process's arguments; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def python_workers(pid: int) -> list[int]:
    """Beam's Python workers that descend from a process."""
    return [child for child in descendants(pid) if "sdk_worker_main" in command_line(child)]


def kill(pid: int) -> None:
    """Kills a process, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def running(pids: Iterable[int]) -> list[int]:
    """Those that have not ended."""
    alive = parents()
    return [pid for pid in pids if pid in alive]


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Waits until something holds.

    Raises:
      TimeoutError: it did not, in so many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"expected within {seconds:g} s: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def ended(pids: Iterable[int]) -> Iterator[None]:
    """Kills processes at the end of a block."""
    try:
        yield
    finally:
        for pid in pids:
            kill(pid)
