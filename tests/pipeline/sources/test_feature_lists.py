"""tf.train.SequenceExample: feature lists are read as lists, and never dropped without a word."""

import pytest

from penstock.pipeline.errors import RequestError
from penstock.pipeline.sources.feature_lists import has_feature_lists
from penstock.pipeline.sources.tfrecord import TfRecord

SIZES = [1, 1 << 30]


def fill(feature, value):
    kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(value)]
    getattr(feature, kind).value.append(value)


def sequence_example(context, lists):
    """Feature lists as lists of steps; a step is a value, or a list of values."""
    from tensorflow.core.example import example_pb2

    message = example_pb2.SequenceExample()
    for name, value in context.items():
        fill(message.context.feature[name], value)
    for name, steps in lists.items():
        message.feature_lists.feature_list[name].SetInParent()
        for step in steps:
            feature = message.feature_lists.feature_list[name].feature.add()
            for value in step if isinstance(step, list) else [step]:
                fill(feature, value)
    return message.SerializeToString()


@pytest.fixture
def write(tmp_path):
    from penstock.pipeline.formats.tfrecord import RecordWriter

    def _write(*records):
        with (tmp_path / "t.tfrecord").open("wb") as file:
            RecordWriter(file).append(records)
        return tmp_path

    return _write


@pytest.mark.parametrize("size", SIZES)
def test_feature_lists_of_one_value_a_step_are_lists(write, read_all, size):
    root = write(
        sequence_example({"id": 1}, {"words": [b"a", b"b", b"a"], "f": [0.5], "none": []}),
        sequence_example({"id": 2}, {}),
        sequence_example({}, {"words": [], "n": [7]}),
    )
    read = read_all(TfRecord("t.tfrecord", columns={"words": "list<string>", "*": "auto"}), root, size)
    assert [{name: value for name, value in row.items() if value} for row in read.rows] == [
        {"id": 1, "words": ["a", "b", "a"], "f": [0.5]},
        {"id": 2},
        {"n": [7]},
    ]
    types = {field.name: str(field.type) for field in read.listing.schema.columns}
    assert (types["id"], types["f"], types["n"]) == ("int64", "list<item: double>", "list<item: int64>")


@pytest.mark.parametrize("size", SIZES)
def test_a_step_without_one_value_costs_its_record_where_it_is_read(write, read_all, size):
    good = [sequence_example({"id": number}, {"x": [number, 5]}) for number in range(4)]
    bad = [sequence_example({"id": 8}, {"x": [1, [2, 3]]}), sequence_example({"id": 9}, {"x": [[]]})]
    root = write(*good[:2], *bad, *good[2:])
    read = read_all(TfRecord("t.tfrecord"), root, size)
    assert [row["x"] for row in read.rows] == [[0, 5], [1, 5], [2, 5], [3, 5]]
    assert read.codes == {2: "wrong_type", 3: "wrong_type"}
    assert "record 2: expected one value in each step of the feature list 'x', found 2" in read.problems[0].message
    assert any("'x'" in warning and "2 records" in warning for warning in read.listing.warnings)
    assert len(read_all(TfRecord("t.tfrecord", columns={"id": "int64"}), root, size).rows) == 6


def test_lists_of_lists_are_refused_by_name(write):
    root = write(sequence_example({"id": 1}, {"x": [[0.5, 1.5], [2.5, 3.5]]}))
    with pytest.raises(RequestError, match=r"record 0: expected one value in each step of the feature list 'x', found"):
        TfRecord("t.tfrecord").find(str(root), 1000)
    root = write(sequence_example({"x": 1}, {"x": [1]}))
    with pytest.raises(RequestError, match="expected other names of feature lists than of context features, found 'x'"):
        TfRecord("t.tfrecord").find(str(root), 1000)


def test_only_records_with_feature_lists_have_some():
    long = sequence_example({"s": b"x" * 100_000}, {})
    assert [has_feature_lists(record) for record in (long, b"", b"\x0a", b"\x0a\xff\xff", b"\xff")] == [False] * 5
    assert has_feature_lists(sequence_example({"s": b"x" * 100_000}, {"x": []}))
    assert has_feature_lists(sequence_example({}, {"x": [1]}))
    assert not has_feature_lists(b"\x0a" + 10 * b"\x80" + b"\x00\x12")  # a length has ten bytes at most
