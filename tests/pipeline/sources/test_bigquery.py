"""BigQuery's landing, with a stand-in for Beam's connector: the service itself is not at hand."""

import apache_beam as beam
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.sources.bigquery import BigQuery, land

ROWS = [{"id": number, "name": None if number == 2 else f"n{number}", "x": number / 2} for number in range(5)]
COLUMNS = {"id": "int64", "name": "string", "x": "float64"}


def reader(rows, seen):
    def make(**arguments):
        seen.append(arguments)
        return beam.Create(rows)

    return make


def source(**changes):
    return BigQuery(**{"query": "SELECT 1", "landing": "landed", "columns": COLUMNS, **changes})


def test_rows_are_landed_once_and_read_as_parquet(tmp_path):
    seen = []
    table = source(options={"gcs_location": "gs://b/t"})
    for _ in range(2):
        land(table, str(tmp_path / "landed"), reader(ROWS, seen))
    assert seen == [{"query": "SELECT 1", "use_standard_sql": True, "gcs_location": "gs://b/t"}]
    listing = table.find(str(tmp_path), 1 << 20)
    rows = [
        row for record_range in listing.ranges for row in table.read(record_range, listing.schema).batch.to_pylist()
    ]
    assert sorted(rows, key=lambda row: row["id"]) == ROWS


def test_another_query_does_not_get_old_rows(tmp_path):
    land(source(), str(tmp_path / "landed"), reader(ROWS, []))
    with pytest.raises(RequestError, match="name another landing"):
        land(source(query="SELECT 2"), str(tmp_path / "landed"), reader(ROWS, []))


def test_what_the_connector_raises_is_told_in_one_sentence(tmp_path):
    def broken(**_):
        raise RuntimeError("no credentials")

    with pytest.raises(PenstockError, match="no credentials"):
        land(source(), str(tmp_path / "landed"), broken)


@pytest.mark.parametrize("changes", [{"query": None}, {"table": "p:d.t"}, {"columns": {"id": "decimal"}}])
def test_arguments_are_checked(changes):
    with pytest.raises(RequestError):
        source(**changes)
