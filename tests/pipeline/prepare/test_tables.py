"""A range of a table as a chunk: where its rows go, and what is learned of those that statistics come from."""

from collections import Counter
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.pipeline import Csv
from penstock.pipeline.formats.example_writer import encode
from penstock.pipeline.formats.features import describe_columns
from penstock.pipeline.prepare import tables
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.pipeline.prepare.range_totals import RangeTotals
from penstock.pipeline.prepare.summaries import SummarySpec
from penstock.pipeline.prepare.tables import TablePreparer, TableSteps
from penstock.pipeline.splits.rules import by_hash

STORED = pa.schema([("n", pa.int64()), ("label", pa.string())])
SPEC = SummarySpec("moments", "n")


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three ranges of 109, 95 and 96 rows, of which a half trains; the last two are a chunk together."""
    monkeypatch.setattr(tables, "_PART", 200)
    rows = "".join(f"{number},{'cat' if number % 3 else 'dog'}\n" for number in range(300))
    (tmp_path / "a.csv").write_text("n,label\n" + rows)
    listing = Csv("a.csv").find(str(tmp_path), 1 << 10)
    steps = TableSteps(Csv("a.csv"), listing.schema, [], by_hash({"train": 0.5, "test": 0.5}), ("train", "test"))

    def chunks(seed: int | None = 0, serialized: bool = False) -> list[Any]:
        statistics = StatisticsSpec("train", (SPEC,), ("n",))
        worker = TablePreparer(steps, STORED, serialized, seed, statistics).start(threads=2)
        try:
            return list(worker.chunks(["train", "test"], listing.ranges))
        finally:
            worker.close()

    return chunks


def values(chunks: list[Any], split: str, name: str) -> list[Any]:
    return [value for chunk in chunks for value in chunk.splits[split].examples[name].to_pylist()]


def test_every_row_is_in_one_split_in_the_order_of_the_file(prepared: Any):
    chunks = prepared()
    assert [chunk.read for chunk in chunks] == [109, 95 + 96]
    train, test = values(chunks, "train", "n"), values(chunks, "test", "n")
    assert train == sorted(train)
    assert test == sorted(test)
    assert sorted(train + test) == list(range(300))
    assert sum(chunk.read for chunk in chunks) == 300


def test_statistics_and_analyzers_see_their_split_alone(prepared: Any):
    chunks = prepared()
    train = values(chunks, "train", "n")
    assert [value for chunk in chunks for value in chunk.analyzed["n"].to_pylist()] == train
    assert all(chunk.analyzed.schema.names == ["n"] for chunk in chunks)
    told = [totals.moments[SPEC] for chunk in chunks for totals in chunk.ranges]
    assert sum(moments.count for moments in told) == len(train)
    assert max(moments.max for moments in told) == max(train)
    assert not any(chunk.summaries for chunk in chunks)


def test_labels_are_counted_by_split(prepared: Any):
    for split in ("train", "test"):
        labels = values(prepared(), split, "label")
        told = [totals.labels[split] for chunk in prepared() for totals in chunk.ranges]
        counts: Counter[str] = sum(told, start=Counter())
        assert counts == {"cat": labels.count("cat"), "dog": labels.count("dog")}


def test_rows_have_positions_where_they_are_shuffled(prepared: Any):
    positions = [chunk.splits["train"].positions for chunk in prepared(seed=3)]
    assert all(
        len(part) == len(each.splits["train"].examples) for part, each in zip(positions, prepared(), strict=True)
    )
    assert len({position for part in positions for position in part.tolist()}) == len(values(prepared(), "train", "n"))
    assert all(part.splits["train"].positions is None for part in prepared(seed=None))


def test_rows_may_be_stored_as_examples(prepared: Any):
    from tensorflow.core.example.example_pb2 import Example

    compact = [part.splits["train"].examples for part in prepared(serialized=True)]
    assert all(pa.types.is_dictionary(batch.schema.field("label").type) for batch in compact)
    examples = [record for batch in compact for record in encode(batch, describe_columns(STORED)).to_pylist()]
    numbers = [Example.FromString(record).features.feature["n"].int64_list.value[0] for record in examples]
    assert numbers == values(prepared(), "train", "n")


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_a_large_range_is_prepared_in_parts(prepared: Any, monkeypatch: pytest.MonkeyPatch, rows: int):
    def seen(chunks: list[Any]) -> Any:
        hashes = [each for chunk in chunks for split in chunk.splits.values() for each in split.hashes.to_pylist()]
        positions = [at for chunk in chunks for split in chunk.splits.values() for at in split.positions.tolist()]
        rows = [each for chunk in chunks for split in chunk.splits.values() for each in split.examples.to_pylist()]
        key = {each["key"]: (each, at, row) for each, at, row in zip(hashes, positions, rows, strict=True)}
        totals = reduce(RangeTotals.merge, (totals for chunk in chunks for totals in chunk.ranges))
        assert totals.read == len(key)
        return key, totals

    whole = prepared()
    monkeypatch.setattr(tables, "_PART", rows)
    parts = prepared()
    assert len(parts) >= 300 // rows > len(whole)
    assert all(chunk.read <= rows for chunk in parts)
    assert seen(parts) == seen(whole)
