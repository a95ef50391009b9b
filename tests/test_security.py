"""Whoever looks at a dataset of unknown origin runs no code of its author: see docs/security.md."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, Committed

from penstock.pipeline import DatasetError
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.load import open_dataset


def put(dataset: Committed, path: str, content: bytes) -> None:
    """Changes a file of a dataset as its author could: with a manifest and a pointer that agree with it."""
    (dataset.generation / path).write_bytes(content)
    name = f"{dataset.manifest.generation}/{path}"
    manifest = json.loads((dataset.generation / "manifest.json").read_text())
    _walk(manifest, name, {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    _put_manifest(dataset, manifest)


def _walk(value: Any, name: str, fields: dict[str, Any]) -> None:
    """Changes the entry of a file, wherever it is in a manifest."""
    if isinstance(value, dict):
        if value.get("path") == name and "sha256" in value:
            value.update(fields)
        for part in value.values():
            _walk(part, name, fields)
    elif isinstance(value, list):
        for part in value:
            _walk(part, name, fields)


def _put_manifest(dataset: Committed, manifest: Any) -> None:
    content = json.dumps(manifest).encode()
    (dataset.generation / "manifest.json").write_bytes(content)
    (dataset.generation / "manifest.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")
    pointer = json.loads((dataset.path / "_DATASET.json").read_text())
    pointer["sha256"] = hashlib.sha256(content).hexdigest()
    (dataset.path / "_DATASET.json").write_text(json.dumps(pointer))


@pytest.fixture
def evil(damaged: Committed, tmp_path: Path) -> Committed:
    """A dataset whose SavedModel writes the file `written` when it is run."""
    import tensorflow as tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = "transform_graph/transform_fn/saved_model.pb"
    model = SavedModel.FromString((damaged.generation / path).read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        if "pruned" in function.signature.name:
            for name, value in (("evil_name", str(tmp_path / "written")), ("evil_content", "x")):
                node = function.node_def.add(name=name, op="Const")
                node.attr["dtype"].type = tf.string.as_datatype_enum
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            function.node_def.add(name="evil", op="WriteFile", input=["evil_name:output:0", "evil_content:output:0"])
            function.control_ret["evil"] = "evil"
            function.signature.control_output.append("evil")
    put(damaged, path, model.SerializeToString())
    return damaged


WAYS: dict[str, Callable[[str, Path], Any]] = {
    "open": lambda uri, _: open_dataset(uri, verify=True),
    "statistics": lambda uri, _: (open_dataset(uri).statistics, open_dataset(uri).labels, repr(open_dataset(uri))),
    "examples": lambda uri, _: open_dataset(uri).examples("train"),
    "source": lambda uri, _: open_dataset(uri).source("train", features=True)[0],
    "numpy": lambda uri, _: next(iter(open_dataset(uri).numpy("train", 4))),
    "stored": lambda uri, _: next(iter(open_dataset(uri).numpy("train", 4, features=False))),
    "tf": lambda uri, _: next(iter(open_dataset(uri).tf("train", 4))),
    "tf, stored": lambda uri, _: next(iter(open_dataset(uri).tf("train", 4, features=False))),
    "verify without the graph": lambda uri, _: list(verify(uri, graph=False)),
}
RUNNING: dict[str, Callable[[str, Path, bool], Any]] = {
    "tf, saved graph": lambda uri, _, trust: next(iter(open_dataset(uri, trust=trust).tf("train", 4, graph="saved"))),
    "verify": lambda uri, _, trust: list(verify(uri, trust=trust)),
    "export": lambda uri, path, trust: open_dataset(uri, trust=trust).export(str(path / "export")),
}


@pytest.mark.parametrize("way", WAYS)
def test_looking_runs_no_graph(evil: Committed, tmp_path: Path, way: str) -> None:
    WAYS[way](str(evil.path), tmp_path)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("way", RUNNING)
def test_a_graph_that_writes_files_is_refused(evil: Committed, tmp_path: Path, way: str) -> None:
    with pytest.raises(DatasetError, match=r"WriteFile .*nothing of it was run"):
        RUNNING[way](str(evil.path), tmp_path, False)
    assert not (tmp_path / "written").exists()
    assert not (tmp_path / "export").exists()


def test_the_command_line_runs_it_only_where_it_is_trusted(cli: Cli, evil: Committed, tmp_path: Path) -> None:
    assert cli("inspect", evil.path).exit_code == 0
    assert cli("verify", evil.path, "--no-graph").exit_code == 0
    refused = cli("verify", evil.path)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
    assert "--trust" in refused.stderr
    assert cli("export", evil.path, tmp_path / "export").exit_code == 1
    assert not (tmp_path / "written").exists()
    assert cli("verify", evil.path, "--trust").exit_code == 0
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("asset", ["../../../../outside", "/etc/hostname", "transform_fn/../../../outside"])
def test_the_portable_graph_reads_no_file_outside_of_its_folder(damaged: Committed, asset: str) -> None:
    (damaged.path / "outside").write_bytes(b"cat\ndog\n")
    path = "transform_graph/portable.json"
    content = json.loads((damaged.generation / path).read_text())
    (table,) = content["tables"].values()
    table["asset"] = asset
    put(damaged, path, json.dumps(content).encode())
    with pytest.raises(DatasetError, match="expected the path of an asset in the graph's folder"):
        next(iter(open_dataset(damaged.path).numpy("train", 4)))


def test_the_golden_examples_are_those_of_a_shard(damaged: Committed) -> None:
    path = "statistics/golden.json"
    content = json.loads((damaged.generation / path).read_text())
    put(damaged, path, json.dumps({**content, "shard": "../outside"}).encode())
    assert any("stays in the dataset" in fault for fault in verify(str(damaged.path)))
    put(damaged, path, json.dumps({**content, "shard": "other/file"}).encode())
    assert any("one of the manifest's shards" in fault for fault in verify(str(damaged.path)))
    put(damaged, path, b'{"outputs": 3}')
    assert any("golden.json: expected what the graph gave" in fault for fault in verify(str(damaged.path)))


def test_names_in_a_dataset_do_not_take_over_the_terminal(cli: Cli, damaged: Committed) -> None:
    manifest = json.loads((damaged.generation / "manifest.json").read_text())
    manifest["warnings"] = ["\x1b[2J\x1b]0;title\x07"]
    manifest["recipe"]["name"] = "\x1b[31mall is well"
    manifest["features"]["\x1b[1mname"] = manifest["features"].pop("key")
    _put_manifest(damaged, manifest)
    shown = cli("inspect", damaged.path).output
    assert "\\x1b[31mall is well" in shown
    assert "\x1b" not in shown + repr(open_dataset(damaged.path))
