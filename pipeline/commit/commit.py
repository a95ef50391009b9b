"""The commit: checks a finished generation, writes its manifest, and points the dataset to it."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from ...transforms.counts import NO_TOKENS, Counts
from ...transforms.moments import Moments
from ..analysis import graph_writer
from ..analysis.closer_look import look_closer
from ..analysis.requests import VocabularyRequest
from ..analysis.trace import Analysis
from ..build.claim import expect_claimed
from ..build.journal import FinishedUnits, Journal, merge_summaries
from ..build.phases import evaluate_phase
from ..build.shards import read_examples
from ..errors import DatasetError, OverBudgetError, PenstockError
from ..formats import croissant, paths
from ..formats.damage import find_damage
from ..formats.manifest import (
    LIMIT,
    CroissantEntry,
    DeltaEntry,
    DuplicatesEntry,
    Identity,
    Manifest,
    Origin,
    Reasons,
    Shard,
    SplitEntry,
    StatisticsEntry,
    StoredFile,
    TransformGraphEntry,
    UnitsEntry,
    stored_file,
)
from ..formats.pointer import Pointer
from ..formats.tfrecord import read_records
from ..garbage import uncollected
from ..graph import exporter
from ..graph.graph_copy import find_obstacles
from ..graph.savedmodel import SavedGraph, apply_to_examples
from ..prepare.shipping import Carrying
from ..prepare.summaries import Summaries
from ..splits.labels import missing_labels
from ..splits.rules import NOT_LISTED
from ..storage import files
from . import drift, duplicates, golden, statistics, suspects
from .budget import Budget
from .column_warnings import describe_notes
from .drift import DriftLimits
from .duplicates import Duplicates
from .examples import Listed, first_filtered, first_quarantined, read_lines
from .golden import Golden
from .joins import join_warnings
from .sealing import Attempt, committed_already, seal

_SHOWN_GROUPS = 20  # groups of duplicates that the manifest itself shows
_NO_INTEGERS = b"-1"  # what tf.Transform writes into an empty vocabulary of integers


@dataclass(frozen=True)
class PlanTotals:
    """What the plan came to, before any unit was made.

    Attributes:
      units: How many units there are.
      read: How many examples the source has; -1: as many as the units hold.
      filtered: Filter reason to count, of examples left out by the plan.
      filtered_list: The file that lists these; None where there are none.
      quarantined: Reason code to count, of examples quarantined by the plan.
      quarantine: The file that lists these; None where there are none.
      warnings: What the plan has to warn of.
    """

    units: int
    read: int
    filtered: Mapping[str, int]
    filtered_list: StoredFile | None
    quarantined: Mapping[str, int]
    quarantine: StoredFile | None
    warnings: Sequence[str]


@dataclass(frozen=True)
class CommitOptions(Carrying):
    """What the commit must know.

    Attributes:
      dataset: The dataset's URI.
      generation_id: The generation's id.
      run: The run's id, unlike any other's.
      created: When the run began (ISO 8601, UTC).
      origin: What the generation is made from and by.
      metadata: What is said of the dataset, for `croissant.encode`.
      plan: What the plan came to.
      analysis: What the analyzers were given.
      statistics: The split that statistics come from.
      budget: How many examples may be quarantined.
      replaces: The pointer when the run began.
      superseded: SHA-256 of a manifest of the generation that is there and is to be made again; None: there is none.
      inputs: The file with what the units read; None until it is written.
      forgotten: The file with digests of what is to be forgotten; None where that is nothing.
      drift: How far the values may be from the current generation's; None: however far.
      identity: What the generation is compared with later runs by.
      delta: What it takes over from another one; None: nothing.
      retried: The generation that it has the content of and tries again what that has quarantined; empty: none.
    """

    dataset: str
    generation_id: str
    run: str
    created: str
    origin: Origin
    metadata: Mapping[str, Any]
    plan: PlanTotals
    analysis: Analysis
    statistics: str
    budget: Budget
    replaces: Pointer | None
    superseded: str | None = None
    inputs: StoredFile | None = None
    forgotten: StoredFile | None = None
    drift: DriftLimits | None = None
    identity: Identity | None = None
    delta: DeltaEntry | None = None
    retried: str = ""

    @property
    def root(self) -> str:
        """The generation's URI."""
        return files.join(self.dataset, self.generation_id)


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
    plan = options.plan
    if missing := set(range(plan.units)) - {journal.unit for journal in journals}:
        raise PenstockError(
            f"{options.root}: expected the journals of {plan.units} units, found that of unit {min(missing)} and "
            f"{len(missing) - 1} more missing or damaged; nothing was committed: run again"
        )
    read = plan.read if plan.read >= 0 else sum(journal.read for journal in journals)
    totals = Totals(read, 0, Counter(plan.filtered), Counter(plan.quarantined))
    for journal in journals:
        totals.written += journal.written
        totals.filtered.update(journal.filtered)
        totals.quarantined.update(journal.quarantined)
    units = sorted(journal.unit for journal in journals)
    accounted = totals.written + totals.filtered.total() + totals.quarantined.total()
    if units != list(range(plan.units)) or accounted != totals.read:
        raise PenstockError(
            f"expected {totals.read} examples in {plan.units} units to be written, quarantined or filtered, found "
            f"{totals.written} + {totals.quarantined.total()} + {totals.filtered.total()} in {len(units)} units; "
            "nothing was committed: please report this, it should not happen"
        )
    return totals


def check_budget(options: CommitOptions, totals: Totals, journals: Sequence[Journal]) -> None:
    """Raises OverBudgetError where more was quarantined than the budget allows."""
    if options.budget.allows(totals.quarantined.total(), totals.read):
        return
    examples = first_quarantined(options.root, _quarantine(options, journals))
    if excess := options.budget.excess(totals.quarantined, totals.read, examples):
        raise OverBudgetError(
            f"{excess}; nothing was committed: see {files.join(options.root, paths.QUARANTINE)}, fix the input or "
            "raise --max-quarantined (a rerun keeps the work that is done)"
        )


def over_budget(options: CommitOptions) -> OverBudgetError | None:
    """That too much was quarantined, where that is so in a run whose units are made and which was refused after that.

    Raises:
      OSError: what the units left cannot be read.
    """
    journals = list(FinishedUnits(options.root).load(range(options.plan.units)))
    try:
        check_budget(options, count(options, journals), journals)
    except OverBudgetError as error:
        return error
    except PenstockError:
        pass  # not all is made
    return None


def commit(options: CommitOptions) -> Manifest:
    """Checks the generation, writes its manifest and creates the pointer, unless trying again changed nothing.

    It may be called again, after it succeeded or stopped anywhere, and by several workers at a time: see `sealing`.

    Args:
      options: What was asked for.

    Returns:
      The manifest of the generation that is current then.

    Raises:
      OverBudgetError: too much was quarantined.
      PenstockError: a check failed; nothing was committed.
    """
    if committed := committed_already(options.dataset, options.generation_id, options.replaces):
        return committed
    expect_claimed(options.root, options.run)
    finished = FinishedUnits(options.root)
    journals = list(finished.load(range(options.plan.units)))
    totals = count(options, journals)
    check_budget(options, totals, journals)
    if unchanged := _unchanged(options, journals):
        return unchanged
    of_joins = join_warnings(journals)
    splits = _splits(options, finished, journals, totals)
    merged = look_closer(
        options.analysis, merge_summaries(options.root, journals), partial(_read_examples, options, journals)
    )
    summary = statistics.summarize(options.analysis.features, list(journals), merged, options.statistics)
    if options.drift:
        drift.expect_values(options.dataset, options.replaces, summary, merged, options.drift)
    with ThreadPoolExecutor(1, "duplicates") as pool:  # NumPy sorts while TensorFlow's Python traces
        looked_for = pool.submit(duplicates.find_duplicates, options.root, journals)
        graph, graph_outputs, graph_warnings = _finish_graph(options, journals, merged, summary)
        equal = looked_for.result()
    warnings = (
        *options.plan.warnings,
        *drift.compare_values(options.dataset, options.replaces, summary, merged),
        *of_joins,
        *describe_notes(journals),
        *graph_warnings,
        *_missing_labels(options, journals),
        *duplicates.warnings(equal, {name: split.examples for name, split in splits.items()}),
    )
    assert options.inputs
    quarantine, filtered = _quarantine(options, journals), _filtered(options, journals)
    contents = {
        **graph,
        paths.GOLDEN: graph_outputs.encode(),
        paths.STATISTICS: statistics.encode(summary),
        paths.VALUES: drift.encode_values(merged),
        paths.JOURNALS: b"".join(journal.encode() + b"\n" for journal in journals),
        **({paths.DUPLICATES: duplicates.encode(equal.listed)} if equal.groups else {}),
        **croissant.encode_files(options.metadata, options.generation_id, options.analysis.features, splits),
    }
    stored = {
        path: stored_file(path, content).within(options.generation_id) for path, content in sorted(contents.items())
    }
    manifest = Manifest(
        origin=options.origin,
        warnings=warnings,
        generation=options.generation_id,
        created=options.created,
        read=totals.read,
        written=totals.written,
        filtered=totals.filtered.total(),
        quarantined=totals.quarantined.total(),
        reasons=Reasons(
            dict(totals.filtered),
            dict(totals.quarantined),
            filtered_examples=first_filtered(options.root, filtered),
            quarantined_examples=first_quarantined(options.root, quarantine),
        ),
        quarantine=tuple(file.within(options.generation_id) for file, _ in quarantine),
        filtered_lists=tuple(file.within(options.generation_id) for file, _ in filtered),
        features=options.analysis.features,
        splits=splits,
        transform_graph=_graph_entry(options, graph, stored),
        statistics=StatisticsEntry(stored[paths.STATISTICS], options.statistics, stored[paths.VALUES]),
        duplicates=_duplicates_entry(equal, stored.get(paths.DUPLICATES)),
        units=UnitsEntry(
            replace(stored[paths.JOURNALS], examples=len(journals)),
            options.inputs.within(options.generation_id),
            options.forgotten.within(options.generation_id) if options.forgotten else None,
        ),
        croissant=CroissantEntry(stored[paths.CROISSANT], stored[paths.CHECKSUMS]),
        identity=options.identity,
        delta=options.delta,
    )
    expect_claimed(options.root, options.run)  # it took a while
    return seal(options.dataset, Attempt(manifest, contents), options.superseded, options.replaces)


def _unchanged(options: CommitOptions, journals: Sequence[Journal]) -> Manifest | None:
    """The generation that was tried again, if it is whole and exactly what it has quarantined is quarantined again.

    With the same content, the same examples then came out, with the same statistics.
    """
    if not options.retried:
        return None
    again = [file.within(options.generation_id) for file, _ in _quarantine(options, journals)]
    try:
        before, _ = Manifest.read_generation(options.dataset, options.retried)
        reasons, reasons_before = (
            Counter((line["key"], line["code"]) for line in read_lines(options.dataset, listed))
            for listed in (again, before.quarantine)
        )
    except DatasetError:
        return None
    is_same = reasons == reasons_before and not find_damage(options.dataset, before)
    return before if is_same else None


def _quarantine(options: CommitOptions, journals: Sequence[Journal]) -> list[Listed]:
    """The files of quarantined examples, the plan's and those of the units, and the reason codes in each."""
    plan = options.plan
    listed = [(plan.quarantine, plan.quarantined), *((each.quarantine, each.quarantined) for each in journals)]
    return [(file, codes) for file, codes in listed if file]


def _filtered(options: CommitOptions, journals: Sequence[Journal]) -> list[Listed]:
    """The files of filtered examples, the plan's and those of the units, and the reasons in each."""
    plan = options.plan
    listed = [(plan.filtered_list, plan.filtered), *((each.filtered_list, each.filtered) for each in journals)]
    return [(file, reasons) for file, reasons in listed if file]


def _read_examples(options: CommitOptions, journals: Sequence[Journal]) -> Iterator[bytes]:
    """The stored examples of the statistics' split."""
    for journal in journals:
        if shard := journal.shards.get(options.statistics):
            yield from read_examples(files.join(options.root, shard.path))


def _missing_labels(options: CommitOptions, journals: Sequence[Journal]) -> list[str]:
    """Warnings of labels that a split lacks, but for those that the plan gave already."""
    labels: dict[str, Counter[str]] = {}
    for journal in journals:
        for split, counts in journal.labels.items():
            labels.setdefault(split, Counter()).update(counts)
    return [warning for warning in missing_labels(labels) if warning not in options.plan.warnings]


def _splits(
    options: CommitOptions, finished: FinishedUnits, journals: Sequence[Journal], totals: Totals
) -> dict[str, SplitEntry]:
    """The shards of every split, in the order of their units, after a look at their sizes.

    Raises:
      PenstockError: a file is not as its journal says, or a split is empty.
    """
    shards: dict[str, list[Shard]] = {}
    for journal in journals:
        for file in journal.files:
            if (size := finished.bytes_of(file.path)) != file.bytes:
                found = "nothing" if size is None else f"{size}"
                raise PenstockError(
                    f"{files.join(options.root, file.path)}: expected {file.bytes} bytes, found {found}; run again"
                )
        for name, shard in journal.shards.items():
            shards.setdefault(name, []).append(shard.within(options.generation_id))
    splits = {name: SplitEntry(sum(shard.examples for shard in of), tuple(of)) for name, of in shards.items()}
    for name, split in splits.items():
        if not split.examples:
            raise PenstockError(f"split {name!r} came out empty: {_why_empty(options, totals)}; nothing was committed")
    return splits


def _why_empty(options: CommitOptions, totals: Totals) -> str:
    """What can be said of a split that has no examples: only those that are written are counted by split."""
    filtered, quarantined = totals.filtered.total() - totals.filtered[NOT_LISTED], totals.quarantined.total()
    where = files.join(options.root, paths.QUARANTINE)
    if options.origin.schema is None:  # files get their splits while planning, and none of these is empty
        return f"every example of it was quarantined or filtered; see {where}"
    if not filtered and not quarantined:
        or_more = "raise --limit, or " if LIMIT in options.origin.options else ""
        return f"none of the {totals.read} examples belongs to it; {or_more}fix Recipe(splits=...)"
    return (
        f"either none of the {totals.read} examples belongs to it (see Recipe(splits=...)), or all that do are among "
        f"the {filtered} that were filtered and the {quarantined} in {where}"
    )


@uncollected()
def _finish_graph(
    options: CommitOptions, journals: Sequence[Journal], summaries: Summaries, summary: Mapping[str, Any]
) -> tuple[dict[str, bytes], Golden, list[str]]:
    """Makes the graph and its portable form, in a local folder of this attempt's own.

    Returns:
      The graph's files by their paths in the generation; what it gives; and warnings.

    Raises:
      PenstockError: an output has not a row for every example or is not finite, or a vocabulary is empty.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True) as folder:
        graph_path = files.join(folder, paths.TRANSFORM_GRAPH)
        temp_path, analysis = files.join(folder, "tmp"), options.analysis
        if analysis.phases:
            results = evaluate_phase(options.root, analysis, analysis.phases - 1, journals, summaries)
            graph_writer.write_analyzed(analysis, results, graph_path, temp_path)
            module = None
        else:
            module = graph_writer.write(analysis, summaries, graph_path, temp_path)
        graph_writer.finish(graph_path, temp_path, options.generation_id, options.analysis.features)
        saved = SavedGraph(graph_path, analysis.features, trust=True, module=module)  # the recipe's own
        outputs, warnings = _check_and_export(options, journals, summaries, summary, saved)
        written = files.list_folder(graph_path)
        return {info.uri[len(folder) + 1 :]: files.read_bytes(info.uri) for info in written}, outputs, warnings


def _check_and_export(
    options: CommitOptions,
    journals: Sequence[Journal],
    summaries: Summaries,
    summary: Mapping[str, Any],
    saved: SavedGraph,
) -> tuple[Golden, list[str]]:
    """Checks a graph and writes its portable form beside it; returns what it gives, and warnings."""
    analysis = options.analysis
    _check_vocabularies(options, journals, summaries, saved.path)
    shard, examples, outputs = _check_graph(options, journals, saved)
    differences = exporter.write(saved, analysis.outputs, examples, outputs)
    advice = "ds.tf runs the saved graph, and all else needs features=False"
    warnings = [f"not portable: {difference}; {advice}" for difference in differences]
    if obstacles := find_obstacles(files.join(saved.path, "transform_fn")):
        warnings.append(
            f"features: expected operations that only compute, found {'; '.join(obstacles)}: where TensorFlow runs the "
            "graph, it must be trusted (open_dataset(..., trust=True), --trust)"
        )
    warnings += suspects.missing_but_counted(analysis, summary)
    warnings += suspects.constant_columns(saved, summary)
    warnings += suspects.constant_outputs(saved, outputs, files.join(options.dataset, shard))
    return Golden.of(shard, len(examples), outputs), warnings


def _check_graph(
    options: CommitOptions, journals: Sequence[Journal], saved: SavedGraph
) -> tuple[str, list[bytes], dict[str, Any]]:
    """Applies the graph to a few stored examples; returns the path of their shard, them, and what comes out.

    Raises:
      PenstockError: an output has not a row for every example, or is not finite.
    """
    shards = (journal.shards.get(options.statistics) for journal in journals)
    shard = next(shard for shard in shards if shard and shard.examples)
    examples = list(islice(read_examples(files.join(options.root, shard.path)), golden.EXAMPLES))
    outputs = apply_to_examples(saved, examples)
    for name, value in outputs.items():
        if len(value) != len(examples):
            raise PenstockError(
                f"feature {name!r} of the transform graph: expected a row for every example, found {len(value)} rows "
                f"of the first {len(examples)} examples of {shard.path}; filter in `prepare`, not in `features`"
            )
    never_finite = [name for name, value in outputs.items() if _is_never_finite(value)]
    # a missing value may well lead to NaN: only what NaN does not explain is the statistics' fault
    filled = apply_to_examples(saved, examples, missing=1) if never_finite else {}
    for name in never_finite:
        value = filled[name]
        if _is_never_finite(value):
            raise PenstockError(
                f"feature {name!r} of the transform graph is not finite ({value[~np.isfinite(value)][0]}) on all of "
                f"the first examples of {shard.path}: a statistic behind it is not; check `features` and what it reads"
            )
    return shard.within(options.generation_id).path, examples, outputs


def _columns(analysis: Analysis) -> list[str]:
    """The columns that the graph's vocabularies come from."""
    asked = [request.column for request in analysis.requests if isinstance(request, VocabularyRequest)]
    return list(dict.fromkeys([*asked, *analysis.columns]))


def _is_never_finite(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and not np.isfinite(value.reshape(len(value), -1)).all(axis=1).any()


def _check_vocabularies(
    options: CommitOptions, journals: Sequence[Journal], summaries: Summaries, graph_path: str
) -> None:
    """Raises PenstockError where a vocabulary is empty: where it holds only what tf.Transform writes into such a one.

    Of integers that is -1, which may be the one value that there is.
    """
    columns = _columns(options.analysis)
    dummies = [NO_TOKENS] if _has_minus_one(columns, journals, summaries) else [NO_TOKENS, _NO_INTEGERS]
    signs = [[], *([prefix + dummy] for dummy in dummies for prefix in (b"", b"1 "))]  # alone, or with its count
    for file in files.list_folder(files.join(graph_path, "transform_fn", "assets")):
        content = list(read_records(file.uri)) if file.uri.endswith(".gz") else files.read_bytes(file.uri).splitlines()
        if content in signs:
            raise PenstockError(
                f"the vocabulary {file.uri.rpartition('/')[2]} of the transform graph came out empty: no value of "
                f"{' or '.join(columns)} in split {options.statistics!r} made it; check `features`"
            )


def _has_minus_one(columns: Sequence[str], journals: Sequence[Journal], summaries: Summaries) -> bool:
    """Whether -1 may be among the values of some columns, as a number or as a string."""
    if any("-1" in counts for journal in journals for counts in journal.labels.values()):
        return True
    for spec, summary in summaries.items():
        if spec.column not in columns:
            continue
        if isinstance(summary, Moments):
            number, _, _, low, high = summary.as_floats()
            if number and low <= -1 <= high:
                return True
        elif isinstance(summary, Counts) and (summary.exceeded or _NO_INTEGERS in dict(summary.top())):
            return True
    return False


def _graph_entry(
    options: CommitOptions, graph: Mapping[str, bytes], stored: Mapping[str, StoredFile]
) -> TransformGraphEntry:
    """The manifest's entry of the transform graph, given its files' contents and what is stored of all files."""
    folder = [stored_file(path, graph[path]) for path in sorted(graph)]
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in folder)
    return TransformGraphEntry(
        path=f"{options.generation_id}/{paths.TRANSFORM_GRAPH}",
        sha256=hashlib.sha256(lines.encode()).hexdigest(),
        files=tuple(file.within(options.generation_id) for file in folder),
        outputs=options.analysis.outputs,
        golden=stored[paths.GOLDEN],
    )


def _duplicates_entry(found: Duplicates, file: StoredFile | None) -> DuplicatesEntry:
    """The manifest's entry of the duplicates, and of the file that lists them."""
    return DuplicatesEntry(
        found.groups,
        found.across_splits,
        tuple(found.listed[:_SHOWN_GROUPS]),
        file,
        found.shared,
        found.contradicting,
    )
