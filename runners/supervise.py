"""Runs a command that ends with the process that started it, however that one ends, and leaves no process behind.

A job server or a worker whose parent is killed would live on: Beam's boot even starts Python again and again.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

_LOOK = 0.5  # seconds between two looks at the parent
_GRACE = 5.0  # seconds that a command may take to end when it is told to
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def supervise(command: Sequence[str], folder: str | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Runs a command in a session of its own until it ends, this process is told to end, or its parent is gone.

    Must be called in the main thread: it handles signals, and on Linux a command ends with the thread that started it.

    Args:
      command: A program and its arguments.
      folder: Its working directory; None: this process's.
      environment: Its environment; None: this process's.

    Returns:
      The command's exit code; 1 where the parent is gone, 128 + a signal's number where one ended it.
    """
    parent = os.getppid()
    for number in _ENDS:
        signal.signal(number, _raise)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    try:
        while os.getppid() == parent:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_LOOK)
                return code if code >= 0 else 128 - code
        return 1
    except _Ended as error:
        return 128 + error.number
    finally:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)  # what is under way is what they ask for
        _end_session(process)


class _Ended(BaseException):
    """A signal told this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise(number: int, _: object) -> NoReturn:
    raise _Ended(number)


def _end_with_parent() -> None:
    """Has the kernel end the command where this process is killed and cannot."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end_session(process: "subprocess.Popen[bytes]") -> None:
    """Ends a command and all that it started, groups of their own among them: first politely, then not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    for politely in (True, False):
        deadline = time.monotonic() + _GRACE
        while (left := _session(process)) and time.monotonic() < deadline:
            for pid in () if politely else left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def _session(process: "subprocess.Popen[bytes]") -> list[int]:
    """The processes of a command's session that have not ended; the command alone where the system does not tell."""
    pids = [process.pid] if process.poll() is None else []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            state, _, _, session, *_ = file.read().rpartition(b")")[2].split()
            if int(session) == process.pid and state not in (b"Z", b"X"):
                pids.append(int(name))
    return pids


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
