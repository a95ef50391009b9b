"""Which images are in which split, and in which order."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...transforms.outcome import Rejected
from ..errors import RequestError
from ..formats import paths
from ..formats.features import LABEL
from ..sources.file_patterns import digest_files
from ..sources.images import Images
from ..sources.join import ImageJoin
from ..sources.listed_payload import read_payload
from ..sources.listing import Reference
from ..sources.quarantine import FilteredExample, QuarantineFile
from ..sources.references import ReferenceTable
from ..splits.columns import Strata, fit, reads_columns, split_batch
from ..splits.hashing import hash_keys
from ..splits.labels import missing_labels
from ..splits.lists import assign_lists
from ..splits.rules import DUPLICATE, NOT_LISTED, ByGlob, ByHash, ByList, ByPath, Splits
from ..storage import files
from . import payloads
from .cut import SplitTotals
from .forgotten import NOTHING, Forgotten
from .limit import limit_references
from .payloads import CONTENTS, PayloadHasher, hash_here
from .recipe import Recipe, SplitRule

_JOINED_AND_SORTED = 5_000_000  # references; of more, the join and the sort do not fit in memory beside each other
_UNSPLIT, _UNCHOSEN = 1 << 20, 1 << 21  # steps of `left_out`, after those of the source
_PLACED = pa.schema(
    [
        ("rid", pa.int64()),
        ("number", pa.int32()),
        ("place", pa.uint64()),
        ("size", pa.int64()),
        ("label", pa.string()),
    ]
)
_ERRORS = pa.schema(
    [("rid", pa.int64()), ("step", pa.int32()), ("stage", pa.string()), ("code", pa.string()), ("message", pa.string())]
)

Splitted = tuple[pa.Array, Mapping[int, tuple[str, str]]]  # splits (missing: none); why some have none, by row
SplitBatch = Callable[[pa.RecordBatch], Splitted]


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
      versions: Of a table, the keys of its files to what tells whether they are what they were.
    """

    read: int
    digest: str
    quarantined: QuarantineFile = field(default_factory=QuarantineFile)
    filtered: Mapping[str, int] = field(default_factory=dict)
    filtered_examples: Sequence[FilteredExample] = ()
    warnings: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """The images of a run, with their splits.

    Attributes:
      inventory: What the input holds.
      splits: Split name to what it holds.
      table: The references, with a table `placed`: the split of each and its place among the split's.
      rule: The rule that gave them, fitted where it must be.
      by_key: Whether a split is in the order of its keys, and not of its places.
    """

    inventory: Inventory
    splits: Mapping[str, SplitTotals]
    table: ReferenceTable
    rule: Splits | Strata
    by_key: bool

    def first(self, split: str, count: int) -> list[Reference]:
        """The first references of a split, in their stored order."""
        tables, order = ("placed JOIN files USING (rid)", "key") if self.by_key else ("placed", "place")
        rids = self.table.database.rows(
            f"SELECT rid FROM {tables} ANTI JOIN left_out USING (rid) WHERE number = ? ORDER BY {order} LIMIT ?",
            list(self.splits).index(split),
            count,
        )
        chosen = ", ".join(str(rid) for (rid,) in rids) or "NULL"
        return list(self.table.references(self.table.query(order="place, files.key", where=f"rid IN ({chosen})")))

    def ordered(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """All references, split by split and in their stored order: parts of a split, as `ReferenceTable.named`."""
        names = list(self.splits)
        order = "number, place, files.key"
        query = self.table.query(*self.table.columns, "number", order=order)
        if sum(totals.examples for totals in self.splits.values()) > _JOINED_AND_SORTED:
            joined = self.table.query(*self.table.columns, "number", "place")
            self.table.database.run(f"CREATE TABLE joined AS {joined}")
            query = "FROM joined ORDER BY number, place, key"
        for batch in self.table.database.batches(query):
            numbers, begins = np.unique(np.asarray(batch["number"]), return_index=True)
            for number, begin, end in zip(numbers.tolist(), begins, [*begins[1:], len(batch)], strict=True):
                yield names[number], self.table.named(batch.slice(begin, end - begin))


def select(
    recipe: Recipe,
    source: Images | ImageJoin,
    root: str,
    threads: int,
    hasher: PayloadHasher | None = None,
    limit: int | None = None,
    forgotten: Forgotten = NOTHING,
) -> Selection:
    """Lists the source and gives every example its split and its position.

    Args:
      recipe: The recipe.
      source: Its source.
      root: The input folder.
      threads: How many payloads to hash at a time, where duplicates are to be left out.
      hasher: Hashes many payloads; None: they are hashed here, however many.
      limit: How many examples to take; None: all.
      forgotten: What is to be forgotten.

    Raises:
      RequestError: nothing is found, or the recipe's rules do not fit what is there.
    """
    listing = source.find(root, forgotten.find if forgotten else None)
    table, rule = listing.table, recipe.split_rule
    fitted, names, warnings = _place(table, rule, f"order{recipe.seed}" if recipe.shuffle else None, root)
    if limit is not None:
        examples = {name: totals.examples for name, totals in _total(table, names).items()}
        warnings.append(limit_references(table, limit, examples, by_key=not recipe.shuffle))
    lists = [(path, files.describe(files.join(root, path))) for path in rule.files()]
    digest = hashlib.sha256((listing.digest + digest_files(lists)).encode()).hexdigest()
    digest = forgotten.with_digest(digest)
    contradictions = _leave_out_duplicates(table, threads, digest, hasher) if recipe.deduplicate else []
    if recipe.deduplicate and rule.names() is None:
        names = _drop_empty_splits(table, names)
    splits = _total(table, names)
    filtered, filtered_examples = table.filtered()
    missing = missing_labels({name: totals.labels for name, totals in splits.items()})
    inventory = Inventory(
        read=table.listed(),
        digest=digest,
        quarantined=QuarantineFile(table.quarantined()),
        filtered=filtered,
        filtered_examples=filtered_examples,
        warnings=forgotten.hide([*listing.warnings, *warnings, *missing, *contradictions], of_table=False),
    )
    _check_splits({name: totals.examples for name, totals in splits.items()}, inventory, recipe)
    return Selection(inventory, splits, table, fitted, by_key=not recipe.shuffle)


def _place(
    table: ReferenceTable, rule: SplitRule, salt: str | None, root: str
) -> tuple[Splits | Strata, list[str], list[str]]:
    """Makes the table `placed`: the number of each reference's split, and its place; leaves out those in no split.

    What is counted and shown of all stands there too, so that other tables are joined once for it.

    Args:
      table: The references.
      rule: Gives the splits.
      salt: Of the hash by which they are ordered; None orders them by their keys.
      root: The input folder.

    Returns:
      The rule, fitted where it must be; the splits in their order; and warnings.
    """
    fitted: Splits | Strata = rule
    warnings: list[str] = []
    query = table.query("key", "size", "label")
    split: SplitBatch
    if isinstance(rule, ByList):
        warnings = assign_lists(rule, table, root)
        query = table.query("key", "size", "label", "split", tables="LEFT JOIN listed_splits USING (rid)")

        def split(batch: pa.RecordBatch) -> Splitted:
            return batch["split"], {}

    elif reads_columns(rule):
        query = table.query()
        fitted, warnings, split = _by_columns(table, rule)
    else:
        assert isinstance(rule, ByHash | ByPath | ByGlob)

        def split(batch: pa.RecordBatch) -> Splitted:
            return rule.assign(batch["key"]), {}

    first = dict.fromkeys(rule.names() or [], "")  # split to the key at which the input names it
    failed = 0

    def placed() -> Iterator[pa.RecordBatch]:
        nonlocal failed
        for batch in table.database.batches(query):
            splits, errors = split(batch)
            failed += len(errors)
            if rule.names() is None:
                keys = pa.table({"split": splits, "key": batch["key"]}).group_by("split").aggregate([("key", "min")])
                for name, key in zip(keys["split"].to_pylist(), keys["key_min"].to_pylist(), strict=True):
                    first[name] = min(first.get(name, key), key)
            numbers = pc.index_in(splits, pa.array(list(first), pa.string()))
            places = pa.array(hash_keys(batch["key"], salt)) if salt else pa.nulls(len(batch), pa.uint64())
            columns = [batch["rid"], numbers, places, batch["size"], batch["label"]]
            yield pa.RecordBatch.from_arrays(columns, schema=_PLACED).filter(numbers.is_valid())

    table.database.create("placed", _PLACED, placed())
    if failed:
        table.database.append("left_out", _ERRORS, _errors(table, query, split))
    if table.count() > table.database.value("SELECT count(*) FROM placed"):
        unplaced = f"({table.query('key')}) ANTI JOIN placed USING (rid)"
        table.leave_out(f"SELECT rid, {_UNCHOSEN} AS step, '{NOT_LISTED}' AS code FROM {unplaced}")
    table.join({"label": "placed.label"}, "JOIN placed USING (rid)")
    names = sorted(first, key=lambda name: first[name])
    _renumber(table, list(first), names)
    return fitted, names, warnings


def _drop_empty_splits(table: ReferenceTable, names: Sequence[str]) -> list[str]:
    """The splits that have references that are not left out, in the order of their first keys; they are renumbered."""
    rows = table.database.rows(
        "SELECT number FROM placed JOIN files USING (rid) ANTI JOIN left_out USING (rid) GROUP BY number "
        "ORDER BY min(key)"
    )
    kept = [names[number] for (number,) in rows]
    _renumber(table, names, kept)
    return kept


def _renumber(table: ReferenceTable, before: Sequence[str], after: Sequence[str]) -> None:
    """Numbers the splits in `placed` by another order; those that are not in it have no number."""
    if list(before) != list(after):
        numbers = [after.index(name) if name in after else None for name in before]
        table.database.run("UPDATE placed SET number = ?[number + 1]", numbers)


def _errors(table: ReferenceTable, query: str, split: SplitBatch) -> Iterator[pa.RecordBatch]:
    """Why references cannot be in any split, as rows of `left_out`."""
    for batch in table.database.batches(query):
        _, errors = split(batch)
        if errors:
            rids = batch["rid"].take(pa.array(list(errors)))
            codes, messages = (pa.array(column, pa.string()) for column in zip(*errors.values(), strict=True))
            constants = pa.repeat(pa.scalar(_UNSPLIT, pa.int32()), len(rids)), pa.repeat("split", len(rids))
            yield pa.RecordBatch.from_arrays([rids, *constants, codes, messages], schema=_ERRORS)


def _by_columns(table: ReferenceTable, rule: SplitRule) -> tuple[Splits | Strata, list[str], SplitBatch]:
    """The rule by which columns decide, fitted; warnings; and what gives a batch its splits, or says why not."""
    names = list(rule.names() or [])
    is_joined = LABEL in table.schema.columns.names
    has_labels = not is_joined and table.database.value(f"SELECT count(label) FROM ({table.query('label')})") > 0

    def columns(batch: pa.RecordBatch) -> pa.RecordBatch:
        joined = [batch[f"c{at}"].cast(each.type) for at, each in enumerate(table.schema.columns)]
        labels = [batch["label"]] if has_labels else []
        all_names = [*table.schema.columns.names, *([LABEL] if has_labels else [])]
        return pa.RecordBatch.from_arrays([*joined, *labels], all_names)

    def parts() -> Iterator[tuple[pa.RecordBatch, Callable[[], np.ndarray]]]:
        for batch in table.database.batches(table.query()):
            yield columns(batch), partial(hash_keys, batch["key"], "split")

    def explained(error: RequestError) -> RequestError:
        return RequestError(f"{error}; expected a column that is joined to the images, or 'label'")

    try:
        fitted, warnings = fit(rule, names, parts) if table.count() else (rule, list[str]())  # nothing: told later
    except RequestError as error:
        raise explained(error) from error

    def split(batch: pa.RecordBatch) -> Splitted:
        try:
            codes, errors = split_batch(fitted, names, columns(batch), partial(hash_keys, batch["key"], "split"))
        except RequestError as error:
            raise explained(error) from error
        codes[list(errors)] = -1
        positions = pa.array(codes, mask=codes < 0)
        return pa.array(names, pa.string()).take(positions), {
            row: (error.code, error.message) for row, error in errors.items()
        }

    return fitted, warnings, split


def _total(table: ReferenceTable, names: Sequence[str]) -> dict[str, SplitTotals]:
    """What each split holds."""
    rows = table.database.rows(
        "SELECT number, label, count(*), sum(greatest(size, 0))::BIGINT FROM placed ANTI JOIN left_out USING (rid) "
        "GROUP BY number, label ORDER BY label"
    )
    examples, sizes, labels = Counter[int](), Counter[int](), dict[int, dict[str, int]]()
    for number, label, count, size in rows:
        examples[number] += count
        sizes[number] += size
        if label:
            labels.setdefault(number, {})[label] = count
    return {
        name: SplitTotals(examples[number], sizes[number], labels.get(number, {})) for number, name in enumerate(names)
    }


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
    parts = [
        f"{count} by {code} ({'; '.join(f'{each.key}: {each.message}' for each in inventory.quarantined.first[code])})"
        for code, count in inventory.quarantined.counts.most_common()
    ]
    parts += [f"{count} filtered by {reason}" for reason, count in inventory.filtered.items()]
    left_out = len(inventory.quarantined) + sum(inventory.filtered.values())
    return f"of {inventory.read} examples, {left_out} are left out: {', '.join(parts)}" if parts else ""


def _leave_out_duplicates(table: ReferenceTable, threads: int, digest: str, hasher: PayloadHasher | None) -> list[str]:
    """Leaves out images whose payload equals that of one with a smaller key; returns warnings of contradictions.

    Payloads are equal where their sizes and their MD5 are, which stores tell by the ETag of an object that was written
    in one piece; of others the payloads are hashed. Those that cannot be read are left to make.
    """
    database = table.database
    is_md5 = "length(files.etag) = 32"  # of an ETag without quotes; checked where two are equal
    usable = table.query("etag", "size", where=is_md5)
    repeated = f"SELECT hash(etag, size) AS h FROM ({usable}) GROUP BY h HAVING count(*) > 1"
    database.run(
        f"CREATE TABLE contents AS SELECT rid, concat(etag, ':', size) AS content FROM ({usable}) "
        f"WHERE hash(etag, size) IN ({repeated}) AND regexp_full_match(etag, '[0-9a-f]+')"
    )
    usable = table.query(f"{table.uri_of} AS uri", "size", "key", where=f"({is_md5}) IS NOT TRUE")
    database.append("contents", CONTENTS, _hash_payloads(table, usable, threads, digest, hasher))
    first = "first_value(rid) OVER (PARTITION BY content ORDER BY key)"
    database.run(
        f"CREATE TABLE duplicates AS SELECT rid, kept FROM (SELECT rid, {first} AS kept FROM contents "
        "JOIN files USING (rid)) WHERE rid <> kept"
    )
    warnings = _contradictions(table)
    table.leave_out(f"SELECT rid, {_UNCHOSEN} AS step, '{DUPLICATE}' AS code FROM duplicates")
    return warnings


def _hash_payloads(
    table: ReferenceTable, usable: str, threads: int, digest: str, hasher: PayloadHasher | None
) -> Iterator[pa.RecordBatch]:
    """The hashes of payloads that have as many bytes as another one, as rows of `contents`."""
    shared = f"SELECT size FROM ({usable}) GROUP BY size HAVING count(*) > 1"
    among = f"FROM ({usable}) WHERE size IN ({shared})"
    candidates = table.database.batches(f"SELECT rid, uri, size {among} ORDER BY key")
    if hasher and table.database.value(f"SELECT coalesce(sum(greatest(size, 0)), 0) {among}") > payloads.READ_HERE:
        return hasher(digest, candidates)
    return hash_here(candidates, threads)


def _contradictions(table: ReferenceTable) -> list[str]:
    """Warnings of duplicates that have another label, mask or joined columns than what they equal."""
    database = table.database
    if not database.value("SELECT count(*) FROM duplicates"):
        return []
    database.run(
        f"CREATE TABLE described AS SELECT * FROM ({table.query()}) WHERE rid IN "
        "(SELECT rid FROM duplicates UNION SELECT kept FROM duplicates)"
    )
    pairs = "FROM duplicates JOIN described AS own USING (rid) JOIN described AS kept ON kept.rid = duplicates.kept"
    columns = [f"own.c{at} IS DISTINCT FROM kept.c{at}" for at in range(len(table.schema.columns))]
    warnings = []
    for what, differs in (
        ("label", "own.label IS DISTINCT FROM kept.label"),
        ("mask", "own.mask IS DISTINCT FROM kept.mask"),
        ("columns", " OR ".join(columns) or "false"),
    ):
        count, first = 0, None
        query = f"SELECT kept.rid AS kept, own.rid AS own, kept.mask AS kept_mask, own.mask AS own_mask {pairs} WHERE "
        for batch in database.batches(f"{query} {differs} ORDER BY own.key"):
            for row in batch.to_pylist():
                if what != "mask" or _have_other_masks(row["kept_mask"], row["own_mask"]):
                    count += 1
                    first = first or (row["kept"], row["own"])
        if first:
            kept, own = (next(table.references(f"SELECT * FROM described WHERE rid = {rid}")) for rid in first)
            warnings.append(
                f"{count} images that are left out as duplicates contradict the {what} of the one that stays: such as "
                f"{kept.key} ({getattr(kept, what)}) = {own.key} ({getattr(own, what)}); fix the {what}, or leave both "
                "out"
            )
    return warnings


def _have_other_masks(first: str | None, second: str | None) -> bool:
    if first is None or second is None or first == second:
        return first != second
    try:
        return read_payload(first) != read_payload(second)
    except (OSError, Rejected):
        return False  # the run tells
