"""TensorFlow's operations on arrays that only NumPy does here: the host's part, whatever the device could do.

Each is a function (backend, attributes, *arguments) -> value, as those of `operations` are; the backend is NumPy's.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..formats.decode import Array
from .backends import Backend

Attributes = Mapping[str, Any]


def _fill(_: Backend, attributes: Attributes, shape: Any, value: Any) -> Array:
    value = np.asarray(value)
    return np.full(np.ravel(shape).tolist(), value.item(), value.dtype)


def _accumulate(function: Any, first: int) -> Callable[..., Array]:
    def accumulate(_: Backend, attributes: Attributes, values: Any, axis: Any) -> Array:
        axis, step = int(axis), -1 if attributes["reverse"] else 1
        turned = np.flip(values, axis) if step < 0 else np.asarray(values)
        results = function(turned, axis, dtype=turned.dtype)
        if attributes["exclusive"]:
            start = np.full_like(np.take(results, [0], axis) if results.shape[axis] else results, first)
            results = np.concatenate([start, np.delete(results, -1, axis)], axis) if results.size else results
        return np.flip(results, axis) if step < 0 else results

    return accumulate


def _range(_: Backend, attributes: Attributes, start: Any, limit: Any, step: Any) -> Array:
    return np.arange(start, limit, step, dtype=np.dtype(attributes["Tidx"]))


def _pad(_: Backend, attributes: Attributes, values: Any, widths: Any, fill: Any = None) -> Array:
    values = np.asarray(values)
    empty = b"" if values.dtype == object else values.dtype.type(0)
    return np.pad(values, np.asarray(widths), constant_values=empty if fill is None else np.asarray(fill).item())


def _arg(function: Any, last: float) -> Callable[..., Array]:
    def arg(_: Backend, attributes: Attributes, values: Any, axis: Any) -> Array:
        if values.dtype.kind == "f":  # to NumPy, NaN is the largest and the smallest; to TensorFlow it is neither
            values = np.where(np.isnan(values), values.dtype.type(last), values)
        return np.asarray(function(values, int(axis))).astype(attributes.get("output_type", "int64"))

    return arg


def _top_k(_: Backend, attributes: Attributes, values: Any, k: Any) -> tuple[Array, Array]:
    """The largest values of the last axis, in falling order, equal ones by their places; and their places."""
    last = values.shape[-1]
    backwards = np.argsort(values[..., ::-1], axis=-1, kind="stable")  # equal ones: the last place comes first
    places = (last - 1 - backwards)[..., ::-1][..., : int(k)]
    return np.take_along_axis(values, places, -1), places.astype(attributes.get("index_type", "int32"))


def _of_each(function: Callable[[float], float]) -> Callable[..., Array]:
    def compute(_: Backend, attributes: Attributes, values: Any) -> Array:
        results = np.fromiter(map(function, np.ravel(values).tolist()), np.float64, np.size(values))
        return results.astype(values.dtype).reshape(values.shape)

    return compute


def _truncated(_: Backend, attributes: Attributes, a: Any, b: Any) -> Array:
    """The quotient of integers, rounded towards 0; without absolute values, as the smallest integer has none."""
    quotient, rest = np.divmod(a, b)
    return np.asarray(quotient + ((rest != 0) & ((rest < 0) != (np.asarray(a) < 0))))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "ArgMax": _arg(np.argmax, -np.inf),
    "ArgMin": _arg(np.argmin, np.inf),
    "Atan2": lambda _, attributes, y, x: np.arctan2(y, x),
    "BroadcastTo": lambda _, attributes, values, shape: np.broadcast_to(values, np.ravel(shape).tolist()),
    "Cumprod": _accumulate(np.cumprod, 1),
    "Cumsum": _accumulate(np.cumsum, 0),
    "Erf": _of_each(math.erf),
    "Erfc": _of_each(math.erfc),
    "Fill": _fill,
    "Pad": _pad,
    "PadV2": _pad,
    "Range": _range,
    "Tile": lambda _, attributes, values, times: np.tile(values, np.ravel(times).tolist()),
    "TopKV2": _top_k,
    "TruncateDiv": _truncated,
}
