"""Penstock: raw data to sharded, verifiable datasets and one transform graph. What users write starts here.

    from penstock import Images, Recipe, open_dataset
    from penstock.transforms import image

All names but `run`, its `RunResult` and `preview` are those of `penstock.pipeline`. They are imported when they are
first asked for: `import penstock` loads no NumPy, no Arrow, no Beam and no TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import pipeline

if TYPE_CHECKING:
    from .pipeline import BigQuery as BigQuery
    from .pipeline import Csv as Csv
    from .pipeline import DamagedRecordError as DamagedRecordError
    from .pipeline import Dataset as Dataset
    from .pipeline import DatasetError as DatasetError
    from .pipeline import Images as Images
    from .pipeline import JsonLines as JsonLines
    from .pipeline import NotCommittedError as NotCommittedError
    from .pipeline import OverBudgetError as OverBudgetError
    from .pipeline import Parquet as Parquet
    from .pipeline import PenstockError as PenstockError
    from .pipeline import Recipe as Recipe
    from .pipeline import RequestError as RequestError
    from .pipeline import Sql as Sql
    from .pipeline import TfRecord as TfRecord
    from .pipeline import Union as Union
    from .pipeline import by_column as by_column
    from .pipeline import by_folder as by_folder
    from .pipeline import by_glob as by_glob
    from .pipeline import by_hash as by_hash
    from .pipeline import by_list as by_list
    from .pipeline import by_path as by_path
    from .pipeline import by_time as by_time
    from .pipeline import folder as folder
    from .pipeline import inventory as inventory
    from .pipeline import join as join
    from .pipeline import open_dataset as open_dataset
    from .pipeline import references as references
    from .pipeline import sibling as sibling
    from .pipeline import table as table
    from .pipeline import tsv as tsv
    from .runners.launch import RunResult as RunResult
    from .runners.launch import run as run
    from .runners.preview import preview as preview

_RUNNING = {"RunResult": "launch", "preview": "preview", "run": "launch"}  # names of runners to their modules

__all__ = [*pipeline.__all__, "__version__", *_RUNNING]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("penstock")
    if name in _RUNNING:
        return getattr(import_module(f".runners.{_RUNNING[name]}", __name__), name)
    if name not in pipeline.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(pipeline, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
