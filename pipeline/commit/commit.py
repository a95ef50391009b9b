"""The commit: checks a finished generation, writes its manifest, and points the dataset to it."""

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from ...transforms.counts import NO_TOKENS
from ..analysis import graph_writer
from ..analysis.requests import VocabularyRequest
from ..analysis.trace import Analysis
from ..build.journal import Journal, StoredFile
from ..build.shards import read_examples
from ..errors import OverBudgetError, PenstockError
from ..formats import manifest, paths
from ..formats.manifest import Pointer
from ..formats.tfrecord import read_records
from ..graph import exporter
from ..graph.savedmodel import SavedGraph, apply_to_examples
from ..prepare.summaries import Summaries, merge
from ..splits.rules import NOT_LISTED
from ..storage import files
from . import drift, duplicates, statistics

GOLDEN_EXAMPLES = 8
# tft.analyzers.get_empy_vocabulary_dummy_value, for text and for integers
_EMPTY_VOCABULARY = (NO_TOKENS, b"-1")  # as text, as integers


@dataclass(frozen=True)
class Budget:
    """How many examples may be quarantined: a count, or a fraction of those read."""

    limit: float
    is_fraction: bool

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Reads `25` (a count), `0.01` or `1%` (a fraction).

        Raises:
          ValueError: it is none of these.
        """
        try:
            if text.endswith("%"):
                budget = cls(float(text[:-1]) / 100, True)
            elif text.isdigit():
                budget = cls(int(text), False)
            else:
                budget = cls(float(text), True)
        except ValueError:
            budget = cls(-1, True)
        if not budget.limit >= 0 or (budget.is_fraction and not budget.limit <= 1):
            raise ValueError(f"expected a count such as 25, or a fraction such as 0.01 or 1%, found {text!r}")
        return budget

    def allows(self, quarantined: int, read: int) -> bool:
        """Whether so many of so many are within the budget."""
        return quarantined <= (self.limit * read + 1e-9 if self.is_fraction else self.limit)  # 29 of 100 are 29 %

    def __str__(self) -> str:
        return f"{self.limit:.6g} of those read" if self.is_fraction else f"{self.limit:g} examples"


@dataclass(frozen=True)
class CommitOptions:
    """What the commit must know.

    Attributes:
      dataset: The dataset's URI.
      generation: The generation's id.
      head: The manifest's entries that were known before the run (recipe, versions, options, warnings, …).
      units: How many units there are.
      read: How many examples the source has; -1: as many as the units hold.
      filtered: Filter reason to count, of examples left out by the plan.
      problems: Reason code to count, of examples quarantined by the plan.
      quarantine: The plan's quarantine file; None where it has none.
      analysis: What the analyzers were given.
      statistics: The split that statistics come from.
      budget: How many examples may be quarantined.
      replaces: The pointer when the run began.
    """

    dataset: str
    generation: str
    head: Mapping[str, Any]
    units: int
    read: int
    filtered: Mapping[str, int]
    problems: Mapping[str, int]
    quarantine: StoredFile | None
    analysis: Analysis
    statistics: str
    budget: Budget
    replaces: Pointer | None

    @property
    def root(self) -> str:
        """The generation's URI."""
        return files.join(self.dataset, self.generation)


@dataclass
class Totals:
    """The counts of a whole run."""

    read: int
    written: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)


def count(options: CommitOptions, journals: Sequence[Journal]) -> Totals:
    """Adds up the units and what the plan set aside.

    Raises:
      PenstockError: an example is unaccounted for.
    """
    read = options.read if options.read >= 0 else sum(journal.read for journal in journals)
    totals = Totals(read, 0, Counter(options.filtered), Counter(options.problems))
    for journal in journals:
        totals.written += journal.written
        totals.filtered.update(journal.filtered)
        totals.quarantined.update(journal.quarantined)
    units = sorted(journal.unit for journal in journals)
    accounted = totals.written + totals.filtered.total() + totals.quarantined.total()
    if units != list(range(options.units)) or accounted != totals.read:
        raise PenstockError(
            f"expected {totals.read} examples in {options.units} units to be written, quarantined or filtered, found "
            f"{totals.written} + {totals.quarantined.total()} + {totals.filtered.total()} in {len(units)} units; "
            "nothing was committed: please report this, it should not happen"
        )
    return totals


def check_budget(options: CommitOptions, totals: Totals) -> None:
    """Raises OverBudgetError where more was quarantined than the budget allows."""
    quarantined = totals.quarantined.total()
    if not options.budget.allows(quarantined, totals.read):
        reasons = ", ".join(f"{code} {number}" for code, number in totals.quarantined.most_common())
        raise OverBudgetError(
            f"{quarantined} of {totals.read} examples were quarantined ({reasons}), expected at most {options.budget}; "
            f"nothing was committed: see {files.join(options.root, paths.QUARANTINE)}, fix the input or raise "
            "--max-quarantined (a rerun keeps the work that is done)"
        )


def commit(options: CommitOptions, journals: Sequence[Journal]) -> dict[str, Any]:
    """Checks the generation, writes its manifest and creates the pointer; returns the manifest.

    Args:
      options: What was asked for.
      journals: Of all units, in any order.

    Raises:
      OverBudgetError: too much was quarantined.
      PenstockError: a check failed; nothing was committed.
    """
    journals = sorted(journals, key=lambda journal: journal.unit)
    totals = count(options, journals)
    check_budget(options, totals)
    splits = _splits(options, journals, totals)
    found: Summaries = {}
    for journal in journals:
        found = merge(found, journal.read_summaries(options.root))
    golden, not_portable = _finish_graph(options, journals, found)
    summary = statistics.summarize(options.analysis.features, list(journals), found, options.statistics)
    found_of_values = [
        *drift.compare_values(options.dataset, options.replaces, summary, found),
        *statistics.lost_differences(options.analysis.features, summary),
        *not_portable,
    ]
    groups = duplicates.find_duplicates(options.root, journals)
    stored = {
        "statistics": _write(options, paths.STATISTICS, statistics.encode(summary)),
        "values": _write(options, paths.VALUES, drift.encode_values(found)),
        "golden": _write(options, paths.GOLDEN, golden),
    }
    if groups:
        stored["duplicates"] = _write(options, paths.DUPLICATES, (json.dumps(groups, indent=1) + "\n").encode())
    graph_files = _hash_folder(options, paths.TRANSFORM_GRAPH)
    quarantine = [file for file in (options.quarantine, *(journal.quarantine for journal in journals)) if file]
    across = duplicates.across_splits(groups)
    content = {
        **options.head,
        "warnings": [*options.head["warnings"], *found_of_values],
        "format": paths.FORMAT,
        "generation": options.generation,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "read": totals.read,
        "written": totals.written,
        "filtered": totals.filtered.total(),
        "quarantined": totals.quarantined.total(),
        "reasons": {"filtered": dict(totals.filtered), "quarantined": dict(totals.quarantined)},
        "quarantine": [_entry(options, file, lines=True) for file in quarantine],
        "features": {name: feature.to_json() for name, feature in options.analysis.features.items()},
        "splits": splits,
        "transform_graph": {
            "path": _relative(options, paths.TRANSFORM_GRAPH),
            "sha256": _hash_all(graph_files),
            "files": graph_files,
            "outputs": {name: {"dtype": dtype} for name, dtype in options.analysis.outputs.items()},
            "golden": stored["golden"],
        },
        "statistics": {**stored["statistics"], "split": options.statistics, "values": stored["values"]},
        "duplicates": {
            "groups": len(groups),
            "across_splits": len(across),
            "examples": across[:20] or groups[:20],
            "file": stored.get("duplicates"),
        },
    }
    encoded = manifest.encode(content)
    files.write_bytes(files.join(options.root, paths.MANIFEST), encoded)
    manifest.publish(options.dataset, Pointer.to(options.generation, encoded), options.replaces)
    return content


def _splits(options: CommitOptions, journals: Sequence[Journal], totals: Totals) -> dict[str, Any]:
    splits: dict[str, Any] = {}
    for journal in journals:
        for file in journal.files:
            uri = files.join(options.root, file.path)
            if files.size(uri) != file.bytes:
                raise PenstockError(f"{uri}: expected {file.bytes} bytes, found {files.size(uri)}; run again")
        for name, shard in journal.shards.items():
            split = splits.setdefault(name, {"examples": 0, "shards": []})
            split["examples"] += shard.file.examples
            index = _entry(options, shard.index) if shard.index else None
            split["shards"].append(_entry(options, shard.file) | {"index": index})
    for name, split in splits.items():
        if not split["examples"]:
            raise PenstockError(f"split {name!r} came out empty: {_why_empty(options, totals)}; nothing was committed")
    return splits


def _why_empty(options: CommitOptions, totals: Totals) -> str:
    """What is known of the examples of a split that has none: only those that are written are counted by split."""
    filtered, quarantined = totals.filtered.total() - totals.filtered[NOT_LISTED], totals.quarantined.total()
    where = files.join(options.root, paths.QUARANTINE)
    if options.head["schema"] is None:  # files get their splits while planning, and none of these is empty
        return f"every example of it was quarantined or filtered; see {where}"
    if not filtered and not quarantined:
        return f"none of the {totals.read} examples belongs to it; fix Recipe(splits=...)"
    return (
        f"either none of the {totals.read} examples belongs to it (see Recipe(splits=...)), or all that do are among "
        f"the {filtered} that were filtered and the {quarantined} in {where}"
    )


def _finish_graph(options: CommitOptions, journals: Sequence[Journal], summaries: Summaries) -> tuple[bytes, list[str]]:
    """Writes the graph, where the analysis did not, and its portable form; returns golden.json's content and warnings.

    Raises:
      PenstockError: an output has not a row for every example or is not finite, or a vocabulary is empty.
    """
    graph_path, temp_path = (files.join(options.root, path) for path in (paths.TRANSFORM_GRAPH, paths.TEMPORARY))
    analysis = options.analysis
    if not analysis.phases:
        graph_writer.write(analysis, summaries, graph_path, temp_path)
    graph_writer.finish(graph_path, temp_path, options.generation, analysis.features)
    saved = SavedGraph(graph_path, analysis.features)
    shard, examples, outputs = _check_graph(options, journals, saved)
    differences = exporter.write(saved, analysis.outputs, examples, outputs)
    advice = "ds.tf runs the saved graph, and all else needs features=False"
    entry = {
        "shard": shard,
        "examples": len(examples),
        "outputs": {name: golden_value(value) for name, value in outputs.items()},
    }
    golden = (json.dumps(entry, indent=1, sort_keys=True) + "\n").encode()
    return golden, [f"not portable: {difference}; {advice}" for difference in differences]


def _check_graph(
    options: CommitOptions, journals: Sequence[Journal], saved: SavedGraph
) -> tuple[str, list[bytes], dict[str, Any]]:
    """Applies the graph to a few stored examples; returns the path of their shard, them, and what comes out.

    Raises:
      PenstockError: an output has not a row for every example or is not finite, or a vocabulary is empty.
    """
    graph_path = saved.path
    for file in files.list_folder(files.join(graph_path, "transform_fn", "assets")):
        if _is_empty_vocabulary(file.uri):
            raise PenstockError(
                f"the vocabulary {file.uri.rpartition('/')[2]} of the transform graph came out empty: no value of "
                f"{' or '.join(_columns(options.analysis))} in split {options.statistics!r} made it; check `features`"
            )
    shards = (journal.shards.get(options.statistics) for journal in journals)
    shard = next(shard.file for shard in shards if shard and shard.file.examples)
    examples = list(islice(read_examples(files.join(options.root, shard.path)), GOLDEN_EXAMPLES))
    outputs = apply_to_examples(saved, examples)
    for name, value in outputs.items():
        if len(value) != len(examples):
            raise PenstockError(
                f"feature {name!r} of the transform graph: expected a row for every example, found {len(value)} rows "
                f"of the first {len(examples)} examples of {shard.path}; filter in `prepare`, not in `features`"
            )
    suspects = [name for name, value in outputs.items() if _is_never_finite(value)]
    # a missing value may well lead to NaN: only what NaN does not explain is the statistics' fault
    filled = apply_to_examples(saved, examples, missing=1) if suspects else {}
    for name in suspects:
        value = filled[name]
        if _is_never_finite(value):
            raise PenstockError(
                f"feature {name!r} of the transform graph is not finite ({value[~np.isfinite(value)][0]}) on all of "
                f"the first examples of {shard.path}: a statistic behind it is not; check `features` and what it reads"
            )
    return _relative(options, shard.path), examples, outputs


def _columns(analysis: Analysis) -> list[str]:
    """The columns that the graph's vocabularies come from."""
    asked = [request.column for request in analysis.requests if isinstance(request, VocabularyRequest)]
    return list(dict.fromkeys([*asked, *analysis.columns]))


def _is_never_finite(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and not np.isfinite(value.reshape(len(value), -1)).all(axis=1).any()


def _is_empty_vocabulary(uri: str) -> bool:
    """Whether nothing is in it, or only what tf.Transform writes into a vocabulary that is empty."""
    lines = list(read_records(uri)) if uri.endswith(".gz") else files.read_bytes(uri).splitlines()
    return not lines or (len(lines) == 1 and lines[0].rpartition(b" ")[2] in _EMPTY_VOCABULARY)


def golden_value(value: np.ndarray) -> dict[str, Any]:
    """What is kept of a graph's output, to compare a later run of the graph with."""
    flat = value.ravel()
    start = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in flat[:32].tolist()]
    content = b"\0".join(flat.tolist()) if value.dtype == object else value.tobytes()
    return {
        "dtype": "string" if value.dtype == object else str(value.dtype),
        "shape": list(value.shape),
        "sha256": hashlib.sha256(content).hexdigest(),
        "start": start,
    }


def _write(options: CommitOptions, path: str, content: bytes) -> dict[str, Any]:
    files.write_bytes(files.join(options.root, path), content)
    return {
        "path": _relative(options, path),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _hash_folder(options: CommitOptions, path: str) -> list[dict[str, Any]]:
    entries = []
    for info in files.list_folder(files.join(options.root, path)):
        content = files.read_bytes(info.uri)
        entries.append(
            {
                "path": info.uri[len(options.dataset.rstrip("/")) + 1 :],
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
    return entries


def _hash_all(entries: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over the lines `<sha256>  <path>` of the files in the generation, in the order of their paths."""
    lines = "".join(f"{entry['sha256']}  {entry['path'].partition('/')[2]}\n" for entry in entries)
    return hashlib.sha256(lines.encode()).hexdigest()


def _entry(options: CommitOptions, file: StoredFile, lines: bool = False) -> dict[str, Any]:
    return {
        "path": _relative(options, file.path),
        "lines" if lines else "examples": file.examples,
        "bytes": file.bytes,
        "sha256": file.sha256,
    }


def _relative(options: CommitOptions, path: str) -> str:
    return f"{options.generation}/{path}"
