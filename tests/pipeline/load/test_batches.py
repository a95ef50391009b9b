import json
import multiprocessing
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_datasets import GENERATION, MEAN, STD, write

from penstock.pipeline import DatasetError, RequestError
from penstock.pipeline.formats.decode import Decoder
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.load import Dataset, batches, open_dataset
from penstock.pipeline.load.batches import Batches, LoadOptions
from penstock.pipeline.load.buffers import Buffers
from penstock.pipeline.load.locks import ProcessLock
from penstock.pipeline.load.order import Order, Share
from penstock.pipeline.load.reader import RecordReader
from penstock.pipeline.load.records import ShardRecords


def _rows(batches: Batches) -> list[list[int]]:
    return [batch["row"].tolist() for batch in batches]


def test_batches_in_the_order_of_storage(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 8)
    assert len(loader) == 3
    assert _rows(loader) == [list(range(8)), list(range(8, 16)), list(range(16, 21))]


def test_features_are_applied(dataset: Dataset) -> None:
    stored = next(iter(dataset.numpy("train", 21, features=False)))
    batch = next(iter(dataset.numpy("train", 21)))
    assert {name: str(values.dtype) for name, values in batch.items()} == dataset.transform.outputs
    np.testing.assert_array_equal(batch["image"], (stored["image"].astype(np.float32) - MEAN) / STD)
    np.testing.assert_array_equal(batch["mask"], stored["mask"] - 1)
    assert batch["label"].tolist() == [number % 2 for number in range(21)]
    assert stored["key"].tolist() == [b"k%03d" % number for number in range(21)]


def test_the_host_leaves_pixels_as_they_are(dataset: Dataset) -> None:
    host = next(iter(dataset.numpy("train", 21, features="host")))
    assert {name: str(values.dtype) for name, values in host.items()} == {
        "image": "uint8",
        "label": "int64",
        "mask": "uint8",
        "row": "int64",
    }
    whole = next(iter(dataset.numpy("train", 21)))
    for name, values in dataset.transform.device(host).items():
        np.testing.assert_array_equal(values, whole[name])


@pytest.mark.parametrize(
    ("features", "most"),
    [
        ({"image": Feature("image", "uint8", (224, 224, 3), "jpeg")}, 7),
        ({"image": Feature("image", "uint8", (224, 224, 3), "raw")}, 2),
        ({"image": Feature("image", "uint8", (1024, 1024, 3), "jpeg")}, 16),
        ({"image": Feature("image", "uint8", (None, None, 3), "jpeg")}, 16),
        ({"row": Feature("number", "int64", ())}, 2),
    ],
)
def test_no_more_threads_decode_than_keep_the_interpreters_lock_busy(features: dict[str, Feature], most: int) -> None:
    reader = RecordReader(ShardRecords([]), Decoder(features))
    assert [reader.threads(cores) for cores in (1, 2, 16)] == [1, 2, most]


@pytest.mark.parametrize(("asked", "threads"), [(None, 2), (5, 5)])
def test_threads_are_those_asked_for_or_those_that_pay(
    dataset: Dataset, asked: int | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, size: int, *names: str) -> None:
            pools.append(size)
            super().__init__(size, *names)

    monkeypatch.setattr(batches, "cores", lambda: 16)
    monkeypatch.setattr(batches, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(RecordReader, "threads", lambda _, cores: cores // 8)
    loader = dataset.numpy("train", 8, threads=asked)
    assert len(list(loader)) == 3
    assert loader.threads() == threads
    assert pools == [threads]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("prefetch", [1, 5])
def test_threads_do_not_change_the_order(dataset: Dataset, threads: int, prefetch: int) -> None:
    expected = _rows(dataset.numpy("train", 4, shuffle="exact", seed=3))
    assert _rows(dataset.numpy("train", 4, shuffle="exact", seed=3, threads=threads, prefetch=prefetch)) == expected


def test_each_epoch_has_all_examples_in_an_order_of_its_own(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 21, shuffle=True, repeat=3)
    epochs = _rows(loader)
    assert all(sorted(epoch) == list(range(21)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert _rows(loader)[0] not in epochs  # the next iteration begins with the fourth


def test_each_iteration_begins_an_epoch_even_after_one_that_was_broken_off(dataset: Dataset) -> None:
    epochs = _rows(dataset.numpy("train", 21, shuffle="exact", repeat=4))
    loader = dataset.numpy("train", 3, shuffle="exact")
    assert next(iter(loader))["row"].tolist() == epochs[0][:3]
    assert list(chain.from_iterable(_rows(loader))) == epochs[1]
    assert [batch["row"].tolist() for batch in islice(loader, 2)] == [epochs[2][:3], epochs[2][3:6]]
    assert list(chain.from_iterable(_rows(loader))) == epochs[3]
    validation = dataset.numpy("train", 3)
    assert [next(iter(validation))["row"].tolist() for _ in range(3)] == [[0, 1, 2]] * 3


def test_only_the_iteration_begun_last_says_where_the_loader_stands(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 4, shuffle="exact")
    first, second = iter(loader), iter(loader)
    next(first), next(second), next(first), next(first)
    assert {"epoch": 1, "position": 4}.items() <= loader.state().items()
    loader.restore({**loader.state(), "epoch": 0, "position": 8})
    next(second)
    assert {"epoch": 0, "position": 8}.items() <= loader.state().items()


def test_the_length_is_a_whole_iterations_wherever_the_loader_stands(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 4, repeat=2)
    iterator = iter(loader)
    for _ in range(7):
        next(iterator)
    again = dataset.numpy("train", 4, repeat=2, state=loader.state())
    assert len(loader) == len(again) == 12
    assert len(_rows(again)) == 5  # what is left of the iteration
    assert len(_rows(again)) == 12


def test_a_loader_resumed_with_other_epochs_goes_on_to_the_end_of_an_iteration_of_its_own(dataset: Dataset) -> None:
    state = dataset.numpy("train", 4, repeat=3).state_after(13)  # one batch of the third epoch
    assert {"epoch": 2, "start": 0}.items() <= state.items()
    assert len(_rows(dataset.numpy("train", 4, repeat=1, state=state))) == 5
    assert len(_rows(dataset.numpy("train", 4, repeat=2, state=state))) == 5 + 6


def test_an_epoch_that_is_set_is_the_next_one(dataset: Dataset) -> None:
    epochs = _rows(dataset.numpy("train", 21, shuffle="exact", repeat=3))
    loader = dataset.numpy("train", 21, shuffle="exact")
    for epoch in (2, 0, 1, 1):
        loader.set_epoch(epoch)
        assert _rows(loader) == [epochs[epoch]]
    loader.restore({**loader.state(), "epoch": 1, "position": 7})
    loader.set_epoch(1)  # as loops over epochs do, after they have restored
    assert _rows(loader) == [epochs[1][7:]]
    with pytest.raises(RequestError, match="epoch: expected a whole number from 0"):
        loader.set_epoch(-1)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_states_are_plain_integers_whatever_integers_are_given(dataset: Dataset, kind: Any) -> None:
    options = {name: kind(value) for name, value in {"seed": 3, "batch_size": 4, "repeat": 2, "window": 7}.items()}
    loader = dataset.numpy("train", shuffle=True, shard=(kind(1), kind(2)), **options)
    next(iter(loader))
    loader.set_epoch(kind(1))
    loader.restore({name: np.int64(value) for name, value in loader.state_after(kind(2)).items()})
    assert {type(value) for value in loader.state().values()} == {int}
    assert loader.state_dict() == json.loads(json.dumps(loader.state()))
    again = dataset.numpy("train", 4, shuffle=True, seed=3, window=7)
    again.load_state_dict(loader.state_dict())
    assert again.state()["position"] == loader.state()["position"]


def test_processes_that_make_unequally_many_batches_are_told(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 2)
    with pytest.warns(UserWarning, match="some make 6 and some 5 of the 21 examples"):  # 11 and 10 examples
        loader.use_share(Share(1, 2))
    assert len(loader) == 5
    assert [row for batch in _rows(loader) for row in batch] == list(range(1, 21, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({"equal": True}, {"drop_remainder": True}, {"batch_size": 3}):
            dataset.numpy("train", **{"batch_size": 2, **options}).use_share(Share(1, 2))


def test_an_iterator_that_is_alive_at_the_end_of_the_process_is_silent(dataset: Dataset) -> None:
    script = f"""
from penstock.pipeline.load import open_dataset
dataset = open_dataset({dataset.uri!r})
kept = [iter(dataset.numpy("train", 4, repeat=None)) for _ in range(3)]
for iterator in kept: next(iterator)
source = dataset.source("train"); source[0]
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_threads_end_with_an_iteration_that_nobody_holds(dataset: Dataset) -> None:
    def loading() -> int:
        return sum(thread.name.startswith("penstock-load") for thread in threading.enumerate())

    before = loading()
    iterator = iter(dataset.numpy("train", 4))
    next(iterator)
    assert loading() > before
    del iterator
    assert loading() == before


@pytest.mark.parametrize("stop", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("cache", [False, True])
def test_a_stopped_loader_goes_on_where_it_was(dataset: Dataset, stop: int, cache: bool) -> None:
    def loader(**options: object) -> Batches:
        return dataset.numpy("train", 4, shuffle="exact", seed=1, repeat=2, cache=cache, **options)  # type: ignore[arg-type]

    whole = _rows(loader())
    first = loader()
    begun = [batch["row"].tolist() for batch in islice(first, stop)]
    again = dataset.numpy("train", 4, shuffle="exact", seed=1, repeat=1, state=first.state())
    rest = _rows(again)
    assert (begun + rest) == whole[: stop + len(rest)]
    assert loader().state_after(stop) == first.state()


def test_the_state_after_an_iterations_end_is_the_next_ones_beginning(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 4, shuffle="exact", repeat=2)
    assert len(_rows(loader)) == 12
    assert {"epoch": 2, "position": 0, "start": 2}.items() <= loader.state().items()
    assert len(_rows(dataset.numpy("train", 4, shuffle="exact", repeat=2, state=loader.state()))) == 12


def test_resumed_on_other_hosts(dataset: Dataset) -> None:
    seen: list[int] = []
    states = []
    for host in range(2):
        loader = dataset.numpy("train", 3, shuffle="exact", shard=(host, 2))
        for batch in islice(loader, 2):
            seen += batch["row"].tolist()
        states.append(loader.state())
    assert states[0] == states[1]
    for host in range(3):
        for batch in dataset.numpy("train", 2, shuffle="exact", shard=(host, 3), state=states[0]):
            seen += batch["row"].tolist()
    assert sorted(seen) == list(range(21))


def test_repeat_none_never_ends(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 10, repeat=None)
    taken = [len(batch["row"]) for batch in islice(loader, 7)]
    assert taken == [10, 10, 1, 10, 10, 1, 10]
    with pytest.raises(TypeError, match="never ends"):
        len(loader)


def test_compressed_shards(tmp_path: Path) -> None:
    dataset = open_dataset(str(write(tmp_path, compressed=True)))
    assert sorted(chain.from_iterable(_rows(dataset.numpy("train", 4, shuffle="exact")))) == list(range(21))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    root = write(tmp_path)
    file = root / GENERATION / "data/train-00001-of-00003.tfrecord"
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"train-00001-of-00003.tfrecord: record 4 is damaged"):
        list(open_dataset(str(root)).numpy("train", 4))


def test_batches_that_are_held_are_not_written_over(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 1, repeat=3, features=False)
    held = [(batch["row"][0], batch["image"], batch["image"].copy()) for batch in loader]
    for _, image, copy in held:
        np.testing.assert_array_equal(image, copy)


def test_buffers_are_used_again_only_when_nobody_holds_them() -> None:
    buffers = Buffers()
    first = buffers.empty((1 << 18,), "uint8")
    view = first[5:10]
    address = first.ctypes.data
    del first
    assert buffers.empty((1 << 18,), "uint8").ctypes.data != address
    del view
    assert address in {buffers.empty((1 << 16,), "float32").ctypes.data for _ in range(2)}


def test_random_access(dataset: Dataset) -> None:
    source = pickle.loads(pickle.dumps(dataset.source("train", features=True)))
    assert len(source) == 21
    assert source[20]["row"] == source[-1]["row"] == 20
    assert [example["label"] for example in source[[1, 0]]] == [1, 0]
    assert source[3]["image"].dtype == np.float32
    with pytest.raises(IndexError, match="from -21 to 20"):
        source[21]


def test_a_loader_of_nothing_ends_however_often_it_is_repeated() -> None:
    reader = RecordReader(ShardRecords([]), Decoder({"row": Feature("number", "int64", ())}))
    assert list(Batches(reader, Order(()), LoadOptions(repeat=None))) == []


def test_a_host_without_a_batch_left_goes_on_with_the_others(dataset: Dataset) -> None:
    state = {**dataset.numpy("train", 5).state(), "position": 20}  # of 21
    hosts = [dataset.numpy("train", 5, shard=(index, 2), state=state) for index in range(2)]
    assert [_rows(host) for host in hosts] == [[[20]], []]
    assert [host.state() for host in hosts] == [{**state, "epoch": 1, "position": 0, "start": 1}] * 2
    assert sorted(row for host in hosts for batch in _rows(host) for row in batch) == list(range(21))


def test_what_makes_no_full_batch_any_more_belongs_to_the_next_epoch(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 5, drop_remainder=True)
    loader.restore({**loader.state(), "position": 18})
    assert loader.state()["epoch"] == 1
    assert len(loader) == len(list(loader)) == 4


def test_the_state_after_more_batches_than_an_iteration_has(dataset: Dataset) -> None:
    loader = dataset.numpy("train", 5, shuffle=True)
    assert loader.state_after(12) == {**loader.state(), "epoch": 2, "position": 10, "start": 2}
    other_host = dataset.numpy("train", 5, shard=(1, 2))  # of 21 examples the other host has one more
    assert {"epoch": 1, "position": 10}.items() <= other_host.state_after(3).items()


@pytest.mark.parametrize("other", [{"shuffle": False}, {"shuffle": "window"}, {"window": 7}])
def test_a_state_of_another_order_is_refused(dataset: Dataset, other: dict[str, Any]) -> None:
    state = dataset.numpy("train", 5, shuffle=True).state()
    words = (
        "same split of the same generation with the same seed, shuffle and window: it was saved with shuffle='exact'"
    )
    with pytest.raises(RequestError, match=words):
        dataset.numpy("train", 5, state=state, **{"shuffle": True, **other})


def test_what_true_means_is_told_and_goes_on_from_its_state(dataset: Dataset) -> None:
    chosen = dataset.numpy("train", 5, shuffle=True)
    assert repr(chosen) == "Batches(21 examples, batch_size=5, shuffle='exact', seed=0)"
    assert _rows(chosen) == _rows(dataset.numpy("train", 5, shuffle="exact", state=chosen.state_after(0)))
    named = dataset.numpy("train", 5, shuffle=True, window=7)
    assert repr(named) == "Batches(21 examples, batch_size=5, shuffle='window', window=7, seed=0)"


def _take_by_many(lock: ProcessLock) -> None:
    def take() -> None:
        for _ in range(100):
            with lock:
                pass

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_forked_process_does_not_wait_for_a_thread_of_its_parent() -> None:
    lock = ProcessLock()
    with lock:
        process = multiprocessing.get_context("fork").Process(target=_take_by_many, args=[lock])
        process.start()
        process.join(10)
        assert process.exitcode == 0
