"""What a Flink cluster must be like for a job: what its REST API says, and which line of its configuration to change.

What makes a job fail, or never start, is refused; what makes it slow, or lets one dead process fail it, is warned of.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..pipeline.errors import RequestError
from .flink_job_server import JarVersions, runner_versions

_ON_DEMAND = ("kubernetes", "yarn")  # of `execution.target`: whose TaskManagers come when a job needs them
_NO_RESTART = ("none", "off", "disable", "")
_FIXED_DELAY = ("fixed-delay", "fixeddelay")
_ATTEMPTS = 4  # two deaths: each costs the lost TaskManager's attempt, and that of a partition which it held
_SEGMENT = 32 << 10  # bytes of a network buffer, unless the cluster says otherwise
_NETWORK = 512 << 20  # bytes for network buffers that suffice for most jobs
_FEW_BUFFERS = 64  # of a sorted shuffle: it sorts less at a time
_SORT_SHUFFLE = 512  # buffers of a sorted shuffle, unless the cluster says otherwise
_WORKER_MEMORY = 3 << 29  # bytes of a Python worker that has TensorFlow and Beam loaded, and some examples
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


class Rest(Protocol):
    """What answers as Flink's REST API does."""

    @property
    def address(self) -> str: ...

    def get(self, path: str) -> Any: ...


@dataclass(frozen=True)
class TaskManager:
    """A TaskManager.

    Attributes:
      host: The machine that it is on.
      slots: How many slots it has.
      free: How many of them are free.
      network: Bytes for network buffers.
      process: Bytes that its own process may take.
      machine: Bytes of memory that its machine or container has.
    """

    host: str
    slots: int
    free: int
    network: int
    process: int
    machine: int


@dataclass(frozen=True)
class Cluster:
    """A Flink cluster, as its REST API describes it.

    Attributes:
      version: Flink's version.
      config: The JobManager's configuration; a standalone cluster's TaskManagers read the same file.
      class_path: The JobManager's class path; empty where Flink does not tell.
      task_managers: Those that are registered.
    """

    version: str
    config: Mapping[str, str]
    class_path: Sequence[str]
    task_managers: Sequence[TaskManager]

    @classmethod
    def ask(cls, rest: Rest) -> "Cluster":
        """Asks for it.

        Raises:
          RequestError: nobody answers, or not as Flink does.
        """
        try:
            return cls.from_json(
                rest.get("/config"),
                rest.get("/jobmanager/config"),
                _get_if_known(rest, "/jobmanager/environment"),
                rest.get("/taskmanagers"),
            )
        except (OSError, KeyError, TypeError) as error:
            raise RequestError(
                f"--flink-master: expected the REST API of a Flink cluster at {rest.address}, found: {error}; start "
                "the cluster, or give its JobManager's address and `rest.port`"
            ) from error

    @classmethod
    def from_json(
        cls,
        config: Mapping[str, Any],
        entries: Sequence[Mapping[str, str]],
        environment: Mapping[str, Any],
        task_managers: Mapping[str, Any],
    ) -> "Cluster":
        """Reads what /config, /jobmanager/config, /jobmanager/environment and /taskmanagers answer."""
        return cls(
            config["flink-version"],
            {entry["key"]: str(entry["value"]) for entry in entries},
            [os.path.basename(path) for path in environment.get("classpath", ())],
            [_task_manager(each) for each in task_managers["taskmanagers"]],
        )

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return sum(each.slots for each in self.task_managers)

    @property
    def free_slots(self) -> int:
        """How many slots no job has."""
        return sum(each.free for each in self.task_managers)

    @property
    def grows(self) -> bool:
        """Whether TaskManagers come when a job needs them."""
        return self.config.get("execution.target", "").startswith(_ON_DEMAND)

    @property
    def has_beam(self) -> bool:
        """Whether Beam's runner lies in Flink's `lib/`."""
        return any(name.startswith("beam-runners-flink") for name in self.class_path)


def _get_if_known(rest: Rest, path: str) -> Any:
    """What a path answers that older versions of Flink do not have."""
    try:
        return rest.get(path)
    except OSError:
        return {}


def _task_manager(entry: Mapping[str, Any]) -> TaskManager:
    memory = entry.get("memoryConfiguration") or {}
    authority = entry["path"].partition("@")[2].partition("/")[0]  # of akka.tcp://flink@host:port/user/…, pekko's too
    return TaskManager(
        host=urlsplit(f"//{authority}").hostname or authority,
        slots=entry["slotsNumber"],
        free=entry["freeSlots"],
        network=memory.get("networkMemory") or 0,
        process=memory.get("totalProcessMemory") or 0,
        machine=(entry.get("hardware") or {}).get("physicalMemory") or 0,
    )


def find_warnings(cluster: Cluster) -> list[str]:
    """What of a cluster's configuration makes jobs slow, or lets one dead process fail them."""
    return [*_restart_strategy(cluster.config), *_beam_jars(cluster)]


def _restart_strategy(config: Mapping[str, str]) -> Iterator[str]:
    strategy = config.get("restart-strategy.type", config.get("restart-strategy", "")).lower()
    if strategy in _NO_RESTART:
        yield (
            "Flink: expected a restart strategy, found none: the first TaskManager or worker that dies fails the job; "
            "set restart-strategy.type: fixed-delay and restart-strategy.fixed-delay.attempts: 10 in config.yaml"
        )
    elif strategy in _FIXED_DELAY:
        attempts = int(config.get("restart-strategy.fixed-delay.attempts", "1"))
        if attempts < _ATTEMPTS:
            yield (
                f"Flink: expected at least {_ATTEMPTS} restarts of a job, found {attempts}, and a TaskManager that "
                "dies takes two; set restart-strategy.fixed-delay.attempts: 10 in config.yaml"
            )


def _beam_jars(cluster: Cluster) -> Iterator[str]:
    if not cluster.class_path:
        yield (
            f"Flink {cluster.version} does not tell what is in its lib/; where Beam's job server is not, Python "
            "workers are started anew for every stage: put its jar into lib/ of every machine"
        )
        return
    if not cluster.has_beam:
        yield (
            "Flink: expected Beam's job server among the jars in Flink's lib/, found none: its classes go up with the "
            "job, and Python workers are started anew for every stage; put its jar into lib/ of every machine, and set "
            "classloader.resolve-order: parent-first in config.yaml"
        )
        return
    order = cluster.config.get("classloader.resolve-order", "child-first")
    if order != "parent-first":
        yield (
            f"Flink: expected Beam's classes from lib/, found classloader.resolve-order: {order}, which takes those "
            "that come with a job, and starts Python workers anew for every stage; set "
            "classloader.resolve-order: parent-first in config.yaml"
        )


def expect_versions(cluster: Cluster, jar: str, versions: JarVersions) -> None:
    """Raises RequestError where a job server does not fit a cluster: it would fail there while it is unpacked."""
    minor = minor_version(cluster.version)
    version = versions.flink or versions.runner
    if version and minor_version(version) != minor:
        raise RequestError(
            f"--flink-job-server-jar: expected a job server for Flink {minor}, which the cluster runs, found one for "
            f"{version}: {jar}; take beam-runners-flink-{minor}-job-server, or leave the option out"
        )
    _, beam = runner_versions(cluster.class_path)
    if beam and versions.beam and beam != versions.beam:
        raise RequestError(
            f"--flink-job-server-jar: expected Beam {beam}, which lies in Flink's lib/, found {versions.beam}: {jar}; "
            "put the same jar there and restart the cluster, or take the one that is there"
        )


def minor_version(version: str) -> str:
    """`1.20` of `1.20.5`."""
    return ".".join(version.split(".")[:2])


def choose_parallelism(cluster: Cluster, given: int | None) -> int:
    """How many slots a job takes: so many as are given, else all that are free.

    Raises:
      RequestError: there are not so many; the job would wait for them, and fail.
    """
    if cluster.grows:
        if given is None and not cluster.free_slots:
            raise RequestError(
                "--workers: expected how many slots to take, since the cluster starts its TaskManagers when a job "
                "needs them, found nothing; give --workers"
            )
        return given or cluster.free_slots
    count = len(cluster.task_managers)
    if not cluster.free_slots or (given or 1) > cluster.free_slots:
        raise RequestError(
            f"--runner flink: expected {given or 1} free slots, found {cluster.free_slots} of {cluster.slots} on "
            f"{count} TaskManagers; start more of these, wait for the end of other jobs, or give fewer --workers"
        )
    return given or cluster.free_slots


def check_placement(cluster: Cluster, parallelism: int) -> list[str]:
    """Warns where a job that needs fewer slots than there are would crowd on some machines."""
    spread = cluster.config.get("cluster.evenly-spread-out-slots", "false").lower() == "true"
    balanced = cluster.config.get("taskmanager.load-balance.mode", "none").lower() in ("slots", "tasks")
    if spread or balanced or len(cluster.task_managers) < 2 or parallelism >= cluster.free_slots:
        return []
    return [
        f"Flink: expected the job's {parallelism} slots on as many TaskManagers as possible, found that Flink fills "
        "one after the other; set cluster.evenly-spread-out-slots: true in config.yaml, or take all "
        f"{cluster.free_slots} slots"
    ]


def check_network(cluster: Cluster, parallelism: int, stages: int, streaming: bool) -> list[str]:
    """Checks the buffers that a job's shuffles take.

    A shuffle of the batch engine takes `sort-shuffle.min-buffers` at once; besides, each of a task's inputs and outputs
    takes some for each task at the other end.

    Args:
      cluster: The cluster.
      parallelism: The job's slots.
      stages: The pipeline's transforms: at most so many vertices does the job have.
      streaming: Whether all vertices run at a time.

    Raises:
      RequestError: one shuffle takes more than a TaskManager has.
    """
    config = cluster.config
    segment = parse_bytes(config.get("taskmanager.memory.segment-size", ""), _SEGMENT)
    sorted_shuffle = int(config.get("taskmanager.network.sort-shuffle.min-buffers", _SORT_SHUFFLE))
    known = [each for each in cluster.task_managers if each.network]
    if not known:
        return []
    smallest = min(known, key=lambda each: each.network // segment)
    there = smallest.network // segment
    tasks = stages * min(parallelism, smallest.slots)
    needed = tasks * (3 * parallelism + 2) if streaming else tasks * (2 * parallelism + 1) + 2 * _FEW_BUFFERS
    size = max(_NETWORK, -(-needed * segment // _NETWORK) * _NETWORK) >> 20
    fix = (
        f"set taskmanager.memory.network.min: {size}m, taskmanager.memory.network.max: {size}m and "
        f"taskmanager.network.sort-shuffle.min-buffers: {_FEW_BUFFERS} in config.yaml, and give "
        "taskmanager.memory.process.size as much more"
    )
    if not streaming and there < sorted_shuffle:
        raise RequestError(
            f"Flink: expected {sorted_shuffle} network buffers for one sorted shuffle, found {there} in the "
            f"TaskManager on {smallest.host}; {fix}"
        )
    if needed <= there:
        return []
    return [
        f"Flink: expected up to {needed} network buffers for {stages} stages in {parallelism} slots, found {there} in "
        f"the TaskManager on {smallest.host}: the job may fail with `Insufficient number of network buffers`; {fix}"
    ]


def check_memory(cluster: Cluster) -> list[str]:
    """Warns where a machine has no room for Python workers beside TaskManagers: theirs is not Flink's memory."""
    count = Counter(each.host for each in cluster.task_managers)
    warnings = []
    for host in sorted(count):
        on_host = [each for each in cluster.task_managers if each.host == host and each.machine]
        if not on_host:
            continue
        machine, flink = max(each.machine for each in on_host), sum(each.process for each in on_host)
        if machine - flink < len(on_host) * _WORKER_MEMORY:
            warnings.append(
                f"Flink: expected {_gib(len(on_host) * _WORKER_MEMORY)} beside {len(on_host)} TaskManagers on {host} "
                f"for their Python workers, found {_gib(max(0, machine - flink))} of {_gib(machine)}; lower "
                "taskmanager.memory.process.size in config.yaml, or take a larger machine (where workers have "
                "containers of their own, these need it instead)"
            )
    return warnings


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def parse_bytes(text: str, default: int) -> int:
    """Bytes of a size as Flink writes it, such as `512m` or `32 kb`; the default where there is none."""
    digits = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(digits) :].strip().lower()
    if not digits.isdigit() or unit not in _UNITS:
        return default
    return int(digits) * _UNITS[unit]
