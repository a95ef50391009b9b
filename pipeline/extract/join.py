"""Several sources joined by key into one example, and like sources put together.

Joins work on references and light columns: the right side is a table that fits into memory, the left side is images,
whose payloads are read once, later, or a table of any size, which is read range by range.
"""

import functools
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...transforms.image_codec import Decode
from .. import tables
from ..errors import RequestError
from .images import Images
from .listing import Listing
from .ranges import Range, RecordListing, RecordSource, Rows

NO_MATCH = "no_match"
_RANGE_BYTES = 8 << 20
_LOCK = threading.Lock()  # the right side is read by one thread, not by all at once


@dataclass(frozen=True)
class Right:
    """A table to join with.

    Attributes:
      source: The table.
      left_key: The left side's column; unused where the left side is images.
      key: The table's column whose values name the left side's rows; every value may stand there once.
      how: "left" keeps examples without a match, whose joined columns are missing; "inner" leaves them out, counted as
        filtered by "no_match".
    """

    source: RecordSource
    left_key: str
    key: str
    how: str

    def __post_init__(self) -> None:
        if not isinstance(self.source, RecordSource):
            raise RequestError(f"join(right): expected a table such as Csv(...), found {self.source!r}")
        if self.how not in ("left", "inner"):
            raise RequestError(f"join(how=...): expected 'left' or 'inner', found {self.how!r}")

    def read(self, root: str) -> tuple[pa.Table, str]:
        """The whole table, read once in a process as long as its files stay, and a hash over its files.

        Raises:
          RequestError: a row does not fit, the key is missing, or a key stands there twice.
        """
        with _LOCK:
            listing = self.source.find(root, _RANGE_BYTES)
            return _read(_Cached(self, root, listing.digest, listing)), listing.digest


@dataclass(frozen=True)
class _Cached:
    """A table to join with, comparable by what it was made of."""

    right: Right
    root: str
    digest: str
    listing: RecordListing

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cached) and (repr(self.right), self.root, self.digest) == (
            repr(other.right),
            other.root,
            other.digest,
        )


@functools.lru_cache(maxsize=8)
def _read(cached: _Cached) -> pa.Table:
    right, listing = cached.right, cached.listing
    rows = [right.source.read(piece, listing.schema) for piece in listing.ranges]
    problems = [problem for part in rows for problem in part.problems]
    if problems:
        raise RequestError(
            f"join: expected every row of the joined table to fit, found {len(problems)} that do not; the first: "
            f"{problems[0].message}; mend it, or declare its columns as text"
        )
    table = pa.Table.from_batches([part.batch for part in rows], listing.schema)
    if right.key not in table.column_names:
        raise RequestError(f"join(on=...): expected one of the columns {table.column_names}, found {right.key!r}")
    keys = pc.cast(table[right.key], pa.string()).combine_chunks()
    if len(pc.unique(keys)) != len(keys):
        twice = pc.value_counts(keys).to_pylist()
        name = next(entry["values"] for entry in twice if entry["counts"] > 1)
        raise RequestError(f"join: expected every key to stand once in the joined table, found {name!r} several times")
    return table.set_column(table.column_names.index(right.key), right.key, keys)


@dataclass(frozen=True)
class ImageJoin:
    """Images with the columns of tables; made by `join`."""

    left: "Images | ImageJoin"
    right: Right

    @property
    def decode(self) -> Decode:
        """How payloads become pixels."""
        return self.left.decode

    def find(self, root: str) -> Listing:
        """Lists the images, each with its row's columns.

        Raises:
          RequestError: the images or the table are not as they should be.
        """
        listing = self.left.find(root)
        table, digest = self.right.read(root)
        uri = f"the column {self.right.key!r} of the joined table"
        binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
        if binary:
            raise RequestError(f"join: expected columns of text and numbers beside images, found bytes in {binary}")
        index = tables.KeyIndex([reference.key for reference in listing.references])
        rows: dict[str, int] = {}
        strangers = []
        for row, name in enumerate(table[self.right.key].to_pylist()):
            key = index.find(name, uri) if name else None
            if key is None:
                strangers.append(name)
            elif rows.setdefault(key, row) != row:
                raise RequestError(f"join: expected one row for the image {key}, found two in {uri}")
        if strangers:
            listing.warnings.append(f"{len(strangers)} rows of {uri} belong to no image, such as {strangers[0]!r}")
        if not rows:
            raise RequestError(
                f"join: expected {uri} to name some of the images, such as {listing.references[0].key!r}, found none: "
                f"it holds {strangers[:2]}; numbers with leading zeros must be declared as text (columns={{...}})"
            )
        kept = []
        columns = table.drop_columns([self.right.key])
        missing: dict[str, Any] = dict.fromkeys(columns.column_names)
        values = columns.to_pylist()
        for reference in listing.references:
            if reference.key not in rows and self.right.how == "inner":
                listing.filtered[NO_MATCH] += 1
                continue
            found = values[rows[reference.key]] if reference.key in rows else missing
            taken = {"key", "image", "mask"} | ({"label"} if reference.label is not None else set())
            clashes = sorted(found.keys() & ((reference.columns or {}).keys() | taken))
            if clashes:
                raise RequestError(f"join: expected columns of new names, found {clashes} on both sides; rename them")
            kept.append(reference._replace(columns={**(reference.columns or {}), **found}))
        listing.references = kept
        listing.schema = pa.schema([*(listing.schema or ()), *columns.schema])
        listing.digest += digest
        return listing


@dataclass(frozen=True)
class TableJoin:
    """A table with the columns of another; made by `join`."""

    left: RecordSource
    right: Right

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the left side's pieces; see `RecordSource`."""
        listing = self.left.find(root, range_bytes)
        table, digest = self.right.read(root)
        if self.right.left_key not in listing.schema.names:
            raise RequestError(
                f"join(on=...): expected one of the columns {listing.schema.names}, found {self.right.left_key!r}"
            )
        added = table.drop_columns([self.right.key]).schema
        clashes = sorted(set(added.names) & set(listing.schema.names))
        if clashes:
            raise RequestError(f"join: expected columns of new names, found {clashes} on both sides; rename them")
        return replace(
            listing,
            ranges=[replace(piece, root=root) for piece in listing.ranges],
            schema=pa.schema([*listing.schema, *added]),
            digest=listing.digest + digest,
        )

    def read(self, piece: Range, schema: pa.Schema) -> Rows:
        """Reads a piece of the left side and joins it; see `RecordSource`."""
        table, _ = self.right.read(piece.root)
        added = table.drop_columns([self.right.key])
        rows = self.left.read(piece, pa.schema([field for field in schema if field.name not in added.column_names]))
        names = rows.batch.column(self.right.left_key).cast(pa.string())
        places = pc.index_in(names, table[self.right.key], skip_nulls=True)
        batch, numbers, filtered = rows.batch, rows.numbers, Counter(rows.filtered)
        if self.right.how == "inner" and places.null_count:
            matched = places.is_valid()
            batch, numbers = batch.filter(matched), numbers[np.asarray(matched)]
            filtered[NO_MATCH] += places.null_count
            places = places.drop_null()
        columns = [column.take(places).combine_chunks() for column in added.columns]
        joined = pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=schema)
        return replace(rows, batch=joined, numbers=numbers, filtered=filtered)


def join(
    left: "Images | ImageJoin | RecordSource", right: RecordSource, on: str | tuple[str, str], how: str = "left"
) -> "ImageJoin | TableJoin":
    """Joins the columns of a table to images or to the rows of another table.

    Args:
      left: Images, a table, or what `join` gave.
      right: A table that fits into memory.
      on: The column to join on; two names where they differ: (left, right). Images are found by the right side's
        column: their key, the same without its extension, their file name, or its stem.
      how: "left" or "inner"; see `Right`.

    Raises:
      RequestError: an argument is not what it should be.
    """
    left_key, key = (on, on) if isinstance(on, str) else on
    if isinstance(left, Images | ImageJoin):
        return ImageJoin(left, Right(right, left_key, key, how))
    if not isinstance(left, RecordSource):
        raise RequestError(f"join(left): expected Images(...) or a table such as Csv(...), found {left!r}")
    return TableJoin(left, Right(right, left_key, key, how))


@dataclass(frozen=True)
class Union:
    """The rows of several tables as one.

    Attributes:
      sources: Name to table. Columns that a table lacks are missing in its rows.
      tag: The column that will hold the name of the table that a row comes from; None: there is none.
    """

    sources: Mapping[str, RecordSource]
    tag: str | None = "source"

    def __post_init__(self) -> None:
        if not isinstance(self.sources, Mapping) or not self.sources:
            raise RequestError(f"Union(sources): expected a dict of name to table, found {self.sources!r}")

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists all pieces; see `RecordSource`."""
        listings = {name: source.find(root, range_bytes) for name, source in self.sources.items()}
        fields: dict[str, pa.Field] = {}
        for name, listing in listings.items():
            for field in listing.schema:
                known = fields.setdefault(field.name, field.with_metadata({}))
                fields[field.name] = known.with_metadata({**(known.metadata or {}), name.encode(): b"has it"})
                if known.type != field.type:
                    raise RequestError(
                        f"Union: expected one type for the column {field.name!r}, found {known.type} and, in "
                        f"{name!r}, {field.type}; declare it with columns={{...}}"
                    )
        if self.tag in fields:
            raise RequestError(f"Union(tag=...): expected a new name, found the column {self.tag!r}; name another")
        tagged = [pa.field(self.tag, pa.string())] if self.tag else []
        return RecordListing(
            ranges=[replace(piece, source=name) for name, listing in listings.items() for piece in listing.ranges],
            schema=pa.schema([*fields.values(), *tagged]),
            warnings=[warning for listing in listings.values() for warning in listing.warnings],
            digest="".join(listing.digest for listing in listings.values()),
        )

    def read(self, piece: Range, schema: pa.Schema) -> Rows:
        """Reads a piece of the table that it belongs to; see `RecordSource`."""
        source = self.sources[piece.source]
        names = [field for field in schema if piece.source.encode() in (field.metadata or {})]
        rows = source.read(piece, pa.schema(names))
        count = len(rows.batch)
        columns = []
        for field in schema:
            if field.name == self.tag:
                columns.append(pa.array([piece.source] * count, pa.string()))
            elif field.name in rows.batch.schema.names:
                columns.append(rows.batch.column(field.name))
            else:
                columns.append(pa.nulls(count, field.type))
        return replace(rows, batch=pa.RecordBatch.from_arrays(columns, schema=schema))
