"""Google Cloud Dataflow: what it needs is checked before anything is written, and a job is followed by its REST API.

Workers are virtual machines that run a container image with Penstock in it; nothing is staged but the pipeline. On each
of them one process prepares in threads, since TensorFlow and the recipe's modules are loaded once then. Beam submits.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..pipeline.errors import PenstockError, RequestError
from ..pipeline.sources.images import Images
from ..pipeline.sources.join import ImageJoin
from .dataflow_job import DataflowJob, DataflowService, WrittenTemplate, in_words
from .dataflow_options import check_complete, check_reachable, expect_bucket, expect_credentials, expect_options
from .direct import DirectEngine
from .engine import BuildPipeline, CountStages, EngineOptions, RunningJob
from .machine_types import MachineType, find_machine_type
from .options import check_options, refuse_options
from .pickled_paths import without_local_paths

if TYPE_CHECKING:
    from ..pipeline.planned_run import PlannedRun, RunRequest

MACHINE_TYPE = "n2-standard-4"
BUNDLES = 2  # units that a process makes at a time, so that the cores are busy while one of them begins or is written
DISK_GB = 50  # the image takes 5 of the 25 that are Dataflow's default, and what does not fit in memory goes there
_MOST_WORKERS = 1000

# What a worker takes, bytes. Decoding and resizing took 5 (JPEG) to 11 (TIFF) bytes a pixel of the source image.
_PIXEL_BYTES = 12
_MACHINE_BYTES = 1 << 30  # Dataflow's own processes
_PROCESS_BYTES = 3 << 29  # Beam, TensorFlow and Penstock, with nothing to do
# What was fetched ahead, and records that wait, of the last unit, too: 256 MiB at most each; and shards.
_UNIT_BYTES = 1 << 30

_LEAST_MINUTES = 60
_PATIENCE = 10  # times the estimate: workers may be slower than this machine, and stores too

_JOB_ID = re.compile(r"\d{4}-\d\d-\d\d_")  # else it is a name, which a job has before it is started by its template
_OURS = {"runner": "--runner"}
_MULTIPLE = "use_multiple_sdk_containers"


def make(options: EngineOptions) -> "DataflowEngine":
    """The engine, with the options that are its own."""
    options.expect_only("dataflow", "workers")
    return DataflowEngine(options)


class DataflowEngine:
    """Submits pipelines to Dataflow."""

    name = "dataflow"
    is_here = False
    is_detachable = True

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self._minutes = _LEAST_MINUTES
        self._units: int | None = None

    def check(self, request: "RunRequest") -> Sequence[str]:
        options = self._parse()
        check_complete(options)
        self._check_workers(options)
        check_reachable("--input", request.input)
        check_reachable("--output", request.output)
        expect_credentials(options)
        expect_bucket(options)
        schemes = sorted({uri.partition("://")[0] for uri in (request.input, request.output)} - {"gs", "http", "https"})
        return [
            f"workers of Dataflow do not have this machine's environment: {scheme}:// needs its credentials in the "
            "image, or none"
            for scheme in schemes
        ]

    def check_plan(self, request: "RunRequest", planned: "PlannedRun", count_stages: CountStages) -> Sequence[str]:
        plan = planned.plan
        for _, pieces in islice(plan.units, BUNDLES):  # a list may name other places than --input
            for piece in pieces[:1]:
                check_reachable("--input", piece.uri)
        self._minutes = element_minutes(plan.estimate.seconds, [unit.size for unit in plan.units.units])
        self._units = len(plan.units) + plan.targets
        options = self._parse()
        machine = find_machine_type(options["machine_type"] or MACHINE_TYPE)
        if machine is None:
            return [
                f"--machine_type: nothing is known of the memory of {options['machine_type']}, so nobody checked "
                "whether it is enough; take one with more where workers run out of it"
            ]
        bundles = options["number_of_worker_harness_threads"] or BUNDLES
        processes = machine.cores if _MULTIPLE in (options["experiments"] or ()) else 1
        source = request.recipe.recipe.source
        most_pixels = source.decode.max_pixels if isinstance(source, Images | ImageJoin) else 0
        check_memory(machine, processes, bundles, request.threads or machine.cores, most_pixels)
        return ()

    def submit(self, build: BuildPipeline, name: str) -> RunningJob:
        if self._units is None and self._parse()["template_location"]:
            return DirectEngine(EngineOptions()).submit(build, name)  # a plan waits for it, and a template is not run
        return self.write_job(build, name)

    def write_job(self, build: BuildPipeline, name: str) -> "DataflowJob | WrittenTemplate":
        """Submits a pipeline, or writes it as a template where --template_location says so.

        Args:
          build: Adds the pipeline's transforms.
          name: The job's name, if --job_name gives none.

        Raises:
          PenstockError: it was not accepted; the cause in words.
        """
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

        given = self._parse()
        self._check_workers(given)
        options = PipelineOptions([*self.options.beam_arguments, *self._defaults(given, name)])
        try:
            with without_local_paths():
                pipeline = beam.Pipeline(runner=DataflowRunner(), options=options)
                build(pipeline)
                result: Any = pipeline.run()
        except PenstockError:
            raise
        except Exception as error:  # of Google's clients, of Beam's retries, of the standard library
            raise PenstockError(f"Dataflow did not take the job: {in_words(error)}") from error
        if not result.has_job:
            return WrittenTemplate(given["job_name"] or name, given["template_location"])
        return DataflowJob(result.job_id(), DataflowService.of(given))

    def find(self, job_id: str) -> "DataflowJob":
        options = self._parse()
        expect_options(options, ("project", "region"))
        expect_credentials(options)
        service = DataflowService.of(options)
        try:
            job = DataflowJob(job_id if _JOB_ID.match(job_id) else service.find(job_id), service)
            job.state()
        except PenstockError as error:
            raise RequestError(
                f"expected a job of Dataflow in --project={options['project']} and --region={options['region']}, found "
                f"none that can be followed as {job_id}: {error}"
            ) from error
        return job

    def _parse(self) -> Mapping[str, Any]:
        """Beam's options as they are given, by name; what is not given has Beam's default.

        Raises:
          RequestError: one is not known, or is not for this engine.
        """
        refuse_options(self.options.beam_arguments, _OURS)
        check_options(self.options.beam_arguments)
        from apache_beam.options.pipeline_options import PipelineOptions

        options: Mapping[str, Any] = PipelineOptions(list(self.options.beam_arguments)).get_all_options()
        return options

    def _check_workers(self, options: Mapping[str, Any]) -> None:
        """Raises RequestError where it is said twice how many workers there may be."""
        if self.options.workers and (options["max_num_workers"] or options["num_workers"]):
            raise RequestError(
                "--runner dataflow: expected --workers or --max_num_workers, found both; leave --workers out"
            )

    def _defaults(self, given: Mapping[str, Any], name: str) -> Iterator[str]:
        """What is not given, as options: Beam's and Dataflow's own defaults are for other pipelines."""
        yield "--runner=DataflowRunner"
        experiments = given["experiments"] or []
        if _MULTIPLE not in experiments:
            yield f"--experiments=no_{_MULTIPLE}"
            if not given["number_of_worker_harness_threads"]:
                yield f"--number_of_worker_harness_threads={BUNDLES}"
        # The image has all that workers need; the list of this machine's packages is nobody's business.
        yield "--experiments=disable_logging_submission_environment"
        yield "--sdk_location=container"
        yield "--requirements_cache=skip"
        if not given["job_name"]:
            yield f"--job_name={name}"
        if not given["machine_type"]:
            yield f"--machine_type={MACHINE_TYPE}"
        if not given["disk_size_gb"]:
            yield f"--disk_size_gb={DISK_GB}"
        if not given["element_processing_timeout_minutes"]:
            yield f"--element_processing_timeout_minutes={self._minutes}"
        if self.options.workers:
            yield f"--max_num_workers={self.options.workers}"
        elif not given["max_num_workers"] and self._units:
            least = given["num_workers"] or 1
            yield f"--max_num_workers={max(least, min(_MOST_WORKERS, math.ceil(self._units / BUNDLES)))}"


def element_minutes(seconds: float, sizes: Sequence[int]) -> int:
    """After how many minutes a worker that is at one element still is taken for hung, and started anew.

    Args:
      seconds: What all units are estimated to take in one thread.
      sizes: The bytes that each unit reads.
    """
    largest = seconds * max(sizes) / max(1, sum(sizes))
    commit = seconds / 100  # it reads what every unit left
    return max(_LEAST_MINUTES, math.ceil(_PATIENCE * max(largest, commit) / 60))


def check_memory(machine: MachineType, processes: int, bundles: int, threads: int, most_pixels: int) -> None:
    """Looks whether the largest images that a recipe takes fit into a machine, one in every thread of it.

    Args:
      machine: The workers' machine type.
      processes: Processes on each of them.
      bundles: Units that each process makes at a time.
      threads: Examples that it prepares of each unit at a time.
      most_pixels: Pixels of the largest image that is decoded; 0 for tables.

    Raises:
      RequestError: they do not.
    """
    fixed = _MACHINE_BYTES + processes * (_PROCESS_BYTES + bundles * _UNIT_BYTES)
    pixels = most_pixels * _PIXEL_BYTES
    needed = fixed + processes * bundles * threads * pixels
    if needed <= machine.memory:
        return
    found = f"{machine.name}, which has {machine.memory / 2**30:.0f} GiB"
    if not pixels or fixed + processes * bundles * pixels > machine.memory:
        advice = "take one with more memory: --machine_type=n2-highmem-8"
    else:
        fitting = (machine.memory - fixed) // (processes * bundles * pixels)
        advice = f"give --threads {fitting}, one with more memory (--machine_type=n2-highmem-8), or fewer max_pixels"
    raise RequestError(
        f"--machine_type: expected {needed / 2**30:.0f} GiB, for {processes * bundles} units at a time with {threads} "
        f"threads each and images of up to {most_pixels} pixels, found {found}; {advice}"
    )
