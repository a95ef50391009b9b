"""Records that were fetched ahead, for those who read a batch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import google_crc32c
import numpy as np

from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE, mask_crc
from .ahead import Part
from .records import READ_ERRORS, Damage, ShardRecords
from .shard_files import Bytes, copy_to

_NEAR = 4  # times the bytes of records that are copied with what lies between them


class StagedRecords:
    """Records of a part: read as `ShardRecords` are.

    One that is damaged is read again from its shard, as what a cache has of it may be damaged.

    Args:
      records: All records of the split.
      part: The part.
    """

    def __init__(self, records: ShardRecords, part: Part) -> None:
        self._records = records
        self._part = part

    def __getitem__(self, number: int) -> bytes:
        """A record's bytes, checked; errors as for `ShardRecords`."""
        records, damage = self.read([number])
        if damage:
            raise damage[0]
        return records[0]

    def read(self, numbers: Sequence[int]) -> tuple[list[bytes], Damage]:
        """See `ShardRecords.read`."""
        records, damage, footers = [b""] * len(numbers), Damage(), [0] * len(numbers)
        for position, (content, start, stop) in enumerate(self._frames(numbers, damage)):
            if position not in damage:
                records[position] = bytes(content[start + HEADER_SIZE : stop - FOOTER_SIZE])
                footers[position] = int.from_bytes(content[stop - FOOTER_SIZE : stop], "little")
        crcs = np.fromiter(map(google_crc32c.value, records), np.uint64, len(records))
        damaged = np.flatnonzero(mask_crc(crcs) != np.array(footers, np.uint64)).tolist()
        again = [position for position in damaged if position not in damage]
        if again:
            contents, errors = self._records.read([numbers[position] for position in again])
            for place, position in enumerate(again):
                records[position] = contents[place]
            damage |= {again[place]: error for place, error in errors.items()}
        return records, damage

    def each(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes | Exception]]:
        """See `ShardRecords.each`."""
        records, damage = self.read(numbers)
        return ((position, damage.get(position, record)) for position, record in enumerate(records))

    def read_into(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> Iterator[tuple[int, Exception | None]]:
        """See `ShardRecords.read_into`."""
        damage = Damage()
        frames = self._frames([number for number, _ in jobs], damage)
        for position, (content, start, stop) in enumerate(frames):
            if position not in damage:
                copy_to(memoryview(content)[start + HEADER_SIZE : stop], jobs[position][1])
            yield position, damage.get(position)

    def _frames(self, numbers: Sequence[int], damage: Damage) -> list[tuple[bytes | memoryview, int, int]]:
        """The bytes of some records, and where in them their frames begin and end; notes those that cannot be read.

        Records of one chunk that are near each other are copied together: many are short.
        """
        chunks, starts, stops = self._part.find(np.asarray(numbers))
        contents: dict[int, bytes | memoryview] = {}
        for chunk in np.unique(chunks).tolist():
            try:
                content = contents[chunk] = self._part.content(chunk)
                inside = np.flatnonzero(chunks == chunk)
                first, last = int(starts[inside].min()), int(stops[inside].max())
                if len(inside) > 1 and last - first < _NEAR * (stops[inside] - starts[inside]).sum():
                    contents[chunk] = bytes(content[first:last])
                    starts[inside] -= first
                    stops[inside] -= first
            except (*READ_ERRORS, CancelledError) as error:
                contents[chunk] = b""
                for position in np.flatnonzero(chunks == chunk).tolist():
                    damage[position] = self._records.unread(numbers[position], error)
        of_records = map(contents.__getitem__, chunks.tolist())
        return list(zip(of_records, starts.tolist(), stops.tolist(), strict=True))
