"""The operations that a portable graph may have, each as TensorFlow defines it. NumPy only; see `backends`.

Each is a function (backend, attributes, *arguments) -> value. Arguments are arrays of the backend's framework, or NumPy
arrays where they are constants or shapes. Those here run anywhere; those in HOST_OPERATIONS on NumPy arrays only.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from . import array_operations, ragged_operations, string_operations
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


def _logical(name: str) -> Operation:
    """A reduction of truth values, by way of integers, which all frameworks compare."""
    reduce = _reduce(name)
    return lambda backend, attributes, value, axes: backend.cast(
        reduce(backend, attributes, backend.cast(value, "int32"), axes), "bool"
    )


def _part(backend: Backend, value: Any, axis: int, index: Any) -> Any:
    """A value indexed along one axis."""
    return backend.index(value, (slice(None),) * (axis % len(value.shape)) + (index,))


def _unpack(backend: Backend, attributes: Attributes, value: Any) -> Any:
    return _part(backend, value, attributes["axis"], attributes["output"])


def _split(backend: Backend, attributes: Attributes, axis: Any, value: Any) -> Any:
    size = value.shape[int(axis)] // attributes["num_split"]
    start = attributes["output"] * size
    return _part(backend, value, int(axis), slice(start, start + size))


def _split_by_sizes(backend: Backend, attributes: Attributes, value: Any, sizes: Any, axis: Any) -> Any:
    given = np.ravel(sizes).tolist()
    rest = int(value.shape[int(axis)]) - sum(size for size in given if size >= 0)
    ends = np.cumsum([rest if size < 0 else size for size in given]).tolist()
    position = attributes["output"]
    return _part(backend, value, int(axis), slice(ends[position - 1] if position else 0, ends[position]))


def _slice(backend: Backend, _: Attributes, value: Any, begin: Any, sizes: Any) -> Any:
    starts = np.ravel(begin).tolist()
    ends = [None if size < 0 else start + size for start, size in zip(starts, np.ravel(sizes).tolist(), strict=True)]
    return backend.index(value, tuple(slice(start, end) for start, end in zip(starts, ends, strict=True)))


def _reverse(backend: Backend, _: Attributes, value: Any, axes: Any) -> Any:
    among = {int(axis) % len(value.shape) for axis in np.ravel(axes)}
    return backend.index(
        value, tuple(slice(None, None, -1 if axis in among else 1) for axis in range(len(value.shape)))
    )


def _size(backend: Backend, attributes: Attributes, value: Any) -> Any:
    shape = backend.shape(value, attributes["out_type"])
    return (
        shape.prod(dtype=shape.dtype) if isinstance(shape, np.ndarray) else backend.reduce("prod", shape, (0,), False)
    )


def _zero(value: Any) -> Any:
    return np.zeros((), _numpy_dtype(value))


def _matmul(first: str, second: str) -> Operation:
    """A product of matrices; an attribute each says whether to transpose them first."""

    def transposed(backend: Backend, value: Any) -> Any:
        axes = list(range(len(value.shape)))
        return backend.transpose(value, (*axes[:-2], axes[-1], axes[-2]))

    def matmul(backend: Backend, attributes: Attributes, a: Any, b: Any) -> Any:
        a = transposed(backend, a) if attributes[first] else a
        return a @ (transposed(backend, b) if attributes[second] else b)

    return matmul


def _softmax(backend: Backend, _: Attributes, value: Any) -> Any:
    powers = backend.unary("exp", value - backend.reduce("max", value, (-1,), True))
    return powers / backend.reduce("sum", powers, (-1,), True)


def _log_softmax(backend: Backend, _: Attributes, value: Any) -> Any:
    shifted = value - backend.reduce("max", value, (-1,), True)
    return shifted - backend.unary("log", backend.reduce("sum", backend.unary("exp", shifted), (-1,), True))


def _softplus(backend: Backend, _: Attributes, value: Any) -> Any:
    small = backend.unary("log1p", backend.unary("exp", -backend.unary("abs", value)))
    return backend.maximum(value, _zero(value)) + small


def _quotient_or_zero(backend: Backend, _: Attributes, a: Any, b: Any) -> Any:
    return backend.where(b == 0, _zero(a), a / b)


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
    "AddN": lambda backend, _, first, *others: sum(others, first),
    "Pow": lambda backend, _, a, b: a**b,
    "Reciprocal": lambda backend, _, value: 1 / value,
    "Rsqrt": lambda backend, _, value: 1 / backend.unary("sqrt", value),
    "DivNoNan": _quotient_or_zero,
    "ClipByValue": lambda backend, _, value, low, high: backend.minimum(backend.maximum(value, low), high),
    "Relu": lambda backend, _, value: backend.maximum(value, _zero(value)),
    "Relu6": lambda backend, _, value: backend.minimum(backend.maximum(value, _zero(value)), _zero(value) + 6),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Softplus": _softplus,
    "MatMul": _matmul("transpose_a", "transpose_b"),
    "BatchMatMulV2": _matmul("adj_x", "adj_y"),
    "BitwiseAnd": lambda backend, _, a, b: a & b,
    "BitwiseOr": lambda backend, _, a, b: a | b,
    "BitwiseXor": lambda backend, _, a, b: a ^ b,
    "Square": lambda backend, _, value: value * value,
    "SquaredDifference": lambda backend, _, a, b: (a - b) * (a - b),
    **{
        kind: _unary(name)
        for kind, name in {
            "Abs": "abs",
            "Acos": "arccos",
            "Asin": "arcsin",
            "Atan": "arctan",
            "Ceil": "ceil",
            "Cos": "cos",
            "Cosh": "cosh",
            "Exp": "exp",
            "Expm1": "expm1",
            "Floor": "floor",
            "IsFinite": "isfinite",
            "IsInf": "isinf",
            "IsNan": "isnan",
            "Log": "log",
            "Log1p": "log1p",
            "LogicalNot": "logical_not",
            "Round": "round",
            "Sigmoid": "sigmoid",
            "Sign": "sign",
            "Sin": "sin",
            "Sinh": "sinh",
            "Sqrt": "sqrt",
            "Tan": "tan",
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
    "Unpack": _unpack,
    "Split": _split,
    "SplitV": _split_by_sizes,
    "Slice": _slice,
    "ReverseV2": _reverse,
    "Size": _size,
    "Rank": lambda backend, _, value: np.array(len(value.shape), np.int32),
    "Transpose": lambda backend, _, value, axes: backend.transpose(value, tuple(np.ravel(axes).tolist())),
    # reductions
    "Prod": _reduce("prod"),
    "Sum": _reduce("sum"),
    "Mean": _reduce("mean"),
    "All": _logical("min"),
    "Any": _logical("max"),
    "Max": _reduce("max"),
    "Min": _reduce("min"),
    # classes
    "GatherV2": _gather,
    "OneHot": _one_hot,
    "Bucketize": _bucketize,
    "LowerBound": _bound("left"),
    "UpperBound": _bound("right"),
}

HOST_OPERATIONS: dict[str, Operation] = {
    **array_operations.OPERATIONS,
    **ragged_operations.OPERATIONS,
    **string_operations.OPERATIONS,
}
