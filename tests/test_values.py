"""What happens to values that do not fit: each row of the table in docs/recipes.md is tried; one without a test fails.

Nothing runs through an engine here: an input is planned, its pieces are prepared, and what the commit would say of them
is asked of the functions that it asks.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import REPOSITORY, draw, plan_job, save, write
from PIL import Image

from penstock.pipeline import (
    Csv,
    Images,
    JsonLines,
    Parquet,
    PenstockError,
    Recipe,
    RequestError,
    TfRecord,
    by_hash,
    by_list,
    by_time,
    folder,
    join,
)
from penstock.pipeline.commit import duplicates
from penstock.pipeline.commit.column_warnings import describe_notes
from penstock.pipeline.commit.joins import join_warnings
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.pipeline.sources import row_blocks, row_boundaries, sampling
from penstock.pipeline.splits.labels import missing_labels
from penstock.transforms import columns, image, keep

HEADING = "## Values that do not fit"
Case = Callable[[Path], "Seen"]
CASES: dict[str, Case] = {}


@dataclass
class Seen:
    """What became of an input: what is quarantined and filtered by key, what is said, and what is stored."""

    quarantined: dict[str, Any] = field(default_factory=dict)
    filtered: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def outcomes(self) -> set[str]:
        """As the table names them."""
        found = {f"quarantined: {example.code}" for example in self.quarantined.values()}
        found |= {f"filtered: {reason}" for reason in self.filtered.values()}
        return found | ({"warning"} if self.warnings else set()) | ({"error"} if self.error else set()) or {"nothing"}

    def says(self, *words: str) -> "Seen":
        """Itself, where all that is said of what does not fit holds these words."""
        said = " ".join([*(each.message for each in self.quarantined.values()), *self.warnings, self.error])
        for word in words:
            assert word in said, f"no {word!r} in {said!r}"
        return self

    def stores(self, name: str, *values: Any) -> "Seen":
        """Itself, where these are the stored values of a feature."""
        assert [row.get(name) for row in self.rows] == list(values)
        return self


def observe(recipe: Recipe, root: Path) -> Seen:
    """Plans and prepares an input."""
    try:
        plan = plan_job(recipe, root)
    except RequestError as error:
        return Seen(error=str(error))
    inventory = plan.inventory
    seen = Seen(
        {example.key: example for example in inventory.quarantined},
        {example.key: example.reason for example in inventory.filtered_examples},
        list(inventory.warnings),
    )
    worker = plan.preparer(StatisticsSpec(recipe.statistics)).start(threads=1)
    hashes, labels, written, notes = [], {}, Counter(), []
    for unit, pieces in plan.units:
        for chunk in worker.chunks(list(unit.shards), pieces):
            seen.quarantined |= {example.key: example for example in chunk.quarantined}
            seen.filtered |= {example.key: example.reason for example in chunk.filtered_examples}
            notes += [SimpleNamespace(notes=each.notes) for each in (chunk, *chunk.ranges)]
            for totals in chunk.ranges:
                for name, counts in totals.labels.items():
                    labels.setdefault(name, Counter()).update(counts)
            for name, split in chunk.splits.items():
                written[name] += len(split.examples)
                labels.setdefault(name, Counter()).update(split.labels or {})
                hashes.append(split.hashes.append_column("split", pa.repeat(name, len(split.hashes))))
                if isinstance(split.examples, pa.RecordBatch):
                    seen.rows += split.examples.to_pylist()
    worker.close()
    seen.warnings += [warning for warning in missing_labels(labels) if warning not in seen.warnings]
    seen.warnings += describe_notes(notes)
    try:
        seen.warnings += join_warnings(notes)
    except PenstockError as error:
        seen.error = str(error)
    if hashes:
        equal = duplicates.group([0], lambda _: pa.Table.from_batches(hashes), written.total())
        seen.warnings += duplicates.warnings(equal, written)
    return seen


def case(name: str) -> Callable[[Case], Case]:
    def register(function: Case) -> Case:
        CASES[name] = function
        return function

    return register


def table(root: Path, content: str, source: Any = None, **fields: Any) -> Seen:
    """A CSV as Parquet shards in the order of its rows."""
    standard = {"source": source or Csv("a.csv"), "format": "parquet", "shuffle": None}
    return observe(Recipe(**{**standard, **fields}), write(root, {"a.csv": content}))


def lines(root: Path, *rows: str, **fields: Any) -> Seen:
    """JSON Lines as Parquet shards in the order of the rows."""
    write(root, {"a.jsonl": "\n".join(rows) + "\n"})
    return observe(Recipe(**{"source": JsonLines("a.jsonl"), "format": "parquet", "shuffle": None, **fields}), root)


# Columns


@case("a cell more or less than the header has")
def _(root: Path) -> Seen:
    return table(root, "n,t\n1,a\n2\n3,c,d\n4,e\n").says("line 3", "line 4").stores("n", 1, 4)


@case("a column that another file of a table lacks")
def _(root: Path) -> Seen:
    write(root, {"b.csv": "n\n2\n"})
    return table(root, "n,t\n1,a\n", Csv("*.csv")).says("b.csv", "'t'")


@case("a key or feature that no row looked at has")
def _(root: Path) -> Seen:
    rows = [f'{{"n": {number}}}' for number in range(10_000)]
    rows[5_000] = '{"n": 5000, "late": 3}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "LOOKED_AT", 1000)
        return lines(root, *rows).says("'late'", "1 rows", "line 5001")


# Types


@case("text among numbers, where the column is declared")
def _(root: Path) -> Seen:
    seen = table(root, "n\n1\nx7\n3\n", Csv("a.csv", columns={"n": "int64"}))
    return seen.says("a.csv, line 3", "'n'", "int64", "'x7'").stores("n", 1, 3)


@case("text among numbers, where it is inferred")
def _(root: Path) -> Seen:
    return table(root, "n\n1\nx7\n3\n").stores("n", "1", "x7", "3")


@case("zeros before other digits (`02134`)")
def _(root: Path) -> Seen:
    return table(root, "zip\n02134\n10115\n").stores("zip", "02134", "10115")


@case("true and false")
def _(root: Path) -> Seen:
    return lines(root, '{"b": true}', '{"b": false}', '{"b": null}').stores("b", 1, 0, None)


@case("a list of numbers and strings (JSON)")
def _(root: Path) -> Seen:
    source = JsonLines("a.jsonl", columns={"l": "list<int64>"})
    return lines(root, '{"l": [1]}', '{"l": [2, "x"]}', source=source).says("line 2", "'l'").stores("l", [1])


@case("a duration (Parquet)")
def _(root: Path) -> Seen:
    pq.write_table(pa.table({"took": pa.array([1500, None], pa.duration("ms"))}), root / "a.parquet")
    seen = observe(Recipe(source=Parquet("a.parquet"), format="parquet", shuffle=None), root)
    return seen.stores("took", 1500, None).says("'took'", "duration[ms]")


@case("a date or a timestamp")
def _(root: Path) -> Seen:
    days = pa.array([date(2024, 2, 29), None])
    pq.write_table(pa.table({"day": days}), root / "a.parquet")
    return observe(Recipe(source=Parquet("a.parquet"), format="parquet", shuffle=None), root).stores(
        "day", "2024-02-29", None
    )


@case("a decimal")
def _(root: Path) -> Seen:
    pq.write_table(pa.table({"price": pa.array([Decimal("1.50"), None])}), root / "a.parquet")
    return observe(Recipe(source=Parquet("a.parquet"), format="parquet", shuffle=None), root).stores("price", 1.5, None)


@case("another type or shape than the first examples have after `prepare`: of an image")
def _(root: Path) -> Seen:
    def step(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "x": [1, 2] if "cat_008" in example["key"] else 1}

    seen = observe(Recipe(source=Images("images/*.png"), prepare=[step], shuffle=None), draw(root, 12))
    return seen.says("'x'", "expected int64 []", "found int64 [2]")


@case("another type than the first rows have after `prepare`: of a table")
def _(root: Path) -> Seen:
    def step(example: dict[str, Any]) -> dict[str, Any]:
        return {"n": "seven" if example["n"] == 7 else example["n"]}

    content = "n\n" + "".join(f"{number}\n" for number in range(9))
    return table(root, content, prepare=[step]).says("'n'", "'seven'").stores("n", *range(7), 8)


@case("an exponent among integers (`12e4`)")
def _(root: Path) -> Seen:
    return table(root, "id\n12345\n12e4\n").says("'id'", "12e4").stores("id", "12345", "12e4")


@case("a column of text that another delimiter cuts into equal rows")
def _(root: Path) -> Seen:
    return table(root, "n;t\n1;a\n2;b\n").says("';'")


@case("a list among single values (JSON)")
def _(root: Path) -> Seen:
    return lines(root, '{"n": 1}', '{"n": [2, 3]}').says("'n'", "line 2").stores("n", [1], [2, 3])


@case("an object among single values (JSON)")
def _(root: Path) -> Seen:
    rows = ['{"n": 1}', '{"n": 2}', '{"n": {"x": 1}}', '{"n": 4}']
    return lines(root, *rows).says("line 3", "'n'").stores("n", 1, 2, 4)


# Range


@case("an integer beyond int64, declared")
def _(root: Path) -> Seen:
    seen = table(root, f"n\n1\n{2**64 - 1}\n", Csv("a.csv", columns={"n": "int64"}))
    return seen.says("line 3", "'n'", f"{2**64 - 1}").stores("n", 1)


@case("an integer beyond int64, inferred")
def _(root: Path) -> Seen:
    return table(root, f"n\n1\n{2**64 - 1}\n").says("'n'", "beyond int64").stores("n", "1", f"{2**64 - 1}")


@case("NaN and infinity")
def _(root: Path) -> Seen:
    return table(root, "x\n1.5\nnan\n-inf\n").stores("x", 1.5, None, None)


@case('the same, where `nonfinite="quarantine"` says so')
def _(root: Path) -> Seen:
    seen = table(root, "x\n1.5\nnan\n", Csv("a.csv", nonfinite="quarantine"))
    return seen.says("line 3", "'x'").stores("x", 1.5)


@case("a number beyond float32's range")
def _(root: Path) -> Seen:
    return table(root, "x\n1.5\n1e300\n").says("'x'", "1e+300").stores("x", 1.5, None)


@case("an integer that float64 rounds, in a column of floats (CSV, JSON, TFRecord)")
def _(root: Path) -> Seen:
    seen = table(root, f"x\n0.5\n{2**64}\n{2**70 + 1}\n").stores("x", 0.5, 2.0**64, 2.0**70)
    return seen.says("'x'", str(2**70 + 1), "line 4")


# Precision


@case("a float whose whole part float32 cannot hold")
def _(root: Path) -> Seen:
    seen = table(root, "t\n1700000000.5\n1700000001.25\n")
    return seen.says("'t'", "1700000001.25")


@case("whole numbers written as floats (`123456789.0`)")
def _(root: Path) -> Seen:
    return table(root, "id\n123456789.0\n5.0\n").stores("id", 123456789, 5)


@case("different floats of which a tenth become equal as float32")
def _(root: Path) -> Seen:
    content = "x\n" + "".join(f"{1 + number / 1e9:.9f}\n" for number in range(100))
    seen = table(root, content)
    seen.warnings = [warning for warning in seen.warnings if "equal examples" not in warning]
    return seen.says("'x'")


# Encoding


@case("bytes that are no UTF-8")
def _(root: Path) -> Seen:
    write(root, {"a.csv": b"t,n\nb,1\nM\xfcll,2\nd,3\n"})
    return observe(Recipe(source=Csv("a.csv"), format="parquet", shuffle=None), root).says("line 3").stores("n", 1, 3)


@case("text after a closing quote")
def _(root: Path) -> Seen:
    return table(root, 't,n\n"a",1\n"b"c,2\n"d",3\n').says("line 3").stores("n", 1, 3)


@case("a quote that nothing closes")
def _(root: Path) -> Seen:
    return table(root, 't,n\na,1\n"b,2\n').says("line 3").stores("n", 1)


@case("a line that is no JSON object")
def _(root: Path) -> Seen:
    return lines(root, '{"n": 1}', '{"n": 2', "[3]").says("line 2", "line 3").stores("n", 1)


@case("JSON that is nested deeper than 64 levels")
def _(root: Path) -> Seen:
    deep = '{"n": 2, "x": ' + '{"a": ' * 40_000 + "1" + "}" * 40_001
    source = JsonLines("a.jsonl", columns={"n": "int64"})
    return lines(root, '{"n": 1}', deep, '{"n": 3}', source=source).says("line 2", "40001").stores("n", 1, 3)


@case("a row longer than 64 MiB, a TFRecord longer than 256 MiB")
def _(root: Path) -> Seen:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_blocks, "LONGEST_ROW", 1000)
        patch.setattr(row_boundaries, "LONGEST_FIELD", 1000)
        return table(root, f"n,t\n1,a\n2,{'x' * 2000}\n3,c\n").says("line 3", "2003").stores("n", 1, 3)


@case("a step of a feature list (`tf.train.SequenceExample`) that has not one value")
def _(root: Path) -> Seen:
    from tensorflow.core.example.example_pb2 import SequenceExample

    from penstock.pipeline.formats.tfrecord import RecordWriter

    records = []
    for steps in ([1], [2], [3, 4], [5]):
        record = SequenceExample()
        record.feature_lists.feature_list["x"].feature.add().int64_list.value.extend(steps)
        records.append(record.SerializeToString())
    with (root / "a.tfrecord").open("wb") as file:
        RecordWriter(file).append(records)
    recipe = Recipe(source=TfRecord("a.tfrecord"), format="parquet", shuffle=None)
    return observe(recipe, root).says("record 2", "'x'").stores("x", [1], [2], [5])


@case("a Parquet file that makes its reader crash or hang")
def _(root: Path) -> Seen:
    pq.write_table(pa.table({"i": [1, 2, 3], "s": ["a", "b", None]}), root / "a.parquet", store_schema=False)
    content = (root / "a.parquet").read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for at in range(footer + 18, footer + 40):  # one of these bytes makes Arrow crash
        damaged = bytearray(content)
        damaged[at] ^= 0x0F
        (root / "a.parquet").write_bytes(damaged)
        seen = observe(Recipe(source=Parquet("a.parquet")), root)
        if "the process that reads it was ended" in seen.error:
            break
    return seen.says("a.parquet", "the process that reads it was ended by SIG")


@case("a TFRecord whose checksum is wrong")
def _(root: Path) -> Seen:
    from penstock.pipeline.formats.example_writer import encode
    from penstock.pipeline.formats.features import describe_columns
    from penstock.pipeline.formats.tfrecord import RecordWriter

    batch = pa.record_batch({"n": [1, 2, 3]})
    with (root / "a.tfrecord").open("wb") as file:
        writer = RecordWriter(file)
        writer.append(encode(batch, describe_columns(batch.schema)).to_pylist())
        writer.finish()
        offsets = writer.offsets
    content = bytearray((root / "a.tfrecord").read_bytes())
    content[offsets[1] + 14] ^= 1
    (root / "a.tfrecord").write_bytes(content)
    recipe = Recipe(source=TfRecord("a.tfrecord"), format="parquet", shuffle=None)
    return observe(recipe, root).says("a.tfrecord").stores("n", 1, 3)


@case("a file that is no image, or is damaged")
def _(root: Path) -> Seen:
    raw = draw(root, 6)
    (raw / "images" / "zebra_1.png").write_text("<html>")
    whole = (raw / "images" / "cat_001.png").read_bytes()
    (raw / "images" / "zebra_2.png").write_bytes(whole[: len(whole) // 2])
    (raw / "images" / "zebra_3.png").write_bytes(b"")
    return observe(Recipe(source=Images("images/*.png"), shuffle=None), raw)


@case("a mask in a format that changes pixels (JPEG)")
def _(root: Path) -> Seen:
    raw = draw(root, 9, masks=True)
    mask = raw / "masks" / "cat_008.png"
    Image.open(mask).convert("L").save(mask, "JPEG")
    seen = observe(Recipe(source=Images("images/*.png", mask="masks/{stem}.png")), raw)
    assert seen.quarantined.keys() == {"images/cat_008.png"}
    return seen


# Duplicates


@case("equal rows in several splits")
def _(root: Path) -> Seen:
    content = "n\n" + "".join(f"{number % 20}\n" for number in range(200))
    return table(root, content, splits={"train": 0.5, "test": 0.5}).says("examples of 'test'", "leaks", "a.csv:")


@case("equal examples, where `deduplicate=True`")
def _(root: Path) -> Seen:
    return table(root, "n\n1\n2\n1\n", deduplicate=True).stores("n", 1, 2)


@case("equal images with different labels")
def _(root: Path) -> Seen:
    for name in ("cat/1.png", "dog/1.png"):
        save(root / name, np.full((4, 4, 3), 7))
    return observe(Recipe(source=Images("*/*.png", label=folder())), root).says("contradict", "(train, cat)")


@case("a key twice in the right table of a join")
def _(root: Path) -> Seen:
    write(root, {"b.csv": "k,y\n1,a\n1,b\n"})
    return table(root, "k\n1\n", join(Csv("a.csv"), Csv("b.csv"), on="k")).says("'1'", "2 times")


@case("an example in two split lists")
def _(root: Path) -> Seen:
    raw = draw(root, 6)
    write(raw, {"a.txt": "cat_001\n", "b.txt": "cat_001\n"})
    rule = by_list({"train": "a.txt", "test": "b.txt"})
    return observe(Recipe(source=Images("images/*.png"), splits=rule), raw).says("'cat_001'", "'train'", "'test'")


# Missing


@case("an empty cell, or one of `missing=`")
def _(root: Path) -> Seen:
    return table(root, "n,t\n1,a\n,\n?,?\n").stores("n", 1, None, None).stores("t", "a", None, None)


@case("a missing value in a predicate of `columns.where`")
def _(root: Path) -> Seen:
    import pyarrow.compute as pc

    step = columns.where(lambda batch: pc.greater(batch["n"], 1), "small")
    return table(root, "n,m\n1,1\n,2\n3,3\n", prepare=[step]).stores("n", 3)


@case("no time, or none that can be read, for `by_time`")
def _(root: Path) -> Seen:
    content = "n,day\n1,2024-01-01\n2,soon\n3,\n4,2025-01-01\n"
    seen = table(root, content, splits=by_time("day", {"train": "2024-06-01", "test": None}))
    return seen.says("'day'", "'soon'", "a missing value").stores("n", 1, 4)


@case("an example that is in no split")
def _(root: Path) -> Seen:
    return table(root, "n\n1\n9\n", splits=by_time("n", {"train": 5})).stores("n", 1)


@case("a label that a split lacks")
def _(root: Path) -> Seen:
    content = "n,label\n" + "".join(f"{number},{'rare' if number == 7 else 'often'}\n" for number in range(60))
    return table(root, content, splits={"train": 0.5, "test": 0.5}).says("'rare'", "has no example")


@case("a label too rare to be shared out by `stratify`")
def _(root: Path) -> Seen:
    content = "n,kind\n" + "".join(f"{number},{'rare' if number == 7 else 'often'}\n" for number in range(60))
    rule = by_hash({"train": 0.5, "test": 0.5}, stratify="kind")
    return table(root, content, splits=rule).says("'rare' (1 example)")


@case("an image without its mask")
def _(root: Path) -> Seen:
    raw = draw(root, 8, masks=True)
    (raw / "masks" / "cat_001.png").unlink()
    seen = observe(Recipe(source=Images("images/*.png", mask="masks/{stem}.png")), raw)
    assert seen.quarantined.keys() == {"images/cat_001.png"}
    return seen


@case("an image without its label")
def _(root: Path) -> Seen:
    raw = draw(root, 8)
    (raw / "images" / "cat_001.png").rename(raw / "images" / "nobody.png")
    seen = observe(Recipe(source=Images("images/*.png", label=r"(?P<label>.+)_\d+")), raw)
    assert seen.quarantined.keys() == {"images/nobody.png"}
    return seen


@case("a mask of another size than its image")
def _(root: Path) -> Seen:
    raw = draw(root, 8, masks=True)
    save(raw / "masks" / "cat_001.png", np.zeros((2, 2)))
    return observe(Recipe(source=Images("images/*.png", mask="masks/{stem}.png")), raw).says("2x2")


@case("a row without a partner in a join")
def _(root: Path) -> Seen:
    write(root, {"b.csv": "k,y\n1,a\n9,b\n"})
    seen = table(root, "k\n1\n2\n", join(Csv("a.csv"), Csv("b.csv"), on="k"))
    return seen.says("1 of 2 rows of the left side", "such as '2'", "of the joined table").stores("y", "a", None)


@case('the same, where `how="inner"`')
def _(root: Path) -> Seen:
    write(root, {"b.csv": "k,y\n1,a\n9,b\n"})
    return table(root, "k\n1\n2\n", join(Csv("a.csv"), Csv("b.csv"), on="k", how="inner")).stores("y", "a")


@case("a join in which nothing matches")
def _(root: Path) -> Seen:
    write(root, {"b.csv": "k,y\n01,a\n02,b\n"})
    return table(root, "k\n1\n2\n", join(Csv("a.csv"), Csv("b.csv"), on="k"))


@case("a mask of no image, or of several")
def _(root: Path) -> Seen:
    raw = draw(root, 8, masks=True)
    save(raw / "masks" / "orphan.png", np.zeros((8, 6)))
    return observe(Recipe(source=Images("images/*.png", mask="masks/{stem}.png")), raw).says("orphan.png")


@case("what systems leave beside files (`._x.jpg`)")
def _(root: Path) -> Seen:
    raw = draw(root, 8)
    (raw / "images" / "._cat_001.png").write_bytes(b"Mac OS X")
    return observe(Recipe(source=Images("images/*.png")), raw).says("._cat_001.png")


@case("a colour that is not in `mask_palette`")
def _(root: Path) -> Seen:
    raw = draw(root, 9, masks=True)
    for path in (raw / "masks").iterdir():
        save(path, np.full((8, 6, 3), 255 if path.stem == "cat_008" else 7))
    source = Images("images/*.png", mask="masks/{stem}.png", decode=image.decode(mask_palette={(7, 7, 7): 1}))
    return observe(Recipe(source=source), raw).says("255")


@case("an image of more than `max_pixels`")
def _(root: Path) -> Seen:
    raw = draw(root, 8)
    save(raw / "images" / "large.png", np.zeros((100, 100, 3)))
    return observe(Recipe(source=Images("images/*.png", decode=image.decode(max_pixels=1000))), raw).says("100x100")


@case("16-bit grey of which little of the range is used")
def _(root: Path) -> Seen:
    for number in range(4):
        Image.fromarray(np.full((4, 4), 4000 + number, np.uint16)).save(root / f"{number}.png")
    return observe(Recipe(source=Images("*.png")), root).says("range=")


@case("a function of `prepare` that raises")
def _(root: Path) -> Seen:
    def step(example: dict[str, Any]) -> dict[str, Any]:
        return {"n": 6 // example["n"]}

    return table(root, "n\n1\n0\n2\n", prepare=[step]).says("ZeroDivisionError", "test_values.py").stores("n", 6, 3)


@case("an example that `keep` does not want")
def _(root: Path) -> Seen:
    return table(root, "n\n1\n0\n2\n", prepare=[keep(lambda example: example["n"], "zero")]).stores("n", 1, 2)


@case("a missing number that an analyzer of `tft.*` is given")
def _(root: Path) -> Seen:
    import tensorflow_transform as tft

    from penstock.pipeline.analysis.trace import trace
    from penstock.pipeline.commit import statistics, suspects
    from penstock.pipeline.formats.features import Feature
    from penstock.pipeline.prepare import summaries

    columns = {"n": Feature("number", "int64", (), optional=True)}
    counted = summaries.summarize(pa.record_batch({"n": pa.array([1, None, 3])}), summaries.default_specs(columns))
    analysis = trace(lambda inputs: {"n": tft.scale_to_z_score(inputs["n"])}, columns)
    warnings = suspects.missing_but_counted(analysis, statistics.summarize(columns, [], counted, "train"))
    return Seen(warnings=warnings).says("column 'n': 1 of 3 values in split 'train' are missing", "count them as 0")


def documented() -> dict[str, set[str]]:
    """The table: its first column to the outcomes in its second."""
    _, _, section = (REPOSITORY / "docs/recipes.md").read_text().partition(HEADING)
    section = section.partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", section, re.MULTILINE)
    return {value: {outcome.replace("`", "") for outcome in outcomes.split(", ")} for value, outcomes in rows[2:]}


def test_the_table_and_its_tests_have_the_same_rows():
    assert len(documented()) > 25
    assert documented().keys() == CASES.keys()


@pytest.mark.parametrize("value", documented())
def test_it_happens_as_the_table_says(tmp_path: Path, value: str):
    assert CASES[value](tmp_path).outcomes == documented()[value]
