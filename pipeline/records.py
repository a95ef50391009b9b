"""TFRecord files: TensorFlow's framing of records, with checksums.

Format (tensorflow/core/lib/io/record_writer.h): a record is its length (uint64), the masked CRC-32C of the length
(uint32), the bytes, and the masked CRC-32C of the bytes (uint32), all little-endian.
"""

import gzip
import hashlib
import struct
from collections.abc import Iterator
from typing import IO

import google_crc32c

from . import files
from .errors import DatasetError

_MASK_DELTA = 0xA282EAD8


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

    def append(self, record: bytes) -> None:
        """Writes one record."""
        length = struct.pack("<Q", len(record))
        header = length + struct.pack("<I", _masked_crc(length))
        framed = b"".join((header, record, struct.pack("<I", _masked_crc(record))))
        if self._gzip:
            self._gzip.write(framed)
        else:
            self.write(framed)
        self.offsets.append(self.offsets[-1] + len(framed))

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
