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
from itertools import islice
from typing import IO

import google_crc32c
import numpy as np

from ..errors import DatasetError
from ..storage import files

_MASK_DELTA = 0xA282EAD8
_BATCH = 4096  # records that are framed at a time


@functools.lru_cache(maxsize=4096)
def _header(length: int) -> bytes:
    """A record's length and its checksum: few lengths make up most of a table."""
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", _masked_crc(packed))


def _masked_crc(content: bytes) -> int:
    crc: int = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _frame(records: list[bytes], offsets: list[int]) -> list[bytes]:
    """Header, content and footer of each record, and its end at the end of `offsets`: by batches, for tables' sake."""
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    crcs = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
    masked = (crcs >> np.uint32(15) | crcs << np.uint32(17)) + np.uint32(_MASK_DELTA)
    offsets += (offsets[-1] + np.cumsum(lengths + 16)).tolist()
    parts = [b""] * (3 * len(records))
    parts[0::3] = map(_header, lengths.tolist())
    parts[1::3] = records
    parts[2::3] = masked.astype("<u4").view("V4").tolist()
    return parts


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
        ahead = iter(records)
        while batch := list(islice(ahead, _BATCH)):
            framed = b"".join(_frame(batch, self.offsets))
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
