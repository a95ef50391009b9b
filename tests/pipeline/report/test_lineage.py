"""Where outputs come from."""

from penstock.pipeline.report.lineage import operations_of, sources_of

CONTENT = {
    "operations": [
        {"op": "Cast", "inputs": ["input:a"], "output": "t0"},
        {"op": "Sub", "inputs": ["t0", "c0"], "output": "t1"},
        {"op": "Add", "inputs": ["t1", "input:b"], "output": "t2"},
    ],
    "outputs": {"x": {"value": "t1"}, "y": {"value": "t2"}, "z": {"value": "c0"}, "w": {"value": "input:b"}},
}


def test_an_output_has_the_features_behind_it():
    assert sources_of(CONTENT) == {"w": ["b"], "x": ["a"], "y": ["a", "b"], "z": []}


def test_an_output_has_its_operations_in_order():
    assert operations_of(CONTENT) == {"w": [], "x": ["Cast", "Sub"], "y": ["Cast", "Sub", "Add"], "z": []}
