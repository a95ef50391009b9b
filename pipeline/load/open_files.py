"""Files that are open, for all that read a dataset: only so many at a time."""

import contextlib
import errno
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from .locks import ProcessLock

Result = TypeVar("Result")
KEPT_BYTES = 1 << 30  # of files that are in memory as a whole
_FILES = 256  # that are open at most


def open_limit() -> int:
    """How many files a dataset may have open: an eighth of what the process may, since others want some, too."""
    try:
        import resource
    except ImportError:  # not on Windows
        return _FILES // 2
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES if soft == resource.RLIM_INFINITY else max(4, min(_FILES, soft // 8))


class OpenFiles:
    """Files that are open; those used longest ago are let go, beyond what may be open.

    A file that is let go is closed when nobody reads it any more: who got it has a reference. It pickles empty.

    Args:
      limit: How many may be open; None: as `open_limit` says.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = open_limit() if limit is None else limit
        self._lock = ProcessLock()
        self._files: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenFiles, ()

    def __len__(self) -> int:
        return len(self._files)

    def find(self, key: Hashable) -> Any | None:
        """A file that is open; None where it is not."""
        entry = self._files.get(key)
        if entry is None:
            return None
        if entry[1] or len(self._files) >= self._limit:  # else the order of use decides nothing
            with self._lock, contextlib.suppress(KeyError):  # another thread may have let it go
                self._files.move_to_end(key)
        return entry[0]

    def open(self, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        """Opens a file.

        Args:
          key: Its name here.
          make: Opens it; gives it, and how many bytes of it are in memory.

        Raises:
          OSError: as `make` does; where the process has no descriptor left, after all others were let go.
        """
        file, size = self.have_room(make)
        with self._lock:
            self._files[key] = file, size
            self._let_some_go()
        return file

    def have_room(self, call: Callable[[], Result]) -> Result:
        """What a call returns that opens files; where the process has no descriptor left, all others are let go.

        Raises:
          OSError: as the call does.
        """
        try:
            return call()
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            with self._lock:
                self._files.clear()
            return call()

    def _let_some_go(self) -> None:
        while len(self._files) > self._limit:
            self._files.popitem(last=False)
        in_memory = [(key, size) for key, (_, size) in self._files.items() if size]
        total = sum(size for _, size in in_memory)
        for key, size in in_memory[:-1]:
            if total <= KEPT_BYTES:
                return
            total -= size
            del self._files[key]
