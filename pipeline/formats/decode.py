"""From serialized tf.train.Examples to arrays: what training reads, from any thread.

Decoders release the GIL, so that threads decode on all cores and processes are not needed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...transforms.image_codec import CODECS, Jpeg, Png, Raw
from ..errors import DatasetError
from . import example_columns, example_reader
from .example_format import BYTES, FLOATS, INTEGERS, MISSING_VALUES
from .example_row import RowDecoder
from .features import Feature

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = dict[str, Array]
# Writes one example's value, given its stored content, into row `index` of a batch.
Write: TypeAlias = Callable[[example_reader.Value, Array, int], None]


_IN_WORDS = {BYTES: "a string", FLOATS: "floats", INTEGERS: "integers", example_reader.STRINGS: "several strings"}


def missing(feature: Feature) -> Any:
    """What stands in a batch for a value that is missing; an empty list for a list."""
    if None in feature.shape:
        return np.zeros(0, object if feature.dtype == "string" else feature.dtype)
    return MISSING_VALUES[feature.dtype]


def dtype_of(feature: Feature) -> np.dtype[Any]:
    """The NumPy dtype of a batch of a feature's values: strings are bytes objects, lists of any length arrays."""
    return np.dtype(object if feature.dtype == "string" or None in feature.shape else feature.dtype)


def item_shape(feature: Feature) -> tuple[int, ...]:
    """The shape of one example's value in a batch: () for a list of any length, which is one object."""
    return () if None in feature.shape else tuple(size or 0 for size in feature.shape)


def allocate(features: Mapping[str, Feature], rows: int, empty: Callable[..., Array] = np.empty) -> Arrays:
    """Arrays for a batch of `rows` examples: feature name to [rows, *shape], made by `empty(shape, dtype)`."""
    return {name: empty((rows, *item_shape(feature)), dtype_of(feature)) for name, feature in features.items()}


class Decoder:
    """Decodes records into batches. It pickles.

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
        self._pixels = {name for name, feature in features.items() if feature.is_pixels}
        self._defaults = {name: missing(feature) for name, feature in features.items() if feature.optional}

    def __reduce__(self) -> tuple[Any, ...]:
        return Decoder, (self.features, self._stored)

    def write_all(self, records: Sequence[bytes], arrays: Arrays, first: int) -> list[int]:
        """Decodes records into rows of a batch, all at once.

        Args:
          records: Serialized tf.train.Examples.
          arrays: What `allocate` returned for these features.
          first: The row of the first of them.

        Returns:
          The positions of those that only `write` can read, or refuse.
        """
        spans, fits = example_columns.find(records, self._stored)
        for name, feature in self.features.items():
            values, right = example_columns.values(spans[name], feature, missing(feature))
            arrays[name][first : first + len(records)] = values
            fits &= right
            if not feature.optional:
                fits &= spans[name].present
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
        values = self._row(record)
        if values is None:
            self.write_values(example_reader.parse(record), arrays, row)
            return
        for name, value in values.items():
            if name in self._pixels:
                self._write_value(name, value, arrays, row)
            else:
                arrays[name][row] = value

    def write_values(self, values: Mapping[str, example_reader.Value], arrays: Arrays, row: int) -> None:
        """As `write`, of a record's values by their names."""
        for name in self._writers:
            if name in values:
                self._write_value(name, values[name], arrays, row)
            elif name in self._defaults:
                arrays[name][row] = self._defaults[name]
            else:
                raise ValueError(f"feature {name!r}: expected a value, found only {sorted(values)}")

    def _write_value(self, name: str, value: example_reader.Value, arrays: Arrays, row: int) -> None:
        try:
            self._writers[name](value, arrays[name], row)
        except ValueError as error:
            raise ValueError(f"feature {name!r}: {error}") from error

    def decode(self, record: bytes) -> dict[str, Any]:
        """One example: feature name to array of its shape; strings are bytes objects. Errors as for `write`."""
        if self.batched and (values := self._row(record)) is not None:
            return values
        arrays = allocate(self.features, 1)
        self.write(record, arrays, 0)
        return {name: array[0] for name, array in arrays.items()}

    def _row(self, record: bytes) -> dict[str, Any] | None:
        """An example, decoded in the fast way but for its pixels; None where `write_values` has to."""
        try:
            return self._rows.decode(record)
        except (IndexError, ValueError):
            return None  # it says why

    @cached_property
    def _rows(self) -> RowDecoder:
        def general(name: str, value: example_reader.Value) -> Any:
            if name in self._pixels:
                return value
            array = allocate({name: self.features[name]}, 1)[name]
            self._writers[name](value, array, 0)
            return array[0]

        defaults = allocate(self.features, 1)
        for name, default in self._defaults.items():
            defaults[name][0] = default
        return RowDecoder(self.features, self._stored, {name: defaults[name][0] for name in self._defaults}, general)


def _writer(feature: Feature) -> Write:
    """The function that writes a feature's values.

    Raises:
      DatasetError: this penstock does not know how the feature is stored.
    """
    if feature.encoding is not None:
        if feature.encoding not in CODECS:
            raise DatasetError(
                f"expected pixels stored as {', '.join(CODECS)}, found {feature.encoding}; install a newer penstock"
            )
        return partial(_write_pixels, CODECS[feature.encoding])
    if feature.dtype not in MISSING_VALUES:
        raise DatasetError(
            f"expected values of {', '.join(MISSING_VALUES)}, found {feature.dtype}; install a newer penstock"
        )
    if None in feature.shape:
        return partial(_write_list, feature.dtype)
    return {"string": _write_string, "int64": _write_integers, "float32": _write_floats}[feature.dtype]


def _write_pixels(codec: Jpeg | Png | Raw, value: example_reader.Value, array: Array, row: int) -> None:
    _expect(BYTES, value)
    codec.decode(value[1], array.shape[1:], array.dtype, out=array[row])


def _write_string(value: example_reader.Value, array: Array, row: int) -> None:
    _expect(BYTES, value)
    array[row] = bytes(value[1])


def _write_integers(value: example_reader.Value, array: Array, row: int) -> None:
    _expect(INTEGERS, value)
    array[row] = example_reader.integers(value[1]).reshape(array.shape[1:])


def _write_floats(value: example_reader.Value, array: Array, row: int) -> None:
    _expect(FLOATS, value)
    array[row] = example_reader.floats(value[1]).reshape(array.shape[1:])


def _write_list(dtype: str, value: example_reader.Value, array: Array, row: int) -> None:
    if dtype == "string":
        strings = example_reader.strings(value[1]) if value[0] == example_reader.STRINGS else [bytes(value[1])]
        array[row] = np.array(strings, object)
    elif dtype == "int64":
        _expect(INTEGERS, value)
        array[row] = example_reader.integers(value[1])
    else:
        _expect(FLOATS, value)
        array[row] = example_reader.floats(value[1])


def _expect(kind: int, value: example_reader.Value) -> None:
    if value[0] != kind:
        raise ValueError(f"expected {_IN_WORDS[kind]}, found {_IN_WORDS.get(value[0], 'another type')}")
