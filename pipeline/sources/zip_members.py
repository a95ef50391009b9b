"""Zip files: the directory at their end, read by ranges, and their members, each by one read."""

import stat
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from .archive_members import SIBLING_BYTES, ArchiveError, Member, Packing, clean_name
from .index_reader import IndexReader
from .references import NOT_A_FILE

STORED, DEFLATED = 0, 8
_METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 99: "AES"}
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 0xFFFF
_SLACK = 64  # bytes that a member's own header may have beyond what the directory tells, to be read at once
_DEFLATE_RATIO = 1032  # deflate packs no better
_ENCRYPTED, _UTF8 = 0x1, 0x800
_UNIX = 3


def read_zip(file: IndexReader, keep: Callable[[str], bool]) -> list[Member]:
    """The members, folders left out, in the order of the directory.

    Args:
      file: The zip file.
      keep: Whether the content of a small member of that name is wanted.

    Raises:
      ArchiveError: it is damaged, or no zip file.
      OSError: it cannot be read.
    """
    begin, size, count, shift = _find_directory(file)
    members: list[Member] = []
    places: list[tuple[int, int]] = []
    entries = 0
    for name, place, member in _entries(file, begin, size, shift):
        entries += 1
        places.append(place)
        if not name.endswith("/"):
            members.append(member)
    if entries & 0xFFFF != count & 0xFFFF:
        raise ArchiveError(f"expected {count} entries in the zip file's directory, found {entries}; make it again")
    _check_apart(places, begin)
    return [
        member._replace(content=_read(file, member))
        if member.size <= SIBLING_BYTES and not member.problem[0] and keep(member.name)
        else member
        for member in members
    ]


def _find_directory(file: IndexReader) -> tuple[int, int, int, int]:
    """Where the directory begins, its bytes, its entries, and how many bytes stand before the zip file itself."""
    tail = file.read(max(0, file.size - _LONGEST_COMMENT - _END.size), _LONGEST_COMMENT + _END.size)
    at = len(tail) - _END.size
    while at >= 0:
        at = tail.rfind(b"PK\5\6", 0, at + 4)
        if at >= 0 and at + _END.size + struct.unpack_from("<H", tail, at + 20)[0] == len(tail):
            break
        at -= 1
    if at < 0:
        raise ArchiveError("expected a zip file, whose directory ends it, found none: it may be cut off; make it again")
    _, disk, _, _, count, size, offset, _ = _END.unpack_from(tail, at)
    end = file.size - len(tail) + at
    locator = file.read(end - _LOCATOR.size, _LOCATOR.size) if end >= _LOCATOR.size else b""
    if locator[:4] == b"PK\6\7":
        count, size, offset, disk, end = _zip64_end(file, end, _LOCATOR.unpack(locator)[2])
    if disk not in (0, 0xFFFF):
        raise ArchiveError("expected one zip file, found a part of one that is cut into several; join them")
    shift = end - size - offset
    if shift < 0:
        raise ArchiveError(
            f"expected the zip file's directory in its {file.size} bytes, found {size} bytes at {offset}; make it again"
        )
    return end - size, size, count, shift


def _zip64_end(file: IndexReader, end: int, offset: int) -> tuple[int, int, int, int, int]:
    """Entries, bytes, offset and disk of a large zip file's directory, and where it ends."""
    for at in (offset, end - _LOCATOR.size - _END64.size):  # the second where something stands before the zip file
        record = file.read(at, _END64.size) if at >= 0 else b""
        if len(record) == _END64.size and record[:4] == b"PK\6\6":
            _, _, _, _, disk, _, _, count, size, begin = _END64.unpack(record)
            return count, size, begin, disk, at
    raise ArchiveError("expected the record that ends a large zip file's directory, found none; make it again")


def _entries(file: IndexReader, begin: int, size: int, shift: int) -> Iterator[tuple[str, tuple[int, int], Member]]:
    """Each entry's name as it is written, the bytes that it takes at least (begin, end), and the member."""
    at, directory_end = begin, begin + size
    while at < directory_end:
        head = file.read(at, _ENTRY.size)
        if len(head) < _ENTRY.size or head[:4] != b"PK\1\2":
            raise ArchiveError(f"expected an entry of the zip file's directory at byte {at}, found none; make it again")
        _, origin, _, flags, method, _, _, crc, packed, unpacked, *lengths, _, _, attributes, offset = _ENTRY.unpack(
            head
        )
        name_length, extra_length, comment_length = lengths
        rest = file.read(at + _ENTRY.size, name_length + extra_length)
        at += _ENTRY.size + name_length + extra_length + comment_length
        if len(rest) < name_length + extra_length or at > directory_end:
            raise ArchiveError("expected the zip file's directory to hold its names, found it cut off; make it again")
        written, extra = rest[:name_length], rest[name_length:]
        unpacked, packed, offset = _large(extra, unpacked, packed, offset)
        name = _decode(written, flags, extra)
        mode = attributes >> 16 if origin >> 8 == _UNIX else 0
        offset += shift
        end = offset + _LOCAL.size + name_length + packed
        if end > begin:
            raise ArchiveError(
                f"expected {name!r} before the zip file's directory at byte {begin}, found it to end at {end}; "
                "make it again"
            )
        length = min(end + extra_length + _SLACK, begin) - offset
        problem = _problem(flags, method, mode, packed, unpacked)
        yield (
            name,
            (offset, end),
            Member(clean_name(name), unpacked, offset, length, Packing(method, packed, crc), problem),
        )


def _large(extra: bytes, unpacked: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The sizes and the offset, of which a large zip file has those beyond 32 bits in an extra field."""
    numbers = _extra_field(extra, 1)
    values = iter(struct.unpack(f"<{len(numbers) // 8}Q", numbers[: len(numbers) // 8 * 8]))
    large = [next(values, value) if value == 0xFFFFFFFF else value for value in (unpacked, packed, offset)]
    return large[0], large[1], large[2]


def _extra_field(extra: bytes, kind: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        number, length = struct.unpack_from("<2H", extra, at)
        if number == kind:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _decode(written: bytes, flags: int, extra: bytes) -> str:
    """A name: UTF-8 where the file says so, has a field for it, or where it is (macOS does not say so); else cp437."""
    unicode_path = _extra_field(extra, 0x7075)
    if len(unicode_path) > 5 and struct.unpack_from("<L", unicode_path, 1)[0] == zlib.crc32(written):
        return unicode_path[5:].decode("utf-8", "surrogateescape")
    try:
        return written.decode()
    except UnicodeDecodeError:
        return written.decode("utf-8", "surrogateescape") if flags & _UTF8 else written.decode("cp437")


def _problem(flags: int, method: int, mode: int, packed: int, unpacked: int) -> tuple[str, str]:
    """Why a member cannot be read: a code and words."""
    if flags & _ENCRYPTED:
        return "encrypted", "expected a member that is not encrypted, found one that is; unpack it with its password"
    if method not in (STORED, DEFLATED):
        name = _METHODS.get(method, f"method {method}")
        return "unsupported_compression", f"expected deflate or no compression, found {name}; pack the member so"
    if stat.S_ISLNK(mode):
        return NOT_A_FILE, "a symbolic link"
    if (method == STORED and packed != unpacked) or unpacked > packed * _DEFLATE_RATIO + 64:
        sizes = f"{packed} bytes that unpack to {unpacked}"
        return "damaged_member", f"expected sizes that fit each other, found {sizes}; make the zip file again"
    return "", ""


def _check_apart(places: list[tuple[int, int]], directory: int) -> None:
    """Raises ArchiveError where members lie in each other, as those of zip bombs do."""
    if not places:
        return
    bounds = np.array(places, np.int64)
    bounds = bounds[np.lexsort((bounds[:, 1], bounds[:, 0]))]
    if (bounds[1:, 0] < bounds[:-1, 1]).any() or bounds[0, 0] < 0 or bounds[-1, 1] > directory:
        raise ArchiveError("expected members of the zip file that lie one after another, found some that overlap")


def _read(file: IndexReader, member: Member) -> bytes | None:
    """A small member's content; None where it is damaged, which reading it for good tells."""
    assert member.packing is not None
    data = file.read(member.begin, member.length)
    try:
        begin = data_begin(data)
        if begin + member.packing.packed > len(data):
            data = file.read(member.begin, begin + member.packing.packed)
        return unpack(data, member.packing, member.size)
    except ArchiveError:
        return None


def data_begin(data: bytes) -> int:
    """Where, behind its own header, the bytes of a member begin.

    Args:
      data: The member, from its header on.

    Raises:
      ArchiveError: there is no header.
    """
    if len(data) < _LOCAL.size or data[:4] != b"PK\3\4":
        raise ArchiveError("expected a member's header where the zip file's directory says, found none; make it again")
    name_length, extra_length = _LOCAL.unpack_from(data)[-2:]
    return int(_LOCAL.size + name_length + extra_length)


def unpack(data: bytes, packing: Packing, size: int) -> bytes:
    """A member's content; takes no more memory than `size`.

    Args:
      data: The member, from its header on.
      packing: How it is packed.
      size: Its bytes, unpacked.

    Raises:
      ArchiveError: it is damaged.
    """
    begin = data_begin(data)
    content = data[begin : begin + packing.packed]
    if len(content) != packing.packed:
        raise ArchiveError(f"expected {packing.packed} bytes of the member, found {len(content)}; make it again")
    if packing.method == DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflate.decompress(content, size + 1)
        except zlib.error as error:
            raise ArchiveError(f"expected data packed by deflate, found: {error}; make the zip file again") from error
    if len(content) != size:
        length = "more" if len(content) > size else len(content)
        raise ArchiveError(f"expected a member of {size} bytes, found {length}; make the zip file again")
    if zlib.crc32(content) != packing.crc:
        raise ArchiveError("expected a member of the CRC-32 that the zip file says, found another; make it again")
    return content
