from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import reference_table

from penstock.pipeline import RequestError, by_list
from penstock.pipeline.splits.lists import assign_lists
from penstock.pipeline.splits.rules import ByList


def assign(rule: ByList, keys: Sequence[str], root: Path) -> tuple[dict[str, str], list[str]]:
    """The split of each key that is in one, and warnings."""
    table = reference_table(keys)
    warnings = assign_lists(rule, table, str(root))
    return dict(table.database.rows("SELECT key, split FROM files JOIN listed_splits USING (rid)")), warnings


def test_by_list_finds_examples_by_any_of_their_names(tmp_path: Path):
    (tmp_path / "train.txt").write_text("# a remark\na/1.jpg ignored columns\n\na/2\n3.jpg\n4\n")
    (tmp_path / "test.csv").write_text('"b/5.jpg",x\n')
    keys = ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "b/5.jpg", "b/6.jpg"]
    splits, warnings = assign(by_list({"train": "train.txt", "test": "test.csv"}), keys, tmp_path)
    assert [splits.get(key) for key in keys] == ["train", "train", "train", "train", "test", None]
    assert warnings == []


def test_by_list_tells_of_rows_that_lead_nowhere(tmp_path: Path):
    (tmp_path / "train.txt").write_text("1\nnowhere\nnor_here\n")
    splits, warnings = assign(by_list({"train": "train.txt"}), ["1.jpg"], tmp_path)
    assert splits == {"1.jpg": "train"}
    assert len(warnings) == 1
    assert "names 2 examples that the input lacks, such as 'nowhere'" in warnings[0]


def test_by_list_refuses_an_example_in_two_lists(tmp_path: Path):
    (tmp_path / "train.txt").write_text("1\n2\n")
    (tmp_path / "test.txt").write_text("3.jpg\n2.jpg\n")
    with pytest.raises(RequestError, match=r"'2.jpg' is in split 'test' and in 'train', expected one"):
        assign(by_list({"train": "train.txt", "test": "test.txt"}), ["1.jpg", "2.jpg", "3.jpg"], tmp_path)


def test_by_list_refuses_a_name_of_two_examples(tmp_path: Path):
    (tmp_path / "train.txt").write_text("1\n")
    with pytest.raises(RequestError, match=r"'1' names 2 examples \(a/1.jpg, b/1.jpg"):
        assign(by_list({"train": "train.txt"}), ["a/1.jpg", "b/1.jpg"], tmp_path)


def test_by_list_names_a_list_that_is_not_there(tmp_path: Path):
    with pytest.raises(RequestError, match="expected a UTF-8 list"):
        assign(by_list({"train": "train.txt"}), ["1.jpg"], tmp_path)
