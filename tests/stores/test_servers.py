"""What the servers do that the other tests take for granted."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from stores.proxy import Proxy, Scripted
from stores.servers import Store

from penstock.pipeline.storage import files, stores
from penstock.pipeline.storage.files import VersionMismatch


def test_what_is_written_is_read(store: Store, folder_names: Callable[[], str]):
    root = store.uri(folder_names())
    keys = ["a", "b/c", "b/d e+f", "b/ü&=%25#?.jpg", "z/" + "k" * 200]
    for key in keys:
        files.write_bytes(files.join(root, key), key.encode())
    assert [files.read_bytes(files.join(root, key)) for key in keys] == [key.encode() for key in keys]
    assert [info.uri for info in files.list_folder(root)] == sorted(files.join(root, key) for key in keys)
    assert files.list_names(root) == ["a", "b", "z"]
    assert files.read_range(files.join(root, "z", "k" * 200), 3, 7) == b"kkkk"
    files.remove(root)
    assert files.list_folder(root) == []


def test_a_listing_has_several_pages(store: Store, folder_names: Callable[[], str]):
    root = store.uri(folder_names())
    names = [f"{number:04d}" for number in range(1105)]
    list(files.map_files(lambda uri: files.write_bytes(uri, b"x"), [files.join(root, name) for name in names]))
    assert [info.uri.rpartition("/")[2] for info in files.list_folder(root)] == names


def test_an_upload_in_parts_is_whole(store: Store, folder_names: Callable[[], str]):
    uri = store.uri(f"{folder_names()}/large")
    block = bytes(range(256)) * 4096
    with files.create(uri) as file:
        for _ in range(20):
            file.write(block)
    assert files.size(uri) == 20 * len(block)
    assert files.read_range(uri, 19 * len(block), 20 * len(block)) == block


def test_a_copy_is_the_stores(store: Store, folder_names: Callable[[], str]):
    root = store.uri(folder_names())
    content = bytes(range(256)) * 40_000
    files.write_bytes(files.join(root, "a", "ü #%.bin"), content)
    files.write_bytes(files.join(root, "b"), b"before")
    before = stores.COUNTS.snapshot()
    for _ in range(2):
        files.link_or_copy(files.join(root, "a", "ü #%.bin"), files.join(root, "b"), len(content))
    made = {kind: count - before.get(kind, 0) for kind, count in stores.COUNTS.snapshot().items()}
    assert {kind: count for kind, count in made.items() if count} == {"put": 2}
    assert files.read_bytes(files.join(root, "b")) == content
    with pytest.raises(FileNotFoundError):
        files.link_or_copy(files.join(root, "none"), files.join(root, "c"), 1)


def test_conditions_are_kept(store: Store, folder_names: Callable[[], str]):
    uri = store.uri(f"{folder_names()}/pointer")
    first = files.create_exclusive(uri, b"1")
    with pytest.raises(FileExistsError):
        files.create_exclusive(uri, b"2")
    files.replace_exactly(uri, b"3", first)
    with pytest.raises(VersionMismatch):
        files.replace_exactly(uri, b"4", first)
    assert files.read_bytes(uri) == b"3"


def test_conditions_are_ignored(careless: Store, folder_names: Callable[[], str]):
    uri = careless.uri(f"{folder_names()}/pointer")
    first = files.create_exclusive(uri, b"1")
    files.create_exclusive(uri, b"2")
    files.replace_exactly(uri, b"3", first)
    assert files.read_bytes(uri) == b"3"


def test_of_eight_writers_one_wins(store: Store, folder_names: Callable[[], str]):
    root = store.uri(folder_names())
    for number in range(20):
        uri, barrier = f"{root}/{number}", threading.Barrier(8)

        def write(content: bytes, uri: str = uri, barrier: threading.Barrier = barrier) -> bytes | None:
            barrier.wait()
            try:
                files.create_exclusive(uri, content)
            except FileExistsError:
                return None
            return content

        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(write, [b"%d" % writer for writer in range(8)]))
        assert [content for content in contents if content] == [files.read_bytes(uri)]


def test_wrong_credentials_are_refused(store: Store, folder_names: Callable[[], str], monkeypatch: pytest.MonkeyPatch):
    for name, value in store.wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PermissionError):
        files.write_bytes(store.uri(f"{folder_names()}/file"), b"")


def test_a_proxy_spoils_what_it_is_told_to(
    store: Store, use: Callable[..., None], proxied: Callable[..., Proxy], folder_names: Callable[[], str]
):
    proxy = proxied(store, faults=Scripted(["503", "lost", "truncate"], kinds=["put"]))
    use(store, proxy)
    uri = store.uri(f"{folder_names()}/file")
    files.write_bytes(uri, b"content")
    assert files.read_bytes(uri) == b"content"
    assert proxy.seen.spoiled == {("put", "503"): 1, ("put", "lost"): 1, ("put", "truncate"): 1}
    assert proxy.seen.calls["put"] == 4
    assert proxy.seen.calls["get"] == 1
