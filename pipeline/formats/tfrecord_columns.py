"""The framing of many records at a time, through Arrow, without an object per record; for the format see `tfrecord`."""

import io
import itertools

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .tfrecord import FOOTER_SIZE, HEADER_SIZE, header, mask_crc


def frame(records: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Each record with what stands before and behind it in a file."""
    offsets = _offsets(records)
    lengths = np.diff(offsets)
    content = io.BytesIO(records.buffers()[2])
    content.seek(int(offsets[0]))
    crcs = np.fromiter(map(google_crc32c.value, map(content.read, lengths.tolist())), np.uint64, len(records))
    encoded = pa.array(lengths).dictionary_encode()  # few lengths are distinct
    headers = pa.array(map(header, encoded.dictionary.to_pylist()), pa.large_binary()).take(encoded.indices)
    buffers = [None, pa.py_buffer(mask_crc(crcs).astype("<u4"))]
    footers = pa.Array.from_buffers(pa.binary(FOOTER_SIZE), len(records), buffers).cast(pa.large_binary())
    return pc.binary_join_element_wise(headers, records, footers, pa.scalar(b"", pa.large_binary()))


def unframe(frames: pa.LargeBinaryArray) -> list[bytes]:
    """The records of frames."""
    return [framed[HEADER_SIZE:-FOOTER_SIZE] for framed in frames.to_pylist()]


def view_records(frames: pa.LargeBinaryArray) -> list[memoryview]:
    """The records of frames, which are not copied."""
    offsets = _offsets(frames)
    view = memoryview(frames.buffers()[2]).cast("B")
    bounds = itertools.pairwise(offsets.tolist())
    return [view[begin + HEADER_SIZE : end - FOOTER_SIZE] for begin, end in bounds]


def first_damaged(content: bytes, offsets: np.ndarray) -> int | None:
    """The first of some frames that does not hold what was written; None: all do.

    Args:
      content: The frames.
      offsets: int64 [frames + 1], where each begins in them, and where the last one ends.
    """
    lengths = np.diff(offsets) - HEADER_SIZE - FOOTER_SIZE
    if (lengths < 0).any():
        return int(np.argmax(lengths < 0))
    sizes = np.stack([np.full_like(lengths, HEADER_SIZE), lengths, np.full_like(lengths, FOOTER_SIZE)], axis=1)
    parts = list(map(io.BytesIO(content).read, sizes.ravel().tolist()))
    crcs = mask_crc(np.fromiter(map(google_crc32c.value, parts[1::3]), np.uint64, len(lengths)))
    footers = crcs.astype("<u4").view(f"V{FOOTER_SIZE}").tolist()
    intact = zip(parts[0::3], parts[2::3], map(header, lengths.tolist()), footers, strict=True)
    return next((row for row, (head, foot, *right) in enumerate(intact) if [head, foot] != right), None)


def frame_sizes(frames: pa.LargeBinaryArray) -> np.ndarray:
    """How many bytes each frame takes: int64 [frames]."""
    return np.diff(_offsets(frames))


def frame_bytes(frames: pa.LargeBinaryArray) -> pa.Buffer:
    """The bytes of all frames, one after the other; a view."""
    offsets = _offsets(frames)
    begin, end = int(offsets[0]), int(offsets[-1])
    return frames.buffers()[2].slice(begin, end - begin)


def _offsets(column: pa.LargeBinaryArray) -> np.ndarray:
    return np.frombuffer(column.buffers()[1], np.int64, len(column) + 1, 8 * column.offset)
