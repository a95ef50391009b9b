"""Several sources joined by key into one example.

The right side is a table of any size: a small one is held in memory, of a large one a file is made, in which rows are
found by key (`joined_table`). The left side is images, whose payloads are read once, later, or a table of any size,
which is read range by range.
"""

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from ...transforms.image_codec import Decode
from ..errors import PenstockError, RequestError
from ..formats.column_notes import JOIN, ColumnNote, Notes, describe_notes, merge, merge_all
from ..storage import files
from ..storage.scratch import ScratchFolder
from . import joined_table, near_keys, nominal
from .file_content import FileParts, PartReader, compression
from .images import Images
from .joined_table import DiskTable, JoinedTable, MemoryTable, TableNotes, copy, in_memory, write_sorted
from .listing import RecordListing, RecordRange
from .names import NAMES, USABLE, aliases, find_named
from .quarantine import LISTED, FilteredExample, QuarantinedExample
from .record_source import RecordSource, Rows, concat_rows, stream_rows, with_parts
from .references import Forget, ImageListing, ReferenceTable, forms
from .row_boundaries import Dialect
from .table_schema import TableSchema

NO_MATCH = "no_match"
_RANGE_BYTES = 8 << 20
_THREADS = 16
_SWELL = 4  # a table is about so many times as large as the file that it is compressed into
_COMPARED = 4  # ranges whose keys are compared while planning
_NOTED_ROWS = 1 << 17  # of the joined table, of which a unit notes which ones it met
_KEYS = (pa.int64(), pa.float64(), pa.string())


class TableCache:
    """Keeps a joined table, so that the threads of a process read it once and share it.

    A pickled copy begins empty: workers are sent names of files, not the table.

    Attributes:
      folder: Where a run keeps the files of joined tables; None: nowhere.
    """

    def __init__(self) -> None:
        self.folder: str | None = None
        self.table: JoinedTable | None = None
        self._lock = threading.Lock()
        self._version: tuple[str, str] | None = None
        self._local: ScratchFolder | None = None

    def __reduce__(self) -> tuple[type["TableCache"], tuple[()]]:
        return TableCache, ()

    def get(self, root: str, digest: str, load: Callable[[], JoinedTable]) -> JoinedTable:
        """The table of that folder and digest; loaded where another one, or none, is kept."""
        with self._lock:
            if self.table is None or self._version != (root, digest):
                self.table, self._version = load(), (root, digest)
            return self.table

    def local_path(self, name: str) -> str:
        """Where a file can be kept on this machine, as long as the cache is used."""
        self._local = self._local or ScratchFolder()
        return os.path.join(self._local.path, name)


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

    def find(self, root: str) -> tuple[JoinedTable, str]:
        """The table as its files are now, and a hash over these.

        Raises:
          RequestError: a row does not fit, the key is missing or of a type that cannot be one, or stands there twice.
        """
        listing = self.source.find(root, _RANGE_BYTES)
        return self._cache.get(root, listing.digest, lambda: self._load(listing)), listing.digest

    def read(self, root: str, digest: str, on_disk: bool) -> JoinedTable:
        """The table as `find` listed it.

        Args:
          root: The input folder.
          digest: The hash over its files.
          on_disk: Whether it is too large for memory: then the run keeps a file of it.

        Raises:
          PenstockError: its files changed since.
        """
        return self._cache.get(root, digest, lambda: self._read(root, digest, on_disk))

    def keep(self, folder: str, digest: str) -> None:
        """Writes the file of a table that is too large for memory to a run's folder, unless it is there.

        Raises:
          OSError: it cannot be written.
        """
        if isinstance(self._cache.table, DiskTable):
            uri = files.join(folder, self._file_name(digest))
            if not files.exists(uri):
                copy(self._cache.table.path, uri)

    def use_folder(self, folder: str) -> None:
        """Has workers take the files that `keep` wrote to a folder."""
        self._cache.folder = folder

    def _file_name(self, digest: str) -> str:
        return f"{hashlib.sha256(json.dumps([digest, self.key]).encode()).hexdigest()[:32]}.arrow"

    def _read(self, root: str, digest: str, on_disk: bool) -> JoinedTable:
        if on_disk and self._cache.folder is not None:
            name = self._file_name(digest)
            path = files.join(self._cache.folder, name)
            if not files.is_local(path):
                remote, path = path, self._cache.local_path(name)
                copy(remote, path)
            if os.path.exists(path):
                return DiskTable(path)
        listing = self.source.find(root, _RANGE_BYTES)
        if listing.digest != digest:
            raise PenstockError("join: the joined table changed after it was listed; run again")
        return self._load(listing)

    def _load(self, listing: RecordListing) -> JoinedTable:
        """Reads the table and finds each key's row."""
        check_key(listing.schema.columns, self.key, "the joined table")
        notes = merge_all([])

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal notes
            count, first = 0, ""
            for record_range in nominal.resolve_all(self.source, listing.ranges, _THREADS):
                for part in stream_rows(self.source, record_range, listing.schema):
                    first = first or next((problem.message for problem in part.problems), "")
                    count += len(part.problems)
                    notes = merge(notes, part.notes)
                    yield part.batch
            if count:
                raise RequestError(
                    f"join: expected every row of the joined table to fit, found {count} that do not; the first: "
                    f"{first}; fix it, or declare its columns as strings"
                )

        schema = listing.schema.columns
        size = sum(each.size * (_SWELL if compression(each.uri) else 1) for each in listing.ranges)
        if size <= joined_table.IN_MEMORY:
            columns, rows = in_memory(batches(), schema, self.key)
            table: JoinedTable = MemoryTable(columns, rows)
        else:
            path = self._cache.local_path(self._file_name(listing.digest))
            write_sorted(batches(), schema, self.key, size, path)
            table = DiskTable(path)
        without_key = _without_key(listing.schema, self.key)
        table.notes = TableNotes(without_key.rules, without_key.reasons, [*listing.warnings, *describe_notes(notes)])
        return table


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

    @property
    def max_bytes(self) -> int:
        """Larger payloads are not read."""
        return self.left.max_bytes

    @property
    def _number(self) -> int:
        """Which of the tables that are joined to the images it is, from 1."""
        return self.left._number + 1 if isinstance(self.left, ImageJoin) else 1

    def find(self, root: str, forget: Forget | None = None) -> ImageListing:
        """Lists the images, each with its row's columns.

        Args:
          root: The input folder.
          forget: Tells which keys are to be forgotten; None: none are.

        Raises:
          RequestError: the images or the table are not as they should be.
        """
        listing = self.left.find(root, forget)
        right = self.right.source.find(root, _RANGE_BYTES)
        check_key(right.schema.columns, self.right.key, "the joined table")
        schema = _without_key(right.schema, self.right.key)
        uri = f"the column {self.right.key!r} of the joined table"
        binary = [column.name for column in schema.columns if pa.types.is_binary(column.type)]
        if binary:
            raise RequestError(f"join: expected columns of strings and numbers beside images, found bytes in {binary}")
        table = listing.table
        rows = f"joined_{self._number}"
        notes = self._load_rows(table, rows, right)
        named, warnings = _match_rows(table, rows, uri)
        _check_columns(table, schema)
        columns = [f"{rows}.v{at}" for at in range(len(schema.columns))]
        selected = ", ".join(["rid", *(f"v{at}" for at in range(len(schema.columns)))])
        join = f"LEFT JOIN (SELECT {selected} FROM {named} JOIN {rows} USING (row)) AS {rows} USING (rid)"
        lacking = f"SELECT rid, key FROM ({table.query('key')}) ANTI JOIN {named} USING (rid)"
        ((count, key),) = table.database.rows(f"SELECT count(*), min(key) FROM ({lacking})")
        if count:
            left_out = "left out" if self.right.how == "inner" else "without its columns"
            warnings.append(
                f"{count} of {table.count()} images have no row in {uri}, such as {key!r}: they are {left_out}"
            )
        if self.right.how == "inner":
            table.leave_out(f"SELECT rid, {self._number} AS step, '{NO_MATCH}' AS code FROM ({lacking})")
        table.add_columns(columns, join, schema)
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
        key = database.value(f"SELECT min(key) FROM ({table.query('key')})")
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
    has_labels = table.database.value(f"SELECT count(label) FROM ({table.query('label')})")
    taken = {"key", "image", "mask", *table.schema.columns.names} | ({"label"} if has_labels else set())
    clashes = sorted(taken & {*schema.columns.names})
    if clashes:
        raise RequestError(f"join: expected columns of new names, found {clashes} on both sides; rename them")


@runtime_checkable
class JoiningSource(Protocol):
    """A source that tables are joined in."""

    def joins(self, schema: TableSchema) -> Iterator[tuple[JoinTable, str]]:
        """These tables, with the hashes over their files."""


def joins_of(source: RecordSource, schema: TableSchema) -> Iterator[tuple[JoinTable, str]]:
    """The tables that are joined in a source of tables, with the hashes over their files."""
    if isinstance(source, JoiningSource):
        yield from source.joins(schema)


@dataclass(frozen=True)
class JoinSchema(TableSchema):
    """The columns of a table and of the one that is joined to it.

    Attributes:
      left: The left side's schema.
      digest: The joined table's, by which a worker knows that it reads what was listed.
      on_disk: Whether the joined table is too large for memory.
    """

    left: TableSchema
    digest: str
    on_disk: bool


@dataclass(frozen=True)
class TableJoin:
    """A table with the columns of another; made by `join`."""

    left: RecordSource
    right: JoinTable

    def joins(self, schema: TableSchema) -> Iterator[tuple[JoinTable, str]]:
        """The tables that are joined, with the hashes over their files."""
        assert isinstance(schema, JoinSchema)
        yield from joins_of(self.left, schema.left)
        yield self.right, schema.digest

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the left side's ranges; see `RecordSource`."""
        listing = self.left.find(root, range_bytes)
        table, digest = self.right.find(root)
        left, right = listing.schema.columns, table.schema
        check_key(left, self.right.left_key, "the left side")
        clashes = sorted(set(right.names) & set(left.names))
        if clashes:
            raise RequestError(f"join: expected columns of new names, found {clashes} on both sides; rename them")
        rules = {**listing.schema.rules, **table.notes.rules}
        reasons = {**listing.schema.reasons, **table.notes.reasons}
        warnings = [*listing.warnings, *table.notes.warnings, *self._compare_first_keys(listing, table)]
        return replace(
            listing,
            ranges=[replace(record_range, root=root) for record_range in listing.ranges],
            schema=JoinSchema(
                pa.schema([*left, *right]),
                rules,
                listing.schema,
                digest,
                isinstance(table, DiskTable),
                reasons=reasons,
            ),
            warnings=warnings,
            digest=listing.digest + digest,
        )

    def _compare_first_keys(self, listing: RecordListing, table: JoinedTable) -> list[str]:
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
            names = next(parts).batch.column(self.right.left_key).cast(pa.string())
            places = table.find(names)
            count += len(names)
            missing |= dict.fromkeys(names.filter(places.is_null()).drop_null().to_pylist())
            matches = places.null_count < len(names)
            if matches:
                break
            are_all = are_all and next(parts, None) is None
        near = near_keys.hint(missing, table.keys())
        if count and not matches:
            held = [*islice(table.keys(), 2)]
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
        table = self.right.read(record_range.root, schema.digest, schema.on_disk)
        for rows in stream_rows(self.left, record_range, schema.left):
            yield self._join(record_range, rows, table, schema)

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts | None:
        """Fetches what reading a range of the left side takes; see `FetchableSource`."""
        assert isinstance(schema, JoinSchema)
        return with_parts(self.left, record_range, schema.left, reader).parts

    def _join(self, record_range: RecordRange, rows: Rows, table: JoinedTable, schema: JoinSchema) -> Rows:
        """Rows of the left side with the columns of the table."""
        names = rows.batch.column(self.right.left_key).cast(pa.string())
        places = table.find(names)
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
        joined = pa.RecordBatch.from_arrays([*batch.columns, *table.take(places)], schema=schema.columns)
        return replace(rows, batch=joined, numbers=numbers, filtered=filtered, filtered_examples=examples, notes=notes)


def _note(
    right: JoinTable, table: JoinedTable, digest: str, names: pa.StringArray, places: pa.Int64Array
) -> dict[tuple[str, str], ColumnNote]:
    """How many of these rows match nothing, and which rows of the joined table match: of a large one, every n-th.

    Args:
      right: The joined table.
      table: Its content.
      digest: A hash over its files.
      names: The left side's keys.
      places: int64, the rows that they match; missing where there is none.
    """
    count = table.count
    stride = max(1, -(-count // _NOTED_ROWS))
    matched = np.asarray(places.drop_null(), np.int64)
    bits = np.zeros(-(-count // stride), bool)
    bits[matched[matched % stride == 0] // stride] = True
    seen = np.packbits(bits, bitorder="little").tobytes()[::-1].hex()
    example = next((str(names[at].as_py()) for at in np.flatnonzero(np.asarray(places.is_null())).tolist()), "")
    which = json.dumps([right.left_key, right.key, count, stride, digest[:8]])
    return {(JOIN, which): ColumnNote(places.null_count, len(names), example, seen=seen)}


def join(
    left: "Images | ImageJoin | RecordSource", right: RecordSource, on: str | tuple[str, str], how: str = "left"
) -> "ImageJoin | TableJoin":
    """Joins the columns of a table to images or to the rows of another table.

    Args:
      left: Images, a table, or what `join` gave.
      right: A table.
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
