"""The events themselves: names, parents and facets, as OpenLineage's schemas have them."""

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from helpers import Made
from runners.openlineage_schema import faults

from penstock.pipeline import BigQuery, Csv, PenstockError, Sql, Union
from penstock.pipeline.formats.features import Feature
from penstock.runners.follow import Result
from penstock.transforms.outcome import keep

pytestmark = pytest.mark.extras("openlineage.client")
RUN, ROOT = "f99310b4-3c3c-4a1a-ab2b-c1b95c24ff11", "0b1c9e0e-5f0b-4d43-8d23-1f7f5f0f3a55"


def as_json(event: Any) -> dict[str, Any]:
    from openlineage.client.serde import Serde

    content: dict[str, Any] = json.loads(Serde.to_json(event))
    return content


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/raw/", ("file", "/data/raw")),
        ("s3://bucket/raw/pets/", ("s3://bucket", "raw/pets")),
        ("gs://bucket", ("gs://bucket", "/")),
    ],
)
def test_folders_are_named_as_openlineage_names_them(uri: str, name: tuple[str, str]):
    from penstock.runners.openlineage_events import DatasetName, dataset_name

    assert dataset_name(uri) == DatasetName(*name)


def test_tables_are_named_as_openlineage_names_them():
    from penstock.runners.openlineage_events import table_names

    sources = {
        "a": Sql("postgresql://me:secret@host/sales", table="shop.orders"),
        "b": Sql("mysql://host:3307/sales", table="orders"),
        "c": Sql("mysql://host/sales", query="SELECT 1"),
        "d": BigQuery(table="project:shop.orders", landing="landed", columns={"a": "int64"}),
        "e": Csv("*.csv"),
    }
    assert [(each.namespace, each.name) for each in table_names(Union(sources))] == [
        ("postgresql://host:5432", "sales.shop.orders"),
        ("mysql://host:3307", "sales.orders"),
        ("bigquery", "project.shop.orders"),
    ]
    assert list(table_names(Csv("*.csv"))) == []


CONTEXT = {"run": {"runId": RUN}, "job": {"namespace": "airflow", "name": "dag.task"}}
ABOVE = {"run": {"runId": ROOT}, "job": {"namespace": "airflow", "name": "dag"}}


@pytest.mark.parametrize(
    ("environment", "parent", "root"),
    [
        ({"OPENLINEAGE_PARENT_ID": f"airflow/dag.task/{RUN}"}, "dag.task", ("dag.task", RUN)),
        (
            {"OPENLINEAGE_PARENT_ID": f"air/flow/dag.task/{RUN}", "OPENLINEAGE_ROOT_PARENT_ID": f"a/dag/{ROOT}"},
            "dag.task",
            ("dag", ROOT),
        ),
        ({"OPENLINEAGE_CONTEXT": json.dumps({"parent": CONTEXT})}, "dag.task", ("dag.task", RUN)),
        ({"OPENLINEAGE_CONTEXT": json.dumps({"parent": {**CONTEXT, "root": ABOVE}})}, "dag.task", ("dag", ROOT)),
        ({"OPENLINEAGE_CONTEXT": "[", "OPENLINEAGE_PARENT_ID": f"airflow/dag/{RUN}"}, "dag", ("dag", RUN)),
    ],
)
def test_the_parent_is_what_the_environment_says(environment: Mapping[str, str], parent: str, root: tuple[str, str]):
    from penstock.runners.openlineage_events import parent_facet

    facet = parent_facet(environment)
    assert (facet.job.name, facet.run.runId) == (parent, RUN)
    assert (facet.root.job.name, facet.root.run.runId) == root


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OPENLINEAGE_PARENT_ID": "dag"},
        {"OPENLINEAGE_PARENT_ID": f"dag/{RUN}"},
        {"OPENLINEAGE_PARENT_ID": "airflow/dag/17"},
        {"OPENLINEAGE_CONTEXT": "null"},
        {"OPENLINEAGE_CONTEXT": '{"parent": {"run": {"runId": "17"}, "job": {"namespace": "a", "name": "b"}}}'},
        {"OPENLINEAGE_CONTEXT": '{"parent": []}'},
    ],
)
def test_what_is_no_parent_is_none(environment: Mapping[str, str]):
    from penstock.runners.openlineage_events import parent_facet

    assert parent_facet(environment) is None


@pytest.fixture(scope="module")
def made(make: Callable[..., Made]) -> Made:
    few = [keep(lambda row: row["x"] != 9, "nine")]
    return make({"t.csv": "x,word\n1,a\n2,b\n,b\n4,\n9,z\n"}, prepare=few, shards=2)


def subject(made: Made, **fields: Any) -> Any:
    from penstock.runners.openlineage_events import RunSubject, dataset_name, parent_facet

    standard = {
        "run_id": RUN,
        "output": str(made.path),
        "engine": "direct",
        "description": "Pets.",
        "inputs": [dataset_name(str(made.manifest.origin.options["input"]))],
        "parent": parent_facet({"OPENLINEAGE_PARENT_ID": f"airflow/dag.task/{ROOT}"}),
        "namespace": "penstock",
    }
    return RunSubject(**{**standard, **fields})


def test_the_end_tells_what_was_read_and_written(made: Made):
    from penstock.runners.openlineage_events import complete_event

    event = as_json(complete_event(subject(made), Result("committed", made.manifest).manifest))
    assert faults(event) == []
    assert event["eventType"] == "COMPLETE"
    assert event["job"]["namespace"] == "penstock"
    assert event["job"]["name"] == str(made.path)
    assert event["run"]["facets"]["parent"]["job"]["name"] == "dag.task"
    (read,), (written,) = event["inputs"], event["outputs"]
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 5
    assert read["facets"]["version"]["datasetVersion"] == made.manifest.origin.options["input_digest"]
    assert (written["namespace"], written["name"]) == ("file", str(made.path))
    facets = written["facets"]
    assert facets["version"]["datasetVersion"] == made.manifest.generation
    assert [(each["name"], each["type"]) for each in facets["schema"]["fields"]] == [("x", "int64"), ("word", "string")]
    counts = written["outputFacets"]["outputStatistics"]
    shards = list((made.generation / "data").iterdir())
    assert (counts["rowCount"], counts["fileCount"]) == (4, len(shards))
    assert counts["size"] == sum(path.stat().st_size for path in shards)
    x, word = (facets["dataQualityMetrics"]["columnMetrics"][name] for name in ("x", "word"))
    assert (x["count"], x["nullCount"], x["min"], x["max"]) == (3, 1, 1, 4)
    assert (word["count"], word["nullCount"], word["distinctCount"]) == (3, 1, 2)


def test_the_beginning_a_failure_and_an_interruption_are_as_the_schemas_have_them(made: Made):
    from penstock.runners.openlineage_events import end_event, start_event

    began = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    start = as_json(start_event(subject(made, parent=None, description=None, engine=None), began))
    failed, interrupted = (as_json(end_event(subject(made), error)) for error in (PenstockError("no rows"), None))
    assert [faults(event) for event in (start, failed, interrupted)] == [[], [], []]
    assert (start["eventType"], start["eventTime"]) == ("START", "2024-02-29T12:00:00.000+00:00")
    assert "parent" not in start["run"]["facets"]
    assert failed["eventType"] == "FAIL"
    assert failed["run"]["facets"]["errorMessage"]["message"] == "no rows"
    assert interrupted["eventType"] == "ABORT"
    assert "errorMessage" not in interrupted["run"]["facets"]


def test_the_check_of_events_finds_what_is_wrong(made: Made):
    from penstock.runners.openlineage_events import complete_event

    event = as_json(complete_event(subject(made), made.manifest))
    event["run"]["runId"] = "17"
    event["eventType"] = "END"
    del event["job"]["name"]
    event["outputs"][0]["facets"]["version"]["datasetVersion"] = 3
    event["outputs"][0]["outputFacets"]["outputStatistics"]["rows"] = 3
    found = " ".join(faults(event))
    for words in ("runId", "eventType", "job.name: missing", "datasetVersion", "outputStatistics.rows: unknown"):
        assert words in found


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (Feature("number", "float32", ()), "float32"),
        (Feature("image", "uint8", (4, 6, 3), "png"), "uint8[4, 6, 3]"),
        (Feature("text", "string", (None,)), "string[?]"),
    ],
)
def test_types_are_dtypes_and_shapes(feature: Feature, words: str):
    from penstock.runners.openlineage_events import type_name

    assert type_name(feature) == words


def test_infinities_are_left_out():
    from penstock.runners.openlineage_events import column_metrics

    metrics = column_metrics({"count": 2, "missing": 0, "min": float("-inf"), "max": 3.0, "distinct": "more than 9"})
    assert (metrics.min, metrics.max, metrics.distinctCount) == (None, 3.0, None)
