import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest
from helpers import stored, tar, zipped

from penstock.pipeline.sources import file_content, listed_payload
from penstock.pipeline.sources.archive_members import name_of
from penstock.pipeline.sources.archives import Archive, look_into
from penstock.pipeline.sources.listed_payload import read_payload
from penstock.pipeline.storage import files, stores
from penstock.transforms.outcome import Rejected


def code(uri: str, **listed: object) -> str:
    """Why a payload is not taken."""
    with pytest.raises(Rejected) as caught:
        read_payload(uri, **listed)  # type: ignore[arg-type]
    return caught.value.code


def places(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "a.jpg"), f"memory://payloads/{tmp_path.name}/a.jpg"]


def test_an_object_that_is_what_was_listed(tmp_path: Path):
    for uri in places(tmp_path):
        files.write_bytes(uri, b"content")
        etag = files.describe(uri).etag
        assert read_payload(uri) == read_payload(uri, 7, etag) == read_payload(uri, 7, limit=7) == b"content"


def test_one_that_is_not_there_is_missing(tmp_path: Path):
    for uri in places(tmp_path):
        assert code(uri, size=7) == "missing"


def test_one_of_other_bytes_has_changed(tmp_path: Path):
    for uri in places(tmp_path):
        files.write_bytes(uri, b"content")
        assert code(uri, size=8) == "changed"
        assert code(uri, size=7, etag=hashlib.md5(b"Content").hexdigest()) == "changed"


def test_an_etag_that_is_an_md5_is_compared_with_the_bytes_where_the_store_tells_another(tmp_path: Path):
    for uri in places(tmp_path):
        files.write_bytes(uri, b"content")
        md5 = hashlib.md5(b"content").hexdigest()
        assert read_payload(uri, etag=md5) == read_payload(uri, etag=f'"{md5}"') == b"content"


def test_an_etag_of_another_form_is_compared_where_the_store_tells_one(tmp_path: Path):
    local, remote = places(tmp_path)
    for uri in (local, remote):
        files.write_bytes(uri, b"content")
    assert read_payload(local, etag='"0123-2"') == b"content"  # nothing tells
    assert code(remote, etag='"0123-2"') == "changed"


def test_more_than_the_limit_is_not_read(tmp_path: Path):
    for uri in places(tmp_path):
        files.write_bytes(uri, b"content")
        assert code(uri, limit=6) == "too_large"


@pytest.mark.parametrize("pack", [tar, zipped, stored])
def test_a_member_of_an_archive_that_changed(tmp_path: Path, pack: object):
    for uri in places(tmp_path):
        files.write_bytes(uri, pack({"1.jpg": b"one"}))  # type: ignore[operator]
        (found,) = look_into([Archive("a", files.describe(uri), {0: ("*",)})])
        member = found.members[0].uri
        assert read_payload(member, 3) == b"one"
        assert name_of(member) == f"{uri}!/1.jpg"
        assert name_of(uri) == uri
        with pytest.raises(Rejected) as caught:
            read_payload(member, 3, limit=2)
        assert caught.value.code == "too_large"
        files.write_bytes(uri, pack({"1.jpg": b"two"}))  # type: ignore[operator]
        if files.is_local(uri):
            os.utime(uri, (1, 1))  # within one tick of the clock
        assert code(member, size=3) == "changed"
        files.remove(uri)
        assert code(member, size=3) == "missing"


def test_a_member_whose_own_header_is_longer_than_the_directory_tells(tmp_path: Path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", b"payload")
        archive.writestr("b.jpg", b"-" * 500)
    data = buffer.getvalue()
    extra = b"\xfe\xca" + (200).to_bytes(2, "little") + bytes(200)
    longer = data[:28] + len(extra).to_bytes(2, "little") + data[30:35] + extra + data[35:]
    directory = longer.index(b"PK\1\2")
    second = longer.index(b"PK\1\2", directory + 4)
    moved = int.from_bytes(data[data.index(b"b.jpg", 600) - 4 : data.index(b"b.jpg", 600)], "little") + len(extra)
    longer = longer[: second + 42] + moved.to_bytes(4, "little") + longer[second + 46 :]
    end = longer.rindex(b"PK\5\6")
    longer = longer[: end + 16] + directory.to_bytes(4, "little") + longer[end + 20 :]
    path = tmp_path / "a.zip"
    path.write_bytes(longer)
    (found,) = look_into([Archive("a.zip", files.describe(str(path)), {0: ("*",)})])
    assert [read_payload(member.uri, member.size) for member in found.members] == [b"payload", b"-" * 500]


def test_a_damaged_member_is_told(tmp_path: Path):
    path = tmp_path / "a.zip"
    path.write_bytes(stored({"1.jpg": b"payload"}).replace(b"payload", b"pay?oad"))
    (found,) = look_into([Archive("a.zip", files.describe(str(path)), {0: ("*",)})])
    assert code(found.members[0].uri) == "damaged_member"


def test_a_long_object_is_read_by_several_requests(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listed_payload, "_LONG", 1000)
    monkeypatch.setattr(file_content, "_PIECE", 300)
    content, uri = bytes(range(256)) * 5, "memory://long-payloads/a.tif"
    files.write_bytes(uri, content)
    before = stores.COUNTS.snapshot()
    etag = files.describe(uri).etag
    for listed in ("", etag, hashlib.md5(content).hexdigest()):
        assert read_payload(uri, len(content), listed) == content
    assert stores.COUNTS.snapshot()["get"] - before.get("get", 0) == 3 * 5
    assert code(uri, size=len(content) - 1) == "changed"
    assert code(uri, size=len(content), etag=hashlib.md5(b"").hexdigest()) == "changed"
    read_range = files.read_range

    def replace_meanwhile(*arguments: object) -> bytes:
        found = read_range(*arguments)  # type: ignore[arg-type]
        files.write_bytes(uri, content[::-1])
        return found

    monkeypatch.setattr(files, "read_range", replace_meanwhile)
    assert code(uri, size=len(content)) == "changed"
