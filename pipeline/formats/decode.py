"""From records to arrays: stored pixels become the very values that Pillow and TensorFlow would give.

Decoders release the GIL, so that threads decode on all cores and processes are not needed.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from ..errors import DatasetError
from . import example_columns, example_reader
from .features import Feature

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = dict[str, Array]
# Writes one example's value, given its stored content, into row `index` of a batch.
Write: TypeAlias = Callable[[example_reader.Value, Array, int], None]


_WORDS = {
    example_reader.BYTES: "a text",
    example_reader.FLOATS: "floats",
    example_reader.INTEGERS: "integers",
    example_reader.STRINGS: "several texts",
}
# What stands for a value that is missing, as where the transform graph parses examples.
_MISSING: dict[str, Any] = {"int64": -(2**63), "float32": float("nan"), "string": b""}


def missing(feature: Feature) -> Any:
    """What stands in a batch for a value that is missing; an empty list for a list."""
    if None in feature.shape:
        return np.zeros(0, object if feature.dtype == "string" else feature.dtype)
    return _MISSING[feature.dtype]


def dtype_of(feature: Feature) -> np.dtype[Any]:
    """The NumPy dtype of a batch of a feature's values: texts are bytes objects, lists of any length arrays."""
    return np.dtype(object if feature.dtype == "string" or None in feature.shape else feature.dtype)


def item_shape(feature: Feature) -> tuple[int, ...]:
    """The shape of one example's value in a batch: () for a list of any length, which is one object."""
    return () if None in feature.shape else tuple(size or 0 for size in feature.shape)


def allocate(features: Mapping[str, Feature], rows: int, empty: Callable[..., Array] = np.empty) -> Arrays:
    """Arrays for a batch of `rows` examples: feature name to [rows, *shape], made by `empty(shape, dtype)`."""
    return {name: empty((rows, *item_shape(feature)), dtype_of(feature)) for name, feature in features.items()}


class Decoder:
    """Decodes records into batches.

    Args:
      features: The features that it decodes, by name.
      stored: All features that the records hold; None: no others.

    Attributes:
      features: The features that it decodes.
      batched: Whether it decodes many records at once: where none of them holds pixels.
    """

    def __init__(self, features: Mapping[str, Feature], stored: Mapping[str, Feature] | None = None) -> None:
        self.features = dict(features)
        self._stored = dict(stored or features)
        self.batched = not any(feature.is_pixels for feature in self._stored.values())
        self._writers = {name: _writer(feature) for name, feature in features.items()}
        self._defaults = {name: missing(feature) for name, feature in features.items() if feature.optional}

    def write_all(self, records: Sequence[bytes], arrays: Arrays, first: int) -> list[int]:
        """Decodes records into rows of a batch, all at once.

        Args:
          records: Serialized tf.train.Examples.
          arrays: What `allocate` returned for these features.
          first: The row of the first of them.

        Returns:
          The positions of those that only `write` can read, or refuse.
        """
        found, fits = example_columns.find(records, self._stored)
        for name, feature in self.features.items():
            values, right = example_columns.values(found[name], feature, missing(feature))
            arrays[name][first : first + len(records)] = values
            fits &= right
            if not feature.optional:
                fits &= found[name].present
        left: list[int] = np.flatnonzero(~fits).tolist()
        return left

    def write(self, record: bytes, arrays: Arrays, row: int) -> None:
        """Decodes one record into one row of a batch.

        Args:
          record: A serialized tf.train.Example.
          arrays: What `allocate` returned for these features.
          row: Which row.

        Raises:
          ValueError: the record does not hold what the manifest says.
        """
        self.write_values(example_reader.parse(record), arrays, row)

    def write_values(self, values: Mapping[str, example_reader.Value], arrays: Arrays, row: int) -> None:
        """As `write`, of a record's values by their names."""
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
    if feature.dtype not in _MISSING:
        raise DatasetError(f"expected values of {', '.join(_MISSING)}, found {feature.dtype}; install a newer penstock")
    if None in feature.shape:
        return partial(_write_list, feature.dtype)
    return {"string": _write_text, "int64": _write_integers, "float32": _write_floats}[feature.dtype]


def _write_jpeg(colours: str, value: example_reader.Value, array: Array, row: int) -> None:
    pixels = array[row]
    # Full precision, as Pillow decodes, and straight into the batch.
    found = simplejpeg.decode_jpeg(value[1], colours, fastdct=False, fastupsample=False, strict=True, buffer=pixels)
    _check(found.shape, pixels.shape)


def _write_png(value: example_reader.Value, array: Array, row: int) -> None:
    with Image.open(io.BytesIO(value[1]), formats=("PNG",)) as image:
        found = np.asarray(image)
    found = found.reshape((*found.shape, 1)[:3])
    _check(found.shape, array.shape[1:])
    array[row] = found


def _write_raw(dtype: np.dtype[Any], value: example_reader.Value, array: Array, row: int) -> None:
    array[row] = np.frombuffer(value[1], dtype).reshape(array.shape[1:])


def _write_text(value: example_reader.Value, array: Array, row: int) -> None:
    _expect(example_reader.BYTES, value)
    array[row] = bytes(value[1])


def _write_integers(value: example_reader.Value, array: Array, row: int) -> None:
    _expect(example_reader.INTEGERS, value)
    array[row] = example_reader.integers(value[1]).reshape(array.shape[1:])


def _write_floats(value: example_reader.Value, array: Array, row: int) -> None:
    _expect(example_reader.FLOATS, value)
    array[row] = example_reader.floats(value[1]).reshape(array.shape[1:])


def _write_list(dtype: str, value: example_reader.Value, array: Array, row: int) -> None:
    if dtype == "string":
        texts = example_reader.strings(value[1]) if value[0] == example_reader.STRINGS else [bytes(value[1])]
        array[row] = np.array(texts, object)
    elif dtype == "int64":
        _expect(example_reader.INTEGERS, value)
        array[row] = example_reader.integers(value[1])
    else:
        _expect(example_reader.FLOATS, value)
        array[row] = example_reader.floats(value[1])


def _expect(kind: int, value: example_reader.Value) -> None:
    if value[0] != kind:
        raise ValueError(f"expected {_WORDS[kind]}, found {_WORDS.get(value[0], 'another type')}")


def _check(found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ValueError(f"expected pixels of shape {list(expected)}, found {list(found)}")
