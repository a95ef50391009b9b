from penstock.pipeline.splits.labels import missing_labels


def test_a_label_that_a_split_lacks_is_named():
    (warning,) = missing_labels({"train": {"cat": 5, "dog": 3, "eel": 1}, "test": {"cat": 2, "dog": 0}})
    assert warning.startswith("split 'test' has no example of 2 of 3 labels: 'dog', 'eel'; by_hash(..., stratify=")


def test_many_missing_labels_are_counted():
    (warning,) = missing_labels({"train": {f"{number:02d}": 9 for number in range(30)}, "test": {"00": 9}})
    assert "29 of 30 labels: '01', '02', '03', '04', '05', …" in warning


def test_what_is_no_class_is_not_told():
    assert missing_labels({"train": {"cat": 1}, "test": {"cat": 1}}) == []
    assert missing_labels({"train": {"cat": 5}, "test": {}}) == []  # a split without any labels is no missing class
    prices = {"train": {f"{number}": 1 for number in range(800)}, "test": {f"{number}": 1 for number in range(9, 99)}}
    assert missing_labels(prices) == []
    many = {"train": {f"{number}": 9 for number in range(2000)}, "test": {"1": 9}}
    assert missing_labels(many) == []
