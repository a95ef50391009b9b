"""A member of an archive, as its index tells: where it lies, and how its bytes are packed."""

from typing import NamedTuple

SIBLING_BYTES = 1 << 16  # a label beside an image may have so many


class ArchiveError(Exception):
    """A file is no archive that can be read; the message says what was expected and found."""


class Packing(NamedTuple):
    """How a zip file holds a member.

    Attributes:
      method: 0: as it is; 8: by deflate.
      packed: Its bytes as they lie there, behind a header of its own.
      crc: The CRC-32 of what they unpack to.
    """

    method: int
    packed: int
    crc: int


class Member(NamedTuple):
    """A member of an archive.

    Attributes:
      name: Its path in the archive, without `./` and `/` at its beginning.
      size: Its bytes, unpacked.
      begin: Where to read from in the archive.
      length: How much to read: all that is needed, as far as the index tells.
      packing: How a zip file holds it; None where the bytes that are read are the member's.
      problem: A code and words, where it cannot be read; ("", "") where it can.
      content: Its bytes, where they were asked for.
    """

    name: str
    size: int
    begin: int
    length: int
    packing: Packing | None = None
    problem: tuple[str, str] = ("", "")
    content: bytes | None = None


def clean_name(name: str) -> str:
    """A member's name as a key: nothing is written under it, so that `..` is a name like others."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts)


def keep_last(members: list[Member]) -> tuple[list[Member], int]:
    """Of members of one name the last, which every program that unpacks leaves; and how many were passed over."""
    by_name = {member.name: member for member in members}
    return list(by_name.values()), len(members) - len(by_name)
