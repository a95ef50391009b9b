"""TFRecord files: TensorFlow's framing of records, with checksums.

Format (tensorflow/core/lib/io/record_writer.h): a record is its length (uint64), the masked CRC-32C of the length
(uint32), the bytes, and the masked CRC-32C of the bytes (uint32), all little-endian.
"""

import functools
import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

import google_crc32c

from . import files
from .errors import DatasetError

_MASK_DELTA = 0xA282EAD8


@functools.lru_cache(maxsize=4096)
def _header(length: int) -> bytes:
    """A record's length and its checksum: few lengths make up most of a table."""
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", _masked_crc(packed))


def _masked_crc(content: bytes) -> int:
    crc: int = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


class RecordWriter:
    """Writes records to a file and hashes what it writes.

    Attributes:
      records: How many records were written.
      size: The bytes that went to the file, compressed where asked.
      offsets: Where each record begins in the uncompressed stream, and last where the stream ends.
    """

    def __init__(self, file: IO[bytes], compression: str | None = None) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.offsets = [0]
        # mtime 0 and no name: the same records give the same bytes
        self._gzip = gzip.GzipFile("", "wb", 6, self, mtime=0) if compression == "gzip" else None  # type: ignore[call-overload]

    def append(self, records: Iterable[bytes]) -> None:
        """Writes records, in their order."""
        parts: list[bytes] = []
        crc, pack, position = google_crc32c.value, struct.pack, self.offsets[-1]
        for record in records:
            # inline, for tables: a call for each of a million rows is what costs
            length = len(record)
            header = _header(length)
            value = crc(record)
            parts += (header, record, pack("<I", ((value >> 15 | value << 17) + _MASK_DELTA) & 0xFFFFFFFF))
            position += length + 16
            self.offsets.append(position)
        framed = b"".join(parts)
        if self._gzip:
            self._gzip.write(framed)
        else:
            self.write(framed)

    @property
    def records(self) -> int:
        return len(self.offsets) - 1

    def write(self, content: bytes) -> int:
        """Takes the bytes of the file itself; what the compressor calls."""
        self._sha256.update(content)
        self.size += len(content)
        return self._file.write(content)

    def finish(self) -> str:
        """Ends the file's content; returns its SHA-256 in hexadecimal."""
        if self._gzip:
            self._gzip.close()
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
    while header := file.read(12):
        length, crc = struct.unpack("<QI", header) if len(header) == 12 else (0, -1)
        if _masked_crc(header[:8]) != crc:
            raise DatasetError(f"{uri}: record {position} has a damaged or truncated header; run `penstock verify`")
        content = file.read(length)
        footer = file.read(4)
        if len(footer) != 4 or _masked_crc(content) != struct.unpack("<I", footer)[0]:
            raise DatasetError(f"{uri}: record {position} is damaged or truncated; run `penstock verify`")
        yield content
        position += 1
