"""The in-process runner's datasets, made by Prism and by Spark."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from engines.flink_cluster import INSTALLED, OPENED
from engines.jars import thin_jar
from engines.jobs import Job, expect_same

PRISM = ("--runner", "prism")


@pytest.fixture(scope="session")
def spark_job_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the jar that --spark_job_server_jar names."""
    path = tmp_path_factory.mktemp("job-server") / "spark.jar"
    jars = sorted((INSTALLED / "spark-job-server").glob("*.jar"))
    return thin_jar(path, "org.apache.beam.runners.spark.SparkJobServerDriver", jars)


@pytest.mark.parametrize(("recipe", "source", "output"), [("images", "local", "local"), ("people_parquet", "s3", "s3")])
def test_prism_makes_the_same(
    recipes: Path,
    raw: dict[str, str],
    reference: Callable[[Path, str], str],
    new_output: Callable[[str], str],
    environment: dict[str, str],
    tmp_path: Path,
    recipe: str,
    source: str,
    output: str,
):
    path, beam = recipes / f"{recipe}.py", [f"--prism_location={INSTALLED / 'bin/prism'}"]
    job = Job(path, raw[source], new_output(output), PRISM, beam, environment)
    assert job.run(tmp_path / "job.log") == 0
    expect_same(job.output, reference(path, raw["local"]))


@pytest.mark.slow
def test_prism_takes_over_what_did_not_change(
    recipes: Path,
    raw: dict[str, str],
    reference: Callable[[Path, str], str],
    environment: dict[str, str],
    tmp_path: Path,
):
    recipe, source = recipes / "images.py", tmp_path / "raw"
    shutil.copytree(raw["local"], source)
    output = shutil.copytree(reference(recipe, raw["local"]), tmp_path / "dataset")
    for folder in ("images", "masks"):
        shutil.copy(source / folder / "cat_001.png", source / folder / "cat_100.png")
        (source / folder / "cat_002.png").unlink()
    job = Job(recipe, str(source), str(output), PRISM, [f"--prism_location={INSTALLED / 'bin/prism'}"], environment)
    assert job.run(tmp_path / "job.log") == 0
    manifest = expect_same(job.output, reference(recipe, str(source)))
    assert manifest.delta
    assert manifest.delta.examples == manifest.read - 1


@pytest.mark.parametrize(
    ("recipe", "source", "output"),
    [("people_csv", "s3", "local"), pytest.param("images", "local", "s3", marks=pytest.mark.slow)],
)
def test_spark_makes_the_same(
    spark_job_server: Path,
    recipes: Path,
    raw: dict[str, str],
    reference: Callable[[Path, str], str],
    new_output: Callable[[str], str],
    environment: dict[str, str],
    tmp_path: Path,
    recipe: str,
    source: str,
    output: str,
):
    path, engine = recipes / f"{recipe}.py", ("--runner", "spark")
    beam = [f"--spark_job_server_jar={spark_job_server}", "--spark_master_url=local[2]"]
    beam.append(f"--job_server_jvm_properties={' '.join(OPENED)}")
    job = Job(path, raw[source], new_output(output), engine, beam, environment)
    assert job.run(tmp_path / "job.log") == 0
    expect_same(job.output, reference(path, raw["local"]))
