import io
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable

import pytest

from penstock.pipeline.sources import zip_members
from penstock.pipeline.sources.archive_members import ArchiveError, Member
from penstock.pipeline.sources.index_reader import IndexReader

FILES = {"cat/1.jpg": b"one" * 500, "cat/2.jpg": b"", "dog/3.jpg": bytes(range(256)) * 20}


def pack(
    files: dict[str, bytes] | Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED, prefix: bytes = b""
) -> bytes:
    buffer = io.BytesIO(prefix)
    buffer.seek(len(prefix))
    with zipfile.ZipFile(buffer, "a", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that stand there twice
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return buffer.getvalue()


def reader(data: bytes, block: int = 64) -> IndexReader:
    return IndexReader(lambda begin, length: data[begin : begin + length], 0, len(data), block)


def members(data: bytes, keep: Callable[[str], bool] = lambda name: False) -> dict[str, Member]:
    return {member.name: member for member in zip_members.read_zip(reader(data), keep)}


def content(data: bytes, member: Member) -> bytes:
    assert member.packing is not None
    return zip_members.unpack(data[member.begin : member.begin + member.length], member.packing, member.size)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\nexec unzip $0\n"])
def test_every_member_is_one_read(compression: int, prefix: bytes):
    data = pack(FILES, compression, prefix)
    found = members(data)
    assert {name: content(data, member) for name, member in found.items()} == FILES
    assert {name: member.size for name, member in found.items()} == {name: len(each) for name, each in FILES.items()}


def test_folders_are_no_members():
    assert list(members(pack({"cat/": b"", **FILES}))) == list(FILES)


def test_members_of_more_than_65535_entries_and_large_ones():
    many = pack({f"{number}.txt": b"x" for number in range(66_000)}, zipfile.ZIP_STORED)
    assert b"PK\6\6" in many
    assert len(members(many)) == 66_000
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("large.bin", "w", force_zip64=True) as file:
        file.write(b"abc")
    data = buffer.getvalue()
    assert content(data, members(data)["large.bin"]) == b"abc"


def test_sizes_beyond_32_bits_are_in_the_extra_field():
    extra = struct.pack("<2H3Q", 1, 24, 5 << 32, 4 << 32, 3 << 32)
    assert zip_members._large(extra, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF) == (5 << 32, 4 << 32, 3 << 32)
    assert zip_members._large(struct.pack("<2HQ", 1, 8, 3 << 32), 7, 6, 0xFFFFFFFF) == (7, 6, 3 << 32)


@pytest.mark.parametrize(
    ("written", "flags", "extra", "name"),
    [
        (b"a.jpg", 0, b"", "a.jpg"),
        ("é.jpg".encode(), 0x800, b"", "é.jpg"),
        ("é.jpg".encode(), 0, b"", "é.jpg"),  # macOS
        ("é.jpg".encode("cp437"), 0, b"", "é.jpg"),
        (
            b"_.jpg",
            0,
            struct.pack("<2HBL", 0x7075, 5 + len("ж.jpg".encode()), 1, zlib.crc32(b"_.jpg")) + "ж.jpg".encode(),
            "ж.jpg",
        ),
        (b"_.jpg", 0, struct.pack("<2HBL", 0x7075, 6, 1, 1) + b"x", "_.jpg"),  # of a name that was changed since
    ],
)
def test_names_are_in_utf_8_or_cp437(written: bytes, flags: int, extra: bytes, name: str):
    assert zip_members._decode(written, flags, extra) == name


def test_names_are_keys_and_lead_nowhere():
    assert list(members(pack({"/etc/x.jpg": b"", "./b//c.jpg": b"", "../d.jpg": b""}))) == [
        "etc/x.jpg",
        "b/c.jpg",
        "../d.jpg",
    ]


def test_a_small_members_content_comes_with_it_where_it_is_asked_for():
    data = pack({"1.jpg": b"jpg", "1.cls": b"7", "2.cls": b"x" * 70_000})
    found = members(data, lambda name: name.endswith(".cls"))
    assert [found[name].content for name in ("1.jpg", "1.cls", "2.cls")] == [None, b"7", None]


def entry(data: bytes, name: bytes) -> int:
    """Where a member's entry is in the directory."""
    return data.index(name, data.index(b"PK\1\2")) - 46


def patched(data: bytes, at: int, replacement: bytes) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


def test_an_encrypted_member_and_other_methods_are_told():
    data = pack({"a.jpg": b"a", "b.jpg": b"b" * 99})
    data = patched(data, entry(data, b"a.jpg") + 8, struct.pack("<H", 1))
    data = patched(data, entry(data, b"b.jpg") + 10, struct.pack("<H", 12))
    found = members(data)
    assert found["a.jpg"].problem[0] == "encrypted"
    assert found["b.jpg"].problem == (
        "unsupported_compression",
        "expected deflate or no compression, found bzip2; pack the member so",
    )


def test_a_link_is_no_file():
    info = zipfile.ZipInfo("link.jpg")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "cat/1.jpg")
    assert members(buffer.getvalue())["link.jpg"].problem[0] == "not_a_file"


def test_a_size_that_cannot_be_is_told_before_anything_is_unpacked():
    data = pack({"bomb.jpg": bytes(1 << 20)})
    at = entry(data, b"bomb.jpg")
    assert not members(data)["bomb.jpg"].problem[0]
    assert members(patched(data, at + 24, struct.pack("<L", 1 << 31)))["bomb.jpg"].problem[0] == "damaged_member"


def test_no_more_is_unpacked_than_the_directory_says():
    data = pack({"bomb.jpg": bytes(1 << 20)})
    member = members(patched(data, entry(data, b"bomb.jpg") + 24, struct.pack("<L", 1000)))["bomb.jpg"]
    with pytest.raises(ArchiveError, match="a member of 1000 bytes, found more"):
        content(data, member)


def test_changed_bytes_are_found_by_the_crc():
    data = pack({"a.bin": bytes(range(256))}, zipfile.ZIP_STORED)
    damaged = patched(data, data.index(bytes(range(256))) + 7, b"?")
    with pytest.raises(ArchiveError, match="CRC-32"):
        content(damaged, members(data)["a.bin"])


def test_data_that_is_no_deflate_is_damage():
    data = pack({"a.bin": bytes(range(256)) * 9})
    member = members(data)["a.bin"]
    damaged = patched(data, member.begin + 30 + len("a.bin"), b"\xff" * 20)
    with pytest.raises(ArchiveError, match="deflate"):
        content(damaged, member)


def test_members_that_overlap_are_refused():
    data = pack({"a.jpg": b"a" * 100, "b.jpg": b"b" * 100}, zipfile.ZIP_STORED)
    with pytest.raises(ArchiveError, match="overlap"):
        members(patched(data, entry(data, b"b.jpg") + 42, struct.pack("<L", 10)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1], "found none"),
        (lambda data: data[: len(data) // 2], "found none"),
        (lambda data: b"", "found none"),
        (lambda data: b"not a zip file", "found none"),
        (lambda data: patched(data, entry(data, b"cat/1.jpg"), b"PK\0\0"), "an entry"),
        (lambda data: patched(data, len(data) - 12, struct.pack("<H", 2)), "2 entries"),
        (lambda data: patched(data, len(data) - 10, struct.pack("<L", 1 << 30)), "directory in its"),
        (lambda data: patched(data, len(data) - 18, struct.pack("<H", 3)), "cut into several"),
        (lambda data: patched(data, entry(data, b"dog/3.jpg") + 28, struct.pack("<H", 9999)), "cut off"),
        (lambda data: patched(data, entry(data, b"dog/3.jpg") + 20, struct.pack("<L", 1 << 20)), "to end at"),
    ],
)
def test_a_damaged_zip_file_is_refused(damage: Callable[[bytes], bytes], words: str):
    damaged = damage(pack(FILES))
    with pytest.raises(ArchiveError, match=words):
        members(damaged)


@pytest.mark.parametrize("seed", range(20))
def test_damage_anywhere_is_an_archive_error_or_none(seed: int):
    generator = random.Random(seed)
    data = pack(FILES)
    for _ in range(200):
        at = generator.randrange(len(data))
        damaged = patched(data, at, bytes([generator.randrange(256)]))
        try:
            for name, member in members(damaged).items():
                if not member.problem[0]:
                    assert content(damaged, member) == FILES.get(name, content(damaged, member))
        except ArchiveError:
            pass
