"""Splits by list files: of the references that lists name."""

from functools import partial

from ..errors import RequestError
from ..sources import key_lists, names
from ..sources.references import ReferenceTable
from ..storage import files
from .rules import ByList


def assign_lists(rule: ByList, references: ReferenceTable, root: str) -> list[str]:
    """Makes a table `listed_splits` (rid, split) of the references that the lists name.

    Args:
      rule: The lists.
      references: The references; those that are left out already are not looked for.
      root: The input folder.

    Returns:
      Warnings.

    Raises:
      RequestError: a list cannot be read, or does not tell one split for each of its examples.
    """
    database = references.database
    database.run("CREATE TABLE listed_splits (rid BIGINT, split VARCHAR)")
    warnings: list[str] = []
    reformed: list[str] = []
    for number, (split, path) in enumerate(rule.lists.items()):
        uri, table = files.join(root, path), f"split_names_{number}"
        index_of = partial(names.index_of, references, names.USABLE)
        names.load_names(references, table, key_lists.read_list(uri, index_of, 0, None, warnings))
        named = names.find_named(references, table, uri, names.USABLE)
        for name, before in database.rows(
            f"SELECT name, split FROM {named.table} JOIN {table} USING (row) JOIN listed_splits USING (rid) "
            "ORDER BY row LIMIT 1"
        ):
            raise RequestError(
                f"{uri}: {name!r} is in split {split!r} and in {before!r}, expected one; take it out of one list"
            )
        database.run(f"INSERT INTO listed_splits SELECT DISTINCT rid, ? FROM {named.table}", split)
        if named.strangers:
            warnings.append(f"{uri} names {named.strangers} examples that the input lacks, such as {named.stranger!r}")
        reformed += named.warnings
    return warnings + reformed
