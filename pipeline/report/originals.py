"""The raw data that a dataset was made from, as far as it can still be read: to look at, never needed."""

import contextlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from ..errors import PenstockError
from ..storage import files
from ..storage.child_process import ChildProcess
from . import thumbnails
from .pictures import data_uri

_BYTES = 32 << 20  # of a file that is looked at
_SECONDS = 3.0  # that a decoder may take for one of them
_ENDED = 5  # decoders that may die or hang before no more is decoded
_TEXT = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".data", ".test")
_ROW = 400  # characters of a row that are shown


@dataclass(frozen=True)
class Original:
    """A raw image.

    Attributes:
      uri: A thumbnail, as a data URI.
      shown: Its width and height.
      size: The image's own width and height.
      format: Its format, as Pillow calls it.
    """

    uri: str
    shown: tuple[int, int]
    size: tuple[int, int]
    format: str


class Originals:
    """Reads raw files; a context, which ends the process that decodes them.

    Args:
      root: The folder that keys are relative to.
      allowed: Whether anything is read at all.
    """

    def __init__(self, root: str, allowed: bool) -> None:
        self.root = root.rstrip("/")
        self.allowed = allowed
        self._decoder: ChildProcess | None = None
        self._left = _ENDED
        self._known: dict[str, Original | None] = {}

    def __enter__(self) -> "Originals":
        return self

    def __exit__(self, *_: object) -> None:
        if self._decoder and self._decoder.alive:
            self._decoder.kill()

    def image(self, uri: str) -> Original | None:
        """A raw image, by its URI or its key; None where it can't be read, or is none that can be decoded."""
        if not self.allowed or not self._left:
            return None
        path = uri if self._is_inside(uri) else f"{self.root}/{uri}"
        if path not in self._known:
            self._known[path] = self._read_image(path)
        return self._known[path]

    def _is_inside(self, uri: str) -> bool:
        """Whether a URI lies in the input: a dataset of unknown origin shows nothing of elsewhere."""
        return uri.startswith(f"{self.root}/") and ".." not in uri.split("/")

    def _read_image(self, path: str) -> Original | None:
        if not self._is_inside(path):
            return None
        try:
            answer = self._decode(files.read_bytes(path, _BYTES))
        except (OSError, PenstockError, EOFError, TimeoutError):
            return None
        about, _, content = answer.partition(b"\n")
        if not about:
            return None
        described = json.loads(about)
        with Image.open(io.BytesIO(content)) as shown:
            width, height = described["size"]
            return Original(data_uri("image/jpeg", content), shown.size, (width, height), described["format"])

    def _decode(self, content: bytes) -> bytes:
        """What the process that decodes says; one that ends with a file is replaced for the next, a few times."""
        if self._decoder is None or not self._decoder.alive:
            self._decoder = ChildProcess(thumbnails.MODULE)
        try:
            self._decoder.send(content)
            return bytes(self._decoder.receive(_SECONDS))
        except (EOFError, TimeoutError):
            self._left -= 1
            raise

    def rows(self, lines: Iterable[tuple[str, str, int]]) -> dict[str, str]:
        """Lines of local text files: key to text.

        Args:
          lines: A key, the URI of its file, and the number of its line, from 1.
        """
        by_file: dict[str, dict[int, str]] = {}
        for key, uri, number in lines:
            if self.allowed and self._is_inside(uri) and uri.endswith(_TEXT) and files.is_local(uri):
                by_file.setdefault(uri, {})[number] = key
        rows: dict[str, str] = {}
        for uri, keys in by_file.items():
            with contextlib.suppress(OSError, PenstockError):
                rows |= _rows_of(files.read_bytes(uri, _BYTES), keys)
        return rows


def _rows_of(content: bytes, lines: dict[int, str]) -> dict[str, str]:
    """Of a file's lines, numbered from 1, those that are asked for by number: key to text."""
    split = content.split(b"\n", max(lines))
    return {
        key: split[number - 1].decode(errors="replace").strip()[:_ROW]
        for number, key in lines.items()
        if 0 < number <= len(split)
    }
