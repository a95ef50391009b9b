"""Several worker processes, and processes that isolate examples: as the command line starts them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, draw, penstock

pytestmark = pytest.mark.slow

FIELDS = """
    source=Images("images/*.png", mask="masks/{stem}.png", label=r"(?P<label>.+)_\\d+"),
    prepare=[step],
    features=features,
    splits={"train": 0.8, "test": 0.2},
    shards=4,
"""
FUNCTIONS = """
OFFSET = 3


def step(example):
    return {**example, "pid": 0 * os.getpid() + OFFSET}


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "pid": tft.scale_to_0_1(inputs["pid"]),
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }
"""


def run(recipe: Path, source: Path, output: Path, *arguments: str) -> dict[str, Any]:
    ended = penstock("run", recipe, "--input", source, "--output", output, "--json", *arguments)
    assert ended.returncode == 0, ended.stderr
    entry: dict[str, Any] = json.loads(ended.stdout)
    return entry


def hashes(entry: dict[str, Any]) -> list[str]:
    return [shard["sha256"] for split in entry["splits"].values() for shard in split["shards"]]


def test_two_workers_make_the_bytes_of_one(tmp_path: Path):
    recipe, raw = Cli(tmp_path).recipe(FIELDS, FUNCTIONS), draw(tmp_path / "raw", 40, masks=True)
    one = run(recipe, raw, tmp_path / "one")
    two = run(recipe, raw, tmp_path / "two", "--workers", "2")
    assert one["generation"] == two["generation"]
    assert hashes(one) == hashes(two)
    statistics = [
        (tmp_path / name / one["generation"] / "statistics" / "statistics.json").read_bytes() for name in ("one", "two")
    ]
    assert statistics[0] == statistics[1]
    assert penstock("verify", tmp_path / "two").returncode == 0


def test_options_reach_the_workers(tmp_path: Path):
    import apache_beam as beam

    from penstock.runners.direct import make_runner, pipeline_options

    def tell(number: int, folder: str = str(tmp_path)) -> int:
        import os
        import time

        from apache_beam.io.filesystems import FileSystems

        time.sleep(0.5)
        with open(f"{folder}/{os.getpid()}", "w") as file:
            file.write(str(FileSystems._pipeline_options.get_all_options()["temp_location"]))
        return number

    options = pipeline_options(2, ["--temp_location=/an/option"])
    with beam.Pipeline(runner=make_runner(options), options=options) as pipeline:
        _ = pipeline | beam.Create(range(8)) | beam.Map(tell)
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(told.values()) == {"/an/option"}
    assert len(told) == 2
    assert str(os.getpid()) not in told


EVIL = """
def step(example):
    number = int(example["key"][-7:-4])
    if number in (1, 15, 21):  # whatever comes first, among them the first examples, which are tried before
        time.sleep(1000)
    if number in (2, 16, 22):
        os.kill(os.getpid(), signal.SIGKILL)
    if number in (4, 17, 23):
        os._exit(0)
    return example


def features(inputs):
    return {"image": image.standardize(inputs, "image")}
"""


def test_examples_that_hang_or_die_are_lost_alone(tmp_path: Path):
    recipe, raw = Cli(tmp_path).recipe(FIELDS, EVIL), draw(tmp_path / "raw", 30, masks=True)
    entry = run(recipe, raw, tmp_path / "dataset", "--isolate", "--timeout", "2", "--max-quarantined", "9")
    assert entry["written"] == 21
    assert entry["reasons"]["quarantined"] == {"decoder_timeout": 3, "decoder_died": 6}


def test_isolation_changes_no_byte(tmp_path: Path):
    recipe, raw = Cli(tmp_path).recipe(FIELDS, FUNCTIONS), draw(tmp_path / "raw", 20, masks=True)
    plain = run(recipe, raw, tmp_path / "plain")
    isolated = run(recipe, raw, tmp_path / "isolated", "--isolate", "--threads", "3")
    assert hashes(plain) == hashes(isolated)
