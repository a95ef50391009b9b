"""Finds references by the names that lists and tables use for them, for all names at once."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..errors import RequestError
from .key_lists import KeyIndex
from .references import ReferenceTable, forms

NAMES = pa.schema([("row", pa.int64()), ("name", pa.string()), ("form", pa.string())])
_VALUED = NAMES.append(pa.field("value", pa.string()))


def _without_suffix(path: str) -> str:
    return f"regexp_replace({path}, '([^/])\\.[^./]*$', '\\1')"


def _file_name(path: str) -> str:
    return f"split_part({path}, '/', -1)"


# From a key to the names that lists use, from the most to the least exact: as `key_lists.ALIASES`, in SQL.
_ALIASES = (str, _without_suffix, _file_name, lambda path: _without_suffix(_file_name(path)))


@dataclass(frozen=True)
class Named:
    """Which names lead to which references.

    Attributes:
      table: A table of the scratch database: the name's `row` and what is carried, and the reference's `rid`.
      strangers: How many names lead to none.
      stranger: The first of these.
      warnings: What should be known of the names that were found.
    """

    table: str
    strangers: int
    stranger: str | None
    warnings: list[str]


def load_names(references: ReferenceTable, names: str, lines: Iterable[pa.RecordBatch]) -> None:
    """Makes a table of the names and values of lines (`key_lists.NAMED`), as `find_named` takes it."""

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in lines:
            rows = pa.array(np.arange(first, first + len(batch)))
            yield pa.RecordBatch.from_arrays(
                [rows, batch["name"], forms(batch["name"]), batch["value"]], schema=_VALUED
            )
            first += len(batch)

    references.database.create(names, _VALUED, batches())


def first_contradiction(references: ReferenceTable, names: str, table: str) -> tuple[str, str, str]:
    """The first name in a table of names, of which there is one, whose reference a line before gives another value.

    Returns:
      The name, the value that was there before, and its own.
    """
    named = f"SELECT row, rid, name, {names}.value FROM {table} JOIN {names} USING (row)"
    first = "first_value(value) OVER (PARTITION BY rid ORDER BY row)"
    (found,) = references.database.rows(
        f"SELECT name, before, value FROM (SELECT *, {first} AS before FROM ({named})) WHERE value <> before "
        "ORDER BY row LIMIT 1"
    )
    return found


ALL = "files"
USABLE = "(FROM files ANTI JOIN left_out USING (rid))"


def find_named(
    references: ReferenceTable, names: str, uri: str, among: str = ALL, carried: Sequence[str] = ()
) -> Named:
    """Finds the references that names lead to.

    A name may be the reference's key, the same without its extension, its file name, or its stem, whatever the Unicode
    form; the most exact way wins.

    Args:
      references: The references.
      names: A table with the columns of `NAMES`, in the order of `row`, which is unique.
      uri: Where the names stand, for messages.
      among: `ALL` references, or the `USABLE` ones.
      carried: Further columns of the table of names that the result is to have.

    Raises:
      RequestError: a name leads to several references.
    """
    database, table = references.database, f"{names}_named"
    database.run(
        f"CREATE TABLE {table} AS SELECT {', '.join(['row', 'rid', 'true AS exact', *carried])} FROM {names} "
        f"JOIN {among} AS listed ON name = key"
    )
    total = database.value(f"SELECT count(*) FROM {names}")
    found = database.value(f"SELECT count(*) FROM {table}")
    if found < total:
        _find_by_aliases(references, names, table, among, carried)
        found = database.value(f"SELECT count(*) FROM {table}")
        _check_one_each(references, names, table, uri)
    stranger = None
    if found < total:
        ((stranger,),) = database.rows(f"SELECT arg_min(name, row) FROM {names} ANTI JOIN {table} USING (row)")
    return Named(table, total - found, stranger, _reformed(references, names, table, uri))


def _find_by_aliases(references: ReferenceTable, names: str, table: str, among: str, carried: Sequence[str]) -> None:
    """Adds what the names that are no keys lead to, alias by alias, each only where the ones before give nothing."""
    database, columns = references.database, ", ".join(["row", *carried])
    for alias in _ALIASES:
        database.run(
            f"CREATE OR REPLACE TABLE lost AS SELECT {columns}, name, coalesce(form, name) AS form FROM {names} "
            f"ANTI JOIN {table} USING (row)"
        )
        if not database.value("SELECT count(*) FROM lost"):
            break
        database.run(
            f"CREATE OR REPLACE TABLE hits AS SELECT {columns}, rid, written = name AS exact FROM lost JOIN (SELECT "
            "rid, "
            f"{alias('key')} AS written, {alias('coalesce(form, key)')} AS form FROM {among} AS listed) USING (form)"
        )
        database.run(
            f"INSERT INTO {table} BY NAME SELECT * FROM hits WHERE exact OR row NOT IN "
            "(SELECT row FROM hits WHERE exact)"
        )
    database.run("DROP TABLE lost")
    database.run("DROP TABLE IF EXISTS hits")


def _check_one_each(references: ReferenceTable, names: str, table: str, uri: str) -> None:
    """Raises RequestError for the first name that leads to several references."""
    database = references.database
    several = f"SELECT row FROM {table} GROUP BY row HAVING count(*) > 1"
    row = database.value(f"SELECT min(row) FROM ({several})")
    if row is None:
        return
    name = database.value(f"SELECT name FROM {names} WHERE row = ?", row)
    count = database.value(f"SELECT count(*) FROM {table} WHERE row = ?", row)
    keys = database.rows(f"SELECT key FROM {table} JOIN files USING (rid) WHERE row = ? ORDER BY key LIMIT 2", row)
    raise RequestError(
        f"{uri}: {name!r} names {count} examples ({', '.join(key for (key,) in keys)}, …), expected one; "
        "write the path relative to the input instead"
    )


def _reformed(references: ReferenceTable, names: str, table: str, uri: str) -> list[str]:
    """A warning of names that are those of references only after both are brought to one Unicode form."""
    if not references.database.value(f"SELECT count(*) FROM {table} WHERE NOT exact"):
        return []
    is_written = " OR ".join(f"{alias('key')} = name" for alias in _ALIASES)
    ((count, name, key),) = references.database.rows(
        f"SELECT count(DISTINCT name), arg_min(name, row), arg_min(key, row) FROM {table} JOIN {names} USING (row) "
        f"JOIN files USING (rid) WHERE NOT exact AND NOT ({is_written})"
    )
    if not count:
        return []
    return [
        f"{uri}: {count} names are those of examples but for their Unicode form (NFC and NFD), such as {name!r} and "
        f"{key!r}; they were matched"
    ]


def index_of(references: ReferenceTable, among: str, lines: Sequence[str]) -> KeyIndex:
    """An index of all references that some lines may name: for these it answers as one of all references would."""
    database, most_blanks = references.database, _most_blanks(references, among)
    written = pa.array(sorted({name for line in lines for name in _names_in(line, most_blanks)}), pa.string())
    columns = {"row": pa.array(range(len(written)), pa.int64()), "name": written, "form": forms(written)}
    database.create("candidates", NAMES, [pa.RecordBatch.from_pydict(columns, schema=NAMES)])
    by_alias = " OR ".join(
        f"{alias('coalesce(form, key)')} IN (SELECT coalesce(form, name) FROM candidates)" for alias in _ALIASES
    )
    keys = database.rows(f"SELECT key FROM {among} AS listed WHERE key IN (SELECT name FROM candidates) OR {by_alias}")
    database.run("DROP TABLE candidates")
    suffix = f"substr(key, length({_without_suffix('key')}) + 1)"
    suffixes = database.rows(f"SELECT DISTINCT {suffix} FROM {among} AS listed")
    return KeyIndex((key for (key,) in keys), {suffix.lower() for (suffix,) in suffixes} - {""}, most_blanks)


def _names_in(line: str, most_blanks: int) -> Iterator[str]:
    """What may name an example in a line: what begins and ends with a word of it, and the whole."""
    spans = [match.span() for match in re.finditer(r"\S+", line)]
    for at, (begin, _) in enumerate(spans):
        yield from (line[begin:end] for _, end in spans[at : at + most_blanks + 1])
    yield line


def _most_blanks(references: ReferenceTable, among: str) -> int:
    """The most blanks in a row of characters that names a reference; what a blank is, Python tells."""
    blank = "regexp_matches(key, '[\\s\\x1c-\\x1f]')"
    query = f"SELECT key FROM {among} AS listed WHERE form IS NOT NULL OR {blank}"
    keys = (key for batch in references.database.batches(query) for key in batch["key"].to_pylist())
    return max((len(key.split()) - 1 for key in keys), default=0)


def aliases(references: ReferenceTable, among: str) -> Iterator[str]:
    """All names that lead to references."""
    for alias in _ALIASES:
        query = f"SELECT DISTINCT {alias('coalesce(form, key)')} AS name FROM {among} AS listed"
        for batch in references.database.batches(query):
            yield from batch["name"].to_pylist()
