"""How far the units are: each worker tells it in one small file of its own, and a look reads those that are new.

Engines that keep counters tell it, too.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import astuple, dataclass

from ..storage import files

NAMESPACE = "penstock"  # of the counters that workers keep by Beam's metrics
_INTERVAL, _STORE_INTERVAL = 0.5, 10.0  # seconds between two writes, to a local disk and to a store
_SHARE = 20  # so many times as long as a write takes there is none


@dataclass(frozen=True)
class Progress:
    """How far units are.

    Attributes:
      read: How many examples were taken in hand.
      quarantined: How many of them are quarantined.
      written: How many are in shards of finished units.
      bytes: The bytes of these shards.
    """

    read: int = 0
    quarantined: int = 0
    written: int = 0
    bytes: int = 0

    @classmethod
    def of_counters(cls, counters: Mapping[str, int]) -> "Progress | None":
        """What an engine has counted of Penstock's counters; None where it does not tell."""
        if "read" not in counters:
            return None
        quarantined = sum(count for name, count in counters.items() if name.startswith("quarantined/"))
        return cls(counters["read"], quarantined, counters.get("written", 0), counters.get("bytes", 0))

    def furthest(self, other: "Progress") -> "Progress":
        """The larger of each figure: two attempts at a unit count once."""
        return Progress(*map(max, astuple(self), astuple(other)))

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def interval(folder: str) -> float:
    """Seconds between two writes to a progress folder, and between two looks at it."""
    return _INTERVAL if files.is_local(folder) else _STORE_INTERVAL


class ProgressWriter:
    """Tells how far a worker's units are. Two attempts at one unit are in different files."""

    def __init__(self, folder: str | None) -> None:
        """Opens nothing.

        Args:
          folder: Where the file is to be, in the place that the launcher looks into; None: nobody looks.
        """
        self._folder = folder
        self._uri = files.join(folder or "", f"{uuid.uuid4().hex}.json")
        self._units: dict[int, Progress] = {}
        self._next = 0.0
        self._is_new = False  # what was told since the last write

    def tell(self, unit: int, progress: Progress) -> None:
        """A unit is so far by now."""
        self._units[unit] = self._units.get(unit, progress).furthest(progress)
        self._is_new = True
        if time.monotonic() >= self._next:
            self.flush()

    def end_bundle(self) -> None:
        """Writes what was told where that costs no request."""
        if self._folder and files.is_local(self._folder):
            self.flush()

    def flush(self) -> None:
        """Writes what was told, unless it is written. A run goes on where that fails."""
        start = time.monotonic()
        if self._folder and self._is_new:
            content = json.dumps({unit: astuple(progress) for unit, progress in self._units.items()}).encode()
            with contextlib.suppress(OSError):
                files.write_bytes(self._uri, content)
            self._next = time.monotonic() + max(interval(self._folder), _SHARE * (time.monotonic() - start))
        self._is_new = False


class ProgressReader:
    """Looks at a progress folder: by one listing, and a request for each file that changed since the last look."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[object, dict[int, Progress]]] = {}

    def look(self) -> Progress:
        """How far all workers together are.

        Raises:
          OSError: the folder cannot be read.
        """
        versions = {info.uri: (info.etag, info.modified, info.size) for info in files.list_folder(self._folder)}
        changed = [uri for uri, version in versions.items() if uri not in self._seen or self._seen[uri][0] != version]
        for uri, content in zip(changed, files.map_files(files.read_bytes, changed), strict=True):
            told = {int(unit): Progress(*figures) for unit, figures in json.loads(content).items()}
            self._seen[uri] = versions[uri], told
        units: dict[int, Progress] = {}
        for _, told in self._seen.values():
            for unit, progress in told.items():
                units[unit] = progress.furthest(units.get(unit, Progress()))
        return sum(units.values(), Progress())
