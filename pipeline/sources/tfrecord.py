"""TFRecord files of tf.train.Example.

The format has no index and no count: a file that was cut exactly between two records cannot be told from a whole one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import PenstockError, RequestError
from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE, is_intact, read_length
from ..storage import files
from ..storage.files import FileInfo
from . import column_types
from .column_types import REST, Columns, Policies
from .file_content import compression, open_whole, read_fully, read_range
from .file_patterns import check_patterns, digest_files, match_files
from .listing import RecordListing, RecordRange
from .record_source import Rows, collect_rows
from .row_errors import RowError
from .table_schema import TableSchema, with_rules

_THREADS = 16
_SAMPLED, _SAMPLE, _BLOCK = 8, 1 << 20, 8 << 20


@dataclass(frozen=True)
class TfRecord:
    """TFRecord files of tf.train.Example under the input folder, read as one table.

    A feature with at most one value in every example of the sample is a scalar, every other one a list. Byte features
    are binary, unless declared as "string".

    Attributes:
      pattern: Glob pattern, or several. Files that end in .gz are decompressed; each is read as one range.
      columns: The features to read: name to a type such as "int64" or "list<string>", or "auto" to infer it from the
        first megabyte of eight files. `"*": "auto"` is every other one. None: all.
      nonfinite: What is done with NaN and infinities, for all columns or by name: "missing", "keep" or "quarantine".
    """

    pattern: str | Sequence[str]
    _: KW_ONLY
    columns: Columns = None
    nonfinite: Policies = "missing"

    def __post_init__(self) -> None:
        check_patterns("TfRecord", self.pattern)
        column_types.check_columns("TfRecord", self.columns, self.nonfinite)

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the ranges, by bytes; see `RecordSource`."""
        warnings: list[str] = []
        matched = match_files(root, check_patterns("TfRecord", self.pattern), warnings)
        schema = self._schema([info.uri for info in matched.values()], warnings)
        ranges = []
        with ThreadPoolExecutor(min(_THREADS, len(matched))) as pool:
            parts = pool.map(lambda item: _cut_records(item[0], item[1], range_bytes), matched.items())
            for info, file_ranges in zip(matched.values(), parts, strict=True):
                if not file_ranges:
                    warnings.append(f"{info.uri} holds no records")
                ranges += file_ranges
        return RecordListing(ranges, with_rules(schema, self.nonfinite), warnings, digest_files(matched.items()))

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        data = read_range(record_range)
        starts, ends = _frame_records(data, record_range.uri, record_range.begin, record_range.first_row, PenstockError)
        if record_range.rows not in (-1, len(starts)):
            raise PenstockError(
                f"{record_range.uri}: expected {record_range.rows} records, found {len(starts)}; "
                "the file changed after it was listed: run again"
            )
        view, errors = memoryview(data), dict[int, RowError]()
        records = [bytes(view[start:end]) for start, end in zip(starts, ends, strict=True)]
        for position, (record, end) in enumerate(zip(records, ends, strict=True)):
            if not is_intact(record, view[end : end + FOOTER_SIZE]):
                errors[position] = RowError("bad_checksum", "expected the bytes of the record's checksum, found others")
                records[position] = b""
        batches = []
        for first, decoded in _decode(records, 0, errors):
            misfits: dict[int, RowError] = {}
            columns = [_feature_column(decoded, field, misfits) for field in schema.columns]
            batches.append(pa.RecordBatch.from_arrays(columns, schema=schema.columns))
            for position, row_error in misfits.items():
                errors.setdefault(first + position, row_error)
        batch = column_types.one_batch(pa.Table.from_batches(batches, schema.columns), record_range.uri)
        batch = column_types.apply_nonfinite(batch, self.nonfinite, errors)

        def describe(number: int) -> tuple[str, str]:
            position = number - record_range.first_row
            content = view[starts[position] : ends[position]]
            return f"{record_range.uri}, record {number}", hashlib.sha256(content).hexdigest()

        numbers = np.arange(batch.num_rows, dtype=np.int64) + record_range.first_row
        return collect_rows(record_range, batch, numbers, errors, describe=describe)

    def _schema(self, uris: Sequence[str], warnings: list[str]) -> pa.Schema:
        seen: dict[str, list[pa.DataType]] = {}
        for uri in uris[:_SAMPLED]:
            for name, kind in _sample_features(uri).items():
                seen.setdefault(name, []).append(kind)
        if not seen:
            raise RequestError(f"{uris[0]}: expected records of tf.train.Example, found none in its beginning")
        known = [name for name in self.columns or () if column_types.declared(self.columns, name) is not None]
        features = [*sorted(seen), *(name for name in known if name not in seen and name != REST)]
        names = column_types.select(self.columns, features, uris[0])
        conflict = "the feature {!r} has different types in the files"
        return column_types.choose_types(names, self.columns, seen, conflict, warnings)


def _cut_records(key: str, info: FileInfo, range_bytes: int) -> list[RecordRange]:
    if not info.size:
        return []
    if compression(info.uri) or info.size <= range_bytes:
        return [RecordRange(info.uri, key, 0, info.size, 0, -1, info.size)]
    ranges = []
    begin = row = number = place = 0
    with files.open_read(info.uri) as file:
        for end in _record_ends(file, info):
            if end - begin > range_bytes and place > begin:
                ranges.append(RecordRange(info.uri, key, begin, place, row, number - row, place - begin))
                begin, row = place, number
            place, number = end, number + 1
    return [*ranges, RecordRange(info.uri, key, begin, place, row, number - row, place - begin)]


def _record_ends(file: IO[bytes], info: FileInfo) -> Iterator[int]:
    """Where each record ends, read from the headers alone."""
    number = place = base = 0
    block = b""
    while place < info.size:
        if place + HEADER_SIZE > base + len(block):
            file.seek(place)
            base, block = place, read_fully(file, min(_BLOCK, info.size - place))
        length = _length(block, place - base, info.uri, place, number, RequestError)
        place += HEADER_SIZE + length + FOOTER_SIZE
        if place > info.size:
            raise _cut_short(info.uri, number, RequestError)
        number += 1
        yield place


def _length(data: bytes, at: int, uri: str, place: int, number: int, error: type[PenstockError]) -> int:
    if at + HEADER_SIZE > len(data):
        raise _cut_short(uri, number, error)
    length = read_length(data[at : at + HEADER_SIZE])
    if length is None:
        raise error(
            f"{uri}, record {number}, byte {place}: expected a record's length and its checksum, found other bytes; "
            "the file is damaged from there on, or is no TFRecord file: make it again"
        )
    return length


def _cut_short(uri: str, number: int, error: type[PenstockError]) -> PenstockError:
    return error(f"{uri}: expected whole records, found that the file ends inside record {number}; copy it again")


def _frame_records(
    data: bytes, uri: str, begin: int, first: int, error: type[PenstockError], complete: bool = True
) -> tuple[list[int], list[int]]:
    """Where the records' contents begin and end."""
    starts: list[int] = []
    ends: list[int] = []
    place = 0
    while place < len(data):
        if not complete and place + HEADER_SIZE > len(data):
            break
        length = _length(data, place, uri, begin + place, first + len(starts), error)
        end = place + HEADER_SIZE + length
        if end + FOOTER_SIZE > len(data):
            if not complete:
                break
            raise _cut_short(uri, first + len(starts), error)
        starts.append(place + HEADER_SIZE)
        ends.append(end)
        place = end + FOOTER_SIZE
    return starts, ends


def _decode(records: Sequence[bytes], first: int, errors: dict[int, RowError]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of the records, each with its first record's position; halves what does not decode until it is found."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder  # with TensorFlow: seconds

    if not records:
        return
    try:
        yield first, ExamplesToRecordBatchDecoder().DecodeBatch(records)
    except RuntimeError as error:
        if len(records) == 1:
            errors.setdefault(first, RowError("bad_example", f"expected a tf.train.Example, found: {error}"))
            yield first, ExamplesToRecordBatchDecoder().DecodeBatch([b""])
            return
        middle = len(records) // 2
        yield from _decode(records[:middle], first, errors)
        yield from _decode(records[middle:], first + middle, errors)


def _feature_column(batch: pa.RecordBatch, field: pa.Field, errors: dict[int, RowError]) -> pa.Array:
    """A feature's lists as the column that the schema wants."""
    position = batch.schema.get_field_index(field.name)
    if position < 0 or pa.types.is_null(batch.column(position).type):
        return pa.nulls(batch.num_rows, field.type)
    lists = batch.column(position)
    if pa.types.is_list(field.type):
        return column_types.convert(lists, field.type, field.name, errors)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(lengths > 1).tolist():
        errors.setdefault(
            row,
            RowError("wrong_type", f"expected at most one value in the feature {field.name!r}, found {lengths[row]}"),
        )
    firsts = pa.array(lists.offsets.to_numpy()[:-1], mask=lengths != 1)
    return column_types.convert(lists.values.take(firsts), field.type, field.name, errors)


def _sample_features(uri: str) -> dict[str, pa.DataType]:
    """The types that a file's beginning shows, by feature; null for one without values."""
    data, size = b"", _SAMPLE
    try:
        with open_whole(uri) as file:
            while True:
                data += read_fully(file, size - len(data))
                complete = len(data) < size
                starts, ends = _frame_records(data, uri, 0, 0, RequestError, complete)
                if complete or starts:
                    break
                size *= 4
    except (OSError, pa.ArrowException) as error:
        raise RequestError(f"{uri}: expected a file that can be read, found: {error}; fix or remove it") from error
    seen: dict[str, list[pa.DataType]] = {}
    for _, batch in _decode([data[start:end] for start, end in zip(starts, ends, strict=True)], 0, {}):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            most = 0 if pa.types.is_null(column.type) else pc.max(pc.list_value_length(column)).as_py() or 0
            inner = column_types.normalise(column.type.value_type) if most else pa.null()
            kind = pa.list_(inner) if most > 1 else inner
            seen.setdefault(name, []).append(kind)
    return {name: column_types.merge(kinds)[0] if any(not pa.types.is_null(k) for k in kinds) else pa.null()
            for name, kinds in seen.items()}  # fmt: skip
