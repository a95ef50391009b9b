"""What a photo's file says of itself before its pixels, as TensorFlow operations: JPEG's segments, PNG's chunks.

Formats: ITU-T T.81 (JPEG), B.1; PNG (W3C), 5 and 11.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from .exif import Place, orientation

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_EXIF, _XMP_JPEG, _XMP_PNG = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp\0\0"
_MANY = 1 << 16  # segments or chunks that are looked at: a photo has a few, a file made to keep us busy any number
_APP1, _SCAN = 0xE1, 0xDA
_FRAMES = [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF]  # have the photo's size


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
    """Goes from segment to segment up to the first scan, and notes the frame, the EXIF and the XMP."""
    size = tf.cast(tf.strings.length(payload), tf.int64)
    content = tf.pad(tf.io.decode_raw(payload, tf.uint8), [[0, 1]])
    code = content[1:]
    # markers with a length: not stuffed zeros and fill bytes, nor D0 to D9, which stand alone
    is_marker = (content[:-1] == 0xFF) & (code >= 0xC0) & (code != 0xFF) & ((code < 0xD0) | (code > 0xD9))
    markers = tf.concat([tf.where(is_marker)[:, 0], [size]], 0)

    def starts(position: tf.Tensor, magic: bytes) -> tf.Tensor:
        return tf.strings.substr(payload, tf.minimum(position, size), len(magic)) == magic

    def byte(position: tf.Tensor) -> tf.Tensor:
        return tf.cast(content[tf.clip_by_value(position, 0, size)], tf.int64)

    def short(position: tf.Tensor) -> tf.Tensor:
        return byte(position) * 256 + byte(position + 1)

    def goes_on(position: tf.Tensor, *_: Any) -> tf.Tensor:
        return (position < size) & (byte(position + 1) != _SCAN)

    def step(position: tf.Tensor, frame: tf.Tensor, exif: Place, xmp: Place) -> Any:
        kind, length = byte(position + 1), tf.maximum(short(position + 2), 2)
        start, end = position + 4, tf.minimum(position + 2 + length, size)
        is_exif = (kind == _APP1) & starts(start, _EXIF) & (exif.end == 0)
        is_xmp = (kind == _APP1) & starts(start, _XMP_JPEG)
        return (
            markers[tf.searchsorted(markers, [end])[0]],
            tf.where(tf.reduce_any(kind == tf.constant(_FRAMES, tf.int64)), position, frame),
            exif.where(is_exif, start + len(_EXIF), end),
            xmp.where(is_xmp, start + len(_XMP_JPEG), end),
        )

    first = markers[tf.searchsorted(markers, [tf.minimum(tf.constant(2, tf.int64), size)])[0]]
    zero = tf.constant(0, tf.int64)
    _, frame, exif, xmp = tf.while_loop(
        goes_on, step, (first, zero, Place.nowhere(), Place.nowhere()), maximum_iterations=_MANY
    )
    has_frame = tf.cast(frame > 0, tf.int64)
    return Header(
        short(frame + 7) * has_frame,
        short(frame + 5) * has_frame,
        byte(frame + 9) * has_frame,
        tf.constant(1, tf.int64),
        orientation(payload, exif, xmp),
    )


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
