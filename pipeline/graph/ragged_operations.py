"""TensorFlow's operations on lists of any length, in NumPy: ragged and sparse tensors by their parts. The host's part.

Each is a function (backend, attributes, *arguments) -> value, as those of `operations` are; the backend is NumPy's. The
parts of a ragged tensor are splits, int64 [rows + 1], and flat values; of a sparse one int64 [values, rank] indices,
values, and int64 [rank] shape. What TensorFlow gives as several tensors is a tuple here, whose items `Output` takes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..formats.decode import Array
from .backends import Backend

Attributes = Mapping[str, Any]


def _list_parts(_: Backend, attributes: Attributes, lists: Any) -> tuple[Array, Array, Array]:
    """A batch of lists, as loaders hold it (an array of arrays), as a sparse tensor."""
    rows = [np.asarray(each, attributes["dtype"]) for each in lists]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    owners, places = _coordinates(np.concatenate([[0], np.cumsum(lengths)]))
    values = np.concatenate([*rows, np.zeros(0, attributes["dtype"])])
    return np.stack([owners, places], axis=1), values, np.array([len(rows), lengths.max(initial=0)], np.int64)


def _coordinates(splits: Array) -> tuple[Array, Array]:
    """Of each value between splits, its row and its place in the row."""
    owners = np.repeat(np.arange(len(splits) - 1), np.diff(splits))
    return owners, np.arange(len(owners)) - splits[:-1][owners]


def _spans(starts: Array, ends: Array) -> tuple[Array, Array]:
    """All numbers from each start to before its end, one after the other, and the splits between them."""
    splits = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
    owners, places = _coordinates(splits)
    return starts[owners] + places, splits


def _to_tensor(_: Backend, attributes: Attributes, shape: Any, values: Any, default: Any, *partitions: Any) -> Array:
    """A dense tensor of a ragged one: longer rows are cut, shorter ones filled up."""
    splits = _splits(attributes["row_partition_types"], partitions)
    coordinates = [np.arange(len(splits[0]) - 1)]
    largest = []
    for level in splits:
        owners, places = _coordinates(level)
        coordinates = [*(each[owners] for each in coordinates), places]
        largest.append(int(np.diff(level).max(initial=0)))
    sizes = [len(splits[0]) - 1, *largest, *values.shape[1:]]
    given = np.ravel(shape).tolist() if np.ndim(shape) else [-1] * len(sizes)  # a scalar stands for no size at all
    sizes = [own if size < 0 else size for own, size in zip(sizes, given, strict=True)]
    filled = np.empty(sizes, values.dtype)
    filled[...] = default
    inside = np.all([each < size for each, size in zip(coordinates, sizes, strict=False)], axis=0)
    filled[tuple(each[inside] for each in coordinates)] = values[inside]
    return filled


def _splits(kinds: Sequence[str], partitions: Sequence[Any]) -> list[Array]:
    """The splits of each level, from outside to inside."""
    if kinds[0] == "ROW_SPLITS":
        return [np.asarray(partition) for partition in partitions]
    rows, splits = int(partitions[0]), []
    for owners in partitions[1:]:
        counts = np.bincount(owners, minlength=rows)
        splits.append(np.concatenate([[0], np.cumsum(counts)]))
        rows = len(owners)
    return splits


def _gather(_: Backend, attributes: Attributes, *parameters: Any) -> tuple[Array, ...]:
    """Rows of a ragged tensor: the splits of each level, and the flat values."""
    *splits, values, indices = parameters
    indices = np.asarray(indices)
    outer = [
        (np.arange(int(np.prod(indices.shape[:axis])) + 1) * indices.shape[axis]).astype(splits[0].dtype)
        for axis in range(1, indices.ndim)
    ]
    chosen = indices.ravel()
    for level in splits:
        chosen, new = _spans(level[chosen], level[chosen + 1])
        outer.append(new.astype(level.dtype))
    return (*outer, np.take(values, chosen, axis=0))


def _range(_: Backend, attributes: Attributes, starts: Any, limits: Any, deltas: Any) -> tuple[Array, Array]:
    starts, limits, deltas = np.broadcast_arrays(*(np.atleast_1d(each) for each in (starts, limits, deltas)))
    sizes = np.maximum(np.ceil((limits - starts) / deltas).astype(np.int64), 0)
    splits = np.concatenate([[0], np.cumsum(sizes)])
    owners, places = _coordinates(splits)
    values = starts[owners] + places * deltas[owners]
    return splits.astype(attributes["Tsplits"]), values.astype(starts.dtype)


def _to_sparse(_: Backend, attributes: Attributes, *parts: Any) -> tuple[Array, Array, Array]:
    *splits, values = parts
    if values.ndim != 1:
        raise ValueError(f"expected lists of single values, found tensors of {values.ndim - 1} more dimensions in them")
    coordinates = [np.arange(len(splits[0]) - 1)]
    for level in splits:
        owners, places = _coordinates(level)
        coordinates = [*(each[owners] for each in coordinates), places]
    shape = [len(splits[0]) - 1, *(int(np.diff(level).max(initial=0)) for level in splits)]
    return np.stack(coordinates, axis=1).astype(np.int64), values, np.array(shape, np.int64)


def _to_dense(_: Backend, attributes: Attributes, indices: Any, shape: Any, values: Any, default: Any) -> Array:
    dense = np.empty(np.ravel(shape).tolist(), values.dtype)
    dense[...] = default
    indices = np.asarray(indices)
    dense[tuple(indices.reshape(len(indices), -1).T)] = values
    return dense


def _sum_groups(indices: Any, values: Any, shape: Any, axes: Any) -> tuple[list[int], Array, Array]:
    """The axes that are left of a sparse tensor, the indices along these, each once and in order, and their sums."""
    among = {int(axis) % len(shape) for axis in np.ravel(axes)} or set(range(len(shape)))
    kept = [axis for axis in range(len(shape)) if axis not in among]
    groups, owners = np.unique(indices[:, kept], axis=0, return_inverse=True)
    sums = np.zeros(len(groups), values.dtype)
    np.add.at(sums, owners.ravel(), values)
    return kept, groups, sums


def _reduce_sum(_: Backend, attributes: Attributes, indices: Any, values: Any, shape: Any, axes: Any) -> Array:
    kept, groups, sums = _sum_groups(indices, values, shape, axes)
    dense = np.zeros([int(shape[axis]) for axis in kept], values.dtype)
    dense[tuple(groups.T)] = sums if kept else sums.sum(dtype=values.dtype)
    if attributes["keep_dims"]:
        return dense.reshape([int(size) if axis in kept else 1 for axis, size in enumerate(shape)])
    return dense


def _reduce_sum_sparse(
    _: Backend, attributes: Attributes, indices: Any, values: Any, shape: Any, axes: Any
) -> tuple[Array, Array, Array]:
    kept, groups, sums = _sum_groups(indices, values, shape, axes)
    if attributes["keep_dims"]:
        wide = np.zeros((len(groups), len(shape)), np.int64)
        wide[:, kept] = groups
        return wide, sums, np.array([size if axis in kept else 1 for axis, size in enumerate(shape)], np.int64)
    return groups, sums, np.array([shape[axis] for axis in kept], np.int64)


def _segments(function: Any, initial: Callable[[np.dtype[Any]], Any]) -> Callable[..., Array]:
    """A reduction of rows by the numbers of their segments; what is in none, below 0, is left out."""

    def reduce(_: Backend, attributes: Attributes, values: Any, owners: Any, count: Any = None) -> Array:
        owners = np.asarray(owners)
        rows = int(owners.max(initial=-1)) + 1 if count is None else int(count)
        flat = values.reshape(owners.size, *values.shape[owners.ndim :])
        reduced = np.full((rows, *flat.shape[1:]), initial(values.dtype), values.dtype)
        inside = owners.ravel() >= 0
        function.at(reduced, owners.ravel()[inside], flat[inside])
        return reduced

    return reduce


def _lowest(dtype: np.dtype[Any]) -> Any:
    return np.finfo(dtype).min if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    return np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max


def _bincount(_: Backend, attributes: Attributes, values: Any, size: Any, weights: Any) -> Array:
    rows = np.atleast_2d(values)
    counts = np.zeros((len(rows), int(size)), weights.dtype)
    owners = np.broadcast_to(np.arange(len(rows))[:, np.newaxis], rows.shape)
    inside = (rows >= 0) & (rows < int(size))
    if attributes["binary_output"]:
        counts[owners[inside], rows[inside]] = 1
    else:
        added = np.broadcast_to(weights, rows.shape)[inside] if weights.size else weights.dtype.type(1)
        np.add.at(counts, (owners[inside], rows[inside]), added)
    return counts.reshape(*np.shape(values)[:-1], int(size))


def _scatter(_: Backend, attributes: Attributes, indices: Any, updates: Any, shape: Any) -> Array:
    values = np.zeros(np.ravel(shape).tolist(), updates.dtype)
    np.add.at(values, tuple(np.moveaxis(np.asarray(indices), -1, 0)), updates)
    return values


OPERATIONS: dict[str, Callable[..., Any]] = {
    "DenseBincount": _bincount,
    "GatherNd": lambda _, attributes, values, indices: np.asarray(values)[tuple(np.moveaxis(indices, -1, 0))],
    "ListParts": _list_parts,
    "Output": lambda _, attributes, values: values[attributes["index"]],
    "RaggedGather": _gather,
    "RaggedRange": _range,
    "RaggedTensorToSparse": _to_sparse,
    "RaggedTensorToTensor": _to_tensor,
    "ScatterNd": _scatter,
    "SegmentSum": _segments(np.add, lambda _: 0),
    "SparseReduceSum": _reduce_sum,
    "SparseReduceSumSparse": _reduce_sum_sparse,
    "SparseToDense": _to_dense,
    "UnsortedSegmentMax": _segments(np.maximum, _lowest),
    "UnsortedSegmentMin": _segments(np.minimum, _highest),
    "UnsortedSegmentProd": _segments(np.multiply, lambda _: 1),
    "UnsortedSegmentSum": _segments(np.add, lambda _: 0),
    "Where": lambda _, attributes, condition: np.argwhere(np.asarray(condition)),
}
