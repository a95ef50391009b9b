"""Like tables put together as one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from ..errors import RequestError
from .file_content import FileParts, PartReader
from .join import JoinTable, joins_of
from .listing import RecordListing, RecordRange
from .nominal import row_dialect
from .record_source import RecordSource, Rows, concat_rows, stream_rows, with_parts
from .row_boundaries import Dialect
from .table_schema import ColumnRules, RulesByTable, TableSchema, with_rules

_STEP = "\n"  # from a union's name to that of a table in the union of that name


@dataclass(frozen=True)
class UnionSchema(TableSchema):
    """A union's columns.

    Attributes:
      tables: The schema of each table, by its name.
    """

    tables: Mapping[str, TableSchema]


@dataclass(frozen=True)
class Union:
    """The rows of several tables as one.

    Attributes:
      sources: Name to table. Columns that a table lacks are missing in its rows.
      tag: The column that will hold the name of the table that a row comes from; None: there is none.

    A table may itself be a union, whose tag has another name.
    """

    sources: Mapping[str, RecordSource]
    tag: str | None = "source"

    def __post_init__(self) -> None:
        if not isinstance(self.sources, Mapping) or not self.sources:
            raise RequestError(f"Union(sources): expected a dict of name to table, found {self.sources!r}")
        for name, source in self.sources.items():
            if not isinstance(name, str) or not name or _STEP in name:
                raise RequestError(f"Union(sources): expected a name without line ends for each table, found {name!r}")
            if not isinstance(source, RecordSource):
                raise RequestError(f"Union(sources): expected a table such as Csv(...) for {name!r}, found {source!r}")

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists all ranges; see `RecordSource`."""
        listings = {name: source.find(root, range_bytes) for name, source in self.sources.items()}
        tables = {name: listing.schema for name, listing in listings.items()}
        return RecordListing(
            ranges=[
                replace(record_range, source=f"{name}{_STEP}{record_range.source}" if record_range.source else name)
                for name, listing in listings.items()
                for record_range in listing.ranges
            ],
            schema=_unite(tables, self.tag),
            warnings=[warning for listing in listings.values() for warning in listing.warnings],
            digest="".join(listing.digest for listing in listings.values()),
            versions={key: version for listing in listings.values() for key, version in listing.versions.items()},
        )

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range of the table that it belongs to; see `RecordSource`."""
        return concat_rows(list(self.stream(record_range, schema)), schema.columns, record_range.uri)

    def stream(self, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
        """Reads a range of the table that it belongs to, in its parts; see `StreamingSource`."""
        assert isinstance(schema, UnionSchema)
        name, _, inner = record_range.source.partition(_STEP)
        for rows in stream_rows(self.sources[name], replace(record_range, source=inner), schema.tables[name]):
            yield self._with_all_columns(rows, name, schema.columns)

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts | None:
        """Fetches what reading a range takes; see `FetchableSource`."""
        assert isinstance(schema, UnionSchema)
        name, _, inner = record_range.source.partition(_STEP)
        return with_parts(self.sources[name], replace(record_range, source=inner), schema.tables[name], reader).parts

    def joins(self, schema: TableSchema) -> Iterator[tuple[JoinTable, str]]:
        """The tables that are joined in its tables; see `JoiningSource`."""
        assert isinstance(schema, UnionSchema)
        for name, source in self.sources.items():
            yield from joins_of(source, schema.tables[name])

    def row_dialect(self, record_range: RecordRange) -> Dialect:
        """How the text of the table that a range belongs to is cut into fields; see `DelimitedSource`."""
        name, _, inner = record_range.source.partition(_STEP)
        return row_dialect(self.sources[name], replace(record_range, source=inner))

    def _with_all_columns(self, rows: Rows, name: str, columns: pa.Schema) -> Rows:
        """A table's rows with the columns of all tables, and the tag."""
        count = len(rows.batch)
        arrays = []
        for field in columns:
            if field.name == self.tag:
                arrays.append(pa.array([name] * count, pa.string()))
            elif field.name in rows.batch.schema.names:
                arrays.append(rows.batch.column(field.name))
            else:
                arrays.append(pa.nulls(count, field.type))
        return replace(rows, batch=pa.RecordBatch.from_arrays(arrays, schema=columns))


def _unite(tables: Mapping[str, TableSchema], tag: str | None) -> UnionSchema:
    """The columns that any of the tables has, in the order of their first table, and the tag."""
    fields: dict[str, pa.Field] = {}
    for name, table in tables.items():
        for field in table.columns:
            known = fields.setdefault(field.name, field)
            if known.type != field.type:
                raise RequestError(
                    f"Union: expected one type for the column {field.name!r}, found {known.type} and, in "
                    f"{name!r}, {field.type}; declare it with columns={{...}}"
                )
    if tag in fields:
        raise RequestError(f"Union(tag=...): expected a new name, found the column {tag!r}; name another")
    rules = {name: united for name in fields if (united := _unite_rules(name, tables)) is not None}
    tagged = with_rules(pa.schema([(tag, pa.string())] if tag else []))
    reasons: dict[str, str] = {}
    for table in tables.values():
        reasons = {**table.reasons, **reasons}
    columns = pa.schema([*fields.values(), *tagged.columns])
    return UnionSchema(columns, {**rules, **tagged.rules}, tables, reasons=reasons)


def _unite_rules(column: str, tables: Mapping[str, TableSchema]) -> ColumnRules | None:
    """How a column of a union is read, if all tables that have it tell."""
    schemas = {name: table for name, table in tables.items() if column in table.columns.names}
    rules = {name: table.rules[column] for name, table in schemas.items() if column in table.rules}
    if len(rules) < len(schemas):
        return None
    first, *others = rules.values()
    return first if all(each == first for each in others) else RulesByTable(rules)
