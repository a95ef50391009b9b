"""Which images are in which split, and in which order."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import RequestError
from ..formats import paths
from ..sources.file_patterns import digest_files
from ..sources.images import Images
from ..sources.join import ImageJoin
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample
from ..sources.table_schema import NO_COLUMNS, TableSchema
from ..splits.hashing import hash64
from ..splits.rules import NOT_LISTED
from ..storage import files
from .recipe import Recipe

DUPLICATE = "duplicate"


@dataclass(frozen=True)
class Inventory:
    """What the input holds, and what of it the plan sets aside.

    Attributes:
      read: How many examples the source has; -1 where that is known only after reading.
      digest: A hash over every file that the plan depends on.
      quarantined: Examples that go to the quarantine at once.
      filtered: Filter reason to count, of examples that the plan leaves out.
      warnings: What the user should know.
    """

    read: int
    digest: str
    quarantined: Sequence[QuarantinedExample] = ()
    filtered: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Selection:
    """The images of a run, with their splits.

    Attributes:
      inventory: What the input holds.
      splits: Split name to its references in their stored order.
      joined: The columns that are joined to the images.
    """

    inventory: Inventory
    splits: Mapping[str, Sequence[Reference]]
    joined: TableSchema


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
    lists = [(path, files.describe(files.join(root, path))) for path in rule.files()]
    digest = hashlib.sha256((listing.digest + digest_files(lists)).encode()).hexdigest()
    filtered = Counter(listing.filtered)
    splits: dict[str, list[Reference]] = {name: [] for name in rule.names() or []}
    listed = [reference for reference, name in zip(listing.references, names, strict=True) if name is not None]
    duplicates = _duplicates(listed, threads) if recipe.deduplicate else set()
    for reference, name in zip(listing.references, names, strict=True):
        if name is None or reference.key in duplicates:
            filtered[NOT_LISTED if name is None else DUPLICATE] += 1
        else:
            splits.setdefault(name, []).append(reference)
    for references in splits.values() if recipe.shuffle else ():
        references.sort(key=lambda reference: (hash64(reference.key, f"order{recipe.seed}"), reference.key))
    inventory = Inventory(
        read=len(listing.references) + len(listing.problems) + listing.filtered.total(),
        digest=digest,
        quarantined=listing.problems,
        filtered=filtered,
        warnings=listing.warnings + warnings,
    )
    _check_splits({name: len(references) for name, references in splits.items()}, inventory, recipe)
    return Selection(inventory, splits, listing.schema or NO_COLUMNS)


def _check_splits(counts: Mapping[str, int], inventory: Inventory, recipe: Recipe) -> None:
    """Raises RequestError where the statistics' split is not there, a name cannot be a split's, or one is empty."""
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
            troubled = len(inventory.quarantined)
            problem = f"; of {inventory.read} examples, {troubled} have problems" if troubled else ""
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
        for reference, sha256 in zip(candidates, pool.map(digest, candidates), strict=True):
            if sha256 in seen:
                duplicates.add(reference.key)  # references come in the order of their keys
            elif sha256 is not None:
                seen.add(sha256)
    return duplicates
