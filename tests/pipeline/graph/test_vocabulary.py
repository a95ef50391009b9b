import base64
import json
from typing import Any

import numpy as np
import pytest
from stored_datasets import constant, operation

from penstock.pipeline import RequestError
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.graph.portable import PortableGraph
from penstock.pipeline.graph.vocabulary import names_of_ids

FEATURES = {
    "label": Feature("label", "string", ()),
    "number": Feature("number", "int64", ()),
    "words": Feature("text", "string", (2,)),
    "x": Feature("number", "float32", ()),
}
TOKENS = [b"dog", "Kätzchen".encode(), b"10"]


def _graph() -> PortableGraph:
    outputs = {
        "plain": "t0", "shifted": "t1", "of_number": "t3", "is_cat": "t5", "sum": "t6", "of_words": "t7",
        "text": "input:label", "size": "input:x", "number": "input:number",
    }  # fmt: skip
    content = {
        "format": 1,
        "inputs": {name: {"dtype": each.dtype, "shape": list(each.shape)} for name, each in FEATURES.items()},
        "outputs": {name: {"value": value, "dtype": "int64"} for name, value in outputs.items()},
        "constants": {"c0": constant(np.array(-1)), "c1": constant(np.array(2)), "c2": _string(b"cat")},
        "tables": {"v": {"asset": "tokens", "size": 3}, "w": {"asset": "numbers", "size": 2}},
        "operations": [
            operation("LookupTableFindV2", ["input:label", "c0"], "t0", "int64", table="v"),
            operation("AddV2", ["t0", "c1"], "t1", "int64"),
            operation("AsString", ["input:number"], "t2", "string"),
            operation("LookupTableFindV2", ["t2", "c0"], "t3", "int64", table="w"),
            operation("Equal", ["input:label", "c2"], "t4", "bool"),
            operation("Cast", ["t4"], "t5", "int64", DstT="int64"),
            operation("AddV2", ["t0", "t3"], "t6", "int64"),
            operation("LookupTableFindV2", ["input:words", "c0"], "t7", "int64", table="v"),
        ],
        "unsupported": [],
    }
    assets = {"tokens": b"\n".join(TOKENS) + b"\n", "numbers": b"7\n-2\n"}
    return PortableGraph(json.loads(json.dumps(content)), assets.__getitem__)


def _string(value: bytes) -> dict[str, Any]:
    return {"dtype": "string", "shape": [], "data": [base64.b64encode(value).decode()]}


def _names(output: str, *known: bytes) -> list[str]:
    return names_of_ids(_graph(), output, FEATURES, {"label": known})


def test_ids_stand_for_the_keys_of_look_ups() -> None:
    assert _names("plain", b"never looked at") == ["dog", "Kätzchen", "10"]
    assert _names("shifted") == ["", "", "dog", "Kätzchen", "10"]
    assert _names("of_number") == ["7", "-2"]


def test_without_a_look_up_they_stand_for_what_is_known() -> None:
    assert _names("is_cat", b"dog", b"cat") == ["dog", "cat"]
    with pytest.raises(RequestError, match="expected an id for each value, found 0 in 'is_cat' for 'dog' and 'cow'"):
        _names("is_cat", b"dog", b"cat", b"cow")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("sum", "depends on one string or integer, found 'sum', which depends on label, number"),
        ("of_words", "'of_words', which depends on words"),
        ("size", "'size', which depends on x"),
        ("text", "expected an output of ids, found 'text'"),
        ("number", "'number', which has no look-up of 'number'"),
        ("other", r"expected one of the outputs \['is_cat', .*found 'other'"),
    ],
)
def test_what_has_no_ids_is_refused(output: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        _names(output, b"dog")
