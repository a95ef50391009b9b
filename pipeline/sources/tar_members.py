"""Tar files: one pass over the headers of their members, whose bytes are passed over."""

import posixpath
import tarfile
from collections.abc import Callable

from .archive_members import SIBLING_BYTES, ArchiveError, Member, clean_name
from .index_reader import IndexReader
from .references import NOT_A_FILE

_BLOCK = 512
_HEADER_BYTES = 1 << 20  # a name or a list of attributes may have so many
_LOOKED_BEHIND = 64 * _BLOCK
_KINDS = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}


class _Cursor:
    """A reader with a place, as `tarfile` reads files."""

    def __init__(self, file: IndexReader) -> None:
        self._file = file
        self._at = 0

    def read(self, count: int) -> bytes:
        if not 0 <= count <= _HEADER_BYTES:
            raise ArchiveError(f"expected a member's header of at most {_HEADER_BYTES} bytes, found one of {count}")
        data = self._file.read(self._at, count)
        self._at += len(data)
        return data

    def seek(self, at: int) -> None:
        self._at = at

    def tell(self) -> int:
        return self._at


def read_tar(file: IndexReader, keep: Callable[[str], bool]) -> tuple[list[Member], list[str]]:
    """The members, folders left out, in their order; and warnings.

    Args:
      file: The tar file, in any of the formats ustar, GNU and pax.
      keep: Whether the content of a small member of that name is wanted.

    Raises:
      ArchiveError: it is damaged, or no tar file.
      OSError: it cannot be read.
    """
    members: list[Member] = []
    links: list[tuple[int, str]] = []
    try:
        archive = tarfile.TarFile(fileobj=_Cursor(file), encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        while (info := archive.next()) is not None:
            if info.size < 0 or archive.offset <= info.offset:  # tarfile would read it again and again
                raise ArchiveError(f"expected a tar file, found {info.name!r} of {info.size} bytes; make it again")
            archive.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all
            name = clean_name(info.name)
            if info.isdir() or not name:
                continue
            if info.islnk() or info.issym():
                folder = posixpath.dirname(name) if info.issym() else ""
                links.append((len(members), posixpath.normpath(posixpath.join(folder, info.linkname))))
                kind = f"a link to {info.linkname!r}, which the tar file lacks"
                members.append(Member(name, 0, 0, 0, None, (NOT_A_FILE, kind)))
            else:
                members.append(_member(name, info, file, keep))
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        at = "" if not members else f" after {members[-1].name!r}"
        raise ArchiveError(f"expected a tar file, found{at}: {error}; make it again") from error
    warnings = _check_end(file, archive.offset, members)
    _follow(members, links)
    return members, warnings


def _member(name: str, info: tarfile.TarInfo, file: IndexReader, keep: Callable[[str], bool]) -> Member:
    begin, size = info.offset_data, info.size
    if info.issparse() or not info.isreg():
        kind = "a sparse file" if info.issparse() else _KINDS.get(info.type, f"a member of type {info.type!r}")
        return Member(name, size, begin, size, None, (NOT_A_FILE, kind))
    content = file.read(begin, size) if size <= SIBLING_BYTES and keep(name) else None
    return Member(name, size, begin, size, content=content)


def _check_end(file: IndexReader, end: int, members: list[Member]) -> list[str]:
    """Warnings about what follows the last member; `tarfile` ends in silence where it finds no header.

    Raises:
      ArchiveError: it is neither the mark of the end nor the file's end.
    """
    block = file.read(end, _BLOCK)
    if block.strip(b"\0"):
        after = f"after {members[-1].name!r}" if members else "at its beginning"
        raise ArchiveError(f"expected a tar file, found no header of a member {after}; make it again")
    if not block:
        return ["ends without the blocks of zeros that end a tar file: members may have been cut off"]
    if file.read(end, _LOOKED_BEHIND).strip(b"\0"):
        return ["goes on behind its end, as joined tar files do: what follows is not read"]
    return []


def _follow(members: list[Member], links: list[tuple[int, str]]) -> None:
    """Gives links the place of the member that they lead to, where there is one."""
    places = {member.name: at for at, member in enumerate(members)} if links else {}
    targets = {at: clean_name(target) for at, target in links}
    for at, target in targets.items():
        seen = {at}
        to = places.get(target)
        while to in targets and to not in seen:  # a link to a link
            seen.add(to)
            to = places.get(targets[to])
        if to is not None and to not in targets:
            members[at] = members[to]._replace(name=members[at].name)
