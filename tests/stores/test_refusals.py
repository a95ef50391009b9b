"""What is refused at the start: stores that ignore conditions, buckets that are not there, credentials that fail."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, write
from stores.servers import Store

from penstock.pipeline import open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.storage import files

ROUNDS = 100
FIELDS = 'source=Csv("*.csv"), features=features, splits={"train": 0.5, "test": 0.5}'
FUNCTIONS = """
from penstock.pipeline import Csv
from penstock.transforms import numeric

def features(inputs):
    return {"height": numeric.standardize(inputs, "height")}
"""


@pytest.fixture
def start(cli: Cli, tmp_path: Path) -> Callable[..., Any]:
    """Runs a recipe on a table of 20 rows, to an output."""
    recipe = cli.recipe(FIELDS, FUNCTIONS)
    source = write(tmp_path / "raw", {"people.csv": "height\n" + "".join(f"{170 + n / 8}\n" for n in range(20))})
    return lambda output, *options: cli("run", recipe, "--input", source, "--output", output, *options)


@pytest.mark.slow
def test_a_store_that_ignores_conditions_is_refused(
    careless: Store, start: Callable[..., Any], folder_names: Callable[[], str]
):
    output = careless.uri(folder_names())
    ended = start(output)
    assert ended.exit_code == 2, ended.output
    assert "ignores conditions" in ended.stderr
    assert "--single-writer" in ended.stderr
    assert files.list_folder(output) == []


@pytest.mark.slow
def test_a_single_writer_may_use_it(careless: Store, start: Callable[..., Any], folder_names: Callable[[], str]):
    output = careless.uri(folder_names())
    ended = start(output, "--single-writer")
    assert ended.exit_code == 0, ended.output
    assert list(verify(output)) == []
    assert sum(len(batch["height"]) for split in ("train", "test") for batch in open_dataset(output).numpy(split)) == 20


def test_each_of_two_runs_is_refused_each_time(careless: Store, folder_names: Callable[[], str]):
    output = careless.uri(folder_names())
    files.write_bytes(files.join(output, "kept"), b"1")  # s3rver ends when a folder gets empty and full at once
    with ThreadPoolExecutor(2) as pool:
        assert not any(pool.map(files.probe_conditions, [output] * (2 * ROUNDS)))
    assert files.list_names(output) == ["kept"]


def test_a_store_that_keeps_conditions_is_never_refused(store: Store, folder_names: Callable[[], str]):
    output = store.uri(folder_names())
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(files.probe_conditions, [output] * ROUNDS))
    assert files.list_folder(output) == []


@pytest.mark.slow
def test_a_bucket_that_is_not_there(store: Store, start: Callable[..., Any]):
    ended = start(f"{store.scheme}://no-such-bucket/dataset")
    assert ended.exit_code == 2, ended.output
    assert ended.stderr.startswith("error: --output: ")
    assert f"{store.scheme}://no-such-bucket" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
def test_credentials_that_the_store_does_not_know(
    store: Store, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    for name, value in store.wrong.items():
        monkeypatch.setenv(name, value)
    ended = start(store.uri("dataset"))
    assert ended.exit_code == 2, ended.output
    assert ended.stderr.startswith("error: --output: ")
    assert "credentials" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
