"""Stages wait for each other by one element, refusals end them in words, and what another worker may do is raised."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from penstock.pipeline.build.claim import claim, expect_claimed, stop
from penstock.pipeline.build.tasks import Refusal, Signal, Spread, StageDoFn, Task, Wait
from penstock.pipeline.errors import OverBudgetError, PenstockError, RequestError
from penstock.pipeline.formats import paths
from penstock.pipeline.prepare.shipping import NO_MODULES, OwnModules
from penstock.pipeline.storage import files
from penstock.pipeline.storage.files import StoreError, UnreachableError
from penstock.runners.direct import make_runner, pipeline_options


@dataclass(frozen=True)
class Options:
    root: str
    own: OwnModules = NO_MODULES
    versions: Mapping[str, str] = field(default_factory=dict)


class Odd(StageDoFn[Options]):
    """Does odd numbers; raises what it is told for another one."""

    def __init__(self, root: str, error: Exception | None = None, versions: Mapping[str, str] | None = None) -> None:
        super().__init__(Options(root, versions=versions or {}), "this run")
        self._error = error

    def do(self, numbers: Sequence[int]) -> int:
        if self._error and any(number % 2 == 0 for number in numbers):
            raise self._error
        return len(numbers)


def signals(stage: StageDoFn[Options], *numbers: int) -> list[Signal]:
    return list(stage.process(Task(numbers)))


def test_stages_end_in_one_signal_that_counts_their_tasks(tmp_path: Any) -> None:
    options = pipeline_options(1, [])
    with beam.Pipeline(runner=make_runner(options), options=options) as pipeline:
        begun = pipeline | beam.Impulse() | beam.Map(lambda _: Signal())
        first = begun | "A" >> Spread(100) | beam.ParDo(Odd("memory://x")) | "B" >> Wait()
        second = first | "C" >> Spread([(1, 3), (5,)]) | "D" >> beam.ParDo(Odd("memory://x")) | "E" >> Wait()
        assert_that(first, equal_to([Signal(100)]), "first")
        assert_that(second, equal_to([Signal(3)]), "second")


def test_a_refusal_ends_the_stages_that_follow(tmp_path: Any) -> None:
    root = str(tmp_path)
    claim(root, "this run")
    refusal = Refusal("PenstockError", "no")
    options = pipeline_options(1, [])
    with beam.Pipeline(runner=make_runner(options), options=options) as pipeline:
        begun = pipeline | beam.Impulse() | beam.Map(lambda _: Signal())
        first = begun | "A" >> Spread(3) | beam.ParDo(Odd(root, PenstockError("no"))) | "B" >> Wait()
        second = first | "C" >> Spread(10) | "D" >> beam.ParDo(Odd(root)) | "E" >> Wait()
        assert_that(first, equal_to([Signal(1, refusal)]), "first")
        assert_that(second, equal_to([Signal(0, refusal)]), "second")
    with pytest.raises(PenstockError, match=r"^no$"):  # so that no unit begins any more
        expect_claimed(root, "this run")


def test_no_stage_is_done_by_a_worker_of_other_versions(tmp_path: Any) -> None:
    claim(str(tmp_path), "this run")
    (signal,) = signals(Odd(str(tmp_path), RuntimeError("done"), {"pillow": "0.1"}), 2)
    assert signal.refusal
    assert "expected pillow 0.1, as the launcher has" in signal.refusal.message


def test_no_stage_has_a_side_input_and_each_is_spread() -> None:
    """A side input would be held, or built anew for each element; a stage that is fused to the signal is one thread."""
    pipeline = beam.Pipeline()
    begun = pipeline | beam.Impulse() | beam.Map(lambda _: Signal())
    _ = begun | "A" >> Spread(3) | "do" >> beam.ParDo(Odd("memory://x")) | "B" >> Wait()
    transforms = pipeline.to_runner_api().components.transforms.values()
    kinds = {transform.unique_name: transform.spec.urn for transform in transforms}
    for transform in transforms:
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            assert not payload.side_inputs, transform.unique_name
    assert "beam:transform:reshuffle:v1" in kinds.values()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (PenstockError("the file changed; run again"), "PenstockError", "the file changed; run again"),
        (OverBudgetError("too many"), "OverBudgetError", "too many"),
        (RequestError("no"), "RequestError", "no"),
        (PermissionError("s3://b: the store refused access"), "PermissionError", "s3://b: the store refused access"),
        (KeyError("x"), "KeyError", "KeyError: 'x'"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "UnicodeDecodeError", "UnicodeDecodeError: 'utf-8'"),
    ],
)
def test_what_every_worker_would_meet_is_a_refusal(error: Exception, kind: str, message: str) -> None:
    (signal,) = signals(Odd("memory://nothing", error), 2)
    assert signal.done == 0
    assert signal.refusal
    assert signal.refusal.kind == kind
    assert signal.refusal.message.startswith(message)


@pytest.mark.parametrize(
    "error", [UnreachableError("s3://b: no answer"), StoreError("s3://b: 507"), OSError(28, "disk full"), MemoryError()]
)
def test_what_another_worker_may_do_is_the_engines_to_try_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        signals(Odd("memory://nothing", error), 2)


def test_a_signal_has_a_kilobyte_at_most() -> None:
    (signal,) = signals(Odd("memory://nothing", PenstockError("ä" * 5000)), 2)
    assert signal.refusal
    assert len(pickle.dumps(signal)) < 1000 + 100
    (signal,) = signals(Odd("memory://nothing"), *range(1, 100, 2))
    assert (signal.done, len(pickle.dumps(signal)) < 200) == (50, True)


@pytest.mark.parametrize("where", ["memory://stopped/generation", "local"])
def test_a_run_is_stopped_by_its_own_workers_alone(where: str, tmp_path: Any) -> None:
    root = str(tmp_path) if where == "local" else where
    claim(root, "new")
    stop(root, "old", "it cannot be read")
    expect_claimed(root, "new")
    stop(root, "new", "it cannot be read\nat all")
    stop(root, "new", "another reason")
    with pytest.raises(PenstockError, match=r"^it cannot be read\nat all$"):
        expect_claimed(root, "new")
    claim(root, "newer")
    expect_claimed(root, "newer")
    files.remove(files.join(root, paths.RUN))
    stop(root, "newer", "why")  # nothing to tell
