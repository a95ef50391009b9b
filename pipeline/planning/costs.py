"""What a run costs, by what a few of its pieces took: CPU time, wall time, requests and bytes."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .makespan import makespan
from .measure import Measured

_DEVIATIONS = 2  # of the mean, up and down: 19 of 20 samples give a range that holds it
_WIDEST = 4  # times less, or more, than is likely, where the sample tells nothing better
_FEW = 2  # pieces below which there is no spread: then half and twice as much is said
_START = 10.0  # seconds around it: imports, plan, graph and commit
_UNIT_SECONDS = 0.1  # of a core that a unit takes beside its pieces
_PAGE = 1000  # keys that a listing or a deletion takes a request for
_PART, _WHOLE = 8 << 20, 8 << 20  # bytes of an upload's part, and of a file that is written in one
_BEAT = 10.0  # seconds between two writes of a lease, and of a worker's progress
# Requests of a run and of each unit, as runs on a store count them: tests hold the estimate against those.
_RUN_INPUT = {"get": 4, "list": 3}
_RUN_OUTPUT = {"get": 22, "put": 23, "list": 10, "delete": 4}
_UNIT_OUTPUT = {"get": 5.6, "put": 3.6}  # besides two writes for each shard
_UNIT_WORK = 5  # objects that are removed after the commit
KINDS = ("get", "put", "list", "delete")


@dataclass(frozen=True)
class Interval:
    """A quantity that is estimated: what is likely, and between what it most probably is."""

    low: float
    likely: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """So many times as much."""
        return Interval(self.low * factor, self.likely * factor, self.high * factor)

    def plus(self, amount: float) -> "Interval":
        """So much more."""
        return Interval(self.low + amount, self.likely + amount, self.high + amount)

    def to_json(self, digits: int) -> dict[str, float]:
        """Its three figures, rounded."""
        return {
            "low": round(self.low, digits),
            "likely": round(self.likely, digits),
            "high": round(self.high, digits),
        }


@dataclass(frozen=True)
class Work:
    """What a plan is to do.

    Attributes:
      units: The weight of each unit (see `Measured.weight`), in the order in which they are made.
      shards: How many shards each unit becomes.
      pieces: How many references or ranges they read.
      nominal: Whether the ranges' rows must be found first, for which they are read once more.
      input_bytes: The bytes of what is read.
      remote_input: Whether it is read from a store.
      remote_output: Whether shards are written to a store.
    """

    units: Sequence[int]
    shards: int
    pieces: int
    nominal: bool
    input_bytes: int
    remote_input: bool
    remote_output: bool


@dataclass(frozen=True)
class Costs:
    """What a run costs.

    Attributes:
      workers: With so many workers.
      cores: With so many cores each.
      sampled: How many pieces were tried.
      cpu_seconds: The work.
      wall_seconds: How long it takes.
      bytes_read: What is read of the input.
      bytes_written: What is written of shards, before it is compressed.
      input_requests: Kind to how many requests the input's store gets; empty where it is a local disk.
      output_requests: The same of the output's.
    """

    workers: int
    cores: int
    sampled: int
    cpu_seconds: Interval
    wall_seconds: Interval
    bytes_read: int
    bytes_written: Interval
    input_requests: Mapping[str, int]
    output_requests: Mapping[str, int]

    @property
    def vcpu_hours(self) -> Interval:
        """Cores by the time that they are there, whether they have anything to do or not."""
        return self.wall_seconds.scaled(self.workers * self.cores / 3600)

    @property
    def requests(self) -> dict[str, int]:
        """Kind to how many requests both stores get."""
        return dict(Counter(self.input_requests) + Counter(self.output_requests))

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "workers": self.workers,
            "cores": self.cores,
            "sampled": self.sampled,
            "cpu_seconds": self.cpu_seconds.to_json(1),
            "wall_seconds": self.wall_seconds.to_json(1),
            "vcpu_hours": self.vcpu_hours.to_json(4),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written.to_json(0),
            "requests": {"input": dict(self.input_requests), "output": dict(self.output_requests)},
        }


def ratio(parts: Sequence[tuple[float, float]]) -> Interval:
    """How much of one quantity there is for each of another, from a sample of both.

    Args:
      parts: (the other, the one), of each piece of the sample.
    """
    weights = [weight for weight, _ in parts]
    likely = sum(amount for _, amount in parts) / max(sum(weights), 1)
    if len(parts) < _FEW:
        return Interval(likely / 2, likely, likely * 2)
    squares = sum((amount - likely * weight) ** 2 for weight, amount in parts)
    error = math.sqrt(squares / (len(parts) - 1) / len(parts)) / max(fmean(weights), 1e-9)
    low, high = likely - _DEVIATIONS * error, likely + _DEVIATIONS * error
    return Interval(max(low, likely / _WIDEST), likely, min(high, likely * _WIDEST))


def estimate(work: Work, measured: Sequence[Measured], workers: int, cores: int) -> Costs:
    """What a run costs.

    Args:
      work: What is to be done.
      measured: What was measured of some of it.
      workers: How many workers there are, each of which makes a unit at a time.
      cores: How many cores each has.
    """
    weight = sum(work.units)
    per_weight = ratio([(each.weight, each.seconds) for each in measured])
    written = ratio([(each.weight, each.stored_bytes) for each in measured])
    cpu = per_weight.scaled(weight).plus(_UNIT_SECONDS * len(work.units))
    most = -(-len(work.units) // workers)  # units that one worker makes
    making = per_weight.scaled(makespan(work.units, workers) / cores)
    wall = making.plus(most * _UNIT_SECONDS + _START)
    stored = written.scaled(weight)
    return Costs(
        workers=workers,
        cores=cores,
        sampled=len(measured),
        cpu_seconds=cpu,
        wall_seconds=wall,
        bytes_read=work.input_bytes * (2 if work.nominal else 1),
        bytes_written=stored,
        input_requests=_input_requests(work, measured) if work.remote_input else {},
        output_requests=_output_requests(work, stored.likely, wall.likely, workers) if work.remote_output else {},
    )


def _input_requests(work: Work, measured: Sequence[Measured]) -> dict[str, int]:
    """One read for each payload, of ranges one to find their rows and one to read them; and pages of listings."""
    payloads = fmean(each.payloads for each in measured) if measured else 0
    reads = work.pieces * payloads if payloads else 2 * work.pieces
    requests = Counter(_RUN_INPUT)
    requests["get"] += round(reads)
    if payloads:
        requests["list"] += work.pieces // _PAGE
    return dict(requests)


def _output_requests(work: Work, stored: float, seconds: float, workers: int) -> dict[str, int]:
    """Those of a run, its units and its shards, and of a lease and the workers' progress while it goes."""
    units = len(work.units)
    size = stored / max(work.shards, 1)
    uploads = 1 if size <= _WHOLE else math.ceil(size / _PART) + 2
    requests = Counter(_RUN_OUTPUT)
    requests["get"] += round(units * _UNIT_OUTPUT["get"])
    requests["put"] += round(
        units * _UNIT_OUTPUT["put"] + work.shards * (1 + uploads) + (1 + workers) * seconds / _BEAT
    )
    requests["list"] += workers + _UNIT_WORK * units // _PAGE * (workers + 2)
    requests["delete"] += _UNIT_WORK * units // _PAGE
    return dict(requests)
