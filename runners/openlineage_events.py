"""OpenLineage's events of a run: what it reads, what it wrote, and how it ended. Imports the OpenLineage client."""

import datetime
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    data_quality_metrics_dataset,
    dataset_version_dataset,
    documentation_job,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
)

from ..pipeline.formats.features import Feature
from ..pipeline.formats.manifest import Manifest, read_stored
from ..pipeline.sources.bigquery import BigQuery
from ..pipeline.sources.sql import Sql
from ..pipeline.sources.union import Union
from ..pipeline.storage import files

_NAMESPACE, _CONTEXT, _PARENT, _ROOT = (
    f"OPENLINEAGE_{name}" for name in ("NAMESPACE", "CONTEXT", "PARENT_ID", "ROOT_PARENT_ID")
)
_PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mariadb": 3306}


@dataclass(frozen=True)
class DatasetName:
    """What OpenLineage calls a dataset: a namespace, which tells where it is, and a name in that."""

    namespace: str
    name: str


def dataset_name(uri: str) -> DatasetName:
    """The name of a folder, by OpenLineage's naming: `file` and a path, or a bucket and a key.

    Args:
      uri: The folder's URI.
    """
    uri = files.absolute(uri)
    if files.is_local(uri):
        return DatasetName("file", uri)
    parts = urlsplit(files.redact(uri))
    return DatasetName(f"{parts.scheme}://{parts.netloc}", parts.path.strip("/") or "/")


def table_names(source: object) -> Iterator[DatasetName]:
    """The names of the databases' tables that a recipe's source reads.

    Args:
      source: A source. Of joins, the tables on the right are not looked for; nor is what queries read.
    """
    if isinstance(source, Union):
        for each in source.sources.values():
            yield from table_names(each)
    elif isinstance(source, BigQuery) and source.table is not None:
        yield DatasetName("bigquery", source.table.replace(":", "."))
    elif isinstance(source, Sql) and source.table is not None:
        parts = urlsplit(source.database)
        port = parts.port or _PORTS.get(parts.scheme)
        host = f"{parts.hostname or ''}{f':{port}' if port else ''}"
        yield DatasetName(f"{parts.scheme}://{host}", f"{parts.path.strip('/')}.{source.table}")


@dataclass(frozen=True)
class RunSubject:
    """What the events of a run have in common.

    Attributes:
      run_id: A UUID.
      output: The dataset's URI.
      engine: The engine's name; None where that is not known.
      description: What the recipe says of its dataset; None where that is not known.
      inputs: What is read.
      parent: What started the run, as `parent_facet` gives it; None: nothing that told.
      namespace: Of the job.
    """

    run_id: str
    output: str
    engine: str | None
    description: str | None
    inputs: Sequence[DatasetName]
    parent: Any
    namespace: str


def job_namespace(environment: Mapping[str, str]) -> str:
    """The namespace of jobs: as the environment says, or `penstock`."""
    return environment.get(_NAMESPACE) or "penstock"


def parent_facet(environment: Mapping[str, str]) -> Any:
    """The run that started this one, as Airflow and others tell it; None where they do not.

    Args:
      environment: Has OPENLINEAGE_CONTEXT, JSON with `parent`; or OPENLINEAGE_PARENT_ID as `namespace/job/run`, and
        OPENLINEAGE_ROOT_PARENT_ID likewise. What cannot be read is ignored: it is not the run's fault.
    """
    try:
        parent = json.loads(environment.get(_CONTEXT, "null"))["parent"]
        given = (_identity(parent), _identity(parent.get("root") or parent))
    except (ValueError, LookupError, TypeError, AttributeError):
        given = (_split_id(environment.get(_PARENT)), _split_id(environment.get(_ROOT)))
    (namespace, job, run), root = given[0] or ("", "", ""), given[1] or given[0]
    if not run or not root:
        return None
    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=run),
        job=parent_run.Job(namespace=namespace, name=job),
        root=parent_run.Root(
            run=parent_run.RootRun(runId=root[2]), job=parent_run.RootJob(namespace=root[0], name=root[1])
        ),
        producer=producer(),
    )


def _identity(entry: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Namespace, job and run of an entry of OPENLINEAGE_CONTEXT."""
    namespace, job, run = entry["job"]["namespace"], entry["job"]["name"], entry["run"]["runId"]
    UUID(run)
    return str(namespace), str(job), run


def _split_id(text: str | None) -> tuple[str, str, str] | None:
    """Namespace, job and run of `namespace/job/run`; None where it is none."""
    parts = (text or "").rsplit("/", 2)
    try:
        UUID(parts[-1])
    except ValueError:
        return None
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def producer() -> str:
    """Who sends the events, as a package's URL."""
    return f"pkg:pypi/penstock@{version('penstock')}"


def start_event(subject: RunSubject, began: datetime.datetime) -> RunEvent:
    """The event that a run begins.

    Args:
      subject: The run.
      began: When it did.
    """
    inputs = [InputDataset(each.namespace, each.name) for each in subject.inputs]
    return _event(subject, RunState.START, began, inputs, [_output(subject, {}, {})])


def complete_event(subject: RunSubject, manifest: Manifest) -> RunEvent:
    """The event that a run has ended well.

    Args:
      subject: The run.
      manifest: Of the generation that the dataset has now, whether the run made it or found it there.
    """
    shards = [shard.file for split in manifest.splits.values() for shard in split.shards]
    facets = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(manifest.generation, producer=producer()),
        "schema": _schema_facet(manifest.features),
        **_quality_facets(subject.output, manifest),
    }
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=manifest.written, size=sum(file.bytes for file in shards), fileCount=len(shards), producer=producer()
    )
    return _event(
        subject,
        RunState.COMPLETE,
        _now(),
        _read_inputs(subject, manifest),
        [_output(subject, facets, {"outputStatistics": statistics})],
    )


def end_event(subject: RunSubject, error: BaseException | None) -> RunEvent:
    """The event that a run has ended without a commit: it failed, or, without an error, it was cancelled."""
    inputs = [InputDataset(each.namespace, each.name) for each in subject.inputs]
    facets = {}
    if error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=str(error) or type(error).__name__, programmingLanguage="python", producer=producer()
        )
    state = RunState.FAIL if error is not None else RunState.ABORT
    return _event(subject, state, _now(), inputs, [_output(subject, {}, {})], facets)


def _event(
    subject: RunSubject,
    state: RunState,
    time: datetime.datetime,
    inputs: Sequence[InputDataset],
    outputs: Sequence[OutputDataset],
    run_facets: Mapping[str, Any] | None = None,
) -> RunEvent:
    """An event of a run, with what is said in each of its events."""
    facets = dict(run_facets or {})
    if subject.parent is not None:
        facets["parent"] = subject.parent
    if subject.engine is not None:
        facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
            version=version("apache-beam"),
            name=f"Apache Beam ({subject.engine})",
            openlineageAdapterVersion=version("penstock"),
            producer=producer(),
        )
    job_facets: dict[str, Any] = {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="PENSTOCK", jobType="RUN", producer=producer()
        )
    }
    if subject.description is not None:
        job_facets["documentation"] = documentation_job.DocumentationJobFacet(
            description=subject.description, producer=producer()
        )
    return RunEvent(
        eventTime=time.isoformat(timespec="milliseconds"),
        eventType=state,
        run=Run(subject.run_id, facets),
        job=Job(subject.namespace, dataset_name(subject.output).name, job_facets),
        inputs=list(inputs),
        outputs=list(outputs),
        producer=producer(),
    )


def _output(subject: RunSubject, facets: Mapping[str, Any], output_facets: Mapping[str, Any]) -> OutputDataset:
    name = dataset_name(subject.output)
    return OutputDataset(name.namespace, name.name, facets=dict(facets), outputFacets=dict(output_facets))


def _read_inputs(subject: RunSubject, manifest: Manifest) -> list[InputDataset]:
    """The inputs, with what a manifest says of the folder that was read."""
    folder = dataset_name(str(manifest.origin.options["input"]))
    read = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=manifest.read, producer=producer())
    digest = dataset_version_dataset.DatasetVersionDatasetFacet(
        str(manifest.origin.options["input_digest"]), producer=producer()
    )
    entry = InputDataset(
        folder.namespace, folder.name, facets={"version": digest}, inputFacets={"inputStatistics": read}
    )
    return [entry, *(InputDataset(each.namespace, each.name) for each in subject.inputs if each != folder)]


def type_name(feature: Feature) -> str:
    """A feature's dtype and shape, as `float32` or `uint8[224, 224, 3]`; `?` is any size."""
    sizes = ", ".join("?" if size is None else str(size) for size in feature.shape)
    return f"{feature.dtype}[{sizes}]" if sizes else feature.dtype


def _schema_facet(features: Mapping[str, Feature]) -> Any:
    """The features, with their dtypes and shapes."""
    fields = [
        schema_dataset.SchemaDatasetFacetFields(
            name=name,
            type=type_name(feature),
            description=feature.kind,
            ordinal_position=position,
        )
        for position, (name, feature) in enumerate(features.items(), 1)
    ]
    return schema_dataset.SchemaDatasetFacet(fields=fields, producer=producer())


def _quality_facets(dataset: str, manifest: Manifest) -> dict[str, Any]:
    """The statistics of columns, which are those of one split."""
    statistics = json.loads(read_stored(dataset, manifest.statistics.file))
    metrics = {name: column_metrics(entry) for name, entry in statistics["features"].items()}
    split = manifest.splits[manifest.statistics.split]
    facet = data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(
        columnMetrics={name: each for name, each in metrics.items() if each is not None},
        rowCount=split.examples,
        bytes=split.bytes,
        fileCount=len(split.shards),
        lastUpdated=manifest.created,
        producer=producer(),
    )
    return {"dataQualityMetrics": facet}


def column_metrics(entry: Mapping[str, Any]) -> Any:
    """What the statistics of a column come to in OpenLineage's words; None for images and masks.

    Args:
      entry: As `statistics.json` has it.
    """
    if "missing" not in entry:
        return None
    extremes = {name: entry[name] for name in ("min", "max") if math.isfinite(entry.get(name, math.nan))}
    distinct = entry.get("distinct")
    return data_quality_metrics_dataset.ColumnMetrics(
        nullCount=entry["missing"],
        count=entry["count"],
        distinctCount=distinct if isinstance(distinct, int) else None,
        **extremes,
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
