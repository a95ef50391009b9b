"""From records to arrays: stored pixels become the very values that Pillow and TensorFlow would give.

Decoders release the GIL, so that threads decode on all cores and processes are not needed.
"""

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from ..errors import DatasetError, RequestError
from ..features import Feature
from . import wire

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = dict[str, Array]
# Writes one example's value, given its stored content, into row `index` of a batch.
Write: TypeAlias = Callable[[wire.Value, Array, int], None]


# What stands for a value that is missing, as where the transform graph parses examples.
MISSING: dict[str, Any] = {"int64": -(2**63), "float32": float("nan"), "string": b""}


def dtype_of(feature: Feature) -> np.dtype[Any]:
    """The NumPy dtype of a feature's values: texts are bytes objects."""
    return np.dtype(object if feature.dtype == "string" else feature.dtype)


def fixed(feature: Feature) -> tuple[int, ...]:
    """The shape of a feature that has one shape."""
    return tuple(size or 0 for size in feature.shape)


def allocate(features: Mapping[str, Feature], rows: int, empty: Callable[..., Array] = np.empty) -> Arrays:
    """Arrays for a batch of `rows` examples: feature name to [rows, *shape], made by `empty(shape, dtype)`."""
    return {name: empty((rows, *fixed(feature)), dtype_of(feature)) for name, feature in features.items()}


class Decoder:
    """Decodes records into batches.

    Attributes:
      features: The features that it decodes, by name.
    """

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self.features = dict(features)
        self._writers = {name: _writer(feature) for name, feature in features.items()}
        self._defaults = {name: MISSING[feature.dtype] for name, feature in features.items() if feature.optional}

    def write(self, record: bytes, arrays: Arrays, row: int) -> None:
        """Decodes one record into one row of a batch.

        Args:
          record: A serialized tf.train.Example.
          arrays: What `allocate` returned for these features.
          row: Which row.

        Raises:
          ValueError: the record does not hold what the manifest says.
        """
        values = wire.parse(record)
        for name, write in self._writers.items():
            try:
                if name in values:
                    write(values[name], arrays[name], row)
                elif name in self._defaults:
                    arrays[name][row] = self._defaults[name]
                else:
                    raise ValueError(f"expected a value, found only {sorted(values)}")
            except (ValueError, OSError, SyntaxError) as error:
                raise ValueError(f"feature {name!r}: {error}") from error

    def decode(self, record: bytes) -> dict[str, Any]:
        """One example: feature name to array of its shape; texts are bytes."""
        arrays = allocate(self.features, 1)
        self.write(record, arrays, 0)
        return {name: array[0] for name, array in arrays.items()}


def _writer(feature: Feature) -> Write:
    if None in feature.shape:
        raise RequestError(
            f"expected features of one shape, found a list of any length ({feature.dtype}); TensorFlow's "
            "tf.io.parse_example reads it"
        )
    if feature.encoding == "jpeg":
        return partial(_write_jpeg, "GRAY" if feature.shape[-1] == 1 else "RGB")
    if feature.encoding == "png":
        return _write_png
    if feature.encoding == "raw":
        return partial(_write_raw, np.dtype(feature.dtype).newbyteorder("<"))
    if feature.encoding is not None:
        raise DatasetError(
            f"expected pixels stored as jpeg, png or raw, found {feature.encoding}; install a newer penstock"
        )
    return {"string": _write_text, "int64": _write_integers, "float32": _write_floats}[feature.dtype]


def _write_jpeg(colours: str, value: wire.Value, array: Array, row: int) -> None:
    pixels = array[row]
    # Full precision, as Pillow decodes, and straight into the batch.
    found = simplejpeg.decode_jpeg(value[1], colours, fastdct=False, fastupsample=False, strict=True, buffer=pixels)
    _check(found.shape, pixels.shape)


def _write_png(value: wire.Value, array: Array, row: int) -> None:
    with Image.open(io.BytesIO(value[1]), formats=("PNG",)) as image:
        found = np.asarray(image)
    found = found.reshape((*found.shape, 1)[:3])
    _check(found.shape, array.shape[1:])
    array[row] = found


def _write_raw(dtype: np.dtype[Any], value: wire.Value, array: Array, row: int) -> None:
    array[row] = np.frombuffer(value[1], dtype).reshape(array.shape[1:])


def _write_text(value: wire.Value, array: Array, row: int) -> None:
    array[row] = bytes(value[1])


def _write_integers(value: wire.Value, array: Array, row: int) -> None:
    array[row] = wire.integers(value[1]).reshape(array.shape[1:])


def _write_floats(value: wire.Value, array: Array, row: int) -> None:
    array[row] = wire.floats(value[1]).reshape(array.shape[1:])


def _check(found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ValueError(f"expected pixels of shape {list(expected)}, found {list(found)}")
