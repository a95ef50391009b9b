"""What `prepare` does to raw data, as the manifest tells it: enough to do the same when a model is served.

    images   {"decode": {...}, "steps": [...], "encode": {name: {...}}}
    tables   {"columns": {name: Arrow type}, "reading": {...}, "steps": [...]}

A step of Penstock's own is {"step": "image.Resize", "arguments": {...}}; a user's function {"python": "module.name"}.
"""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from .. import transforms
from ..transforms.columns import Vectorized
from .features import Feature
from .make_records import RecordPreparer
from .prepare import Preparer

_READING = ("missing", "strip", "nonfinite")  # of a source of text


def describe(preparer: Preparer | RecordPreparer, features: Mapping[str, Feature]) -> dict[str, Any]:
    """The manifest's entry `prepare`.

    Args:
      preparer: What a run prepares examples by.
      features: What comes out.
    """
    steps = [describe_step(step) for step in preparer.steps]
    if isinstance(preparer, RecordPreparer):
        reading = {name: _plain(getattr(preparer.source, name)) for name in _READING if hasattr(preparer.source, name)}
        return {
            "columns": {field.name: str(field.type) for field in preparer.schema},
            "reading": reading,
            "steps": steps,
        }
    pixels = [name for name, feature in features.items() if feature.is_pixels]
    return {
        "decode": _plain(asdict(preparer.decode)),
        "steps": steps,
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
    """As JSON can hold it; functions by their names."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _name(value) if callable(value) else str(value)
