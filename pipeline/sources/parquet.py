"""Parquet files, read by row groups."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass

import numpy as np
import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..storage.files import FileInfo
from . import column_types, parquet_files
from .column_types import REST, Columns, Policies
from .file_patterns import check_patterns, digest_files, match_files
from .listing import RecordListing, RecordRange
from .parquet_files import UnreadableError
from .record_source import Rows, collect_rows
from .row_errors import RowError
from .table_schema import TableSchema, with_rules

_THREADS = 16


@dataclass(frozen=True)
class Parquet:
    """Parquet files under the input folder, read as one table.

    A range is one row group, or several small ones that follow each other. Page checksums are verified where the file
    has them; without them a changed byte may go unnoticed, so write files with them. Files are read in processes of
    their own, so that a damaged one that makes Arrow crash or hang is refused by name.

    Attributes:
      pattern: Glob pattern, or several.
      columns: The columns to read: name to a type such as "int64" or "list<string>", or "auto" for the file's own.
        `"*": "auto"` is every other column. None: all. What is not declared is not read.
      nonfinite: What is done with NaN, infinities and numbers beyond float32's range, for all columns or by name:
        "missing", "keep" or "quarantine".
    """

    pattern: str | Sequence[str]
    _: KW_ONLY
    columns: Columns = None
    nonfinite: Policies = "missing"

    def __post_init__(self) -> None:
        check_patterns("Parquet", self.pattern)
        column_types.check_columns("Parquet", self.columns, self.nonfinite)

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the ranges; see `RecordSource`."""
        warnings: list[str] = []
        matched = match_files(root, check_patterns("Parquet", self.pattern), warnings)
        with ThreadPoolExecutor(min(_THREADS, len(matched))) as pool:
            heads = list(pool.map(_metadata, matched.values()))
        schema = self._schema([info.uri for info in matched.values()], [kinds for kinds, _ in heads], warnings)
        ranges = []
        for (key, info), (_, groups) in zip(matched.items(), heads, strict=True):
            file_ranges = _cut_groups(key, info.uri, groups, range_bytes)
            if not file_ranges:
                warnings.append(f"{info.uri} holds no rows")
            ranges += file_ranges
        if not ranges:
            raise RequestError(
                f"expected rows in the {len(matched)} files that match {self.pattern!r}, found none; check the input"
            )
        return RecordListing(ranges, with_rules(schema, self.nonfinite), warnings, digest_files(matched.items()))

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        where = f"{record_range.uri}, row groups {record_range.begin} to {record_range.end - 1}"
        begin, end, names = record_range.begin, record_range.end, schema.columns.names
        try:
            table = parquet_files.read_groups(record_range.uri, begin, end, names, record_range.size)
        except UnreadableError as error:
            raise PenstockError(
                f"{where}: expected Parquet data, found: {error}; the file is damaged or has changed: make it again"
            ) from error
        if table.num_rows != record_range.rows:
            raise PenstockError(
                f"{where}: expected {record_range.rows} rows, found {table.num_rows}; "
                "the file changed after it was listed: run again"
            )
        errors: dict[int, RowError] = {}
        batch = column_types.convert_all(column_types.one_batch(table, record_range.uri), schema.columns, errors)
        batch = column_types.apply_nonfinite(batch, self.nonfinite, errors)
        numbers = np.arange(batch.num_rows, dtype=np.int64) + record_range.first_row
        return collect_rows(record_range, batch, numbers, errors)

    def _schema(self, uris: Sequence[str], schemas: Sequence[pa.Schema], warnings: list[str]) -> pa.Schema:
        chosen = column_types.select(self.columns, schemas[0].names, uris[0])
        for uri, schema in zip(uris[1:], schemas[1:], strict=True):
            column_types.select(self.columns, schema.names, uri)
            if self.columns is None or REST in self.columns:
                column_types.check_same(schemas[0].names, schema.names, uris[0], uri)
        seen: dict[str, list[pa.DataType]] = {}
        for name in chosen:
            if column_types.declared(self.columns, name) is None:
                seen[name] = [_normal_type(schema.field(name), uri) for uri, schema in zip(uris, schemas, strict=True)]
                warnings += _unexact(name, [schema.field(name).type for schema in schemas])
        conflict = "the column {!r} has different types in the files"
        return column_types.choose_types(chosen, self.columns, seen, conflict, warnings)


def _normal_type(field: pa.Field, uri: str) -> pa.DataType:
    """What a column's values become; null where there are none."""
    normal = column_types.normalise(field.type)
    if normal is None:
        raise RequestError(
            f"{uri}: expected numbers, strings or lists of them in the column {field.name!r}, found {field.type}; "
            "declare with columns=... the others"
        )
    return pa.null() if pa.types.is_null(field.type) else normal


def _unexact(name: str, types: Sequence[pa.DataType]) -> list[str]:
    """What to warn of a column of decimals with more digits than a number keeps."""
    for kind in types:
        if pa.types.is_decimal(kind) and column_types.normalise(kind) == pa.string():
            return [
                f"the column {name!r} is {kind}, which has more digits than float64 keeps: it is read as string; "
                "declare it float64 for the nearest numbers"
            ]
    return []


def _metadata(info: FileInfo) -> tuple[pa.Schema, list[tuple[int, int]]]:
    """A file's columns, and the rows and bytes of each of its row groups."""
    try:
        return parquet_files.metadata(info.uri)
    except UnreadableError as error:
        raise RequestError(
            f"{info.uri}: expected a Parquet file, found {info.size} bytes that are none: {error}; make it again, or "
            "fix the pattern"
        ) from error


def _cut_groups(key: str, uri: str, groups: Sequence[tuple[int, int]], range_bytes: int) -> list[RecordRange]:
    ranges = []
    begin = row = rows = size = 0
    for position, (count, weight) in enumerate(groups):
        if rows and size + weight > range_bytes:
            ranges.append(RecordRange(uri, key, begin, position, row, rows, size))
            begin, row, rows, size = position, row + rows, 0, 0
        rows, size = rows + count, size + weight
    if rows:
        ranges.append(RecordRange(uri, key, begin, len(groups), row, rows, size))
    return ranges
