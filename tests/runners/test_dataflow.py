"""What is submitted to Dataflow: a job without secrets and local paths, of a size that no input changes."""

import getpass
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dataflow_stub import BUCKET, DataflowStub, pickled
from helpers import REPOSITORY, prepare_job, request

from penstock.pipeline import Csv, Images, PenstockError, Recipe, RequestError
from penstock.pipeline.job import plan
from penstock.pipeline.planned_run import RunRequest
from penstock.pipeline.planning.recipe import LoadedRecipe, load_recipe
from penstock.pipeline.storage import files
from penstock.runners.dataflow import DataflowEngine, WrittenTemplate, check_memory, element_minutes
from penstock.runners.dataflow_job import DataflowJob
from penstock.runners.engine import EngineOptions, JobState, make_engine
from penstock.runners.machine_types import MachineType

SECRET = "not-to-be-found-anywhere"
RECIPE = """
import tensorflow_transform as tft
import words
from penstock import Csv, Recipe

def length(example):
    return example | {"letters": words.count(example["word"])}

def features(inputs):
    word = tft.compute_and_apply_vocabulary(inputs["word"])
    return {"word": word, "letters": tft.scale_to_z_score(inputs["letters"])}

recipe = Recipe(source=Csv("*.csv"), prepare=[length], features=features)
"""
_NUMBERS = itertools.count()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[DataflowStub]:
    stub = DataflowStub()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", stub.url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    yield stub
    stub.close()


def engine(stub: DataflowStub, *arguments: str, workers: int | None = None) -> DataflowEngine:
    chosen = make_engine("dataflow", EngineOptions(workers, [*stub.arguments, *arguments]))
    assert isinstance(chosen, DataflowEngine)
    return chosen


def create(pipeline: Any) -> None:
    import apache_beam as beam

    _ = pipeline | "Units" >> beam.Create([1, 2, 3]) | "Make" >> beam.Map(lambda number: number + 1)


def submitted(stub: DataflowStub, *arguments: str, workers: int | None = None) -> dict[str, Any]:
    """The one job that the stub has when a small pipeline was submitted."""
    job = engine(stub, *arguments, workers=workers).submit(create, "penstock-make-pets-01234567")
    assert isinstance(job, DataflowJob)
    return stub.jobs[job.job_id]


def options_of(job: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = job["environment"]["sdkPipelineOptions"]["options"]
    return options


@pytest.mark.parametrize("name", ["dataflow", "DataflowRunner"])
def test_the_engine_goes_by_beams_name_too(name: str):
    chosen = make_engine(name, EngineOptions())
    assert chosen.name == "dataflow"
    assert not chosen.is_here


def test_a_job_gets_what_suits_tensorflow(stub: DataflowStub):
    job = submitted(stub)
    assert job["name"] == "penstock-make-pets-01234567"
    (pool,) = job["environment"]["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("n2-standard-4", 50, 2)
    assert pool["workerHarnessContainerImage"] == "example.test/penstock:1"
    experiments = job["environment"]["experiments"]
    assert "no_use_multiple_sdk_containers" in experiments
    assert "use_multiple_sdk_containers" not in experiments
    assert options_of(job)["element_processing_timeout_minutes"] == 60
    assert "maxNumWorkers" not in pool["autoscalingSettings"]


def test_what_the_user_says_stays(stub: DataflowStub):
    job = submitted(
        stub,
        "--machine_type=n1-highmem-8",
        "--disk_size_gb=200",
        "--number_of_worker_harness_threads=5",
        "--experiments=use_multiple_sdk_containers",
        "--job_name=of-my-own",
        "--element_processing_timeout_minutes=7",
        "--max_num_workers=9",
        "--service_account_email=worker@my-project.iam.gserviceaccount.com",
        "--network=own-network",
        "--labels=team=vision",
    )
    (pool,) = job["environment"]["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("n1-highmem-8", 200, 5)
    assert pool["network"] == "own-network"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 9
    assert "no_use_multiple_sdk_containers" not in job["environment"]["experiments"]
    assert job["name"] == "of-my-own"
    assert job["environment"]["serviceAccountEmail"] == "worker@my-project.iam.gserviceaccount.com"
    assert job["labels"] == {"team": "vision"}
    assert options_of(job)["element_processing_timeout_minutes"] == 7


def test_workers_are_virtual_machines(stub: DataflowStub):
    job = submitted(stub, workers=12)
    assert job["environment"]["workerPools"][0]["autoscalingSettings"]["maxNumWorkers"] == 12
    with pytest.raises(RequestError, match="expected --workers or --max_num_workers, found both"):
        submitted(stub, "--max_num_workers=3", workers=12)


def test_nothing_is_staged_but_the_pipeline(stub: DataflowStub):
    submitted(stub)
    assert [name.rpartition("/")[2] for name in stub.objects] == ["pipeline.pb"]
    (name,) = stub.objects
    assert name.startswith("temp/penstock-make-pets-01234567.")


def test_a_refusal_of_the_service_is_told_in_words(stub: DataflowStub):
    stub.refusal = (403, "(abc): Dataflow API has not been used in project my-project before or it is disabled.")
    with pytest.raises(PenstockError, match=r"did not take the job: Forbidden: .*Dataflow API has not been used"):
        submitted(stub)


def test_a_template_is_written_and_not_submitted(stub: DataflowStub):
    location = f"gs://{BUCKET}/templates/pets"
    job = engine(stub, f"--template_location={location}").write_job(create, "penstock-make-pets-01234567")
    assert isinstance(job, WrittenTemplate)
    assert (job.job_id, job.location) == ("penstock-make-pets-01234567", location)
    assert job.state() is JobState.RUNNING
    assert not stub.jobs
    assert json.loads(stub.staged("pets"))["name"] == "penstock-make-pets-01234567"


def test_the_job_is_what_the_service_itself_would_get(stub: DataflowStub, monkeypatch: pytest.MonkeyPatch):
    """Beam shapes a job otherwise for an endpoint on this machine; a template is written without asking the service."""
    monkeypatch.setattr("apache_beam.internal.gcp.auth._Credentials.get_service_credentials", lambda options: None)
    arguments = [each for each in stub.arguments if not each.startswith("--dataflow_endpoint")]
    arguments.append(f"--template_location=gs://{BUCKET}/templates/pets")
    chosen = DataflowEngine(EngineOptions(beam_arguments=arguments))
    assert isinstance(chosen.write_job(create, "penstock-make-pets-01234567"), WrittenTemplate)
    job = json.loads(stub.staged("pets"))
    (pool,) = job["environment"]["workerPools"]
    assert pool["kind"] == "harness"
    settings = pool["taskrunnerSettings"]["parallelWorkerSettings"]
    assert settings["servicePath"] == "https://dataflow.googleapis.com"
    (image,) = pool["sdkHarnessContainerImages"]
    assert image["containerImage"] == "example.test/penstock:1"
    assert job["type"] in ("JOB_TYPE_BATCH", 1)
    assert {"use_runner_v2", "no_use_multiple_sdk_containers"} <= {*job["environment"]["experiments"]}


def test_what_a_plan_waits_for_is_done_here_where_the_job_is_to_be_a_template(stub: DataflowStub):
    chosen = engine(stub, f"--template_location=gs://{BUCKET}/templates/pets")
    job = chosen.submit(create, "penstock-hash-pets-01234567")
    job.wait()
    assert job.state() is JobState.DONE
    assert not stub.objects
    asked = request(Recipe(source=Csv("*.csv")), "gs://raw", "gs://prepared")  # type: ignore[arg-type]
    chosen.check_plan(asked, of_units([10], 1.0), lambda: 20)
    assert isinstance(chosen.submit(create, "penstock-make-pets-01234567"), WrittenTemplate)


def test_a_job_that_a_template_started_is_found_by_its_name(stub: DataflowStub):
    with pytest.raises(RequestError, match="no job is named of-my-own; a template's job is there once Dataflow"):
        engine(stub).find("of-my-own")
    first, last = (submitted(stub, "--job_name=of-my-own") for _ in range(2))
    assert engine(stub).find("of-my-own").job_id == last["id"] != first["id"]


def test_a_job_is_found_by_another_process(stub: DataflowStub):
    job = submitted(stub)
    arguments = [each for each in stub.arguments if not each.startswith(("--temp", "--sdk"))]
    found = make_engine("dataflow", EngineOptions(beam_arguments=arguments)).find(job["id"])
    assert found.job_id == job["id"]
    assert found.state() is JobState.DONE
    with pytest.raises(RequestError, match=r"found none that can be followed as 2020-01-01_00-1: .*NotFound"):
        engine(stub).find("2020-01-01_00-1")
    with pytest.raises(RequestError, match="found none of them; add --project=PROJECT --region=REGION"):
        make_engine("dataflow", EngineOptions()).find("2020-01-01_00-1")


def planned_table(folder: Path, rows: int) -> tuple[Any, Any]:
    """The plan and the job of a recipe beside a module of its own, on a table in a store."""
    asked = RunRequest(load(folder), f"{_store(rows)}/raw", f"{_store()}/dataset")
    planned = plan(asked)
    return planned, prepare_job(asked, planned)


def _store(rows: int = 0) -> str:
    store = f"memory://dataflow-{next(_NUMBERS)}"
    lines = "".join(f"word{row % 7},{row}\n" for row in range(rows))
    files.write_bytes(f"{store}/raw/words.csv", f"word,number\n{lines}".encode())
    return store


def load(folder: Path) -> LoadedRecipe:
    """The recipe."""
    (folder / "words.py").write_text("def count(word):\n    return len(word)\n")
    (folder / "lengths.py").write_text(RECIPE)
    return load_recipe(str(folder / "lengths.py"))


def submit_recipe(stub: DataflowStub, loaded: LoadedRecipe, job: Any) -> tuple[dict[str, Any], bytes]:
    """Submits a recipe's pipeline; gives the job and the staged pipeline."""
    import cloudpickle
    from apache_beam.internal.cloudpickle import cloudpickle as beam_cloudpickle

    from penstock.pipeline.beam import Build
    from penstock.pipeline.prepare.shipping import shipped

    def build(pipeline: Any) -> None:
        _ = pipeline | Build(job)

    before = set(stub.objects)
    with shipped(loaded.module, loaded.own, (beam_cloudpickle, cloudpickle)):
        running = engine(stub).submit(build, "penstock-make-lengths-01234567")
    (name,) = set(stub.objects) - before
    return stub.jobs[running.job_id], stub.objects[name]


@pytest.fixture
def recipe_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "recipes"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("words", None)


def test_job_and_pipeline_hold_no_secret_and_no_path_of_this_machine(stub: DataflowStub, recipe_folder: Path):
    from apache_beam.portability.api import beam_runner_api_pb2

    _, job = planned_table(recipe_folder, 50)
    entry, staged = submit_recipe(stub, load(recipe_folder), job)
    pipeline = beam_runner_api_pb2.Pipeline.FromString(staged)
    local = {
        str(recipe_folder),
        str(REPOSITORY),
        sys.prefix,
        os.getcwd(),
        str(Path.home()) + "/",
        socket.gethostname() + ".",
        f"/{getpass.getuser()}/",
        SECRET,
    }
    texts = [("the job", json.dumps(entry).encode()), ("the pipeline", staged), *pickled(pipeline)]
    assert len(texts) > 20  # transforms and coders, each unpacked
    assert any(b"lengths.py" in text for _, text in texts)  # they are unpacked indeed
    assert any(b"words.py" in text for _, text in texts)
    hits = [(name, word) for name, text in texts for word in local if word.encode() in text]
    assert hits == []
    (environment,) = pipeline.components.environments.values()
    assert not environment.dependencies
    assert entry["environment"]["workerPools"][0].get("packages", []) == []


def test_what_is_submitted_does_not_grow_with_the_input(stub: DataflowStub, recipe_folder: Path):
    sizes = []
    for rows in (10, 10_000):
        planned, job = planned_table(recipe_folder, rows)
        assert len(planned.plan.units) == 1
        entry, staged = submit_recipe(stub, load(recipe_folder), job)
        sizes.append((len(json.dumps(entry)), len(staged)))
    (small_job, small_pipeline), (large_job, large_pipeline) = sizes
    assert abs(large_job - small_job) < 100  # numbers and random names are of different lengths
    assert abs(large_pipeline - small_pipeline) < 1000
    assert large_job + large_pipeline < 10_000_000


def of_units(sizes: Sequence[int], seconds: float, uri: str = "gs://raw/a.jpg") -> Any:
    """A plan, as far as the engine looks at it."""

    class Units(list[Any]):
        def __init__(self) -> None:
            self.units = [SimpleNamespace(size=size) for size in sizes]
            super().__init__((unit, [SimpleNamespace(uri=uri)]) for unit in self.units)

    return SimpleNamespace(plan=SimpleNamespace(units=Units(), targets=0, estimate=SimpleNamespace(seconds=seconds)))


@pytest.mark.parametrize(
    ("sizes", "seconds", "minutes"),
    [
        ([10, 10], 60.0, 60),  # never less than an hour
        ([10, 30], 2000.0, 250),  # ten times what the largest takes
        ([1] * 1000, 10e6, 16667),  # all alike
        ([1] * 100_000, 10e6, 16667),  # the commit reads what all left
    ],
)
def test_a_worker_is_taken_for_hung_long_after_the_estimate(sizes: list[int], seconds: float, minutes: int):
    assert element_minutes(seconds, sizes) == minutes


def test_a_plan_decides_how_long_and_how_many(stub: DataflowStub):
    chosen = engine(stub)
    asked = request(Recipe(source=Csv("*.csv")), "gs://raw", "gs://prepared")  # type: ignore[arg-type]
    assert chosen.check_plan(asked, of_units([10] * 7, 70 * 60.0), lambda: 20) == ()
    job = stub.jobs[chosen.submit(create, "penstock").job_id]
    assert options_of(job)["element_processing_timeout_minutes"] == 100
    assert job["environment"]["workerPools"][0]["autoscalingSettings"]["maxNumWorkers"] == 4


def test_references_to_this_machine_are_refused(stub: DataflowStub):
    asked = request(Recipe(source=Images("*.jpg")), "gs://raw", "gs://prepared")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"--input: expected a place that workers of Dataflow reach.* found /data/a"):
        engine(stub).check_plan(asked, of_units([10], 1.0, "/data/a.jpg"), lambda: 20)


@pytest.mark.parametrize(
    ("arguments", "threads", "pixels", "words"),
    [
        (
            [],
            None,
            500_000_000,
            "expected 49 GiB, .* found n2-standard-4, which has 16 GiB; give --threads 1, one with",
        ),
        (["--machine_type=n2-highmem-8"], 4, 500_000_000, None),
        ([], 1, 500_000_000, None),
        ([], None, 50_000_000, None),
        (["--machine_type=n1-highcpu-2"], None, 1_000, "which has 2 GiB; take one with more memory"),
        (["--experiments=use_multiple_sdk_containers"], None, 50_000_000, "for 8 units at a time with 4 threads"),
    ],
)
def test_the_largest_images_fit_into_the_workers_memory(
    stub: DataflowStub, arguments: list[str], threads: int | None, pixels: int, words: str | None
):
    from penstock.transforms.image import decode

    recipe = Recipe(source=Images("*.jpg", decode=decode(max_pixels=pixels)))
    asked = request(recipe, "gs://raw", "gs://prepared", threads=threads)  # type: ignore[arg-type]
    check: Callable[[], Any] = lambda: engine(stub, *arguments).check_plan(asked, of_units([10], 1.0), lambda: 20)  # noqa: E731
    if words is None:
        assert check() == ()
    else:
        with pytest.raises(RequestError, match=words):
            check()


def test_of_an_unknown_machine_type_it_is_said_that_nothing_was_checked(stub: DataflowStub):
    asked = request(Recipe(source=Images("*.jpg")), "gs://raw", "gs://prepared")  # type: ignore[arg-type]
    (warning,) = engine(stub, "--machine_type=x9-new").check_plan(asked, of_units([10], 1.0), lambda: 20)
    assert warning.startswith("--machine_type: nothing is known of the memory of x9-new")


def test_as_many_threads_as_are_advised_do_fit():
    machine = MachineType("n2-standard-16", 16, 64 << 30)
    with pytest.raises(RequestError, match="give --threads 5, one with") as refusal:
        check_memory(machine, 1, 2, 16, 500_000_000)
    assert "n2-standard-16, which has 64 GiB" in str(refusal.value)
    check_memory(machine, 1, 2, 5, 500_000_000)
    with pytest.raises(RequestError):
        check_memory(machine, 1, 2, 6, 500_000_000)
