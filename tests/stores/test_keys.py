"""A key is the same going in and coming out, and a listing tells each once, whatever a server makes of them."""

from collections.abc import Callable

import pytest
from stores.servers import Store

from penstock.pipeline.storage import files, globs, listing

ODD = [
    "a b/c d",
    "%25/%2F%",
    "a+b&c=d;e,f",
    "#1?x=2",
    "ü/é/猫/😀",
    "(1)!$*@:[]{}|\\^`\"<>~'",
    "." * 3 + "x",
    "a/b.c",
    "a-b",
    "a0",
    "long/" + "k" * 200,
]


def test_odd_keys_are_the_same_in_and_out(store: Store, folder_names: Callable[[], str]) -> None:
    root = store.uri(folder_names())
    keys = [key.replace("\\", "") for key in ODD] if store.scheme == "az" else ODD  # which takes it for a /
    for key in keys:
        files.write_bytes(files.join(root, key), key.encode())
    for key in keys:
        uri = files.join(root, key)
        assert files.read_bytes(uri) == key.encode()
        assert files.describe(uri).size == len(key.encode())
    infos = files.list_folder(root)
    assert [info.uri for info in infos] == sorted(files.join(root, key) for key in keys)
    assert [info.etag for info in infos] == [files.describe(info.uri).etag for info in infos]
    assert list(globs.glob(root, "**/*").files) == sorted(keys)
    assert files.list_names(files.join(root, "a")) == ["b.c"]
    files.remove(files.join(root, "a"))
    assert not files.exists(files.join(root, "a/b.c"))
    files.remove_files([files.join(root, key) for key in keys])
    assert files.list_folder(root) == []


@pytest.mark.parametrize("key", ["a//b", "./a", "a/../b", "a\tb"])
def test_keys_that_cannot_be_addressed_are_named(key: str, s3: Store, use: Callable[..., None]) -> None:
    use(s3)
    with pytest.raises(files.StoreError, match="Could not parse path"):
        files.read_bytes(s3.uri(key))


def test_a_listing_of_many_pages_goes_many_ways_at_once(
    store: Store, folder_names: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_PAGE", 40)
    root = store.uri(folder_names())
    keys = [f"{name}/{number:03}.txt" for name in ("x", "y-1", "y", "z.d") for number in range(100)]
    uris = [files.join(root, key) for key in keys]
    list(files.map_files(lambda uri: files.write_bytes(uri, b"x"), uris))
    batches = list(listing.list_batches(root, ways=8))
    assert sorted(key for batch in batches for key in batch.column("key").to_pylist()) == sorted(keys)
    assert len(globs.glob(root, "y/*.txt").files) == 100
    files.remove(root)


def test_objects_that_stand_for_folders_are_no_files(
    s3: Store, use: Callable[..., None], folder_names: Callable[[], str]
) -> None:
    use(s3)
    name = folder_names()
    assert s3.objects
    (s3.objects / "prepared" / name / "empty").mkdir(parents=True)
    files.write_bytes(s3.uri(f"{name}/full/x"), b"1")
    files.write_bytes(s3.uri(f"{name}/nothing"), b"")
    assert [info.uri for info in files.list_folder(s3.uri(name))] == [
        s3.uri(f"{name}/full/x"),
        s3.uri(f"{name}/nothing"),
    ]
