"""The plan of a run: what would be made of the input as it is. Lists and samples it; writes nothing."""

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...transforms.image import Resize
from ..errors import PenstockError, RequestError
from ..formats import paths
from ..formats.example_writer import encode
from ..formats.features import Feature, describe_columns, stored_schema
from ..formats.paths import ShardName
from ..prepare.fetch import RangeFetcher
from ..prepare.images import ImagePreparer, ImageSteps
from ..prepare.preparer import Preparer, StatisticsSpec
from ..prepare.steps import PreparedRows, conform, is_untyped, unite
from ..prepare.tables import FirstRows, TablePreparer, TableSteps
from ..prepare.threads import ordered_flat_map
from ..sources import nominal, text_ranges
from ..sources.images import Images
from ..sources.join import ImageJoin
from ..sources.listing import RecordListing, RecordRange
from ..sources.quarantine import QuarantinedExample, first_of_each
from ..sources.record_source import RecordSource, stream_rows
from ..sources.table_schema import TableSchema
from ..splits.columns import Hashes, columns_of, describe_rule, describe_unlisted, fit
from ..splits.hashing import hash_rows
from ..splits.rows import split_names
from ..splits.rules import NOT_LISTED
from . import sample
from .cut import SplitCut, count_units, cut_new_ranges, cut_new_references, cut_ranges, cut_scans
from .delta import Cut
from .duplicates import mark_duplicates
from .forgotten import NOTHING, Forgotten
from .limit import limit_ranges
from .payloads import PayloadHasher
from .plan_file import PlannedUnits, Unit, of_ranges
from .recipe import Recipe
from .selection import Inventory, Selection, select

RANGE_BYTES = 1 << 20  # of a record file: what a thread takes at a time
_TRIED_RANGES = 8
_TRIED_ROWS = 1000  # of each of them but the first


@dataclass(frozen=True)
class SplitPlan:
    """A split as planned: examples (-1: known after reading), shards, bytes to read, and examples by label."""

    examples: int
    shards: int
    input_bytes: int
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Estimate:
    """What a few examples let expect of all: bytes of shards, and seconds in one thread."""

    output_bytes: float
    seconds: float


@dataclass(frozen=True)
class KnownLosses:
    """What planning itself found to be unusable: no more than what a run will find.

    Attributes:
      read: How many examples a run will read; -1 where that is not known.
      quarantined: Reason code to count.
      examples: Reason code to the key of an example and what is wrong with it, in words.
    """

    read: int
    quarantined: Mapping[str, int]
    examples: Mapping[str, str]

    @classmethod
    def of(cls, read: int, quarantined: Sequence[QuarantinedExample]) -> "KnownLosses":
        """The losses of so many examples."""
        return cls(read, Counter(example.code for example in quarantined), first_of_each(quarantined))


@dataclass(frozen=True)
class Plan:
    """A planned run.

    Attributes:
      inventory: What the input holds.
      splits: Split name to its plan.
      units: The pieces of work, and what each is to read.
      scans: The tasks that find the rows of nominal ranges first, and these ranges; None where there are none.
      targets: In a global shuffle by files, among how many units' shards all rows are shared out; else 0.
      features: What every prepared example holds.
      preparer: Gives what prepares the units, once it is known what statistics need of the examples.
      table_schema: The raw columns of a table; None for images.
      raw: The raw columns of a table, or those that are joined to images, and why they are of their types.
      estimate: What it will take.
      known_losses: What a run will quarantine at least.
      split_rule: What gave the examples their splits, as the manifest says it.
      cut: Cuts what comes to the input into units of its own, beside those of a base.
    """

    inventory: Inventory
    splits: Mapping[str, SplitPlan]
    units: PlannedUnits
    scans: PlannedUnits | None
    finds_duplicates: bool
    targets: int
    features: Mapping[str, Feature]
    preparer: Callable[[StatisticsSpec], Preparer]
    table_schema: pa.Schema | None
    raw: TableSchema
    estimate: Estimate
    known_losses: KnownLosses
    split_rule: Mapping[str, Any]
    cut: Cut


def make_plan(
    recipe: Recipe,
    root: str,
    threads: int,
    timeout: float | None = None,
    hasher: PayloadHasher | None = None,
    limit: int | None = None,
    forgotten: Forgotten = NOTHING,
) -> Plan:
    """Lists the input, assigns splits, tries a few examples, and cuts units.

    Args:
      recipe: The recipe.
      root: The input folder.
      threads: How many payloads or ranges to read at a time, where duplicates or splits need a look at all of them.
      timeout: Seconds that an image may take in a process of its own; None tries them in this one.
      hasher: Hashes the payloads of many images, where duplicates are left out; None: they are hashed here.
      limit: How many examples to take, from all over the input; None: all.
      forgotten: What is to be forgotten.

    Raises:
      RequestError: the recipe does not fit the input.
    """
    if isinstance(recipe.source, Images | ImageJoin):
        return _plan_images(recipe, recipe.source, root, threads, timeout, hasher, limit, forgotten)
    return _plan_table(recipe, recipe.source, root, threads, timeout, limit, forgotten)


def _plan_images(
    recipe: Recipe,
    source: Images | ImageJoin,
    root: str,
    threads: int,
    timeout: float | None,
    hasher: PayloadHasher | None,
    limit: int | None,
    forgotten: Forgotten,
) -> Plan:
    """The plan of images: every reference is listed, and a unit holds one split."""
    selection = select(recipe, source, root, threads, hasher, limit, forgotten)
    joined = selection.table.schema
    if forgotten:
        joined = replace(joined, reasons={})  # which show values
    steps = ImageSteps(source.decode, recipe.prepare, recipe.encode, joined, source.max_bytes)
    taken = sample.take(steps, selection.first(recipe.statistics, sample.TRIED), timeout)
    counts = count_units(selection.splits, recipe.shards, taken.example_bytes)
    count = sum(totals.examples for totals in selection.splits.values())
    warnings = [*selection.inventory.warnings, *_warn_of_bars(recipe.prepare)]
    quarantined = Counter(example.code for example in taken.quarantined) + selection.inventory.quarantined.counts
    shown = {code: examples[0] for code, examples in selection.inventory.quarantined.first.items()}
    return Plan(
        inventory=replace(selection.inventory, warnings=warnings),
        splits={
            name: SplitPlan(totals.examples, counts[name], totals.input_bytes, totals.labels)
            for name, totals in selection.splits.items()
        },
        units=PlannedUnits(_cut_references(selection, counts, recipe)),
        scans=None,
        finds_duplicates=False,
        targets=0,  # a global shuffle is the plan's own: references are in the order of a hash
        features=taken.features,
        preparer=partial(ImagePreparer, steps, taken.features, timeout=timeout),
        table_schema=None,
        raw=joined,
        estimate=Estimate(count * taken.example_bytes, count * taken.seconds),
        known_losses=KnownLosses(
            selection.inventory.read, quarantined, first_of_each([*shown.values(), *taken.quarantined])
        ),
        split_rule=describe_rule(selection.rule),
        cut=partial(cut_new_references, example_bytes=taken.example_bytes),
    )


def _cut_references(
    selection: Selection, counts: Mapping[str, int], recipe: Recipe
) -> Iterator[tuple[Unit, pa.RecordBatch]]:
    """The units of all splits, and the references that each reads."""
    tapered, gzip = recipe.shards is None, recipe.compression == "gzip"
    cuts = {split: SplitCut(totals, counts[split], tapered) for split, totals in selection.splits.items()}
    parts: list[pa.RecordBatch] = []
    index, current = 0, ("", 0)

    def unit() -> tuple[Unit, pa.RecordBatch]:
        split, number = current
        (batch,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
        size = pc.sum(pc.max_element_wise(batch["size"], 0)).as_py()
        return Unit(index, {split: ShardName(split, number, counts[split], gzip)}, len(batch), size), batch

    for split, part in selection.ordered():
        numbers = cuts[split].units(np.maximum(np.asarray(part["size"]), 0))
        begins = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]
        for begin, end in zip(begins, [*begins[1:], len(part)], strict=True):
            place = split, int(numbers[begin])
            if parts and place != current:
                yield unit()
                index, parts = index + 1, []
            current = place
            parts.append(part.slice(begin, end - begin))
    yield unit()


def _warn_of_bars(steps: Sequence[object]) -> list[str]:
    """A warning where letterboxed images have bars, which nothing tells from pixels once they are stored."""
    names = [name for step in steps if isinstance(step, Resize) and step.fit == "letterbox" for name in step.names]
    return [
        f"the bars that image.resize(fit='letterbox') adds count in the mean, deviation and quantiles of {name!r}: "
        "image.standardize subtracts a mean that they are part of"
        for name in dict.fromkeys(names)
    ]


def _plan_table(
    recipe: Recipe,
    source: RecordSource,
    root: str,
    threads: int,
    timeout: float | None,
    limit: int | None,
    forgotten: Forgotten,
) -> Plan:
    """The plan of a table: its files are cut into ranges, and a unit holds all splits."""
    _check_fits_table(recipe, timeout)
    if isinstance(recipe.shards, Mapping):
        raise RequestError("Recipe(shards=...): expected one number for rows of a table: a unit holds all splits")
    listing = _find_ranges(source, root, None if limit else recipe.shards)
    listing.ranges = forgotten.mark(listing.ranges) if forgotten else listing.ranges
    if any(record_range.forgotten for record_range in listing.ranges):  # reasons and warnings show values
        listing.schema = replace(listing.schema, reasons={})
        listing.warnings = forgotten.hide(listing.warnings, of_table=True)
    limits: dict[int, int] = {}
    if limit is not None:
        listing.ranges, limits, sampled = limit_ranges(source, listing.schema, listing.ranges, recipe.split_rule, limit)
        listing.warnings += sampled
    names = tuple(split_names(recipe.split_rule, sorted({record_range.key for record_range in listing.ranges})))
    for name in names:
        if not paths.is_split_name(name):
            raise RequestError(f"Recipe(splits=...): expected split names of letters, digits, _ and ., found {name!r}")
    if recipe.statistics not in names:
        raise RequestError(f"Recipe(statistics=...): expected one of {list(names)}, found {recipe.statistics!r}")
    seed = recipe.seed if recipe.shuffle else None
    serialized = recipe.format == "tfrecord"
    steps = TableSteps(source, listing.schema, recipe.prepare, recipe.split_rule, names, limits)
    steps, warnings = _fit_splits(steps, listing.ranges, threads)
    start = time.perf_counter()
    first, tried = _first_rows(steps, nominal.resolve_in_turn(source, listing.ranges))
    rows, first_size = tried[-1].rows, max(tried[-1].size, 1)
    seconds = time.perf_counter() - start
    batches = [rows.batch, *_further_rows(steps, listing.ranges, first, rows.batch.schema)]
    try:
        schema = stored_schema(unite(batches))
    except ValueError as error:
        raise RequestError(f"Recipe(prepare=...): {error}") from error
    existing = {*listing.schema.columns.names, *schema.names}
    if strangers := [name for name in columns_of(steps.rule) if name not in existing]:
        raise RequestError(
            f"Recipe(splits=...): expected one of the columns {listing.schema.columns.names}, or one that `prepare` "
            f"makes, found {strangers[0]!r}"
        )
    features = describe_columns(schema)
    rows = conform(rows, schema, first, steps.by_example)
    stored = encode(rows.batch, features) if serialized else rows.batch
    size = sum(record_range.size for record_range in listing.ranges)
    output_bytes = size * stored.nbytes / first_size
    suffix = (recipe.format, recipe.compression == "gzip")
    preparer = partial(TablePreparer, steps, schema, serialized, seed)
    ranges = [replace(record_range, number=number) for number, record_range in enumerate(listing.ranges)]
    by_workers = recipe.deduplicate and size > text_ranges.READ_WHOLE
    if recipe.deduplicate and not by_workers:
        ranges = _resolve(partial(nominal.resolve_all, source, ranges, threads))
        ranges = mark_duplicates(preparer(StatisticsSpec(recipe.statistics)), ranges, threads)
    tapered = recipe.shuffle != "global"  # which shares rows out evenly among all shards
    cut = cut_ranges(ranges, names, recipe.shards, output_bytes, seed, suffix, tapered)
    units = of_ranges([(replace(unit, examples=-1), pieces) for unit, pieces in cut] if limits else cut)
    scans = cut_scans(record_range for record_range in ranges if record_range.is_nominal)
    known = not limits and all(record_range.rows >= 0 for record_range in listing.ranges)
    return Plan(
        inventory=Inventory(
            read=sum(record_range.rows for record_range in listing.ranges) if known else -1,
            digest=forgotten.with_digest(hashlib.sha256(listing.digest.encode()).hexdigest()),
            warnings=[*listing.warnings, *warnings],
            versions=listing.versions,
        ),
        splits={name: SplitPlan(-1, len(units), size // len(names), {}) for name in names},
        units=units,
        scans=of_ranges(scans) if scans else None,
        finds_duplicates=by_workers,
        targets=len(units) if recipe.shuffle == "global" else 0,
        features=features,
        preparer=preparer,
        table_schema=listing.schema.columns,
        raw=listing.schema,
        estimate=Estimate(output_bytes, size * seconds / first_size),
        known_losses=_known_losses(listing.ranges, tried, rows, is_limited=bool(limits)),
        split_rule=describe_rule(steps.rule),
        cut=partial(cut_new_ranges, output_share=output_bytes / max(size, 1), tapered=tapered),
    )


def _fit_splits(steps: TableSteps, ranges: Sequence[RecordRange], threads: int) -> tuple[TableSteps, list[str]]:
    """The steps with the rule that `fit` makes of theirs, which may need all rows for it; and warnings."""

    def part(record_range: RecordRange) -> Iterator[tuple[pa.RecordBatch, Hashes]]:
        names = columns_of(steps.rule)
        try:
            for rows in steps.deciding(record_range):
                batch = rows.batch
                if {*names} <= {*batch.schema.names}:  # else `fit` names it
                    batch = batch.select(names)
                yield batch, partial(hash_rows, record_range.key, rows.numbers, "split")
        except PenstockError as error:
            raise RequestError(str(error)) from error

    def parts() -> Iterator[tuple[pa.RecordBatch, Hashes]]:
        resolved = _resolve(partial(nominal.resolve_all, steps.source, ranges, threads))
        with ThreadPoolExecutor(threads) as pool, closing(RangeFetcher(threads)) as fetcher:
            for batch, hashes in ordered_flat_map(pool, part, fetcher.ahead(steps.fetch, resolved), 2 * threads):
                if len(batch):
                    yield batch, hashes

    rule, warnings = fit(steps.rule, steps.splits, parts)
    return replace(steps, rule=rule), warnings


def _check_fits_table(recipe: Recipe, timeout: float | None) -> None:
    """Raises RequestError where what only images can have is asked for."""
    if recipe.encode or timeout:
        what = f"encode={dict(recipe.encode)}" if recipe.encode else "--isolate"
        raise RequestError(f"{what}: expected a source of images, found one of rows; leave it out")


def _find_ranges(source: RecordSource, root: str, shards: int | None) -> RecordListing:
    """The source's ranges: smaller ones where there would be fewer than shards that were asked for."""
    listing = source.find(root, RANGE_BYTES)
    if shards is None or len(listing.ranges) >= shards:
        return listing
    size = sum(record_range.size for record_range in listing.ranges)
    listing = source.find(root, max(1, size // (2 * shards)))
    if len(listing.ranges) < shards:
        found = f"{len(listing.ranges)} parts that can be read alone, as a compressed file is one"
        listing.warnings.append(f"expected enough rows for {shards} shards, found {found}: there will be so many")
    return listing


def _resolve(resolve: Callable[[], list[RecordRange]]) -> list[RecordRange]:
    try:
        return resolve()
    except RequestError:
        raise
    except PenstockError as error:
        raise RequestError(str(error)) from error


def _first_rows(steps: TableSteps, ranges: Iterator[RecordRange]) -> tuple[RecordRange, list[FirstRows]]:
    """The first range of which `prepare` gives rows; and the rows that it gives of this and those before it."""
    tried: list[FirstRows] = []
    looked_at: list[RecordRange] = []
    while len(tried) < _TRIED_RANGES and (further := _resolve(lambda: list(itertools.islice(ranges, 1)))):
        looked_at += further
        tried.append(_try(steps, looked_at[-1]))
        if len(tried[-1].rows.batch):
            return looked_at[-1], tried
    quarantined = [example for first in tried for example in first.rows.quarantined]
    filtered = sum((first.rows.filtered for first in tried), Counter[str]())
    counts = ", ".join(f"{reason} {count}" for reason, count in filtered.most_common())
    why = f"the first problem: {quarantined[0].message}" if quarantined else f"filters left all out ({counts})"
    if not quarantined and filtered.keys() == {NOT_LISTED}:
        unlisted = describe_unlisted(steps.rule, next(stream_rows(steps.source, looked_at[0], steps.schema)).batch)
        why = f"none of them is in a split; {unlisted}".rstrip("; ")
    advice = "" if "; fix " in why else "; fix the recipe or the input"
    raise RequestError(f"no row of the first ranges could be prepared; {why}{advice}")


def _known_losses(
    ranges: Sequence[RecordRange], tried: Sequence[FirstRows], last: PreparedRows, is_limited: bool
) -> KnownLosses:
    """What the first ranges lost; how many rows all ranges hold, where the source tells or these are all there are.

    Args:
      ranges: All ranges.
      tried: The rows of the first ranges after `prepare`.
      last: Those of the last one of these, brought to the stored columns.
      is_limited: Whether not all rows of the ranges are taken.
    """
    rows = [*(first.rows for first in tried[:-1]), last]
    if not is_limited and all(record_range.rows >= 0 for record_range in ranges):
        read = sum(record_range.rows for record_range in ranges)
    elif len(tried) == len(ranges) and all(first.complete for first in tried):
        read = sum(len(each.batch) + len(each.quarantined) + each.filtered.total() for each in rows)
    else:
        read = -1
    return KnownLosses.of(read, [example for each in rows for example in each.quarantined])


def _try(steps: TableSteps, record_range: RecordRange, limit: int | None = None) -> FirstRows:
    try:
        return steps.prepare_first(record_range, limit)
    except RequestError:
        raise
    except PenstockError as error:
        raise RequestError(str(error)) from error


def _further_rows(
    steps: TableSteps, ranges: Sequence[RecordRange], first: RecordRange, schema: pa.Schema
) -> list[pa.RecordBatch]:
    """Some rows from all over the input, where those of the first range may not show every column and its type."""
    if not steps.by_example and not any(is_untyped(kind) for kind in schema.types):
        return []
    places = sorted({at * (len(ranges) - 1) // (_TRIED_RANGES - 1) for at in range(_TRIED_RANGES)})
    samples = _resolve(lambda: [s for at in places if (s := nominal.sample(steps.source, ranges[at])) is not None])
    batches = [_try(steps, each, _TRIED_ROWS).rows.batch for each in samples if each != first]
    return [batch for batch in batches if len(batch)]  # without rows it may be without the steps' columns
