"""What reading and `prepare` do to raw data, as the manifest tells it: enough to do the same when a model is served.

    images   {"decode": {...}, "columns": {...}, "reading": {...}, "steps": [...], "encode": {name: {...}}}
    tables   {"columns": {name: Arrow type}, "reading": {name: rules}, "steps": [...]}

The columns of images are those that are joined to them. `extract.columns.reading` says what rules are; a column of a
source that does not tell has none. A step of Penstock's own is {"step": "image.Resize", "arguments": {...}}; a user's
function {"python": "module.name"}. Bytes are {"base64": "..."}, NaN and infinities {"float": "nan"}.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ... import transforms
from ...transforms.columns import Vectorized
from ..formats.features import Feature
from ..prepare.images import Preparer
from ..prepare.tables import RecordPreparer
from ..sources import column_types


def describe(preparer: Preparer | RecordPreparer, features: Mapping[str, Feature], joined: pa.Schema) -> dict[str, Any]:
    """The manifest's entry `prepare`.

    Args:
      preparer: What a run prepares examples by.
      features: What comes out.
      joined: The columns that are joined to images.
    """
    schema = preparer.schema if isinstance(preparer, RecordPreparer) else joined
    rules = {field.name: column_types.reading(field) for field in schema}
    read = {
        "columns": {field.name: str(field.type) for field in schema},
        "reading": {name: told for name, told in rules.items() if told is not None},
        "steps": [describe_step(step) for step in preparer.steps],
    }
    if isinstance(preparer, RecordPreparer):
        return read
    pixels = [name for name, feature in features.items() if feature.is_pixels]
    return {
        "decode": _plain(asdict(preparer.decode)),
        **read,
        "encode": {
            name: {"name": preparer.encoding(name).name, **_plain(asdict(preparer.encoding(name)))} for name in pixels
        },
    }


def describe_step(step: object) -> dict[str, Any]:
    """One function of `prepare`."""
    function = step.function if isinstance(step, Vectorized) else step
    kind = type(function)
    package, _, module = kind.__module__.rpartition(".")
    if package == transforms.__name__ and is_dataclass(function):
        return {"step": f"{module}.{kind.__name__.lstrip('_')}", "arguments": _plain(vars(function))}
    return {"python": _name(function)}


def _name(function: object) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{name}"


def _plain(value: Any) -> Any:
    """As JSON can hold it; functions by their names, and other objects as {"python": the name of their type}."""
    if isinstance(value, np.generic | np.ndarray | pa.Scalar):
        value = value.as_py() if isinstance(value, pa.Scalar) else value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, pa.DataType):
        return str(value)
    return _name(value) if callable(value) else {"python": _name(type(value))}
