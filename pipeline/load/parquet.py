"""Reads Parquet shards: a row group at a time, which is kept, as NumPy arrays, while it is needed. Imports Arrow."""

import errno
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamagedRecordError, DatasetError
from ..formats.decode import Array, Arrays, dtype_of, missing
from ..formats.features import Feature
from ..storage import files
from .locks import ProcessLock
from .open_files import KEPT_BYTES, OpenFiles
from .reader import Reader
from .records import READ_ERRORS, Damage
from .shard_files import ShardFile, side_by_side


class ParquetReader(Reader):
    """Reads Parquet shards. It pickles, without what it keeps.

    Args:
      shards: Where they are.
      features: The columns that are read.
      cache: Whether to keep all examples, and not only some row groups.
      open_files: Keeps their files open; None: for this reader alone.
    """

    def __init__(
        self,
        shards: Sequence[ShardFile],
        features: Mapping[str, Feature],
        cache: bool = False,
        open_files: OpenFiles | None = None,
    ) -> None:
        super().__init__(features, [shard.records for shard in shards], batched=True, cache=cache)
        self._shards = tuple(shards)
        self._starts = list(accumulate(self.sizes, initial=0))
        self._arrays = [name for name, feature in features.items() if feature.shape != ()]
        self._locks = [ProcessLock() for _ in shards]
        self._kept_lock = ProcessLock()
        self._groups: dict[int, list[int]] = {}  # the number of the first row of each of a shard's row groups
        self._open_files = OpenFiles() if open_files is None else open_files
        self._key = object()  # a file is read by one reader, with one lock
        self._kept: OrderedDict[tuple[int, int], tuple[Arrays, int]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetReader, (self._shards, self.features, self.caches)

    def read(self, arrays: Arrays, numbers: Sequence[int], first: int) -> Damage:
        damage = Damage()
        indices = np.asarray(numbers)
        shards = np.searchsorted(self._starts, indices, "right") - 1

        def read(shard: int) -> Damage:
            positions = np.flatnonzero(shards == shard)
            try:
                return self._read_shard(shard, indices[positions] - self._starts[shard], positions, arrays, first)
            except READ_ERRORS as error:
                return dict.fromkeys(positions.tolist(), error)

        there = np.unique(shards).tolist()
        local = all(files.is_local(self._shards[shard].uri) for shard in there)
        for part in map(read, there) if local else side_by_side(read, there):  # decoding takes the most, on a disk
            damage |= part
        return damage

    def example(self, number: int) -> dict[str, Any]:
        if self.caches:
            return super().example(number)
        shard = bisect_right(self._starts, number) - 1  # on a list: a tenth of what NumPy takes for one number
        row = number - self._starts[shard]
        groups = self._row_groups(shard)
        group = bisect_right(groups, row) - 1
        columns, inside = self._columns(shard, group), row - groups[group]
        example = {name: values[inside] for name, values in columns.items()}
        for name in self._arrays:  # what is kept must not change
            example[name] = example[name].copy()
        return example

    def _read_shard(self, shard: int, rows: Array, positions: Array, arrays: Arrays, first: int) -> Damage:
        """Reads rows of a shard to some positions of a batch, a row group at a time."""
        damage = Damage()
        starts = self._row_groups(shard)
        groups = np.searchsorted(starts, rows, "right") - 1
        for group in np.unique(groups).tolist():
            in_group = groups == group
            try:
                columns = self._columns(shard, group)
            except READ_ERRORS as error:
                damage |= dict.fromkeys(positions[in_group].tolist(), error)
                continue
            for name, array in arrays.items():
                array[first + positions[in_group]] = columns[name][rows[in_group] - starts[group]]
        return damage

    def _row_groups(self, shard: int) -> list[int]:
        """The number of the first row of each of a shard's row groups."""
        starts = self._groups.get(shard)
        if starts is None:
            with self._locks[shard]:
                self._file(shard)
                starts = self._groups[shard]
        return starts

    def _file(self, shard: int) -> Any:
        """A shard's open file; called with the shard's lock."""
        file = self._open_files.find((self._key, shard))
        return self._open_files.open((self._key, shard), lambda: (self._open(shard), 0)) if file is None else file

    def _open(self, shard: int) -> Any:
        file = _open(self._shards[shard])
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        if sum(counts) != self.sizes[shard]:
            raise DatasetError(
                f"{self._shards[shard].uri}: expected {self.sizes[shard]} rows, found {sum(counts)}; "
                "run `penstock verify`"
            )
        self._groups[shard] = list(accumulate(counts[:-1], initial=0))
        return file

    def _columns(self, shard: int, group: int) -> Arrays:
        """A row group's columns; those used longest ago are dropped, beyond what may be kept."""
        with self._kept_lock:
            kept = self._kept.get((shard, group))
            if kept:
                self._kept.move_to_end((shard, group))
                return kept[0]
        with self._locks[shard]:
            with self._kept_lock:
                kept = self._kept.get((shard, group))
            if kept:
                return kept[0]
            columns, size = _read(self._shards[shard].uri, self._file(shard), group, self.features)
            with self._kept_lock:
                self._kept[shard, group] = columns, size
                while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
                    self._kept.popitem(last=False)
        return columns


def _open(shard: ShardFile) -> Any:
    try:
        if files.is_local(shard.uri):
            files.size(shard.uri)  # refuses a pipe, for which Arrow would wait
            return pq.ParquetFile(shard.uri, page_checksum_verification=True)
        # columns that are near each other in one request, several at a time
        return pq.ParquetFile(files.open_remote(shard.uri), page_checksum_verification=True, pre_buffer=True)
    except FileNotFoundError as error:
        raise DatasetError(f"{shard.uri}: a file of the dataset is missing; run `penstock verify`") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EMFILE:  # nothing is wrong with the file
            raise
        raise DatasetError(
            f"{shard.uri}: expected a whole Parquet file, found: {error}; run `penstock verify`"
        ) from error


def _read(uri: str, file: Any, group: int, features: Mapping[str, Feature]) -> tuple[Arrays, int]:
    """A row group's columns as arrays of the features' dtypes, and about how many bytes they take."""
    try:
        table = file.read_row_group(group, columns=list(features))
    except (pa.ArrowException, OSError) as error:
        raise DamagedRecordError(
            f"{uri}: row group {group} is damaged ({error}): its {file.metadata.row_group(group).num_rows} rows cannot "
            "be read; run `penstock verify`"
        ) from error
    columns = {}
    for name, feature in features.items():
        try:
            columns[name] = _to_numpy(table.column(name).combine_chunks(), feature)
        except (KeyError, pa.ArrowException) as error:
            raise DatasetError(
                f"{uri}: expected a column {name!r} of {feature.dtype}, found {table.schema}; run `penstock verify`"
            ) from error
    return columns, 2 * table.nbytes + 8 * sum(array.size for array in columns.values())


def _to_numpy(column: pa.Array, feature: Feature) -> Array:
    """A column as `decode` would give it from tf.train.Examples: of the feature's dtype, a missing value filled in."""
    if None in feature.shape:
        lists = np.empty(len(column), object)
        items = _to_numpy(column.values, Feature(feature.kind, feature.dtype, ()))
        offsets = np.asarray(column.offsets).tolist()
        for row, valid in enumerate(column.is_valid().to_pylist()):
            lists[row] = items[offsets[row] : offsets[row + 1]] if valid else missing(feature)
        return lists
    if feature.dtype == "string":
        strings = np.empty(len(column), object)
        strings[:] = column.cast(pa.large_binary()).fill_null(missing(feature)).to_pylist()
        return strings
    kind = {"int64": pa.int64(), "float32": pa.float64()}[feature.dtype]
    with np.errstate(over="ignore"):
        numbers: Array = column.cast(kind).fill_null(missing(feature)).to_numpy(zero_copy_only=False)
        return numbers.astype(dtype_of(feature))
