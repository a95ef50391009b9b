"""What a photo's file says of itself before its pixels, as TensorFlow operations: JPEG's segments, PNG's chunks.

Formats: ITU-T T.81 (JPEG), B.1; PNG (W3C), 5 and 11.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from .exif import Place, orientation

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_EXIF, _XMP_JPEG, _XMP_PNG = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp\0\0"
_MANY = 1 << 16  # chunks that are looked at: a photo has a few, a file made to keep us busy any number
_MANY_SEGMENTS = 1 << 12
_WINDOW = 1 << 12  # bytes that are searched at a time for a segment that does not follow the last one
_APP1, _SCAN = 0xFFE1, 0xFFDA
# have the photo's size
_FRAMES = [
    0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, 0xFFC5, 0xFFC6, 0xFFC7, 0xFFC9, 0xFFCA, 0xFFCB, 0xFFCD, 0xFFCE, 0xFFCF,
]  # fmt: skip


class Header(NamedTuple):
    """What a file says of its photo.

    Attributes:
      width: int64 scalar, as stored; 0 where it says none.
      height: As the width.
      channels: int64 scalar: of a JPEG 1, 3 or 4; of a PNG 3 whatever it has.
      frames: int64 scalar: of a PNG, how many pictures it shows; 1 of a JPEG.
      orientation: int64 scalar, 1 to 8; 0 where it states none.
    """

    width: tf.Tensor
    height: tf.Tensor
    channels: tf.Tensor
    frames: tf.Tensor
    orientation: tf.Tensor


def is_png(payload: tf.Tensor) -> tf.Tensor:
    """Whether a file's content begins as a PNG's does."""
    return tf.strings.substr(payload, 0, len(_PNG)) == _PNG


def is_jpeg(payload: tf.Tensor) -> tf.Tensor:
    """Whether a file's content begins as a JPEG's does."""
    return tf.strings.substr(payload, 0, len(_JPEG)) == _JPEG


def read(payload: tf.Tensor) -> Header:
    """The header of a JPEG or a PNG.

    Args:
      payload: string scalar, the file's content.
    """
    header: Header = tf.cond(is_png(payload), lambda: _png(payload), lambda: _jpeg(payload))
    return header


def _jpeg(payload: tf.Tensor) -> Header:
    """Goes from segment to segment up to the first scan, and finds the frame, the EXIF and the XMP among them."""
    size = tf.strings.length(payload)

    def goes_on(_: tf.Tensor, segment: tf.Tensor) -> tf.Tensor:
        return (segment[0] < size) & (segment[1] != _SCAN)

    def step(segments: tf.Tensor, segment: tf.Tensor) -> Any:
        position, marker, length = tf.unstack(segment)
        length = tf.cond(_has_length(marker), lambda: tf.maximum(length, 2) + 2, lambda: _skipped(payload, position))
        segment = _segment(payload, tf.minimum(position + length, size))
        return tf.concat([segments, segment[tf.newaxis]], 0), segment

    first = _segment(payload, tf.minimum(2, size))
    shapes = tf.TensorShape([None, 3]), tf.TensorShape([3])
    segments, _ = tf.while_loop(
        goes_on, step, (first[tf.newaxis], first), shape_invariants=shapes, maximum_iterations=_MANY_SEGMENTS
    )
    positions, markers, _ = tf.unstack(segments, axis=1)
    is_frame = tf.reduce_any(markers[:, tf.newaxis] == tf.constant(_FRAMES), axis=1)
    frame = tf.reduce_max(tf.where(is_frame, positions, 0))
    content = tf.strings.substr(payload, tf.minimum(frame + 5, size), tf.where(frame > 0, 5, 0))
    height, width = tf.unstack(_shorts(content, 2))
    has_application = tf.reduce_any(markers == _APP1)
    return Header(
        tf.cast(width, tf.int64),
        tf.cast(height, tf.int64),
        tf.cast(tf.io.decode_raw(content, tf.uint8, fixed_length=5)[4], tf.int64),
        tf.constant(1, tf.int64),
        tf.cond(has_application, lambda: _orientation(payload, segments), lambda: tf.constant(0, tf.int64)),
    )


def _shorts(content: tf.Tensor, count: int) -> tf.Tensor:
    """The first big-endian 16-bit numbers of a content, int32 [count]; 0 beyond its end."""
    return tf.cast(tf.io.decode_raw(content, tf.uint16, little_endian=False, fixed_length=2 * count), tf.int32)


def _segment(payload: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """A position, and the marker and the length of the segment that begins there, if one does: int32 [3]."""
    return tf.concat([[position], _shorts(tf.strings.substr(payload, position, 4), 2)], 0)


def _has_length(marker: tf.Tensor) -> tf.Tensor:
    """Whether it is a marker, and followed by a length: no fill byte, and not one of those that stand alone."""
    return (marker >= 0xFFC0) & (marker < 0xFFFF) & ((marker < 0xFFD0) | (marker > 0xFFD9))


def _skipped(payload: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """How many bytes there are before the next segment; of many, all that were looked at."""
    content = tf.cast(tf.io.decode_raw(tf.strings.substr(payload, position, _WINDOW), tf.uint8), tf.int32)
    begins = tf.where(_has_length(content[:-1] * 256 + content[1:]))[:, 0]
    return tf.cast(tf.concat([begins, [tf.maximum(tf.size(content, tf.int64) - 1, 1)]], 0)[0], tf.int32)


def _orientation(payload: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
    """The orientation that the first EXIF or the last XMP of some segments states; int64 scalar."""
    size = tf.strings.length(payload)
    positions, _, lengths = tf.unstack(tf.boolean_mask(segments, segments[:, 1] == _APP1), axis=1)
    starts, ends = tf.minimum(positions + 4, size), tf.minimum(positions + 2 + lengths, size)

    def places(magic: bytes) -> tf.Tensor:
        has_magic = tf.strings.substr(payload, starts, tf.fill(tf.shape(starts), len(magic))) == magic
        return tf.cast(tf.boolean_mask(tf.stack([starts + len(magic), ends], axis=1), has_magic), tf.int64)

    nowhere = tf.zeros([1, 2], tf.int64)
    exif = tf.concat([places(_EXIF), nowhere], 0)[0]
    xmp = tf.concat([nowhere, places(_XMP_JPEG)], 0)[-1]
    return orientation(payload, Place(exif[0], exif[1]), Place(xmp[0], xmp[1]))


def _png(payload: tf.Tensor) -> Header:
    """Goes from chunk to chunk, and notes the number of frames, the EXIF and the XMP."""
    size = tf.cast(tf.strings.length(payload), tf.int64)

    def long(position: tf.Tensor) -> tf.Tensor:
        four = tf.strings.substr(payload, tf.minimum(position, size), 4)
        first, second, third, fourth = tf.unstack(tf.cast(tf.io.decode_raw(four, tf.uint8, fixed_length=4), tf.int64))
        return ((first * 256 + second) * 256 + third) * 256 + fourth

    def goes_on(position: tf.Tensor, *_: Any) -> tf.Tensor:
        return position + 12 <= size

    def step(position: tf.Tensor, frames: tf.Tensor, exif: Place, xmp: Place) -> Any:
        kind, start = tf.strings.substr(payload, position + 4, 4), position + 8
        end = tf.minimum(start + long(position), size)
        is_xmp = (kind == b"iTXt") & (tf.strings.substr(payload, start, len(_XMP_PNG)) == _XMP_PNG)
        return (
            end + 4,
            tf.where(kind == b"acTL", long(start), frames),
            exif.where(kind == b"eXIf", start, end),
            xmp.where(is_xmp, start + len(_XMP_PNG), end),
        )

    one, begin = tf.constant(1, tf.int64), tf.constant(len(_PNG), tf.int64)
    _, frames, exif, xmp = tf.while_loop(
        goes_on, step, (begin, one, Place.nowhere(), Place.nowhere()), maximum_iterations=_MANY
    )
    return Header(long(begin + 8), long(begin + 12), 3 * one, frames, orientation(payload, exif, xmp))
