"""From raw data to a committed dataset, and back. What users name here is imported when it is first asked for.

Importing this package loads no NumPy, no Arrow, no Beam and no TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import DamagedRecordError as DamagedRecordError
    from .errors import DatasetError as DatasetError
    from .errors import NotCommittedError as NotCommittedError
    from .errors import OverBudgetError as OverBudgetError
    from .errors import PenstockError as PenstockError
    from .errors import RequestError as RequestError
    from .load import Dataset as Dataset
    from .load import open_dataset as open_dataset
    from .planning.recipe import Recipe as Recipe
    from .sources.archive_files import sibling as sibling
    from .sources.bigquery import BigQuery as BigQuery
    from .sources.csv import Csv as Csv
    from .sources.csv import tsv as tsv
    from .sources.images import Images as Images
    from .sources.images import folder as folder
    from .sources.images import table as table
    from .sources.inventory import inventory as inventory
    from .sources.join import join as join
    from .sources.json_lines import JsonLines as JsonLines
    from .sources.parquet import Parquet as Parquet
    from .sources.reference_lists import references as references
    from .sources.sql import Sql as Sql
    from .sources.tfrecord import TfRecord as TfRecord
    from .sources.union import Union as Union
    from .splits.rules import by_column as by_column
    from .splits.rules import by_folder as by_folder
    from .splits.rules import by_glob as by_glob
    from .splits.rules import by_hash as by_hash
    from .splits.rules import by_list as by_list
    from .splits.rules import by_path as by_path
    from .splits.rules import by_time as by_time

_MODULES = {
    ".errors": (
        "DamagedRecordError",
        "DatasetError",
        "NotCommittedError",
        "OverBudgetError",
        "PenstockError",
        "RequestError",
    ),
    ".load": ("Dataset", "open_dataset"),
    ".planning.recipe": ("Recipe",),
    ".sources.archive_files": ("sibling",),
    ".sources.bigquery": ("BigQuery",),
    ".sources.csv": ("Csv", "tsv"),
    ".sources.images": ("Images", "folder", "table"),
    ".sources.inventory": ("inventory",),
    ".sources.join": ("join",),
    ".sources.json_lines": ("JsonLines",),
    ".sources.parquet": ("Parquet",),
    ".sources.reference_lists": ("references",),
    ".sources.sql": ("Sql",),
    ".sources.tfrecord": ("TfRecord",),
    ".sources.union": ("Union",),
    ".splits.rules": ("by_column", "by_folder", "by_glob", "by_hash", "by_list", "by_path", "by_time"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
