"""Images by a list of objects instead of by listing them: a table with a row for each, which may be in any store.

A list is read by batches and never held. What it says of sizes and ETags is believed until the objects are read: one
that is another then is quarantined.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..formats.features import IMAGE, KEY, LABEL, MASK
from .list_rows import ListColumns, RowReader, fields_of
from .listing import RecordListing, RecordRange
from .record_source import RecordSource, Rows, stream_rows
from .references import FileListing
from .table_schema import TableSchema

T = TypeVar("T")
_RANGE_BYTES = 8 << 20
_URI_NAMES = ("uri", "url", "path", "file", "file_name", "filename")
_SIZE_NAMES = ("size", "bytes")
_ETAG_NAMES = ("etag", "e_tag")


@dataclass(frozen=True)
class OpenedList:
    """A list whose files are known.

    Attributes:
      table: Its rows.
      folder: The folder that the table's patterns are relative to.
      columns: What its columns are.
      digest: A hash over what it depends on beside the table's files.
      listing: The table's, where it was needed to know the columns.
    """

    table: RecordSource
    folder: str
    columns: ListColumns
    digest: str = ""
    listing: RecordListing | None = None


@runtime_checkable
class ListFinder(Protocol):
    """What finds a list's files and columns itself, as an inventory report does by its manifest."""

    def open(self, root: str) -> OpenedList:
        """The list.

        Raises:
          RequestError: it cannot be read.
        """


@dataclass(frozen=True)
class References:
    """A list of images; made by `references` or `inventory`.

    Attributes:
      table: The list: paths or patterns, a table such as `Csv(...)`, or what finds a list's files itself.
      uri: The column with the objects' URIs, or a template such as "s3://{bucket}/{name}" of columns. Paths are
        relative to the input. None: the column uri, url, path, file, file_name or filename, or else bucket and key.
      key: The column with the examples' keys, which must differ. None: an object's path below the input, and of one
        that lies elsewhere its URI without the scheme.
      size: The column with the objects' bytes; None: size or bytes, if there is one; "": none.
      etag: The column with their ETags; None: etag or e_tag, if there is one; "": none.
      label: The column with the labels, strings or whole numbers, as which they are stored.
      mask: The column with the masks' URIs, or a template of columns; paths are relative to the input.
      columns: Further columns, which `prepare`, `features` and splits are given.
    """

    table: str | Sequence[str] | RecordSource | ListFinder
    _: KW_ONLY
    uri: str | None = None
    key: str | None = None
    size: str | None = None
    etag: str | None = None
    label: str | None = None
    mask: str | None = None
    columns: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.table, str | Sequence):
            patterns = [self.table] if isinstance(self.table, str) else self.table
            if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
                raise RequestError(f"references(table): expected a path such as 'list.parquet', found {self.table!r}")
            from .list_tables import list_format  # the formats of all tables: only for those who name a list

            list_format(patterns[0])
        elif not isinstance(self.table, RecordSource | ListFinder):
            raise RequestError(
                "references(table): expected a path such as 'list.parquet' or a table such as Csv(...), found "
                f"{self.table!r}"
            )
        if isinstance(self.columns, str) or not all(isinstance(name, str) for name in self.columns):
            raise RequestError(f"references(columns=...): expected a list of names, found {self.columns!r}")
        own = {KEY, IMAGE, MASK} | ({LABEL} if self.label is not None else set())
        if taken := sorted(own & {*self.columns}):
            raise RequestError(f"references(columns=...): expected names that examples do not have, found {taken}")
        fields_of(self.uri or "", "uri")
        fields_of(self.mask or "", "mask")

    def of_masks(self) -> "References":
        """The same list, to look for masks in it."""
        return replace(self, key=None, label=None, mask=None, columns=())

    def list_files(self, root: str, patterns: Sequence[str] = (), what: str = "") -> FileListing:
        """The images that the list names, as columns.

        Args:
          root: The input folder.
          patterns: Patterns of which one must match an object's path below the input, or its URI without the scheme;
            none: all are taken.
          what: What the objects are, for the message where none matches; empty: that is no error.

        Raises:
          RequestError: the list cannot be read or lacks a column, or nothing matches; while batches are taken, too.
        """
        opened = self._open(root)
        names, listing = opened.columns, opened.listing or opened.table.find(opened.folder, _RANGE_BYTES)
        _check_types(names, listing.schema.columns)
        schema = _stored(names, listing.schema)
        warnings = [*listing.warnings]
        reader = RowReader(names, root, patterns)

        def parts() -> Iterator[tuple[RecordRange, Rows]]:
            for record_range in listing.ranges:
                for rows in stream_rows(opened.table, record_range, listing.schema):
                    yield record_range, rows

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for record_range, rows in one_ahead(parts()):
                    yield from reader.batches(rows, record_range)
            except RequestError:
                raise
            except PenstockError as error:
                raise RequestError(str(error)) from error
            if what and reader.unmatched and not reader.matched:
                raise RequestError(
                    f"expected {what} that match {[*patterns]} in the list, found others, such as {reader.unmatched}; "
                    "fix the pattern, or leave it out"
                )
            warnings.extend(reader.warnings())

        return FileListing(batches(), schema, warnings, digest=listing.digest + opened.digest, unique=False)

    def _open(self, root: str) -> OpenedList:
        """The list, with its columns."""
        if isinstance(self.table, ListFinder):
            opened = self.table.open(root)
            chosen = {"uri": self.uri, "size": self.size, "etag": self.etag}
            chosen = {name: column for name, column in chosen.items() if column is not None}
            return replace(opened, columns=self._with_own(replace(opened.columns, **chosen)))  # type: ignore[arg-type]
        if isinstance(self.table, RecordSource):
            listing = self.table.find(root, _RANGE_BYTES)
            return OpenedList(self.table, root, self._choose(listing.schema.columns.names), listing=listing)
        from .list_tables import first_file, list_format, split_patterns

        folder, patterns = split_patterns(root, [self.table] if isinstance(self.table, str) else self.table)
        form, first = list_format(patterns[0]), first_file(folder, patterns)
        columns = self._choose(form.names(first))
        kinds = dict.fromkeys((name for name in (columns.label, *columns.others) if name), "auto")
        kinds |= dict.fromkeys((name for name in (*columns.addresses, columns.key, columns.etag) if name), "string")
        kinds |= {columns.size: "float64"} if columns.size else {}  # pandas writes integers so where some are missing
        return OpenedList(form.make(patterns, kinds), folder, columns)

    def _choose(self, present: Sequence[str]) -> ListColumns:
        """The columns, those that are not named by the names that are usual.

        Raises:
          RequestError: there is none of that name, or nothing tells where the objects are.
        """
        by_lower = {name.lower(): name for name in reversed(present)}

        def guess(known: Sequence[str]) -> str:
            return next((by_lower[name] for name in known if name in by_lower), "")

        uri = self.uri or guess(_URI_NAMES)
        if not uri and {"bucket", "key"} <= by_lower.keys():
            uri = f"s3://{{{by_lower['bucket']}}}/{{{by_lower['key']}}}"
        if not uri:
            raise RequestError(
                f"references(...): expected one of the columns {', '.join(_URI_NAMES)}, or bucket and key, found "
                f"{[*present]}; name it: references(..., uri='COLUMN')"
            )
        size = guess(_SIZE_NAMES) if self.size is None else self.size
        etag = guess(_ETAG_NAMES) if self.etag is None else self.etag
        columns = self._with_own(ListColumns(uri, size=size, etag=etag))
        _check_present(columns, present)
        return columns

    def _with_own(self, columns: ListColumns) -> ListColumns:
        """The columns with those that only the user can name."""
        return replace(
            columns, key=self.key or "", label=self.label or "", mask=self.mask or "", others=tuple(self.columns)
        )


def references(
    table: str | Sequence[str] | RecordSource,
    *,
    uri: str | None = None,
    key: str | None = None,
    size: str | None = None,
    etag: str | None = None,
    label: str | None = None,
    mask: str | None = None,
    columns: Sequence[str] = (),
) -> References:
    """A list of images for `Images(uris=...)`; see `References`.

    Args:
      table: Paths or patterns of .parquet, .csv, .tsv, .jsonl or .txt files (a URI a line), relative to the input, or
        one that is absolute; or a table: `Csv(...)`, `Sql(...)`, ….
      uri: The column with the objects' URIs, or a template such as "s3://{bucket}/{name}".
      key: The column with the examples' keys.
      size: The column with the objects' bytes.
      etag: The column with their ETags.
      label: The column with the labels.
      mask: The column with the masks' URIs, or a template.
      columns: Further columns, for `prepare`, `features` and splits.

    Raises:
      RequestError: an argument is not what it should be.
    """
    return References(table, uri=uri, key=key, size=size, etag=etag, label=label, mask=mask, columns=columns)


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, of which the next one is made while one is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def _stored(columns: ListColumns, schema: TableSchema) -> TableSchema:
    """The columns that are stored with the examples; labels are among them where they are integers."""
    stored = {name: name for name in columns.others}
    if columns.label and schema.columns.field(columns.label).type == pa.int64():
        stored[LABEL] = columns.label
    return TableSchema(
        pa.schema([pa.field(name, schema.columns.field(of).type) for name, of in stored.items()]),
        {name: schema.rules[of] for name, of in stored.items() if of in schema.rules},
        reasons={name: schema.reasons[of] for name, of in stored.items() if of in schema.reasons},
    )


def _check_present(columns: ListColumns, present: Sequence[str]) -> None:
    """Raises RequestError where the list lacks a column."""
    single = (columns.key, columns.size, columns.etag, columns.label, *columns.others)
    for name in (*columns.addresses, *(name for name in single if name)):
        if name not in present:
            raise RequestError(f"references(...): expected one of the columns {[*present]}, found {name!r}")


def _check_types(columns: ListColumns, schema: pa.Schema) -> None:
    """Raises RequestError where the list lacks a column, or one is of a type that it cannot be."""
    _check_present(columns, schema.names)
    integers_or_strings = (pa.int64(), pa.string())
    expected: list[tuple[str, tuple[pa.DataType, ...]]] = [
        *((name, integers_or_strings) for name in (*columns.addresses, columns.key, columns.label)),
        (columns.etag, (pa.string(),)),
        (columns.size, (pa.int64(), pa.float64())),
        *((name, (*integers_or_strings, pa.float64())) for name in columns.others),
    ]
    for name, kinds in expected:
        if name and schema.field(name).type not in kinds:
            raise RequestError(
                f"references(...): expected {' or '.join(map(str, kinds))} in the column {name!r}, found "
                f"{schema.field(name).type}; name another column, or declare its type: "
                "references(Csv(..., columns={...}))"
            )
