"""The orientation that a photo's metadata state, as TensorFlow operations. Format: CIPA DC-008 (Exif 2.3), 4.5 and 4.6.

TensorFlow's decoder leaves a photo lying; Penstock, like every viewer, turns it by its EXIF or XMP orientation.
"""

from typing import NamedTuple

import tensorflow as tf

_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112
_UNITS = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4]  # bytes of a value, by its type
_INTEGERS = [3, 4, 6, 8, 9, 13]  # the types of integers, but BYTE, which Pillow takes for no number
_XMP = r'(?s)\C*?tiff:Orientation(?:="|>)([0-9])\C*'


class Place(NamedTuple):
    """A part of a file: int64 scalars, its first byte and the one after its last; both 0 where there is none."""

    start: tf.Tensor
    end: tf.Tensor

    @staticmethod
    def nowhere() -> "Place":
        return Place(tf.constant(0, tf.int64), tf.constant(0, tf.int64))

    def where(self, condition: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> "Place":
        """From `start` to `end` where a condition holds; else as it is."""
        return Place(tf.where(condition, start, self.start), tf.where(condition, end, self.end))

    def of(self, payload: tf.Tensor) -> tf.Tensor:
        """Its content, string scalar."""
        return tf.strings.substr(payload, self.start, tf.maximum(self.end - self.start, 0))


def orientation(payload: tf.Tensor, exif: Place, xmp: Place) -> tf.Tensor:
    """The orientation that a photo states: int64 scalar, 1 to 8; 0 where it states none.

    Args:
      payload: string scalar, the file's content.
      exif: Where in it the EXIF is.
      xmp: Where the XMP is, which counts where the EXIF has no orientation.
    """
    packet = xmp.of(payload)
    digit = tf.where(tf.strings.regex_full_match(packet, _XMP), tf.strings.regex_replace(packet, _XMP, r"\1"), "0")
    stated, value = _in_exif(exif.of(payload))
    value = tf.where(stated, value, tf.strings.to_number(digit, tf.int64))
    return tf.where((value >= 1) & (value <= 8), value, 0)


def _in_exif(exif: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether EXIF has an orientation; and its value."""
    for _ in range(2):  # some writers put the name twice
        is_name = tf.strings.substr(exif, 0, len(_EXIF)) == _EXIF
        exif = tf.strings.substr(exif, tf.where(is_name, len(_EXIF), 0), tf.strings.length(exif))
    size = tf.cast(tf.strings.length(exif), tf.int64)
    content = tf.cast(tf.pad(tf.io.decode_raw(exif, tf.uint8), [[0, 1]]), tf.int64)
    little = tf.strings.substr(exif, 0, 2) == b"II"

    def byte(position: tf.Tensor) -> tf.Tensor:
        return tf.gather(content, tf.clip_by_value(position, 0, size))

    def short(position: tf.Tensor) -> tf.Tensor:
        low, high = byte(position), byte(position + 1)
        return tf.where(little, low + high * 256, low * 256 + high)

    def long(position: tf.Tensor) -> tf.Tensor:
        first, second = short(position), short(position + 2)
        return tf.where(little, first + second * 65536, first * 65536 + second)

    directory = tf.minimum(long(tf.constant(4, tf.int64)), size)
    number = tf.minimum(short(directory), (size - directory) // 12)
    entries = directory + 2 + 12 * tf.range(number)
    kinds, counts = short(entries + 2), long(entries + 4)
    is_known = (kinds >= 1) & (kinds < len(_UNITS)) & (counts > 0)
    orientations = tf.boolean_mask(entries, (short(entries) == _ORIENTATION) & is_known)
    stated = tf.size(orientations) > 0
    entry = tf.concat([[size], orientations], 0)[-1]  # the last one counts
    kind = tf.where(stated, short(entry + 2), 0)
    unit = tf.gather(tf.constant(_UNITS, tf.int64), kind)
    at = tf.where(unit * long(entry + 4) > 4, long(entry + 8), entry + 8)
    value = tf.where(unit == 1, byte(at), tf.where(unit == 2, short(at), long(at)))
    return stated, tf.where(tf.reduce_any(kind == tf.constant(_INTEGERS, tf.int64)), value, 0)


def upright(image: tf.Tensor, stated: tf.Tensor) -> tf.Tensor:
    """An image turned as its orientation wants it to be seen.

    Args:
      image: [h, w, channels].
      stated: int64 scalar, 0 to 8.
    """
    lying = stated >= 5
    image = tf.cond(lying, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    across = (stated == 2) | (stated == 3) | (stated == 6) | (stated == 7)
    down = (stated == 3) | (stated == 4) | (stated == 7) | (stated == 8)
    image = tf.cond(across, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(down, lambda: tf.reverse(image, [0]), lambda: image)
