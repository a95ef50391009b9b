"""What the host does of a graph, and what is left to a device that may have no 64-bit numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_datasets import constant, operation, portable, write

from penstock.pipeline import RequestError
from penstock.pipeline.graph.executor import CompiledGraph
from penstock.pipeline.graph.portable import PortableGraph
from penstock.pipeline.load import open_dataset

MISSING = -(2**63)
K = np.array([0, 7, MISSING, 0, 3], np.int64)
MASK = np.arange(15, dtype=np.uint8).reshape(5, 3)
S = np.array([b"a", b"b", b"?", b"", b"b"], object)

# (k - 2.5) where k is there, else -1; whether it is not there
COLUMN = [
    operation("Equal", ["input:k", "c0"], "t0", "bool"),
    operation("ZerosLike", ["input:k"], "t1", "int64"),
    operation("SelectV2", ["t0", "t1", "input:k"], "t2", "int64"),
    operation("Cast", ["t2"], "t3", "float64", DstT="float64"),
    operation("Sub", ["t3", "c1"], "t4", "float64"),
    operation("SelectV2", ["t0", "c2", "t4"], "t5", "float64"),
    operation("Cast", ["t5"], "t6", "float32", DstT="float32"),
    operation("Cast", ["t0"], "t7", "int64", DstT="int64"),
]
CONSTANTS = {"c0": np.array(MISSING), "c1": np.array(2.5), "c2": np.array(-1.0)}
EXPECTED = [-2.5, 4.5, -1.0, -2.5, 0.5]


def _graph(operations: list[dict[str, Any]], constants: Mapping[str, Any], outputs: Mapping[str, str]) -> PortableGraph:
    dtypes = {entry["output"]: entry["dtype"] for entry in operations}
    content = {
        "format": 1,
        "inputs": {
            "k": {"dtype": "int64", "shape": []},
            "mask": {"dtype": "uint8", "shape": [3]},
            "s": {"dtype": "string", "shape": []},
        },
        "outputs": {name: {"value": value, "dtype": dtypes[value]} for name, value in outputs.items()},
        "constants": {name: constant(np.asarray(value)) for name, value in constants.items()},
        "tables": {"v": {"asset": "vocabulary", "size": 2}},
        "operations": operations,
        "unsupported": [],
    }
    return PortableGraph(content, lambda path: b"a\nb\n")


def _kinds(graph: PortableGraph) -> list[str]:
    return [node.kind for node in graph.device]


def test_numbers_that_need_64_bits_are_the_hosts_part() -> None:
    graph = _graph(COLUMN, CONSTANTS, {"y": "t6", "absent": "t7"})
    assert _kinds(graph) == ["Cast"]  # of the truth values
    host = graph.run_host({"k": K})
    assert {name: str(value.dtype) for name, value in host.items()} == {"t0": "bool", "y": "float32"}
    assert host["y"].tolist() == EXPECTED


def test_integers_that_fit_32_bits_stay_the_devices_part() -> None:
    operations = [
        operation("Cast", ["input:mask"], "t0", "int64", DstT="int64"),
        operation("Sub", ["t0", "c0"], "t1", "int64"),
        operation("Reshape", ["t1", "c1"], "t2", "int64"),
        operation("Cast", ["input:mask"], "t6", "int64", DstT="int64"),
        operation("Mul", ["t6", "c2"], "t3", "int64"),
        operation("LookupTableFindV2", ["input:s", "c3"], "t4", "int64", table="v"),
        operation("OneHot", ["t4", "c4", "c5", "c6"], "t5", "float32", axis=-1),
    ]
    constants = {
        "c0": np.array(1), "c1": np.array([-1, 1, 3], np.int32), "c2": np.array(10**9), "c3": np.array(-1),
        "c4": np.int32(2), "c5": np.float32(1), "c6": np.float32(0),
    }  # fmt: skip
    graph = _graph(operations, constants, {"classes": "t2", "large": "t3", "hot": "t5"})
    assert [node.kind for node in graph.host] == ["Cast", "Mul", "LookupTableFindV2"]
    assert _kinds(graph) == ["Cast", "Sub", "Reshape", "OneHot"]


def test_shapes_do_not_travel() -> None:
    operations = [
        operation("Cast", ["input:k"], "t0", "float64", DstT="float64"),
        operation("Shape", ["t0"], "t1", "int32", out_type="int32"),
        operation("Bucketize", ["t0"], "t2", "int32", boundaries=[1.0]),
        operation("Reshape", ["t2", "t1"], "t3", "int32"),
        operation("Shape", ["t3"], "t4", "int32", out_type="int32"),
        operation("Reshape", ["t3", "t4"], "t5", "int32"),
        operation("Add", ["t5", "c0"], "t6", "int32"),
    ]
    graph = _graph(operations, {"c0": np.int32(1)}, {"y": "t6"})
    host = graph.run_host({"k": K})
    assert all(len(value) == len(K) for value in host.values())
    compiled = CompiledGraph(graph, True, {"k": K[:1]})
    made = compiled.allocate(len(K), {"k": K}, np.empty)
    compiled.into({"k": K}, made)
    assert made.keys() == host.keys()
    for name, value in host.items():
        np.testing.assert_array_equal(made[name], value)
    assert graph.run_device(host)["y"].tolist() == [1, 2, 1, 1, 2]


def test_an_output_may_have_the_name_of_an_input_that_goes_on() -> None:
    operations = [
        operation("Cast", ["input:mask"], "t0", "float64", DstT="float64"),
        operation("Mul", ["t0", "c0"], "t1", "float64"),
        operation("Cast", ["t1"], "t2", "float32", DstT="float32"),
        operation("Add", ["input:mask", "c1"], "t3", "uint8"),
    ]
    graph = _graph(operations, {"c0": np.array(0.5), "c1": np.uint8(1)}, {"mask": "t2", "more": "t3"})
    found = graph.run_device(graph.run_host({"mask": MASK}))
    np.testing.assert_array_equal(found["mask"], MASK * np.float32(0.5))
    np.testing.assert_array_equal(found["more"], MASK + 1)
    assert found.keys() == {"mask", "more"}


@pytest.mark.extras("jax")
def test_jax_tells_zero_from_missing() -> None:
    import jax

    graph = _graph(COLUMN, CONSTANTS, {"y": "t6", "absent": "t7"})
    found = jax.jit(graph.run_device)(graph.run_host({"k": K}))
    assert found["y"].tolist() == EXPECTED
    assert found["absent"].tolist() == [0, 0, 1, 0, 0]
    assert found["absent"].dtype == np.int32


def _dataset(tmp_path: Path, factor: int) -> Any:
    """`absent`: whether a row is the smallest int64; `product`: the row times a factor."""
    content = portable()
    content["operations"] += [
        operation("Equal", ["input:row", "c4"], "t5", "bool"),
        operation("Mul", ["input:row", "c5"], "t6", "int64"),
    ]
    content["constants"] |= {"c4": constant(np.array(MISSING)), "c5": constant(np.array(factor))}
    content["outputs"] |= {"absent": {"value": "t5", "dtype": "int64"}, "product": {"value": "t6", "dtype": "int64"}}
    return open_dataset(str(write(tmp_path, graph=content)))


@pytest.mark.extras("jax")
def test_jax_batches_tell_zero_from_missing(tmp_path: Path) -> None:
    for batch in _dataset(tmp_path, 1000).jax("train", 21):
        assert batch["absent"].tolist() == [0] * 21
        assert batch["product"].tolist() == list(range(0, 21000, 1000))


@pytest.mark.extras("jax")
def test_jax_refuses_integers_that_it_would_change(tmp_path: Path) -> None:
    import jax

    dataset = _dataset(tmp_path, 3 * 10**9)
    with pytest.raises(RequestError, match=r"feature 'product': expected integers of 32 bits.*found 60000000000; call"):
        next(iter(dataset.jax("train", 21)))
    with jax.enable_x64(True):
        assert next(iter(dataset.jax("train", 21)))["product"].tolist() == list(range(0, 63 * 10**9, 3 * 10**9))
