"""Which images are in which split, and in which order."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..errors import RequestError
from ..formats import paths
from ..formats.features import LABEL
from ..sources.file_patterns import digest_files
from ..sources.images import Images
from ..sources.join import ImageJoin
from ..sources.listing import ImageListing, Reference
from ..sources.quarantine import FilteredExample, QuarantinedExample, limit
from ..sources.table_schema import NO_COLUMNS, TableSchema
from ..splits.columns import Strata, fit, reads_columns, split_batch
from ..splits.hashing import hash64
from ..splits.labels import missing_labels
from ..splits.rules import DUPLICATE, NOT_LISTED, Splits
from ..storage import files
from .recipe import Recipe, SplitRule

_SHOWN = 2  # examples named in an error


@dataclass(frozen=True)
class Inventory:
    """What the input holds, and what of it the plan sets aside.

    Attributes:
      read: How many examples the source has; -1 where that is known only after reading.
      digest: A hash over every file that the plan depends on.
      quarantined: Examples that go to the quarantine at once.
      filtered: Filter reason to count, of examples that the plan leaves out.
      filtered_examples: These examples, or the first ones of each reason.
      warnings: What the user should know.
    """

    read: int
    digest: str
    quarantined: Sequence[QuarantinedExample] = ()
    filtered: Mapping[str, int] = field(default_factory=dict)
    filtered_examples: Sequence[FilteredExample] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Selection:
    """The images of a run, with their splits.

    Attributes:
      inventory: What the input holds.
      splits: Split name to its references in their stored order.
      joined: The columns that are joined to the images.
      rule: The rule that gave them, fitted where it must be.
    """

    inventory: Inventory
    splits: Mapping[str, Sequence[Reference]]
    joined: TableSchema
    rule: Splits | Strata


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
    names, fitted, warnings, unsplit = _assign(rule, listing, root)
    problems = [*listing.problems, *unsplit.values()]
    lists = [(path, files.describe(files.join(root, path))) for path in rule.files()]
    digest = hashlib.sha256((listing.digest + digest_files(lists)).encode()).hexdigest()
    filtered, filtered_examples = Counter(listing.filtered), list(listing.filtered_examples)
    splits: dict[str, list[Reference]] = {name: [] for name in rule.names() or []}
    listed = [reference for reference, name in zip(listing.references, names, strict=True) if name is not None]
    duplicates = _duplicates(listed, threads) if recipe.deduplicate else {}
    for reference, name in zip(listing.references, names, strict=True):
        if reference.key in unsplit:
            continue
        if name is None or reference.key in duplicates:
            reason = NOT_LISTED if name is None else DUPLICATE
            filtered[reason] += 1
            filtered_examples.append(FilteredExample(reference.key, reason))
        else:
            splits.setdefault(name, []).append(reference)
    for references in splits.values() if recipe.shuffle else ():
        references.sort(key=lambda reference: (hash64(reference.key, f"order{recipe.seed}"), reference.key))
    labels = {
        name: Counter(reference.label for reference in references if reference.label)
        for name, references in splits.items()
    }
    inventory = Inventory(
        read=len(listing.references) + len(listing.problems) + listing.filtered.total(),
        digest=digest,
        quarantined=problems,
        filtered=filtered,
        filtered_examples=limit(filtered_examples),
        warnings=[*listing.warnings, *warnings, *missing_labels(labels), *_contradictions(duplicates)],
    )
    _check_splits({name: len(references) for name, references in splits.items()}, inventory, recipe)
    return Selection(inventory, splits, listing.schema or NO_COLUMNS, fitted)


def _assign(
    rule: SplitRule, listing: ImageListing, root: str
) -> tuple[list[str | None], Splits | Strata, list[str], dict[str, QuarantinedExample]]:
    """The split of each image, None for one that is in none; the fitted rule; warnings; those that can be in none."""
    references = listing.references
    keys = [reference.key for reference in references]
    if not reads_columns(rule):
        assigned, warnings = rule.assign(keys, root)
        return assigned, rule, warnings, {}
    batch = _joined_columns(listing)
    names = list(rule.names() or [])

    def hashes() -> np.ndarray:
        return np.array([hash64(key, "split") for key in keys], np.uint64)

    try:
        fitted, warnings = fit(rule, names, lambda: [(batch, hashes)])
        codes, errors = split_batch(fitted, names, batch, hashes)
    except RequestError as error:
        what = "expected a column that is joined to the images, or 'label'"
        raise RequestError(f"{error}; {what}") from error
    unsplit = {
        keys[row]: QuarantinedExample(keys[row], references[row].uri, "split", error.code, error.message)
        for row, error in errors.items()
    }
    return [None if code < 0 else names[code] for code in codes.tolist()], fitted, warnings, unsplit


def _joined_columns(listing: ImageListing) -> pa.RecordBatch:
    """What is joined to the images, as columns; and their label, where they have one."""
    schema = listing.schema.columns if listing.schema else pa.schema([])
    rows = [reference.columns or {} for reference in listing.references]
    columns = {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in schema}
    labels = pa.array([reference.label for reference in listing.references], pa.string())
    return pa.RecordBatch.from_pydict({**columns, **({} if labels.null_count == len(labels) else {LABEL: labels})})


def _check_splits(counts: Mapping[str, int], inventory: Inventory, recipe: Recipe) -> None:
    """Raises RequestError where the statistics' split is not there, a name cannot be a split's, or one is empty."""
    why = _left_out(inventory)
    if why and not any(counts.values()):
        raise RequestError(f"expected examples, found none that can be used: {why}; fix the recipe or the input")
    if recipe.statistics not in counts:
        raise RequestError(
            f"Recipe(statistics=...): expected the split that statistics come from to be one of {sorted(counts)}, "
            f"found {recipe.statistics!r}{f'; {why}' if why else ''}"
        )
    for name, count in counts.items():
        if not paths.is_split_name(name):
            raise RequestError(
                f"Recipe(splits=...): expected names of letters, digits, _ and ., found the split {name!r} in the "
                "input; rename its folder, or find another name with by_path"
            )
        if not count:
            raise RequestError(
                f"split {name!r} would be empty (found {counts}{f'; {why}' if why else ''}); "
                "change the splits or their shares, or add examples"
            )


def _left_out(inventory: Inventory) -> str:
    """How many examples the plan leaves out, by their reasons, with what was looked for of the first two of each."""
    reasons: dict[str, list[QuarantinedExample]] = {}
    for example in inventory.quarantined:
        reasons.setdefault(example.code, []).append(example)
    parts = [
        f"{len(examples)} by {code} ({'; '.join(f'{each.key}: {each.message}' for each in examples[:_SHOWN])})"
        for code, examples in sorted(reasons.items(), key=lambda item: -len(item[1]))
    ]
    parts += [f"{count} filtered by {reason}" for reason, count in inventory.filtered.items()]
    left_out = len(inventory.quarantined) + sum(inventory.filtered.values())
    return f"of {inventory.read} examples, {left_out} are left out: {', '.join(parts)}" if parts else ""


def _contradictions(duplicates: Mapping[str, tuple[Reference, Reference]]) -> list[str]:
    """Warnings of duplicates that have another label, mask or joined columns than what they equal.

    Args:
      duplicates: That, and the duplicate, by the duplicate's key.
    """
    pairs = list(duplicates.values())
    contradicting: dict[str, list[tuple[Reference, Reference]]] = {
        "label": [pair for pair in pairs if pair[0].label != pair[1].label],
        "mask": [pair for pair in pairs if _have_other_masks(*pair)],
        "columns": [pair for pair in pairs if pair[0].columns != pair[1].columns],
    }
    return [
        f"{len(found)} images that are left out as duplicates contradict the {what} of the one that stays: such as "
        f"{found[0][0].key} ({getattr(found[0][0], what)}) = {found[0][1].key} ({getattr(found[0][1], what)}); fix "
        f"the {what}, or leave both out"
        for what, found in contradicting.items()
        if found
    ]


def _have_other_masks(first: Reference, second: Reference) -> bool:
    if first.mask is None or second.mask is None or first.mask == second.mask:
        return first.mask != second.mask
    try:
        return files.read_bytes(first.mask) != files.read_bytes(second.mask)
    except OSError:
        return False  # the run tells


def _duplicates(references: Sequence[Reference], threads: int) -> dict[str, tuple[Reference, Reference]]:
    """Examples whose payload equals that of one with a smaller key: by their key, that one and they themselves.

    Those that cannot be read are left to make.
    """

    def digest(reference: Reference) -> bytes | None:
        try:
            return hashlib.sha256(files.read_bytes(reference.uri)).digest()
        except OSError:
            return None

    by_size = Counter(reference.size for reference in references)
    candidates = [reference for reference in references if by_size[reference.size] > 1]
    seen: dict[bytes, Reference] = {}
    duplicates: dict[str, tuple[Reference, Reference]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for reference, sha256 in zip(candidates, pool.map(digest, candidates), strict=True):
            if sha256 in seen:
                duplicates[reference.key] = (seen[sha256], reference)  # references come in the order of their keys
            elif sha256 is not None:
                seen[sha256] = reference
    return duplicates
