"""The orientation of a JPEG, as TensorFlow operations. Format: CIPA DC-008 (Exif 2.3), 4.5 and 4.6.

TensorFlow's decoder leaves a photo lying; Penstock, like every viewer, turns it by its EXIF orientation.
"""

import tensorflow as tf

_HEAD = 1 << 18  # bytes of a file that are looked at: metadata come before the pixels
_EXIF = b"Exif\0\0"
_APP1, _SCAN = 0xE1, 0xDA
_ORIENTATION = 0x0112


def orientation(payload: tf.Tensor) -> tf.Tensor:
    """The orientation that a JPEG states.

    Args:
      payload: string scalar, the file's content.

    Returns:
      int32 scalar, 1 to 8; 0 where it states none.
    """
    head = tf.io.decode_raw(tf.strings.substr(payload, 0, _HEAD), tf.uint8)
    size = tf.size(head)
    content = tf.cast(tf.pad(head, [[0, 16]]), tf.int32)

    def byte(position: tf.Tensor) -> tf.Tensor:
        return content[tf.clip_by_value(position, 0, size)]

    def is_exif(position: tf.Tensor) -> tf.Tensor:
        letters = tf.stack([byte(position + 4 + number) for number in range(len(_EXIF))])
        return (byte(position + 1) == _APP1) & tf.reduce_all(letters == tf.constant(list(_EXIF)))

    def goes_on(position: tf.Tensor) -> tf.Tensor:
        return (position < size) & (byte(position) == 0xFF) & (byte(position + 1) != _SCAN) & ~is_exif(position)

    # from segment to segment: a marker, and a length that counts itself
    segment = tf.while_loop(
        goes_on, lambda position: [position + 2 + byte(position + 2) * 256 + byte(position + 3)], [tf.constant(2)]
    )[0]
    found = (segment < size) & (byte(segment) == 0xFF) & is_exif(segment)
    base = segment + 4 + len(_EXIF)
    little = byte(base) == ord("I")

    def short(position: tf.Tensor) -> tf.Tensor:
        low, high = byte(position), byte(position + 1)
        return tf.where(little, low + high * 256, low * 256 + high)

    def long(position: tf.Tensor) -> tf.Tensor:
        first, second = short(position), short(position + 2)
        return tf.where(little, first + second * 65536, first * 65536 + second)

    directory = base + tf.clip_by_value(long(base + 4), 0, _HEAD)
    entries = tf.where(found, tf.minimum(short(directory), (size - directory) // 12), 0)

    def is_other(number: tf.Tensor) -> tf.Tensor:
        return (number < entries) & (short(directory + 2 + 12 * number) != _ORIENTATION)

    number = tf.while_loop(is_other, lambda number: [number + 1], [tf.constant(0)])[0]
    value = short(directory + 2 + 12 * number + 8)
    return tf.where((number < entries) & (value >= 1) & (value <= 8), value, 0)


def upright(image: tf.Tensor, stated: tf.Tensor) -> tf.Tensor:
    """An image turned as its orientation wants it to be seen.

    Args:
      image: [h, w, channels].
      stated: int32 scalar, 0 to 8.
    """
    lying = stated >= 5
    image = tf.cond(lying, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    across = (stated == 2) | (stated == 3) | (stated == 6) | (stated == 7)
    down = (stated == 3) | (stated == 4) | (stated == 7) | (stated == 8)
    image = tf.cond(across, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(down, lambda: tf.reverse(image, [0]), lambda: image)
