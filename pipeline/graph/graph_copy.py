"""A private copy of a saved transform graph, from which TensorFlow loads it, after a look at what it would run.

A SavedModel is a program: it may read and write any file. So a graph is copied first, only what TensorFlow needs of it;
and unless its author is trusted, only what has no other operations than those of `safe_operations`, in any function.
TensorFlow never opens a dataset's own files: what these are, links and pipes among them, and how their folder is called
is of no concern to it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from ..errors import DatasetError
from ..storage import files
from .safe_operations import ALLOWED, TABLE_FROM_FILE

MODEL = "saved_model.pb"
_VARIABLES = ("variables/variables.index", "variables/variables.data-00000-of-00001")
_TERMINALS = (b"", b"stderr", b"stdout", b"log(info)", b"log(warning)", b"log(error)")  # where tf.print may write
_SHOWN = 8


def copy_graph(path: str, target: str, trust: bool) -> None:
    """Copies a SavedModel as tf.Transform writes it.

    Args:
      path: The SavedModel's folder, `transform_fn`.
      target: An empty local folder.
      trust: Whether the graph may do whatever it wants; else it is checked.

    Raises:
      DatasetError: a file is missing or damaged, or the graph is not trusted and is not known to be harmless.
    """
    uri = files.join(path, MODEL)
    content = _read(uri)
    try:
        model = SavedModel.FromString(content)
    except DecodeError as error:
        raise DatasetError(f"{uri}: expected a SavedModel, found a damaged file; run `penstock verify`") from error
    if not trust:
        check_graph(model, uri)
    names = [f"assets/{asset.filename}" for graph in model.meta_graphs for asset in graph.asset_file_def]
    for name in names:
        if not _is_inside(name):
            raise DatasetError(f"{uri}: expected assets in the folder assets, found {name!r}; get the dataset again")
    copied = {name: _read(files.join(path, name)) for name in (*_VARIABLES, *names)}
    if not trust:
        confine(model, hashlib.sha256(b"".join([content, *copied.values()])).hexdigest())
    copied[MODEL] = model.SerializeToString(deterministic=True)
    for name, content in copied.items():
        files.write_bytes(files.join(target, name), content)


def find_obstacles(path: str) -> list[str]:
    """Why a graph is not known to be harmless, in words; nothing where it is.

    Args:
      path: The SavedModel's folder, `transform_fn`.
    """
    return _obstacles(SavedModel.FromString(files.read_bytes(files.join(path, MODEL))))


def check_graph(model: SavedModel, uri: str) -> None:
    """Raises DatasetError where a graph has anything that is not known to be harmless; nothing of it is run."""
    obstacles = _obstacles(model)
    if obstacles:
        more = f", and {len(obstacles) - _SHOWN} more" if len(obstacles) > _SHOWN else ""
        raise DatasetError(
            f"{uri}: expected a graph that only computes, found {'; '.join(obstacles[:_SHOWN])}{more}; nothing of it "
            "was run. Only if you trust whoever made it: open_dataset(..., trust=True), or --trust on the command "
            "line; features=False, `penstock inspect` and `penstock verify --no-graph` do without the graph"
        )


def confine(model: SavedModel, name: str) -> None:
    """Leaves in a checked graph only what is needed to load it, and gives its tables names of its own.

    The main graph is used for its constants alone, and the functions that it saves and restores checkpoints with, which
    name files, by nothing. Tables are shared by name within a process: those of two graphs must differ, or one could
    read what the other put there.

    Args:
      model: The graph, which is changed.
      name: What stands before the tables' names.
    """
    (meta_graph,) = model.meta_graphs
    graph = meta_graph.graph_def
    savers = _savers(meta_graph)
    kept = [function for function in graph.library.function if function.signature.name not in savers]
    constants = [node for node in graph.node if node.op == "Const"]
    for nodes in (constants, *(function.node_def for function in kept)):
        for node in nodes:
            if "shared_name" in node.attr and node.attr["shared_name"].s:
                node.attr["shared_name"].s = b"%s/%s" % (name.encode(), node.attr["shared_name"].s)
    for field, values in ((graph.node, constants), (graph.library.function, kept)):
        copies = [value.__class__.FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    meta_graph.ClearField("saver_def")


def _obstacles(model: SavedModel) -> list[str]:
    """Why a graph is not known to be harmless, in words."""
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        return ["a SavedModel that tf.Transform 1.x did not write"]
    (meta_graph,) = model.meta_graphs
    savers = _savers(meta_graph)
    functions = [f for f in meta_graph.graph_def.library.function if f.signature.name not in savers]
    names = {function.signature.name for function in functions}
    obstacles: dict[str, None] = {}
    for function in functions:
        for node in function.node_def:
            if node.op not in ALLOWED and node.op not in names and not _is_print(node):
                obstacles[f"{node.op} (in {function.signature.name})"] = None
    obstacles.update(dict.fromkeys(_foreign_tables(meta_graph, functions)))
    return list(obstacles)


def _is_print(node: Any) -> bool:
    """Whether a node prints to the terminal, and not into a file."""
    return node.op == "PrintV2" and node.attr["output_stream"].s in _TERMINALS


def _savers(meta_graph: Any) -> set[str]:
    """The functions that the main graph saves and restores checkpoints with; loading has code of its own for both."""
    saver = meta_graph.saver_def
    calls = {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}
    return {node.attr["f"].func.name for node in meta_graph.graph_def.node if node.name in calls and "f" in node.attr}


def _foreign_tables(meta_graph: Any, functions: Iterable[Any]) -> Iterator[str]:
    """The tables that are read from other files than the graph's assets, in words.

    A file's name must be what an asset of the object graph is bound to: an argument of a function that only loading
    calls.
    """
    called = set(_called(functions))
    concrete = meta_graph.object_graph_def.concrete_functions
    nodes = meta_graph.object_graph_def.nodes
    for function in functions:
        tables = [node for node in function.node_def if node.op == TABLE_FROM_FILE]
        if not tables:
            continue
        name = function.signature.name
        arguments = [argument.name for argument in function.signature.input_arg]
        bound = list(concrete[name].bound_inputs) if name in concrete else []
        captured = dict(zip(arguments[len(arguments) - len(bound) :], bound, strict=False))
        assets = {
            argument
            for argument, number in captured.items()
            if 0 <= number < len(nodes) and nodes[number].WhichOneof("kind") == "asset"
        }
        for node in tables:
            if name in called or len(node.input) < 2 or node.input[1] not in assets:
                yield f"a table that is read from a file that is no asset (in {name})"


def _called(functions: Iterable[Any]) -> Iterator[str]:
    """The names of what functions call, by an attribute or as an operation."""
    for function in functions:
        for node in function.node_def:
            yield node.op
            for value in node.attr.values():
                yield value.func.name
                yield from (each.name for each in value.list.func)


def _is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder."""
    return not any(part in ("", ".", "..") for part in name.split("/")) and "\0" not in name


def _read(uri: str) -> bytes:
    try:
        return files.read_bytes(uri)
    except FileNotFoundError as error:
        raise DatasetError(f"{uri}: a file of the transform graph is missing; run `penstock verify`") from error
