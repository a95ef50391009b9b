"""From raw data to a committed dataset, and back. Importing this pulls in neither Beam nor TensorFlow."""

from typing import TYPE_CHECKING, Any

from .errors import DatasetError as DatasetError
from .errors import NotCommittedError as NotCommittedError
from .errors import OverBudgetError as OverBudgetError
from .errors import PenstockError as PenstockError
from .errors import RequestError as RequestError
from .extract.bigquery import BigQuery as BigQuery
from .extract.delimited import Csv as Csv
from .extract.delimited import tsv as tsv
from .extract.images import Images as Images
from .extract.images import folder as folder
from .extract.images import table as table
from .extract.join import Union as Union
from .extract.join import join as join
from .extract.json_lines import JsonLines as JsonLines
from .extract.parquet import Parquet as Parquet
from .extract.sql import Sql as Sql
from .extract.tfrecord import TfRecord as TfRecord
from .recipe import Recipe as Recipe
from .splits import by_column as by_column
from .splits import by_folder as by_folder
from .splits import by_glob as by_glob
from .splits import by_hash as by_hash
from .splits import by_list as by_list
from .splits import by_path as by_path

if TYPE_CHECKING:
    from .load import Dataset as Dataset
    from .load import open_dataset as open_dataset


def __getattr__(name: str) -> Any:
    """Imports what loading needs when it is asked for: a recipe does without."""
    if name in ("Dataset", "open_dataset"):
        from . import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
