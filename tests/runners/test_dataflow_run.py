"""Whole runs on a stub of Dataflow, whose worker is a process that has the staged pipeline and nothing else of ours."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dataflow_stub import BUCKET, WorkingStub
from helpers import Cli, draw, penstock
from s3_stub import SECRET, S3Stub

from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files

pytestmark = pytest.mark.slow

FIELDS = """
    source=Images("images/*.png", label=r"(?P<label>.+)_\\d+"),
    prepare=[step],
    features=features,
    splits={"train": 0.8, "test": 0.2},
    shards=2,
"""
FUNCTIONS = """
import offsets


def step(example):
    return {**example, "offset": offsets.OFFSET}


def features(inputs):
    return {"image": image.standardize(inputs, "image"), "offset": inputs["offset"]}
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Stub]:
    """A store that this process, the launcher and workers reach."""
    stub = S3Stub("raw", "prepared")
    for name, value in {
        "AWS_ENDPOINT_URL": stub.url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield stub
    stub.close()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkingStub]:
    service = WorkingStub(tmp_path / "worker")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
    yield service
    service.close()


def write_recipe(folder: Path) -> Path:
    """A recipe that uses a module beside it."""
    (folder / "offsets.py").write_text("OFFSET = 3\n")
    return Cli(folder).recipe(FIELDS, FUNCTIONS)


def upload(folder: Path, uri: str) -> str:
    for path in sorted(folder.rglob("*.png")):
        files.write_bytes(files.join(uri, path.relative_to(folder).as_posix()), path.read_bytes())
    return uri


def hashes(manifest: Manifest) -> list[str]:
    return [shard.file.sha256 for split in manifest.splits.values() for shard in split.shards]


def test_a_run_ends_in_the_in_process_runners_dataset(tmp_path: Path, store: S3Stub, service: WorkingStub):
    recipe, raw = write_recipe(tmp_path), upload(draw(tmp_path / "raw", 24), "s3://raw/shapes")
    ended = penstock(
        *("run", recipe, "--input", raw, "--output", "s3://prepared/shapes", "--runner", "dataflow", "--json"),
        *("--", *service.arguments),
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr + service.said
    assert json.loads(ended.stdout)["status"] == "committed"
    plain = penstock("run", recipe, "--input", raw, "--output", "s3://prepared/plain", "--json", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    ours, theirs = Manifest.load("s3://prepared/plain"), Manifest.load("s3://prepared/shapes")
    assert hashes(theirs) == hashes(ours)
    assert (theirs.read, theirs.quarantined) == (24, 0)
    left = [info.uri for info in files.list_folder("s3://prepared/shapes") if "_work" in info.uri]
    assert not left
    again = penstock(
        *("run", recipe, "--input", raw, "--output", "s3://prepared/shapes", "--runner", "dataflow", "--json"),
        *("--", *service.arguments),
        cwd=tmp_path,
    )
    assert json.loads(again.stdout)["status"] == "up_to_date"
    assert len(service.jobs) == 1


def test_a_job_that_fails_is_told_of_in_words(tmp_path: Path, store: S3Stub, service: WorkingStub):
    service.environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "PENSTOCK_STORE_TRIES": "1",
        "PENSTOCK_STORE_TIMEOUT": "1",
    }
    recipe = write_recipe(tmp_path)
    ended = penstock(
        *("run", recipe, "--input", upload(draw(tmp_path / "raw", 12), "s3://raw/shapes")),
        *("--output", "s3://prepared/shapes", "--runner", "dataflow", "--", *service.arguments),
        cwd=tmp_path,
    )
    assert ended.returncode == 1, ended.stderr
    error = ended.stderr[ended.stderr.index("error: ") :]
    assert "the run failed, nothing was committed" in error
    assert "s3://prepared" in error
    assert "Traceback" not in error
    assert "0 of 4 units are finished; run again to resume" in error


def test_a_template_is_started_without_its_launcher(tmp_path: Path, store: S3Stub, service: WorkingStub):
    source, output = upload(draw(tmp_path / "raw", 24), "s3://raw/shapes"), "s3://prepared/shapes"
    for path in (write_recipe(tmp_path), tmp_path / "offsets.py"):
        files.write_bytes(f"s3://raw/recipes/{path.name}", path.read_bytes())
    (tmp_path / "launcher").mkdir()
    launcher = (
        *(sys.executable, "-m", "penstock.runners.flex_template", "--runner=DataflowRunner"),
        *("--recipe=s3://raw/recipes/recipe.py", f"--input={source}", f"--output={output}"),
        *("--threads=", "--job_name=of-a-button", *service.arguments),
    )

    def start() -> str:
        """Dataflow's part: runs the launcher, and starts what it has written."""
        location = f"--template_location=gs://{BUCKET}/launches/job_object"
        ended = subprocess.run([*launcher, location], cwd=tmp_path / "launcher", capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        service.take(json.loads(service.staged("job_object")))
        service.worker.join()
        return ended.stdout

    said = start()
    assert said.startswith("submitted dataflow job of-a-button"), said
    manifest = Manifest.load(output)
    assert (manifest.read, manifest.quarantined) == (24, 0), service.said
    attached = penstock("attach", output, "--json", "--", *service.arguments)
    assert attached.returncode == 0, attached.stderr
    assert json.loads(attached.stdout)["status"] == "committed"
    service.objects.clear()
    shutil.rmtree(service.folder)
    assert start() == f"up_to_date: {output}\n"
    assert not service.said or "Traceback" not in service.said
    assert Manifest.load(output) == manifest


def test_a_dry_run_tells_what_workers_are_too_small_for(tmp_path: Path, store: S3Stub, service: WorkingStub):
    command = (
        *("run", write_recipe(tmp_path), "--input", upload(draw(tmp_path / "raw", 12), "s3://raw/shapes")),
        *("--output", "s3://prepared/shapes", "--runner", "dataflow", "--dry-run", "--", *service.arguments),
    )
    assert penstock(*command, cwd=tmp_path).returncode == 0
    ended = penstock(*command, "--machine_type=n1-highcpu-2", cwd=tmp_path)
    assert ended.returncode == 2
    assert "found n1-highcpu-2, which has 2 GiB" in ended.stderr
    assert not store.objects["prepared"]
    assert not service.jobs
