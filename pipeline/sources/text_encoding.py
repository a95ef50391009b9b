"""Encodings of text: which can be cut into rows as they are, and a stream that makes UTF-8 of the others."""

import codecs
import contextlib

from ..errors import RequestError
from .file_content import Stream, read_fully

_BLOCK = 1 << 16


def is_utf8(encoding: str) -> bool:
    """Whether text in it is UTF-8."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def is_sliceable(encoding: str) -> bool:
    """Whether a byte below 128 is always the ASCII character, so that rows can be told without decoding."""
    if is_utf8(encoding):
        return True
    try:
        every = bytes(range(256)).decode(encoding, "replace")
    except (UnicodeError, LookupError):
        return False
    return len(every) == 256 and every[:128] == bytes(range(128)).decode("ascii")


def to_utf8(data: bytes, encoding: str) -> bytes:
    """Text in an encoding that is sliceable as UTF-8; bytes that it does not know stay as they are, to be found."""
    if is_utf8(encoding) or data.isascii():
        return data
    return data.decode(encoding, "surrogateescape").encode("utf-8", "surrogateescape")


class Utf8Stream:
    """A file's text as UTF-8, decoded as it is read.

    A byte that does not fit costs its row; in UTF-16 and UTF-32, where it could shift all that follow, the file.
    """

    def __init__(self, file: Stream, encoding: str, uri: str) -> None:
        """Reads nothing yet.

        Args:
          file: What to decode.
          encoding: As Python names it.
          uri: The file's, for messages.
        """
        self._file, self._encoding, self._uri = file, encoding, uri
        errors = "strict" if codecs.lookup(encoding).name.startswith("utf") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._ready = b""
        self._place = self._lines = 0
        self._at_end = self._after_return = False

    def read(self, count: int) -> bytes:
        """The next bytes; fewer than `count` at the end alone.

        Raises:
          RequestError: they are not in the encoding.
        """
        while len(self._ready) < count and not self._at_end:
            data = read_fully(self._file, max(count, _BLOCK))
            self._at_end = len(data) < max(count, _BLOCK)
            pending = len(self._decoder.getstate()[0])
            try:
                text = self._decoder.decode(data, self._at_end)
            except UnicodeError as error:
                where = ""
                if isinstance(error, UnicodeDecodeError):
                    with contextlib.suppress(UnicodeError):  # UTF-16 without the mark that it begins with
                        self._count_lines(self._decoder.decode(data[: max(0, error.start - pending)]))
                    where = f", line {1 + self._lines}, byte {self._place - pending + error.start}"
                raise RequestError(
                    f"{self._uri}{where}: expected text in {self._encoding}, found: {error}; fix it, or declare "
                    "another encoding"
                ) from error
            self._place += len(data)
            self._count_lines(text)
            self._ready += text.encode("utf-8", "surrogateescape")
        ready, self._ready = self._ready[:count], self._ready[count:]
        return ready

    def position(self) -> int:
        """About how many of the file's own bytes were read."""
        return self._file.position()

    def _count_lines(self, text: str) -> None:
        self._lines += text.count("\n") + text.count("\r") - text.count("\r\n")
        if text:
            self._lines -= self._after_return and text[0] == "\n"
            self._after_return = text[-1] == "\r"
