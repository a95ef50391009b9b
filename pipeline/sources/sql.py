"""Tables and queries of a database, read by ranges of a key column.

SQLite needs no driver: Python's own reads it, for its columns may hold values of several types, which the ADBC driver
refuses. Every other database needs its ADBC driver (`adbc-driver-postgresql` and the like: columns come as Arrow),
taken where it is installed, or SQLAlchemy with the database's driver (rows come as tuples, in batches).
"""

import contextlib
import functools
import hashlib
import importlib
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..storage import files
from . import column_types
from .column_types import Columns, Inferred, Policies
from .listing import RecordListing, RecordRange
from .record_source import Rows, collect_rows
from .row_errors import RowError, shorten
from .table_schema import TableSchema, with_rules

_BATCH, _SAMPLE = 10_000, 1_000
_COUNTED = 400  # columns whose values are counted by type in one statement: SQLite gives 2,000 at most
_SQLITE_TYPES = {"integer": pa.int64(), "real": pa.float64(), "text": pa.string(), "blob": pa.binary()}
_ADBC = {"postgresql": "postgresql", "postgres": "postgresql", "snowflake": "snowflake"}
_BACKTICKS = ("mysql", "mariadb", "bigquery", "databricks", "hive", "spark")


@dataclass(frozen=True)
class Sql:
    """A table or a query of a database.

    Attributes:
      uri: The database as `scheme://…`: `sqlite:///sales.db` (relative to --input; with four slashes an absolute path),
        `postgresql://user@host/name`, …. `$NAME` in it is taken from the environment when connecting, so that a recipe
        holds no password; passwords are in no key, digest or message.
      table: The table to read, with its schema where it needs one: `sales.orders`; or
      query: the SELECT to read.
      partition: An integer column without nulls or duplicates. It cuts the rows into ranges and numbers them. None: one
        range, numbered in the order that the database gives; then ORDER BY in the query makes runs repeatable.
      columns: The columns to read: name to a type such as "int64", or "auto" to infer it: from all rows of
        SQLite, else from the types that an ADBC driver gives, or from the first thousand rows that come without.
        `"*": "auto"` is every other column. None: all.
      nonfinite: What is done with NaN, infinities and numbers beyond float32's range, for all columns or by name:
        "missing", "keep" or "quarantine".
    """

    uri: str = field(repr=False)
    _: KW_ONLY
    table: str | None = None
    query: str | None = None
    partition: str | None = None
    columns: Columns = None
    nonfinite: Policies = "missing"
    database: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        if not isinstance(self.uri, str) or "://" not in self.uri:
            raise RequestError("Sql(uri): expected a database such as 'sqlite:///sales.db', found no scheme in it")
        if (self.table is None) == (self.query is None):
            raise RequestError(f"Sql: expected a table or a query, found table={self.table!r}, query={self.query!r}")
        column_types.check_columns("Sql", self.columns, self.nonfinite)
        object.__setattr__(self, "database", redact(self.uri))

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the ranges; see `RecordSource`."""
        path = self._path(root)
        uri = path or self.database
        with self._connect(path, RequestError) as (run, _):
            names, sample = _first_batch(run(f"SELECT * FROM {self._from} LIMIT {_SAMPLE}"))
            warnings: list[str] = []
            unknown = [name for name in names if column_types.declared(self.columns, name) is None]
            counts = self._count_types(run, unknown) if self._scheme == "sqlite" else {}
            schema, reasons = self._schema(names, sample, counts, warnings)
            if not sample[0]:
                raise RequestError(f"{self.database}: expected rows in {self._what}, found none; check the query")
            state = [self.database, self._what, repr(schema)]
            ranges = [RecordRange(uri, self._what, 0, 0, 0, -1, range_bytes)]
            if self.partition is not None:
                low, high, count = self._bounds(run, names)
                row_bytes = max(
                    1, sum(column.nbytes for column in self._columns(names, sample, schema, {})) // len(sample[0])
                )
                parts = max(1, min(high - low + 1, -(-count * row_bytes // range_bytes)))
                edges = [low + (high - low + 1) * part // parts for part in range(parts + 1)]
                size = count * row_bytes // parts
                ranges = [RecordRange(uri, self._what, begin, end, begin, -1, size) for begin, end in pairwise(edges)]
                state.append(f"{low} {high} {count}")
        if path:
            for each in (path, f"{path}-wal"):  # what is committed may still wait in the write-ahead log
                if os.path.exists(each) and (info := os.stat(each)).st_size:
                    state.append(f"{info.st_size} {info.st_mtime!r}")
        elif self.partition is None:
            warnings.append(f"{self.database}: without partition=..., a change of {self._what} is not noticed")
        digest = hashlib.sha256("\0".join(state).encode()).hexdigest()
        return RecordListing(ranges, with_rules(schema, self.nonfinite, reasons=reasons), warnings, digest)

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        with self._connect(record_range.uri if self._scheme == "sqlite" else None, PenstockError) as (run, quote):
            names = [*schema.columns.names]
            if self.partition is not None and self.partition not in names:
                names.append(self.partition)
            statement = f"SELECT {', '.join(map(quote, names))} FROM {self._from}"
            if self.partition is not None:
                key = quote(self.partition)
                statement += f" WHERE {key} >= {record_range.begin} AND {key} < {record_range.end} ORDER BY {key}"
            errors: dict[int, RowError] = {}
            batches, keys, count = [], [], 0
            for columns in run(statement)[1]:
                misfits: dict[int, RowError] = {}
                arrays = self._columns(names, columns, schema.columns, misfits)
                batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema.columns))
                errors |= {count + position: row_error for position, row_error in misfits.items()}
                if self.partition is not None:
                    keys.append(np.asarray(columns[names.index(self.partition)], dtype=np.int64))
                count += len(batches[-1])
        batch = column_types.one_batch(pa.Table.from_batches(batches, schema.columns), self.database)
        batch, notes = column_types.apply_nonfinite(batch, self.nonfinite, errors)
        numbers = np.concatenate(keys) if keys else np.arange(count, dtype=np.int64)
        where = self.partition or "row"
        place = f"{self.database}, {self._what}, {where}"
        return collect_rows(
            record_range, batch, numbers, errors, describe=lambda number: (f"{place} {number}", None), notes=notes
        )

    # What is asked.

    @property
    def _what(self) -> str:
        """A name for the rows: the table, or a query's hash."""
        return self.table or f"query-{hashlib.sha256((self.query or '').encode()).hexdigest()[:8]}"

    @property
    def _from(self) -> str:
        if self.table is not None:
            quote = _quoting(self._scheme)
            return ".".join(quote(part) for part in self.table.split("."))
        return f"({(self.query or '').strip().rstrip(';')}\n) AS penstock_rows"  # it may end in a comment

    @property
    def _scheme(self) -> str:
        return self.uri.partition("://")[0].partition("+")[0].lower()

    def _bounds(self, run: Any, names: Sequence[str]) -> tuple[int, int, int]:
        """The lowest and the highest value of the partition's column, and how many rows there are."""
        assert self.partition is not None
        if self.partition not in names:
            raise RequestError(
                f"{self.database}: expected the column {self.partition!r} in {self._what}, found {list(names)}; "
                "name one of these as partition"
            )
        key = _quoting(self._scheme)(self.partition)
        statement = f"SELECT MIN({key}), MAX({key}), COUNT(*), COUNT(DISTINCT {key}) FROM {self._from}"
        bounds = [column[0] for column in next(iter(run(statement)[1]))]
        low, high, count, distinct = (value.as_py() if isinstance(value, pa.Scalar) else value for value in bounds)
        if type(low) is not int or type(high) is not int or distinct != count:
            raise RequestError(
                f"{self.database}: expected integers without nulls and duplicates in the column "
                f"{self.partition!r} of {self._what}, found {distinct} distinct values in {count} rows, from "
                f"{shorten(low)} to {shorten(high)}; name another column, or leave partition out"
            )
        return low, high, count

    def _count_types(self, run: Any, names: Sequence[str]) -> dict[str, dict[str, int]]:
        """How many values of each type columns of SQLite hold, whose columns have types for affinity alone."""
        quote = _quoting(self._scheme)
        counts: dict[str, dict[str, int]] = {}
        for begin in range(0, len(names), _COUNTED):
            some = names[begin : begin + _COUNTED]
            sums = [f"SUM(typeof({quote(name)}) = '{kind}')" for name in some for kind in _SQLITE_TYPES]
            row = [column[0] for column in next(iter(run(f"SELECT {', '.join(sums)} FROM {self._from}")[1]))]
            for place, name in enumerate(some):
                found = row[place * len(_SQLITE_TYPES) : (place + 1) * len(_SQLITE_TYPES)]
                counts[name] = {kind: count for kind, count in zip(_SQLITE_TYPES, found, strict=True) if count}
        return counts

    def _schema(
        self,
        names: Sequence[str],
        sample: Sequence[Sequence[Any]],
        counts: Mapping[str, Mapping[str, int]],
        warnings: list[str],
    ) -> tuple[pa.Schema, dict[str, str]]:
        """The columns to read, with the declared types, or those that hold all that was seen; and why.

        Args:
          names: All columns.
          sample: The values of the first rows, by column.
          counts: What `_count_types` gave; of a column that is not in it, the sample decides.
          warnings: Takes the warnings.
        """
        chosen = column_types.select(self.columns, names, f"{self.database}, {self._what}")
        inferred = {
            name: _infer(name, sample[list(names).index(name)], counts.get(name))
            for name in chosen
            if column_types.declared(self.columns, name) is None
        }
        return column_types.choose_types(chosen, self.columns, inferred, warnings)

    def _columns(
        self, names: Sequence[str], values: Sequence[Sequence[Any]], schema: pa.Schema, errors: dict[int, RowError]
    ) -> list[pa.Array]:
        return [_to_column(values[list(names).index(field.name)], field, errors) for field in schema]

    # How it is asked.

    def _path(self, root: str) -> str | None:
        """The SQLite file."""
        if self._scheme != "sqlite":
            return None
        path = os.path.expandvars(self.uri.partition("://")[2]).removeprefix("/")
        path = path if path.startswith("/") else files.join(root, path)
        if not files.is_local(path) or not os.path.isfile(path):
            raise RequestError(f"expected an SQLite file at {path}, found none; check --input and Sql(uri)")
        return path

    @contextlib.contextmanager
    def _connect(self, path: str | None, kind: type[PenstockError]) -> Iterator[tuple[Any, Any]]:
        """Gives a function that runs a statement: names of columns, then batches of columns; and one that quotes."""
        uri = os.path.expandvars(self.uri)
        with contextlib.ExitStack() as stack:
            try:
                if path:
                    run = _sqlite(path, stack)
                else:
                    run = _adbc(self._scheme, uri, stack) or _sqlalchemy(self._scheme, uri, stack)
                yield run, _quoting(self._scheme)
            except PenstockError:
                raise
            except Exception as error:  # whatever the driver raises; its text may hold the password
                hidden = _hide(str(error), uri)
                raise kind(
                    f"{self.database}: expected to read {self._what}, found {type(error).__name__}: {hidden}; "
                    "check the query, the database's address and the permissions"
                ) from None


def redact(uri: str) -> str:
    """A database's URI without its password and its parameters, which may hold one."""
    parts = urllib.parse.urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"


def _hide(message: str, uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    secrets = [uri, parts.password, urllib.parse.unquote(parts.password or ""), parts.query]
    secrets += [value for _, value in urllib.parse.parse_qsl(parts.query)]
    for secret in filter(None, secrets):
        message = message.replace(secret, "…")
    return re.sub(r"://[^\s/@]*:[^\s/@]*@", "://…@", message)


def _quoting(scheme: str) -> Any:
    mark = "`" if scheme in _BACKTICKS else '"'
    return lambda name: mark + name.replace(mark, 2 * mark) + mark


def _adbc(scheme: str, uri: str, stack: contextlib.ExitStack) -> Any:
    try:
        driver = importlib.import_module(f"adbc_driver_{_ADBC[scheme]}.dbapi")
    except (KeyError, ImportError):
        return None
    connection = stack.enter_context(contextlib.closing(driver.connect(uri)))

    def run(statement: str) -> tuple[list[str], Iterator[list[Any]]]:
        cursor = stack.enter_context(contextlib.closing(connection.cursor()))
        cursor.execute(statement)
        reader = cursor.fetch_record_batch()
        return reader.schema.names, (_plain(batch) for batch in reader)

    return run


def _plain(batch: pa.RecordBatch) -> list[Any]:
    return list(batch.columns)


def _sqlite(path: str, stack: contextlib.ExitStack) -> Any:
    uri = f"file:{urllib.parse.quote(path)}?mode=ro"
    connection = stack.enter_context(contextlib.closing(sqlite3.connect(uri, uri=True)))
    connection.text_factory = functools.partial(
        str, encoding="utf-8", errors="surrogateescape"
    )  # else one string fails all

    def run(statement: str) -> tuple[list[str], Iterator[list[Any]]]:
        cursor = connection.execute(statement)
        return [name for name, *_ in cursor.description], _batches(cursor)

    return run


def _sqlalchemy(scheme: str, uri: str, stack: contextlib.ExitStack) -> Any:
    """A function that runs a statement through SQLAlchemy, whose connection `stack` closes."""
    try:
        alchemy = importlib.import_module("sqlalchemy")
    except ImportError:
        raise RequestError(
            f"Sql: expected a driver for {scheme}://, found none; install adbc-driver-{_ADBC.get(scheme, scheme)}, or "
            "sqlalchemy with the database's driver"
        ) from None
    engine = alchemy.create_engine(uri)
    stack.callback(engine.dispose)
    connection = stack.enter_context(engine.connect().execution_options(stream_results=True))

    def run(statement: str) -> tuple[list[str], Iterator[list[Any]]]:
        result = connection.exec_driver_sql(statement)
        return list(result.keys()), _batches(result)

    return run


def _batches(cursor: Any) -> Iterator[list[Any]]:
    while rows := cursor.fetchmany(_BATCH):
        yield list(zip(*rows, strict=True))


def _first_batch(result: tuple[list[str], Iterator[list[Any]]]) -> tuple[list[str], list[Any]]:
    """The names and the values of a first batch."""
    names, batches = result
    return names, next(batches, [() for _ in names])


def _types(values: Any) -> list[pa.DataType]:
    if isinstance(values, pa.Array):
        return [_normal(values.type)]
    try:
        return [_normal(pa.array(values).type)]
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):  # SQLite's columns may hold values of several types
        return [
            pa.string() if isinstance(value, str) or not _fits_int64(value) else _normal(pa.array([value]).type)
            for value in values
        ]


def _infer(name: str, values: Any, counts: Mapping[str, int] | None) -> Inferred:
    """The type of a column, from the counts of its values by type, or else from the first ones."""
    if counts is None:
        conflict = f"the column {name!r} holds numbers in some rows and text in others"
        return column_types.unite_types(_types(values), f"the first {len(values)} rows", conflict)
    said = " and ".join(f"{count} {kind}" for kind, count in counts.items()) or "no values"
    conflict = f"the column {name!r} holds numbers in some rows and text or bytes in others ({said})"
    return column_types.unite_types([_SQLITE_TYPES[kind] for kind in counts], said, conflict)


def _normal(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return kind
    normal = column_types.normalise(kind)
    return pa.string() if normal is None else normal


def _fits_int64(value: Any) -> bool:
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


def _encodable(value: Any) -> Any:
    """A value; the bytes of a string that is no UTF-8."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogateescape")
    return value


def _to_column(values: Any, field: pa.Field, errors: dict[int, RowError]) -> pa.Array:
    """A column of the database, converted; value by value where they are of several types."""
    if isinstance(values, pa.Array):
        return column_types.convert(values, field.type, field.name, errors)
    try:
        return column_types.convert(pa.array(values), field.type, field.name, errors)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        pass
    parts = []
    for position, value in enumerate(map(_encodable, values)):
        misfits: dict[int, RowError] = {}
        row_error = RowError(
            "wrong_type", f"expected {field.type} in the column {field.name!r}, found {shorten(value)}"
        )
        part = pa.nulls(1, field.type)
        if _fits_int64(value):
            part = column_types.convert(pa.array([value]), field.type, field.name, misfits)
            row_error = misfits.get(0, row_error)
        elif pa.types.is_string(field.type):
            part = pa.array([str(value)])
        elif pa.types.is_float64(field.type):
            part = pa.array([float(value)])
        if misfits or (not _fits_int64(value) and part.null_count):
            errors.setdefault(position, row_error)
        parts.append(part)
    return pa.concat_arrays(parts)
