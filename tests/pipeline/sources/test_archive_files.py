import tarfile
from pathlib import Path
from typing import Any

import pytest
from helpers import tar, zipped

from penstock.pipeline import RequestError
from penstock.pipeline.sources.archive_files import list_with_members, sibling
from penstock.pipeline.sources.listed_payload import read_payload
from penstock.pipeline.sources.references import FileListing


def rows_of(listing: FileListing) -> list[dict[str, Any]]:
    return [row for batch in listing.batches for row in batch.to_pylist()]


def found(root: Path, *patterns: str, **options: Any) -> list[dict[str, Any]]:
    return rows_of(list_with_members(str(root), patterns, "images", **options))


def test_members_of_several_archives_and_files_beside_them(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(zipped({"cat/1.jpg": b"1", "x.txt": b"-"}))
    (tmp_path / "b.tar").write_bytes(tar({"./2.jpg": b"22"}))
    (tmp_path / "3.jpg").write_bytes(b"333")
    rows = found(tmp_path, "*.jpg", "*.zip!/**/*.jpg", "*.tar!/**/*.jpg")
    assert [(row["key"], row["size"]) for row in rows] == [("3.jpg", 3), ("a.zip!/cat/1.jpg", 1), ("b.tar!/2.jpg", 2)]
    assert [read_payload(row["uri"], row["size"]) for row in rows] == [b"333", b"1", b"22"]
    assert {(row["code"], row["message"]) for row in rows} == {(None, None)}
    assert not any(row["etag"] for row in rows)  # an archive's would make members of one size duplicates


def test_a_listing_depends_on_its_archives(tmp_path: Path):
    def digest(content: bytes) -> str:
        (tmp_path / "a.tar").write_bytes(content)
        listing = list_with_members(str(tmp_path), ["*.tar!/*.jpg"], "images")
        assert [row["key"] for row in rows_of(listing)] == ["a.tar!/1.jpg"]
        return listing.digest

    assert digest(tar({"1.jpg": b"1"})) != digest(tar({"1.jpg": b"1", "2.png": b"1" * 600}))


@pytest.mark.parametrize("pattern", ["none.tar!/*", "a.tar!/*.png"])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, pattern: str):
    (tmp_path / "a.tar").write_bytes(tar({"1.jpg": b"1"}))
    with pytest.raises(RequestError, match="expected images at"):
        found(tmp_path, pattern)
    assert rows_of(list_with_members(str(tmp_path), [pattern], "")) == []


def test_an_archive_that_cannot_be_read_is_refused(tmp_path: Path):
    (tmp_path / "a.tar").symlink_to("nowhere")
    with pytest.raises(RequestError, match=r"a\.tar: expected an archive that can be read, found a link to nowhere"):
        found(tmp_path, "*.tar!/*.jpg")


@pytest.mark.parametrize("pack", [tar, zipped])
def test_labels_of_siblings(tmp_path: Path, pack: Any):
    content = {
        "000.jpg": b"1",
        "000.cls": b"7\n",
        "d/001.cls": "\ufeffcät".encode(),
        "d/001.jpg": b"2",
        "002.left.jpg": b"3",
        "002.cls": b"9",
        "003.jpg": b"4",
        "004.jpg": b"5",
        "004.cls": b"\xff",
    }
    (tmp_path / "0.tar").write_bytes(pack(content))
    rows = found(tmp_path, "*.tar!/**/*.jpg", labels=sibling(".cls"))
    assert {row["key"].removeprefix("0.tar!/"): (row["label"], row["code"]) for row in rows} == {
        "000.jpg": ("7", None),
        "d/001.jpg": ("cät", None),
        "002.left.jpg": ("9", None),
        "003.jpg": (None, None),  # which leaves it out, as any source does
        "004.jpg": (None, "label_unreadable"),
    }


def test_labels_of_json_siblings(tmp_path: Path):
    content = {
        **{f"{number}.jpg": b"-" for number in range(6)},
        "0.json": b'{"class": "cat"}',
        "1.json": b'{"class": 5, "x": 1}',
        "2.json": b'{"x": 1}',
        "3.json": b'{"class": 1.5}',
        "4.json": b"{",
        "5.json": b"[]",
    }
    (tmp_path / "0.tar").write_bytes(tar(content))
    rows = found(tmp_path, "0.tar!/*.jpg", labels=sibling(".json", "class"))
    assert [(row["label"], row["code"]) for row in rows] == [
        ("cat", None),
        ("5", None),
        (None, None),
        (None, "label_unreadable"),
        (None, "label_unreadable"),
        (None, None),
    ]


def test_a_file_that_is_called_as_a_member_is_no_example(tmp_path: Path):
    secret, name = tmp_path / "secret", f"x!/1.jpg#tar:{len(str(tmp_path)) + 2}:0:3:3:"
    secret.write_bytes(b"key")
    (tmp_path / "x!").mkdir()
    (tmp_path / name).write_bytes(b"1")
    (tmp_path / "x!" / "2.jpg").write_bytes(b"2")
    rows = found(tmp_path, "**/*.jpg*")
    assert {row["key"]: row["code"] for row in rows} == {"x!/2.jpg": None, name: "unsupported_uri"}


def test_siblings_are_no_images_and_of_members_alone(tmp_path: Path):
    (tmp_path / "0.tar").write_bytes(tar({"0.jpg": b"1", "0.txt": b"a"}))
    assert [row["key"] for row in found(tmp_path, "0.tar!/*.jpg", labels=sibling(".txt"))] == ["0.tar!/0.jpg"]
    assert len(found(tmp_path, "0.tar!/*", labels=sibling(".txt"))) == 2
    with pytest.raises(RequestError, match="patterns of members of archives"):
        found(tmp_path, "*.jpg", labels=sibling(".txt"))
    for suffix in ("cls", "", "/x.cls", 7):
        with pytest.raises(RequestError, match=r"an extension such as '\.cls'"):
            sibling(suffix)  # type: ignore[arg-type]


def test_members_that_cannot_be_read_are_told(tmp_path: Path):
    data = zipped({"a.jpg": b"a", "b.jpg": b"b"})
    at = data.index(b"PK\1\2")
    (tmp_path / "a.zip").write_bytes(data[: at + 8] + b"\1\0" + data[at + 10 :])
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        link = tarfile.TarInfo("c.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "lost.jpg"
        archive.addfile(link)
    rows = found(tmp_path, "*.zip!/*", "*.tar!/*")
    assert [(row["key"], row["code"]) for row in rows] == [
        ("a.zip!/a.jpg", "encrypted"),
        ("a.zip!/b.jpg", None),
        ("b.tar!/c.jpg", "not_a_file"),
    ]
    assert rows[2]["message"] == "a link to 'lost.jpg', which the tar file lacks"
