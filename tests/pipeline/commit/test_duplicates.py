import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers import Committed, draw, run_job

from penstock.pipeline import Images, Recipe, by_folder, by_list
from penstock.pipeline.commit import duplicates
from penstock.pipeline.commit.duplicates import Duplicates, group, in_words, warnings

COPIES = {
    "train/b.png": "train/images/cat_001.png",  # within a split
    "test/c.png": "train/images/cat_002.png",  # across splits
    "train/a.png": "train/images/cat_002.png",
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("duplicates")
    draw(root / "train", 6, seed=1)
    draw(root / "test", 6, seed=2)
    for copy, original in COPIES.items():
        shutil.copy(root / original, root / copy)
    return root


def recipe(**fields: Any) -> Recipe:
    return Recipe(source=Images(["*/images/*.png", "*/*.png"]), splits=by_folder(), shards=3, **fields)


def test_duplicates_are_reported_within_and_across_splits(raw: Path, tmp_path: Path):
    manifest = run_job(recipe(), raw, tmp_path).manifest
    assert manifest.written == 15
    duplicates = manifest.duplicates
    assert (duplicates.groups, duplicates.across_splits) == (2, 1)
    leak = duplicates.examples[0]
    assert leak["examples"] == [
        {"key": "test/c.png", "split": "test"},
        {"key": "train/a.png", "split": "train"},
        {"key": "train/images/cat_002.png", "split": "train"},
    ]
    groups = json.loads((tmp_path / duplicates.file.path).read_text())
    within = {"key": "train/b.png", "split": "train"}, {"key": "train/images/cat_001.png", "split": "train"}
    assert sorted(len(group["examples"]) for group in groups) == [2, 3]
    assert list(within) in [group["examples"] for group in groups]


def test_of_duplicates_the_smallest_key_stays(raw: Path, tmp_path: Path):
    manifest = run_job(recipe(deduplicate=True), raw, tmp_path).manifest
    assert (manifest.read, manifest.written, manifest.filtered) == (15, 12, 3)
    assert manifest.reasons.filtered == {"duplicate": 3}
    assert manifest.duplicates.groups == 0
    assert manifest.duplicates.file is None
    dataset = Committed(tmp_path, raw, manifest)
    keys = {example["key"].decode() for split in ("train", "test") for example in dataset.examples(split)}
    assert {"train/b.png", "test/c.png"} <= keys
    assert not {"train/a.png", "train/images/cat_001.png", "train/images/cat_002.png"} & keys


def test_a_duplicate_of_what_is_in_no_split_stays(raw: Path, tmp_path: Path):
    """Else neither of them would be in the dataset."""
    source = tmp_path / "raw"
    shutil.copytree(raw, source)
    (source / "lists").mkdir()
    (source / "lists" / "train.txt").write_text("train/images/cat_001.png\n")  # and not its copy, train/b.png
    listed = Recipe(
        source=Images(["*/images/*.png", "*/*.png"]),
        splits=by_list({"train": "lists/train.txt"}),
        deduplicate=True,
    )
    manifest = run_job(listed, source, tmp_path / "dataset").manifest
    assert manifest.written == 1
    assert sum(manifest.reasons.filtered.values()) == 14
    assert "duplicate" not in manifest.reasons.filtered


def unit(examples: list[tuple[str, str, str, str | None]]) -> pa.Table:
    """The hashes of examples: content, key, split, label."""
    contents, keys, splits, labels = (list(column) for column in zip(*examples, strict=True))
    return pa.table(
        {
            "content_hash": pa.array([hashlib.sha256(content.encode()).digest() for content in contents]),
            "key": keys,
            "label": pa.array(labels, pa.string()),
            "split": splits,
        }
    )


def find(*units: list[tuple[str, str, str, str | None]], rows_at_a_time: int = 1000) -> Duplicates:
    tables = [unit(examples) for examples in units]
    return group(range(len(tables)), tables.__getitem__, sum(map(len, tables)), rows_at_a_time)


ROWS = [
    (f"content {number % 701}", f"a.csv:{number}", "test" if number % 5 == 0 else "train", None)
    for number in range(900)
]


def test_the_file_is_as_json_indents_it():
    rows = [
        ("a", 'é "1".csv:1', "train", "caf\u00e9"), ("a", "\\b.csv:2", "test", None), ("b", "c", "train", None),
        ("b", "d", "train", "x"),
    ]  # fmt: skip
    listed = find(rows).listed
    assert len(listed) == 2
    assert duplicates.encode(listed) == (json.dumps(listed, indent=1) + "\n").encode()


def test_hashes_that_begin_alike_are_told_apart():
    table = unit([(str(number), f"a.csv:{number}", "train", None) for number in range(4)])
    contents = [b"8 bytes." + rest * 24 for rest in (b"b", b"a", b"b", b"a")]
    found = group([0], lambda _: table.set_column(0, "content_hash", pa.array(contents)), 4)
    keys = [[example["key"] for example in each["examples"]] for each in found.listed]
    assert keys == [["a.csv:1", "a.csv:3"], ["a.csv:0", "a.csv:2"]]


@pytest.mark.parametrize("rows_at_a_time", [1000, 300, 7])
def test_groups_are_the_same_however_many_are_held(rows_at_a_time: int):
    found = find(ROWS[:500], ROWS[500:650], ROWS[650:], rows_at_a_time=rows_at_a_time)
    pairs = [(number, number + 701) for number in range(199)]
    is_test = [number % 5 == 0 for number in range(900)]
    across = [pair for pair in pairs if is_test[pair[0]] != is_test[pair[1]]]
    assert (found.groups, found.across_splits, found.contradicting) == (199, len(across), 0)
    assert sum(found.shared.values()) == 2 * len(across) > 0
    listed = {tuple(example["key"] for example in each["examples"]) for each in found.listed}
    assert listed == {tuple(sorted((f"a.csv:{first}", f"a.csv:{second}"))) for first, second in pairs}
    hashes = [each["content_hash"] for each in found.listed]
    assert hashes[len(across) :] == sorted(hashes[len(across) :])


@pytest.mark.parametrize("copies", [1, 3, 200])
def test_groups_are_found_among_many_that_equal_nothing(copies: int):
    """Few of them are found one by one; where they are many, all examples are sorted."""
    singles = [(f"content {number}", f"a.csv:{number}", "train", None) for number in range(1000)]
    found = find(singles, [(content, f"b{key}", split, label) for content, key, split, label in singles[:copies]])
    assert found.groups == copies
    assert {tuple(example["key"] for example in each["examples"]) for each in found.listed} == {
        (f"a.csv:{number}", f"ba.csv:{number}") for number in range(copies)
    }


@pytest.mark.parametrize("rows_at_a_time", [1000, 10])
def test_important_groups_are_listed_first_wherever_they_are(monkeypatch: pytest.MonkeyPatch, rows_at_a_time: int):
    monkeypatch.setattr(duplicates, "_LISTED", 50)
    found = find(ROWS, rows_at_a_time=rows_at_a_time)
    splits = [{example["split"] for example in each["examples"]} for each in found.listed]
    assert found.across_splits > 50
    assert splits == [{"train", "test"}] * 50
    monkeypatch.setattr(duplicates, "_LISTED", found.across_splits + 20)
    found = find(ROWS, rows_at_a_time=rows_at_a_time)
    hashes = [each["content_hash"] for each in found.listed]
    assert len(hashes) == found.across_splits + 20
    assert hashes[: found.across_splits] == sorted(hashes[: found.across_splits])
    assert hashes[found.across_splits :] == sorted(hashes[found.across_splits :])


def test_a_large_group_shows_the_labels_that_contradict_each_other():
    examples = [("c", f"{label}/{number:02}.png", "train", label) for label in ("cat", "dog") for number in range(30)]
    found = find(examples)
    shown = [(example["key"], example["label"]) for example in found.listed[0]["examples"]]
    assert shown == [*((f"cat/{number:02}.png", "cat") for number in range(19)), ("dog/00.png", "dog")]
    assert (
        "such as cat/00.png (train, cat) = dog/00.png (train, dog) = cat/01.png (train, cat) = …"
        in warnings(found, {"train": 60})[0]
    )


def test_groups_of_a_kind_are_told_though_none_of_them_is_listed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duplicates, "_LISTED", 2)
    contents = sorted("abc", key=lambda content: hashlib.sha256(content.encode()).digest())
    alike = [(content, content + split, split, "x") for content in contents[2:] for split in ("train", "test")]
    differ = [(content, content + label, "train", label) for content in contents[:2] for label in "xy"]
    found = find(alike, differ, rows_at_a_time=2)
    assert (len(found.listed), found.across_splits, found.contradicting) == (2, 1, 2)
    assert "1 of 1 examples of 'test' (100 %)" in warnings(found, {"train": 5, "test": 1})[0]


def test_the_share_of_a_split_that_stands_in_another_is_told():
    train = [(f"row {number}", f"a.csv:{number}", "train", None) for number in range(100)]
    test = [(f"row {number}", f"b.csv:{number}", "test", None) for number in range(90, 110)]
    found = find(train, test)
    assert found.shared == {"train": 10, "test": 10}
    (warning,) = warnings(found, {"train": 100, "test": 20})
    assert warning.startswith("10 of 20 examples of 'test' (50 %), 10 of 100 examples of 'train' (10 %) equal examples")
    assert "a.csv:9" in warning
    assert "deduplicate=True" in warning


def test_labels_that_contradict_each_other_are_told():
    found = find(
        [("x", "cat/1.jpg", "train", "cat"), ("y", "cat/2.jpg", "train", "cat"), ("x", "dog/1.jpg", "train", "dog")]
    )
    assert (found.groups, found.across_splits, found.contradicting) == (1, 0, 1)
    (warning,) = warnings(found, {"train": 3})
    assert "1 groups of equal examples have labels that contradict" in warning
    assert "cat/1.jpg (train, cat) = dog/1.jpg (train, dog)" in warning


def test_a_large_group_is_shown_with_some_of_each_split():
    rows = [("x", f"a.csv:{number:04d}", "train" if number < 990 else "test", None) for number in range(1000)]
    (listed,) = find(rows).listed
    assert listed["count"] == 1000
    assert [len(list(part)) for _, part in itertools.groupby(example["split"] for example in listed["examples"])] == [
        20,
        10,
    ]
    assert in_words(listed) == "a.csv:0000 (train) = a.csv:0990 (test) = a.csv:0001 (train) = …"


def test_units_of_which_more_is_known_are_listed_with_others():
    """As of images, some of which have numbers that float32 rounds."""
    tables = [unit([("x", "1.jpg", "train", None)]), unit([("x", "2.jpg", "train", None)])]
    tables[1] = tables[1].append_column("doubles", pa.array([0.1]))
    (listed,) = group(range(2), tables.__getitem__, 2).listed
    assert [example["key"] for example in listed["examples"]] == ["1.jpg", "2.jpg"]


def test_no_examples_have_no_duplicates():
    assert find() == Duplicates()
    assert warnings(Duplicates(), {}) == []
