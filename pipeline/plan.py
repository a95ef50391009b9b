"""The plan: which examples, in which split, in which unit. It holds references, never payloads.

The plan is a file (Arrow IPC, one record batch a unit), so that workers get a unit's number and read its references
themselves: nothing but small integers goes through the engine, and a resumed run finds the same units.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from . import files
from .errors import RequestError
from .extract.listing import digest_files
from .hashing import hash64
from .recipe import Recipe
from .reference import Problem, Reference
from .splits import NOT_LISTED

DUPLICATE = "duplicate"
SHARD_BYTES = 64 << 20  # few enough files for millions of examples, small enough to redo
_SCHEMA = pa.schema(
    [("key", pa.string()), ("uri", pa.string()), ("size", pa.int64()), ("label", pa.string()), ("mask", pa.string())]
)


@dataclass(frozen=True)
class Unit:
    """A piece of work that becomes one shard.

    Attributes:
      index: Its number in the plan.
      split: The split that its examples belong to.
      shard: Its shard's position among the split's shards.
      shards: How many shards the split has.
      examples: How many references it holds.
    """

    index: int
    split: str
    shard: int
    shards: int
    examples: int


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
    """

    read: int
    splits: dict[str, list[Reference]]
    problems: list[Problem]
    filtered: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    digest: str = ""


def select(recipe: Recipe, root: str, threads: int) -> Selection:
    """Lists the source and gives every example its split and its position.

    Args:
      recipe: The recipe.
      root: The input folder.
      threads: How many payloads to hash at a time, where duplicates are to be left out.

    Raises:
      RequestError: nothing is found, or the recipe's rules do not fit what is there.
    """
    listing = recipe.source.find(root)
    rule = recipe.split_rule
    names, warnings = rule.assign([reference.key for reference in listing.references], root)
    lists = [(path, info) for path in rule.files() for info in files.glob(root, path).values()]
    digest = hashlib.sha256((listing.digest + digest_files(lists)).encode()).hexdigest()
    selection = Selection(
        read=len(listing.references) + len(listing.problems),
        splits={name: [] for name in rule.names() or []},
        problems=listing.problems,
        warnings=listing.warnings + warnings,
        digest=digest,
    )
    duplicates = _duplicates(listing.references, threads) if recipe.deduplicate else set()
    for reference, name in zip(listing.references, names, strict=True):
        if name is None or reference.key in duplicates:
            selection.filtered[NOT_LISTED if name is None else DUPLICATE] += 1
        else:
            selection.splits.setdefault(name, []).append(reference)
    for references in selection.splits.values():
        references.sort(key=lambda reference: (hash64(reference.key, "position"), reference.key))
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


def cut(selection: Selection, shards: int | Mapping[str, int] | None, example_bytes: float) -> list[Unit]:
    """Cuts each split into units of equal size, by the number of shards asked for or by about 64 MiB a shard.

    Args:
      selection: The examples by split.
      shards: How many shards a split gets: one number, or by split; None decides by size.
      example_bytes: The mean bytes of a prepared example, for deciding by size.

    Raises:
      RequestError: `shards` names a split that is not there, or leaves one out.
    """
    if isinstance(shards, Mapping) and shards.keys() != selection.splits.keys():
        raise RequestError(
            f"Recipe(shards=...): expected a number for each split of {sorted(selection.splits)}, "
            f"found {sorted(shards)}"
        )
    units: list[Unit] = []
    for split, references in selection.splits.items():
        total = len(references)
        if shards is None:
            count = math.ceil(total * example_bytes / SHARD_BYTES)
        else:
            count = shards[split] if isinstance(shards, Mapping) else shards
        count = max(1, min(count, total))
        bounds = [position * total // count for position in range(count + 1)]
        for shard in range(count):
            units.append(Unit(len(units), split, shard, count, bounds[shard + 1] - bounds[shard]))
    return units


def write(uri: str, selection: Selection, units: Sequence[Unit]) -> None:
    """Writes the plan file."""
    metadata = {"units": json.dumps([asdict(unit) for unit in units])}
    remaining = {name: iter(references) for name, references in selection.splits.items()}
    with files.create(uri) as file, pa.ipc.new_file(file, _SCHEMA.with_metadata(metadata)) as writer:
        for unit in units:
            rows = [next(remaining[unit.split]) for _ in range(unit.examples)]
            writer.write_batch(pa.record_batch(_columns(rows), schema=_SCHEMA))


def _columns(rows: Iterable[Reference]) -> list[pa.Array]:
    columns = zip(*rows, strict=True)
    return [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]


def read_units(uri: str) -> list[Unit]:
    """The units of a plan file."""
    with files.open_read(uri) as file, pa.ipc.open_file(file) as reader:
        return [Unit(**unit) for unit in json.loads(reader.schema.metadata[b"units"])]


def read_references(uri: str, unit: int) -> list[Reference]:
    """The references of one unit of a plan file."""
    with files.open_read(uri) as file, pa.ipc.open_file(file) as reader:
        batch = reader.get_batch(unit)
    return [Reference(*row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
