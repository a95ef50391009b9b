"""Images that a list names: what is joined, paired and left out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import list_images

from penstock.pipeline import Csv, Images, RequestError, folder, join, references, table


def write(root: Path, rows: Sequence[Mapping[str, Any]], name: str = "list.jsonl") -> str:
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(root)


def test_a_list_gives_keys_places_sizes_and_etags(tmp_path: Path):
    root = write(tmp_path, [{"uri": "s3://b/2.jpg", "size": 5, "etag": "aa"}, {"uri": "x/1.jpg"}])
    first, second = list_images(Images(uris="list.jsonl"), root).references
    assert (first.key, first.uri, first.size, first.etag) == ("b/2.jpg", "s3://b/2.jpg", 5, "aa")
    assert (second.key, second.uri, second.size, second.etag) == ("x/1.jpg", f"{root}/x/1.jpg", -1, "")


def test_labels_masks_and_columns_of_the_list(tmp_path: Path):
    row = {"uri": "1.jpg", "breed": "Bengal", "mask": "s3://m/1.png", "split": "test", "age": 3}
    root = write(tmp_path, [row, {**row, "uri": "2.jpg", "breed": ""}, {**row, "uri": "3.jpg", "mask": None}])
    source = Images(uris=references("list.jsonl", label="breed", mask="mask", columns=["split", "age"]))
    listing = list_images(source, root)
    (reference,) = listing.references
    assert (reference.label, reference.mask) == ("Bengal", "s3://m/1.png")
    assert reference.columns == {"split": "test", "age": 3}
    assert [(problem.key, problem.stage, problem.code) for problem in listing.problems] == [
        ("2.jpg", "plan", "label_missing"),
        ("3.jpg", "plan", "mask_missing"),
    ]


def test_labels_that_are_integers_are_stored_as_such(tmp_path: Path):
    root = write(tmp_path, [{"uri": "1.jpg", "class": 7, "n": 1}, {"uri": "2.jpg", "class": None, "n": 2}])
    listing = list_images(Images(uris=references("list.jsonl", label="class", columns=["n"])), root)
    (reference,) = listing.references
    assert (reference.label, reference.columns) == ("7", {"n": 1, "label": 7})
    assert [problem.code for problem in listing.problems] == ["label_missing"]


def test_rows_that_do_not_fit_are_quarantined(tmp_path: Path):
    (tmp_path / "list.csv").write_text("uri,class,n\n1.jpg,7,1\n2.jpg,7\n3.jpg,8,3\n")
    listing = list_images(Images(uris=references("list.csv", label="class", columns=["n"])), str(tmp_path))
    assert [reference.key for reference in listing.references] == ["1.jpg", "3.jpg"]
    assert [(problem.key, problem.stage) for problem in listing.problems] == [("list.csv:1", "plan")]


def test_labels_by_rules_of_the_key(tmp_path: Path):
    root = write(tmp_path, [{"uri": "s3://b/cat/cat_1.jpg"}, {"uri": "gs://c/dog/dog_2.jpg"}])
    (tmp_path / "labels.csv").write_text("cat_1,x\nc/dog/dog_2.jpg,y\n")
    for label, expected in (
        (folder(), ["cat", "dog"]),
        (r"(\w+)_\d", ["cat", "dog"]),
        (table("labels.csv"), ["x", "y"]),
    ):
        found = list_images(Images(uris="list.jsonl", label=label), root).references
        assert [reference.label for reference in found] == expected


def test_masks_are_found_in_the_list(tmp_path: Path):
    names = ["images/1.jpg", "images/2.jpg", "images/3.jpg", "masks/1.png", "masks/2.png"]
    root = write(tmp_path, [{"uri": f"s3://b/{name}", "size": 1} for name in names])
    source = Images("b/images/*.jpg", uris="list.jsonl", mask="b/masks/{stem}.png")
    listing = list_images(source, root)
    assert {reference.key: reference.mask for reference in listing.references} == {
        f"b/images/{number}.jpg": f"s3://b/masks/{number}.png" for number in (1, 2)
    }
    assert [(problem.key, problem.code) for problem in listing.problems] == [("b/images/3.jpg", "mask_missing")]


def test_two_masks_of_one_key_are_refused(tmp_path: Path):
    uris = ["s3://b/images/1.jpg", "s3://b/masks/1.png", "gs://b/masks/1.png"]
    root = write(tmp_path, [{"uri": uri} for uri in uris])
    with pytest.raises(RequestError, match=r"one mask of each key in the list, found 'b/masks/1\.png' for gs"):
        list_images(Images("b/images/*.jpg", uris="list.jsonl", mask="b/masks/{stem}.png"), root)


def test_two_rows_of_one_key_are_refused(tmp_path: Path):
    root = write(tmp_path, [{"uri": "s3://b/1.jpg"}, {"uri": "gs://b/1.jpg"}])
    with pytest.raises(RequestError, match=r"found 'b/1\.jpg' for gs://b/1\.jpg and for s3://b/1\.jpg"):
        list_images(Images(uris="list.jsonl"), root)
    with pytest.raises(RequestError, match="expected one example of each key"):
        list_images(Images(uris="list.jsonl"), write(tmp_path, [{"uri": "s3://b/1.jpg"}] * 2))
    root = write(tmp_path, [{"uri": "s3://b/1.jpg", "id": 1}, {"uri": "gs://b/1.jpg", "id": 2}])
    listing = list_images(Images(uris=references("list.jsonl", key="id")), root)
    assert [reference.key for reference in listing.references] == ["1", "2"]


def test_sizes_of_the_list_are_believed_while_planning(tmp_path: Path):
    root = write(tmp_path, [{"uri": "s3://b/1.jpg", "size": 1000}, {"uri": "s3://b/2.jpg", "size": 10}])
    listing = list_images(Images(uris="list.jsonl", max_bytes=100), root)
    assert [(problem.key, problem.code) for problem in listing.problems] == [("b/1.jpg", "too_large")]


def test_a_changed_list_is_another_input(tmp_path: Path):
    rows = [{"uri": "s3://b/1.jpg", "size": 5, "label": "a"}, {"uri": "s3://b/2.jpg", "size": 5, "label": "a"}]

    def digest() -> str:
        return list_images(Images(uris=references("list.jsonl", label="label")), str(tmp_path)).digest

    write(tmp_path, rows)
    before = digest()
    assert digest() == before
    write(tmp_path, [rows[0], {**rows[1], "label": "longer"}])
    assert digest() != before


def test_tables_are_joined_to_listed_images(tmp_path: Path):
    root = write(tmp_path, [{"uri": "s3://b/1.jpg", "n": 1}, {"uri": "s3://b/2.jpg", "n": 2}])
    (tmp_path / "t.csv").write_text("name,age\n1,5\n2,6\n")
    listed = Images(uris=references("list.jsonl", columns=["n"]))
    joined = join(listed, Csv("t.csv", columns={"name": "string", "age": "int64"}), on="name")
    found = list_images(joined, root).references
    assert [reference.columns for reference in found] == [{"n": 1, "age": 5}, {"n": 2, "age": 6}]
