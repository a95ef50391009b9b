"""Prepares examples in child processes: a decoder that hangs or dies takes one example with it, not the run.

A child is `python -m penstock.pipeline.prepare.isolate`. Parent and child exchange pickles, each behind its length
(uint32, little-endian): first what prepares an example, then for every outcome a reference and whether to count its
pixels.
"""

import contextlib
import os
import pickle
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import IO, Any

import cloudpickle

from ..errors import PenstockError
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample
from .outcomes import Outcome

_MEMORY_LIMIT = 8 << 30  # bytes of address space: far above any allowed image, far below a runaway decoder


@contextlib.contextmanager
def pickled_by_value(module: ModuleType | None, picklers: Sequence[Any] = (cloudpickle,)) -> Iterator[None]:
    """While it lasts, pickles hold a recipe's functions themselves: no other process may be able to import its module.

    Args:
      module: The recipe's module; None, and nothing changes, where there is none.
      picklers: Copies of the module `cloudpickle`.
    """
    new = [pickler for pickler in picklers if module and module.__name__ not in pickler.list_registry_pickle_by_value()]
    for pickler in new:
        pickler.register_pickle_by_value(module)
    try:
        yield
    finally:
        for pickler in new:
            pickler.unregister_pickle_by_value(module)


class IsolatedPreparer:
    """Does what a preparer of images does, in child processes that can be killed. May be called from many threads."""

    def __init__(self, prepare: Callable[[Reference, bool], Outcome], processes: int, timeout: float) -> None:
        """Prepares nothing yet: a child starts when it is first needed.

        Args:
          prepare: What each child runs: gives the outcome of an example, its pixels counted or not.
          processes: How many children to keep; as many calls run at a time.
          timeout: Seconds that one example may take.
        """
        self._prepare = cloudpickle.dumps(prepare)
        self._timeout = timeout
        self._children: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        self._count = processes
        for _ in range(processes):
            self._children.put(None)

    def __call__(self, reference: Reference, count: bool = False) -> Outcome:
        """The outcome of one example; a QuarantinedExample where its child hung or died."""
        child = self._children.get()
        try:
            child = child or _Child(self._prepare)
            return child.prepare((reference, count), self._timeout)
        except TimeoutError:
            code, message = "decoder_timeout", f"expected an answer within {self._timeout:g} s, found none"
        except EOFError:
            code, message = "decoder_died", f"the process that decoded it {child.epitaph() if child else 'died'}"
        finally:
            self._children.put(child if child and child.alive else None)
        return QuarantinedExample(reference.key, reference.uri, "decode", code, message)

    def close(self) -> None:
        """Ends the children."""
        for _ in range(self._count):
            if child := self._children.get():
                child.kill()


class _Child:
    def __init__(self, prepare: bytes) -> None:
        command = [sys.executable, "-m", "penstock.pipeline.prepare.isolate"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.alive = True
        try:
            _send(self._stdin, prepare)
            self._receive(time.monotonic() + 60)  # ready: its imports don't count against the first example
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            self.kill()
            raise PenstockError(
                f"--isolate: expected a process for decoding to start, but it {self.epitaph()}; see its words above, "
                "or run without --isolate"
            ) from error

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin
        return self._process.stdin

    def prepare(self, request: tuple[Reference, bool], timeout: float) -> Outcome:
        try:
            _send(self._stdin, pickle.dumps(request))
        except BrokenPipeError as error:
            self.kill()
            raise EOFError from error
        return self._receive(time.monotonic() + timeout)  # type: ignore[no-any-return]

    def _receive(self, deadline: float) -> Any:
        try:
            (length,) = struct.unpack("<I", self._read(4, deadline))
            return pickle.loads(self._read(length, deadline))
        except TimeoutError:
            self.kill()
            raise
        except EOFError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)  # its epitaph tells of its own end, not of ours
            self.kill()
            raise

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout
        descriptor, parts = self._process.stdout.fileno(), bytearray()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(parts) < count:
            if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):  # select() knows only the first 1,024
                raise TimeoutError
            part = os.read(descriptor, count - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def kill(self) -> None:
        self.alive = False
        self._process.kill()
        self._process.wait()  # not communicate(): a process that the child started may hold the pipe open
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close() if pipe else None

    def epitaph(self) -> str:
        code = self._process.returncode
        return f"was ended by {signal.Signals(-code).name}" if code and code < 0 else f"exited with status {code}"


def _send(stream: IO[bytes], content: bytes) -> None:
    stream.write(struct.pack("<I", len(content)) + content)
    stream.flush()


def _serve() -> None:
    """The child: answers each reference with its outcome until its parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a user's function prints must not be taken for an answer

    def receive() -> bytes | None:
        header = sys.stdin.buffer.read(4)
        return sys.stdin.buffer.read(struct.unpack("<I", header)[0]) if len(header) == 4 else None

    prepare = pickle.loads(receive() or b"")
    _send(answers, pickle.dumps(None))
    while content := receive():
        _send(answers, pickle.dumps(prepare(*pickle.loads(content))))


if __name__ == "__main__":
    _serve()
