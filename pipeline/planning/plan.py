"""The plan: which examples, in which split, in which unit. It holds references, never payloads.

The plan is a file (Arrow IPC, one record batch a unit), so that workers get a unit's number and read its references
themselves: nothing but small integers goes through the engine, and a resumed run finds the same units.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from ..errors import RequestError
from ..formats import paths
from ..formats.paths import ShardName
from ..sources.file_patterns import digest_files
from ..sources.images import Images
from ..sources.join import ImageJoin
from ..sources.listing import RecordRange, Reference
from ..sources.quarantine import QuarantinedExample
from ..sources.table_schema import TableSchema
from ..splits.hashing import hash64
from ..splits.rules import NOT_LISTED
from ..storage import files
from .recipe import Recipe

DUPLICATE = "duplicate"
SHARD_BYTES = 64 << 20  # few enough files for millions of examples, small enough to redo
RANGE_BYTES = 1 << 20  # of a record file: what a thread takes at a time


Piece = Reference | RecordRange
_TEXT, _WHOLE = pa.string(), pa.int64()
_KINDS = {Reference: "Reference", RecordRange: "Range"}  # what a plan file calls what its units read
_SCHEMAS = {
    Reference: pa.schema([("size", _WHOLE)] + [(name, _TEXT) for name in ("key", "uri", "label", "mask", "columns")]),
    RecordRange: pa.schema(
        [("uri", _TEXT), ("key", _TEXT)]
        + [(name, _WHOLE) for name in ("begin", "end", "first_row", "rows", "size", "first_line")]
        + [("source", _TEXT), ("root", _TEXT)]
    ),
}


@dataclass(frozen=True)
class Unit:
    """A piece of work that becomes one shard of each split it holds.

    Attributes:
      index: Its number in the plan.
      shards: Split to the shard that the unit becomes.
      examples: How many examples it holds; -1 where that is not known before it is read.
      size: The bytes that it reads.
    """

    index: int
    shards: dict[str, ShardName]
    examples: int
    size: int


@dataclass
class Selection:
    """The examples of a job, with their splits.

    Attributes:
      read: How many examples the source has.
      splits: Split name to its references in their stored order.
      problems: Examples that go to the quarantine at once.
      filtered: Filter reason to count.
      warnings: What the user should know.
      digest: A hash over every file that the selection depends on.
      columns: The columns that are joined to the examples; None where there are none.
    """

    read: int
    splits: dict[str, list[Reference]]
    problems: list[QuarantinedExample]
    filtered: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    digest: str = ""
    columns: TableSchema | None = None


def select(recipe: Recipe, source: Images | ImageJoin, root: str, threads: int) -> Selection:
    """Lists the source and gives every example its split and its position.

    Args:
      recipe: The recipe.
      source: Its source.
      root: The input folder.
      threads: How many payloads to hash at a time, where duplicates are to be left out.

    Raises:
      RequestError: nothing is found, or the recipe's rules do not fit what is there.
    """
    listing = source.find(root)
    rule = recipe.split_rule
    names, warnings = rule.assign([reference.key for reference in listing.references], root)
    lists = [(path, info) for path in rule.files() for info in files.glob(root, path).values()]
    digest = hashlib.sha256((listing.digest + digest_files(lists)).encode()).hexdigest()
    selection = Selection(
        read=len(listing.references) + len(listing.problems) + listing.filtered.total(),
        splits={name: [] for name in rule.names() or []},
        problems=listing.problems,
        filtered=listing.filtered,
        columns=listing.schema,
        warnings=listing.warnings + warnings,
        digest=digest,
    )
    listed = [reference for reference, name in zip(listing.references, names, strict=True) if name is not None]
    duplicates = _duplicates(listed, threads) if recipe.deduplicate else set()
    for reference, name in zip(listing.references, names, strict=True):
        if name is None or reference.key in duplicates:
            selection.filtered[NOT_LISTED if name is None else DUPLICATE] += 1
        else:
            selection.splits.setdefault(name, []).append(reference)
    for references in selection.splits.values() if recipe.shuffle else ():
        references.sort(key=lambda reference: (hash64(reference.key, f"order{recipe.seed}"), reference.key))
    _check_splits(selection, recipe)
    return selection


def _check_splits(selection: Selection, recipe: Recipe) -> None:
    counts = {name: len(references) for name, references in selection.splits.items()}
    if recipe.statistics not in counts:
        raise RequestError(
            f"Recipe(statistics=...): expected the split that statistics come from to be one of {sorted(counts)}, "
            f"found {recipe.statistics!r}"
        )
    for name, count in counts.items():
        if not paths.is_split_name(name):
            raise RequestError(
                f"Recipe(splits=...): expected names of letters, digits, _ and ., found the split {name!r} in the "
                "input; rename its folder, or find another name with by_path"
            )
        if not count:
            troubled = len(selection.problems)
            problem = f"; of {selection.read} examples, {troubled} have problems" if troubled else ""
            raise RequestError(
                f"split {name!r} would be empty (found {counts}{problem}); "
                "change the splits or their shares, or add examples"
            )


def _duplicates(references: Sequence[Reference], threads: int) -> set[str]:
    """Keys of examples whose payload equals that of an example with a smaller key; unreadable ones are left to make."""

    def digest(reference: Reference) -> bytes | None:
        try:
            return hashlib.sha256(files.read_bytes(reference.uri)).digest()
        except OSError:
            return None

    by_size = Counter(reference.size for reference in references)
    candidates = [reference for reference in references if by_size[reference.size] > 1]
    seen: set[bytes] = set()
    duplicates = set()
    with ThreadPoolExecutor(threads) as pool:
        for reference, found in zip(candidates, pool.map(digest, candidates), strict=True):
            if found in seen:
                duplicates.add(reference.key)  # references come in the order of their keys
            elif found is not None:
                seen.add(found)
    return duplicates


def cut(
    selection: Selection, shards: int | Mapping[str, int] | None, example_bytes: float, gzip: bool
) -> list[tuple[Unit, list[Reference]]]:
    """Cuts each split into units of equal size, by the number of shards asked for or by about 64 MiB a shard.

    Args:
      selection: The examples by split.
      shards: How many shards a split gets: one number, or by split; None decides by size.
      example_bytes: The mean bytes of a prepared example, for deciding by size.
      gzip: Whether shards are compressed.

    Raises:
      RequestError: `shards` names a split that is not there, or leaves one out.
    """
    if isinstance(shards, Mapping) and shards.keys() != selection.splits.keys():
        raise RequestError(
            f"Recipe(shards=...): expected a number for each split of {sorted(selection.splits)}, "
            f"found {sorted(shards)}"
        )
    units: list[tuple[Unit, list[Reference]]] = []
    for split, references in selection.splits.items():
        total = len(references)
        if shards is None:
            count = math.ceil(total * example_bytes / SHARD_BYTES)
        else:
            count = shards[split] if isinstance(shards, Mapping) else shards
        count = max(1, min(count, total))
        for shard in range(count):
            rows = references[shard * total // count : (shard + 1) * total // count]
            name = ShardName(split, shard, count, gzip)
            size = sum(reference.size for reference in rows)
            units.append((Unit(len(units), {split: name}, len(rows), size), rows))
    return units


def cut_ranges(
    ranges: Sequence[RecordRange],
    splits: Sequence[str],
    shards: int | None,
    output_bytes: float,
    seed: int | None,
    suffix: tuple[str, bool],
) -> list[tuple[Unit, list[RecordRange]]]:
    """Groups ranges into units: every unit holds all splits, and becomes one shard of each.

    Args:
      ranges: All ranges of the source.
      splits: The splits' names.
      shards: How many units; None: about 64 MiB of prepared rows each, which a worker holds in memory.
      output_bytes: About how many bytes all rows have once they are prepared.
      seed: Ranges from all over the source come together in a unit, by this seed; None keeps their order.
      suffix: The shards' format, and whether they are compressed.
    """
    ordered = list(ranges)
    if seed is not None:
        ordered.sort(
            key=lambda record_range: (
                hash64(f"{record_range.key}:{record_range.begin}", f"range{seed}"),
                record_range.key,
                record_range.begin,
            )
        )
    count = shards if shards is not None else math.ceil(output_bytes / SHARD_BYTES)
    count = max(1, min(count, len(ordered)))
    groups: list[list[RecordRange]] = [[] for _ in range(count)]
    for number, record_range in enumerate(ordered):
        groups[number * count // len(ordered)].append(record_range)
    units = []
    for index, group in enumerate(groups):
        names = {split: ShardName(split, index, count, suffix[1], suffix[0]) for split in splits}
        known = all(record_range.rows >= 0 for record_range in group)
        examples = sum(record_range.rows for record_range in group) if known else -1
        units.append((Unit(index, names, examples, sum(record_range.size for record_range in group)), group))
    return units


def write(uri: str, units: Sequence[tuple[Unit, Sequence[Piece]]]) -> None:
    """Writes the plan file."""
    kind: Any = type(units[0][1][0])
    schema = _SCHEMAS[kind]
    metadata = {"kind": _KINDS[kind], "units": json.dumps([_unit_to_json(unit) for unit, _ in units])}
    with files.create(uri) as file, pa.ipc.new_file(file, schema.with_metadata(metadata)) as writer:
        for _, pieces in units:
            rows = [_to_row(piece) for piece in pieces]
            columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def count_units(uri: str) -> int:
    """How many units a plan file has."""
    with files.open_read(uri) as file, pa.ipc.open_file(file) as reader:
        return int(reader.num_record_batches)


def read_unit(uri: str, number: int) -> tuple[Unit, list[Any]]:
    """One unit of a plan file, and its references or ranges."""
    with files.open_read(uri) as file, pa.ipc.open_file(file) as reader:
        metadata = reader.schema.metadata
        unit = _unit_from_json(json.loads(metadata[b"units"])[number])
        batch = reader.get_batch(number)
    rows = batch.to_pylist()
    if metadata[b"kind"].decode() == _KINDS[RecordRange]:
        return unit, [RecordRange(**row) for row in rows]
    return unit, [Reference(**{**row, "columns": json.loads(row["columns"] or "null")}) for row in rows]


def _to_row(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, RecordRange):
        return asdict(piece)
    return {**piece._asdict(), "columns": json.dumps(piece.columns) if piece.columns is not None else None}


def _unit_to_json(unit: Unit) -> dict[str, Any]:
    return {**asdict(unit), "shards": {split: str(name) for split, name in unit.shards.items()}}


def _unit_from_json(entry: Mapping[str, Any]) -> Unit:
    return Unit(**{**entry, "shards": {split: ShardName.parse(name) for split, name in entry["shards"].items()}})
