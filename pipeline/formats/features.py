"""The features of a prepared example: what they are, and how they become a tf.train.Example."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import pyarrow as pa  # a third of what is imported to load images, and they need none of it

KEY, LABEL, IMAGE, MASK = "key", "label", "image", "mask"
_OVERFLOW = 2.0**128 - 2.0**103  # the smallest float64 that float32 rounds to infinity


@dataclass(frozen=True)
class Feature:
    """One feature of a prepared example.

    Attributes:
      kind: `key`, `label`, `image`, `mask`, `text` or `number`.
      dtype: `string`, `int64` or `float32`; for pixels `uint8` or `uint16`.
      shape: The shape of one example's value, without the batch: () for a scalar, (height, width, channels) for pixels,
        (None,) for a list of any length.
      encoding: For pixels, how they are stored: `jpeg`, `png` or `raw`; else None.
      optional: Whether an example may lack it: a column of a table, where a value is missing.
    """

    kind: str
    dtype: str
    shape: tuple[int | None, ...]
    encoding: str | None = None
    optional: bool = False

    @property
    def is_pixels(self) -> bool:
        """Whether the stored value is an encoded image."""
        return self.encoding is not None

    @property
    def arrow_type(self) -> "pa.DataType":
        """The type of a column of it: floats are stored as float32, but summed as float64."""
        import pyarrow as pa

        item = {"int64": pa.int64(), "float32": pa.float64()}.get(self.dtype, pa.string())
        return pa.large_list(item) if None in self.shape else item

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """(height, width, channels) of pixels."""
        return tuple(size or 0 for size in self.shape)

    def to_json(self) -> dict[str, Any]:
        """The feature's entry in the manifest."""
        return asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Feature":
        """Reads a manifest's entry back."""
        return cls(**{**entry, "shape": tuple(entry["shape"])})


def is_pixels(value: object) -> bool:
    """Whether a prepared value is an image: a Pillow image, or a uint8 or uint16 array of 2 or 3 dimensions."""
    if isinstance(value, np.ndarray):
        return value.dtype in (np.uint8, np.uint16) and value.ndim in (2, 3)
    return isinstance(value, Image.Image)


def describe(name: str, value: object, encoding: str) -> Feature:
    """The feature that a prepared value is an instance of.

    Args:
      name: The feature's name.
      value: Its value before it is stored.
      encoding: How its pixels would be stored.

    Raises:
      ValueError: the value is of no type that can be stored.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"expected a feature's name, a non-empty string, found {name!r}; fix `prepare`")
    if is_pixels(value):
        kind = MASK if name == MASK else IMAGE
        if isinstance(value, Image.Image):
            shape = (value.height, value.width, len(value.getbands()))
            return Feature(kind, "uint16" if value.mode.startswith("I;16") else "uint8", shape, encoding)
        assert isinstance(value, np.ndarray)
        return Feature(kind, str(value.dtype), (*value.shape, 1)[:3], encoding)
    if isinstance(value, str | bytes) and _fits(value):
        return Feature(name if name in (KEY, LABEL) else "text", "string", ())
    array = np.asarray(value)
    if array.dtype.kind in "biu" and _fits(array):
        return Feature(LABEL if name == LABEL else "number", "int64", array.shape)
    if array.dtype.kind == "f" and _fits(array):
        return Feature("number", "float32", array.shape)
    raise ValueError(
        f"{name!r}: expected an image, text, a number or an array of numbers, found {type(value).__name__}"
        f"{f' {value!r:.60}, which UTF-8, int64 or float32 cannot hold' if array.dtype.kind in 'biufUS' else ''}; "
        "convert or remove it in `prepare`"
    )


def _fits(value: str | bytes | np.ndarray) -> bool:
    """Whether a string is UTF-8, and numbers are in the range of int64 or float32."""
    if isinstance(value, bytes):
        return True
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if value.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return bool((np.isinf(value.astype(np.float32)) == np.isinf(value)).all())
    return value.dtype.kind != "u" or not value.size or int(value.max()) < 1 << 63


def describe_columns(schema: "pa.Schema") -> dict[str, Feature]:
    """The features that a table's columns are.

    Args:
      schema: Columns of integers, floats, strings or bytes, or lists of these.

    Raises:
      ValueError: a column is of another type.
    """
    return {column.name: _describe_column(column) for column in schema}


def _describe_column(column: "pa.Field") -> Feature:
    """The feature that a column is; see `describe_columns`."""
    import pyarrow as pa

    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    item = column.type.value_type if is_list else column.type
    shape = (None,) if is_list else ()
    if pa.types.is_integer(item) or pa.types.is_boolean(item):
        return Feature("number", "int64", shape, optional=True)
    if pa.types.is_floating(item):
        return Feature("number", "float32", shape, optional=True)
    if is_string(item):
        return Feature(LABEL if column.name == LABEL else "text", "string", shape, optional=True)
    raise ValueError(
        f"column {column.name!r}: expected integers, floats, strings, bytes or lists of these, found {column.type}; "
        "cast or drop it in `prepare`"
    )


def is_string(kind: "pa.DataType") -> bool:
    """Whether this is the type of a column of strings or bytes."""
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def stored_schema(schema: "pa.Schema") -> "pa.Schema":
    """A table's columns in the types that every batch of rows is brought to before it is stored.

    Args:
      schema: As for `describe_columns`.

    Returns:
      int64, float64, string, binary or large_binary, or large lists of these.

    Raises:
      ValueError: a column is of another type.
    """
    import pyarrow as pa

    columns = []
    for column, feature in zip(schema, describe_columns(schema).values(), strict=True):
        item = column.type.value_type if feature.shape else column.type
        if pa.types.is_binary(item) or pa.types.is_large_binary(item):
            columns.append((column.name, pa.large_list(item) if feature.shape else item))
        else:
            columns.append((column.name, feature.arrow_type))
    return pa.schema(columns)


def overflow_to_infinity(column: "pa.Array") -> "pa.Array":
    """A column whose floats beyond float32 are infinite, as they will be where they are stored; others as they are.

    Statistics are taken from what it returns: they must tell of what is in the shards.

    Args:
      column: Of any type; of lists, which have no statistics, nothing is changed.
    """
    import pyarrow as pa

    if not pa.types.is_float64(column.type) or not len(column):
        return column
    values = np.frombuffer(column.buffers()[1], np.float64, len(column), 8 * column.offset)
    if values.max() < _OVERFLOW and values.min() > -_OVERFLOW:
        return column
    stored = values.copy()
    stored[values >= _OVERFLOW], stored[values <= -_OVERFLOW] = np.inf, -np.inf
    return pa.array(stored, pa.float64(), mask=np.asarray(column.is_null()))
