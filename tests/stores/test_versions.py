"""Generations as versions on a store: what a rollback asks of it, and who wins where two change the pointer."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import request
from stores.proxy import Proxy, Seeded
from stores.servers import Store

from penstock.pipeline import Csv, DatasetError, Recipe, RequestError, open_dataset
from penstock.pipeline.commit.compare import choose, compare
from penstock.pipeline.commit.history import history
from penstock.pipeline.commit.prune import remove_unused
from penstock.pipeline.commit.rollback import roll_back
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.generations import list_generations
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files
from penstock.runners.run import run

pytestmark = pytest.mark.slow

RECIPE = Recipe(source=Csv("*.csv"), splits={"train": 0.5, "test": 0.5})
MODES = ("500", "503", "429", "reset", "lost", "late_500", "truncate")


def make(root: str, rows: int | None = None) -> str:
    """A generation of so many rows; None: of those that are there."""
    if rows is not None:
        files.write_bytes(files.join(root, "raw/a.csv"), b"n\n" + b"".join(b"%d\n" % number for number in range(rows)))
    asked = request(RECIPE, files.join(root, "raw"), files.join(root, "dataset"), "1" * 64)  # type: ignore[arg-type]
    return run(asked).manifest.generation


@pytest.fixture
def dataset(store: Store, folder_names: Callable[[], str]) -> tuple[str, list[str]]:
    """A dataset of three generations, and their ids, the oldest first."""
    root = store.uri(folder_names())
    return files.join(root, "dataset"), [make(root, rows) for rows in (40, 41, 42)]


def test_log_diff_rollback_and_prune(dataset: tuple[str, list[str]]):
    uri, ids = dataset
    assert [each["generation"] for each in history(uri)["generations"]] == ids[::-1]
    told = compare(*choose(uri, ids[0], None))["examples"]
    assert (told["unchanged"], told["added"]["count"], told["removed"]["count"]) == (40, 2, 0)
    assert sorted(told["added"]["keys"]) == ["a.csv:40", "a.csv:41"]
    assert [len(open_dataset(uri, generation=each[:10])) for each in ids] == [40, 41, 42]
    before = {info.uri: info.etag for info in files.list_folder(uri)}
    roll_back(uri)
    assert len(open_dataset(uri)) == 41
    after = {info.uri: info.etag for info in files.list_folder(uri)}
    assert {each for each in before | after if before.get(each) != after.get(each)} == {f"{uri}/_DATASET.json"}
    assert history(uri)["rolled_back"] == ids[2]
    assert make(uri.removesuffix("/dataset")) == ids[2]
    assert (len(open_dataset(uri)), history(uri)["rolled_back"]) == (42, None)
    assert {files.join(uri, each): True for each in ids[:1]} == dict(remove_unused(uri, keep=1))
    assert list(verify(uri, graph=False, generation=ids[1])) == []
    with pytest.raises(RequestError, match="which 0 have"):
        roll_back(uri, ids[0])


def test_of_rollbacks_and_commits_at_once_each_is_seen_or_told(dataset: tuple[str, list[str]]):
    """Two at a time: each that reports success was current, and no other pointer was ever there."""
    uri, ids = dataset
    for _ in range(10):
        at_first = Manifest.load(uri).generation
        rivals, barrier = [each for each in ids if each != at_first], threading.Barrier(2)

        def go(generation: str, barrier: threading.Barrier = barrier) -> str | None:
            barrier.wait()
            try:
                roll_back(uri, generation)
            except DatasetError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(2) as pool:
            losses = list(pool.map(go, rivals))
        winners = [each for each, loss in zip(rivals, losses, strict=True) if loss is None]
        assert Manifest.load(uri).generation in winners
        assert all("another run committed generation" in loss for loss in losses if loss)


@pytest.mark.usefixtures("impatient")
def test_a_rollback_ends_where_answers_are_lost(
    s3: Store,
    use: Callable[..., None],
    proxied: Callable[..., Proxy],
    folder_names: Callable[[], str],
    tmp_path: Path,
):
    use(s3)
    root = s3.uri(folder_names())
    ids = [make(root, rows) for rows in (40, 41)]
    use(s3, proxied(s3, faults=Seeded(2, 0.2, MODES)))
    uri = files.join(root, "dataset")
    for number in range(10):
        roll_back(uri, ids[number % 2])
        assert Manifest.load(uri).generation == ids[number % 2]
    assert len(list_generations(uri)) == 2
