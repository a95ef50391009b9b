"""A file, or a part of one, that is read here and there: from front to back with jumps, by few requests."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..storage import files
from ..storage.files import FileInfo

LOCAL_BLOCK = 1 << 14
STORE_BLOCK = 4 << 20  # bytes that come in about the time of one answer: to read on costs no more than to ask again


@dataclass
class IndexReader:
    """Reads bytes by their place, and some that follow, which are mostly asked for next.

    Attributes:
      read_at: Gives so many bytes from an offset on.
      begin: Where the part begins in what `read_at` reads.
      size: The part's bytes.
      block: How many bytes to read at least.
    """

    read_at: Callable[[int, int], bytes]
    begin: int
    size: int
    block: int
    _data: bytes = field(default=b"", init=False, repr=False)
    _data_begin: int = field(default=0, init=False, repr=False)

    def read(self, begin: int, length: int) -> bytes:
        """Bytes from an offset in the part on; fewer at its end.

        Raises:
          OSError: they cannot be read.
        """
        end = min(begin + length, self.size)
        if end <= begin:
            return b""
        if begin < self._data_begin or end > self._data_begin + len(self._data):
            count = min(max(end - begin, self.block), self.size - begin)
            self._data, self._data_begin = self.read_at(self.begin + begin, count), begin
        return self._data[begin - self._data_begin : end - self._data_begin]

    def part(self, begin: int, size: int) -> "IndexReader":
        """A part of it, as a file of its own."""
        return IndexReader(self.read_at, self.begin + begin, min(size, self.size - begin), self.block)


def whole_file(info: FileInfo) -> IndexReader:
    """A reader of a whole file, as it was listed; of one in a store that has another ETag by now, nothing is read."""

    def read_at(begin: int, length: int) -> bytes:
        return files.read_range(info.uri, begin, begin + length, info.etag)

    return IndexReader(read_at, 0, info.size, LOCAL_BLOCK if files.is_local(info.uri) else STORE_BLOCK)
