"""Several sources joined by key into one example.

Joins work on references and light columns: the right side is a table that fits into memory, the left side is images,
whose payloads are read once, later, or a table of any size, which is read range by range.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pyarrow as pa

from ...transforms.image_codec import Decode
from ..errors import PenstockError, RequestError
from ..formats.column_notes import JOIN, ColumnNote, Notes, describe_notes, merge, merge_all
from . import near_keys, nominal
from .file_content import FileParts, PartReader
from .images import Images
from .listing import RecordListing, RecordRange
from .names import NAMES, USABLE, aliases, find_named
from .quarantine import LISTED, FilteredExample, QuarantinedExample
from .record_source import RecordSource, Rows, concat_rows, stream_rows, with_parts
from .references import ImageListing, ReferenceTable, forms
from .row_boundaries import Dialect
from .table_schema import ColumnRules, TableSchema

NO_MATCH = "no_match"
_RANGE_BYTES = 8 << 20
_THREADS = 16
_COMPARED = 4  # ranges whose keys are compared while planning
_NOTED_ROWS = 1 << 17  # of the joined table, of which a unit notes which ones it met
_KEYS = (pa.int64(), pa.float64(), pa.string())


@dataclass(frozen=True)
class IndexedTable:
    """A table in memory, to join with.

    Attributes:
      columns: Its columns, without the key.
      rules: How these are read.
      reasons: Why these are of their types.
      warnings: What the user should know of the table.
      rows: Key, as a string, to row. Rows without a key are in none of it: nothing matches them.
    """

    columns: pa.Table
    rules: Mapping[str, ColumnRules]
    reasons: Mapping[str, str]
    warnings: Sequence[str]
    rows: Mapping[str, int]


class TableCache:
    """Keeps a joined table in memory, so that the threads of a process read it once and share it.

    A pickled copy begins empty: workers are sent names of files, not the table.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: tuple[str, str] | None = None
        self._table: IndexedTable | None = None

    def __reduce__(self) -> tuple[type["TableCache"], tuple[()]]:
        return TableCache, ()

    def get(self, root: str, digest: str, load: Callable[[], IndexedTable]) -> IndexedTable:
        """The table of that folder and digest; loaded where another one, or none, is kept."""
        with self._lock:
            if self._table is None or self._version != (root, digest):
                self._table, self._version = load(), (root, digest)
            return self._table


@dataclass(frozen=True)
class JoinTable:
    """A table to join with.

    Attributes:
      source: The table.
      left_key: The left side's column; unused where the left side is images.
      key: The table's column of numbers or strings whose values name the left side's rows; every value may stand there
        once. A missing one matches nothing.
      how: "left" keeps examples without a match, whose joined columns are missing; "inner" leaves them out, counted as
        filtered by "no_match".
    """

    source: RecordSource
    left_key: str
    key: str
    how: str
    _cache: TableCache = field(default_factory=TableCache, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.source, RecordSource):
            raise RequestError(f"join(right): expected a table such as Csv(...), found {self.source!r}")
        if self.how not in ("left", "inner"):
            raise RequestError(f"join(how=...): expected 'left' or 'inner', found {self.how!r}")

    def find(self, root: str) -> tuple[IndexedTable, str]:
        """The table as its files are now, and a hash over these.

        Raises:
          RequestError: a row does not fit, the key is missing or of a type that cannot be one, or stands there twice.
        """
        listing = self.source.find(root, _RANGE_BYTES)
        return self._cache.get(root, listing.digest, lambda: self._load(listing)), listing.digest

    def read(self, root: str, digest: str) -> IndexedTable:
        """The table as `find` listed it.

        Raises:
          PenstockError: its files changed since.
        """
        return self._cache.get(root, digest, lambda: self._load(self._list_again(root, digest)))

    def _list_again(self, root: str, digest: str) -> RecordListing:
        listing = self.source.find(root, _RANGE_BYTES)
        if listing.digest != digest:
            raise PenstockError("join: the joined table changed after it was listed; run again")
        return listing

    def _load(self, listing: RecordListing) -> IndexedTable:
        """Reads the table and finds each key's row."""
        check_key(listing.schema.columns, self.key, "the joined table")
        ranges = nominal.resolve_all(self.source, listing.ranges, _THREADS)
        parts = [self.source.read(record_range, listing.schema) for record_range in ranges]
        problems = [problem for part in parts for problem in part.problems]
        if problems:
            raise RequestError(
                f"join: expected every row of the joined table to fit, found {len(problems)} that do not; the first: "
                f"{problems[0].message}; fix it, or declare its columns as strings"
            )
        table = pa.Table.from_batches([part.batch for part in parts], listing.schema.columns)
        keys = table[self.key].cast(pa.string()).to_pylist()
        rows = {key: row for row, key in enumerate(keys) if key is not None}
        if len(rows) < len(keys) - keys.count(None):
            counts = Counter(keys)
            name = next(key for key in rows if counts[key] > 1)
            raise RequestError(
                f"join: expected every key to stand once in the joined table, found {name!r} {counts[name]} times in "
                f"its column {self.key!r}; remove the other rows"
            )
        rules = {name: each for name, each in listing.schema.rules.items() if name != self.key}
        reasons = {name: each for name, each in listing.schema.reasons.items() if name != self.key}
        notes = merge_all(part.notes for part in parts)
        warnings = [*listing.warnings, *describe_notes(notes)]
        return IndexedTable(table.drop_columns([self.key]).combine_chunks(), rules, reasons, warnings, rows)


def check_key(schema: pa.Schema, name: str, where: str) -> None:
    """Checks a column to join on.

    Raises:
      RequestError: it is not there, or is no column of numbers or strings.
    """
    if name not in schema.names:
        raise RequestError(f"join(on=...): expected one of the columns {schema.names} of {where}, found {name!r}")
    kind = schema.field(name).type
    if kind not in _KEYS:
        raise RequestError(
            f"join(on=...): expected numbers or strings in the column {name!r} of {where}, found {kind}; declare it "
            f"with columns={{{name!r}: 'string'}}, or name another"
        )


@dataclass(frozen=True)
class ImageJoin:
    """Images with the columns of tables; made by `join`."""

    left: "Images | ImageJoin"
    right: JoinTable

    @property
    def decode(self) -> Decode:
        """How payloads become pixels."""
        return self.left.decode

    def find(self, root: str) -> ImageListing:
        """Lists the images, each with its row's columns.

        Raises:
          RequestError: the images or the table are not as they should be.
        """
        listing = self.left.find(root)
        right = self.right.source.find(root, _RANGE_BYTES)
        check_key(right.schema.columns, self.right.key, "the joined table")
        schema = _without_key(right.schema, self.right.key)
        uri = f"the column {self.right.key!r} of the joined table"
        binary = [column.name for column in schema.columns if pa.types.is_binary(column.type)]
        if binary:
            raise RequestError(f"join: expected columns of strings and numbers beside images, found bytes in {binary}")
        table = listing.table
        rows = f"joined_{len(table.schema.columns)}"
        notes = self._load_rows(table, rows, right)
        named, warnings = _match_rows(table, rows, uri)
        _check_columns(table, schema)
        columns = [f"{rows}.v{at}" for at in range(len(schema.columns))]
        selected = ", ".join(["rid", *(f"v{at}" for at in range(len(schema.columns)))])
        join = f"LEFT JOIN (SELECT {selected} FROM {named} JOIN {rows} USING (row)) AS {rows} USING (rid)"
        lacking = f"SELECT rid, key FROM ({table.query()}) ANTI JOIN {named} USING (rid)"
        ((count, key),) = table.database.rows(f"SELECT count(*), min(key) FROM ({lacking})")
        if count:
            left_out = "left out" if self.right.how == "inner" else "without its columns"
            warnings.append(
                f"{count} of {table.count()} images have no row in {uri}, such as {key!r}: they are {left_out}"
            )
        if self.right.how == "inner":
            table.leave_out(
                f"SELECT rid, {len(table.schema.columns) + 1} AS step, '{NO_MATCH}' AS code FROM ({lacking})"
            )
        table.add_columns(join, columns, schema)
        listing.warnings += [*warnings, *right.warnings, *describe_notes(notes)]
        listing.digest += right.digest
        return listing

    def _load_rows(self, table: ReferenceTable, rows: str, right: RecordListing) -> Notes:
        """Makes a table of the joined table's rows that have a key: what `names.find_named` takes, and v0, v1, ….

        Raises:
          RequestError: a row does not fit, or a key stands there twice.
        """
        names = [name for name in right.schema.columns.names if name != self.right.key]
        values = [pa.field(f"v{at}", right.schema.columns.field(name).type) for at, name in enumerate(names)]
        schema = pa.schema([*NAMES, *values])
        problems: list[QuarantinedExample] = []
        count, notes = 0, merge_all([])

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal count, notes
            for record_range in nominal.resolve_all(self.right.source, right.ranges, _THREADS):
                for part in stream_rows(self.right.source, record_range, right.schema):
                    problems.extend(part.problems)
                    notes = merge(notes, part.notes)
                    keys = part.batch.column(self.right.key).cast(pa.string())
                    numbers = pa.array(np.arange(count, count + len(keys)))
                    count += len(keys)
                    columns = [numbers, keys, forms(keys), *(part.batch.column(name) for name in names)]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema).filter(keys.is_valid())

        table.database.create(rows, schema, batches())
        if problems:
            raise RequestError(
                f"join: expected every row of the joined table to fit, found {len(problems)} that do not; the first: "
                f"{problems[0].message}; fix it, or declare its columns as strings"
            )
        for name, times in table.database.rows(
            f"SELECT name, count(*) FROM {rows} GROUP BY name HAVING count(*) > 1 ORDER BY min(row) LIMIT 1"
        ):
            raise RequestError(
                f"join: expected every key to stand once in the joined table, found {name!r} {times} times in "
                f"its column {self.right.key!r}; remove the other rows"
            )
        return notes


def _without_key(schema: TableSchema, key: str) -> TableSchema:
    return TableSchema(
        pa.schema([column for column in schema.columns if column.name != key]),
        {name: rules for name, rules in schema.rules.items() if name != key},
        reasons={name: reason for name, reason in schema.reasons.items() if name != key},
    )


def _match_rows(table: ReferenceTable, rows: str, uri: str) -> tuple[str, list[str]]:
    """The table that tells which row is which image's; and warnings of rows that belong to no image.

    Raises:
      RequestError: two rows belong to one image, or none to any.
    """
    database = table.database
    named = find_named(table, rows, uri, USABLE)
    second = f"SELECT *, row_number() OVER (PARTITION BY rid ORDER BY row) AS n FROM {named.table}"
    for (key,) in database.rows(f"SELECT key FROM ({second}) JOIN files USING (rid) WHERE n = 2 ORDER BY row LIMIT 1"):
        raise RequestError(f"join: expected one row for the image {key}, found two in {uri}")
    strangers = f"SELECT name FROM {rows} ANTI JOIN {named.table} USING (row) ORDER BY row"
    shown = [name for (name,) in database.rows(f"{strangers} LIMIT 2")]
    searched = (
        name
        for batch in database.batches(f"{strangers} LIMIT {near_keys.SEARCHED}")
        for name in batch["name"].to_pylist()
    )
    near = near_keys.hint(searched, aliases(table, USABLE)) if shown else ""
    if not database.rows(f"FROM {named.table} LIMIT 1") and table.count():
        key = database.value(f"SELECT min(key) FROM ({table.query()})")
        raise RequestError(
            f"join: expected {uri} to name some of the images, such as {key!r}, found none: "
            f"it holds {shown}; {near or 'numbers with leading zeros must be declared as strings'}"
        )
    if not shown:
        return named.table, named.warnings
    warning = f"{named.strangers} rows of {uri} belong to no image, such as {shown[0]!r}{f'; {near}' if near else ''}"
    return named.table, [warning, *named.warnings]


def _check_columns(table: ReferenceTable, schema: TableSchema) -> None:
    """Raises RequestError where columns that are joined have the names of others."""
    if not table.count():
        return
    has_labels = table.database.value(f"SELECT count(label) FROM ({table.query()})")
    taken = {"key", "image", "mask", *table.schema.columns.names} | ({"label"} if has_labels else set())
    clashes = sorted(taken & {*schema.columns.names})
    if clashes:
        raise RequestError(f"join: expected columns of new names, found {clashes} on both sides; rename them")


@dataclass(frozen=True)
class JoinSchema(TableSchema):
    """The columns of a table and of the one that is joined to it.

    Attributes:
      left: The left side's schema.
      digest: The joined table's, by which a worker knows that it reads what was listed.
    """

    left: TableSchema
    digest: str


@dataclass(frozen=True)
class TableJoin:
    """A table with the columns of another; made by `join`."""

    left: RecordSource
    right: JoinTable

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the left side's ranges; see `RecordSource`."""
        listing = self.left.find(root, range_bytes)
        table, digest = self.right.find(root)
        left, right = listing.schema.columns, table.columns.schema
        check_key(left, self.right.left_key, "the left side")
        clashes = sorted(set(right.names) & set(left.names))
        if clashes:
            raise RequestError(f"join: expected columns of new names, found {clashes} on both sides; rename them")
        rules = {**listing.schema.rules, **table.rules}
        reasons = {**listing.schema.reasons, **table.reasons}
        warnings = [*listing.warnings, *table.warnings, *self._compare_first_keys(listing, table)]
        return replace(
            listing,
            ranges=[replace(record_range, root=root) for record_range in listing.ranges],
            schema=JoinSchema(pa.schema([*left, *right]), rules, listing.schema, digest, reasons=reasons),
            warnings=warnings,
            digest=listing.digest + digest,
        )

    def _compare_first_keys(self, listing: RecordListing, table: IndexedTable) -> list[str]:
        """A warning where keys of the first rows, and those of some in between, match nothing but for their writing.

        Raises:
          RequestError: these are all rows, and none of them matches.
        """
        places = sorted({at * (len(listing.ranges) - 1) // (_COMPARED - 1) for at in range(_COMPARED)})
        missing: dict[str, None] = {}
        count, matches, are_all = 0, False, len(places) == len(listing.ranges)
        for at in places if listing.ranges else ():
            sample = nominal.sample(self.left, listing.ranges[at])
            are_all = are_all and sample is listing.ranges[at]
            if sample is None:
                continue
            parts = stream_rows(self.left, sample, listing.schema)
            names = next(parts).batch.column(self.right.left_key).cast(pa.string()).to_pylist()
            count += len(names)
            missing |= {name: None for name in names if name is not None and name not in table.rows}
            matches = any(name in table.rows for name in names)
            if matches:
                break
            are_all = are_all and next(parts, None) is None
        near = near_keys.hint(missing, table.rows)
        if count and not matches:
            held = [*islice(table.rows, 2)]
            words = (
                f"expected keys of {self.right.left_key!r} in the column {self.right.key!r} of the joined table, found "
                f"none of {[*missing][:2]} there: it holds {held}; {near or 'see that the two columns mean the same'}"
            )
            if are_all:
                raise RequestError(f"join: {words}")
            return [f"join: of the first {count} rows that were looked at, none matches: {words}"]
        return [f"join: some keys match nothing: {near}"] if near else []

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range of the left side and joins it; see `RecordSource`."""
        return concat_rows(list(self.stream(record_range, schema)), schema.columns, record_range.uri)

    def row_dialect(self, record_range: RecordRange) -> Dialect:
        """How the text of the left side's range is cut into fields; see `DelimitedSource`."""
        return nominal.row_dialect(self.left, record_range)

    def stream(self, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
        """Reads a range of the left side, in its parts, and joins them; see `StreamingSource`."""
        assert isinstance(schema, JoinSchema)
        table = self.right.read(record_range.root, schema.digest)
        for rows in stream_rows(self.left, record_range, schema.left):
            yield self._join(record_range, rows, table, schema)

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts | None:
        """Fetches what reading a range of the left side takes; see `FetchableSource`."""
        assert isinstance(schema, JoinSchema)
        return with_parts(self.left, record_range, schema.left, reader).parts

    def _join(self, record_range: RecordRange, rows: Rows, table: IndexedTable, schema: JoinSchema) -> Rows:
        """Rows of the left side with the columns of the table."""
        names = rows.batch.column(self.right.left_key).cast(pa.string()).to_pylist()
        places = pa.array([table.rows.get(name) for name in names], pa.int64())
        notes = merge(rows.notes, _note(self.right, table, schema.digest, names, places))
        batch, numbers, filtered = rows.batch, rows.numbers, Counter(rows.filtered)
        examples = list(rows.filtered_examples)
        if self.right.how == "inner" and places.null_count:
            matched = places.is_valid()
            unmatched = numbers[~np.asarray(matched)][:LISTED].tolist()
            examples += [FilteredExample(f"{record_range.key}:{number}", NO_MATCH) for number in unmatched]
            batch, numbers = batch.filter(matched), numbers[np.asarray(matched)]
            filtered[NO_MATCH] += places.null_count
            places = places.drop_null()
        columns = [column.take(places).combine_chunks() for column in table.columns.columns]
        joined = pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=schema.columns)
        return replace(rows, batch=joined, numbers=numbers, filtered=filtered, filtered_examples=examples, notes=notes)


def _note(
    right: JoinTable, table: IndexedTable, digest: str, names: Sequence[str | None], places: pa.Array
) -> dict[tuple[str, str], ColumnNote]:
    """How many of these rows match nothing, and which rows of the joined table match: of a large one, every n-th.

    Args:
      right: The joined table.
      table: Its content.
      digest: A hash over its files.
      names: The left side's keys.
      places: int64, the rows that they match; missing where there is none.
    """
    count = table.columns.num_rows
    stride = max(1, -(-count // _NOTED_ROWS))
    matched = np.asarray(places.drop_null(), np.int64)
    bits = np.zeros(-(-count // stride), bool)
    bits[matched[matched % stride == 0] // stride] = True
    seen = np.packbits(bits, bitorder="little").tobytes()[::-1].hex()
    example = next((str(names[at]) for at in np.flatnonzero(np.asarray(places.is_null())).tolist()), "")
    which = json.dumps([right.left_key, right.key, count, stride, digest[:8]])
    return {(JOIN, which): ColumnNote(places.null_count, len(names), example, seen=seen)}


def join(
    left: "Images | ImageJoin | RecordSource", right: RecordSource, on: str | tuple[str, str], how: str = "left"
) -> "ImageJoin | TableJoin":
    """Joins the columns of a table to images or to the rows of another table.

    Args:
      left: Images, a table, or what `join` gave.
      right: A table that fits into memory.
      on: The column to join on; two names where they differ: (left, right). Images are found by the right side's
        column: their key, the same without its extension, their file name, or its stem.
      how: "left" or "inner"; see `JoinTable`.

    Raises:
      RequestError: an argument is not what it should be.
    """
    left_key, key = (on, on) if isinstance(on, str) else on
    if isinstance(left, Images | ImageJoin):
        return ImageJoin(left, JoinTable(right, left_key, key, how))
    if not isinstance(left, RecordSource):
        raise RequestError(f"join(left): expected Images(...) or a table such as Csv(...), found {left!r}")
    return TableJoin(left, JoinTable(right, left_key, key, how))
