"""How the steps of `prepare` and the codecs of images name themselves, so that a manifest can say what was done.

As numcodecs' codecs: a stable name, and the arguments that make the same one again.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Step(Protocol):
    """A function of `prepare` that has a name of its own.

    Attributes:
      step_id: The name that users call it by, "image.resize" or "columns.rename". Stored, so it never changes.
    """

    step_id: ClassVar[str]

    def config(self) -> dict[str, Any]:
        """The arguments by name, as JSON can hold them: see `as_json`."""


@runtime_checkable
class Codec(Protocol):
    """A way between bytes and pixels.

    Attributes:
      codec_id: Its name, "jpeg" or "png". Stored, so it never changes.
    """

    codec_id: ClassVar[str]

    def config(self) -> dict[str, Any]:
        """The arguments by name, as JSON can hold them: see `as_json`."""


def config_of(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, as JSON can hold them.

    >>> from penstock.transforms import image
    >>> config_of(image.min_size(64, 48))
    {'height': 64, 'width': 48}
    """
    return {field.name: as_json(getattr(instance, field.name)) for field in fields(instance)}


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: bytes as base64, NaN and infinities by their names, functions and objects by theirs.

    >>> as_json({"fill": (0, 255), "token": b"PAD", "limit": float("inf")})
    {'fill': [0, 255], 'token': {'base64': 'UEFE'}, 'limit': {'float': 'inf'}}
    >>> as_json([len, object()])
    [{'python': 'builtins.len'}, {'python': 'builtins.object'}]
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {"python": python_name(value)}


def python_name(value: Any) -> str:
    """The module and the name of a function or a class; of another object, those of its class.

    >>> python_name(len), python_name(object())
    ('builtins.len', 'builtins.object')
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None) or type(value).__module__}.{named.__qualname__}"
