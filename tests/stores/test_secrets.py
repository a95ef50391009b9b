"""No credential in what runs write, print, pickle or hand to an engine. The last search covers the other tests, too."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import cloudpickle_pickler
from helpers import Cli, free_port, penstock, request, standard_recipe
from stores import canaries
from stores.data import raw_data, upload
from stores.servers import Store

from penstock.pipeline import open_dataset
from penstock.runners.run import run

pytestmark = pytest.mark.slow

FIELDS = 'source=Csv("people/*.csv"), features=features, splits={"train": 0.5, "test": 0.5}'
FUNCTIONS = """
from penstock.pipeline import Csv
from penstock.transforms import numeric

def features(inputs):
    return {"height": numeric.standardize(inputs, "height")}
"""


@pytest.fixture
def source(store: Store, folder_names: Callable[[], str], tmp_path: Path) -> str:
    return upload(raw_data(tmp_path / "raw"), store.uri(folder_names(), "raw"))


def test_pickles_and_pipelines_hold_none(
    store: Store, source: str, folder_names: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recorded: list[tuple[str, bytes]] = []
    dumps, execute = cloudpickle_pickler._dumps, beam.Pipeline.run

    def record_pickle(value: Any, *arguments: Any) -> bytes:
        content: bytes = dumps(value, *arguments)
        recorded.append((f"pickle of {type(value).__name__}", content))
        return content

    def record_pipeline(pipeline: beam.Pipeline, *arguments: Any, **options: Any) -> Any:
        recorded.append(("pipeline", pipeline.to_runner_api().SerializeToString()))
        recorded.append(("options", repr(pipeline.options.get_all_options()).encode()))
        return execute(pipeline, *arguments, **options)

    monkeypatch.setattr(cloudpickle_pickler, "_dumps", record_pickle)
    monkeypatch.setattr(beam.Pipeline, "run", record_pipeline)
    output = store.uri(folder_names())
    run(request(standard_recipe(), source, output))  # type: ignore[arg-type]
    kinds = {name for name, _ in recorded}
    assert {"pipeline", "options"} < kinds
    assert any(output.encode() in content for name, content in recorded if name.startswith("pickle"))
    assert canaries.find_in(recorded, store.secrets) == []


def test_a_dataset_pickles_without(store: Store, source: str, folder_names: Callable[[], str]):
    import pickle

    output = store.uri(folder_names())
    run(request(standard_recipe(), source, output))  # type: ignore[arg-type]
    dataset = open_dataset(output)
    next(iter(dataset.numpy("train", 4)))
    pickled = [("dataset", pickle.dumps(dataset)), ("repr", repr(dataset).encode())]
    pickled.append(("examples", pickle.dumps(dataset.source("train"))))
    assert canaries.find_in(pickled, store.secrets) == []
    assert pickle.loads(pickled[0][1]).numpy("train", 4)


def test_commands_print_none(store: Store, source: str, folder_names: Callable[[], str], tmp_path: Path):
    """Runs that go well, with two workers, and such as fail in every way that has to do with the store; S3 has all."""
    recipe, output = Cli(tmp_path).recipe(FIELDS, FUNCTIONS), store.uri(folder_names())
    arguments = ["run", recipe, "--input", source, "--output", output]
    right = store.variables()
    unreachable = {**store.variables(free_port()), "PENSTOCK_STORE_TRIES": "2"}
    cases: list[tuple[list[object], dict[str, str], int]] = [
        ([*arguments, "--workers", 2], right, 0),
        (["inspect", output], right, 0),
        (["verify", output], right, 0),
        (["prune", output], right, 0),
        (["load", output, "--adapter", "numpy", "--seconds", 0.1], right, 0),
        ([*arguments[:-1], f"{store.scheme}://no-such-bucket/dataset"], right, 2),
        ([*arguments[:-2], "--output", f"{output}-2"], {**right, **store.wrong}, 2),
        ([*arguments[:-2], "--output", f"{output}-2"], unreachable, 2),
        (["inspect", output], {**right, **store.wrong}, 1),
        (["inspect", f"{output}-3"], right, 1),
    ]
    for command, environment, code in cases if store.scheme == "s3" else cases[5:8]:
        ended = penstock(*command, env={**os.environ, **environment})
        assert ended.returncode == code, (command, ended.stderr)
        printed = [("stdout", ended.stdout.encode()), ("stderr", ended.stderr.encode())]
        secrets = [*store.secrets, *(value for name, value in store.wrong.items() if name.endswith("KEY"))]
        assert canaries.find_in(printed, secrets) == [], command
        assert not re.search("Bearer |Signature=|sig=|SharedKey ", ended.stdout + ended.stderr), command
