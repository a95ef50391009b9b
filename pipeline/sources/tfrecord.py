"""TFRecord files of tf.train.Example.

The format has no index and no count: a file that was cut exactly between two records cannot be told from a whole one.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, replace
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import PenstockError, RequestError
from ..formats.column_notes import LEFT_OUT, ColumnNote, Notes, merge
from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE, is_intact, read_length
from ..storage import files
from ..storage.files import FileInfo
from . import column_types, feature_lists
from .column_types import REST, Columns, Policies, reads_all
from .file_content import (
    LONGEST_PART,
    FileParts,
    PartReader,
    Stream,
    compression,
    open_content,
    open_range,
    read_fully,
    reading_threads,
)
from .file_patterns import check_patterns, digest_files, match_files, versions_of
from .inference import Cell
from .listing import RecordListing, RecordRange
from .record_source import Rows, collect_rows, concat_rows
from .row_errors import RowError, shorten
from .sampling import Excerpt, choose_excerpts
from .table_schema import TableSchema, with_rules
from .typed_evidence import NESTED, TypedEvidence, infer_typed, merge_evidence

_BLOCK, _LARGE_BLOCK = 8 << 20, 64 << 20
LONGEST_RECORD = 256 << 20  # bytes


@dataclass(frozen=True)
class TfRecord:
    """TFRecord files of tf.train.Example under the input folder, read as one table.

    A feature with at most one value in every example is a scalar, every other one a list. Byte features are binary,
    unless declared as "string". Of a tf.train.SequenceExample, the feature lists are lists too: each step must hold one
    value, and no feature list may have the name of a context feature.

    Attributes:
      pattern: Glob pattern, or several. Files that end in .gz are decompressed; each is one range, which is read as a
        stream. A record may have 256 MiB; a longer one does not fit.
      columns: The features to read: name to a type such as "int64" or "list<string>", or "auto" to infer it from all
        files, or from parts of them all where these are larger than 128 MiB. `"*": "auto"` is every other one. None:
        all. Features that no record that was looked at has are not read, and counted and named at the commit.
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
        ranges = []
        with ThreadPoolExecutor(reading_threads(matched.values())) as pool:
            parts = pool.map(lambda item: _cut_records(item[0], item[1], range_bytes), matched.items())
            for info, file_ranges in zip(matched.values(), parts, strict=True):
                if not file_ranges:
                    warnings.append(f"{info.uri} holds no records")
                ranges += file_ranges
            looked = list(pool.map(_look, choose_excerpts(ranges)))
        schema, reasons = self._schema(next(iter(matched.values())).uri, looked, warnings)
        return RecordListing(
            ranges,
            with_rules(schema, self.nonfinite, reasons=reasons),
            warnings,
            digest_files(matched.items()),
            versions_of(matched),
        )

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        return concat_rows(list(self.stream(record_range, schema)), schema.columns, record_range.uri)

    def stream(self, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
        """Reads a range, a large one a part at a time; see `StreamingSource`."""
        count = 0
        before = record_range.begin
        for frames in _range_frames(record_range):
            part = replace(record_range, first_row=record_range.first_row + count)
            rows = _read_too_long(part, frames, schema) if frames.too_long else self._read_frames(part, frames, schema)
            yield replace(rows, size=frames.position - before)
            before = frames.position
            count += 1 if frames.too_long else len(frames.starts)
        if record_range.rows not in (-1, count):
            raise PenstockError(
                f"{record_range.uri}: expected {record_range.rows} records, found {count}; "
                "the file changed after it was listed: run again"
            )

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts | None:
        """Fetches a range's bytes, unless it is read in several blocks; see `FetchableSource`."""
        uri, begin, end = record_range.uri, record_range.begin, record_range.end
        if compression(uri) or end - begin > LONGEST_PART:
            return None
        return FileParts({begin: reader.read(uri, begin, end)})

    def _read_frames(self, record_range: RecordRange, frames: "_Frames", schema: TableSchema) -> Rows:
        """Reads records, whose first one's number the range gives."""
        view, errors = memoryview(frames.data), dict[int, RowError]()
        records = [bytes(view[start:end]) for start, end in zip(frames.starts, frames.ends, strict=True)]
        for position, (record, end) in enumerate(zip(records, frames.ends, strict=True)):
            if not is_intact(record, view[end : end + FOOTER_SIZE]):
                errors[position] = RowError("bad_checksum", "expected the bytes of the record's checksum, found others")
                records[position] = b""
        batches = []
        notes: Notes = {}
        for first, decoded in _decode(records, 0, record_range.uri, errors):
            misfits: dict[int, RowError] = {}
            columns = [_feature_column(decoded, field, misfits) for field in schema.columns]
            batches.append(pa.RecordBatch.from_arrays(columns, schema=schema.columns))
            for position, row_error in misfits.items():
                errors.setdefault(first + position, row_error)
            if reads_all(self.columns):
                notes = merge(notes, _left_out(decoded, schema.columns.names, record_range, first))
        batch = column_types.one_batch(pa.Table.from_batches(batches, schema.columns), record_range.uri)
        batch, overflow = column_types.apply_nonfinite(batch, self.nonfinite, errors)

        def describe(number: int) -> tuple[str, str]:
            position = number - record_range.first_row
            content = view[frames.starts[position] : frames.ends[position]]
            return f"{record_range.uri}, record {number}", hashlib.sha256(content).hexdigest()

        numbers = np.arange(batch.num_rows, dtype=np.int64) + record_range.first_row
        return collect_rows(record_range, batch, numbers, errors, describe=describe, notes=merge(notes, overflow))

    def _schema(
        self, uri: str, looked: Iterable[Mapping[str, TypedEvidence]], warnings: list[str]
    ) -> tuple[pa.Schema, dict[str, str]]:
        """The features to read, with the declared types, or those that hold all that was seen; and why.

        Args:
          uri: The first file.
          looked: What the parts of the input that were looked at show.
          warnings: Takes the warnings.
        """
        seen = merge_evidence(looked)
        if not seen:
            raise RequestError(f"{uri}: expected records of tf.train.Example, found none")
        known = [name for name in self.columns or () if column_types.declared(self.columns, name) is not None]
        features = [*sorted(seen), *(name for name in known if name not in seen and name != REST)]
        names = column_types.select(self.columns, features, uri)
        for name in names:
            if name in seen and column_types.declared(self.columns, name) is None:
                _check_steps(name, seen[name], warnings)
        inferred = {name: infer_typed(name, evidence, lists_vary=True) for name, evidence in seen.items()}
        return column_types.choose_types(names, self.columns, inferred, warnings)


def _check_steps(name: str, evidence: TypedEvidence, warnings: list[str]) -> None:
    """Warns of steps of a feature list that have not one value; raises RequestError where most records have such."""
    for count in evidence.odd.values():
        cell = evidence.firsts[NESTED]
        if count >= evidence.proper:
            raise RequestError(
                f"{cell.where}: expected one value in each step of the feature list {name!r}, found "
                f"{shorten(cell.value)}; name with columns=... the features to read"
            )
        warnings.append(
            f"the feature list {name!r} has a step that has not one value in {count} records, the first {cell}: they "
            "are quarantined"
        )


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
        if place + HEADER_SIZE > (read := base + len(block)):
            if place - read > _BLOCK:
                file.seek(place)
            elif place > read:  # a store's file that is read on is asked for ahead
                read_fully(file, place - read)
            rest = block[place - base :]
            base, block = place, rest + read_fully(file, min(_BLOCK, info.size - place - len(rest)))
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


@dataclass(frozen=True)
class _Frames:
    """Records that follow each other.

    Attributes:
      data: Their bytes, with headers and footers; empty where they are one record that is too long to be kept.
      starts: Where each one's content begins.
      ends: Where it ends.
      position: Up to where the file was read, about, before the next ones.
      too_long: The bytes of a record that is longer than LONGEST_RECORD; else 0.
    """

    data: bytes
    starts: Sequence[int]
    ends: Sequence[int]
    position: int
    too_long: int = 0


def _range_frames(record_range: RecordRange) -> Iterator[_Frames]:
    """The records of a range: all at once, unless it is long or compressed."""
    size = None if compression(record_range.uri) else record_range.end - record_range.begin
    with _open(record_range, PenstockError) as file:
        yield from _frame_blocks(file, record_range, PenstockError, size, _BLOCK if size is None else _LARGE_BLOCK)


def _open(record_range: RecordRange, error: type[PenstockError]) -> AbstractContextManager[Stream]:
    """Opens a file at a range's beginning."""
    uri, begin, end = record_range.uri, record_range.begin, record_range.end
    return open_content(uri, error) if compression(uri) else open_range(uri, error, begin, end, record_range.parts)


def _frame_blocks(
    file: Stream, record_range: RecordRange, error: type[PenstockError], size: int | None, block: int
) -> Iterator[_Frames]:
    """Splits what a file holds into blocks of whole records.

    Args:
      file: Stands where the range's first record begins.
      record_range: The range, for messages.
      error: What to raise.
      size: The bytes to read; None reads to the end.
      block: About how many bytes to give at a time.
    """
    uri, place, number, content, left = record_range.uri, record_range.begin, record_range.first_row, b"", size
    at_end = False
    while True:
        starts, ends = _frame_records(content, uri, place, number, error, at_end)
        if starts:
            end = ends[-1] + FOOTER_SIZE
            yield _Frames(content[:end], starts, ends, file.position())
            content, place, number = content[end:], place + end, number + len(starts)
        elif (
            len(content) >= HEADER_SIZE and (length := _length(content, 0, uri, place, number, error)) > LONGEST_RECORD
        ):
            end = HEADER_SIZE + length + FOOTER_SIZE
            skipped = max(0, end - len(content))
            if not _skip(file, skipped if left is None else min(skipped, left)) or (
                left is not None and left < skipped
            ):
                raise _cut_short(uri, number, error)
            left = left if left is None else left - skipped
            yield _Frames(b"", [], [], file.position(), length)
            content, place, number = content[end:], place + end, number + 1
            at_end = at_end or left == 0
        elif at_end:
            return
        else:
            count = max(block, len(content)) if left is None else min(max(block, len(content)), left)
            more = read_fully(file, count)
            content += more
            if left is None:
                at_end = len(more) < count
            elif len(more) < count:
                raise error(
                    f"{uri}: expected {size} bytes, found fewer; the file changed after it was listed: run again"
                )
            else:
                left -= count
                at_end = not left


def _skip(file: Stream, count: int) -> bool:
    """Reads over so many bytes; whether they were there."""
    while count and (data := file.read(min(count, _BLOCK))):
        count -= len(data)
    return not count


def _read_too_long(record_range: RecordRange, frames: _Frames, schema: TableSchema) -> Rows:
    number = record_range.first_row
    message = f"expected at most {LONGEST_RECORD} bytes in a record, found {frames.too_long}"
    empty = pa.RecordBatch.from_pylist([], schema=schema.columns)
    return collect_rows(
        record_range,
        empty,
        np.zeros(0, np.int64),
        {},
        {number: RowError("row_too_long", message)},
        lambda _: (f"{record_range.uri}, record {number}", None),
    )


def _frame_records(
    data: bytes, uri: str, begin: int, first: int, error: type[PenstockError], complete: bool = True
) -> tuple[list[int], list[int]]:
    """Where the records' contents begin and end, up to one that is too long."""
    starts: list[int] = []
    ends: list[int] = []
    place = 0
    while place < len(data):
        if not complete and place + HEADER_SIZE > len(data):
            break
        length = _length(data, place, uri, begin + place, first + len(starts), error)
        if length > LONGEST_RECORD:
            break
        end = place + HEADER_SIZE + length
        if end + FOOTER_SIZE > len(data):
            if not complete:
                break
            raise _cut_short(uri, first + len(starts), error)
        starts.append(place + HEADER_SIZE)
        ends.append(end)
        place = end + FOOTER_SIZE
    return starts, ends


def _decode(
    records: Sequence[bytes], first: int, uri: str, errors: dict[int, RowError]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of the records, each with its first record's position; halves what does not decode until it is found.

    A feature's column is one of lists; that of a feature list one of lists of steps, which are lists.
    """
    if not records:
        return
    try:
        yield first, _decode_batch(records, uri)
    except RuntimeError as error:
        if len(records) == 1:
            errors.setdefault(first, RowError("bad_example", f"expected a tf.train.Example, found: {error}"))
            yield first, _decode_batch([b""], uri)
            return
        middle = len(records) // 2
        yield from _decode(records[:middle], first, uri, errors)
        yield from _decode(records[middle:], first + middle, uri, errors)


def _decode_batch(records: Sequence[bytes], uri: str) -> pa.RecordBatch:
    # with TensorFlow: seconds
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
    from tfx_bsl.coders.sequence_example_coder import SequenceExamplesToRecordBatchDecoder

    if not any(map(feature_lists.has_feature_lists, records)):
        return ExamplesToRecordBatchDecoder().DecodeBatch(records)
    decoder = SequenceExamplesToRecordBatchDecoder(feature_lists.COLUMN)
    return feature_lists.unpack(decoder.DecodeBatch(records), uri)


def _feature_column(batch: pa.RecordBatch, field: pa.Field, errors: dict[int, RowError]) -> pa.Array:
    """A feature's lists as the column that the schema wants."""
    position = batch.schema.get_field_index(field.name)
    if position < 0 or pa.types.is_null(batch.column(position).type):
        return pa.nulls(batch.num_rows, field.type)
    lists = batch.column(position)
    if feature_lists.is_feature_list(lists.type):
        lists = feature_lists.flatten(lists, field.name, errors)
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


def _left_out(batch: pa.RecordBatch, names: Sequence[str], record_range: RecordRange, first: int) -> Notes:
    """The values of features that are not read, by feature, and where the first one is."""
    notes = {}
    for name in set(batch.schema.names) - set(names):
        filled = _filled(batch.column(name))
        if len(filled):
            number = record_range.first_row + first + int(filled[0])
            where = f"in {record_range.uri}, record {number}"
            notes[LEFT_OUT, name] = ColumnNote(len(filled), 0, where, (record_range.key, number))
    return notes


def _filled(column: pa.Array) -> np.ndarray:
    """Positions of the records that have values of a feature."""
    if pa.types.is_null(column.type):
        return np.zeros(0, np.int64)
    return np.flatnonzero(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))


def _look(excerpt: Excerpt) -> dict[str, TypedEvidence]:
    """The types of the features in a part of the input. Records whose checksum is wrong do not count."""
    record_range = excerpt.record_range
    is_open = excerpt.is_cut or compression(record_range.uri) is not None
    size = None if is_open else record_range.end - record_range.begin
    seen: dict[str, TypedEvidence] = {}
    looked = number = 0
    with _open(record_range, RequestError) as file:
        block = min(_BLOCK, excerpt.size) if is_open else _LARGE_BLOCK
        for frames in _frame_blocks(file, record_range, RequestError, size, block):
            _look_at_frames(frames, record_range.uri, record_range.first_row + number, seen)
            looked, number = looked + len(frames.data), number + max(1, len(frames.starts))
            if is_open and looked >= excerpt.size:
                break
    return seen


def _look_at_frames(frames: "_Frames", uri: str, first: int, seen: dict[str, TypedEvidence]) -> None:
    """Adds to `seen` the types of features in records whose first one has the number `first`."""
    view = memoryview(frames.data)
    records = [bytes(view[start:end]) for start, end in zip(frames.starts, frames.ends, strict=True)]
    footers = [view[end : end + FOOTER_SIZE] for end in frames.ends]
    intact = [record if is_intact(record, footer) else b"" for record, footer in zip(records, footers, strict=True)]
    for place, batch in _decode(intact, 0, uri, {}):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            filled = _filled(column)
            evidence = seen.setdefault(name, TypedEvidence())
            if not len(filled):
                evidence.add(pa.null(), len(column), None)
                continue
            is_list = pc.max(pc.list_value_length(column)).as_py() > 1
            if feature_lists.is_feature_list(column.type):
                bad: dict[int, RowError] = {}
                steps, column, is_list = column, feature_lists.flatten(column, name, bad), True
                for row in bad:
                    evidence.add(NESTED, 1, Cell(steps[row].as_py(), f"{uri}, record {first + place + row}"))
                filled = filled[~np.isin(filled, list(bad))]
                if not len(filled):
                    continue
            inner = column_types.normalise(column.type.value_type)
            value = column[int(filled[0])].as_py()
            cell = Cell(value if is_list else value[0], f"{uri}, record {first + place + int(filled[0])}")
            evidence.add(pa.list_(inner) if is_list else inner, len(filled), cell)
            if evidence.inexact is None and pa.types.is_int64(inner):
                for at, integer in _first_inexact(column):
                    evidence.inexact = Cell(integer, f"{uri}, record {first + place + at}")


def _first_inexact(column: pa.ListArray) -> list[tuple[int, int]]:
    """The row and the value of the first integer, in a column of lists of int64, that float64 rounds, if any."""
    integers = column.flatten().fill_null(0).to_numpy()
    with np.errstate(invalid="ignore"):
        changed = np.flatnonzero(integers.astype(np.float64).astype(np.int64) != integers)[:1].tolist()
    return [(pc.list_parent_indices(column)[at].as_py(), int(integers[at])) for at in changed]
