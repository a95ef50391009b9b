"""Reads Parquet shards: a row group at a time, which is kept, as NumPy arrays, while it is needed. Imports Arrow."""

import errno
import io
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamagedRecordError, DatasetError
from ..formats.decode import Array, Arrays, dtype_of, missing
from ..formats.features import Feature
from ..storage import files
from .ahead import Part, Storage
from .block_cache import BlockCache
from .locks import ProcessLock
from .open_files import KEPT_BYTES, OpenFiles
from .reader import Reader
from .records import READ_ERRORS, Damage, Places
from .shard_files import Integers, RemoteFile, ShardFile, ShardSource, fits, remote_file, side_by_side, split_range

_GROUP_BITS = 32  # of a row group's number in its shard
_END = 1 << 16  # bytes of a file's end, which Arrow reads first


class ParquetReader(Reader):
    """Reads Parquet shards. It pickles, without what it keeps.

    Args:
      shards: Where they are.
      features: The columns that are read.
      cache: Whether to keep all examples, and not only some row groups.
      open_files: Keeps their files open; None: for this reader alone.
      blocks: Where blocks of them are kept, if they are in a store; None: nowhere.
    """

    def __init__(
        self,
        shards: Sequence[ShardFile],
        features: Mapping[str, Feature],
        cache: bool = False,
        open_files: OpenFiles | None = None,
        blocks: BlockCache | None = None,
    ) -> None:
        super().__init__(features, [shard.records for shard in shards], batched=True, cache=cache)
        self.shards = tuple(shards)
        self._starts = list(accumulate(self.sizes, initial=0))
        self._arrays = [name for name, feature in features.items() if feature.shape != ()]
        self._locks = [ProcessLock() for _ in shards]
        self._kept_lock = ProcessLock()
        self._groups: dict[int, list[int]] = {}  # the number of the first row of each of a shard's row groups
        self._blocks = blocks
        self._keep = blocks is not None and fits(shards, blocks)
        self._bounds: dict[int, list[tuple[int, int]]] = {}  # of the bytes of each of a remote shard's row groups
        self._open_files = OpenFiles() if open_files is None else open_files
        self._key = object()  # a file is read by one reader, with one lock
        self._kept: OrderedDict[tuple[int, int], tuple[Arrays, int]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetReader, (self.shards, self.features, self.caches, None, self._blocks)

    @property
    def remote(self) -> Storage | None:
        return None if all(files.is_local(shard.uri) for shard in self.shards) else _RowGroups(self)

    def read(self, arrays: Arrays, numbers: Sequence[int], first: int, part: Part | None = None) -> Damage:
        damage = Damage()
        indices = np.asarray(numbers)
        shards = np.searchsorted(self._starts, indices, "right") - 1

        def read(shard: int) -> Damage:
            positions = np.flatnonzero(shards == shard)
            try:
                rows = indices[positions] - self._starts[shard]
                return self._read_shard(shard, rows, positions, arrays, first, part)
            except READ_ERRORS as error:
                return dict.fromkeys(positions.tolist(), error)

        there = np.unique(shards).tolist()
        local = all(files.is_local(self.shards[shard].uri) for shard in there)
        for of_shard in map(read, there) if local else side_by_side(read, there):  # on a disk, decoding takes the most
            damage |= of_shard
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

    def _read_shard(
        self, shard: int, rows: Array, positions: Array, arrays: Arrays, first: int, part: Part | None
    ) -> Damage:
        """Reads rows of a shard to some positions of a batch, a row group at a time."""
        damage = Damage()
        starts = self._row_groups(shard)
        groups = self.groups_of(shard, rows)
        for group in np.unique(groups).tolist():
            in_group = groups == group
            try:
                columns = self._columns(shard, group, part)
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
        source = self.source(shard)
        try:
            file = _open(self.shards[shard].uri, source)
        except DatasetError:
            if source is None or not source.forget():
                raise
            file = _open(self.shards[shard].uri, source)
        if source is not None:
            groups = map(file.metadata.row_group, range(file.num_row_groups))
            self._bounds[shard] = [_byte_range(group, self.features) for group in groups]
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        if sum(counts) != self.sizes[shard]:
            raise DatasetError(
                f"{self.shards[shard].uri}: expected {self.sizes[shard]} rows, found {sum(counts)}; "
                "run `penstock verify`"
            )
        self._groups[shard] = list(accumulate(counts[:-1], initial=0))
        return file

    def source(self, shard: int) -> RemoteFile | None:
        """A shard's content in its store; None: it is on a local disk."""
        return None if files.is_local(self.shards[shard].uri) else self.remote_source(shard)

    def remote_source(self, shard: int) -> RemoteFile:
        """The content of a shard that is in a store."""
        file = self.shards[shard]
        return remote_file(file.uri, file.bytes, file.sha256, self._blocks, self._keep)

    def bounds(self, shard: int) -> list[tuple[int, int]]:
        """Where the columns that are read of each row group of a remote shard begin, and where they end.

        Raises:
          DatasetError: the shard is missing or damaged.
        """
        self._row_groups(shard)
        return self._bounds[shard]

    def groups_of(self, shard: int, rows: Array) -> Array:
        """The row groups that rows of a shard are in. Errors as for `bounds`."""
        return np.searchsorted(self._row_groups(shard), rows, "right") - 1

    def keeps(self, shard: int, group: int) -> bool:
        """Whether a row group is in memory."""
        return (shard, group) in self._kept

    def _columns(self, shard: int, group: int, part: Part | None = None) -> Arrays:
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
            columns, size = self._read_group(shard, group, part)
            with self._kept_lock:
                self._kept[shard, group] = columns, size
                while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
                    self._kept.popitem(last=False)
        return columns

    def _read_group(self, shard: int, group: int, part: Part | None) -> tuple[Arrays, int]:
        """A row group's columns and their size; of a remote shard from what was fetched ahead, or from its store."""
        uri, file, source = self.shards[shard].uri, self._file(shard), self.source(shard)
        if source is None:
            return _read(uri, file, group, self.features)
        begin, end = self._bounds[shard][group]
        content = _staged(part, _piece(shard, group))
        try:
            if content is None:
                content = b"".join(source.ranges(split_range(begin, end)))
            return _read(uri, _from_memory(file, source, begin, content), group, self.features)
        except DamagedRecordError:
            if not source.forget(begin, end):
                raise
            content = b"".join(source.ranges(split_range(begin, end)))
            return _read(uri, _from_memory(file, source, begin, content), group, self.features)


def _piece(shard: Any, group: Any) -> Any:
    """The number of a row group among all of a split."""
    return shard << _GROUP_BITS | group


def _staged(part: Part | None, piece: int) -> bytes | None:
    """What was fetched ahead of a row group; None: nothing."""
    pieces = np.array([piece])
    if part is None or not part.has(pieces)[0]:
        return None
    chunk, start, stop = (int(values[0]) for values in part.find(pieces))
    return bytes(part.content(chunk)[start:stop])


class _RowGroups:
    """The row groups of a reader's shards, in a store, as pieces that are fetched ahead."""

    def __init__(self, reader: ParquetReader) -> None:
        self._reader = reader
        self.shards = reader.shards
        self._starts = np.cumsum([0, *reader.sizes])
        self._errors: dict[int, Exception] = {}

    def pieces(self, numbers: Integers, most: int) -> tuple[Integers, Integers]:
        """See `Storage.pieces`: those that are in memory need not be read; who needs one that is left out reads it."""
        shards = np.searchsorted(self._starts, numbers, "right") - 1

        def pieces_of(shard: int) -> Integers:
            places = np.flatnonzero(shards == shard)
            try:
                groups = self._reader.groups_of(shard, numbers[places] - self._starts[shard])
            except READ_ERRORS as error:
                self._errors[shard] = error
                groups = np.zeros(len(places), np.int64)
            pieces: Integers = _piece(np.int64(shard), groups)
            return pieces

        pieces = np.empty(len(numbers), np.int64)
        there = np.unique(shards).tolist()
        for shard, of_shard in zip(there, side_by_side(pieces_of, there), strict=True):
            pieces[shards == shard] = of_shard
        unique, firsts = np.unique(pieces, return_index=True)
        new = [not self._reader.keeps(*divmod(piece, 1 << _GROUP_BITS)) for piece in unique.tolist()]
        unique, firsts = unique[new], firsts[new]
        places = self.places(unique)
        by_need = np.argsort(firsts)
        begun = np.cumsum((places.ends - places.begins)[by_need])
        fitting = np.sort(by_need[: max(1, int(np.searchsorted(begun, most, "right")))])
        return unique[fitting], firsts[fitting]

    def places(self, pieces: Integers) -> Places:
        """See `Storage.places`."""
        shards, groups = np.divmod(pieces, 1 << _GROUP_BITS)
        bounds = [
            (0, 0) if shard in self._errors else self._reader.bounds(shard)[group]
            for shard, group in zip(shards.tolist(), groups.tolist(), strict=True)
        ]
        begins, ends = np.array(bounds, np.int64).reshape(-1, 2).T
        return Places(shards, begins, ends, self._errors)

    def source(self, shard: int) -> ShardSource:
        """See `Storage.source`."""
        source: ShardSource = self._reader.remote_source(shard)
        return source


class _Remote(io.RawIOBase):
    """A file in a store for Arrow, some of which is in memory already.

    Args:
      source: The file.
      start: Where that which is in memory begins.
      content: What is in memory.
    """

    def __init__(self, source: RemoteFile, start: int = 0, content: bytes = b"") -> None:
        super().__init__()
        self._source, self._start, self._content = source, start, content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self._source.size if size < 0 else min(self._position + size, self._source.size)
        first, last = self._position - self._start, stop - self._start
        inside = first >= 0 and last <= len(self._content)
        content = self._content[first:last] if inside else self._source.read(self._position, stop)
        self._position += len(content)
        return content


def _from_memory(file: Any, source: RemoteFile, start: int, content: bytes) -> Any:
    """A Parquet file that was opened before, with a row group in memory."""
    return pq.ParquetFile(_Remote(source, start, content), metadata=file.metadata, page_checksum_verification=True)


def _byte_range(group: Any, names: Container[str]) -> tuple[int, int]:
    """Where some columns of a row group begin, and where they end, as its metadata says."""
    columns = [group.column(number) for number in range(group.num_columns)]
    columns = [column for column in columns if column.path_in_schema.partition(".")[0] in names]
    begins = [
        min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset) for column in columns
    ]
    ends = [begin + column.total_compressed_size for begin, column in zip(begins, columns, strict=True)]
    return min(begins, default=0), max(ends, default=0)


def _footer(source: RemoteFile) -> tuple[int, bytes]:
    """Where a file's footer begins, or something before it, and all from there on."""
    start = max(0, source.size - _END)
    content = source.checked(start, source.size)
    needed = int.from_bytes(content[-8:-4], "little") + 8  # the length of it, and what marks the end
    if len(content) < needed <= source.size:
        start = source.size - needed
        content = source.checked(start, source.size)
    return start, content


def _open(uri: str, source: RemoteFile | None) -> Any:
    try:
        if source is None:
            files.size(uri)  # refuses a pipe, for which Arrow would wait
            return pq.ParquetFile(uri, page_checksum_verification=True)
        return pq.ParquetFile(_Remote(source, *_footer(source)), page_checksum_verification=True)
    except FileNotFoundError as error:
        raise DatasetError(f"{uri}: a file of the dataset is missing; run `penstock verify`") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EMFILE:  # nothing is wrong with the file
            raise
        raise DatasetError(f"{uri}: expected a whole Parquet file, found: {error}; run `penstock verify`") from error


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
        encoded = column.cast(pa.large_binary()).fill_null(missing(feature)).dictionary_encode()
        distinct = np.empty(len(encoded.dictionary), object)
        distinct[:] = encoded.dictionary.to_pylist()
        strings: Array = distinct[encoded.indices.to_numpy()]  # equal strings are one object: it takes less memory, too
        return strings
    kind = {"int64": pa.int64(), "float32": pa.float64()}[feature.dtype]
    with np.errstate(over="ignore"):
        numbers: Array = column.cast(kind).fill_null(missing(feature)).to_numpy(zero_copy_only=False)
        return numbers.astype(dtype_of(feature))
