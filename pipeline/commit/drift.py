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
from ..build.journal import merge_summaries, read_kept
from ..errors import DatasetError, PenstockError, RequestError
from ..formats import paths, raw_schema
from ..formats.features import Feature
from ..formats.manifest import LIMIT, Manifest, read_stored
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
    if current is None or _is_sample(dataset, current):  # of which all that is new would be told
        return []
    before = _read_statistics(dataset, current).get("features", {})
    old_hashes = _read_values(dataset, current)
    counted = dict(_counted(summaries))
    changes = [
        change
        for name, new, counts in _unseen(before, old_hashes, statistics, counted)
        for change in _new_values(name, new, counts)
    ]
    for name, entry in statistics["features"].items():
        old = before.get(name, {})
        if name in counted or entry["kind"] != old.get("kind"):
            continue
        if entry["kind"] == "number" and "min" in entry and "min" in old:
            changes += _new_range(name, entry, old)
        elif entry["kind"] == "text" and name in old_hashes:
            count = len(old_hashes[name])
            changes.append(f"column {name!r}: it has more than {DISTINCT:,} distinct values, and had {count}")
    return changes


def _unseen(
    before: Mapping[str, Any],
    old_hashes: Mapping[str, set[int]],
    statistics: Mapping[str, Any],
    counted: Mapping[str, Mapping[bytes, int]],
) -> Iterator[tuple[str, dict[Any, int], Mapping[Any, int]]]:
    """Of each counted column, and of labels: its name, the counts of its values that are new, and those of all."""
    for name in sorted(counted.keys() & old_hashes.keys()):
        counts = counted[name]
        yield name, {value: count for value, count in counts.items() if _hash(value) not in old_hashes[name]}, counts
    for name, entry in statistics["features"].items():
        if name not in counted and entry["kind"] == before.get(name, {}).get("kind") == "label":
            labels, old = entry["counts"], before[name]["counts"]
            yield name, {value: count for value, count in labels.items() if value not in old}, labels


@dataclass(frozen=True)
class DriftLimits:
    """How far a new generation may be from the current one; what is beyond fails a run with `--fail-on-drift`.

    Attributes:
      new_values: The share of a counted column's values, or of labels, that the current generation does not have.
      mean: How far a mean may move, in standard deviations; see `Shift`.
      missing: By how much the share of missing values may grow.
      shares: How much the shares of counted values may move; see `Shift`.
    """

    new_values: float = 0.01
    mean: float = 0.5
    missing: float = 0.01
    shares: float = 0.1


def expect_schema(
    dataset: str, current: Pointer | None, columns: pa.Schema | None, features: Mapping[str, Feature]
) -> None:
    """Raises RequestError where a table's raw columns, or the stored features, are not those of the current generation.

    Args:
      dataset: The dataset's URI.
      current: The pointer to its current generation; None: there is none, and nothing to be like.
      columns: The raw columns; None where files are the input.
      features: What would be stored.

    Raises:
      RequestError: they differ.
      DatasetError: the current generation's manifest is damaged.
    """
    if current is None:
        return
    before = Manifest.load_pointed(dataset, current)
    changes = []
    if columns is not None and before.origin.schema is not None:
        changes += raw_schema.compare(raw_schema.from_text(before.origin.schema), columns)
    for name in dict.fromkeys([*before.features, *features]):
        old, new = before.features.get(name), features.get(name)
        if old != new and not any(f" {name!r}" in change for change in changes):
            changes.append(f"feature {name!r}: {_describe(new)}, was {_describe(old)}")
    if changes:
        raise RequestError(
            f"--fail-on-drift: expected the columns and features of generation {current.generation}, found "
            f"{'; '.join(changes)}; nothing was done: fix the input, or accept this by a run without --fail-on-drift"
        )


def _describe(feature: Feature | None) -> str:
    if feature is None:
        return "none"
    return " ".join(str(part) for part in (feature.kind, feature.dtype, list(feature.shape), feature.encoding) if part)


def expect_values(
    dataset: str,
    current: Pointer | None,
    statistics: Mapping[str, Any],
    summaries: Summaries,
    limits: DriftLimits,
) -> None:
    """Raises PenstockError where a generation's values are further from the current one's than some limits.

    Args:
      dataset: The dataset's URI.
      current: The pointer to its current generation; None: there is none, and nothing to be like.
      statistics: The new generation's statistics.json.
      summaries: What these statistics come from.
      limits: How far they may be.

    Raises:
      PenstockError: they are further.
      DatasetError: the current generation's statistics are damaged.
    """
    if current is None:
        return
    stored = Manifest.load_pointed(dataset, current).statistics
    before = json.loads(read_stored(dataset, stored.file))
    old_hashes = _decode_values(read_stored(dataset, stored.values))
    changes = []
    for name, new, counts in _unseen(before["features"], old_hashes, statistics, dict(_counted(summaries))):
        if sum(new.values()) > limits.new_values * sum(counts.values()):
            changes += _new_values(name, new, counts)
    for name, shift in measure(before, statistics).items():
        if shift.mean is not None and shift.mean > limits.mean:
            changes.append(f"column {name!r}: its mean moved by {shift.mean:.3g} standard deviations")
        if shift.missing is not None and shift.missing > limits.missing:
            changes.append(f"column {name!r}: {shift.missing:.2%} more of its values are missing")
        if shift.shares is not None and shift.shares > limits.shares:
            changes.append(f"column {name!r}: the shares of its values moved by {shift.shares:.2%}")
    if changes:
        raise PenstockError(
            f"--fail-on-drift: expected values like those of generation {current.generation}, found "
            f"{'; '.join(changes)}; nothing was committed: fix the input, give wider limits (--max-new-values, "
            "--max-mean-shift, --max-missing-growth, --max-share-shift), or accept this by a run without "
            "--fail-on-drift, which keeps the work that is done"
        )


def expect_like(dataset: str, current: Pointer | None, manifest: Manifest, limits: DriftLimits) -> None:
    """As `expect_schema` and `expect_values`, of a generation that is there already.

    Raises:
      PenstockError: it is further from the current one than the limits.
    """
    columns = None if manifest.origin.schema is None else raw_schema.from_text(manifest.origin.schema)
    expect_schema(dataset, current, columns, manifest.features)
    statistics = json.loads(read_stored(dataset, manifest.statistics.file))
    merged = merge_summaries(files.join(dataset, manifest.generation), read_kept(dataset, manifest))
    expect_values(dataset, current, statistics, merged, limits)


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
    sides = [
        f"{word} {entry[side]:.6g}"
        for side, word, is_beyond in (
            ("min", "down to", entry["min"] < old["min"]),
            ("max", "up to", entry["max"] > old["max"]),
        )
        if is_beyond
    ]  # what they were is not said: it may be of an example that was removed to be forgotten
    return [f"column {name!r}: its values go beyond what they were, {' and '.join(sides)}"]


def _counted(summaries: Summaries) -> Iterator[tuple[str, dict[bytes, int]]]:
    """The columns of few distinct values, by name, and how often each value occurs."""
    for spec, summary in sorted(summaries.items()):
        if isinstance(summary, Counts) and not summary.exceeded and summary.distinct <= DISTINCT:
            yield spec.column, dict(summary.top())


def _hash(value: bytes) -> int:
    return hash64(value.decode("utf-8", "surrogateescape"), "value")


def _is_sample(dataset: str, current: Pointer) -> bool:
    """Whether the current generation was made of a sample of its input."""
    try:
        return LIMIT in Manifest.read_generation(dataset, current.generation)[0].origin.options
    except (DatasetError, OSError):
        return False


def _read_values(dataset: str, current: Pointer) -> dict[str, set[int]]:
    """Column to the hashes of its values, in the current generation."""
    try:
        return _decode_values(files.read_bytes(files.join(dataset, current.generation, paths.VALUES)))
    except (OSError, pa.ArrowException):
        return {}  # a damaged old generation is not this run's concern


def _decode_values(content: bytes) -> dict[str, set[int]]:
    """Reads the bytes of values.arrow: column to the hashes of its values."""
    table = pa.ipc.open_stream(content).read_all()
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
