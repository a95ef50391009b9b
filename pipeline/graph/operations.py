"""The operations that a portable graph may have, each as TensorFlow defines it. NumPy only; see `backends`.

Each is a function (backend, attributes, *arguments) -> value. Arguments are arrays of the backend's framework, or NumPy
arrays where they are constants or shapes.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from .backends import Backend

Attributes: TypeAlias = Mapping[str, Any]
Operation: TypeAlias = Callable[..., Any]


def _unary(name: str) -> Operation:
    return lambda backend, _, value: backend.unary(name, value)


def _cast(backend: Backend, attributes: Attributes, value: Any) -> Any:
    return backend.cast(value, attributes["DstT"])


def _reshape(backend: Backend, _: Attributes, value: Any, shape: Any) -> Any:
    return backend.reshape(value, shape)


def _expand_dims(backend: Backend, _: Attributes, value: Any, axis: Any) -> Any:
    rank = len(value.shape)
    position = int(axis) % (rank + 1)
    return value[(slice(None),) * position + (None,)]


def _squeeze(backend: Backend, attributes: Attributes, value: Any) -> Any:
    axes = {axis % len(value.shape) for axis in attributes["squeeze_dims"]}
    if not axes:
        axes = {axis for axis, size in enumerate(value.shape) if size == 1}
    return value[tuple(0 if axis in axes else slice(None) for axis in range(len(value.shape)))]


def _strided_slice(backend: Backend, attributes: Attributes, value: Any, begin: Any, end: Any, strides: Any) -> Any:
    """Indexes a value; in each of the masks, bit i says how the i-th part of the index is to be understood."""
    index: list[Any] = []
    for position, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << position
        if attributes["ellipsis_mask"] & bit:
            index.append(...)
        elif attributes["new_axis_mask"] & bit:
            index.append(None)
        elif attributes["shrink_axis_mask"] & bit:
            index.append(int(start))
        else:
            first = None if attributes["begin_mask"] & bit else int(start)
            last = None if attributes["end_mask"] & bit else int(stop)
            index.append(slice(first, last, int(step)))
    return backend.index(value, tuple(index))


def _select(backend: Backend, _: Attributes, condition: Any, yes: Any, no: Any) -> Any:
    return backend.where(condition, yes, no)


def _reduce(name: str) -> Operation:
    def reduce(backend: Backend, attributes: Attributes, value: Any, axes: Any) -> Any:
        among = tuple(np.ravel(axes).tolist())
        return backend.reduce(name, value, among, attributes["keep_dims"]) if among else value

    return reduce


def _gather(backend: Backend, _: Attributes, values: Any, indices: Any, axis: Any) -> Any:
    return backend.take(values, indices, int(axis) % len(values.shape))


def _one_hot(backend: Backend, attributes: Attributes, indices: Any, depth: Any, on: Any, off: Any) -> Any:
    axis = attributes["axis"] % (len(indices.shape) + 1)
    classes = np.arange(int(depth), dtype=str(np.dtype(_numpy_dtype(indices))))
    shape = [1] * (len(indices.shape) + 1)
    shape[axis] = -1
    wide = indices[(slice(None),) * axis + (None,)]
    return backend.where(wide == backend.constant(classes.reshape(shape), wide), on, off)


def _numpy_dtype(value: Any) -> str:
    """The name of a dtype of any framework: "int64" for "torch.int64", too."""
    dtype = value.dtype
    return str(getattr(dtype, "name", dtype)).rpartition(".")[2]


def _bucketize(backend: Backend, attributes: Attributes, value: Any) -> Any:
    boundaries = np.array(attributes["boundaries"], np.float32)
    return backend.cast(backend.search(boundaries, value, "right"), "int32")


def _floor_div(backend: Backend, _: Attributes, a: Any, b: Any) -> Any:
    """Of floats the floor of the rounded quotient, as in TensorFlow: 1.0 // 0.1 is 10, where NumPy gives 9."""
    return backend.unary("floor", a / b) if "float" in _numpy_dtype(a) else a // b


def _bound(side: str) -> Operation:
    def bound(backend: Backend, attributes: Attributes, boundaries: Any, values: Any) -> Any:
        places = backend.search_rows(boundaries, values, side)
        if side == "left" and "float" in _numpy_dtype(values):  # TensorFlow: NaN is not above any boundary
            places = backend.where(backend.unary("isnan", values), np.zeros((), _numpy_dtype(places)), places)
        return backend.cast(places, attributes["out_type"])

    return bound


def _as_string(backend: Backend, _: Attributes, numbers: Any) -> Any:
    return np.asarray(numbers).astype(np.bytes_).astype(object)


def _only_bucket(backend: Backend, attributes: Attributes, strings: Any) -> Any:
    """Strings by their hash in one bucket: what a vocabulary with one bucket for all unknown ones asks for."""
    return np.zeros(strings.shape, np.int64)


OPERATIONS: dict[str, Operation] = {
    # as it is
    "Identity": lambda backend, _, value: value,
    "StopGradient": lambda backend, _, value: value,
    "EnsureShape": lambda backend, _, value: value,
    "CheckNumerics": lambda backend, _, value: value,
    # arithmetic
    "Add": lambda backend, _, a, b: a + b,
    "AddV2": lambda backend, _, a, b: a + b,
    "Sub": lambda backend, _, a, b: a - b,
    "Mul": lambda backend, _, a, b: a * b,
    "RealDiv": lambda backend, _, a, b: a / b,
    "FloorDiv": _floor_div,
    "FloorMod": lambda backend, _, a, b: a % b,
    "Maximum": lambda backend, _, a, b: backend.maximum(a, b),
    "Minimum": lambda backend, _, a, b: backend.minimum(a, b),
    "Neg": lambda backend, _, value: -value,
    "Square": lambda backend, _, value: value * value,
    "SquaredDifference": lambda backend, _, a, b: (a - b) * (a - b),
    **{
        kind: _unary(name)
        for kind, name in {
            "Abs": "abs",
            "Ceil": "ceil",
            "Exp": "exp",
            "Floor": "floor",
            "IsFinite": "isfinite",
            "IsNan": "isnan",
            "Log": "log",
            "Log1p": "log1p",
            "LogicalNot": "logical_not",
            "Sigmoid": "sigmoid",
            "Sign": "sign",
            "Sqrt": "sqrt",
            "Tanh": "tanh",
        }.items()
    },
    # comparison
    "Equal": lambda backend, _, a, b: a == b,
    "NotEqual": lambda backend, _, a, b: a != b,
    "Greater": lambda backend, _, a, b: a > b,
    "GreaterEqual": lambda backend, _, a, b: a >= b,
    "Less": lambda backend, _, a, b: a < b,
    "LessEqual": lambda backend, _, a, b: a <= b,
    "LogicalAnd": lambda backend, _, a, b: a & b,
    "LogicalOr": lambda backend, _, a, b: a | b,
    "SelectV2": _select,
    # dtype and shape
    "Cast": _cast,
    "Shape": lambda backend, attributes, value: backend.shape(value, attributes["out_type"]),
    "Reshape": _reshape,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "ZerosLike": lambda backend, _, value: backend.full_like(value, 0),
    "OnesLike": lambda backend, _, value: backend.full_like(value, 1),
    "Pack": lambda backend, attributes, *values: backend.stack(values, attributes["axis"]),
    "ConcatV2": lambda backend, _, *values: backend.concat(values[:-1], int(values[-1])),
    "Transpose": lambda backend, _, value, axes: backend.transpose(value, tuple(np.ravel(axes).tolist())),
    # reductions
    "Sum": _reduce("sum"),
    "Mean": _reduce("mean"),
    "Max": _reduce("max"),
    "Min": _reduce("min"),
    # classes
    "GatherV2": _gather,
    "OneHot": _one_hot,
    "AsString": _as_string,
    "StringToHashBucketFast": _only_bucket,
    "Bucketize": _bucketize,
    "LowerBound": _bound("left"),
    "UpperBound": _bound("right"),
}
