"""Jobs that go on without the command that submitted them: left, found again, cancelled, and never doubled."""

import itertools
import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, draw, request
from runners.elsewhere import Elsewhere

from penstock.pipeline import DatasetError, Images, OverBudgetError, PenstockError, Recipe, RequestError
from penstock.pipeline.build.journal import FinishedUnits
from penstock.pipeline.build.progress import Progress, ProgressReader, ProgressWriter
from penstock.pipeline.commit.prune import remove_unused
from penstock.pipeline.formats import paths
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.planned_run import RunRequest
from penstock.pipeline.storage import files
from penstock.pipeline.storage.leases import leased_folder
from penstock.runners import engine as engines
from penstock.runners import follow, job_record
from penstock.runners.engine import EngineOptions
from penstock.runners.follow import Detached, attach, look
from penstock.runners.job_record import JobRecord, leading_options
from penstock.runners.reporter import Interrupt, Silent
from penstock.runners.run import run

RECIPE = Recipe(source=Images("images/*.png"), shards=3)
SECRETS = ("--s3_secret_access_key=hunter2", "--environment_config", '{"env": {"AWS_SECRET_ACCESS_KEY": "hunter2"}}')


def unlucky(example: dict[str, Any]) -> dict[str, Any]:
    if example["key"].endswith("003.png"):
        raise ValueError("unlucky")
    return example


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("raw"), 12)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """The engine, which `make_engine` gives by its name; other names lead to others as ever."""
    engine, make = Elsewhere(), engines.make_engine
    monkeypatch.setattr(
        job_record, "make_engine", lambda name, options: engine if name == "elsewhere" else make(name, options)
    )
    monkeypatch.setattr(follow, "_SIGNS", 0.2)
    return engine


@pytest.fixture(params=[pytest.param("local", marks=pytest.mark.slow), "store"])
def job(request_for: Any, request: pytest.FixtureRequest, tmp_path: Path) -> RunRequest:
    return request_for(str(tmp_path / "dataset") if request.param == "local" else f"memory://{tmp_path.name}/dataset")


@pytest.fixture
def request_for(raw: Path) -> Any:
    return lambda output, recipe=RECIPE, **options: request(recipe, raw, output, "7" * 64, **options)


@pytest.fixture
def local(request_for: Any, tmp_path: Path) -> RunRequest:
    asked: RunRequest = request_for(str(tmp_path / "dataset"))
    return asked


class Hears(Silent):
    """A reporter that keeps what it is told, and answers as it is to."""

    def __init__(self, answer: Interrupt = Interrupt.CANCEL) -> None:
        self.answer = answer
        self.urls: list[str | None] = []
        self.told: list[Progress] = []
        self.total: int | None = None

    def submitted(self, record: JobRecord) -> None:
        self.urls.append(record.url)
        self.total = record.examples

    def progress(self, progress: Progress) -> None:
        self.told.append(progress)

    def interrupted(self) -> Interrupt:
        return self.answer


def detach(asked: RunRequest, engine: Elsewhere) -> JobRecord:
    with pytest.raises(Detached) as detached:
        run(asked, engine=engine, detach=True)
    return detached.value.record


def test_a_job_that_was_left_is_followed_to_its_end(job: RunRequest, elsewhere: Elsewhere, tmp_path: Path, raw: Path):
    elsewhere.starts = False
    elsewhere.options = EngineOptions(beam_arguments=(*SECRETS, "--region=eu"))
    record = detach(job, elsewhere)
    assert JobRecord.find(job.output) == record
    content = files.read_bytes(files.join(record.root, paths.JOB)).decode()
    assert "hunter2" not in content
    assert record.beam_arguments == ("--region=eu",)
    with leased_folder(record.root, paths.LEASE, "another", patience=0) as lease:
        assert lease is not None  # the launcher has given it back
    elsewhere.jobs[record.job_id].go.set()
    hears = Hears()
    result = attach(job.output, hears)
    assert result is not None
    assert (result.status, result.manifest) == ("committed", Manifest.load(job.output))
    assert (hears.urls, hears.total) == (["https://engine.example.com/jobs/1"], 12)
    assert hears.told[-1] == Progress(12, 0, 12, result.manifest.splits["train"].bytes)
    assert not files.exists(files.join(record.root, paths.WORK))
    here = run(request(RECIPE, raw, tmp_path / "here", "7" * 64))
    assert here.manifest.splits == result.manifest.splits  # with the shards' checksums
    with pytest.raises(RequestError, match="found none; see `penstock inspect"):
        attach(job.output)
    assert run(job, engine=elsewhere).status == "up_to_date"


def test_a_job_that_tries_again_and_changes_nothing_leaves_the_generation_that_is_there(
    request_for: Any, elsewhere: Elsewhere, tmp_path: Path
):
    recipe = Recipe(source=Images("images/*.png"), prepare=[unlucky], shards=3)
    asked = request_for(f"memory://{tmp_path.name}/dataset", recipe, max_quarantined="50%")
    first = run(asked).manifest
    elsewhere.starts = False
    record = detach(replace(asked, retry=True), elsewhere)
    elsewhere.jobs[record.job_id].go.set()
    result = attach(asked.output)
    assert result is not None
    assert (result.status, result.manifest, bool(result.note)) == ("up_to_date", first, True)
    assert not files.exists(files.join(record.root, paths.PLAN))
    assert JobRecord.find(asked.output) is None


def test_a_second_run_does_not_double_a_job_and_prune_leaves_it_alone(job: RunRequest, elsewhere: Elsewhere, raw: Path):
    run(request(RECIPE, raw, job.output, "8" * 64))  # type: ignore[arg-type]
    elsewhere.starts = False
    record = detach(job, elsewhere)
    claimed = files.read_bytes(files.join(record.root, paths.RUN))
    words = rf"found elsewhere job {record.job_id} .*penstock attach {job.output}"
    with pytest.raises(PenstockError, match=words):
        run(job, engine=elsewhere)
    with pytest.raises(PenstockError, match=words):
        run(job)  # on another engine
    assert files.read_bytes(files.join(record.root, paths.RUN)) == claimed
    assert len(elsewhere.jobs) == 1
    assert list(remove_unused(job.output)) == [(record.root, False)]
    assert attach(job.output, cancels=True) is None
    assert run(job).status == "committed"


def test_a_job_that_is_committed_is_concluded_though_its_engine_has_forgotten_it(job: RunRequest, elsewhere: Elsewhere):
    record = detach(job, elsewhere)
    elsewhere.jobs[record.job_id].wait()
    assert ProgressReader(files.join(record.root, paths.progress(record.run))).look().read > 0  # as workers wrote it
    elsewhere.jobs.clear()
    result = attach(job.output)
    assert result is not None
    assert result.manifest.written == 12
    assert not files.exists(files.join(record.root, paths.WORK))


def test_a_job_that_its_engine_does_not_know_is_taken_over(job: RunRequest, elsewhere: Elsewhere):
    elsewhere.starts = False
    detach(job, elsewhere)
    elsewhere.jobs.clear()
    with pytest.raises(RequestError, match="cannot be followed: no such job"):
        attach(job.output)
    assert run(job).status == "committed"


def test_a_job_whose_engine_cannot_be_asked_is_not_taken_over_while_its_workers_write(
    local: RunRequest, elsewhere: Elsewhere
):
    elsewhere.starts = False
    record = detach(local, elsewhere)
    elsewhere.jobs.clear()
    ended, writer = threading.Event(), ProgressWriter(files.join(record.root, paths.progress(record.run)))

    def work() -> None:
        read = 0
        while not ended.wait(0.01):
            read += 10
            writer.tell(0, Progress(read))
            writer.flush()

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.1)
    with pytest.raises(PenstockError, match="expected that nothing makes it"):
        run(local)
    ended.set()
    worker.join()
    assert run(local).status == "committed"


@pytest.mark.parametrize("by", ["run", "attach"])
def test_who_interrupts_may_cancel_detach_or_go_on(local: RunRequest, elsewhere: Elsewhere, by: str):
    def begin(answer: Interrupt) -> Any:
        elsewhere.interruptions, elsewhere.starts = 2, answer is Interrupt.FOLLOW
        if by == "run":
            return run(local, Hears(answer), elsewhere)
        detach(local, elsewhere)
        return attach(local.output, Hears(answer))

    with pytest.raises(KeyboardInterrupt):
        begin(Interrupt.CANCEL)
    assert [job.state().value for job in elsewhere.jobs.values()] == ["cancelled"]
    assert JobRecord.find(local.output) is None
    with pytest.raises(Detached) as detached:
        begin(Interrupt.DETACH)
    assert detached.value.interrupted
    record = JobRecord.find(local.output)
    assert record is not None
    assert elsewhere.jobs[record.job_id].state().value == "running"
    attach(local.output, cancels=True)
    assert begin(Interrupt.FOLLOW).status == "committed"


def test_a_second_interrupt_does_not_leave_the_job(
    local: RunRequest, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    elsewhere.starts = False
    record = detach(local, elsewhere)
    job = elsewhere.jobs[record.job_id]
    job.interruptions, cancel, calls = 1, job.cancel, itertools.count()

    def cancel_unless_interrupted() -> None:
        if next(calls) == 0:
            raise KeyboardInterrupt
        cancel()

    monkeypatch.setattr(job, "cancel", cancel_unless_interrupted)
    with pytest.raises(KeyboardInterrupt):
        attach(local.output)
    assert job.state().value == "cancelled"
    assert JobRecord.find(local.output) is None


@pytest.mark.parametrize("by", ["run", "attach"])
def test_a_job_that_fails_says_why_and_leaves_no_record(
    request_for: Any, elsewhere: Elsewhere, tmp_path: Path, by: str
):
    asked = request_for(str(tmp_path / "dataset"))
    elsewhere.starts = False

    def follow_it() -> None:
        if by == "run":
            elsewhere.cancels = True
            run(asked, engine=elsewhere)
        record = detach(asked, elsewhere)
        elsewhere.jobs[record.job_id].cancel()
        attach(asked.output)

    with pytest.raises(PenstockError, match=r"nothing was committed: cancelled\n0 of 3 units are finished; run"):
        follow_it()
    assert JobRecord.find(asked.output) is None


@pytest.mark.parametrize("by", ["run", "attach"])
def test_a_refused_commit_is_told_as_a_run_would(request_for: Any, elsewhere: Elsewhere, tmp_path: Path, by: str):
    recipe = Recipe(source=Images("images/*.png"), prepare=[unlucky], shards=3)
    asked = request_for(str(tmp_path / "dataset"), recipe, max_quarantined="0")

    def follow_it() -> None:
        if by == "run":
            run(asked, engine=elsewhere)
        detach(asked, elsewhere)
        attach(asked.output)

    with pytest.raises(OverBudgetError, match="prepare_error"):
        follow_it()
    assert JobRecord.find(asked.output) is None


def test_a_job_that_its_engine_does_not_know_can_be_let_go(local: RunRequest, elsewhere: Elsewhere, raw: Path):
    """And should it begin after all, it ends at once."""
    run(request(RECIPE, raw, local.output, "8" * 64))  # type: ignore[arg-type]
    elsewhere.starts = False
    record = detach(local, elsewhere)
    forgotten = elsewhere.jobs.pop(record.job_id)
    with pytest.raises(RequestError, match="let go of it by `penstock attach --cancel"):
        attach(local.output)
    assert attach(local.output, cancels=True) is None
    assert JobRecord.find(local.output) is None
    forgotten.go.set()
    forgotten.wait()
    assert FinishedUnits(record.root).numbers() == []
    assert Manifest.load(local.output).generation != record.generation
    assert list(remove_unused(local.output)) == [(record.root, True)]


@pytest.mark.parametrize("cancels", [False, True])
def test_a_refused_commit_is_told_though_the_engine_has_forgotten_the_job(
    request_for: Any, elsewhere: Elsewhere, tmp_path: Path, cancels: bool
):
    recipe = Recipe(source=Images("images/*.png"), prepare=[unlucky], shards=3)
    asked = request_for(str(tmp_path / "dataset"), recipe, max_quarantined="0")
    record = detach(asked, elsewhere)
    elsewhere.jobs[record.job_id].wait()
    elsewhere.jobs.clear()
    with pytest.raises(OverBudgetError, match="prepare_error"):
        attach(asked.output, cancels=cancels)
    assert JobRecord.find(asked.output) is None


def test_a_run_whose_end_another_command_has_seen_has_committed(local: RunRequest, elsewhere: Elsewhere):
    """As of a launcher that was suspended with its machine, and whose lease was taken meanwhile."""

    class Suspended(Hears):
        def submitted(self, record: JobRecord) -> None:
            elsewhere.jobs[record.job_id].wait()
            for folder in Path(local.output).glob(f"*/{paths.WORK}"):
                shutil.rmtree(folder)

    assert run(local, Suspended(), elsewhere).status == "committed"


def test_a_run_that_takes_over_leaves_no_record_of_another(request_for: Any, elsewhere: Elsewhere, tmp_path: Path):
    recipe = Recipe(source=Images("images/*.png"), prepare=[unlucky], shards=3)
    asked = request_for(str(tmp_path / "dataset"), recipe, max_quarantined="0")
    elsewhere.starts = False
    detach(asked, elsewhere)
    elsewhere.jobs.clear()
    with pytest.raises(OverBudgetError):
        run(asked)
    assert JobRecord.find(asked.output) is None


def test_what_the_engine_counts_is_told_while_the_job_runs(
    local: RunRequest, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(follow, "_REMOTE_POLL", 0.01)
    elsewhere.starts = False
    record, hears = detach(local, elsewhere), Hears()
    job = elsewhere.jobs[record.job_id]
    job.counted = {"read": 5, "written": 4, "quarantined/corrupt_image": 1, "bytes": 400}

    def begin_once_told() -> None:
        while Progress(5, 1, 4, 400) not in hears.told:
            time.sleep(0.01)
        job.go.set()

    threading.Thread(target=begin_once_told, daemon=True).start()
    assert attach(local.output, hears) is not None


def test_a_job_whose_record_cannot_be_written_is_cancelled(
    local: RunRequest, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    def fail(record: JobRecord) -> None:
        raise OSError("full")

    monkeypatch.setattr(JobRecord, "write", fail)
    elsewhere.starts = False
    with pytest.raises(OSError, match="full"):
        run(local, engine=elsewhere)
    assert [job.state().value for job in elsewhere.jobs.values()] == ["cancelled"]


def test_an_engine_in_this_process_cannot_be_left(local: RunRequest):
    with pytest.raises(RequestError, match="--detach: expected an engine that goes on without this process"):
        run(local, detach=True)
    assert not Path(local.output).exists()


def test_what_workers_wrote_is_asked_for_where_the_engine_counts_nothing(elsewhere: Elsewhere, tmp_path: Path):
    job = elsewhere.jobs["1"] = type("Told", (), {"counters": lambda self: {}})()  # type: ignore[assignment]
    assert look(job, None) is None
    writer, reader = ProgressWriter(str(tmp_path)), ProgressReader(str(tmp_path))
    writer.tell(0, Progress(5, 1))
    assert look(job, reader) == Progress(5, 1)
    job.counters = lambda: {"read": 7, "quarantined/a": 1, "quarantined/b": 2, "written": 3, "bytes": 9}  # type: ignore[method-assign]
    assert look(job, reader) == Progress(7, 3, 3, 9)


@pytest.mark.parametrize(
    ("arguments", "leading"),
    [
        (["--project=p", "--region", "eu", "--temp_location=gs://b"], ("--project=p", "--region=eu")),
        (["--job_endpoint", "host:1", "--password", "x", "stray"], ("--job_endpoint=host:1",)),
        (["--region", "--project=p"], ("--region", "--project=p")),
        (["project=p", "--dataflow_endpoint=https://elsewhere.example.com"], ()),
        ([], ()),
    ],
)
def test_only_what_leads_to_a_job_is_kept(arguments: list[str], leading: tuple[str, ...]):
    assert leading_options(arguments) == leading


FIELDS = {
    "generation": "0" * 16,
    "run": "1",
    "engine": "flink",
    "job_id": "2",
    "url": None,
    "started": "2026-01-01T00:00:00+00:00",
    "units": 3,
    "examples": None,
    "replaces": None,
    "flink_master": None,
    "beam_arguments": ["--region=eu"],
}


def test_a_record_of_an_engine_that_is_to_be_imported_is_not_followed(tmp_path: Path):
    folder = tmp_path / ("0" * 16) / paths.WORK
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(FIELDS | {"engine": "antigravity.Runner"}))
    with pytest.raises(RequestError, match=r"found 'antigravity\.Runner'"):
        attach(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        json.dumps({name: value for name, value in FIELDS.items() if name != "units"}).encode(),
        json.dumps(FIELDS | {"job_id": 2}).encode(),
        json.dumps(FIELDS | {"url": 2}).encode(),
        json.dumps(FIELDS | {"units": "3"}).encode(),
        json.dumps(FIELDS | {"beam_arguments": ["--dataflow_endpoint=https://elsewhere.example.com"]}).encode(),
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, content: bytes):
    folder = tmp_path / ("0" * 16) / paths.WORK
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes(content)
    assert JobRecord.find(str(tmp_path)) is None


def test_a_dataset_that_is_not_there_has_no_job_and_one_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    assert [JobRecord.find(str(tmp_path / name)) for name in ("none", "file")] == [None, None]

    def refuse(uri: str) -> None:
        raise PermissionError(uri)

    monkeypatch.setattr(files, "list_names", refuse)
    with pytest.raises(DatasetError, match="expected a dataset that can be read"):
        JobRecord.find(str(tmp_path))


def test_the_command_line_leaves_and_follows(
    cli: Cli, raw: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engines, "make_engine", lambda name, options: elsewhere)
    recipe, figures = cli.recipe('source=Images("images/*.png")'), cli.folder / "x.prom"
    refused = cli.run(recipe, raw, "--detach", "--on-commit", "true")
    assert (refused.exit_code, "give --on-commit to `penstock attach`" in refused.stderr) == (2, True)
    left = cli.run(recipe, raw, "--detach", "--json", "--metrics", figures)
    assert left.exit_code == 0, left.output
    entry = json.loads(left.stdout)
    assert (entry["status"], entry["url"]) == ("submitted", "https://engine.example.com/jobs/1")
    assert entry["attach"] == f"penstock attach {cli.folder / 'dataset'}"
    assert 'state="submitted"} 1.0' in figures.read_text()
    shutil.rmtree(cli.folder / "told", ignore_errors=True)
    hook = f"sh -c 'cat > {cli.folder}/told'"
    ended = cli("attach", cli.folder / "dataset", "--json", "--metrics", figures, "--on-commit", hook)
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["status"] == "committed"
    assert json.loads((cli.folder / "told").read_text())["generation"] == entry["generation"]
    assert 'state="committed"} 1.0' in figures.read_text()
    none = cli("attach", cli.folder / "dataset")
    assert (none.exit_code, "expected a job that was submitted" in none.stderr) == (2, True)
    stray = cli("attach", cli.folder / "dataset", "other")
    assert "expected one DATASET and options, found other too" in stray.stderr
