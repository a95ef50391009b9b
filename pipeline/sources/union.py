"""Like tables put together as one."""

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from ..errors import RequestError
from . import column_types
from .ranges import RecordListing, RecordRange, RecordSource, Rows

_STEP = "\n"  # from a union's name to that of a table in the union of that name


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
        fields: dict[str, pa.Field] = {}
        for name, listing in listings.items():
            for field in listing.schema:
                known = fields.setdefault(field.name, field.with_metadata({}))
                own = _nest(name, field.metadata)
                fields[field.name] = known.with_metadata({**(known.metadata or {}), **own, name.encode(): b"has it"})
                if known.type != field.type:
                    raise RequestError(
                        f"Union: expected one type for the column {field.name!r}, found {known.type} and, in "
                        f"{name!r}, {field.type}; declare it with columns={{...}}"
                    )
        if self.tag in fields:
            raise RequestError(f"Union(tag=...): expected a new name, found the column {self.tag!r}; name another")
        tagged = column_types.tell_reading(pa.schema([(self.tag, pa.string())] if self.tag else []), "missing")
        metadata = [_nest(name, listing.schema.metadata) for name, listing in listings.items()]
        return RecordListing(
            ranges=[
                replace(record_range, source=f"{name}{_STEP}{record_range.source}" if record_range.source else name)
                for name, listing in listings.items()
                for record_range in listing.ranges
            ],
            schema=pa.schema(
                [*(_read_as(field, listings) for field in fields.values()), *tagged],
                functools.reduce(operator.or_, metadata),
            ),
            warnings=[warning for listing in listings.values() for warning in listing.warnings],
            digest="".join(listing.digest for listing in listings.values()),
        )

    def read(self, record_range: RecordRange, schema: pa.Schema) -> Rows:
        """Reads a range of the table that it belongs to; see `RecordSource`."""
        name, _, inner = record_range.source.partition(_STEP)
        own = [
            field.with_metadata(_unnest(name, field.metadata))
            for field in schema
            if name.encode() in (field.metadata or {})
        ]
        rows = self.sources[name].read(
            replace(record_range, source=inner), pa.schema(own, _unnest(name, schema.metadata))
        )
        count = len(rows.batch)
        columns = []
        for field in schema:
            if field.name == self.tag:
                columns.append(pa.array([name] * count, pa.string()))
            elif field.name in rows.batch.schema.names:
                columns.append(rows.batch.column(field.name))
            else:
                columns.append(pa.nulls(count, field.type))
        return replace(rows, batch=pa.RecordBatch.from_arrays(columns, schema=schema.remove_metadata()))


def _read_as(field: pa.Field, listings: Mapping[str, RecordListing]) -> pa.Field:
    """A column of a union that tells how it is read, if all tables that have it do."""
    schemas = {name: listing.schema for name, listing in listings.items() if field.name in listing.schema.names}
    rules = {name: column_types.reading(schema.field(field.name)) for name, schema in schemas.items()}
    told = [each for each in rules.values() if each is not None]
    if len(told) < len(rules):
        return field
    return column_types.with_reading(field, told[0] if all(each == told[0] for each in told) else {"tables": rules})


def _nest(name: str, metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    """What a schema says, as what it says of the table `name`."""
    return {f"{name}{_STEP}".encode() + key: value for key, value in (metadata or {}).items()}


def _unnest(name: str, metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    prefix = f"{name}{_STEP}".encode()
    return {key.removeprefix(prefix): value for key, value in (metadata or {}).items() if key.startswith(prefix)}
