"""BigQuery, through Beam's own connector: the rows are landed once as Parquet, and read from there.

Not run against the service: there is none to run against where this was built. The landing is tested with a stand-in
for Beam's connector, whose rows are what it gives: a dict a row.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..storage import files
from . import column_types
from .column_types import Policies
from .listing import RecordListing, RecordRange
from .parquet import Parquet
from .record_source import Rows
from .table_schema import TableSchema

_MARKER = "_LANDED.json"
_PREFIX = "rows"


@dataclass(frozen=True)
class BigQuery:
    """The rows of a query or a table.

    The first run reads them with `beam.io.ReadFromBigQuery` and lands them, as Parquet, in a folder; later runs read
    the folder. Removing it makes the next run read BigQuery again.

    Attributes:
      query: Standard SQL; or None, with a table.
      table: `project:dataset.table`; or None, with a query.
      landing: The folder to land in, relative to the input. Planning needs the rows: `--dry-run` lands them too.
      columns: Column name to "int64", "float64", "string" or "binary": all that is read. Dates and times are asked for
        as text in the query.
      options: What Beam's connector is given besides, such as `method` or `gcs_location`.
      nonfinite: As for `Parquet`.
    """

    query: str | None = None
    _: KW_ONLY
    table: str | None = None
    landing: str
    columns: Mapping[str, str]
    options: Mapping[str, Any] | None = None
    nonfinite: Policies = "missing"

    def __post_init__(self) -> None:
        if (self.query is None) == (self.table is None):
            raise RequestError(f"BigQuery: expected a query or a table, found {self.query!r} and {self.table!r}")
        column_types.check_columns("BigQuery", self.columns, self.nonfinite)
        if "auto" in self.columns.values() or "*" in self.columns:
            raise RequestError(f"BigQuery(columns=...): expected a type for every column, found {dict(self.columns)}")
        parts = self.landing.split("/")
        if not self.landing or {"", ".", ".."} & set(parts) or set("*?[") & set(self.landing):
            raise RequestError(f"BigQuery(landing=...): expected a folder inside the input, found {self.landing!r}")

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the landed ranges, landing them first where that was not done; see `RecordSource`."""
        land(self, files.join(root, self.landing))
        return self._landed().find(root, range_bytes)

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a landed range; see `RecordSource`."""
        return self._landed().read(record_range, schema)

    def _landed(self) -> Parquet:
        return Parquet(f"{self.landing}/{_PREFIX}-*.parquet", columns=self.columns, nonfinite=self.nonfinite)


def land(source: BigQuery, folder: str, reader: Callable[..., Any] | None = None) -> None:
    """Reads the rows and writes them as Parquet, unless that was done before.

    Args:
      source: What to read.
      folder: Where to land.
      reader: Stands in for beam.io.ReadFromBigQuery.

    Raises:
      PenstockError: the rows could not be read, or not all of them were written.
    """
    marker = files.join(folder, _MARKER)
    request = {"query": source.query, "table": source.table, "columns": dict(source.columns)}
    if files.exists(marker):
        landed = json.loads(files.read_bytes(marker))
        if landed["request"] != request:
            raise RequestError(
                f"{folder}: expected rows of {request}, found those of {landed['request']}; name another landing, or "
                "remove this folder"
            )
        return
    for info in files.list_folder(folder):  # what a landing that did not end has left
        if not re.fullmatch(rf"{_PREFIX}-.*\.parquet", info.uri[len(folder) + 1 :]):
            raise RequestError(f"{folder}: expected an empty folder to land in, found {info.uri}; name another landing")
        files.remove(info.uri)
    read = _run(source, folder, request, reader)
    stored = [info.uri for info in files.list_folder(folder) if info.uri.endswith(".parquet")]
    written = sum(_count_rows(uri) for uri in stored)
    if read != written:
        raise PenstockError(f"{folder}: expected {read} rows of BigQuery to be landed, found {written}; run again")
    files.write_bytes(marker, json.dumps({"request": request, "rows": written}).encode())


def _run(source: BigQuery, folder: str, request: Mapping[str, Any], reader: Callable[..., Any] | None) -> int:
    """Runs the landing pipeline; returns how many rows were read."""
    import apache_beam as beam
    from apache_beam.io.parquetio import WriteToParquetBatched
    from apache_beam.metrics import Metrics, MetricsFilter
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    schema = pa.schema([(name, column_types.declared(source.columns, name)) for name in source.columns])

    def to_table(rows: list[dict[str, Any]]) -> pa.Table:
        Metrics.counter("penstock", "landed").inc(len(rows))
        return pa.Table.from_pylist(rows, schema)

    given = {name: request[name] for name in ("query", "table") if request[name] is not None}
    standard = {"use_standard_sql": True} if source.query else {}
    try:
        pipeline = beam.Pipeline(runner=FnApiRunner())
        rows = pipeline | "Read" >> (reader or beam.io.ReadFromBigQuery)(**given, **standard, **(source.options or {}))
        tables = rows | beam.BatchElements(1000, 10_000) | "ToTable" >> beam.Map(to_table)
        tables | "Write" >> WriteToParquetBatched(files.join(folder, _PREFIX), schema, file_name_suffix=".parquet")
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:  # the connector and the engine raise many kinds
        raise PenstockError(f"BigQuery: expected the rows of {given}, found {type(error).__name__}: {error}") from error
    counters = result.metrics().query(MetricsFilter().with_name("landed"))["counters"]
    return sum(counter.committed for counter in counters)


def _count_rows(uri: str) -> int:
    import pyarrow.parquet as pq

    with files.open_read(uri) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)
