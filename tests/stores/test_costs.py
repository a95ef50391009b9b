"""What runs and readers ask of a store: docs/stores.md has the figures."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import draw, request
from stores.data import table, upload
from stores.proxy import Proxy
from stores.servers import Store

from penstock.pipeline import Csv, Images, Recipe, open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.storage import files
from penstock.runners.run import run
from penstock.transforms import image

pytestmark = pytest.mark.slow

FIXED = 80  # requests of a run, whatever its size
OF_A_UNIT = 11  # its mark, five files, and what is looked at: its plan and journal, whose the generation is; the commit


def pictures(inputs: Any) -> dict[str, Any]:
    return {"image": image.standardize(inputs, "image")}


def recipe(shards: int, **fields: Any) -> Recipe:
    splits = {"train": 0.8, "test": 0.2}
    return Recipe(source=Images("images/*.png", **fields), features=pictures, splits=splits, shards=shards)


@pytest.fixture
def counted(s3: Store, use: Callable[..., None], proxied: Callable[..., Proxy]) -> Callable[..., Counter[str]]:
    """Calls a function, and tells how many requests of each kind it made."""
    proxy = proxied(s3)
    use(s3, proxy)

    def counted_(function: Callable[[], object]) -> Counter[str]:
        proxy.reset()
        function()
        return proxy.reset().calls

    return counted_


@pytest.mark.parametrize(("images", "shards", "masks"), [(40, 1, False), (40, 4, True), (400, 4, False)])
def test_a_run_reads_each_payload_once(
    counted: Callable[..., Counter[str]],
    s3: Store,
    folder_names: Callable[[], str],
    tmp_path: Path,
    images: int,
    shards: int,
    masks: bool,
):
    root = s3.uri(folder_names())
    source = upload(draw(tmp_path, images, (24, 16), masks=masks), files.join(root, "raw"))
    asked, dataset = recipe(shards, mask="masks/{stem}.png" if masks else None), files.join(root, "dataset")
    job = request(asked, source, dataset, "a" * 64)  # type: ignore[arg-type]
    made = counted(lambda: run(job))
    assert made.total() <= FIXED + images * (1 + masks) + 2 * shards * OF_A_UNIT, made
    assert images * (1 + masks) <= made["get"]
    assert counted(lambda: run(job)).total() <= 32  # with the manifest, and what is forgotten
    assert counted(lambda: list(verify(dataset))).total() <= 23 + 2 * shards * 6  # a unit's shard, index, hashes, sums
    assert counted(lambda: open_dataset(dataset)).total() <= 3
    opened = open_dataset(dataset)
    assert counted(lambda: list(opened.numpy("train", 16))).total() <= 4 + 3 * shards


def test_a_table_is_read_by_large_ranges(
    counted: Callable[..., Counter[str]], s3: Store, folder_names: Callable[[], str], tmp_path: Path
):
    root, size = s3.uri(folder_names()), 10_000_000
    (tmp_path / "people").mkdir()
    rows = "".join(f'{n},{n % 97 * 1.5},"town, {n % 9}",{n % 11}\n' for n in range(size // 20))
    (tmp_path / "people" / "1.csv").write_text(f"person,height,town,clicks\n{rows}")
    source = upload(tmp_path, files.join(root, "raw"))
    job = request(table(Csv("people/*.csv")), source, files.join(root, "dataset"))  # type: ignore[arg-type]
    megabytes = files.size(files.join(source, "people/1.csv")) / (1 << 20)
    assert counted(lambda: run(job)).total() <= FIXED + 4 * megabytes + 4 * OF_A_UNIT
