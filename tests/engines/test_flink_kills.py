"""What dies on a Flink cluster in the middle of a job: nothing is lost, nothing comes twice, the bytes are the same."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from engines.flink_cluster import FlinkCluster
from engines.jobs import STREAMING, Job, expect_same, finish
from engines.processes import kill, python_workers, running, wait_until
from helpers import Cli, draw

from penstock.pipeline import open_dataset
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files

IMAGES = 40  # that are drawn
PARALLELISM = 2  # units that are made at a time
FIELDS = """
    source=Images("images/*.png", label=r"(?P<label>.+)_\\d+"),
    prepare=[image.resize(20, 12), counted],
    features=features,
    splits={"train": 0.6, "test": 0.4},
    shards=8,
"""
FUNCTIONS = """
from penstock.transforms import categorical
def counted(example):
    with open(COUNTS, "a") as file:
        file.write(f"{os.getpid()} {example['key']}\\n")
    time.sleep(1)
    return example

def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "label": categorical.vocabulary(inputs, "label"),
    }
"""


@dataclass
class SlowJob:
    """A job that takes its time, and counts how often each example is prepared.

    Attributes:
      job: The job.
      expected: The dataset that the in-process runner makes.
      counts: Has a line for each time that an example was prepared: a process id and the key.
      log: What the job says.
    """

    job: Job
    expected: str
    counts: Path
    log: Path

    def start(self) -> "subprocess.Popen[bytes]":
        return self.job.start(self.log)

    def journals(self) -> int:
        """How many units are finished."""
        names = [info.uri for info in files.list_folder(self.job.output)]
        return sum(re.search(r"/_work/units/\d+\.json$", name) is not None for name in names)

    def wait_for(self, journals: int) -> None:
        """Waits until so many units are finished."""
        wait_until(lambda: self.journals() >= journals, 120, f"{journals} units that are finished")

    def expect_made_once(self, launchers: Collection[int], restarts: int) -> None:
        """Checks that only units that were in flight when the engine began anew were prepared again."""
        lines = [line.split() for line in self.counts.read_text().splitlines()]
        prepared = Counter(key for pid, key in lines if int(pid) not in launchers)  # these prepare a sample
        manifest = Manifest.load(self.job.output)
        assert len(prepared) == manifest.written == IMAGES
        unit = max(shard.examples for split in manifest.splits.values() for shard in split.shards)
        assert prepared.total() - IMAGES <= restarts * PARALLELISM * unit, prepared


@pytest.fixture
def slow_job(
    on_flink: Callable[..., Job], raw: dict[str, str], reference: Callable[[Path, str], str], tmp_path: Path
) -> Callable[..., SlowJob]:
    """A slow job from one place to another, and the dataset that must come out."""

    def slow_job_(source: str = "local", output: str = "local", *beam: str) -> SlowJob:
        counts = tmp_path / "counts"
        recipe = Cli(tmp_path).recipe(FIELDS, f"COUNTS = {str(counts)!r}\n{FUNCTIONS}")
        expected = reference(recipe, raw["local"])
        counts.unlink()
        job = on_flink(recipe, raw[source], output, f"--parallelism={PARALLELISM}", *beam)
        return SlowJob(job, expected, counts, tmp_path / "job.log")

    return slow_job_


def expect_gone(workers: list[int]) -> None:
    """Checks that processes end: those of a dead TaskManager would make its units a second time."""
    wait_until(lambda: not running(workers), 20, f"the end of {len(workers)} processes of a dead TaskManager")


@pytest.mark.parametrize(
    ("source", "output", "beam", "deaths"),
    [
        ("local", "local", (), 1),
        pytest.param("s3", "s3", (), 2, marks=pytest.mark.slow),
        pytest.param("local", "s3", (STREAMING,), 2, marks=pytest.mark.slow),
    ],
)
def test_a_task_manager_is_killed(
    flink: FlinkCluster,
    slow_job: Callable[..., SlowJob],
    source: str,
    output: str,
    beam: tuple[str, ...],
    deaths: int,
):
    slow = slow_job(source, output, *beam)
    process = slow.start()
    for death in range(deaths):
        slow.wait_for(4 + 5 * death)
        workers = flink.kill_task_manager()
        assert workers, "expected a TaskManager with a worker"
        flink.add_task_manager()
        expect_gone(workers)
        flink.wait()
    assert finish(process) == 0
    expect_same(slow.job.output, slow.expected)
    # A TaskManager's death restarts a batch job twice: since its tasks are lost, and then since a partition is that the
    # others read from it.
    slow.expect_made_once({process.pid}, 2 * deaths)


@pytest.mark.slow
def test_a_worker_is_killed(flink: FlinkCluster, slow_job: Callable[..., SlowJob]):
    slow = slow_job()
    process = slow.start()
    slow.wait_for(4)
    workers = [worker for manager in flink.task_managers for worker in python_workers(manager.pid)]
    assert workers
    kill(workers[0])
    assert finish(process) == 0
    expect_same(slow.job.output, slow.expected)
    slow.expect_made_once({process.pid}, 1)


@pytest.mark.slow
def test_the_job_manager_is_killed(flink: FlinkCluster, slow_job: Callable[..., SlowJob]):
    """Without high availability Flink forgets its jobs: the same command ends what is left."""
    slow = slow_job()
    first = slow.start()
    slow.wait_for(4)
    flink.restart_job_manager()
    assert finish(first) == 1
    kept = slow.journals()
    second = slow.start()
    assert finish(second) == 0
    assert kept >= 4
    expect_same(slow.job.output, slow.expected)
    slow.expect_made_once({first.pid, second.pid}, 1)


DEADLY = """
from penstock.transforms import categorical

def deadly(example):
    if example["key"] in {keys!r} and "TASK_MANAGER" in os.environ:  # not in the launcher
        os.kill(os.getpid(), signal.SIGKILL)
    return example

def features(inputs):
    return {{"image": image.standardize(inputs, "image"), "label": categorical.vocabulary(inputs, "label")}}
"""


@pytest.mark.slow
def test_files_that_kill_their_worker_are_quarantined(on_flink: Callable[..., Job], tmp_path: Path):
    raw = draw(tmp_path / "raw", 300)
    keys = tuple(f"images/{path.name}" for path in sorted((raw / "images").iterdir())[20::60])
    assert len(keys) == 5
    fields = FIELDS.replace("counted", "deadly")
    recipe = Cli(tmp_path).recipe(fields, DEADLY.format(keys=keys))
    job = on_flink(recipe, str(raw), "local")
    job = replace(job, engine=(*job.engine, "--max-quarantined", "5"))
    assert job.run(tmp_path / "job.log", 500) == 0
    manifest = Manifest.load(job.output)
    assert (manifest.read, manifest.written, manifest.quarantined) == (300, 295, 5)
    lists = [files.read_bytes(files.join(job.output, file.path)) for file in manifest.quarantine]
    quarantined = [json.loads(line) for lines in lists for line in lines.splitlines()]
    assert {line["key"] for line in quarantined} == set(keys)
    assert {line["code"] for line in quarantined} == {"worker_died"}
    loaded = [example["key"] for split in manifest.splits for example in open_dataset(job.output).source(split)]
    assert len(loaded) == len(set(loaded)) == 295
    assert not set(keys) & set(loaded)
