import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.pipeline.load import open_dataset
from penstock.pipeline.load.apply import Applied
from penstock.pipeline.load.graph import Graph, NotPortableError

from .datasets import _constant, operation, portable, write

X = np.array([-1.5, 0.0, 2.0, np.nan], np.float32)
S = np.array([b"a", b"b", b"?", b""], object)


def _run(operations: list[dict[str, Any]], constants: dict[str, np.ndarray], output: str, dtype: str) -> np.ndarray:
    content = {
        "format": 1,
        "inputs": {"x": {"dtype": "float32", "shape": []}, "s": {"dtype": "string", "shape": []}},
        "outputs": {"y": {"value": output, "dtype": dtype}},
        "constants": {name: _constant(np.asarray(value)) for name, value in constants.items()},
        "tables": {"v": {"asset": "vocabulary"}},
        "operations": operations,
        "unsupported": [],
    }
    graph = Graph(json.loads(json.dumps(content)), lambda path: b"a\nb\n")
    batch = {"x": X, "s": S}
    whole = graph.run_device(graph.run_host(batch))["y"]
    applied = Applied(graph, False, {"x": X[:1], "s": S[:1]})
    out = applied.allocate(4, batch, np.empty)
    applied.into(batch, out)
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
    graph = Graph(portable(), lambda path: b"cat\ndog\n")
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
        Graph(content, lambda path: b"")


def test_one_bucket_for_all_that_a_vocabulary_lacks() -> None:
    operations = [
        operation("LookupTableFindV2", ["input:s", "c0"], "t0", "int64", table="v"),
        operation("StringToHashBucketFast", ["input:s"], "t1", "int64", num_buckets=1),
        operation("LookupTableSizeV2", [], "t2", "int64", table="v"),
        operation("AddV2", ["t1", "t2"], "t3", "int64"),
        operation("NotEqual", ["t0", "c0"], "t4", "bool"),
        operation("SelectV2", ["t4", "t0", "t3"], "t5", "int64"),
    ]
    assert _run(operations, {"c0": np.array(-1)}, "t5", "int64").tolist() == [0, 1, 2, 2]
