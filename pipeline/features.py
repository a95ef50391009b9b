"""The features of a prepared example: what they are, and how they become a tf.train.Example."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

KEY, LABEL, IMAGE, MASK = "key", "label", "image", "mask"


@dataclass(frozen=True)
class Feature:
    """One feature of a prepared example.

    Attributes:
      kind: `key`, `label`, `image`, `mask`, `text` or `number`.
      dtype: `string`, `int64` or `float32`; for pixels `uint8` or `uint16`.
      shape: The shape of one example's value, without the batch: () for a scalar, (height, width, channels) for pixels.
      encoding: For pixels, how they are stored: `jpeg`, `png` or `raw`; else None.
    """

    kind: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str | None = None

    @property
    def is_pixels(self) -> bool:
        """Whether the stored value is an encoded image."""
        return self.encoding is not None

    def to_json(self) -> dict[str, Any]:
        """The feature's entry in the manifest."""
        return asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Feature":
        """Reads a manifest's entry back."""
        return cls(entry["kind"], entry["dtype"], tuple(entry["shape"]), entry["encoding"])


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
    if is_pixels(value):
        kind = MASK if name == MASK else IMAGE
        if isinstance(value, Image.Image):
            shape = (value.height, value.width, len(value.getbands()))
            return Feature(kind, "uint16" if value.mode.startswith("I;16") else "uint8", shape, encoding)
        assert isinstance(value, np.ndarray)
        return Feature(kind, str(value.dtype), (*value.shape, 1)[:3], encoding)
    if isinstance(value, str | bytes):
        return Feature(name if name in (KEY, LABEL) else "text", "string", ())
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return Feature(LABEL if name == LABEL else "number", "int64", array.shape)
    if array.dtype.kind == "f":
        return Feature("number", "float32", array.shape)
    raise ValueError(
        f"{name!r}: expected an image, text, a number or an array of numbers, found {type(value).__name__}; "
        "convert or remove it in `prepare`"
    )


def serialize(values: Mapping[str, Any], features: Mapping[str, Feature]) -> bytes:
    """A tf.train.Example with the given stored values; equal values give equal bytes.

    Args:
      values: Feature name to stored value; pixels are encoded already.
      features: What each is.
    """
    from tensorflow.core.example.example_pb2 import Example  # importing TensorFlow takes seconds

    example = Example()
    entries = example.features.feature
    for name, feature in features.items():
        value = values[name]
        if feature.dtype == "int64":
            entries[name].int64_list.value.extend(np.ravel(value).tolist())
        elif feature.dtype == "float32":
            entries[name].float_list.value.extend(np.ravel(value).tolist())
        else:
            entries[name].bytes_list.value.append(value.encode() if isinstance(value, str) else value)
    return bytes(example.SerializeToString(deterministic=True))
