import contextlib
import io
import random
import tarfile
from collections.abc import Callable

import pytest

from penstock.pipeline.sources.archive_members import ArchiveError, Member
from penstock.pipeline.sources.index_reader import IndexReader
from penstock.pipeline.sources.tar_members import read_tar

FILES = {"cat/1.jpg": b"one" * 500, "cat/2.jpg": b"", "dog/3.jpg": bytes(range(256)) * 20}
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def pack(files: dict[str, bytes], format: int = tarfile.PAX_FORMAT, others: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return buffer.getvalue()


def special(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def read(data: bytes, keep: Callable[[str], bool] = lambda name: False, block: int = 512) -> list[Member]:
    found, warnings = read_tar(IndexReader(lambda begin, size: data[begin : begin + size], 0, len(data), block), keep)
    assert warnings == []
    return found


def contents(data: bytes) -> dict[str, bytes]:
    return {
        member.name: data[member.begin : member.begin + member.length] for member in read(data) if not member.problem[0]
    }


@pytest.mark.parametrize("format", FORMATS)
def test_every_member_is_one_range(format: int):
    data = pack(FILES, format)
    assert contents(data) == FILES
    assert [member.size for member in read(data)] == [len(content) for content in FILES.values()]


@pytest.mark.parametrize("format", FORMATS[1:])
def test_long_names_and_others_than_ascii(format: int):
    files = {f"{'folder/' * 40}{'long' * 40}.jpg": b"1", "é/ж.jpg": b"2", "f" * 100 + ".jpg": b"3"}
    assert contents(pack(files, format)) == files


def test_names_are_keys_and_lead_nowhere():
    assert list(contents(pack({"./a/1.jpg": b"", "/etc/2.jpg": b"", "../3.jpg": b""}))) == [
        "a/1.jpg",
        "etc/2.jpg",
        "../3.jpg",
    ]


def test_folders_are_no_members_and_others_than_files_are_told():
    data = pack(
        FILES,
        others=(special("cat", tarfile.DIRTYPE), special("pipe", tarfile.FIFOTYPE), special("d", tarfile.BLKTYPE)),
    )
    problems = {member.name: member.problem for member in read(data) if member.problem[0]}
    assert problems == {
        "pipe": ("not_a_file", "a named pipe"),
        "d": ("not_a_file", "a device"),
    }


def test_links_are_what_they_lead_to():
    links = (
        special("dog/hard.jpg", tarfile.LNKTYPE, "cat/1.jpg"),
        special("dog/soft.jpg", tarfile.SYMTYPE, "../cat/1.jpg"),
        special("dog/twice.jpg", tarfile.SYMTYPE, "soft.jpg"),
        special("lost.jpg", tarfile.SYMTYPE, "nowhere.jpg"),
        special("out.jpg", tarfile.SYMTYPE, "../../etc/passwd"),
        special("a.jpg", tarfile.SYMTYPE, "b.jpg"),
        special("b.jpg", tarfile.SYMTYPE, "a.jpg"),
    )
    data = pack(FILES, others=links)
    assert {name: content for name, content in contents(data).items() if name not in FILES} == {
        f"dog/{name}.jpg": FILES["cat/1.jpg"] for name in ("hard", "soft", "twice")
    }
    lost = {member.name for member in read(data) if member.problem[0] == "not_a_file"}
    assert lost == {"lost.jpg", "out.jpg", "a.jpg", "b.jpg"}


def test_sparse_files_are_told():
    info = tarfile.TarInfo("holes.jpg")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    info.size = 512
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"0\n".ljust(512, b"\0")))
    (member,) = read(buffer.getvalue())
    assert member.problem == ("not_a_file", "a sparse file")


def test_a_small_members_content_comes_with_it_where_it_is_asked_for():
    data = pack({"1.jpg": b"jpg", "1.cls": b"7", "2.cls": b"x" * 70_000})
    assert [member.content for member in read(data, lambda name: name.endswith(".cls"))] == [None, b"7", None]


def test_payloads_are_passed_over():
    asked: list[int] = []
    data = pack({f"{number}.bin": bytes(100_000) for number in range(10)})

    def read_at(begin: int, length: int) -> bytes:
        asked.append(length)
        return data[begin : begin + length]

    assert len(read_tar(IndexReader(read_at, 0, len(data), 1024), lambda name: False)[0]) == 10
    assert sum(asked) < 100_000


def test_small_members_share_a_read():
    asked: list[int] = []
    data = pack({f"{number}.bin": bytes(1000) for number in range(1000)})

    def read_at(begin: int, length: int) -> bytes:
        asked.append(length)
        return data[begin : begin + length]

    assert len(read_tar(IndexReader(read_at, 0, len(data), 1 << 18), lambda name: False)[0]) == 1000
    assert len(asked) <= 2 + len(data) // (1 << 18)


@pytest.mark.parametrize("cut", [100, 700, 1500, 2100, 6000])
def test_a_tar_file_that_is_cut_off_is_refused(cut: int):
    data = pack(FILES, tarfile.USTAR_FORMAT)
    with pytest.raises(ArchiveError, match="expected a tar file"):
        read(data[:cut])


def test_one_that_is_cut_between_members_is_warned_of():
    data = pack(FILES, tarfile.USTAR_FORMAT)[: 512 + 1536]
    found, warnings = read_tar(IndexReader(lambda begin, size: data[begin : begin + size], 0, len(data), 512), bool)
    assert [member.name for member in found] == ["cat/1.jpg"]
    assert warnings == ["ends without the blocks of zeros that end a tar file: members may have been cut off"]


def test_joined_tar_files_are_warned_of():
    data = pack(FILES) + pack({"4.jpg": b"4"})
    _, warnings = read_tar(IndexReader(lambda begin, size: data[begin : begin + size], 0, len(data), 512), bool)
    assert warnings == ["goes on behind its end, as joined tar files do: what follows is not read"]


def test_a_damaged_header_is_refused_and_does_not_end_the_list():
    data = bytearray(pack(FILES, tarfile.USTAR_FORMAT))
    at = data.index(b"cat/2.jpg")
    data[at] ^= 1
    with pytest.raises(ArchiveError, match=r"no header of a member after 'cat/1\.jpg'"):
        read(bytes(data))


def test_a_header_that_makes_up_a_large_name_takes_no_memory():
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    with pytest.raises(ArchiveError, match="header of at most"):
        read(data)


@pytest.mark.parametrize("size", [-1, -512, -1024, -(1 << 40)])
def test_a_member_of_less_than_no_bytes_is_refused(size: int):
    info = tarfile.TarInfo("a.jpg")
    info.size = size
    data = pack({"1.jpg": b"1"})[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    with pytest.raises(ArchiveError, match=r"expected a tar file, found|header of at most"):
        read(data)


def test_a_chain_of_headers_does_not_exhaust_the_stack():
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    data = (info.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")) * 5000 + bytes(1024)
    with pytest.raises(ArchiveError, match="expected a tar file"):
        read(data)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("format", FORMATS)
def test_damage_anywhere_is_an_archive_error_or_none(seed: int, format: int):
    generator = random.Random(seed)
    data = pack(FILES, format)
    for _ in range(100):
        damaged = bytearray(data)
        damaged[generator.randrange(len(data))] = generator.randrange(256)

        def read_at(begin: int, size: int, damaged: bytes = bytes(damaged)) -> bytes:
            return damaged[begin : begin + size]

        with contextlib.suppress(ArchiveError):
            read_tar(IndexReader(read_at, 0, len(data), 512), bool)
