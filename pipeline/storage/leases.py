"""The exclusive use of a folder, between processes and hosts.

A local folder has the kernel's lock, which ends with the process. On a store it is an object that names its owner and
that the owner writes again every few seconds. Who finds it there watches it: an owner who writes is alive, whatever its
clock says; a lease that did not change for a while, by the watcher's own clock, is taken over.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache

from . import files
from .files import FileVersion, VersionMismatch
from .locks import locked_folder

STALE = 60.0  # seconds without a change after which a lease may be taken over
_BEAT = 10.0  # seconds between two renewals
_POLL = 1.0  # seconds between two looks at another's lease
_BULK = 1000  # objects that are removed between two looks at the lease
_SAFE = 0.75  # of STALE: so long after its last renewal an owner may still act as one


@dataclass(frozen=True)
class Owner:
    """Who has a lease.

    Attributes:
      run: What the owner is at, unlike any other's.
      host: Its host's name.
      machine: Its kernel and process namespace, where they are known: what can tell that its process is gone.
      process: Its process id.
      started: When that process was started, in the kernel's ticks.
      beat: How often the lease was renewed.
      released: Whether it is about to be removed.
    """

    run: str
    host: str
    machine: str
    process: int
    started: int
    beat: int = 0
    released: bool = False

    @classmethod
    def this_process(cls, run: str) -> "Owner":
        """This process, as the owner."""
        return cls(run, os.uname().nodename, _machine(), os.getpid(), _start_time(os.getpid()))

    def encode(self) -> bytes:
        """The lease object's content."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Owner | None":
        """Reads it back; None: it is not what `encode` writes."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def process_id(self) -> str:
        """What tells its process from all others."""
        return f"{self.host} {self.machine} {self.process} {self.started}"

    def is_gone(self) -> bool:
        """Whether it is known that its process has ended: only of processes of this very machine."""
        return bool(self.machine) and self.machine == _machine() and _start_time(self.process) != self.started


@cache
def _machine() -> str:
    """The running kernel and the namespace of this process's id; empty where the system does not tell them."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _start_time(process: int) -> int:
    """When a process of this machine was started; -1 where there is no such process."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return -1


def _now() -> float:
    """Seconds by an owner's clock, which goes on while its machine is suspended where the system has such a one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """A folder's exclusive use, while it lasts."""

    def is_held(self) -> bool:
        """Whether nobody else can have it by now."""
        return True

    def remove(self, folder: str) -> None:
        """Removes a folder of what is held, and all that is in it but the lease itself.

        Raises:
          OSError: not everything could be removed; or the lease was lost meanwhile.
        """
        files.remove(folder)


@contextlib.contextmanager
def leased_folder(
    folder: str, name: str, run: str, patience: float | None = None, stale: float = STALE
) -> Iterator[Lease | None]:
    """Holds the exclusive use of a folder while the block runs.

    Args:
      folder: The folder; a local one is made where there is none.
      name: The lease object's path in it, on a store.
      run: What the caller is at, unlike any other's.
      patience: Seconds to wait for another owner: on a local disk for its end, by default one second; on a store for a
        sign of life, by default as long as it may take.
      stale: Seconds without a change after which a lease is taken over; the same for all who ask for it.

    Yields:
      The lease; None where another still has it.

    Raises:
      OSError: the folder cannot be made, or the store fails.
    """
    if files.is_local(folder):
        with contextlib.ExitStack() as stack:
            locked = None
            while locked is None:
                os.makedirs(folder, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # its last owner removed it before it was locked
                    locked = stack.enter_context(locked_folder(folder, 1.0 if patience is None else patience))
            yield Lease() if locked else None
        return
    lease = _StoreLease.acquire(files.join(folder, name), Owner.this_process(run), patience, stale)
    try:
        yield lease
    finally:
        if lease:
            lease.release()


class _StoreLease(Lease):
    """A lease object, renewed by a thread until it is released or lost."""

    def __init__(self, uri: str, owner: Owner, version: FileVersion, written: float, stale: float) -> None:
        self._uri = uri
        self._owner = owner
        self._version = version
        self._written = written  # when the last renewal was begun
        self._stale = stale
        self._lost = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, uri: str, owner: Owner, patience: float | None, stale: float) -> "_StoreLease | None":
        """Creates the lease, or takes over one whose owner is gone; None where its owner is alive.

        A lease that is about to be removed is waited for as for one that may be stale.
        """
        deadline = time.monotonic() + (2 * stale if patience is None else patience)
        seen: FileVersion | None = None
        since = 0.0
        while True:
            now, written = time.monotonic(), _now()
            with contextlib.suppress(FileExistsError):
                return cls(uri, owner, files.create_exclusive(uri, owner.encode()), written, stale)
            with contextlib.suppress(FileNotFoundError, VersionMismatch):
                content, version = files.read_versioned(uri)
                other = Owner.decode(content)
                if version != seen:
                    if seen is not None and not (other and other.released):
                        return None
                    seen, since = version, now
                if (other and other.is_gone()) or now - since >= stale:
                    return cls(uri, owner, files.replace_exactly(uri, owner.encode(), version), written, stale)
            if now >= deadline:
                return None
            time.sleep(min(_POLL, stale / 4))

    def is_held(self) -> bool:
        return not self._lost and _now() - self._written < _SAFE * self._stale

    def remove(self, folder: str) -> None:
        uris = [info.uri for info in files.list_folder(folder) if info.uri != self._uri]
        for start in range(0, len(uris), _BULK):
            files.remove_files(uris[start : start + _BULK], self._expect_held)

    def _expect_held(self) -> None:
        if not self.is_held():
            raise files.StoreError(f"{self._uri}: expected this process to have the lease, found it lost; run again")

    def release(self) -> None:
        """Gives the lease back: marks it, so that nobody takes over what is then removed."""
        self._end.set()
        self._thread.join()
        if not self.is_held():
            return
        marked, released = _now(), replace(self._owner, released=True).encode()

        def expect_marked() -> None:
            if _now() - marked >= _SAFE * self._stale or files.read_bytes(self._uri) != released:
                raise files.StoreError(f"{self._uri}: expected the lease that was released, found another's")

        with contextlib.suppress(OSError):  # another waits a little longer then
            files.replace_exactly(self._uri, released, self._version)
            files.remove_files([self._uri], expect_marked)

    def _renew(self) -> None:
        while not self._end.wait(min(_BEAT, self._stale / 6)):
            now = _now()
            self._owner = replace(self._owner, beat=self._owner.beat + 1)
            try:
                self._version = files.replace_exactly(self._uri, self._owner.encode(), self._version)
                self._written = now
            except VersionMismatch:
                self._lost = not self._is_ours()
                if self._lost:
                    return
            except OSError:
                pass  # `is_held` tells when it was too long ago

    def _is_ours(self) -> bool:
        """Whether what is there is an earlier renewal, whose answer was lost; the next one replaces it then."""
        try:
            content, version = files.read_versioned(self._uri)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # as far as is known
        there = Owner.decode(content)
        if there is None or replace(there, beat=self._owner.beat) != self._owner:
            return False
        self._version = version
        return True
