"""A member of an archive: where it lies, how its bytes are packed, and its address, which references hold."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from ..storage.files import FileInfo, is_local

INSIDE = "!/"  # stands between an archive and a member
_ADDRESS = re.compile(
    r"(?P<shown>.*)#(?:tar|zip):(?P<archive>[0-9]+):(?P<begin>[0-9]+):(?P<length>[0-9]+):(?P<size>[0-9]+)"
    r"(?::(?P<method>[0-9]+):(?P<packed>[0-9]+):(?P<crc>[0-9a-f]{8}))?:(?P<version>.*)",
    re.DOTALL,
)
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
      problem: A code and words, where it cannot be read: by the code `NOT_A_FILE` what it is instead; ("", "") where it
        can.
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


@dataclass(frozen=True)
class MemberAddress:
    """Where a member's bytes are.

    Attributes:
      archive: The URI of the archive; where archives are in archives, of the outermost.
      path: The member in it: `cat/1.jpg`, or `inner.tar!/cat/1.jpg`.
      begin: Where to read from in the archive's file.
      length: How much to read.
      size: The member's bytes.
      packing: How a zip file holds it; None where the bytes that are read are the member's.
      version: Which version of the archive that is; see `version_of`.
    """

    archive: str
    path: str
    begin: int
    length: int
    size: int
    packing: Packing | None
    version: str

    @property
    def name(self) -> str:
        """The member as messages show it."""
        return f"{self.archive}{INSIDE}{self.path}"

    def __str__(self) -> str:
        """The address as one string, as references hold it."""
        place = f"{len(self.archive)}:{self.begin}:{self.length}:{self.size}"
        if self.packing is None:
            return f"{self.name}#tar:{place}:{self.version}"
        method, packed, crc = self.packing
        return f"{self.name}#zip:{place}:{method}:{packed}:{crc:08x}:{self.version}"

    @classmethod
    def parse(cls, uri: str) -> "MemberAddress | None":
        """The address that a string is; None for any other URI."""
        match = _ADDRESS.fullmatch(uri) if INSIDE in uri else None
        if match is None:
            return None
        shown, cut = match["shown"], int(match["archive"])
        if shown[cut : cut + len(INSIDE)] != INSIDE:
            return None
        packing = None
        if match["method"]:
            packing = Packing(int(match["method"]), int(match["packed"]), int(match["crc"], 16))
        begin, length, size = int(match["begin"]), int(match["length"]), int(match["size"])
        return cls(shown[:cut], shown[cut + len(INSIDE) :], begin, length, size, packing, match["version"])


def version_of(info: FileInfo) -> str:
    """What tells a file from what it is after a change: its store's ETag, if any, or its bytes and time of change."""
    return f"{info.size}-{info.modified!r}" if is_local(info.uri) else info.etag


def version_of_member(uri: str) -> str:
    """What tells a member's content: in a zip file its checksum, else its archive's version; empty for other URIs."""
    address = MemberAddress.parse(uri)
    if address is None:
        return ""
    return f"crc-{address.packing.crc:08x}" if address.packing else address.version


def name_of(uri: str) -> str:
    """A payload as messages show it: its URI; of a member of an archive, the archive's and the member's name."""
    address = MemberAddress.parse(uri)
    return address.name if address else uri


def file_of(uri: str) -> str:
    """The file that holds a payload: itself, or the archive that it is a member of."""
    address = MemberAddress.parse(uri)
    return address.archive if address else uri
