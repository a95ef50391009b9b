"""Processes that do for another what may hang or crash. They exchange messages, each behind its length (uint64)."""

import contextlib
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

from ..errors import PenstockError

_LENGTH = struct.Struct("<Q")
START = 60.0  # seconds that a process may take until it is ready: its imports
MEMORY_LIMIT = 8 << 30  # bytes of address space: far above what is needed, far below what a runaway decoder takes


class ChildProcess:
    """A process that runs a module's `serve_parent`, as its parent sees it."""

    def __init__(self, module: str, quiet: bool = True) -> None:
        """Starts it; it is ready when it has sent a first, empty message.

        Args:
          module: The module.
          quiet: Whether what it prints is lost.

        Raises:
          PenstockError: it ended at once, or is not ready after a minute.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
        )
        self.alive = True
        try:
            self.receive(START)
        except (EOFError, TimeoutError) as error:
            raise PenstockError(
                f"expected the process {module} to start, but it {self.epitaph()}; try `{sys.executable} -m {module}`"
            ) from error

    def send(self, message: bytes) -> None:
        """Sends a message.

        Raises:
          EOFError: the process has ended.
        """
        assert self._process.stdin
        try:
            write_message(self._process.stdin, message)
        except BrokenPipeError as error:
            self._end()
            raise EOFError from error

    def receive(self, timeout: float | None) -> bytearray:
        """The next message; whether it comes in time or not at all, the process is not waited for again.

        Args:
          timeout: Seconds to wait for it; None: for ever.

        Raises:
          EOFError: the process has ended.
          TimeoutError: there is none after so many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
            return self._read(length, deadline)
        except TimeoutError:
            self.kill()
            raise
        except EOFError:
            self._end()
            raise

    def _read(self, count: int, deadline: float | None) -> bytearray:
        assert self._process.stdout
        descriptor, content, filled = self._process.stdout.fileno(), bytearray(count), 0
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while filled < count:
            if not poll.poll(None if deadline is None else 1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.readv(descriptor, [memoryview(content)[filled:]])
            if not part:
                raise EOFError
            filled += part
        return content

    def _end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # its epitaph tells of its own end, not of ours
        self.kill()

    def kill(self) -> None:
        """Ends it."""
        self.alive = False
        self._process.kill()
        self._process.wait()  # not communicate(): a process that the child started may hold the pipe open
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close() if pipe else None

    def epitaph(self) -> str:
        """How it ended, in words."""
        return end_in_words(self._process.returncode)


def end_in_words(code: int) -> str:
    """How a process ended whose exit code `subprocess` gives: negative where a signal ended it."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"


class ChildPool:
    """Some processes of one kind, started when they are first needed. May be used from many threads."""

    def __init__(self, start: Callable[[], ChildProcess], count: int) -> None:
        self._start, self._count = start, count
        self._alone = threading.Lock()
        self._children: queue.LifoQueue[ChildProcess | None] = queue.LifoQueue()
        for _ in range(count):
            self._children.put(None)

    @contextlib.contextmanager
    def child(self) -> Iterator[ChildProcess]:
        """A process that nobody else uses while this lasts; it is ended where the block fails.

        Raises:
          PenstockError: it could not be started.
        """
        child = self._children.get()
        try:
            child = child or self._start()
            yield child
        except BaseException:
            if child:
                child.kill()  # it may still wait for an answer, and would take the next request for it
            raise
        finally:
            self._children.put(child if child and child.alive else None)

    @contextlib.contextmanager
    def alone(self) -> Iterator[ChildProcess]:
        """As `child`, while no other process works: if it ends, then not for want of what others had.

        Who has a process may not ask for another one.
        """
        with self._alone, contextlib.ExitStack() as others:
            for _ in range(self._count - 1):
                others.callback(self._children.put, self._children.get())
            yield others.enter_context(self.child())

    def close(self) -> None:
        """Ends the processes that nobody uses."""
        for _ in range(self._count):
            with contextlib.suppress(queue.Empty):
                if child := self._children.get_nowait():
                    child.kill()


def limit_memory() -> None:
    """Lets this process have no more memory than `MEMORY_LIMIT`."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT if most == resource.RLIM_INFINITY else min(MEMORY_LIMIT, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def write_message(stream: IO[bytes], content: bytes) -> None:
    """Sends a message to the other side."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes | None:
    """The other side's next message; None where there will be none."""
    header = stream.read(_LENGTH.size)
    return stream.read(_LENGTH.unpack(header)[0]) if len(header) == _LENGTH.size else None


def serve_parent() -> tuple[IO[bytes], IO[bytes]]:
    """Makes this process a child, the first one to end where memory is short, and says that it is ready.

    Returns:
      Where messages come from, and where answers go; what is printed goes elsewhere.
    """
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    write_message(answers, b"")
    return sys.stdin.buffer, answers
