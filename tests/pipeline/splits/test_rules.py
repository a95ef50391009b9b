import pyarrow as pa
import pytest

from penstock.pipeline import RequestError, by_folder, by_hash, by_path

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
KEYS = [f"patient{number % 7}/photo_{number:02d}.jpg" for number in range(40)]


def splits(rule, keys):
    return dict(zip(keys, rule.assign(pa.array(keys)).to_pylist(), strict=True))


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
