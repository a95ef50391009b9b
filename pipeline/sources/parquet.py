"""Parquet files, read by row groups."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..storage import files
from ..storage.files import FileInfo
from . import column_types, parquet_files
from .column_types import REST, Columns, Inferred, Policies
from .file_content import FileParts, PartReader
from .file_patterns import check_patterns, digest_files, match_files, versions_of
from .listing import RecordListing, RecordRange
from .parquet_files import UnreadableError
from .record_source import Rows, collect_rows
from .row_errors import RowError
from .table_schema import TableSchema, with_rules


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
        infos = {info.uri: info for info in matched.values()}
        heads = list(files.map_files(lambda uri: _metadata(infos[uri]), infos))
        schema, reasons = self._schema([info.uri for info in matched.values()], [kinds for kinds, _ in heads], warnings)
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
        return RecordListing(
            ranges,
            with_rules(schema, self.nonfinite, reasons=reasons),
            warnings,
            digest_files(matched.items()),
            versions_of(matched),
        )

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        begin, end, names = record_range.begin, record_range.end, schema.columns.names
        try:
            table = parquet_files.read_groups(
                record_range.uri, begin, end, names, record_range.size, record_range.parts
            )
        except UnreadableError as error:
            raise _unreadable(record_range, error) from error
        if table.num_rows != record_range.rows:
            raise PenstockError(
                f"{_place(record_range)}: expected {record_range.rows} rows, found {table.num_rows}; "
                "the file changed after it was listed: run again"
            )
        errors: dict[int, RowError] = {}
        batch = column_types.convert_all(column_types.one_batch(table, record_range.uri), schema.columns, errors)
        batch, notes = column_types.apply_nonfinite(batch, self.nonfinite, errors)
        numbers = np.arange(batch.num_rows, dtype=np.int64) + record_range.first_row
        return collect_rows(record_range, batch, numbers, errors, notes=notes)

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts:
        """Fetches the columns' bytes and the footer; see `FetchableSource`."""
        begin, end, names = record_range.begin, record_range.end, schema.columns.names
        try:
            return parquet_files.fetch_groups(record_range.uri, begin, end, names, record_range.size, reader)
        except UnreadableError as error:
            raise _unreadable(record_range, error) from error

    def _schema(
        self, uris: Sequence[str], schemas: Sequence[pa.Schema], warnings: list[str]
    ) -> tuple[pa.Schema, dict[str, str]]:
        chosen = column_types.select(self.columns, schemas[0].names, uris[0])
        for uri, schema in zip(uris[1:], schemas[1:], strict=True):
            column_types.select(self.columns, schema.names, uri)
            if self.columns is None or REST in self.columns:
                column_types.check_same(schemas[0].names, schema.names, uris[0], uri)
        inferred = {
            name: _infer(name, {uri: schema.field(name) for uri, schema in zip(uris, schemas, strict=True)})
            for name in chosen
            if column_types.declared(self.columns, name) is None
        }
        return column_types.choose_types(chosen, self.columns, inferred, warnings)


def _place(record_range: RecordRange) -> str:
    return f"{record_range.uri}, row groups {record_range.begin} to {record_range.end - 1}"


def _unreadable(record_range: RecordRange, error: UnreadableError) -> PenstockError:
    return PenstockError(
        f"{_place(record_range)}: expected Parquet data, found: {error}; the file is damaged or has changed: make it "
        "again"
    )


def _normal_type(field: pa.Field, uri: str) -> pa.DataType:
    """What a column's values become; null where there are none."""
    normal = column_types.normalise(field.type)
    if normal is None:
        raise RequestError(
            f"{uri}: expected numbers, strings or lists of them in the column {field.name!r}, found {field.type}; "
            "declare with columns=... the others"
        )
    return pa.null() if pa.types.is_null(field.type) else normal


def _infer(name: str, fields: Mapping[str, pa.Field]) -> Inferred:
    """A column's type, from its fields by the files' URIs."""
    normal = [_normal_type(each, uri) for uri, each in fields.items()]
    firsts: dict[str, str] = {}
    for uri, each in fields.items():
        firsts.setdefault(str(each.type), uri)
    reason = " and ".join(f"{kind} in {uri}" for kind, uri in firsts.items())
    durations = [kind for kind in firsts if kind.startswith("duration")]
    if durations and len(firsts.keys() - {"null"}) > 1:
        raise RequestError(
            f"expected one unit of the column {name!r}, found {reason}: write the files with one, or leave it out with "
            "columns=..."
        )
    if durations:
        warning = f"the column {name!r} holds durations ({reason}): it is read as int64, in that unit"
        return Inferred(pa.int64(), reason, warning)
    found = column_types.unite_types(normal, reason, f"the column {name!r} has different types in the files ({reason})")
    for each in fields.values():
        lost = pa.types.is_decimal(each.type) and column_types.normalise(each.type) == pa.string()
        if lost or (pa.types.is_uint64(each.type) and found.type == pa.int64()):
            what = "has more digits than float64 keeps" if lost else "holds integers beyond int64"
            words = f"the column {name!r} is {each.type}, and {what}: it is read as string; declare it float64 for the"
            return Inferred(pa.string(), reason, f"{words} nearest numbers")
    return found


def _metadata(info: FileInfo) -> tuple[pa.Schema, list[tuple[int, int]]]:
    """A file's columns, and the rows and bytes of each of its row groups."""
    try:
        return parquet_files.metadata(info)
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
