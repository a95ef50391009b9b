"""The references of a source of images, as tables on disk: what is listed, joined to it, and left out of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from ..storage.globs import normalized
from ..storage.scratch import ScratchDatabase
from .archive_members import name_of
from .listing import Reference
from .quarantine import FORGOTTEN, LISTED, FilteredExample, QuarantinedExample
from .table_schema import NO_COLUMNS, TableSchema

NOT_A_FILE = "not_a_file"  # the reason by which links to nothing, pipes and the like are filtered
FILES = pa.schema(
    [
        ("key", pa.string()),
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("modified", pa.float64()),
        ("code", pa.string()),
        ("message", pa.string()),
    ]
)
_VERSIONS = ("modified", "mask_key", "mask_size", "mask_etag", "mask_modified")  # what tells a later run what changed
_FURTHER = pa.schema(
    [
        ("rid", pa.int64()),
        ("base", pa.int32()),
        ("form", pa.string()),
        ("label", pa.string()),
        ("mask", pa.string()),
    ]
)
Forget = Callable[[pa.Array], np.ndarray]  # keys to which of them are to be forgotten, bool
_BASES = 64  # of which many references are below one, or in few buckets: longer lists keep whole URIs


@dataclass
class FileListing:
    """Files that a pattern matches, or that a list names.

    Attributes:
      batches: The files, in any order, as columns: those of `FILES`, and perhaps `label`, `mask` (strings) and the
        columns of `schema`. `size` is -1, `etag` empty and `modified` 0 where they are unknown. `code` and `message`
        are missing but where a file cannot be used: such a one is quarantined with them, or filtered by the code
        `NOT_A_FILE`.
      schema: Columns that are stored with the examples; None where there are none.
      warnings: What the user should know, once all batches are taken.
      depends_on: Files beside these that the listing depends on.
      digest: A hash over what else it depends on, once all batches are taken.
      unique: Whether equal keys are the same file, as where several patterns match it; else they are refused.
    """

    batches: Iterator[pa.RecordBatch]
    schema: TableSchema | None = None
    warnings: list[str] = field(default_factory=list)
    depends_on: list[str] = field(default_factory=list)
    digest: str = ""
    unique: bool = True


def forms(names: pa.Array) -> pa.Array:
    """The names in Unicode's form NFC; missing where a name is ASCII, which is its own form."""
    is_other = pc.invert(pc.string_is_ascii(names))
    others = [normalized(name) for name in names.filter(is_other).to_pylist()]
    return pc.replace_with_mask(pa.nulls(len(names), pa.string()), is_other, pa.array(others, pa.string()))


class ReferenceTable:
    """What a source lists, with what is joined to it, in tables of a scratch database.

    `files` has a row for each listed file, whose number `rid` says nothing of its order; its URI is not there where
    it is one of a few bases with the key behind it (see `uri_of`): most of a plan would be URIs. `left_out` names those
    that are quarantined (stage, code, message) or filtered (reason). What else is found out stands in tables of its own
    that are joined by `rid`.

    Attributes:
      database: The tables.
      schema: The columns that are stored with the examples.
    """

    def __init__(self) -> None:
        self.database = ScratchDatabase()
        self.schema = NO_COLUMNS
        names = ("key", "uri", "base", "size", "etag", "modified", "label", "mask")
        self._columns = {name: (f"files.{name}", "") for name in names}  # to an expression, and how its table is joined
        self._rows = 0
        self._bases: list[str] = []
        self.database.run(
            "CREATE TABLE left_out (rid BIGINT, step INTEGER, stage VARCHAR, code VARCHAR, message VARCHAR)"
        )

    @property
    def columns(self) -> list[str]:
        """The columns that `query` knows."""
        return list(self._columns)

    def add(self, listing: FileListing) -> None:
        """Takes all files of a listing, once.

        Raises:
          RequestError: two have one key, where they must differ.
        """
        schema = listing.schema or NO_COLUMNS
        self.schema = schema
        self.join({f"c{at}": f"files.c{at}" for at in range(len(schema.columns))}, "")
        columns = [*FILES, *_FURTHER, *(pa.field(f"c{at}", each.type) for at, each in enumerate(schema.columns))]
        stored = pa.schema(columns)
        self.database.create("files", stored, (self._to_row_group(batch, stored) for batch in listing.batches))
        self._check_keys(listing.unique)

    def _to_row_group(self, batch: pa.RecordBatch, stored: pa.Schema) -> pa.RecordBatch:
        """A lister's batch with numbers, forms, and all columns."""
        count = len(batch)
        names = {name: f"c{at}" for at, name in enumerate(self.schema.columns.names)}
        arrays = {names.get(name, name): batch.column(name) for name in batch.schema.names}
        if (
            "label" in names and "label" in batch.schema.names
        ):  # as it is stored; what counts labels takes it as a string
            arrays["label"] = batch.column("label").cast(pa.string())
        arrays["uri"], arrays["base"] = self._without_base(batch["key"], batch["uri"])
        arrays["rid"] = pa.array(np.arange(self._rows, self._rows + count))
        arrays["form"] = forms(batch["key"])
        self._rows += count
        columns = [arrays.get(each.name, pa.nulls(count, each.type)).cast(each.type) for each in stored]
        return pa.RecordBatch.from_arrays(columns, schema=stored)

    def _without_base(self, keys: pa.Array, uris: pa.Array) -> tuple[pa.Array, pa.Array]:
        """URIs, missing where they are a base and the key; and the numbers of these bases."""
        key, uri = (keys[0].as_py(), uris[0].as_py()) if len(keys) else ("", "")
        base = uri.removesuffix(key)
        if base == uri or (base not in self._bases and len(self._bases) == _BASES):
            return uris, pa.nulls(len(uris), pa.int32())
        if base not in self._bases:
            self._bases.append(base)
        below = pc.equal(uris, pc.binary_join_element_wise(base, keys, ""))
        nothing = pa.scalar(None, pa.string())
        return pc.if_else(below, nothing, uris), pc.if_else(below, pa.scalar(self._bases.index(base), pa.int32()), None)

    @property
    def uri_of(self) -> str:
        """An expression for the URI of a row of `files`."""
        cases = (
            f"WHEN {number} THEN concat('{base.replace(chr(39), 2 * chr(39))}', files.key)"
            for number, base in enumerate(self._bases)
        )
        return f"CASE files.base {' '.join(cases)} ELSE files.uri END" if self._bases else "files.uri"

    def _check_keys(self, unique: bool) -> None:
        """Leaves one of the files that have one key, or refuses them."""
        repeated = "SELECT hash(key) AS h FROM files GROUP BY h HAVING count(*) > 1"  # 8 bytes a key, not the key
        self.database.run(f"CREATE TABLE repeated AS SELECT rid, key FROM files WHERE hash(key) IN ({repeated})")
        uri = self.uri_of
        again = self.database.rows(
            f"SELECT key, min({uri}), max({uri}) FROM files WHERE rid IN (SELECT rid FROM repeated) GROUP BY key "
            "HAVING count(*) > 1 ORDER BY key LIMIT 1"
        )
        if again and not unique:
            key, first, second = again[0]
            raise RequestError(
                f"expected one example of each key, found {key!r} for {first} and for {second}; take one out of the "
                "list, or give the list a column of keys"
            )
        if again:
            self.database.run(
                "DELETE FROM files WHERE rid IN (SELECT rid FROM repeated) AND rid NOT IN "
                "(SELECT min(rid) FROM repeated GROUP BY key)"
            )
        self.database.run("DROP TABLE repeated")

    def join(self, columns: Mapping[str, str], join: str) -> None:
        """Takes columns from another table from now on.

        Args:
          columns: Names to expressions of that table: `label`, `mask`, `c0`, ….
          join: How it is joined to `files`.
        """
        self._columns |= {name: (expression, join) for name, expression in columns.items()}

    def add_columns(self, columns: Sequence[str], join: str, schema: TableSchema) -> None:
        """Adds columns of another table, given as for `join`, to those that are stored with the examples."""
        first = len(self.schema.columns)
        self.join({f"c{at}": expression for at, expression in enumerate(columns, first)}, join)
        self.schema = TableSchema(
            pa.schema([*self.schema.columns, *schema.columns]),
            {**self.schema.rules, **schema.rules},
            reasons={**self.schema.reasons, **schema.reasons},
        )

    def leave_out(self, query: str, *values: Any) -> None:
        """Adds to `left_out` what a query gives, columns by name, but for references that are in it."""
        self.database.run(
            f"INSERT INTO left_out BY NAME SELECT * FROM ({query}) WHERE rid NOT IN (SELECT rid FROM left_out)", *values
        )

    def forget(self, find: Forget) -> None:
        """Leaves out references without naming them: those whose keys are found, bool [keys]."""
        keys = self.database.batches("SELECT rid, key FROM files")
        schema = pa.schema([("rid", pa.int64())])
        rids = (
            pa.RecordBatch.from_arrays([batch["rid"].filter(pa.array(find(batch["key"])))], schema=schema)
            for batch in keys
        )
        self.database.create("forgotten", schema, rids)
        self.leave_out(f"SELECT rid, -1 AS step, '{FORGOTTEN}' AS code FROM forgotten")

    def query(self, *columns: str, tables: str = "", order: str = "", where: str = "") -> str:
        """A query of the references that are not left out: `rid` and columns.

        Args:
          columns: key, uri and base (of which `named` makes whole URIs), size, etag, modified, label, mask, its key and
            version, c0, c1, …, or other expressions; none: all but the latter.
          tables: Further joins.
          order: What to sort by.
          where: What must hold.
        """
        terms, joins = ["rid"], dict[str, None]()
        for name in columns or self._columns:
            expression, join = self._columns.get(name, (name, ""))
            terms.append(f"{expression} AS {name}" if name in self._columns else name)
            joins[join] = None
        return (
            f"SELECT {', '.join(terms)} FROM files {' '.join(joins)} {tables} ANTI JOIN left_out USING (rid)"
            f"{f' WHERE {where}' if where else ''}{f' ORDER BY {order}' if order else ''}"
        )

    def references(self, query: str) -> Iterator[Reference]:
        """The references that such a query gives."""
        for batch in self.database.batches(query):
            yield from to_references(self.named(batch))

    def named(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of `query` with whole URIs; joined columns have their names and types, in one column `columns`."""
        fields = list(self.schema.columns)
        arrays = {name: batch.column(name) for name in ("key", "uri", "size", "label", "mask")}
        for number in batch["base"].drop_null().unique().to_pylist():
            whole = pc.binary_join_element_wise(self._bases[number], batch["key"], "")
            arrays["uri"] = pc.if_else(pc.equal(batch["base"], number).fill_null(False), whole, arrays["uri"])
        columns: pa.Array = pa.nulls(len(batch))
        if fields:
            joined = [batch.column(f"c{at}").cast(each.type) for at, each in enumerate(fields)]
            columns = pa.StructArray.from_arrays(joined, fields=fields)
        versions = {name: batch.column(name) for name in _VERSIONS if name in batch.schema.names}
        return pa.RecordBatch.from_pydict(
            {**arrays, "columns": columns, "etag": batch["etag"].fill_null(""), **versions}
        )

    def count(self) -> int:
        """How many references are not left out."""
        return int(self.database.value("SELECT count(*) FROM files ANTI JOIN left_out USING (rid)"))

    def listed(self) -> int:
        """How many files are listed, those that are left out included."""
        return int(self.database.value("SELECT count(*) FROM files"))

    def quarantined(self) -> Iterator[QuarantinedExample]:
        """Those that are left out since they cannot be used, step by step and in the order of their keys."""
        query = (
            f"SELECT files.key, {self.uri_of} AS uri, stage, left_out.code, left_out.message "
            "FROM left_out JOIN files USING (rid) WHERE stage IS NOT NULL ORDER BY step, files.key"
        )
        for batch in self.database.batches(query):
            for row in batch.to_pylist():
                yield QuarantinedExample(**{**row, "uri": name_of(row["uri"])})

    def filtered(self) -> tuple[Counter[str], list[FilteredExample]]:
        """How many are left out by each reason, and the first of each, step by step and in the order of their keys."""
        counts = self.database.rows(
            "SELECT code, count(*) FROM left_out WHERE stage IS NULL GROUP BY code ORDER BY min(step), code"
        )
        examples = self.database.rows(
            "SELECT key, code FROM (SELECT files.key, left_out.code, step, row_number() OVER "
            "(PARTITION BY left_out.code ORDER BY step, files.key) AS n FROM left_out JOIN files USING (rid) "
            f"WHERE stage IS NULL AND left_out.code <> '{FORGOTTEN}') WHERE n <= {LISTED} ORDER BY step, key"
        )
        return Counter(dict(counts)), [FilteredExample(key, reason) for key, reason in examples]

    def digest(self, table: str) -> str:
        """A hash over the files of a table, whatever their order: key, size, and ETag or else time of change.

        It sums a 128-bit hash of each, so that nothing must be sorted.
        """
        (low, high, count), *_ = self.database.rows(
            "SELECT sum((d & 18446744073709551615)::HUGEINT), sum((d >> 64)::HUGEINT), count(*) FROM (SELECT "
            "md5_number(concat_ws(chr(0), key, size, coalesce(nullif(etag, ''), modified::VARCHAR))) AS d "
            f"FROM {table})"
        )
        return f"{count}:{low or 0:x}:{high or 0:x}"


@dataclass
class ImageListing:
    """What there is of images.

    Attributes:
      table: The examples, and those that were found but cannot be used or are not wanted.
      warnings: What the user should know: unmatched masks, list rows without an example, ….
      digest: A hash over every file that was found: relative path, bytes, and ETag or time of change.
    """

    table: ReferenceTable
    warnings: list[str] = field(default_factory=list)
    digest: str = ""


def to_references(batch: pa.RecordBatch) -> Iterator[Reference]:
    """The references that `ReferenceTable.named` gave as columns."""
    columns = (batch[name].to_pylist() for name in Reference._fields)
    return (Reference(*values) for values in zip(*columns, strict=True))
