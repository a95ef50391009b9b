"""TFRecord files: TensorFlow's framing of records, with checksums. The one owner of the framing.

Format (tensorflow/core/lib/io/record_writer.h): a record is its length (uint64), the masked CRC-32C of the length
(uint32), the bytes, and the masked CRC-32C of the bytes (uint32), all little-endian.
"""

import functools
import gzip
import hashlib
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, TYPE_CHECKING, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..storage import files

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

HEADER_SIZE = 12  # bytes before a record: its length and the length's checksum
FOOTER_SIZE = 4  # bytes after it: its checksum
_BATCH = 4096  # records that are framed at a time
_LARGE = 1 << 20  # bytes that are worth a thread
_BLOCK = 1 << 24  # bytes that are asked for at a time, of a record that says it is longer

Crc = TypeVar("Crc", int, npt.NDArray[np.uint64])


def mask_crc(crc: Crc) -> Crc:
    """What stands in a file for a CRC-32C, so that a checksum of bytes that hold checksums stays a good one.

    Args:
      crc: One, or uint64 [n].
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # type: ignore[return-value]  # NumPy's annotations


def is_intact(content: bytes | memoryview, footer: bytes | memoryview) -> bool:
    """Whether a record's bytes are those that its footer was made of."""
    crc: int = google_crc32c.value(content)
    return mask_crc(crc) == int.from_bytes(footer, "little")


def read_length(header: bytes | memoryview) -> int | None:
    """The length of the record after a header of HEADER_SIZE bytes; None where the header is cut off or damaged."""
    if len(header) != HEADER_SIZE or not is_intact(header[:8], header[8:]):
        return None
    return int.from_bytes(header[:8], "little")


@functools.lru_cache(maxsize=4096)
def header(length: int) -> bytes:
    """A record's length and its checksum; cached, since few lengths make up most of a table."""
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", mask_crc(google_crc32c.value(packed)))


def _frame(records: list[bytes], offsets: "array[int]") -> list[bytes]:
    """Header, content and footer of each record; appends where each record ends to `offsets`.

    Many at a time: the records of a table are short.
    """
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    crcs = np.fromiter(map(google_crc32c.value, records), np.uint64, len(records))
    _add_sizes(offsets, lengths + HEADER_SIZE + FOOTER_SIZE)
    parts = [b""] * (3 * len(records))
    parts[0::3] = map(header, lengths.tolist())
    parts[1::3] = records
    parts[2::3] = mask_crc(crcs).astype("<u4").view("V4").tolist()
    return parts


def _add_sizes(offsets: "array[int]", sizes: npt.NDArray[np.int64]) -> None:
    offsets.frombytes((offsets[-1] + np.cumsum(sizes)).astype(np.uint64).tobytes())


class RecordWriter:
    """Writes records to a file and hashes what it writes.

    Attributes:
      records: How many records were written.
      size: The bytes that went to the file, compressed where asked.
      offsets: Where each record begins in the uncompressed stream, and last where the stream ends: uint64.
    """

    def __init__(self, file: IO[bytes], compression: str | None = None) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._hashing = ThreadPoolExecutor(1, "hash")  # has no thread before it is used
        self.size = 0
        self.offsets = array("Q", [0])
        # mtime 0 and no name: the same records give the same bytes
        self._gzip = gzip.GzipFile("", "wb", 6, self, mtime=0) if compression == "gzip" else None  # type: ignore[call-overload]

    def append(self, records: Iterable[bytes]) -> None:
        """Writes records, in their order."""
        ahead = iter(records)
        while batch := list(islice(ahead, _BATCH)):
            self._write_frames(b"".join(_frame(batch, self.offsets)))

    def append_frames(self, content: "Buffer", sizes: npt.NDArray[np.int64]) -> None:
        """Writes records that have their headers and footers.

        Args:
          content: The frames, one after the other.
          sizes: int64 [records], the bytes of each.
        """
        _add_sizes(self.offsets, sizes)
        self._write_frames(content)

    def _write_frames(self, content: "Buffer") -> None:
        if self._gzip:
            self._gzip.write(content)
        else:
            self.write(content)

    @property
    def records(self) -> int:
        return len(self.offsets) - 1

    def write(self, content: "Buffer") -> int:
        """Takes the bytes of the file itself; what the compressor calls."""
        size = memoryview(content).nbytes
        self.size += size
        if size < _LARGE:
            self._sha256.update(content)
            return self._file.write(content)
        hashed = self._hashing.submit(self._sha256.update, content)  # both release the lock
        count = self._file.write(content)
        hashed.result()
        return count

    def finish(self) -> str:
        """Ends the file's content; returns its SHA-256 in hexadecimal."""
        if self._gzip:
            self._gzip.close()
        self._hashing.shutdown()
        return self._sha256.hexdigest()


def read_records(uri: str) -> Iterator[bytes]:
    """The records of a file, one after the other; a `.gz` file is decompressed.

    Raises:
      DatasetError: a checksum is wrong, or the file ends inside a record.
    """
    with files.open_read(uri) as raw:
        file: IO[bytes] = gzip.GzipFile(fileobj=raw) if uri.endswith(".gz") else raw  # type: ignore[assignment]
        try:
            yield from parse_records(file, uri)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DatasetError(f"{uri}: damaged or truncated: {error}; run `penstock verify`") from error


def parse_records(file: IO[bytes], uri: str) -> Iterator[bytes]:
    """The records from where a file stands to its end.

    Raises:
      DatasetError: a checksum is wrong, or the file ends inside a record; `uri` names it.
    """
    position = 0
    while header := file.read(HEADER_SIZE):
        length = read_length(header)
        if length is None:
            raise DatasetError(f"{uri}: record {position} has a damaged or truncated header; run `penstock verify`")
        content = _read(file, length)
        footer = file.read(FOOTER_SIZE)
        if len(footer) != FOOTER_SIZE or not is_intact(content, footer):
            raise DatasetError(f"{uri}: record {position} is damaged or truncated; run `penstock verify`")
        yield content
        position += 1


def _read(file: IO[bytes], length: int) -> bytes:
    """So many bytes, or as many as there are: a header may promise more than any memory holds."""
    if length <= _BLOCK:
        return file.read(length)
    blocks = []
    while length > 0 and (block := file.read(min(length, _BLOCK))):
        blocks.append(block)
        length -= len(block)
    return b"".join(blocks)
