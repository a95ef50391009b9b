"""Stores by the facade: a store in memory does what a folder does."""

import contextlib
import multiprocessing
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from penstock.pipeline.errors import RequestError
from penstock.pipeline.storage import clients, files, globs, stores


@pytest.fixture
def root():
    return f"memory://{uuid.uuid4().hex}/a folder"


def test_a_store_holds_what_is_written(root):
    uri = files.join(root, "x", "ü #?%.bin")
    with files.create(uri) as file:
        file.write(b"0123")
        file.write(b"456789")
    assert files.read_bytes(uri) == b"0123456789"
    assert files.read_range(uri, 2, 5) == b"234"
    assert files.size(uri) == 10
    assert files.describe(uri).uri == uri
    assert files.sha256(uri)[1] == 10
    with files.open_read(uri) as file:
        assert file.read(3) == b"012"
        file.seek(-2, 2)
        assert file.read() == b"89"
    assert files.open_remote(uri).read_at(4, 8) == b"89"
    assert files.list_names(root) == ["x"]
    assert [info.uri for info in files.list_folder(root)] == [uri]
    assert list(globs.glob(root, "**/*.bin").files) == ["x/ü #?%.bin"]


def test_a_block_that_fails_writes_nothing(root):
    with contextlib.suppress(ZeroDivisionError), files.create(files.join(root, "x")) as file:
        file.write(b"1")
        raise ZeroDivisionError
    assert not files.exists(files.join(root, "x"))


@pytest.fixture(params=["memory", "local"])
def place(request, tmp_path, root):
    return root if request.param == "memory" else str(tmp_path)


def test_only_one_creates_and_only_the_known_version_is_replaced(place):
    uri = files.join(place, "pointer")
    first = files.create_exclusive(uri, b"1")
    with pytest.raises(FileExistsError, match="pointer"):
        files.create_exclusive(uri, b"2")
    assert files.read_versioned(uri) == (b"1", first)
    second = files.replace_exactly(uri, b"2", first)
    with pytest.raises(files.VersionMismatch, match="pointer"):
        files.replace_exactly(uri, b"3", first)
    assert files.read_versioned(uri) == (b"2", second)


def test_a_file_has_another_name_that_stays_when_either_is_replaced(place):
    source, target = files.join(place, "a", "x"), files.join(place, "b", "y")
    files.write_bytes(source, b"content")
    for _ in range(2):  # the second time over what the first left
        files.link_or_copy(source, target, 7)
    assert [info.uri for info in files.list_folder(place)] == [source, target]
    assert files.read_bytes(target) == b"content"
    files.write_bytes(source, b"another")
    assert files.read_bytes(target) == b"content"
    files.link_or_copy(source, target, 7)
    assert files.read_bytes(target) == b"another"
    files.remove(source)
    assert files.read_bytes(target) == b"another"
    with pytest.raises(FileNotFoundError, match="x"):
        files.link_or_copy(source, target, 7)
    assert files.read_bytes(target) == b"another"


def test_what_is_gone_is_no_version_to_replace(place):
    uri = files.join(place, "pointer")
    version = files.create_exclusive(uri, b"1")
    files.remove(uri)
    with pytest.raises(files.VersionMismatch):
        files.replace_exactly(uri, b"2", version)


def test_removing_takes_a_file_or_a_folder_and_no_neighbour(root):
    uris = [files.join(root, name) for name in ("d/1", "d/2/3", "dd/1", "e")]
    for uri in uris:
        files.write_bytes(uri, b"x")
    files.remove(files.join(root, "d"))
    files.remove(files.join(root, "nothing"))
    assert [info.uri for info in files.list_folder(root)] == uris[2:]
    files.remove_files([*uris[1:]])
    assert files.list_folder(root) == []


def test_files_are_looked_at_side_by_side_in_order(root):
    uris = [files.join(root, f"{i:03}") for i in range(200)]
    for i, uri in enumerate(uris):
        files.write_bytes(uri, b"x" * i)
    assert list(files.map_files(files.size, uris)) == list(range(200))
    with pytest.raises(FileNotFoundError, match="missing"):
        list(files.map_files(files.size, [*uris, files.join(root, "missing")]))


@pytest.mark.parametrize("read", [files.read_bytes, files.open_read, files.size, files.describe, files.read_versioned])
def test_what_is_not_there_is_named(read, root):
    with pytest.raises(FileNotFoundError, match=r"memory://.*a folder/none") as caught:
        read(files.join(root, "none"))
    assert "\n" not in str(caught.value)


def test_a_file_of_a_store_may_have_so_many_bytes_and_a_range_is_whole(root):
    files.write_bytes(files.join(root, "x"), b"12345")
    assert files.read_bytes(files.join(root, "x"), 5) == b"12345"
    with pytest.raises(OSError, match="at most 4 bytes"):
        files.read_bytes(files.join(root, "x"), 4)
    with pytest.raises(OSError, match="expected the bytes 2 to 9, found 3"):
        files.read_range(files.join(root, "x"), 2, 9)


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/x",
        "s3://",
        "https://user:secret@host/x",
        "https://secret@host/x",
        "s3://key:secret@bucket/x",
        "https://host/x?signature=secret",
        "az://box/x?sv=2024-11-04&sig=secret",
        "abfss://box@account.dfs.core.windows.net/x?ss=b&sv=2024-11-04&sig=secret",
        "s3://b/x?X-Amz-Date=1&X-Amz-Signature=secret",
    ],
)
def test_uris_that_are_none_are_refused_without_their_secrets(uri):
    with pytest.raises(RequestError) as caught:
        files.read_bytes(uri)
    assert "secret" not in str(caught.value)


def test_a_range_is_of_the_version_that_is_asked_for():
    uri = "memory://range-of-a-version/x"
    files.write_bytes(uri, b"0123456789")
    etag = files.describe(uri).etag
    assert files.read_range(uri, 2, 5, etag) == b"234"
    files.write_bytes(uri, b"9876543210")
    with pytest.raises(files.VersionMismatch):
        files.read_range(uri, 2, 5, etag)


def test_a_version_is_not_read_beyond_a_limit(tmp_path: Path):
    for uri in (str(tmp_path / "x"), "memory://limited/x"):
        files.write_bytes(uri, b"0123")
        assert files.read_versioned(uri, 4)[0] == b"0123"
        with pytest.raises(OSError, match="at most 3 bytes"):
            files.read_versioned(uri, 3)


def test_a_forked_process_counts_though_a_thread_was_counting():
    with stores.COUNTS._lock:
        process = multiprocessing.get_context("fork").Process(target=stores.COUNTS.add, args=["get"])
        process.start()
    process.join(20)
    assert process.exitcode == 0


def test_a_memory_is_one_also_where_several_threads_are_the_first(monkeypatch: pytest.MonkeyPatch):
    make = clients.make_client

    def make_slowly(*arguments: Any) -> Any:
        time.sleep(0.05)
        return make(*arguments)

    monkeypatch.setattr(clients, "make_client", make_slowly)
    name = uuid.uuid4().hex
    uris = [f"memory://first-{name}/{number}" for number in range(8)]
    for _ in files.map_files(lambda uri: files.write_bytes(uri, b"x"), uris):
        pass
    assert all(files.exists(uri) for uri in uris)


def test_a_bucket_is_there_where_something_is_in_it():
    bucket = f"memory://{uuid.uuid4().hex}"
    assert not files.exists(bucket)
    files.write_bytes(f"{bucket}/folder/a", b"a")
    assert files.exists(bucket)
    assert files.exists(f"{bucket}/")
    assert files.exists(f"{bucket}/folder")
    assert not files.exists(f"{bucket}/fold")


@pytest.mark.parametrize(
    ("name", "value"),
    [("PENSTOCK_STORE_TIMEOUT", "soon"), ("PENSTOCK_STORE_TIMEOUT", "-1"), ("PENSTOCK_STORE_TRIES", "0")],
)
def test_limits_that_are_none_are_refused(name, value, root, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=f"{name}.* found .*'{value}'"):
        files.exists(root)


def test_what_is_wrong_with_a_request_is_not_asked_again(root, tmp_path):
    files.write_bytes(files.join(root, "x"), b"123")
    before = stores.COUNTS.snapshot().get("retry", 0)
    with pytest.raises(OSError, match=r"memory://.*Invalid range"):
        files.read_range(files.join(root, "x"), 5, 9)
    with pytest.raises(OSError, match="file://"):
        files.read_bytes(f"file://{tmp_path}")
    assert stores.COUNTS.snapshot().get("retry", 0) == before


def test_what_waits_to_be_taken_has_a_bound():
    assert [files.calls_for(size) for size in (0, 1, 1 << 20, 8 << 20, 64 << 20, 1 << 30)] == [32, 32, 32, 8, 1, 1]
