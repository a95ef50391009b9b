"""What preparing in a process of its own protects from."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pytest
from helpers import save

from penstock.pipeline import PenstockError
from penstock.pipeline.prepare.images import ImagePreparer, ImageSteps
from penstock.pipeline.prepare.isolate import IsolatedPreparer
from penstock.pipeline.prepare.outcomes import Prepared
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.pipeline.prepare.shipping import OwnModules, shipped
from penstock.pipeline.sources.listing import Reference
from penstock.pipeline.sources.quarantine import QuarantinedExample
from penstock.transforms import image

pytestmark = pytest.mark.slow

Step = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(autouse=True, scope="module")
def _functions_travel_by_value() -> None:
    """As those of a recipe do: a child cannot import this file."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def references(tmp_path: Path) -> list[Reference]:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3))
    paths = [save(tmp_path / f"{number}.png", array) for number, array in enumerate(pixels)]
    return [Reference(path.name, str(path), path.stat().st_size) for path in paths]


def isolated(step: Step, processes: int = 1, timeout: float | None = 20.0) -> IsolatedPreparer:
    return IsolatedPreparer(ImageSteps(image.decode(), [step], {"image": image.png()}), processes, timeout)


@pytest.fixture
def harmless() -> Iterator[IsolatedPreparer]:
    preparer = isolated(lambda example: example, processes=3)
    yield preparer
    preparer.close()


def test_outcomes_are_those_of_the_preparer_itself(harmless: IsolatedPreparer, references: list[Reference]):
    plain = ImageSteps(image.decode(), [lambda example: example], {"image": image.png()})
    gone = references[0]._replace(uri="/nowhere.png")
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda reference: harmless(reference, True), [*references, gone]))
    for outcome, reference in zip(found, [*references, gone], strict=True):
        expected = plain(reference, True)
        if isinstance(expected, Prepared):
            assert {**vars(outcome), "histograms": None} == {**vars(expected), "histograms": None}
            assert np.array_equal(outcome.histograms["image"], expected.histograms["image"])
        else:
            assert outcome == expected


def hang(example: dict[str, Any]) -> Any:
    time.sleep(1000)


def loop(example: dict[str, Any]) -> Any:
    while True:
        pass


def die(example: dict[str, Any]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(example: dict[str, Any]) -> Any:
    import ctypes

    ctypes.string_at(0)


def leave(example: dict[str, Any]) -> Any:
    os._exit(3)


def hog(example: dict[str, Any]) -> Any:
    return {**example, "x": len(bytearray(64 << 30))}


def fork_and_hang(example: dict[str, Any]) -> Any:
    """A grandchild holds the child's pipes open after it was killed."""
    grandchild = os.fork()
    if not grandchild:
        time.sleep(200)
        os._exit(0)
    Path(os.environ["GRANDCHILD"]).write_text(str(grandchild))
    time.sleep(1000)


@pytest.mark.parametrize(
    ("evil", "code", "words"),
    [
        (hang, "decoder_timeout", "within 3 s"),
        (loop, "decoder_timeout", "within 3 s"),
        (fork_and_hang, "decoder_timeout", "within 3 s"),
        (die, "decoder_died", "SIGKILL"),
        (crash, "decoder_died", "SIGSEGV"),
        (leave, "decoder_died", "exited with status 3"),
        (hog, "prepare_error", "MemoryError"),
    ],
)
def test_only_the_evil_example_is_lost(
    references: list[Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: Step, code: str, words: str
):
    monkeypatch.setenv("GRANDCHILD", str(tmp_path / "grandchild"))

    def step(example: dict[str, Any]) -> Any:
        print("to standard output, which is no answer", flush=True)
        return evil(example) if example["key"] == "3.png" else example

    preparer = isolated(step, timeout=3.0)
    outcomes = [preparer(reference) for reference in references]
    preparer.close()
    if evil is fork_and_hang:
        os.kill(int((tmp_path / "grandchild").read_text()), signal.SIGKILL)  # still there: it was not waited for
    lost = [outcome for outcome in outcomes if isinstance(outcome, QuarantinedExample)]
    assert [(outcome.key, outcome.code) for outcome in lost] == [("3.png", code)]
    assert words in lost[0].message
    assert sum(isinstance(outcome, Prepared) for outcome in outcomes) == len(references) - 1


def test_a_child_that_cannot_start_fails_the_run_and_not_every_example(references: list[Reference]):
    class Unloadable:
        def __reduce__(self) -> Any:
            return eval, ("1 / 0",)

        def __call__(self, example: Any) -> Any:
            return example

    preparer = isolated(Unloadable())  # type: ignore[arg-type]
    with pytest.raises(PenstockError, match="expected a process that prepares examples to start, but it exited"):
        preparer(references[0])
    preparer.close()


def test_no_more_children_than_asked_for(
    harmless: IsolatedPreparer, references: list[Reference], monkeypatch: pytest.MonkeyPatch
):
    started: list[Any] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(harmless, references * 3))
    assert 1 <= len(started) <= 3
    assert all(process.poll() is None for process in started)
    harmless.close()
    assert all(process.poll() is not None for process in started)


def test_pickling_by_value_lasts_as_long_as_it_is_asked_for():
    module = ModuleType("_only_here")
    exec("def step(example):\n    return example", vars(module))
    sys.modules[module.__name__] = module
    try:
        with shipped(module, OwnModules()):
            held = cloudpickle.dumps(module.step)
        by_name = cloudpickle.dumps(module.step)
    finally:
        del sys.modules[module.__name__]
    assert pickle.loads(held)({"key": "a"}) == {"key": "a"}
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(by_name)


def test_a_process_with_more_than_1024_open_files(references: list[Reference]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        preparer = isolated(lambda example: example)
        assert isinstance(preparer(references[0]), Prepared)
    finally:
        for descriptor in others:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("evil", "words"), [(die, "SIGKILL"), (crash, "SIGSEGV"), (leave, "exited with status 3")])
def test_without_a_time_limit_only_examples_that_kill_twice_are_lost(
    references: list[Reference], tmp_path: Path, evil: Step, words: str
):
    tried = tmp_path / "tried"

    def step(example: dict[str, Any]) -> Any:
        if example["key"] == "1.png" and not tried.exists():
            tried.touch()
            return evil(example)  # by chance: not because of the example
        return evil(example) if example["key"] == "3.png" else example

    preparer = isolated(step, timeout=None)
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(preparer, references))
    preparer.close()
    lost = [outcome for outcome in outcomes if not isinstance(outcome, Prepared)]
    assert [(each.key, each.stage, each.code) for each in lost] == [("3.png", "prepare", "worker_died")]
    assert words in lost[0].message


def test_of_a_group_of_images_only_the_one_that_kills_is_lost(tmp_path: Path) -> None:
    """A thread prepares several small images before it hands them over."""
    pixels = np.random.default_rng(0).integers(0, 256, (128, 6, 6, 3))
    paths = [save(tmp_path / f"{number:03d}.png", array) for number, array in enumerate(pixels)]
    references = [Reference(path.name, str(path), path.stat().st_size) for path in paths]

    def step(example: dict[str, Any]) -> Any:
        return die(example) if example["key"] == "036.png" else example

    features = ImageSteps(image.decode())(references[0]).features  # type: ignore[union-attr]
    preparer = ImagePreparer(ImageSteps(image.decode(), [step]), features, StatisticsSpec("train"))
    worker = preparer.start(2, isolated=True)
    chunks = list(worker.chunks({"train"}, references))
    worker.close()
    assert max(chunk.read for chunk in chunks) == 16
    assert [(each.key, each.code) for chunk in chunks for each in chunk.quarantined] == [("036.png", "worker_died")]
    written = [key for chunk in chunks for key in chunk.splits["train"].hashes["key"].to_pylist()]
    assert written == [each.key for each in references if each.key != "036.png"]
