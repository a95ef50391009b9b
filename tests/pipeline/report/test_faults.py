"""What of the quarantine and of duplicates is shown."""

from penstock.pipeline.report.faults import choose, first_of_each_split


def test_some_examples_of_each_reason_are_shown():
    lines = [{"code": "corrupt", "key": f"{number:03d}"} for number in range(100)] + [{"code": "rare", "key": "x"}]
    shown = choose(lines, 10)
    assert len(shown) == 10
    assert [line["code"] for line in shown].count("rare") == 1


def test_members_of_other_splits_and_labels_come_first():
    members = [
        {"key": "a", "split": "train", "label": "x"},
        {"key": "b", "split": "train", "label": "x"},
        {"key": "c", "split": "test", "label": "x"},
    ]
    assert [member["key"] for member in first_of_each_split(members)] == ["a", "c", "b"]
