import errno
import os
from pathlib import Path

import pytest

from penstock.pipeline.errors import RequestError
from penstock.pipeline.storage import files


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path):
    assert files.list_folder(str(tmp_path / "none")) == []
    (tmp_path / "file").touch()
    assert files.list_folder(str(tmp_path / "file")) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "new" / "file"

    def fail() -> None:
        with files.create(str(target)) as file:
            file.write(b"half")
            assert not target.exists()
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert os.listdir(target.parent) == []
    files.write_bytes(str(target), b"whole")
    assert target.read_bytes() == b"whole"
    files.write_bytes(str(target), b"again")
    assert target.read_bytes() == b"again"
    assert os.listdir(target.parent) == ["file"]


def test_a_local_file_is_linked_or_copied_where_it_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "source"
    source.write_bytes(b"content")
    files.link_or_copy(str(source), str(tmp_path / "linked"), 7)
    assert (tmp_path / "linked").stat().st_ino == source.stat().st_ino
    (tmp_path / "name").symlink_to("source")
    files.link_or_copy(str(tmp_path / "name"), str(tmp_path / "deeper" / "linked"), 7)
    assert (tmp_path / "deeper" / "linked").stat().st_ino == source.stat().st_ino

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    files.link_or_copy(str(source), str(tmp_path / "linked"), 7)
    assert (tmp_path / "linked").stat().st_ino != source.stat().st_ino
    assert (tmp_path / "linked").read_bytes() == b"content"
    assert not any(files.is_temporary(name) for name in os.listdir(tmp_path))


def test_a_file_of_another_length_is_not_linked(tmp_path: Path):
    (tmp_path / "source").write_bytes(b"short")
    with pytest.raises(OSError, match=r"source: expected 7 bytes, found 5"):
        files.link_or_copy(str(tmp_path / "source"), str(tmp_path / "target"), 7)
    assert os.listdir(tmp_path) == ["source"]


def test_what_a_killed_run_left_is_known_by_its_name(tmp_path: Path):
    with files.create(str(tmp_path / "file.json")):
        (left,) = os.listdir(tmp_path)
    assert files.is_temporary(left)
    for name in ("file.json", "file.json.tmp", f"{'0' * 32}.tmp", left.removesuffix(".tmp")):
        assert not files.is_temporary(name)
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / left).touch()
    files.remove_temporaries(str(tmp_path))
    assert len(os.listdir(tmp_path)) == 5
    assert os.listdir(tmp_path / "sub") == []


def test_remove(tmp_path: Path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "nothing"):
        files.remove(str(tmp_path / name))
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("a", "b", "c"), "a/b/c"),
        (("a/", "b"), "a/b"),
        (("/", "b"), "/b"),
        (("s3://bucket/x/", "y", "z"), "s3://bucket/x/y/z"),
    ],
)
def test_join(parts: tuple[str, ...], joined: str):
    assert files.join(*parts) == joined


def test_folders_that_link_to_each_other_are_listed_once(tmp_path: Path):
    for name in range(10):
        (tmp_path / f"d{name}").mkdir()
        (tmp_path / f"d{name}" / "file").touch()
        for other in range(10):
            (tmp_path / f"d{name}" / f"l{other}").symlink_to(f"../d{other}")
    (tmp_path / "self").symlink_to("self")
    assert len(files.list_folder(str(tmp_path))) == 10


def test_a_file_is_described_by_its_literal_name(tmp_path: Path):
    (tmp_path / "l[1].csv").write_bytes(b"four")
    assert files.describe(str(tmp_path / "l[1].csv")).size == 4
    with pytest.raises(FileNotFoundError):
        files.describe(str(tmp_path / "l1.csv"))


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name, kind in (("pipe", "a pipe"), ("device", "a device")):
        for read in (files.read_bytes, files.size, files.sha256, files.open_descriptor):
            with pytest.raises(OSError, match=f"{name}: expected a regular file, found {kind}"):
                read(str(tmp_path / name))
    with pytest.raises(IsADirectoryError):
        files.read_bytes(str(tmp_path))
    assert files.read_bytes(str(tmp_path / "link"), 3) == b"abc"
    with pytest.raises(OSError, match="expected at most 2 bytes"):
        files.read_bytes(str(tmp_path / "file"), 2)


@pytest.mark.parametrize("name", ["v[1]", "a\\b", "a?b", "a*", "\udcff"])
def test_a_literal_path_leads_to_a_folder_of_any_name(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    with files.literal_path(str(tmp_path / name)) as path:
        assert path.isascii()
        assert not set(path) & set("[]*?\\")
        Path(path, "file").write_bytes(b"abc")
    assert (tmp_path / name / "file").read_bytes() == b"abc"
    assert not os.path.lexists(path)
    (tmp_path / "plain ü").mkdir()
    with files.literal_path(str(tmp_path / "plain ü")) as path:
        assert path == str(tmp_path / "plain ü")


def test_of_a_link_to_a_folder_the_link_is_removed(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    (tmp_path / "link").symlink_to("folder")
    files.remove(str(tmp_path / "link"))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder/file").exists()


def test_a_limit_beyond_any_file_is_none(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert files.read_bytes(str(tmp_path / "a"), 10**30) == b"x"


@pytest.mark.parametrize("limit", [None, 8, 1000])
def test_a_file_that_comes_in_parts_is_read_whole(tmp_path: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_bytes(b"contents")
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, count: read(descriptor, min(count, 3)))
    assert files.read_bytes(str(tmp_path / "file"), limit) == b"contents"
    with pytest.raises(files.FileTooLargeError, match="expected at most 7 bytes"):
        files.read_bytes(str(tmp_path / "file"), 7)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="has no files without a size")
def test_a_file_that_tells_no_size_is_read_whole():
    assert b"\nPid:" in files.read_bytes("/proc/self/status")


@pytest.mark.parametrize("uri", ["s3:/bucket/data", "s3:", "gs:bucket/data", "https:/host/data"])
def test_what_begins_as_a_uri_is_no_path(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (files.exists, lambda uri: files.write_bytes(f"{uri}/x", b""), files.list_folder):
        with pytest.raises(RequestError, match=f"expected a path, or a URI.*found {uri}"):
            use(uri)
    assert not list(tmp_path.iterdir())
    files.write_bytes(f"./{uri}/x", b"1")
    assert files.read_bytes(f"./{uri}/x") == b"1"


def test_a_file_can_be_created_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    files.write_bytes("page.html", b"content")
    assert (tmp_path / "page.html").read_bytes() == b"content"
