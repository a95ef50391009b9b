import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_datasets import constant, operation, portable, write

from penstock.pipeline import DatasetError, RequestError
from penstock.pipeline.graph.executor import CompiledGraph
from penstock.pipeline.graph.placement import LOOKUP
from penstock.pipeline.graph.portable import NotPortableError, PortableGraph
from penstock.pipeline.load import Dataset, open_dataset

X = np.array([-1.5, 0.0, 2.0, np.nan], np.float32)
S = np.array([b"a", b"b", b"?", b""], object)


def _graph(
    operations: list[dict[str, Any]], constants: dict[str, Any], output: str | None = None, dtype: str | None = None
) -> PortableGraph:
    """A graph of x and s, with one output: y, what the last operation makes."""
    last = operations[-1] if operations else {}
    content = {
        "format": 1,
        "inputs": {"x": {"dtype": "float32", "shape": []}, "s": {"dtype": "string", "shape": []}},
        "outputs": {"y": {"value": output or last["output"], "dtype": dtype or last["dtype"]}},
        "constants": {name: constant(np.asarray(value)) for name, value in constants.items()},
        "tables": {"v": {"asset": "vocabulary", "size": 2}},
        "operations": operations,
        "unsupported": [],
    }
    return PortableGraph(json.loads(json.dumps(content)), lambda path: b"a\nb\n")


def _run(operations: list[dict[str, Any]], constants: dict[str, Any], output: str, dtype: str) -> np.ndarray:
    graph = _graph(operations, constants, output, dtype)
    batch = {"x": X, "s": S}
    whole = graph.run_device(graph.run_host(batch))["y"]
    compiled = CompiledGraph(graph, False, {"x": X[:1], "s": S[:1]})
    out = compiled.allocate(4, batch, np.empty)
    compiled.into(batch, out)
    np.testing.assert_array_equal(out["y"], whole)
    return np.asarray(whole)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("AddV2", X + 2),
        ("Mul", X * 2),
        ("RealDiv", X / 2),
        ("Maximum", np.maximum(X, 2)),
        ("SquaredDifference", (X - 2) ** 2),
        ("FloorMod", X % 2),
    ],
)
def test_arithmetic_with_a_constant(kind: str, expected: np.ndarray) -> None:
    found = _run([operation(kind, ["input:x", "c0"], "t0", "float32")], {"c0": np.float32(2)}, "t0", "float32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_vocabulary_is_the_hosts_part() -> None:
    look_up = operation("LookupTableFindV2", ["input:s", "c0"], "t0", "int64", table="v")
    assert _run([look_up], {"c0": np.array(-1)}, "t0", "int64").tolist() == [0, 1, -1, -1]


def test_buckets_and_one_hot() -> None:
    operations = [
        operation("Bucketize", ["input:x"], "t0", "int32", boundaries=[-1.0, 0.0]),
        operation("OneHot", ["t0", "c0", "c1", "c2"], "t1", "float32", axis=-1),
    ]
    constants = {"c0": np.int32(3), "c1": np.float32(1), "c2": np.float32(0)}
    found = _run(operations, constants, "t1", "float32")
    assert found[:3].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_shapes_are_followed() -> None:
    operations = [
        operation("Shape", ["input:x"], "t0", "int32", out_type="int32"),
        operation(
            "StridedSlice", ["t0", "c0", "c1", "c2"], "t1", "int32",
            begin_mask=0, end_mask=0, ellipsis_mask=0, new_axis_mask=0, shrink_axis_mask=1,
        ),
        operation("Pack", ["t1", "c3"], "t2", "int32", axis=0),
        operation("Reshape", ["input:x", "t2"], "t3", "float32"),
    ]  # fmt: skip
    constants = {"c0": np.array([0]), "c1": np.array([1]), "c2": np.array([1]), "c3": np.int32(1)}
    assert _run(operations, constants, "t3", "float32").shape == (4, 1)


def test_the_graph_divides_itself() -> None:
    graph = PortableGraph(portable(), lambda path: b"cat\ndog\n")
    assert [node.kind for node in graph.host] == ["LookupTableFindV2"]
    assert [node.kind for node in graph.device] == ["Cast", "Sub", "RealDiv", "Sub"]
    assert graph.between == {"image": "input:image", "mask": "input:mask", "row": "input:row", "label": "t3"}
    assert graph.inputs == ("image", "mask", "label", "row")


def test_what_is_not_portable_is_named(tmp_path: Path) -> None:
    content = {
        "format": 1,
        "inputs": portable()["inputs"],
        "unsupported": [{"op": "StringToHashBucketFast", "outputs": ["label"]}],
    }
    dataset = open_dataset(str(write(tmp_path, graph=content)))
    assert not dataset.transform.portable
    with pytest.raises(NotPortableError, match=r"StringToHashBucketFast \(for label\); use ds.tf"):
        dataset.numpy("train")
    assert next(iter(dataset.numpy("train", 2, features=False)))["row"].tolist() == [0, 1]


def test_an_operation_of_a_newer_penstock_is_named() -> None:
    content = portable()
    content["operations"][1]["op"] = "Fft"
    with pytest.raises(NotPortableError, match="Fft"):
        PortableGraph(content, lambda path: b"")


def test_one_bucket_for_all_that_a_vocabulary_lacks() -> None:
    operations = [
        operation("LookupTableFindV2", ["input:s", "c0"], "t0", "int64", table="v"),
        operation("StringToHashBucketFast", ["input:s"], "t1", "int64", num_buckets=1),
        operation("AddV2", ["t1", "c1"], "t2", "int64"),
        operation("NotEqual", ["t0", "c0"], "t3", "bool"),
        operation("SelectV2", ["t3", "t0", "t2"], "t4", "int64"),
    ]
    assert _run(operations, {"c0": np.array(-1), "c1": np.array(2)}, "t4", "int64").tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("strings", [["a", "b", "?", ""], np.array(["a", "b", "?", ""]), S.astype("S"), S.tolist()])
def test_strings_may_be_str(strings: Any) -> None:
    graph = _graph([operation("LookupTableFindV2", ["input:s", "c0"], "t0", "int64", table="v")], {"c0": np.array(-1)})
    assert graph.run_host({"s": strings})["y"].tolist() == [0, 1, -1, -1]


def test_what_is_no_text_is_refused() -> None:
    graph = _graph([operation("LookupTableFindV2", ["input:s", "c0"], "t0", "int64", table="v")], {"c0": np.array(-1)})
    with pytest.raises(RequestError, match="feature 's': expected strings, as bytes or str, found 0"):
        graph.run_host({"s": np.array([b"a", 0], object)})


def test_integers_as_text() -> None:
    operations = [
        operation("Cast", ["input:x"], "t0", "int64", DstT="int64"),
        operation("AsString", ["t0"], "t1", "string"),
    ]
    assert _run(operations, {}, "t1", "string").tolist() == [b"-1", b"0", b"2", b"-9223372036854775808"]


@pytest.mark.parametrize("shape", [(4,), (4, 5, 1), (4, 40, 40, 1)])
@pytest.mark.parametrize("kind", ["Sub", "Maximum"])
def test_a_constant_may_be_wider_than_the_data(shape: tuple[int, ...], kind: str) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    constant = np.array([0.1, 0.5, 0.9], np.float32)
    operations = [
        operation("ExpandDims", ["input:x", "c1"], "t0", "float32"),
        operation(kind, ["t0", "c0"], "t1", "float32"),
        operation("Mul", ["t1", "c0"], "t2", "float32"),
    ]
    graph = _graph(operations, {"c0": constant, "c1": np.int32(1)})
    whole = graph.run_device(graph.run_host({"x": values}))["y"]
    assert whole.shape[-1] == 3
    compiled = CompiledGraph(graph, False, {"x": values[:1]})
    made = compiled.allocate(4, {"x": values}, np.empty)
    compiled.into({"x": values}, made)
    np.testing.assert_array_equal(made["y"], whole)


@pytest.mark.parametrize("shared", [True, False])
def test_what_depends_on_one_string_is_computed_once_for_equal_ones(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = [
        operation(LOOKUP, ["input:s", "c0"], "t0", "int64", table="v"),
        operation("Cast", ["t0"], "t1", "float32", DstT="float32"),
        operation("AddV2", ["t1", "c1"], "t2", "float32"),
        operation("AddV2", ["t1", "input:x"], "t3", "float32"),  # needs another input, too
    ]
    graph = _graph(operations, {"c0": np.int64(-1), "c1": np.float32(5)})
    graph.outputs |= {"id": "t2"}
    graph._dtypes |= {"id": "float32"}
    words = [b"a", b"b", b"other"]
    strings = np.empty(12, object)
    strings[:] = [words[row % 3] if shared else bytes(bytearray(words[row % 3])) * 2 for row in range(12)]
    batch = {"x": np.arange(12, dtype=np.float32), "s": strings}
    whole = graph.run_device(graph.run_host(batch))
    looked_up: list[int] = []
    look_up = graph.look_up
    monkeypatch.setattr(
        graph, "look_up", lambda node, keys, other: looked_up.append(len(keys)) or look_up(node, keys, other)
    )
    compiled = CompiledGraph(graph, False, {name: values[:1] for name, values in batch.items()})
    looked_up.clear()
    made = compiled.allocate(12, batch, np.empty)
    compiled.into({name: values[2:] for name, values in batch.items()}, {name: out[2:] for name, out in made.items()})
    for name, values in whole.items():
        np.testing.assert_array_equal(made[name][2:], values[2:])
    assert sorted(looked_up) == ([3, 10] if shared else [10, 10])


@pytest.mark.filterwarnings("error")
def test_a_cast_of_nan_is_silent() -> None:
    graph = _graph([], {}, "input:x", "int64")
    assert graph.run_device(graph.run_host({"x": X}))["y"].tolist() == [-1, 0, 2, -(2**63)]
    compiled = CompiledGraph(graph, False, {"x": X[:1]})
    made = compiled.allocate(4, {"x": X}, np.empty)
    compiled.into({"x": X}, made)
    assert made["y"].tolist() == [-1, 0, 2, -(2**63)]


def test_what_a_batch_lacks_is_named(dataset: Dataset) -> None:
    batch = next(iter(dataset.numpy("train", 2, features=False)))
    del batch["label"]
    with pytest.raises(RequestError, match=r"decoded features .* found one without \['label'\]"):
        dataset.transform(batch)
    host = next(iter(dataset.numpy("train", 2, features="host")))
    del host["row"]
    assert dataset.transform.device(host).keys() == {"image", "label", "mask"}  # row only went through
    del host["mask"]
    with pytest.raises(RequestError, match=r"what the host's part computed, found one without \['mask'\]"):
        dataset.transform.device(host)


def test_a_newer_format_is_left_to_tensorflow(tmp_path: Path) -> None:
    dataset = open_dataset(str(write(tmp_path, graph={**portable(), "format": 2})))
    assert not dataset.transform.portable
    with pytest.raises(NotPortableError, match="expected a portable graph of format 1, found 2; install a newer"):
        dataset.numpy("train")


@pytest.mark.parametrize(("old", "new"), [(b'"format": 1', b'"format": ,'), (b'"inputs"', b'"inpits"')])
def test_a_damaged_graph_is_told(tmp_path: Path, old: bytes, new: bytes) -> None:
    dataset = open_dataset(str(write(tmp_path)))
    file = Path(dataset.transform.path) / "portable.json"
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(DatasetError, match=r"portable.json: expected .* damaged .*run `penstock verify`"):
        dataset.numpy("train")


def test_strings_have_their_outputs_names_also_where_an_input_has_two() -> None:
    content = {
        "format": 1,
        "inputs": {"x": {"dtype": "float32", "shape": []}, "s": {"dtype": "string", "shape": []}},
        "outputs": {
            **{name: {"value": "input:s", "dtype": "string"} for name in ("text", "again")},
            "y": {"value": "t0", "dtype": "float32"},
        },
        "constants": {},
        "tables": {},
        "operations": [operation("AddV2", ["input:x", "input:x"], "t0", "float32")],
        "unsupported": [],
    }
    graph = PortableGraph(content, lambda path: b"")
    host = graph.run_host({"x": X, "s": S})
    assert {name: values.tolist() for name, values in graph.strings(host).items()} == {
        "text": S.tolist(),
        "again": S.tolist(),
    }


def test_an_expression_that_may_take_forever_is_refused_when_the_graph_is_opened() -> None:
    replace = operation(
        "StaticRegexReplace", ["input:s"], "t0", "string", pattern="(a+)+b", rewrite="", replace_global=True
    )
    with pytest.raises(ValueError, match="repeats what may be empty or of several lengths"):
        _graph([replace], {})
