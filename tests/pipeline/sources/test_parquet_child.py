"""What is checked of a Parquet file's footer before its rows are read."""

from dataclasses import dataclass

import pytest

from penstock.pipeline.sources.parquet_child import check_types


@dataclass
class Column:
    physical_type: str
    path_in_schema: str = "i"


@dataclass
class Columns:
    """A schema, or a row group."""

    columns: list[Column]

    @property
    def num_columns(self) -> int:
        return len(self.columns)

    def column(self, position: int) -> Column:
        return self.columns[position]


def test_a_row_group_of_another_type_than_the_files_is_refused() -> None:
    schema = Columns([Column("BYTE_ARRAY", "s"), Column("INT64")])
    check_types(schema, [schema, schema])
    damaged = Columns([Column("BYTE_ARRAY", "s"), Column("UNKNOWN")])
    with pytest.raises(ValueError, match="expected INT64 in the column 'i' of row group 1, found UNKNOWN"):
        check_types(schema, [schema, damaged])
