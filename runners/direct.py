"""The in-process engine: Beam's FnApiRunner, named explicitly.

Beam's `DirectRunner` first looks for another engine to download and changes with what it finds; this one does not.
"""

from collections.abc import Sequence
from types import ModuleType

import apache_beam as beam
import cloudpickle
from apache_beam.internal.cloudpickle import cloudpickle as beam_cloudpickle
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from ..pipeline.beam import Build, Job
from ..pipeline.build.payload_hashes import HashOptions, HashPayloads
from ..pipeline.prepare.isolate import pickled_by_value


def pipeline_options(workers: int, arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options for so many worker processes; one means this process, whose threads use every core."""
    mode = "multi_processing" if workers > 1 else "in_memory"
    return PipelineOptions(
        [*arguments, f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"],
    )


def run(job: Job, workers: int = 1, arguments: Sequence[str] = (), module: ModuleType | None = None) -> None:
    """Runs a job to its end.

    Args:
      job: What to do.
      workers: Worker processes.
      arguments: Further Beam options.
      module: The recipe's module, whose functions are shipped to workers by value.

    Raises:
      RuntimeError: a stage failed; its cause is in the message.
    """
    options = pipeline_options(workers, arguments)
    with (
        pickled_by_value(module, (beam_cloudpickle, cloudpickle)),  # Beam has a copy of its own
        beam.Pipeline(runner=make_runner(options), options=options) as pipeline,
    ):
        _ = pipeline | "Units" >> beam.Create(job.groups) | Build(job)


def hash_payloads(options: HashOptions, workers: int = 1, arguments: Sequence[str] = ()) -> None:
    """Hashes payloads, to find duplicates among them.

    Args:
      options: What to hash.
      workers: Worker processes.
      arguments: Further Beam options.

    Raises:
      RuntimeError: a task failed; its cause is in the message.
    """
    beam_options = pipeline_options(workers, arguments)
    with beam.Pipeline(runner=make_runner(beam_options), options=beam_options) as pipeline:
        _ = pipeline | "Tasks" >> beam.Create(range(options.tasks)) | "Hash" >> beam.ParDo(HashPayloads(options))


def make_runner(options: PipelineOptions) -> FnApiRunner:
    """FnApiRunner whose worker processes get the pipeline's options, which they otherwise do not."""
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return FnApiRunner(provision_info=ExtendedProvisionInfo(provision))
