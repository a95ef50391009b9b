import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from helpers import stored, tar, zipped

from penstock.pipeline import RequestError
from penstock.pipeline.sources.archive_members import MemberAddress, Packing
from penstock.pipeline.sources.archives import (
    Archive,
    ArchiveContent,
    ListedMember,
    is_archive_pattern,
    look_into,
    split_pattern,
)
from penstock.pipeline.sources.listed_payload import read_payload
from penstock.pipeline.storage import files
from penstock.pipeline.storage.stores import COUNTS

FILES = {"cat/1.jpg": b"one" * 500, "cat/1.cls": b"7", "dog/2.jpg": b"two", "notes.md": b""}


PACKERS = pytest.mark.parametrize("pack", [tar, zipped, stored])


def look(root: object, contents: Mapping[str, bytes], pattern: str, **options: Callable[[str], bool]) -> ArchiveContent:
    """Writes an archive, and lists its members."""
    name, patterns = split_pattern(pattern)
    uri = f"{root}/{name}"
    for path, content in contents.items():
        files.write_bytes(f"{root}/{path}", content)
    (found,) = look_into([Archive(name, files.describe(uri), {0: patterns})], **options)
    return found


def keys(found: ArchiveContent) -> list[str]:
    return [member.key for member in found.members]


@PACKERS
def test_members_that_match_are_found_and_read(tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]):
    found = look(tmp_path, {"train.bin": pack(FILES)}, "train.bin!/**/*.jpg")
    assert keys(found) == ["train.bin!/cat/1.jpg", "train.bin!/dog/2.jpg"]
    assert [read_payload(member.uri, member.size) for member in found.members] == [b"one" * 500, b"two"]
    assert found.warnings == []


@PACKERS
def test_a_store_is_asked_once_for_an_index_and_once_for_a_member(pack: Callable[[Mapping[str, bytes]], bytes]):
    root = f"memory://archives-{pack.__name__}/in"
    files.write_bytes(f"{root}/a", pack({f"{number}.jpg": b"x" * 1000 for number in range(100)}))
    before = COUNTS.snapshot().get("get", 0)
    (found,) = look_into([Archive("a", files.describe(f"{root}/a"), {0: ("*.jpg",)})])
    indexed = COUNTS.snapshot()["get"]
    assert indexed - before <= 3  # the first bytes, and of a zip file those at its end and its directory
    assert [read_payload(member.uri, 1000) for member in found.members] == [b"x" * 1000] * 100
    assert COUNTS.snapshot()["get"] - indexed == 100


@PACKERS
def test_archives_in_archives(tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]):
    inner = {"n01.tar": tar({"n01_1.JPEG": b"1", "n01_2.JPEG": b"2"}), "n02.tar": tar({"n02_1.JPEG": b"3"})}
    found = look(tmp_path, {"all": (stored if pack is zipped else pack)(inner)}, "all!/*.tar!/*.JPEG")
    assert keys(found) == ["all!/n01.tar!/n01_1.JPEG", "all!/n01.tar!/n01_2.JPEG", "all!/n02.tar!/n02_1.JPEG"]
    assert [read_payload(member.uri, 1) for member in found.members] == [b"1", b"2", b"3"]


def test_a_zip_file_in_a_tar_file(tmp_path: Path):
    found = look(tmp_path, {"all.tar": tar({"a": b"-" * 700, "in.zip": zipped(FILES)})}, "all.tar!/in.zip!/**/*.jpg")
    assert [read_payload(member.uri, member.size) for member in found.members] == [b"one" * 500, b"two"]


def test_an_archive_that_is_compressed_in_another_is_refused(tmp_path: Path):
    with pytest.raises(RequestError, match=r"n01\.tar: expected an archive that is stored"):
        look(tmp_path, {"all.zip": zipped({"n01.tar": tar({"1.JPEG": b"1"})})}, "all.zip!/*.tar!/*.JPEG")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08" + bytes(600), "found gzip; unpack it to a tar file"),
        (b"BZh9" + bytes(600), "found bzip2"),
        (b"\xfd7zXZ\0" + bytes(600), "found xz"),
        (b"no archive", "found none"),
        (tar(FILES)[:1000], "a tar file"),
        (zipped(FILES)[:200], "found none"),
    ],
)
def test_what_is_no_archive_is_refused_by_name(tmp_path: Path, content: bytes, words: str):
    with pytest.raises(RequestError, match=words) as caught:
        look(tmp_path, {"train.tar": content}, "train.tar!/*")
    assert str(tmp_path / "train.tar") in str(caught.value)


@pytest.mark.parametrize("name", ["PK.jpg", "BZh9.jpg", "Rar!.jpg"])
def test_a_tar_file_may_begin_with_any_name(tmp_path: Path, name: str):
    assert keys(look(tmp_path, {"a.tar": tar({name: b"x"})}, "a.tar!/*")) == [f"a.tar!/{name}"]


def test_an_empty_archive_has_no_members(tmp_path: Path):
    assert keys(look(tmp_path, {"a.tar": tar({})}, "a.tar!/*")) == []
    assert keys(look(tmp_path, {"a.zip": zipped({})}, "a.zip!/*")) == []


def test_of_members_of_one_name_the_last_is_taken_and_told(tmp_path: Path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for content in (b"old", b"newer"):
            info = tarfile.TarInfo("1.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = look(tmp_path, {"a.tar": buffer.getvalue()}, "a.tar!/*.jpg")
    assert [read_payload(member.uri) for member in found.members] == [b"newer"]
    assert len(found.warnings) == 1
    assert "holds 1 members whose names follow once more" in found.warnings[0]


def test_the_content_of_siblings_comes_with_them(tmp_path: Path):
    for pack in (tar, zipped):
        found = look(tmp_path, {"a": pack(FILES)}, "a!/**/*.jpg", keep=lambda name: name.endswith(".cls"))
        assert [(member.key, member.content) for member in found.members if member.content] == [("a!/cat/1.cls", b"7")]


def test_many_archives_come_in_their_order(tmp_path: Path):
    root = "memory://many-archives/in"
    for number in range(30):
        files.write_bytes(f"{root}/{number:02}.tar", tar({f"{number}.jpg": b"x"}))
    archives = [
        Archive(f"{number:02}.tar", files.describe(f"{root}/{number:02}.tar"), {0: ("*.jpg",)}) for number in range(30)
    ]
    found = [member for content in look_into(archives) for member in content.members]
    assert [member.key for member in found] == [f"{number:02}.tar!/{number}.jpg" for number in range(30)]


def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path):
    data = tar({"a?.jpg": b"x"})
    header = bytearray(data[:512])
    header[1] = 0xFF
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * 32)
    found = look(tmp_path, {"a.tar": bytes(header) + data[512:]}, "a.tar!/*")
    (member,) = found.members
    assert member.problem[0] == "name_not_utf8"
    assert member.key == "a.tar!/a\\udcff.jpg"


@pytest.mark.parametrize(
    "address",
    [
        MemberAddress("s3://b/a.tar", "cat/1.jpg", 512, 1500, 1500, None, '"d41d8-3"'),
        MemberAddress("/in/wow!/a.zip", "x#tar:1:2:3:4:5.jpg", 0, 700, 1500, Packing(8, 600, 0xAB), "123-1.5"),
        MemberAddress("gs://b/a#b.tar", "n.tar!/1.jpg", 1 << 50, 7, 7, None, ""),
        MemberAddress("/in/a.tar", "line\nbreak", 1, 2, 2, None, "v"),
    ],
)
def test_an_address_is_a_string_and_back(address: MemberAddress):
    assert MemberAddress.parse(str(address)) == address


@pytest.mark.parametrize("uri", ["s3://b/a.jpg", "/in/wow!/a.jpg", "/in/a.tar!/b#tar:3:1:1:1:v", "/in/a!/b#tar:x"])
def test_other_uris_are_no_addresses(uri: str):
    assert MemberAddress.parse(uri) is None


def test_patterns():
    assert is_archive_pattern("a.zip!/*.jpg")
    assert not is_archive_pattern("a/*.jpg")
    assert split_pattern("a/*.tar!/*.tar!/**/*.jpg") == ("a/*.tar", ("*.tar", "**/*.jpg"))
    for pattern in ("!/a.jpg", "a.zip!/", "a.tar!/!/b"):
        with pytest.raises(RequestError, match="both sides of !/"):
            split_pattern(pattern)


def test_members_with_problems_keep_their_place(tmp_path: Path):
    data = zipped({"a.jpg": b"a", "b.jpg": b"b"})
    at = data.index(b"PK\1\2")
    found = look(tmp_path, {"a.zip": data[: at + 8] + b"\1\0" + data[at + 10 :]}, "a.zip!/*.jpg")
    assert [member.problem[0] for member in found.members] == ["encrypted", ""]
    assert isinstance(found.members[0], ListedMember)
