"""Which attempts at units began and never ended: of an example that kills its worker, nothing else can tell.

An attempt leaves a mark before it begins, one small file a unit, which says which process it is in. Who finds another
process's mark, and no journal, cannot know whether that process died of the unit, was killed with its machine, or is
still at it. So it takes the unit for suspect, and prepares its examples in child processes: those that kill one are
quarantined, all others come out the same. A suspicion that is wrong costs time, and nothing else.

Each death that is found is written down; the end of an earlier run, which takes all its workers with it, is one. After
some in one generation every unit begins so, lest as many bad files as there are units cost as many deaths: an engine
allows a job a few.
"""

import contextlib
import hashlib
from collections.abc import Iterator

from ..formats import paths
from ..storage import files
from ..storage.leases import Owner
from .journal import FinishedUnits

_DEATHS = 2  # from which on no unit is trusted


class Attempts:
    """A worker's attempts at units."""

    def __init__(self, root: str, run: str, before: FinishedUnits) -> None:
        """Asks for nothing.

        Args:
          root: The generation's URI.
          run: The run's id.
          before: What there was of the generation when the worker began.
        """
        self._root = root
        self._owner = Owner.this_process(run)
        self._before = before
        self._deaths = set(before.names(paths.DEATHS))

    @contextlib.contextmanager
    def begin(self, mark: str) -> Iterator[bool]:
        """An attempt at a unit, while the block runs: gives whether its examples may kill this process.

        Args:
          mark: The path of the attempt's mark.

        Raises:
          OSError: the mark cannot be read or written.
        """
        is_suspect = self._leave_mark(files.join(self._root, mark))
        with self.go_on(mark):
            yield is_suspect or len(self._deaths) >= _DEATHS

    @contextlib.contextmanager
    def go_on(self, mark: str) -> Iterator[None]:
        """A further part of an attempt, in any thread, after the block in which it began."""
        try:
            yield
        except BaseException:  # the process lives, whatever the attempt came to
            with contextlib.suppress(OSError):
                files.remove_files([files.join(self._root, mark)])
            raise

    def _leave_mark(self, uri: str) -> bool:
        """Leaves an attempt's mark; whether another process has left one that tells of its death, or of its work."""
        if not self._before.has_file(uri[len(self._root.rstrip("/")) + 1 :]):  # a store may ignore the condition
            with contextlib.suppress(FileExistsError):
                files.create_exclusive(uri, self._owner.encode())
                return False
        try:
            content = files.read_bytes(uri)
        except FileNotFoundError:
            content = self._owner.encode()  # the other attempt has failed in words
        other = Owner.decode(content)
        files.write_bytes(uri, self._owner.encode())
        if other and other.process_id() == self._owner.process_id():
            return False
        death = hashlib.sha256(self._what_died(other) if other else content).hexdigest()[:32]
        if death not in self._deaths:
            self._deaths.add(death)
            files.write_bytes(files.join(self._root, paths.DEATHS, death), content)
        return True

    def _what_died(self, other: Owner) -> bytes:
        """What ended with another attempt: its process; or all of its run, the end of which took many with it."""
        return (other.process_id() if other.run == self._owner.run else other.run).encode()
