"""A payload or a mask, an object or a member of an archive: read if it is what was listed, by one request or few."""

import hashlib
import re

from ...transforms.outcome import Rejected
from ..storage import files
from ..storage.files import FileTooLargeError, VersionMismatch
from . import zip_members
from .archive_members import ArchiveError, MemberAddress, name_of, version_of
from .file_content import read_in_pieces

UNKNOWN = -1  # bytes of an object whose list does not tell
_LONG = 32 << 20  # bytes of an object of a store that several requests read side by side
_MD5 = re.compile(r"[0-9a-f]{32}")
_LIST_AGAIN = "it changed after it was listed: run again, or list it again"


def read_payload(uri: str, size: int = UNKNOWN, etag: str = "", limit: int | None = None) -> bytes:
    """The bytes of a payload, by one request unless it is long.

    Args:
      uri: Where it is, or a member's address.
      size: Its bytes, as listed.
      etag: Its ETag, as listed; empty: not told. Where the store tells none, or one of another form, one that is an MD5
        is compared with the bytes.
      limit: How many bytes it may have.

    Raises:
      Rejected: it is not there, is not what was listed, is damaged, or is too large.
      OSError: it cannot be read.
    """
    address = MemberAddress.parse(uri)
    try:
        content = _read_object(uri, size, etag, limit) if address is None else _read_member(address, limit)
    except FileTooLargeError as error:
        raise Rejected("too_large", f"expected at most {limit} bytes, found more") from error
    except FileNotFoundError as error:
        raise Rejected("missing", f"expected an object at {name_of(uri)}, found none; {_LIST_AGAIN}") from error
    except VersionMismatch as error:
        raise Rejected("changed", f"expected the object that was listed, found another; {_LIST_AGAIN}") from error
    if size != UNKNOWN and len(content) != size:
        raise Rejected("changed", f"expected {size} bytes, as listed, found {len(content)}; {_LIST_AGAIN}")
    return content


def _read_object(uri: str, size: int, etag: str, limit: int | None) -> bytes:
    if size >= _LONG and not files.is_local(uri) and (limit is None or size <= limit):
        info = files.describe(uri)
        if info.size == size and info.etag:  # the pieces are of one version, which is looked at as any other
            content = read_in_pieces(uri, 0, size, info.etag)
            if _is_another(content, etag, info.etag):
                raise _changed(etag, info.etag)
            return content
    if not etag or files.is_local(uri):
        content, told = files.read_bytes(uri, limit), ""
    else:
        content, version = files.read_versioned(uri, limit)
        told = version.etag
    if _is_another(content, etag, told):
        raise _changed(etag, told)
    return content


def _changed(listed: str, told: str) -> Rejected:
    return Rejected("changed", f"expected the ETag {listed}, as listed, found {told or 'other bytes'}; {_LIST_AGAIN}")


def _is_another(content: bytes, listed: str, told: str) -> bool:
    """Whether bytes are not those that an ETag was listed for, as far as can be known."""
    expected, current = _bare(listed), _bare(told)
    if not expected or expected == current:
        return False
    if _MD5.fullmatch(expected):
        return hashlib.md5(content, usedforsecurity=False).hexdigest() != expected
    return bool(current)


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _read_member(address: MemberAddress, limit: int | None) -> bytes:
    if limit is not None and address.size > limit:
        raise Rejected("too_large", f"expected at most {limit} bytes, found {address.size}")
    data = _read(address, address.length)
    if address.packing is None:
        return data
    try:
        needed = zip_members.data_begin(data) + address.packing.packed
        if needed > len(data):  # its own header is longer than the directory tells
            data = _read(address, needed)
        return zip_members.unpack(data, address.packing, address.size)
    except ArchiveError as error:
        raise Rejected("damaged_member", str(error)) from error


def _read(address: MemberAddress, length: int) -> bytes:
    """Bytes of the archive, if it is still the version that was listed."""
    etag = ""
    if not files.is_local(address.archive):
        etag = address.version
    elif version_of(files.describe(address.archive)) != address.version:
        raise VersionMismatch(f"{address.archive}: expected the version that was listed, found another")
    return files.read_range(address.archive, address.begin, address.begin + length, etag)
