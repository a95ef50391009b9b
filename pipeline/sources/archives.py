"""Members of zip and tar files as examples: found by patterns such as `train.zip!/**/*.jpg`, read where they lie.

What stands before `!/` matches archives, what follows their members; further `!/` lead into archives in archives.
Nothing is unpacked to a disk: a member's address says which bytes of the archive it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ..errors import RequestError
from ..storage import files
from ..storage.files import FileInfo
from ..storage.globs import matches_glob, printable
from .archive_members import INSIDE, ArchiveError, Member, MemberAddress, keep_last, version_of
from .file_patterns import is_utf8
from .index_reader import IndexReader, whole_file
from .tar_members import read_tar
from .zip_members import STORED, data_begin, read_zip

_THREADS = 8  # archives of a store that are looked into at a time: each waits for one answer after another
_STREAMS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
}


class ListedMember(NamedTuple):
    """A member that matches, or whose content was asked for.

    Attributes:
      key: The archive's path relative to the input, `!/`, and the member's in it.
      uri: Its address.
      size: Its bytes.
      problem: A code and words, where it cannot be read; ("", "") where it can.
      content: Its bytes, where they were asked for.
      matches: The numbers of the patterns that it matches; none, and it comes for its content.
    """

    key: str
    uri: str
    size: int
    problem: tuple[str, str]
    content: bytes | None
    matches: frozenset[int]


@dataclass(frozen=True)
class ArchiveContent:
    """What matches in one archive, and what the user should know of it."""

    members: Sequence[ListedMember]
    warnings: Sequence[str]


def is_archive_pattern(pattern: str) -> bool:
    """Whether a pattern leads into archives."""
    return INSIDE in pattern


def split_pattern(pattern: str) -> tuple[str, tuple[str, ...]]:
    """The pattern of the archives, and those of what is in them, level by level.

    Raises:
      RequestError: one of them is empty.
    """
    outer, *inner = pattern.split(INSIDE)
    if not outer or not all(inner):
        raise RequestError(f"expected patterns on both sides of !/, such as 'train.zip!/**/*.jpg', found {pattern!r}")
    return outer, tuple(inner)


@dataclass(frozen=True)
class Archive:
    """An archive to look into.

    Attributes:
      key: Its path relative to the input.
      info: The file.
      patterns: By number what members may match, level by level: before the last one those of archives in archives.
    """

    key: str
    info: FileInfo
    patterns: Mapping[int, tuple[str, ...]]


def look_into(
    archives: Sequence[Archive], keep: Callable[[str], bool] = lambda name: False
) -> Iterator[ArchiveContent]:
    """The members of archives that match, archive by archive: of each its index alone is read, once.

    Args:
      archives: The archives.
      keep: Whether the content of a small member of that name is wanted.

    Raises:
      RequestError: one is no archive that can be read, or is damaged.
    """

    def look(archive: Archive) -> ArchiveContent:
        info, warnings = archive.info, list[str]()
        try:
            members = list(_matching(whole_file(info), "", archive.patterns, keep, info, warnings))
        except (ArchiveError, OSError) as error:
            message = f"{printable(info.uri)}: {printable(str(error))}"
            raise RequestError(f"{message}; or leave it out of the pattern") from error
        return ArchiveContent([_to_listed(archive.key, *each) for each in members], warnings)

    threads = 1 if all(files.is_local(archive.info.uri) for archive in archives) else _THREADS
    remaining = iter(archives)
    with ThreadPoolExecutor(threads, "archives") as pool:
        pending = [pool.submit(look, archive) for archive in islice(remaining, threads)]
        while pending:
            content = pending.pop(0).result()
            pending += [pool.submit(look, archive) for archive in islice(remaining, 1)]
            yield content


def _matching(
    reader: IndexReader,
    path: str,
    patterns: Mapping[int, tuple[str, ...]],
    keep: Callable[[str], bool],
    info: FileInfo,
    warnings: list[str],
) -> Iterator[tuple[MemberAddress, Member, frozenset[int]]]:
    """The members that match or have content, with their addresses, and the numbers of the patterns that they match.

    Goes into archives in the archive where a pattern says so.

    Args:
      reader: The archive.
      path: Where it is in the outermost one, with `!/` behind it; empty for that one itself.
      patterns: What is left of the patterns, by number.
      keep: Whether the content of a small member of that name is wanted.
      info: The outermost archive.
      warnings: What the user should know is added to them.
    """
    is_last = any(len(levels) == 1 for levels in patterns.values())
    members, notes = _read_index(reader, keep if is_last else lambda name: False)
    members, repeated = keep_last(members)
    where = printable(f"{info.uri}{INSIDE}{path}".removesuffix(INSIDE))
    warnings += [f"{where} {warning}" for warning in notes]
    if repeated:
        warnings.append(f"{where} holds {repeated} members whose names follow once more in it: the last ones are taken")
    for member in members:
        matching = {number: levels for number, levels in patterns.items() if matches_glob(levels[0], member.name)}
        matches = frozenset(number for number, levels in matching.items() if len(levels) == 1)
        if matches or member.content is not None:
            begin = reader.begin + member.begin
            address = MemberAddress(
                info.uri, path + member.name, begin, member.length, member.size, member.packing, version_of(info)
            )
            yield address, member, matches
        further = {number: levels[1:] for number, levels in matching.items() if len(levels) > 1}
        if further:
            inner = _inner(reader, member)
            yield from _matching(inner, f"{path}{member.name}{INSIDE}", further, keep, info, warnings)


def _read_index(reader: IndexReader, keep: Callable[[str], bool]) -> tuple[list[Member], list[str]]:
    """All members, and warnings; which kind of archive it is, its first bytes tell, or those at its end."""
    head = reader.read(0, 512)
    if _is_tar(head):  # whose first bytes are a name, which may be as those of other files
        return read_tar(reader, keep)
    for mark, kind in _STREAMS.items():
        if head.startswith(mark):
            raise ArchiveError(
                f"expected a tar or zip file, whose members can be read alone, found {kind}; unpack it to a tar file"
            )
    return read_zip(reader, keep), []


def _is_tar(head: bytes) -> bool:
    """Whether these are a tar file's first bytes: a header whose checksum fits, or the zeros of an empty one."""
    if len(head) < 512:
        return False
    if not head.strip(b"\0"):
        return True
    digits, others = head[148:156].strip(b" \0"), head[:148] + b" " * 8 + head[156:]
    total = sum(others)
    signed = total - 256 * sum(byte > 127 for byte in others)  # as some old programs have it
    return digits.isdigit() and not set(digits) & set(b"89") and int(digits, 8) in (total, signed)


def _inner(reader: IndexReader, member: Member) -> IndexReader:
    """An archive in an archive.

    Raises:
      ArchiveError: it is compressed, so that its members cannot be read alone.
    """
    if member.problem[0]:
        raise ArchiveError(f"{member.name}: {member.problem[1]}")
    begin = member.begin
    if member.packing is not None:
        if member.packing.method != STORED:
            raise ArchiveError(
                f"{member.name}: expected an archive that is stored in the other one without compression, found deflate"
            )
        begin += data_begin(reader.read(member.begin, member.length))
    return reader.part(begin, member.size)


def _to_listed(key: str, address: MemberAddress, member: Member, matches: frozenset[int]) -> ListedMember:
    """The member by its key; one whose name is not UTF-8 cannot be read, for keys are."""
    name = f"{key}{INSIDE}{address.path}"
    if not is_utf8(name):
        problem = "name_not_utf8", "expected a member's name in UTF-8, found another; pack it under another name"
        return ListedMember(printable(name), printable(str(address)), member.size, problem, None, matches)
    return ListedMember(name, str(address), member.size, member.problem, member.content, matches)
