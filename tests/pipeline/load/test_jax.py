"""JAX: the batches of `ds.numpy` as arrays on devices, and from any point."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from stored_datasets import portable, write

from penstock.pipeline.load import Dataset, open_dataset

from .adapters import TWICE, all_differences


@pytest.mark.extras("jax")
def test_jax(dataset: Dataset) -> None:
    assert all_differences(dataset.jax("train", 4, **TWICE), dataset, ulps=1) == []  # XLA multiplies by reciprocals


@pytest.mark.extras("jax")
def test_jax_resumes(dataset: Dataset) -> None:
    loader = dataset.jax("train", 4, **TWICE)
    begun = [batch["row"].tolist() for batch in islice(loader, 2)]
    whole = [batch["row"].tolist() for batch in dataset.jax("train", 4, **TWICE)]
    again = [batch["row"].tolist() for batch in dataset.jax("train", 4, state=loader.state(), **TWICE)]
    assert begun + again[: len(whole) - 2] == whole


@pytest.mark.extras("jax")
def test_jax_batches_divide_among_devices(dataset: Dataset) -> None:
    script = f"""
import jax
from penstock.pipeline import RequestError, open_dataset
dataset = open_dataset({dataset.uri!r})
for batch in dataset.jax("train", 4, drop_remainder=True):
    print(*(len(shard.data) for shard in batch["row"].addressable_shards))
for options in ({{"batch_size": 3, "drop_remainder": True}}, {{"batch_size": 4, "drop_remainder": False}}):
    try:
        dataset.jax("train", **options)
    except RequestError as error:
        print(error)
"""
    two_devices = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=two_devices, check=True)
    *sizes, odd, remainder = ended.stdout.splitlines()
    assert sizes == ["2 2"] * 5
    assert "a multiple of 2 devices" in odd
    assert "a multiple of 2 devices" in remainder


@pytest.mark.extras("jax")
def test_strings_have_the_names_of_outputs(tmp_path: Path) -> None:
    graph = portable()
    graph["outputs"] |= {name: {"value": "input:key", "dtype": "string"} for name in ("id", "name")}
    dataset = open_dataset(write(tmp_path, graph=graph))
    for one, other in zip(dataset.jax("train", 4), dataset.numpy("train", 4), strict=True):
        assert sorted(one) == sorted(other)
        assert one["id"].tolist() == one["name"].tolist() == other["id"].tolist()
