"""What a cluster must be like: on what a Flink 1.20.5 of one JobManager and two TaskManagers said of itself."""

import copy
import json
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import REPOSITORY

from penstock.pipeline.errors import RequestError
from penstock.runners import flink_checks
from penstock.runners.flink_checks import Cluster
from penstock.runners.flink_job_server import JarVersions

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "flink_1_20_5.json").read_text())
GIB = 1 << 30


class Recorded:
    """A cluster that answers what is recorded, or what a test makes of it."""

    address = "http://jobmanager:8081"

    def __init__(self, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
        self.answers = copy.deepcopy(RECORDED)
        change(self.answers)

    def get(self, path: str) -> Any:
        if path not in self.answers:
            raise urllib.error.HTTPError(path, 404, "Not found", {}, None)  # type: ignore[arg-type]
        return self.answers[path]


def cluster(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Cluster:
    return Cluster.ask(Recorded(change))


def configured(**values: str | None) -> Callable[[dict[str, Any]], None]:
    """Changes the configuration; `_` stands for `.` and `__` for `-`; None removes a key."""

    def change(answers: dict[str, Any]) -> None:
        for name, value in values.items():
            key = name.replace("__", "-").replace("_", ".")
            entries = [entry for entry in answers["/jobmanager/config"] if entry["key"] != key]
            answers["/jobmanager/config"] = entries + ([{"key": key, "value": value}] if value is not None else [])

    return change


def task_managers(**values: Any) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        for entry in answers["/taskmanagers"]["taskmanagers"]:
            for name, value in values.items():
                part, _, rest = name.partition("__")
                if rest:
                    entry[part][rest] = value
                else:
                    entry[part] = value

    return change


def without_beam(answers: dict[str, Any]) -> None:
    paths = answers["/jobmanager/environment"]["classpath"]
    answers["/jobmanager/environment"]["classpath"] = [path for path in paths if "beam-runners-flink" not in path]


def test_a_cluster_is_read():
    read = cluster()
    assert (read.version, read.slots, read.free_slots, read.grows, read.has_beam) == ("1.20.5", 4, 4, False, True)
    assert [each.host for each in read.task_managers] == ["localhost", "localhost"]
    assert read.task_managers[0].network == 512 << 20
    assert read.task_managers[0].process == 2304 << 20
    assert read.task_managers[0].machine == 25276502016


def test_the_configuration_that_we_give_is_not_warned_of():
    assert flink_checks.find_warnings(cluster()) == []
    assert flink_checks.check_network(cluster(), 4, 80, streaming=False) == []
    assert flink_checks.check_network(cluster(), 4, 80, streaming=True) == []
    assert flink_checks.check_placement(cluster(), 2) == []
    assert flink_checks.check_memory(cluster()) == []


def test_what_the_checks_look_at_is_in_the_configuration_that_we_give():
    lines = (REPOSITORY / "runners/flink/config.yaml").read_text().splitlines()
    ours = dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    recorded = {entry["key"]: entry["value"] for entry in RECORDED["/jobmanager/config"]}
    assert ours.items() <= recorded.items()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (configured(restart__strategy_type=None), "restart-strategy.type: fixed-delay"),
        (configured(restart__strategy_type="none"), "restart-strategy.type: fixed-delay"),
        (configured(restart__strategy_fixed__delay_attempts="1"), "restart-strategy.fixed-delay.attempts: 10"),
        (configured(restart__strategy_fixed__delay_attempts=None), "restart-strategy.fixed-delay.attempts: 10"),
        (without_beam, "put its jar into lib/"),
        (lambda answers: answers.pop("/jobmanager/environment"), "put its jar into lib/"),
        (configured(classloader_resolve__order=None), "classloader.resolve-order: parent-first"),
    ],
)
def test_a_warning_names_the_line_that_helps(change: Callable[[dict[str, Any]], object], named: str):
    (warning,) = flink_checks.find_warnings(cluster(change))
    assert named in warning
    assert "expected" in warning or "does not tell" in warning


@pytest.mark.parametrize("strategy", ["exponential-delay", "failure-rate"])
def test_other_strategies_restart_too(strategy: str):
    assert flink_checks.find_warnings(cluster(configured(restart__strategy_type=strategy))) == []


def test_the_old_name_of_the_restart_strategy_is_read():
    old = configured(restart__strategy_type=None, restart__strategy="fixed-delay")
    assert flink_checks.find_warnings(cluster(old)) == []


def test_a_cluster_that_is_not_there_is_named():
    def gone(answers: dict[str, Any]) -> None:
        answers.clear()

    with pytest.raises(RequestError, match=r"--flink-master: expected .* at http://jobmanager:8081, found: .*404"):
        cluster(gone)


def test_what_is_no_flink_is_named():
    with pytest.raises(RequestError, match="expected the REST API of a Flink cluster"):
        cluster(lambda answers: answers.update({"/config": {"hello": 1}}))


def test_versions_that_do_not_fit_are_refused():
    flink_checks.expect_versions(cluster(), "a.jar", JarVersions("1.20.1", "1.19", "2.70.0"))
    flink_checks.expect_versions(cluster(), "a.jar", JarVersions())
    with pytest.raises(RequestError, match=r"expected a job server for Flink 1\.20, .* found one for 1\.19\.2: a\.jar"):
        flink_checks.expect_versions(cluster(), "a.jar", JarVersions("1.19.2", "1.19", "2.70.0"))
    with pytest.raises(RequestError, match=r"expected Beam 2\.70\.0, which lies in Flink's lib/, found 2\.77\.0"):
        flink_checks.expect_versions(cluster(), "a.jar", JarVersions("1.20.1", "1.20", "2.77.0"))


def test_a_job_takes_all_free_slots_or_as_many_as_are_given():
    assert flink_checks.choose_parallelism(cluster(), None) == 4
    assert flink_checks.choose_parallelism(cluster(), 3) == 3
    with pytest.raises(RequestError, match="expected 5 free slots, found 4 of 4 on 2 TaskManagers"):
        flink_checks.choose_parallelism(cluster(), 5)
    with pytest.raises(RequestError, match="expected 1 free slots, found 0 of 4"):
        flink_checks.choose_parallelism(cluster(task_managers(freeSlots=0)), None)


def test_a_cluster_that_grows_is_told_how_far():
    def session(answers: dict[str, Any]) -> None:
        configured(execution_target="kubernetes-session")(answers)
        answers["/taskmanagers"]["taskmanagers"] = []

    assert flink_checks.choose_parallelism(cluster(session), 100) == 100
    with pytest.raises(RequestError, match="give --workers"):
        flink_checks.choose_parallelism(cluster(session), None)


def test_slots_that_are_not_spread_out_are_warned_of_where_some_stay_free():
    crowded = cluster(configured(cluster_evenly__spread__out__slots=None))
    (warning,) = flink_checks.check_placement(crowded, 2)
    assert "cluster.evenly-spread-out-slots: true" in warning
    assert flink_checks.check_placement(crowded, 4) == []
    balanced = configured(cluster_evenly__spread__out__slots=None, taskmanager_load__balance_mode="SLOTS")
    assert flink_checks.check_placement(cluster(balanced), 2) == []


def test_a_shuffle_that_can_never_run_is_refused():
    """463 buffers in a TaskManager of 1728 MB, 512 for a shuffle: Flink's defaults fail any job of some size."""
    defaults = cluster(
        lambda answers: (
            configured(taskmanager_network_sort__shuffle_min__buffers=None)(answers),
            task_managers(memoryConfiguration__networkMemory=463 * 32768)(answers),
        )
    )
    with pytest.raises(RequestError, match="expected 512 network buffers for one sorted shuffle, found 463") as refusal:
        flink_checks.check_network(defaults, 2, 79, streaming=False)
    assert "taskmanager.network.sort-shuffle.min-buffers: 64" in str(refusal.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_many_stages_want_many_buffers(streaming: bool):
    small = cluster(task_managers(memoryConfiguration__networkMemory=64 << 20))
    (warning,) = flink_checks.check_network(small, 4, 200, streaming)
    assert "found 2048" in warning
    assert "taskmanager.memory.network.max: 512m" in warning
    assert flink_checks.check_network(small, 4, 4, streaming) == []


def test_the_size_that_is_named_is_enough():
    """Of a job with many slots: 80 stages, two tasks of each on a TaskManager, buffers for 500 at the other end."""
    (warning,) = flink_checks.check_network(cluster(), 500, 80, streaming=False)
    size = int(warning.partition("taskmanager.memory.network.min: ")[2].partition("m")[0])
    enough = cluster(task_managers(memoryConfiguration__networkMemory=size << 20))
    assert flink_checks.check_network(enough, 500, 80, streaming=False) == []


def test_python_workers_need_memory_beside_flink():
    """Both TaskManagers are on one machine."""
    (warning,) = flink_checks.check_memory(cluster(task_managers(hardware__physicalMemory=6 * GIB)))
    assert "expected 3.0 GiB beside 2 TaskManagers on localhost" in warning
    assert "found 1.5 GiB of 6.0 GiB" in warning
    assert flink_checks.check_memory(cluster(task_managers(hardware__physicalMemory=8 * GIB))) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("32 kb", 32 << 10), ("64k", 64 << 10), ("536870912b", 512 << 20), ("1g", GIB), ("", 7), ("x", 7)],
)
def test_sizes_as_flink_writes_them(text: str, size: int):
    assert flink_checks.parse_bytes(text, 7) == size
