"""ORC files, as inventory reports are written in: read by stripes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..errors import PenstockError, RequestError
from . import column_types, parquet_files
from .file_patterns import check_patterns, digest_files, match_files, versions_of
from .listing import RecordListing, RecordRange
from .parquet_files import UnreadableError
from .record_source import Rows, collect_rows
from .row_errors import RowError
from .table_schema import TableSchema, with_rules


@dataclass(frozen=True)
class Orc:
    """ORC files under a folder, read as one table: a range is one stripe, within which rows are numbered.

    Attributes:
      pattern: Glob pattern, or several.
      columns: The columns to read: name to "int64" or "string".
    """

    pattern: str | Sequence[str]
    columns: dict[str, str]

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the stripes; see `RecordSource`."""
        warnings: list[str] = []
        matched = match_files(root, check_patterns("Orc", self.pattern), warnings)
        ranges = []
        for key, info in matched.items():
            try:
                present, stripes = parquet_files.orc_metadata(info)
            except UnreadableError as error:
                raise RequestError(f"{info.uri}: expected an ORC file, found: {error}; fetch it again") from error
            column_types.select(self.columns, present.names, info.uri)
            size = info.size // max(stripes, 1)
            ranges += [RecordRange(info.uri, f"{key}, stripe {at}", at, at + 1, 0, -1, size) for at in range(stripes)]
        columns = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in self.columns.items()])
        return RecordListing(ranges, with_rules(columns), warnings, digest_files(matched.items()), versions_of(matched))

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a stripe; see `RecordSource`."""
        where = f"{record_range.uri}, stripe {record_range.begin}"
        try:
            table = parquet_files.read_stripe(
                record_range.uri, record_range.begin, schema.columns.names, record_range.size
            )
        except UnreadableError as error:
            raise PenstockError(f"{where}: expected ORC data, found: {error}; fetch the file again") from error
        errors: dict[int, RowError] = {}
        batch = column_types.convert_all(column_types.one_batch(table, record_range.uri), schema.columns, errors)
        return collect_rows(record_range, batch, np.arange(batch.num_rows, dtype=np.int64), errors)
