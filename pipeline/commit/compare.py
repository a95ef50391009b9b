"""What differs between two generations: their examples, labels, schemas and statistics; in bounded memory."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..build.journal import hash_words, read_hashes, read_kept
from ..errors import DatasetError
from ..formats import raw_schema
from ..formats.generations import find_previous, load_generation
from ..formats.manifest import Manifest, read_stored
from ..storage import files
from ..storage.scratch import ScratchDatabase
from . import drift
from .history import compare_origins, differing

_SHOWN = 10  # keys that are shown of each kind of change
_PAIRS = 20  # pairs of labels that are shown
_EXAMPLES = pa.schema(
    [
        ("key", pa.string()),
        ("h0", pa.uint64()),
        ("h1", pa.uint64()),
        ("label", pa.string()),
        ("split", pa.string()),
    ]
)
_MASK = ("mask_key", "mask_size", "mask_etag", "mask_modified")


@dataclass(frozen=True)
class Version:
    """A generation of a dataset.

    Attributes:
      dataset: The dataset's URI.
      manifest: The generation's manifest.
    """

    dataset: str
    manifest: Manifest

    @property
    def root(self) -> str:
        """The generation's URI."""
        return files.join(self.dataset, self.manifest.generation)

    def to_json(self) -> dict[str, Any]:
        """What names it."""
        return {"dataset": self.dataset, "generation": self.manifest.generation, "created": self.manifest.created}


def choose(dataset: str, before: str | None, after: str | None) -> tuple[Version, Version]:
    """The two generations that `penstock diff` is asked for, by what its command line says.

    Raises:
      NotCommittedError: nothing was committed at one of the places.
      RequestError: there is no such generation.
    """
    if before is None:
        before = find_previous(dataset)
    if after is None and _is_place(before):
        before, after = None, before
    return _version(dataset, before), _version(dataset, after)


def _version(dataset: str, name: str | None) -> Version:
    """A generation of a dataset, or the current one of another dataset, whose URI its name is then."""
    if name is not None and _is_place(name):
        dataset, name = name, None
    dataset = dataset.rstrip("/") or "/"
    return Version(dataset, load_generation(dataset, name)[0])


def _is_place(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{1,16}", name) is None


def compare(before: Version, after: Version) -> dict[str, Any]:
    """What `penstock diff` says, as data.

    Args:
      before: One generation.
      after: Another one, of the same dataset or of another.

    Returns:
      `before` and `after` (what names them); `origins` (see `history.compare_origins`); `examples` (see
      `_compare_examples`; None where one of them does not keep what that needs); and in pairs of what was and is:
      `counts` of examples by split, `read`, `filtered` and `quarantined`, `labels` by split, `features`, `outputs` of
      the transform graph, and `statistics` by feature. `schema`: changes of a table's raw columns, in words. `drift`:
      by how much each feature's values moved (see `drift.measure`).

    Raises:
      DatasetError: a file of one of them is damaged.
    """
    first, second = before.manifest, after.manifest
    statistics = [json.loads(read_stored(each.dataset, each.manifest.statistics.file)) for each in (before, after)]
    schemas = [raw_schema.from_text(each.origin.schema) for each in (first, second) if each.origin.schema]
    is_kept = first.units is not None and second.units is not None
    counts = [
        {name: split.examples for name, split in each.splits.items()}
        | {"read": each.read, "filtered": each.filtered, "quarantined": each.quarantined}
        for each in (first, second)
    ]
    labels = {
        split: differing(statistics[0]["labels"].get(split, {}), statistics[1]["labels"].get(split, {}))
        for split in dict.fromkeys([*statistics[0]["labels"], *statistics[1]["labels"]])
    }
    features = [{name: feature.to_json() for name, feature in each.features.items()} for each in (first, second)]
    return {
        "before": before.to_json(),
        "after": after.to_json(),
        "origins": compare_origins(first, second),
        "examples": _compare_examples(before, after) if is_kept else None,
        "counts": differing(*counts),
        "labels": {split: changes for split, changes in labels.items() if changes},
        "schema": raw_schema.compare(*schemas) if len(schemas) == 2 else [],
        "features": differing(*features),
        "outputs": differing(first.transform_graph.outputs, second.transform_graph.outputs),
        "statistics": _compare_statistics(*(each["features"] for each in statistics)),
        "drift": {name: shift.to_json() for name, shift in drift.measure(*statistics).items()},
    }


def _compare_statistics(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """Feature to the statistics of it that differ; counts of single values and quantiles are left out."""
    left_out = ("top", "counts", "classes", "quantiles")
    changes = {}
    for name in dict.fromkeys([*before, *after]):
        first, second = (
            {key: value for key, value in each.get(name, {}).items() if key not in left_out} for each in (before, after)
        )
        changes[name] = differing(first, second)
    return {name: differences for name, differences in changes.items() if differences}


def _compare_examples(before: Version, after: Version) -> dict[str, Any]:
    """Which examples differ, by their keys and the hashes of their contents: of images their files, of rows all values.

    Returns:
      `unchanged`: how many have their key and their content. `added`, `removed` and `changed` (the same key, another
      content): `count`, `splits` (split to count) and the first `keys`. `moved` (the same content, another key):
      `count`, and the first `keys`, in pairs. `relabelled` (the same key and another label) and `resplit` (the same
      content in another split): `count`, the first `keys`, and the most frequent `pairs` of what was and is, with their
      counts. `described` (images that are as they were, whose mask or joined columns are not): `count` and `keys`.
    """
    database = ScratchDatabase()
    for name, version in (("a", before), ("b", after)):
        database.create(f"read_{name}", _EXAMPLES, _examples(version))
        database.run(f"CREATE TABLE {name} AS SELECT *, {_number(database, name)} AS n FROM read_{name}")
        database.run(f"DROP TABLE read_{name}")
    same = "a.key = b.key AND a.n = b.n"
    equal = f"{same} AND a.h0 = b.h0 AND a.h1 = b.h1"
    database.run(f"CREATE TABLE left_a AS SELECT * FROM a ANTI JOIN b ON {equal}")
    database.run(f"CREATE TABLE left_b AS SELECT * FROM b ANTI JOIN a ON {equal}")
    ordered = "SELECT *, row_number() OVER (PARTITION BY h0, h1 ORDER BY key, n) AS m"
    database.run(
        "CREATE TABLE moved AS SELECT was.key AS key, was.n AS n, was.split AS was_split, now.key AS new_key, "
        f"now.n AS new_n, now.split AS split FROM ({ordered} FROM left_a) AS was JOIN ({ordered} FROM left_b) AS now "
        "USING (h0, h1, m)"
    )
    database.run("CREATE TABLE gone AS SELECT * FROM left_a ANTI JOIN moved USING (key, n)")
    database.run(
        "CREATE TABLE come AS SELECT * FROM left_b ANTI JOIN moved ON left_b.key = new_key AND left_b.n = new_n"
    )
    resplit = (
        f"SELECT b.key, a.split AS was, b.split AS now FROM a JOIN b ON {equal} WHERE a.split <> b.split "
        "UNION ALL SELECT new_key, was_split, split FROM moved WHERE was_split <> split"
    )
    relabelled = (
        f"SELECT b.key, a.label AS was, b.label AS now FROM a JOIN b ON {same} WHERE a.label IS DISTINCT FROM b.label"
    )
    return {
        "unchanged": database.value(f"SELECT count(*) FROM a JOIN b ON {equal}"),
        "added": _sum_up(database, "SELECT key, split FROM come ANTI JOIN gone USING (key, n)"),
        "removed": _sum_up(database, "SELECT key, split FROM gone ANTI JOIN come USING (key, n)"),
        "changed": _sum_up(database, "SELECT come.key, come.split FROM gone JOIN come USING (key, n)"),
        "moved": {
            "count": database.value("SELECT count(*) FROM moved"),
            "keys": [list(row) for row in database.rows(f"SELECT key, new_key FROM moved ORDER BY ALL LIMIT {_SHOWN}")],
        },
        "relabelled": _sum_up_pairs(database, relabelled),
        "resplit": _sum_up_pairs(database, resplit),
        "described": _described(database, before, after, equal),
    }


def _number(database: ScratchDatabase, name: str) -> str:
    """An expression that tells examples with one key apart, as those of a union of tables may be; mostly 0."""
    repeated = f"SELECT hash(key) FROM read_{name} GROUP BY hash(key) HAVING count(*) > 1"
    if not database.rows(f"{repeated} LIMIT 1"):
        return "0"
    return "row_number() OVER (PARTITION BY key ORDER BY h0, h1)"


def _examples(version: Version) -> Iterator[pa.RecordBatch]:
    """Key, hash, label and split of every example that was written."""
    journals = read_kept(version.dataset, version.manifest)
    calls = files.calls_for(max((journal.hashes.bytes for journal in journals if journal.hashes), default=0))
    try:
        for table in files.map_files(lambda journal: read_hashes(version.root, journal), journals, calls):
            for batch in table.to_batches():
                first, second = map(pa.array, np.ascontiguousarray(hash_words(batch["content_hash"]).T))
                columns = [batch["key"], first, second, batch["label"], batch["split"]]
                yield pa.RecordBatch.from_arrays(columns, schema=_EXAMPLES)
    except OSError as error:
        raise DatasetError(
            f"{version.root}: expected the hashes of its examples, found: {error}; run `penstock verify`"
        ) from error


def _sum_up(database: ScratchDatabase, query: str) -> dict[str, Any]:
    splits = dict(database.rows(f"SELECT split, count(*) FROM ({query}) GROUP BY split ORDER BY split"))
    keys = [key for (key,) in database.rows(f"SELECT key FROM ({query}) ORDER BY key LIMIT {_SHOWN}")]
    return {"count": sum(splits.values()), "splits": splits, "keys": keys}


def _sum_up_pairs(database: ScratchDatabase, query: str) -> dict[str, Any]:
    pairs = database.rows(
        f"SELECT was, now, count(*) AS times FROM ({query}) GROUP BY was, now ORDER BY times DESC, was, now"
    )
    keys = [key for (key,) in database.rows(f"SELECT key FROM ({query}) ORDER BY key LIMIT {_SHOWN}")]
    return {
        "count": sum(times for *_, times in pairs),
        "pairs": [list(pair) for pair in pairs[:_PAIRS]],
        "keys": keys,
    }


def _described(database: ScratchDatabase, before: Version, after: Version, equal: str) -> dict[str, Any]:
    """Images whose file is what it was, and whose mask (by its version) or joined columns are not."""
    texts = []
    for name, version in (("was", before), ("now", after)):
        with _open_inputs(version) as reader:
            if "etag" not in reader.schema.names:  # ranges of a table, whose rows have all of it in their contents
                return {"count": 0, "keys": []}
            names = [*(each for each in _MASK if each in reader.schema.names), "columns"]
            schema = pa.schema([reader.schema.field(each) for each in ("key", *names)])
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            database.create(f"input_{name}", schema, (batch.select(schema.names) for batch in batches))
        values = ", ".join(f"coalesce({each}::VARCHAR, chr(1))" for each in names)
        texts.append(f"(SELECT key, concat_ws(chr(0), {values}) AS text FROM input_{name}) AS {name}")
    changed = (
        f"SELECT b.key FROM a JOIN b ON {equal} JOIN {texts[0]} ON was.key = a.key JOIN {texts[1]} ON now.key = b.key "
        "WHERE was.text <> now.text"
    )
    keys = database.rows(f"SELECT key FROM ({changed}) ORDER BY key LIMIT {_SHOWN}")
    return {"count": database.value(f"SELECT count(*) FROM ({changed})"), "keys": [key for (key,) in keys]}


@contextlib.contextmanager
def _open_inputs(version: Version) -> Iterator[Any]:
    """Reads what units read, a unit at a time."""
    assert version.manifest.units
    uri = files.join(version.dataset, version.manifest.units.inputs.path)
    try:
        with files.open_read(uri) as file, pa.ipc.open_file(file) as reader:
            yield reader
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{uri}: expected what units read, found: {error}; run `penstock verify`") from error
