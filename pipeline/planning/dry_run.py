"""The draft of a job: what would be made of the input as it is. Lists and samples it; writes nothing."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..formats import paths
from ..formats.example_writer import encode
from ..formats.features import Feature, describe_columns, stored_schema
from ..prepare.images import Preparer
from ..prepare.steps import PreparedRows, conform, is_untyped, unite
from ..prepare.summaries import default_specs
from ..prepare.tables import RecordPreparer
from ..sources.images import Images
from ..sources.join import ImageJoin
from ..sources.listing import RecordListing, RecordRange
from ..sources.quarantine import QuarantinedExample
from ..sources.record_source import RecordSource
from ..sources.table_schema import TableSchema
from ..splits.rows import split_names
from . import plan, sample
from .plan import Unit
from .recipe import Recipe

_TRIED_RANGES = 8
_TRIED_ROWS = 1000  # of each of them but the first


@dataclass(frozen=True)
class SplitDraft:
    """A split as planned: examples (-1: known after reading), shards, bytes to read, and examples by label."""

    examples: int
    shards: int
    input_bytes: int
    labels: dict[str, int]


@dataclass(frozen=True)
class Draft:
    """A planned job.

    Attributes:
      read: How many examples the source has; -1 where that is known only after reading.
      splits: Split name to its draft.
      units: The pieces of work, and what each is to read.
      preparer: Prepares them.
      features: What every prepared example holds.
      digest: A hash over every file that the job depends on.
      problems: Examples that go to the quarantine at once.
      filtered: Filter reason to count, of examples that the plan leaves out.
      warnings: What the user should know.
      columns: The raw columns of a table; None for images.
      joined: The columns that are joined to images.
      output_bytes: An estimate of the shards' bytes.
      seconds: An estimate of the time in one thread.
    """

    read: int
    splits: Mapping[str, SplitDraft]
    units: Sequence[tuple[Unit, Sequence[plan.Piece]]]
    preparer: Preparer | RecordPreparer
    features: Mapping[str, Feature]
    digest: str
    problems: list[QuarantinedExample] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    columns: pa.Schema | None = None
    joined: TableSchema = field(default_factory=lambda: TableSchema(pa.schema([]), {}))
    output_bytes: float = 0.0
    seconds: float = 0.0


def draft(recipe: Recipe, root: str, threads: int, timeout: float | None = None) -> Draft:
    """Lists the input, assigns splits, tries a few examples, and cuts units.

    Args:
      recipe: The recipe.
      root: The input folder.
      threads: How many payloads to hash at a time, where duplicates are to be left out.
      timeout: Seconds that an image may take in a process of its own; None tries them in this one.

    Raises:
      RequestError: the recipe does not fit the input.
    """
    if isinstance(recipe.source, Images | ImageJoin):
        return _draft_images(recipe, recipe.source, root, threads, timeout)
    return _draft_records(recipe, recipe.source, root, timeout)


def _draft_images(recipe: Recipe, source: Images | ImageJoin, root: str, threads: int, timeout: float | None) -> Draft:
    selection = plan.select(recipe, source, root, threads)
    joined = selection.columns or TableSchema(pa.schema([]), {})
    preparer = Preparer(source.decode, recipe.prepare, recipe.encode, describe_columns(joined.columns))
    taken = sample.take(preparer, selection.splits[recipe.statistics], timeout)
    units = plan.cut(selection, recipe.shards, taken.example_bytes, recipe.compression == "gzip")
    shards = Counter(split for unit, _ in units for split in unit.shards)
    planned = sum(len(references) for references in selection.splits.values())
    return Draft(
        read=selection.read,
        splits={
            name: SplitDraft(
                len(references),
                shards[name],
                sum(reference.size for reference in references),
                dict(sorted(Counter(reference.label for reference in references if reference.label).items())),
            )
            for name, references in selection.splits.items()
        },
        units=units,
        preparer=replace(preparer, features=taken.features),
        features=taken.features,
        digest=selection.digest,
        problems=selection.problems,
        filtered=selection.filtered,
        warnings=selection.warnings,
        joined=joined,
        output_bytes=planned * taken.example_bytes,
        seconds=planned * taken.seconds,
    )


def _draft_records(recipe: Recipe, source: RecordSource, root: str, timeout: float | None) -> Draft:
    if recipe.encode or timeout:
        what = f"encode={dict(recipe.encode)}" if recipe.encode else "--isolate"
        raise RequestError(f"{what}: expected a source of images, found one of rows; leave it out")
    if recipe.deduplicate:
        raise RequestError("Recipe(deduplicate=True): expected a source of files such as Images, found one of rows")
    if isinstance(recipe.shards, Mapping):
        raise RequestError("Recipe(shards=...): expected one number for rows of a table: a unit holds all splits")
    listing = _find_ranges(source, root, recipe.shards)
    names = tuple(split_names(recipe.split_rule, sorted({record_range.key for record_range in listing.ranges})))
    for name in names:
        if not paths.is_split_name(name):
            raise RequestError(f"Recipe(splits=...): expected split names of letters, digits, _ and ., found {name!r}")
    if recipe.statistics not in names:
        raise RequestError(f"Recipe(statistics=...): expected one of {list(names)}, found {recipe.statistics!r}")
    seed = recipe.seed if recipe.shuffle else None
    serialized = recipe.format == "tfrecord"
    preparer = RecordPreparer(
        source, listing.schema, recipe.prepare, recipe.split_rule, names, recipe.statistics, seed, serialized
    )
    start = time.perf_counter()
    record_range, rows = _first_rows(preparer, listing.ranges)
    seconds = time.perf_counter() - start
    tried = [rows.batch, *_further_rows(preparer, listing.ranges, record_range, rows.batch.schema)]
    try:
        schema = stored_schema(unite(tried))
    except ValueError as error:
        raise RequestError(f"Recipe(prepare=...): {error}") from error
    size = sum(candidate.size for candidate in listing.ranges)
    features = describe_columns(schema)
    rows = conform(rows, schema, record_range, preparer.by_example)
    stored = encode(rows.batch, features) if serialized else rows.batch
    output_bytes = size * stored.nbytes / max(record_range.size, 1)
    suffix = (recipe.format, recipe.compression == "gzip")
    units = plan.cut_ranges(listing.ranges, names, recipe.shards, output_bytes, seed, suffix)
    known = all(candidate.rows >= 0 for candidate in listing.ranges)
    return Draft(
        read=sum(candidate.rows for candidate in listing.ranges) if known else -1,
        splits={name: SplitDraft(-1, len(units), size // len(names), {}) for name in names},
        units=units,
        preparer=replace(
            preparer,
            features=features,
            stored_schema=schema,
            summary_specs=tuple(default_specs(features)),
        ),
        features=features,
        digest=hashlib.sha256(listing.digest.encode()).hexdigest(),
        warnings=list(listing.warnings),
        columns=listing.schema.columns,
        output_bytes=output_bytes,
        seconds=size * seconds / max(record_range.size, 1),
    )


def _find_ranges(source: RecordSource, root: str, shards: int | None) -> RecordListing:
    """The source's ranges: smaller ones where there would be fewer than shards that were asked for."""
    listing = source.find(root, plan.RANGE_BYTES)
    if shards is None or len(listing.ranges) >= shards:
        return listing
    size = sum(record_range.size for record_range in listing.ranges)
    listing = source.find(root, max(1, size // (2 * shards)))
    if len(listing.ranges) < shards:
        found = f"{len(listing.ranges)} parts that can be read alone, as a compressed file is one"
        listing.warnings.append(f"expected enough rows for {shards} shards, found {found}: there will be so many")
    return listing


def _first_rows(preparer: RecordPreparer, ranges: Sequence[RecordRange]) -> tuple[RecordRange, PreparedRows]:
    """The first range that gives any rows, and its rows after `prepare`."""
    problems: list[Any] = []
    for record_range in ranges[:_TRIED_RANGES]:
        rows = _try(preparer, record_range)
        if len(rows.batch):
            return record_range, rows
        problems += rows.problems
    why = f"the first problem: {problems[0].message}" if problems else "filters left all out"
    advice = "" if "; fix " in why else "; fix the recipe or the input"
    raise RequestError(f"no row of the first ranges could be prepared; {why}{advice}")


def _try(preparer: RecordPreparer, record_range: RecordRange, limit: int | None = None) -> PreparedRows:
    try:
        return preparer.prepare(record_range, limit)
    except RequestError:
        raise
    except PenstockError as error:
        raise RequestError(str(error)) from error


def _further_rows(
    preparer: RecordPreparer, ranges: Sequence[RecordRange], first: RecordRange, schema: pa.Schema
) -> list[pa.RecordBatch]:
    """Some rows from all over the input, where those of the first range may not show every column and its type."""
    if not preparer.by_example and not any(is_untyped(kind) for kind in schema.types):
        return []
    places = sorted({at * (len(ranges) - 1) // (_TRIED_RANGES - 1) for at in range(_TRIED_RANGES)})
    batches = [_try(preparer, ranges[at], _TRIED_ROWS).batch for at in places if ranges[at] != first]
    return [batch for batch in batches if len(batch)]  # without rows it may be without the steps' columns
