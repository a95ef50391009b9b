"""JAX: the batches of `ds.numpy` as arrays on devices, and from any point."""

import json
import os
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from stored_datasets import portable, write

from penstock.pipeline import RequestError
from penstock.pipeline.load import Dataset, open_dataset
from penstock.pipeline.load.order import Share

from .adapters import ONCE, TWICE, all_differences, row_numbers


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
def test_each_iteration_of_jax_begins_an_epoch(dataset: Dataset) -> None:
    rows = row_numbers(dataset.numpy("train", 4, repeat=3, **ONCE))
    loader = dataset.jax("train", 4, **ONCE)
    iterator = iter(loader)
    assert next(iterator)["row"].tolist() == rows[:4]
    assert {"epoch": 0, "position": 4}.items() <= loader.state().items()  # not the one that is sent ahead
    assert row_numbers(loader) == rows[21:42]
    assert row_numbers(loader) == rows[42:]
    loader.set_epoch(1)
    assert row_numbers(loader) == rows[21:42]
    assert {"epoch": 2, "position": 0}.items() <= loader.state_dict().items()
    assert loader.state_after(6) == loader.state()


def _run(script: str, devices: int) -> list[str]:
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.splitlines()


@pytest.mark.extras("jax")
def test_jax_batches_divide_among_devices(dataset: Dataset) -> None:
    script = f"""
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
    *sizes, odd, remainder = _run(script, 2)
    assert sizes == ["2 2"] * 5
    assert "the 2 parts divide" in odd
    assert "batch_size=3" in odd
    assert "a last of 1;" in remainder


@pytest.mark.extras("jax")
def test_jax_counts_the_parts_of_the_first_axis(dataset: Dataset) -> None:
    script = f"""
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P, SingleDeviceSharding
from penstock.pipeline import open_dataset
dataset = open_dataset({dataset.uri!r})
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "model"))
for spec, size, drop in (
    (P("data"), 6, True),
    (P(("data", "model")), 4, True),
    (P("data", None), 6, True),
    (P(), 6, False),
    (P(None, "model"), 5, False),
):
    names = ["image"] if "model" in spec else ["image", "row"]
    loader = dataset.jax("train", size, drop_remainder=drop, sharding=NamedSharding(mesh, spec), features=False)
    loader._send, send = lambda batch: send({{name: batch[name] for name in names}}), loader._send
    sizes = [[len(shard.data) for shard in batch["image"].addressable_shards] for batch in loader]
    print(*spec, [len(set(each)) == 1 and each[0] for each in sizes])
print(len(next(iter(dataset.jax("train", 5, sharding=SingleDeviceSharding(jax.devices()[3]))))["row"]))
"""
    assert _run(script, 4) == [
        "data [3, 3, 3]",
        "('data', 'model') [1, 1, 1, 1, 1]",
        "data None [3, 3, 3]",
        "[6, 6, 6, 3]",
        "None model [5, 5, 5, 5, 1]",
        "5",
    ]


@pytest.mark.extras("jax")
@pytest.mark.slow
def test_jax_processes_share_the_examples(dataset: Dataset) -> None:
    script = f"""
import json, os, sys
process, port = int(sys.argv[1]), sys.argv[2]
import jax, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{{port}}", 2, process)
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from penstock.pipeline import RequestError, open_dataset
dataset = open_dataset({dataset.uri!r})
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "model"))
found = {{}}

def load(name, size, **options):
    loader = dataset.jax("train", size, shuffle="exact", seed=2, **options)
    batches = list(loader)
    rows = [row for batch in batches for shard in batch["row"].addressable_shards if shard.replica_id % 2 == 0
            for row in shard.data.tolist()]
    shapes = sorted({{batch["row"].shape for batch in batches}})
    found[name] = {{"rows": rows, "shapes": shapes, "state": loader.state()}}

load("local", 4, drop_remainder=True)
load("divided", 4, drop_remainder=True, sharding=NamedSharding(mesh, P("data")))
load("divided by all", 4, drop_remainder=True, sharding=NamedSharding(mesh, P(("data", "model"))))
load("across", 4, drop_remainder=True, sharding=NamedSharding(mesh, P("model")))
load("replicated", 4, sharding=NamedSharding(mesh, P()))
load("given", 4, drop_remainder=True, shard=(1 - process, 2), sharding=NamedSharding(mesh, P("data")))
try:
    load("refused", 4, drop_remainder=True, shard=(process, 2), sharding=NamedSharding(mesh, P()))
except RequestError as error:
    found["refused"] = str(error)
batch = next(iter(dataset.jax("train", 4, drop_remainder=True, sharding=NamedSharding(mesh, P("data")))))
found["sum"] = int(jax.jit(lambda rows: rows.sum())(batch["row"]))
print(json.dumps(found))
"""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(index), port], stdout=subprocess.PIPE, env=environment)
        for index in range(2)
    ]
    printed = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    first, second = (json.loads(next(line for line in lines if line.startswith(b"{"))) for lines in printed)
    order = row_numbers(dataset.numpy("train", 21, **ONCE))
    for name in ("local", "divided", "divided by all"):
        assert [first[name]["rows"], second[name]["rows"]] == [order[0:16:2], order[1:16:2]], name
        assert first[name]["state"] == second[name]["state"]
    assert [first["given"]["rows"], second["given"]["rows"]] == [order[1:16:2], order[0:16:2]]
    assert first["local"]["shapes"] == [[4]]
    assert first["divided"]["shapes"] == first["divided by all"]["shapes"] == [[8]]
    assert first["across"]["shapes"] == [[4]]
    assert first["replicated"]["shapes"] == [[1], [4]]
    assert set(first["replicated"]["rows"]) == set(second["replicated"]["rows"]) == set(range(21))
    assert "found 2; leave out shard" in first["refused"]
    assert first["sum"] == second["sum"] == sum(range(8))


@pytest.mark.extras("jax")
def test_strings_have_the_names_of_outputs(tmp_path: Path) -> None:
    graph = portable()
    graph["outputs"] |= {name: {"value": "input:key", "dtype": "string"} for name in ("id", "name")}
    dataset = open_dataset(write(tmp_path, graph=graph))
    for one, other in zip(dataset.jax("train", 4), dataset.numpy("train", 4), strict=True):
        assert sorted(one) == sorted(other)
        assert one["id"].tolist() == one["name"].tolist() == other["id"].tolist()


@pytest.mark.extras("jax")
def test_batches_that_are_divided_are_full(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = SimpleNamespace(parts=3, spans=False, share=Share())
    monkeypatch.setattr("penstock.pipeline.load.jax.rows_of", lambda sharding: parts)
    with pytest.raises(RequestError, match=r"for the 3 parts .* use drop_remainder=True, too"):
        dataset.jax("train", 3, skip_damaged=True)
    dataset.jax("train", 3, skip_damaged=True, drop_remainder=True)
    dataset.jax("train", 3)
