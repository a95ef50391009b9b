"""How far the units are: each worker tells it in one small file of its own, and a look reads as many as there are."""

import json
import time
import uuid

from ..storage import files

_INTERVAL = 0.5  # seconds between two writes
_SHARE = 20  # so many times as long as a write takes there is none


class ProgressWriter:
    """Tells how far a worker's units are. Two attempts at one unit are in different files."""

    def __init__(self, folder: str | None) -> None:
        """Opens nothing.

        Args:
          folder: Where the file is to be, in the place that the launcher looks into; None: nobody looks.
        """
        self._uri = files.join(folder, f"{uuid.uuid4().hex}.json") if folder else None
        self._units: dict[int, tuple[int, int]] = {}
        self._next = 0.0
        self._is_new = False  # what was told since the last write

    def tell(self, unit: int, read: int, quarantined: int) -> None:
        """Of a unit so many examples were taken in hand by now, and so many of them quarantined."""
        self._units[unit] = read, quarantined
        self._is_new = True
        now = time.monotonic()
        if now >= self._next:
            self.flush()
            self._next = time.monotonic() + max(_INTERVAL, _SHARE * (time.monotonic() - now))

    def flush(self) -> None:
        """Writes what was told, unless it is written."""
        if self._uri and self._is_new:
            files.write_bytes(self._uri, json.dumps(self._units).encode())
        self._is_new = False


def read_progress(folder: str) -> tuple[int, int]:
    """How many examples all workers have taken in hand, and how many of them are quarantined; attempts count once.

    Raises:
      OSError: the folder cannot be read.
    """
    units: dict[str, tuple[int, int]] = {}
    for content in files.map_files(files.read_bytes, [info.uri for info in files.list_folder(folder)]):
        for unit, (read, quarantined) in json.loads(content).items():
            units[unit] = max(units.get(unit, (0, 0)), (read, quarantined))
    return sum(read for read, _ in units.values()), sum(quarantined for _, quarantined in units.values())
