"""Images whose files are members of archives: labels, masks and lists work on their keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers import list_images, tar, zipped

from penstock.pipeline import Csv, Images, RequestError, folder, join, references, sibling, table
from penstock.pipeline.sources.archive_members import name_of
from penstock.pipeline.storage import files, stores

PACKED = {"cat/1.jpg": b"1", "cat/2.jpg": b"2", "dog/3.jpg": b"3", "masks/1.png": b"-", "masks/2.png": b"-"}


def keys_and_labels(source: Any, root: Path) -> dict[str, str | None]:
    return {reference.key: reference.label for reference in list_images(source, str(root)).references}


def masks(source: Images, root: Path) -> dict[str, str]:
    found = list_images(source, str(root)).references
    return {reference.key: name_of(reference.mask).removeprefix(f"{root}/") for reference in found if reference.mask}


def write(root: Path, archives: Mapping[str, bytes]) -> Path:
    for name, content in archives.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_labels_by_rule_by_folder_and_by_list(tmp_path: Path):
    root = write(tmp_path, {"in/a.zip": zipped(PACKED), "labels.csv": b"1.jpg,x\ndog/3.jpg,y\nin/a.zip!/cat/2.jpg,z\n"})
    expected = {"in/a.zip!/cat/1.jpg": "cat", "in/a.zip!/cat/2.jpg": "cat", "in/a.zip!/dog/3.jpg": "dog"}
    pattern = "in/*.zip!/**/*.jpg"
    assert keys_and_labels(Images(pattern, folder()), root) == expected
    assert keys_and_labels(Images(pattern, r".*/(\w+)/\d\.jpg"), root) == expected
    assert set(keys_and_labels(Images(pattern, folder(0)), root).values()) == {"in"}
    assert set(keys_and_labels(Images(pattern, folder(-2)), root).values()) == {"a"}  # of an archive its name
    listed = keys_and_labels(Images("in/a.zip!/cat/*.jpg", table("labels.csv")), root)
    assert listed == {"in/a.zip!/cat/1.jpg": "x", "in/a.zip!/cat/2.jpg": "z"}


def test_labels_of_siblings(tmp_path: Path):
    root = write(tmp_path, {"0.tar": tar({"0.jpg": b"0", "0.cls": b"cat", "1.jpg": b"1"})})
    listing = list_images(Images("*.tar!/*.jpg", label=sibling(".cls")), str(root))
    assert [(reference.key, reference.label) for reference in listing.references] == [("0.tar!/0.jpg", "cat")]
    assert [(problem.key, problem.code) for problem in listing.problems] == [("0.tar!/1.jpg", "label_missing")]
    assert listing.problems[0].uri == f"{root}/0.tar!/1.jpg"


def test_masks_beside_images_in_the_archive_in_another_and_in_a_folder(tmp_path: Path):
    shard = tar({f"d/{name}": b"" for name in ("1.jpg", "1.seg.png", "2.jpg", "2.seg.png")})
    root = write(
        tmp_path,
        {"s/0.tar": shard, "s/1.tar": shard, "a.zip": zipped(PACKED), "m.zip": zipped({"1.png": b"", "2.png": b""})},
    )
    write(root, {"m/1.png": b"", "m/2.png": b""})
    assert masks(Images("s/*.tar!/**/*.jpg", mask="{dir}/{stem}.seg.png"), root) == {
        f"s/{n}.tar!/d/{name}.jpg": f"s/{n}.tar!/d/{name}.seg.png" for n in (0, 1) for name in (1, 2)
    }
    assert masks(Images("a.zip!/cat/*.jpg", mask="a.zip!/masks/{stem}.png"), root) == {
        f"a.zip!/cat/{name}.jpg": f"a.zip!/masks/{name}.png" for name in (1, 2)
    }
    assert masks(Images("a.zip!/cat/*.jpg", mask="m.zip!/*.png"), root) == {
        f"a.zip!/cat/{name}.jpg": f"m.zip!/{name}.png" for name in (1, 2)
    }
    assert masks(Images("a.zip!/cat/*.jpg", mask="m/{stem}.png"), root) == {
        f"a.zip!/cat/{name}.jpg": f"m/{name}.png" for name in (1, 2)
    }


def test_archives_that_several_patterns_lead_into_are_looked_into_once(tmp_path: Path):
    content = {f"{folder}/{name}": b"" for folder in ("a", "b") for name in ("1.jpg", "1.seg.png")}
    root = f"memory://{tmp_path.name}/in"
    for name in ("0.tar", "1.tar"):
        files.write_bytes(f"{root}/{name}", tar(content))
    files.write_bytes(f"{root}/c/1.jpg", b"")
    files.write_bytes(f"{root}/c/1.seg.png", b"")
    source = Images(["*.tar!/a/*.jpg", "0.tar!/b/*.jpg", "*.tar!/**/1.jpg", "c/*.jpg"], mask="{dir}/{stem}.seg.png")
    before = stores.COUNTS.snapshot().get("get", 0)
    found = list_images(source, root).references
    assert stores.COUNTS.snapshot()["get"] - before == 2
    assert [(reference.key, name_of(reference.mask or "").removeprefix(f"{root}/")) for reference in found] == [
        (f"{folder}/1.jpg", f"{folder}/1.seg.png") for folder in ("0.tar!/a", "0.tar!/b", "1.tar!/a", "1.tar!/b", "c")
    ]


def test_tables_join_by_members_names(tmp_path: Path):
    root = write(tmp_path, {"a.zip": zipped(PACKED), "t.csv": b"name,age\n1,5\n2.jpg,6\n"})
    joined = join(Images("a.zip!/cat/*.jpg"), Csv("t.csv", columns={"name": "string", "age": "int64"}), on="name")
    found = {reference.key: reference.columns for reference in list_images(joined, str(root)).references}
    assert found == {"a.zip!/cat/1.jpg": {"age": 5}, "a.zip!/cat/2.jpg": {"age": 6}}


def test_a_changed_archive_is_another_input(tmp_path: Path):
    def digest() -> str:
        return list_images(Images("a.zip!/cat/*.jpg"), str(tmp_path)).digest

    write(tmp_path, {"a.zip": zipped(PACKED)})
    before = digest()
    assert digest() == before
    write(tmp_path, {"a.zip": zipped({**PACKED, "cat/1.jpg": b"7" * 9})})
    assert digest() != before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pattern": "a.zip!/"}, "both sides of !/"),
        ({"pattern": "!/a.jpg"}, "both sides of !/"),
        ({"pattern": "*.jpg", "mask": "!/a.png"}, "both sides of !/"),
        ({"pattern": "../a.zip!/*.jpg"}, "relative to --input"),
        ({"uris": "l.csv", "pattern": "a.zip!/*.jpg"}, "expected no archives"),
        ({"uris": "l.csv", "label": sibling(".cls")}, "expected no archives"),
        ({"uris": "l.csv", "mask": "m.zip!/{stem}.png"}, "expected no archives"),
        ({"uris": references("l.csv", label="a"), "label": "b"}, "to tell the label, found both"),
        ({"uris": references("l.csv", mask="a"), "mask": "b"}, "to tell the mask, found both"),
        ({"uris": 7}, "expected a path"),
        ({}, "expected a pattern"),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], message: str):
    with pytest.raises(RequestError, match=message):
        Images(**fields)


def test_labels_of_siblings_are_of_members_alone(tmp_path: Path):
    write(tmp_path, {"1.jpg": b"1"})
    with pytest.raises(RequestError, match="patterns of members of archives"):
        list_images(Images("*.jpg", label=sibling(".cls")), str(tmp_path))
