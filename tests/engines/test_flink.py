"""The in-process runner's datasets, made on a Flink cluster by both of its translators, in folders and in a store."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from engines.flink_cluster import FlinkCluster
from engines.jobs import STREAMING, Job, expect_same, finish
from engines.processes import descendants, running, wait_until
from helpers import free_port
from stores import servers


@pytest.mark.parametrize(
    ("recipe", "source", "output", "beam"),
    [
        ("people_csv", "s3", "s3", (STREAMING,)),
        pytest.param("people_json", "local", "local", (), marks=pytest.mark.slow),
        pytest.param("images", "local", "s3", (), marks=pytest.mark.slow),
        pytest.param("images", "s3", "local", (STREAMING,), marks=pytest.mark.slow),
    ],
)
def test_a_cluster_makes_the_same(
    flink: FlinkCluster,
    on_flink: Callable[..., Job],
    recipes: Path,
    raw: dict[str, str],
    reference: Callable[[Path, str], str],
    tmp_path: Path,
    recipe: str,
    source: str,
    output: str,
    beam: tuple[str, ...],
):
    path = recipes / f"{recipe}.py"
    job = on_flink(path, raw[source], output, *beam)
    assert job.run(tmp_path / "job.log") == 0
    expect_same(job.output, reference(path, raw["local"]))
    assert not [file.name for file in recipes.iterdir() if file.suffix != ".py" and file.name != "__pycache__"]
    assert flink.stray_files() == []


def test_workers_of_a_pool_make_the_same(
    on_flink: Callable[..., Job],
    environment: dict[str, str],
    recipes: Path,
    raw: dict[str, str],
    reference: Callable[[Path, str], str],
    tmp_path: Path,
):
    path, port = recipes / "people_parquet.py", free_port()
    program = shutil.which("penstock-worker", path=environment["PATH"])
    pool = [program, "--worker_pool", f"--service_port={port}"]
    with servers.process(pool, tmp_path / "pool", port, **environment) as started:
        options = ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]
        job = on_flink(path, raw["s3"], "s3", *options)
        assert job.run(tmp_path / "job.log") == 0
        workers = descendants(started.pid)
    expect_same(job.output, reference(path, raw["local"]))
    wait_until(lambda: not running(workers), 20, "the end of a pool's workers, with the pool")


@pytest.mark.slow
def test_an_embedded_cluster_makes_the_same(
    flink_jar: Path,
    recipes: Path,
    raw: dict[str, str],
    reference: Callable[[Path, str], str],
    new_output: Callable[[str], str],
    environment: dict[str, str],
    tmp_path: Path,
):
    path, engine = recipes / "people_json.py", ("--runner", "flink", "--flink-job-server-jar", str(flink_jar))
    job = Job(path, raw["s3"], new_output("local"), engine, environment=environment)
    process = job.start(tmp_path / "job.log")
    wait_until(lambda: descendants(process.pid), 60, "a job server")
    assert finish(process) == 0
    expect_same(job.output, reference(path, raw["local"]))
