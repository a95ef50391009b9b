"""A graph that is not trusted runs only if it does nothing but compute; of one that is refused, nothing runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

from penstock.pipeline import DatasetError
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.graph.safe_operations import ALLOWED
from penstock.pipeline.graph.savedmodel import SavedGraph

FEATURES = {"x": Feature("number", "float32", ()), "s": Feature("text", "string", ())}
BATCH = {"x": tf.constant([1.0, 2.0]), "s": tf.constant([b"a", b"b"])}
Function = Callable[[dict[str, Any], str], Any]


def _save(folder: Path, features: Callable[[dict[str, Any]], Any], **kept: Any) -> SavedGraph:
    """Writes a SavedModel as tf.Transform does."""
    specs = {name: tf.TensorSpec([None], feature.dtype, name=name) for name, feature in FEATURES.items()}
    module = tf.Module()
    module.kept = kept
    module.transform_fn = tf.function(features).get_concrete_function(specs)
    tf.saved_model.save(module, str(folder / "transform_fn"))
    return SavedGraph(str(folder), FEATURES)


def _change(saved: SavedGraph, change: Callable[[Any], None]) -> SavedGraph:
    """Changes the only meta graph of a SavedModel."""
    path = Path(saved.path) / "transform_fn/saved_model.pb"
    model = SavedModel.FromString(path.read_bytes())
    change(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())
    return SavedGraph(saved.path, FEATURES)


def _write(inputs: dict[str, Any], target: str) -> Any:
    with tf.control_dependencies([tf.raw_ops.WriteFile(filename=target, contents="x")]):
        return tf.identity(inputs["x"])


def _write_in_a_map(inputs: dict[str, Any], target: str) -> Any:
    return tf.map_fn(lambda value: _write({"x": value}, target), inputs["x"])


def _write_in_a_branch(inputs: dict[str, Any], target: str) -> Any:
    return tf.cond(tf.size(inputs["x"]) > 0, lambda: _write(inputs, target), lambda: inputs["x"])


def _write_in_a_called_function(inputs: dict[str, Any], target: str) -> Any:
    return tf.function(lambda x: _write({"x": x}, target))(inputs["x"])


def _save_a_checkpoint(inputs: dict[str, Any], target: str) -> Any:
    save = tf.raw_ops.SaveV2(prefix=target, tensor_names=["x"], shape_and_slices=[""], tensors=[inputs["x"]])
    with tf.control_dependencies([save]):
        return tf.identity(inputs["x"])


def _print_to_a_file(inputs: dict[str, Any], target: str) -> Any:
    with tf.control_dependencies([tf.raw_ops.PrintV2(input="x", output_stream=f"file://{target}")]):
        return tf.identity(inputs["x"])


def _debug_to_a_url(inputs: dict[str, Any], target: str) -> Any:
    return tf.raw_ops.DebugIdentityV2(
        input=inputs["x"], tfdbg_context_id="a", op_name="x", debug_urls=[f"file://{target}"], tensor_debug_mode=8
    )


def _run_python(inputs: dict[str, Any], target: str) -> Any:
    (result,) = tf.numpy_function(lambda x: (Path(target).write_text("x"), x)[1:], [inputs["x"]], [tf.float32])
    return tf.ensure_shape(result, [None])


def _read_a_file(inputs: dict[str, Any], target: str) -> Any:
    return tf.strings.join([inputs["s"], tf.io.read_file(__file__)])


def _list_files(inputs: dict[str, Any], target: str) -> Any:
    return tf.io.matching_files("/*")[:1]


def _map_a_file(inputs: dict[str, Any], target: str) -> Any:
    return inputs["x"] + tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[1], memory_region_name=__file__)


def _read_a_table_from_any_file(inputs: dict[str, Any], target: str) -> Any:
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    fill = tf.raw_ops.InitializeTableFromTextFileV2(table_handle=table, filename=__file__, key_index=-2, value_index=-1)
    with tf.control_dependencies([fill]):
        return tf.raw_ops.LookupTableFindV2(
            table_handle=table, keys=inputs["s"], default_value=tf.constant(-1, tf.int64)
        )


def _read_a_dataset(inputs: dict[str, Any], target: str) -> Any:
    return tf.cast(tf.data.TextLineDataset(__file__).reduce(tf.constant(0), lambda count, _: count + 1), tf.float32)


def _abort(inputs: dict[str, Any], target: str) -> Any:
    return tf.cond(tf.size(inputs["x"]) > 9, lambda: (tf.raw_ops.Abort(), inputs["x"])[1], lambda: inputs["x"])


WRITING = [
    *(_write, _write_in_a_map, _write_in_a_branch, _write_in_a_called_function),
    *(_save_a_checkpoint, _print_to_a_file, _run_python),
]
READING = [
    *(_debug_to_a_url, _read_a_file, _list_files, _map_a_file, _read_a_table_from_any_file, _read_a_dataset, _abort),
]


@pytest.mark.parametrize("features", WRITING + READING, ids=lambda features: features.__name__)
def test_a_graph_that_reaches_beyond_itself_is_refused(tmp_path: Path, features: Function) -> None:
    target = tmp_path / "target"
    saved = _save(tmp_path / "graph", lambda inputs: {"y": features(inputs, str(target))})
    with pytest.raises(DatasetError, match=r"only computes, found .*trust=True"):
        saved.on_stored(BATCH)
    assert not list(tmp_path.glob("target*"))


@pytest.mark.parametrize("features", WRITING, ids=lambda features: features.__name__)
def test_a_trusted_graph_may_do_it(tmp_path: Path, features: Function) -> None:
    target = tmp_path / "target"
    saved = _save(tmp_path / "graph", lambda inputs: {"y": features(inputs, str(target))})
    SavedGraph(saved.path, FEATURES, trust=True).on_stored(BATCH)
    assert list(tmp_path.glob("target*"))


def _table(path: Path) -> Any:
    path.write_bytes(b"a\nb\n")
    kinds = {"key_dtype": tf.string, "key_index": tf.lookup.TextFileIndex.WHOLE_LINE, "value_dtype": tf.int64}
    initializer = tf.lookup.TextFileInitializer(str(path), **kinds, value_index=tf.lookup.TextFileIndex.LINE_NUMBER)
    return tf.lookup.StaticHashTable(initializer, -1)


def _save_table(folder: Path) -> SavedGraph:
    folder.mkdir()
    table = _table(folder / "vocabulary")
    return _save(folder / "graph", lambda inputs: {"y": table.lookup(inputs["s"])}, table=table)


def test_vocabularies_are_read_from_the_graphs_own_files(tmp_path: Path) -> None:
    saved = _save_table(tmp_path / "one")
    (tmp_path / "one/vocabulary").unlink()
    assert saved.on_stored(BATCH)["y"].numpy().tolist() == [0, 1]


def test_a_graph_that_prints_and_asserts_is_run(tmp_path: Path) -> None:
    def features(inputs: dict[str, Any]) -> dict[str, Any]:
        tf.print("x is", inputs["x"])
        tf.debugging.assert_all_finite(inputs["x"], "x")
        return {"y": tf.map_fn(lambda value: value + 1, inputs["x"])}

    assert _save(tmp_path, features).on_stored(BATCH)["y"].numpy().tolist() == [2, 3]


@pytest.mark.parametrize("name", ["../../vocabulary", "/etc/hostname", "a/../../../vocabulary"])
def test_an_asset_outside_of_the_graph_is_refused(tmp_path: Path, name: str) -> None:
    def change(graph: Any) -> None:
        graph.asset_file_def[0].filename = name

    for trust in (False, True):
        saved = _change(_save_table(tmp_path / str(trust)), change)
        with pytest.raises(DatasetError, match="expected assets in the folder assets"):
            SavedGraph(saved.path, FEATURES, trust).on_stored(BATCH)


def test_a_table_whose_file_is_named_by_a_constant_is_refused(tmp_path: Path) -> None:
    """What stands for the asset is another node of the object graph: a constant, with any path in it."""

    def change(graph: Any) -> None:
        constant = graph.graph_def.node.add(name="path", op="Const")
        constant.attr["dtype"].type = tf.string.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(__file__))
        for node in graph.object_graph_def.nodes:
            if node.WhichOneof("kind") == "asset":
                node.constant.operation = "path"

    saved = _change(_save_table(tmp_path / "one"), change)
    with pytest.raises(DatasetError, match="a file that is no asset"):
        saved.on_stored(BATCH)


def test_what_saves_checkpoints_cannot_be_called(tmp_path: Path) -> None:
    """The functions that save and restore are let through because nothing calls them: then nothing may."""

    def change(graph: Any) -> None:
        call = graph.saver_def.save_tensor_name.partition(":")[0]
        (node,) = (node for node in graph.graph_def.node if node.name == call)
        node.attr["f"].func.name = graph.object_graph_def.nodes[root].bare_concrete_function.concrete_function_name

    target = tmp_path / "target"
    saved = _save(tmp_path / "graph", lambda inputs: {"y": _write(inputs, str(target))})
    model = SavedModel.FromString((tmp_path / "graph/transform_fn/saved_model.pb").read_bytes())
    nodes = model.meta_graphs[0].object_graph_def.nodes
    (root,) = (child.node_id for child in nodes[0].children if child.local_name == "transform_fn")
    with pytest.raises(DatasetError):
        _change(saved, change).on_stored(BATCH)
    assert not target.exists()


def test_another_form_of_the_graph_beside_it_is_not_looked_at(tmp_path: Path) -> None:
    saved = _save(tmp_path / "graph", lambda inputs: {"y": _write(inputs, str(tmp_path / "target"))})
    folder = tmp_path / "graph/transform_fn"
    (folder / "saved_model.pb").rename(folder / "saved_model.pbtxt")
    with pytest.raises(DatasetError, match=r"saved_model.pb: a file of the transform graph is missing"):
        saved.on_stored(BATCH)


def test_two_graphs_share_no_table(tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "HashTableV2":
                    node.attr["shared_name"].s = b"the name of another's"

    first, second = _save_table(tmp_path / "one"), _save_table(tmp_path / "two")
    (tmp_path / "two/graph/transform_fn/assets/vocabulary").write_bytes(b"b\na\n")
    first, second = _change(first, change), _change(second, change)
    assert first.on_stored(BATCH)["y"].numpy().tolist() == [0, 1]
    assert second.on_stored(BATCH)["y"].numpy().tolist() == [1, 0]


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    saved = _save(tmp_path, lambda inputs: {"y": inputs["x"]})
    (tmp_path / "transform_fn/saved_model.pb").write_bytes(b"\xff" * 99)
    with pytest.raises(DatasetError, match=r"saved_model.pb: expected a SavedModel"):
        saved.on_stored(BATCH)


def test_every_allowed_operation_is_one_of_tensorflows() -> None:
    assert [name for name in sorted(ALLOWED) if op_def_registry.get(name) is None] == []


def test_no_operation_that_reaches_out_is_allowed() -> None:
    signs = (
        "File",
        "PyFunc",
        "Save",
        "Restore",
        "Checkpoint",
        "Dataset",
        "Reader",
        "Summary",
        "Debug",
        "Rpc",
        "Remote",
    )
    signs += ("Send", "Recv", "Collective", "Iterator", "Queue", "Stage", "Proto", "Abort", "ImmutableConst", "Print")
    suspects = [name for name in ALLOWED if any(sign in name for sign in signs)]
    assert suspects == ["InitializeTableFromTextFileV2"]
