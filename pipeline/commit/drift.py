"""What changed in a table since the dataset's last generation: its columns, and the values in them."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...transforms.counts import Counts
from ..errors import DatasetError
from ..formats import paths, raw_schema
from ..formats.manifest import Manifest
from ..formats.pointer import Pointer
from ..prepare.summaries import DISTINCT, Summaries
from ..splits.hashing import hash64
from ..storage import files

_SHOWN = 3


def compare_columns(dataset: str, current: Pointer | None, columns: pa.Schema) -> list[str]:
    """What changed in the columns since the current generation, in words; nothing where there is no such generation."""
    if current is None:
        return []
    try:
        before = Manifest.load(dataset).origin.schema
    except (DatasetError, OSError):
        return []  # a damaged old generation is not this run's concern
    changes = raw_schema.compare(raw_schema.from_text(before), columns) if before else []
    return [f"the input changed since generation {current.generation}: {change}" for change in changes]


def encode_values(summaries: Summaries) -> bytes:
    """The bytes of values.arrow: which values the counted columns have, for a later generation to compare its own with.

    Args:
      summaries: Of the statistics' split. Columns with more than 10,000 distinct values are left out.

    Returns:
      An Arrow stream of `column` (string) and `hash` (uint64, of a distinct value), in a fixed order.
    """
    columns = [(name, sorted(map(_hash, counts))) for name, counts in _counted(summaries)]
    table = pa.table(
        {
            "column": pa.array([name for name, hashes in columns for _ in hashes], pa.string()),
            "hash": pa.array([number for _, hashes in columns for number in hashes], pa.uint64()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def compare_values(
    dataset: str, current: Pointer | None, statistics: Mapping[str, Any], summaries: Summaries
) -> list[str]:
    """What changed in the values since the current generation, in words.

    Of counted columns and of labels, the share of values that are new; of other numbers, those beyond the smallest and
    the largest.

    Args:
      dataset: The dataset's URI.
      current: The pointer to its current generation.
      statistics: The new generation's statistics.json.
      summaries: What these statistics come from.
    """
    if current is None:
        return []
    before = _read_statistics(dataset, current).get("features", {})
    old_hashes = _read_values(dataset, current)
    changes = []
    counted = dict(_counted(summaries))
    for name in sorted(counted.keys() & old_hashes.keys()):
        counts = counted[name]
        new = {value: count for value, count in counts.items() if _hash(value) not in old_hashes[name]}
        changes += _new_values(name, new, counts)
    for name, entry in statistics["features"].items():
        old = before.get(name, {})
        if name in counted or entry["kind"] != old.get("kind"):
            continue
        if entry["kind"] == "label":
            counts = entry["counts"]
            new = {value: count for value, count in counts.items() if value not in old["counts"]}
            changes += _new_values(name, new, counts)
        elif entry["kind"] == "number" and "min" in entry and "min" in old:
            changes += _new_range(name, entry, old)
        elif entry["kind"] == "text" and name in old_hashes:
            count = len(old_hashes[name])
            changes.append(f"column {name!r}: it has more than {DISTINCT:,} distinct values, and had {count}")
    return changes


@dataclass(frozen=True)
class Shift:
    """By how much the values of a feature moved between two generations; None where nothing tells.

    Attributes:
      mean: How far the mean moved, in standard deviations of before, or of after where nothing varied before; infinite
        where a constant became another one. Of an image that of the channel that moved most.
      missing: By how much the share of missing values grew.
      shares: How much of the values would have to be others for the shares of all of them to be what they were: half
        the sum of the differences of their shares; of labels, classes of masks, and strings that are all listed.
    """

    mean: float | None = None
    missing: float | None = None
    shares: float | None = None

    def to_json(self) -> dict[str, float]:
        """What is told; JSON has no infinite number."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return told | ({"mean": sys.float_info.max} if self.mean == np.inf else {})


def measure(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Shift]:
    """By how much each feature that two generations' statistics tell of moved.

    Args:
      before: The content of statistics.json.
      after: That of the later generation.
    """
    shifts = {}
    for name in sorted(before["features"].keys() & after["features"].keys()):
        old, new = before["features"][name], after["features"][name]
        if old["kind"] == new["kind"]:
            shifts[name] = Shift(_mean_shift(old, new), _missing_growth(old, new), _distance(old, new))
    return shifts


def _mean_shift(old: Mapping[str, Any], new: Mapping[str, Any]) -> float | None:
    if "mean" not in old or "mean" not in new:
        return None
    olds, news = (np.atleast_1d(each["mean"]).astype(float) for each in (old, new))
    if olds.shape != news.shape:
        return None
    moved = np.abs(news - olds)
    before, after = (np.atleast_1d(each["std"]).astype(float) for each in (old, new))
    with np.errstate(divide="ignore", invalid="ignore"):
        shifts = np.where(moved == 0, 0.0, moved / np.where(before > 0, before, after))
    return float(shifts.max())


def _missing_growth(old: Mapping[str, Any], new: Mapping[str, Any]) -> float | None:
    if "missing" not in old or "missing" not in new:
        return None
    was, now = (each["missing"] / max(1, each["missing"] + each["count"]) for each in (old, new))
    return float(max(0.0, now - was))


def _distance(old: Mapping[str, Any], new: Mapping[str, Any]) -> float | None:
    """Half the sum of the differences of all values' shares; None where they are not all listed."""
    counts = [_all_counts(each) for each in (old, new)]
    was, now = counts
    if not was or not now:
        return None
    totals = sum(was.values()), sum(now.values())
    return sum(abs(was.get(name, 0) / totals[0] - now.get(name, 0) / totals[1]) for name in was.keys() | now.keys()) / 2


def _all_counts(entry: Mapping[str, Any]) -> Mapping[str, int] | None:
    if entry["kind"] == "text":
        return entry["top"] if len(entry.get("top", ())) == entry.get("distinct") else None
    counts: Mapping[str, int] | None = entry.get("counts") or entry.get("classes")
    return counts


def _new_values(name: str, new: Mapping[Any, int], counts: Mapping[Any, int]) -> list[str]:
    if not new:
        return []
    share = 100 * sum(new.values()) / sum(counts.values())
    shown = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in list(new)[:_SHOWN]]
    return [f"column {name!r}: {share:.2f} % of its values are new, such as {', '.join(map(repr, shown))}"]


def _new_range(name: str, entry: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    if entry["min"] >= old["min"] and entry["max"] <= old["max"]:
        return []
    return [
        f"column {name!r}: its values are from {entry['min']:.6g} to {entry['max']:.6g}, and were from "
        f"{old['min']:.6g} to {old['max']:.6g}"
    ]


def _counted(summaries: Summaries) -> Iterator[tuple[str, dict[bytes, int]]]:
    """The columns of few distinct values, by name, and how often each value occurs."""
    for spec, summary in sorted(summaries.items()):
        if isinstance(summary, Counts) and not summary.exceeded and summary.distinct <= DISTINCT:
            yield spec.column, dict(summary.top())


def _hash(value: bytes) -> int:
    return hash64(value.decode("utf-8", "surrogateescape"), "value")


def _read_values(dataset: str, current: Pointer) -> dict[str, set[int]]:
    """Column to the hashes of its values, in the current generation."""
    try:
        content = files.read_bytes(files.join(dataset, current.generation, paths.VALUES))
        table = pa.ipc.open_stream(content).read_all()
    except (OSError, pa.ArrowException):
        return {}  # a damaged old generation is not this run's concern
    names = pc.unique(table["column"]).to_pylist()
    return {name: set(table.filter(pc.equal(table["column"], name))["hash"].to_pylist()) for name in names}


def _read_statistics(dataset: str, current: Pointer) -> dict[str, Any]:
    """The current generation's statistics.json."""
    try:
        uri = files.join(dataset, current.generation, paths.STATISTICS)
        content: dict[str, Any] = json.loads(files.read_bytes(uri))
    except (OSError, ValueError):
        return {}  # a damaged old generation is not this run's concern
    return content
