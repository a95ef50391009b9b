"""One small interface over the arrays of NumPy, JAX, PyTorch and TensorFlow. A framework is imported by its own arrays.

Arithmetic, comparison and indexing are the arrays' own operators; what differs by framework is here.
"""

import sys
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, Protocol

import numpy as np


class Backend(Protocol):
    """What the operations need of a framework. Arguments and results are its own arrays, or NumPy's for constants."""

    def constant(self, array: Any, like: Any) -> Any: ...
    def hide_from_optimizer(self, value: Any) -> Any: ...
    def cast(self, value: Any, dtype: str) -> Any: ...
    def unary(self, name: str, value: Any) -> Any: ...
    def maximum(self, a: Any, b: Any) -> Any: ...
    def minimum(self, a: Any, b: Any) -> Any: ...
    def where(self, condition: Any, yes: Any, no: Any) -> Any: ...
    def shape(self, value: Any, dtype: str) -> Any: ...
    def reshape(self, value: Any, shape: Any) -> Any: ...
    def transpose(self, value: Any, axes: tuple[int, ...]) -> Any: ...
    def full_like(self, value: Any, fill: int) -> Any: ...
    def stack(self, values: Sequence[Any], axis: int) -> Any: ...
    def concat(self, values: Sequence[Any], axis: int) -> Any: ...
    def reduce(self, name: str, value: Any, axes: tuple[int, ...], keep: bool) -> Any: ...
    def take(self, values: Any, indices: Any, axis: int) -> Any: ...
    def search(self, boundaries: Any, values: Any, side: str) -> Any: ...
    def search_rows(self, boundaries: Any, values: Any, side: str) -> Any: ...
    def index(self, value: Any, index: tuple[Any, ...]) -> Any: ...


def backend_of(values: Sequence[Any]) -> Backend:
    """The backend of some values: NumPy's where all are NumPy's, else that of the first other one."""
    for value in values:
        if not isinstance(value, np.ndarray | np.generic):
            return _backend(type(value).__module__.partition(".")[0])
    return NUMPY


@cache
def _backend(module: str) -> Backend:
    if module == "torch":
        return TorchBackend()
    if module == "tensorflow":
        return TensorFlowBackend()
    if module in ("jax", "jaxlib"):
        return ArrayBackend(sys.modules["jax"].numpy)
    if module.startswith("keras"):
        raise TypeError("expected the backend's own tensors, found Keras' symbolic ones; see penstock's Keras layer")
    raise TypeError(f"expected arrays of NumPy, JAX, PyTorch or TensorFlow, found one of {module}")


class ArrayBackend:
    """NumPy, and JAX's version of it."""

    def __init__(self, module: Any) -> None:
        self._np = module

    def constant(self, array: Any, like: Any) -> Any:
        return array

    def hide_from_optimizer(self, value: Any) -> Any:
        return value

    def cast(self, value: Any, dtype: str) -> Any:
        target = np.dtype(dtype)
        if self._np is not np:
            target = sys.modules["jax"].dtypes.canonicalize_dtype(target)
        return value.astype(target) if value.dtype != target else value

    def unary(self, name: str, value: Any) -> Any:
        if name != "sigmoid":
            return getattr(self._np, name)(value)
        if self._np is not np:
            return sys.modules["jax"].nn.sigmoid(value)
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-value.astype(np.float64)))).astype(value.dtype)

    def maximum(self, a: Any, b: Any) -> Any:
        return self._np.maximum(a, b)

    def minimum(self, a: Any, b: Any) -> Any:
        return self._np.minimum(a, b)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        return self._np.where(condition, yes, no)

    def shape(self, value: Any, dtype: str) -> Any:
        return np.array(value.shape, dtype)

    def reshape(self, value: Any, shape: Any) -> Any:
        return value.reshape(tuple(np.ravel(shape).tolist()))

    def transpose(self, value: Any, axes: tuple[int, ...]) -> Any:
        return self._np.transpose(value, axes)

    def full_like(self, value: Any, fill: int) -> Any:
        return self._np.full_like(value, fill)

    def stack(self, values: Sequence[Any], axis: int) -> Any:
        return self._np.stack(values, axis)

    def concat(self, values: Sequence[Any], axis: int) -> Any:
        return self._np.concatenate(values, axis)

    def reduce(self, name: str, value: Any, axes: tuple[int, ...], keep: bool) -> Any:
        options = _same_dtype(name, value) if value.size else {**_same_dtype(name, value), **_of_nothing(name, value)}
        return getattr(self._np, name)(value, axis=axes, keepdims=keep, **options)

    def take(self, values: Any, indices: Any, axis: int) -> Any:
        return self._np.take(values, indices, axis)

    def search(self, boundaries: Any, values: Any, side: str) -> Any:
        return self._np.searchsorted(boundaries, values, side=side)

    def search_rows(self, boundaries: Any, values: Any, side: str) -> Any:
        if len(boundaries) == 1:
            return self.search(boundaries[0], values[0], side)[None]
        if self._np is not np:
            return sys.modules["jax"].vmap(partial(self.search, side=side))(boundaries, values)
        return np.stack([self.search(*row, side) for row in zip(boundaries, values, strict=True)])

    def index(self, value: Any, index: tuple[Any, ...]) -> Any:
        return value[index]


def _same_dtype(name: str, value: Any) -> dict[str, Any]:
    return {"dtype": value.dtype} if name in ("sum", "prod") else {}


def _of_nothing(name: str, value: Any) -> dict[str, Any]:
    """What the largest and the smallest of no values are to TensorFlow."""
    if name not in ("max", "min"):
        return {}
    if value.dtype.kind == "f":
        return {"initial": -np.inf if name == "max" else np.inf}
    limits = np.iinfo(str(value.dtype))
    return {"initial": limits.min if name == "max" else limits.max}


NUMPY = ArrayBackend(np)


def to_device(tensor: Any, device: Any) -> Any:
    """A PyTorch tensor on a device.

    On the way to a GPU it is copied from pinned memory: what is computed there comes after the copy, but this process
    goes on. Of pageable memory, PyTorch would wait until the GPU has done all that it was asked for before.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class TorchBackend:
    """PyTorch, on the device where the values are."""

    def __init__(self) -> None:
        self._torch = sys.modules["torch"]

    def _tensor(self, value: Any, like: Any = None) -> Any:
        if not isinstance(value, np.ndarray | np.generic):
            return value
        tensor = self._torch.from_numpy(np.array(value))
        return tensor if like is None else to_device(tensor, like.device)

    def _pair(self, a: Any, b: Any) -> tuple[Any, Any]:
        return self._tensor(a, b), self._tensor(b, a)

    def constant(self, array: Any, like: Any) -> Any:
        return self._tensor(array, like)

    def hide_from_optimizer(self, value: Any) -> Any:
        return value

    def cast(self, value: Any, dtype: str) -> Any:
        return value.to(getattr(self._torch, dtype))

    def unary(self, name: str, value: Any) -> Any:
        result = getattr(self._torch, name)(value)
        if name == "sign" and value.is_floating_point():  # of NaN PyTorch makes 0
            return self._torch.where(value.isnan(), value, result)
        return result

    def maximum(self, a: Any, b: Any) -> Any:
        return self._torch.maximum(*self._pair(a, b))

    def minimum(self, a: Any, b: Any) -> Any:
        return self._torch.minimum(*self._pair(a, b))

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        like = next(value for value in (condition, yes, no) if not isinstance(value, np.ndarray | np.generic))
        return self._torch.where(*(self._tensor(value, like) for value in (condition, yes, no)))

    def shape(self, value: Any, dtype: str) -> Any:
        return np.array(value.shape, dtype)

    def reshape(self, value: Any, shape: Any) -> Any:
        return value.reshape(tuple(np.ravel(shape).tolist()))

    def transpose(self, value: Any, axes: tuple[int, ...]) -> Any:
        return value.permute(axes)

    def full_like(self, value: Any, fill: int) -> Any:
        return self._torch.full_like(value, fill)

    def stack(self, values: Sequence[Any], axis: int) -> Any:
        return self._torch.stack(self._alike(values), axis)

    def concat(self, values: Sequence[Any], axis: int) -> Any:
        return self._torch.cat(self._alike(values), axis)

    def _alike(self, values: Sequence[Any]) -> list[Any]:
        like = next(value for value in values if not isinstance(value, np.ndarray | np.generic))
        return [self._tensor(value, like) for value in values]

    def reduce(self, name: str, value: Any, axes: tuple[int, ...], keep: bool) -> Any:
        if name in ("max", "min"):
            return getattr(self._torch, f"a{name}")(value, dim=axes, keepdim=keep)
        if name == "prod":  # one axis at a time is all that PyTorch does
            for axis in sorted((axis % value.ndim for axis in axes), reverse=True):
                value = value.prod(dim=axis, keepdim=keep, **_same_dtype(name, value))
            return value
        return getattr(self._torch, name)(value, dim=axes, keepdim=keep, **_same_dtype(name, value))

    def take(self, values: Any, indices: Any, axis: int) -> Any:
        values, indices = self._pair(values, indices)
        flat = self._torch.index_select(values, axis, indices.reshape(-1))
        return flat.reshape(values.shape[:axis] + indices.shape + values.shape[axis + 1 :])

    def search(self, boundaries: Any, values: Any, side: str) -> Any:
        boundaries, values = self._pair(boundaries, values)
        return self._torch.searchsorted(boundaries.contiguous(), values.contiguous(), side=side)

    def search_rows(self, boundaries: Any, values: Any, side: str) -> Any:
        return self.search(boundaries, values, side)

    def index(self, value: Any, index: tuple[Any, ...]) -> Any:
        """Indexes a tensor; PyTorch's slices go forward only, so those that go back are turned round afterwards."""
        rank, given = len(value.shape), sum(item is not None and item is not ... for item in index)
        filled = [part for item in index for part in ([slice(None)] * (rank - given) if item is ... else [item])]
        sizes = iter(value.shape)
        turned: list[int] = []
        forward: list[Any] = []
        for item in filled:
            size = 0 if item is None else next(sizes)
            if isinstance(item, slice) and (item.step or 1) < 0:
                places = range(*item.indices(size))[::-1]
                item = slice(places.start, places.stop, places.step)
                turned.append(sum(not isinstance(before, int) for before in forward))
            forward.append(item)
        selected = value[tuple(forward)]
        return selected.flip(turned) if turned else selected


_TENSORFLOW_NAMES = {
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "isfinite": "is_finite",
    "isinf": "is_inf",
    "isnan": "is_nan",
}


class TensorFlowBackend:
    """TensorFlow, eager or in a function."""

    def __init__(self) -> None:
        self._tf = sys.modules["tensorflow"]

    def constant(self, array: Any, like: Any) -> Any:
        return self.hide_from_optimizer(self._tf.constant(array))

    def hide_from_optimizer(self, value: Any) -> Any:
        """The value itself, hidden from the optimizer of graphs: see `savedmodel.hide_from_optimizer`."""
        if self._tf.executing_eagerly() or not self._tf.is_tensor(value) or not value.dtype.is_floating:
            return value
        return self._tf.raw_ops.PlaceholderWithDefault(input=value, shape=value.shape)

    def cast(self, value: Any, dtype: str) -> Any:
        return self._tf.cast(value, dtype)

    def unary(self, name: str, value: Any) -> Any:
        return getattr(self._tf.math, _TENSORFLOW_NAMES.get(name, name))(value)

    def maximum(self, a: Any, b: Any) -> Any:
        return self._tf.maximum(a, b)

    def minimum(self, a: Any, b: Any) -> Any:
        return self._tf.minimum(a, b)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        return self._tf.where(condition, yes, no)

    def shape(self, value: Any, dtype: str) -> Any:
        if value.shape.is_fully_defined():
            return np.array(value.shape.as_list(), dtype)
        return self._tf.shape(value, dtype)

    def reshape(self, value: Any, shape: Any) -> Any:
        return self._tf.reshape(value, shape)

    def transpose(self, value: Any, axes: tuple[int, ...]) -> Any:
        return self._tf.transpose(value, axes)

    def full_like(self, value: Any, fill: int) -> Any:
        return self._tf.zeros_like(value) if fill == 0 else self._tf.ones_like(value)

    def stack(self, values: Sequence[Any], axis: int) -> Any:
        return self._tf.stack(values, axis)

    def concat(self, values: Sequence[Any], axis: int) -> Any:
        return self._tf.concat(values, axis)

    def reduce(self, name: str, value: Any, axes: tuple[int, ...], keep: bool) -> Any:
        return getattr(self._tf, f"reduce_{name}")(value, axes, keepdims=keep)

    def take(self, values: Any, indices: Any, axis: int) -> Any:
        return self._tf.gather(values, indices, axis=axis)

    def search(self, boundaries: Any, values: Any, side: str) -> Any:
        return self._tf.searchsorted(boundaries, values, side=side)

    def search_rows(self, boundaries: Any, values: Any, side: str) -> Any:
        return self.search(boundaries, values, side)

    def index(self, value: Any, index: tuple[Any, ...]) -> Any:
        return value[index]
