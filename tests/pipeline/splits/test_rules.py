from pathlib import Path

import pytest

from penstock.pipeline import RequestError, by_folder, by_hash, by_list, by_path

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
KEYS = [f"patient{number % 7}/photo_{number:02d}.jpg" for number in range(40)]


def splits(rule, keys, root="."):
    names, warnings = rule.assign(keys, str(root))
    assert not warnings
    return dict(zip(keys, names, strict=True))


def test_membership_by_hash_is_this_for_good():
    names = "validation validation validation train train train train train train validation train validation"
    assert list(splits(by_hash(SHARES), KEYS[:12]).values()) == names.split()


def test_adding_files_moves_no_example_to_another_split():
    before = splits(by_hash(SHARES), KEYS[::3])
    after = splits(by_hash(SHARES), sorted([*KEYS, *(f"more/{number}.jpg" for number in range(500))]))
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("group", [r"patient\d", r"(patient\d)/", r"(?P<group>patient\d)/(photo)"])
def test_a_group_stays_together(group: str):
    found = splits(by_hash(SHARES, group), KEYS)
    patients = {key.partition("/")[0]: set() for key in KEYS}
    for key, split in found.items():
        patients[key.partition("/")[0]].add(split)
    assert all(len(names) == 1 for names in patients.values())
    assert len(set(found.values())) > 1


def test_a_key_without_a_group_is_named():
    with pytest.raises(RequestError, match=r"group in every key, found nothing in 'other/1.jpg'"):
        splits(by_hash(SHARES, r"patient\d"), ["patient1/1.jpg", "other/1.jpg"])


def test_by_folder_takes_the_outermost_folder():
    keys = ["train/cat/1.jpg", "test/1.jpg"]
    assert splits(by_folder(), keys) == {"train/cat/1.jpg": "train", "test/1.jpg": "test"}
    with pytest.raises(RequestError, match="split in every key"):
        splits(by_folder(), ["train/1.jpg", "1.jpg"])


def test_by_path_searches_the_key():
    assert splits(by_path(r"_(?P<split>train|test)\."), ["a/1_train.jpg", "b/2_test.jpg"]) == {
        "a/1_train.jpg": "train",
        "b/2_test.jpg": "test",
    }


def test_by_list_finds_examples_by_any_of_their_names(tmp_path: Path):
    (tmp_path / "train.txt").write_text("# a remark\na/1.jpg ignored columns\n\na/2\n3.jpg\n4\n")
    (tmp_path / "test.csv").write_text('"b/5.jpg",x\n')
    keys = ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "b/5.jpg", "b/6.jpg"]
    names, warnings = by_list({"train": "train.txt", "test": "test.csv"}).assign(keys, str(tmp_path))
    assert names == ["train", "train", "train", "train", "test", None]
    assert warnings == []


def test_by_list_tells_of_rows_that_lead_nowhere(tmp_path: Path):
    (tmp_path / "train.txt").write_text("1\nnowhere\nnor_here\n")
    names, warnings = by_list({"train": "train.txt"}).assign(["1.jpg"], str(tmp_path))
    assert names == ["train"]
    assert len(warnings) == 1
    assert "names 2 examples that the input lacks, such as 'nowhere'" in warnings[0]


def test_by_list_refuses_an_example_in_two_lists(tmp_path: Path):
    (tmp_path / "train.txt").write_text("1\n2\n")
    (tmp_path / "test.txt").write_text("3.jpg\n2.jpg\n")
    with pytest.raises(RequestError, match=r"'2.jpg' is in split 'test' and in 'train', expected one"):
        by_list({"train": "train.txt", "test": "test.txt"}).assign(["1.jpg", "2.jpg", "3.jpg"], str(tmp_path))


def test_by_list_refuses_a_name_of_two_examples(tmp_path: Path):
    (tmp_path / "train.txt").write_text("1\n")
    with pytest.raises(RequestError, match=r"'1' names 2 examples \(a/1.jpg, b/1.jpg"):
        by_list({"train": "train.txt"}).assign(["a/1.jpg", "b/1.jpg"], str(tmp_path))


def test_by_list_names_a_list_that_is_not_there(tmp_path: Path):
    with pytest.raises(RequestError, match="expected a UTF-8 list"):
        by_list({"train": "train.txt"}).assign(["1.jpg"], str(tmp_path))
