"""A run on a stub of Dataflow, all of whose files are on a server of Cloud Storage: staged, read and committed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataflow_stub import WorkingStub
from helpers import Cli, draw, penstock
from stores.servers import Store

from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files

FIELDS = """
    source=Images("images/*.png", label=r"(?P<label>.+)_\\d+"),
    features=features,
    splits={"train": 0.8, "test": 0.2},
"""
FUNCTIONS = """
def features(inputs):
    return {"image": image.standardize(inputs, "image"), "label": tft.compute_and_apply_vocabulary(inputs["label"])}
"""


class Service(WorkingStub):
    """A stub whose workers have the pipeline from where the job says."""

    def read_pipeline(self, job: dict[str, Any]) -> bytes:
        return files.read_bytes(job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"])


def test_a_run_needs_nothing_but_buckets(
    gcs: Store, use: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(gcs)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{gcs.json_port}")
    source, output = gcs.uri("dataflow/shapes", "raw"), gcs.uri("dataflow/shapes")
    folder = draw(tmp_path / "raw", 12)
    for path in folder.rglob("*.png"):
        files.write_bytes(files.join(source, path.relative_to(folder).as_posix()), path.read_bytes())
    service = Service(tmp_path / "worker")
    arguments = [each for each in service.arguments if not each.startswith("--temp_location")]
    try:
        ended = penstock(
            *("run", Cli(tmp_path).recipe(FIELDS, FUNCTIONS), "--input", source, "--output", output),
            *("--runner", "dataflow", "--json", "--", *arguments, f"--temp_location={gcs.uri('staging')}"),
            cwd=tmp_path,
        )
    finally:
        service.close()
    assert ended.returncode == 0, ended.stderr + service.said
    assert json.loads(ended.stdout)["status"] == "committed"
    manifest = Manifest.load(output)
    assert (manifest.read, manifest.quarantined) == (12, 0)
    staged = [info.uri.rpartition("/")[2] for info in files.list_folder(gcs.uri("staging"))]
    assert staged == ["pipeline.pb"]
    assert not service.objects
