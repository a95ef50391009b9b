"""A local file that goes to the disk while it is written, so that little is left to wait for when it ends."""

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_AHEAD = 8 << 20  # bytes that are written between two beginnings


class SyncedFile(io.BufferedWriter):
    """A new file: its blocks are synced by a thread beside whoever writes it, those of a short one when it ends."""

    def __init__(self, path: str) -> None:
        """Creates it.

        Raises:
          OSError: it cannot be created, or is there already.
        """
        super().__init__(io.FileIO(path, "xb"))
        self._thread: ThreadPoolExecutor | None = None
        self._syncing: Future[None] | None = None
        self._waiting = 0  # bytes since the last sync was begun

    def write(self, content: "ReadableBuffer", /) -> int:
        """As a file's `write`.

        Raises:
          OSError: these bytes, or some before them, cannot be written.
        """
        count = super().write(content)
        self._waiting += count
        if self._waiting >= _AHEAD and (self._syncing is None or self._syncing.done()):
            self._begin()
        return count

    def _begin(self) -> None:
        if self._syncing:
            self._syncing.result()  # the system tells a failure once
        self._thread = self._thread or ThreadPoolExecutor(1, "sync")
        self._syncing = self._thread.submit(os.fsync, self.fileno())
        self._waiting = 0

    def sync(self) -> None:
        """Waits until all that was written is on the disk.

        Raises:
          OSError: some of it cannot be written.
        """
        self.flush()
        if self._syncing:
            self._syncing.result()
        os.fsync(self.fileno())

    def close(self) -> None:
        """Closes it, once no thread uses it."""
        if self._thread:
            self._thread.shutdown()
        super().close()
