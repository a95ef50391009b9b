"""What MLflow records of a dataset, and that it leads back to it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stored_datasets
from helpers import Committed, draw, run_job, standard_recipe

from penstock.pipeline import DatasetError, NotCommittedError, open_dataset
from penstock.pipeline.formats.pointer import Pointer

needs_mlflow = pytest.mark.extras("mlflow")


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow, with a store of its own in a folder."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow
    mlflow.set_tracking_uri("")


def logged(mlflow: Any, dataset: Any) -> Any:
    """What the store has of a dataset that was logged."""
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training")
    (found,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]
    return found.dataset


@needs_mlflow
def test_a_run_records_a_dataset_and_leads_back_to_it(tracking: Any, committed: Committed):
    from penstock.mlflow import dataset

    uri, manifest = str(committed.path), committed.manifest
    found = logged(tracking, dataset(uri))
    sha256 = Pointer.read(uri).sha256  # type: ignore[union-attr]
    assert (found.name, found.digest) == (committed.path.name, sha256[:36])
    assert found.source_type == "penstock"
    assert json.loads(found.source) == {"uri": uri, "generation": manifest.generation, "manifest_sha256": sha256}
    profile = json.loads(found.profile)
    assert profile["num_rows"] == manifest.written
    assert profile["splits"] == {name: split.examples for name, split in manifest.splits.items()}
    pets = open_dataset(uri)
    assert profile["statistics"]["image"]["mean"] == pets.statistics["image"].mean
    assert "counts" not in profile["statistics"]["label"]
    opened = tracking.data.get_source(found).load(verify=True)
    assert (opened.uri, opened.generation, len(opened)) == (uri, manifest.generation, len(pets))


@needs_mlflow
def test_the_schema_is_one_of_mlflows(committed: Committed):
    import numpy as np
    from mlflow.types.schema import Schema

    from penstock.mlflow import dataset

    tensors = json.loads(dataset(committed.path).schema["mlflow_tensorspec"]["features"])
    by_name = {each["name"]: each["tensor-spec"] for each in tensors}
    features = committed.manifest.features
    assert by_name.keys() == features.keys()
    assert by_name["image"] == {"dtype": "uint8", "shape": [-1, *features["image"].shape]}
    assert np.dtype(by_name["label"]["dtype"]).kind == "U"
    assert Schema.from_json(json.dumps(tensors)).input_names() == list(features)


@needs_mlflow
def test_a_generation_is_found_again_after_others(tracking: Any, tmp_path: Path):
    from penstock.mlflow import dataset

    raw, path = draw(tmp_path / "raw", 12), tmp_path / "dataset"
    recipe = standard_recipe(source=standard_recipe().source.__class__("images/*.png"), features=None)
    first = run_job(recipe, raw, path).manifest
    found = logged(tracking, dataset(open_dataset(path), name="pets"))
    (raw / "images" / "cat_001.png").unlink()
    second = run_job(recipe, raw, path).manifest
    assert first.generation != second.generation
    assert found.name == "pets"
    assert tracking.data.get_source(found).load().generation == first.generation
    assert dataset(path).source.generation == second.generation
    by_id = dataset(path, generation=first.generation[:8])
    assert (by_id.source.generation, by_id.digest) == (first.generation, found.digest)
    manifest = path / first.generation / "manifest.json"
    changed = json.loads(manifest.read_text())
    changed["warnings"].append("made again")
    manifest.write_text(json.dumps(changed))
    pointer = Pointer.to(first.generation, manifest.read_bytes())
    (manifest.parent / "manifest.sha256").write_bytes(pointer.manifest_sum())
    with pytest.raises(DatasetError, match="it was made again since"):
        tracking.data.get_source(found).load()


@needs_mlflow
def test_mlflow_knows_the_source_by_itself_and_loads_nothing_for_it():
    code = (
        "import sys, mlflow.data; from mlflow.data.dataset_source_registry import get_registered_sources; "
        "assert 'penstock' in [source._get_source_type() for source in get_registered_sources()]; "
        "assert 'penstock.pipeline.load' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


@needs_mlflow
def test_what_is_no_dataset_is_said(tmp_path: Path):
    from penstock.mlflow import dataset

    with pytest.raises(NotCommittedError, match="nothing there"):
        dataset(tmp_path / "none")


@needs_mlflow
def test_what_is_too_long_for_mlflow_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import penstock.mlflow as adapter

    made = adapter.dataset(stored_datasets.write(tmp_path / "dataset"))
    assert made.to_dict().keys() == {"name", "digest", "source", "source_type", "schema", "profile"}
    monkeypatch.setattr(adapter, "_SCHEMA", 10)
    monkeypatch.setattr(adapter, "_PROFILE", 10)
    short = made.to_dict()
    assert "schema" not in short
    assert "statistics" not in json.loads(short["profile"])
    assert json.loads(short["profile"])["num_rows"] == 21


def test_without_mlflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    code = "import sys; sys.modules['mlflow'] = None; import penstock.mlflow"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "pip install 'penstock[mlflow]'" in ended.stderr.splitlines()[-1]
