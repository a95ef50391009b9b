"""Loading through faults: the batches of a disk, whatever becomes of the store's answers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import differences
from stored_datasets import write
from stores.data import upload
from stores.proxy import Proxy, Seeded
from stores.servers import Store

from penstock.pipeline import DatasetError
from penstock.pipeline.load import Dataset, ahead, open_dataset
from penstock.pipeline.load.block_cache import BlockCache
from penstock.pipeline.load.shard_files import RemoteFile

SIZES = (120, 80, 100)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cached", [False, True])
def test_faults_that_retries_ride_out_change_no_batch(
    store: Store,
    use: Callable[..., None],
    proxied: Callable[..., Proxy],
    folder_names: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cached: bool,
) -> None:
    monkeypatch.setattr(RemoteFile, "gap", 0)  # more requests ...
    for name in ("_LEAST_BYTES", "_MOST_BYTES"):
        monkeypatch.setattr(ahead, name, 60_000)  # ... of more parts
    local = open_dataset(write(tmp_path / "dataset", SIZES))
    use(store)
    uri = upload(tmp_path / "dataset", store.uri(folder_names()))
    proxy = proxied(store, faults=Seeded(1, 0.3))
    use(store, proxy)
    remote = open_dataset(uri)
    if cached:
        cache = BlockCache(str(tmp_path / "cache"), 20 * (4096 + 256) + 30_000, 4096)
        remote = Dataset(uri, remote.manifest, False, cache)
    for shuffle in ("exact", True):
        for loaded, expected in zip(
            remote.numpy("train", 16, shuffle=shuffle, window=50, repeat=2),
            local.numpy("train", 16, shuffle=shuffle, window=50, repeat=2),
            strict=True,
        ):
            assert differences(loaded, expected) == []
    assert proxy.seen.faults.total() > 50


@pytest.mark.usefixtures("impatient")
def test_a_store_that_does_not_answer_ends_loading_with_its_example(
    s3: Store,
    use: Callable[..., None],
    proxied: Callable[..., Proxy],
    folder_names: Callable[[], str],
    tmp_path: Path,
) -> None:
    write(tmp_path / "dataset", SIZES)
    use(s3)
    uri = upload(tmp_path / "dataset", s3.uri(folder_names()))
    remote = open_dataset(uri)
    batches = iter(remote.numpy("train", 16, features=False))
    use(s3, proxied(s3, faults=lambda asked: "503" if asked.kind == "get" and "/data/" in asked.target else ""))
    with pytest.raises(DatasetError, match=rf"{uri}/.*tfrecord: record \d+, example \d+ of its split, cannot be read"):
        next(batches)
