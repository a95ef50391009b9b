"""Rows at which the process that prepares them dies are found and lost alone; all else comes out the same."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline import Csv, PenstockError
from penstock.pipeline.prepare.isolated_ranges import IsolatedRanges
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.pipeline.prepare.tables import TablePreparer, TableSteps
from penstock.pipeline.sources.listing import RecordRange
from penstock.pipeline.splits.rules import by_hash
from penstock.transforms.columns import Vectorized

pytestmark = pytest.mark.slow

STORED = pa.schema([("n", pa.int64()), ("label", pa.string())])


@pytest.fixture(autouse=True, scope="module")
def _functions_travel_by_value() -> None:
    """As those of a recipe do: a child cannot import this file."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = "".join(f"{number},{'cat' if number % 3 else 'dog'}\n" for number in range(120))
    (tmp_path / "a.csv").write_text("n,label\n" + rows)
    return tmp_path


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def by_row(example: dict[str, Any]) -> dict[str, Any]:
    if example["n"] in (17, 18, 119):
        die()
    return example


def by_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    if {17, 18, 119} & set(batch["n"].to_pylist()):
        die()
    return batch


def together(batch: pa.RecordBatch) -> pa.RecordBatch:
    if len(batch) > 20:
        die()
    return batch


def harmless(example: dict[str, Any]) -> dict[str, Any]:
    return example


def once(marks: Path) -> Any:
    def step(example: dict[str, Any]) -> dict[str, Any]:
        if example["n"] == 60 and not marks.exists():
            marks.touch()
            die()
        return example

    return step


def ranges_and_preparer(table: Path, step: Any, source: Any = None) -> tuple[list[RecordRange], TablePreparer]:
    source = source or Csv("a.csv")
    listing = source.find(str(table), 1 << 9)
    steps = TableSteps(source, listing.schema, [step], by_hash({"train": 0.5, "test": 0.5}), ("train", "test"))
    return listing.ranges, TablePreparer(steps, STORED, True, 0, StatisticsSpec("train"))


def rows(chunks: list[Any]) -> list[tuple[str, Any]]:
    splits = [split for chunk in chunks for split in chunk.splits.items()]
    return [(name, row) for name, split in splits for row in split.examples.to_pylist()]


def isolate(ranges: list[RecordRange], preparer: TablePreparer) -> list[Any]:
    isolated = IsolatedRanges(preparer, 2, None)
    try:
        return [chunk for each in ranges for chunk in isolated(each)]
    finally:
        isolated.close()


def plain(table: Path) -> list[Any]:
    ranges, preparer = ranges_and_preparer(table, harmless)
    return [chunk for each in ranges for chunk in preparer(each)]


@pytest.mark.parametrize("step", [by_row, Vectorized(by_batch)], ids=["examples", "batches"])
def test_deadly_rows_are_lost_alone(table: Path, step: Any):
    ranges, preparer = ranges_and_preparer(table, step)
    assert len(ranges) > 1
    chunks = isolate(ranges, preparer)
    lost = [each for chunk in chunks for each in chunk.quarantined]
    assert [each.key for each in lost] == [f"a.csv:{number}" for number in (17, 18, 119)]
    assert {(each.code, each.stage, each.uri) for each in lost} == {("worker_died", "prepare", ranges[0].uri)}
    expected = rows(plain(table))
    found = rows(chunks)
    assert [each for each in expected if each in found] == found
    assert len(found) == 117
    assert sum(chunk.read for chunk in chunks) == 120


def test_their_hashes_are_lost_alone_too(table: Path):
    ranges, preparer = ranges_and_preparer(table, by_row)
    isolated = IsolatedRanges(preparer, 1, None)
    try:
        numbers, digests = isolated.hashes(ranges[0])
    finally:
        isolated.close()
    expected, all_digests = ranges_and_preparer(table, harmless)[1].hashes(ranges[0])
    assert ranges[0].rows > 17
    assert numbers.tolist() == [number for number in expected.tolist() if number not in (17, 18)]
    assert digests.tolist() == all_digests[np.isin(expected, numbers)].tolist()


def test_what_kills_nobody_comes_out_as_it_does_here(table: Path):
    chunks, expected = isolate(*ranges_and_preparer(table, harmless)), plain(table)
    assert rows(chunks) == rows(expected)
    assert [chunk.read for chunk in chunks] == [chunk.read for chunk in expected]


def test_a_death_of_something_else_costs_no_row(table: Path):
    chunks = isolate(*ranges_and_preparer(table, once(table / "mark")))
    assert rows(chunks) == rows(plain(table))
    assert not any(chunk.quarantined for chunk in chunks)


def test_rows_that_kill_only_together_are_told_and_none_is_lost(table: Path):
    with pytest.raises(PenstockError, match="died 5 times, and of no row alone"):
        isolate(*ranges_and_preparer(table, Vectorized(together)))


def test_what_a_range_raises_is_raised_here(table: Path):
    ranges, preparer = ranges_and_preparer(table, Vectorized(lambda batch: batch.slice(1)))
    with pytest.raises(PenstockError, match="expected a RecordBatch of as many rows"):
        isolate(ranges, preparer)


class Deadly(Csv):
    """A source whose reader dies of one range."""

    def stream(self, record_range: Any, schema: Any) -> Any:
        if record_range.first_row <= 50 < record_range.first_row + record_range.rows:
            die()
        return super().stream(record_range, schema)


class DeadlyLater(Csv):
    """A source whose reader gives one part of a range, and dies."""

    def stream(self, record_range: Any, schema: Any) -> Any:
        (rows,) = super().stream(record_range, schema)
        first = slice(0, 7)
        yield replace(rows, batch=rows.batch[first], numbers=rows.numbers[first])
        die()


def test_of_a_range_that_can_be_read_in_part_the_rest_is_lost_and_counted(table: Path):
    ranges, preparer = ranges_and_preparer(table, by_row, DeadlyLater("a.csv"))
    chunks = isolate(ranges, preparer)
    assert sum(chunk.read for chunk in chunks) == 120
    assert len(rows(chunks)) == sum(
        7 - len({17, 18, 119} & {*range(each.first_row, each.first_row + 7)}) for each in ranges
    )


def test_a_range_that_cannot_even_be_read_is_lost_and_counted(table: Path):
    ranges, preparer = ranges_and_preparer(table, harmless, Deadly("a.csv"))
    (deadly,) = [each for each in ranges if each.first_row <= 50 < each.first_row + each.rows]
    chunks = isolate(ranges, preparer)
    lost = [each.key for chunk in chunks for each in chunk.quarantined]
    assert lost == [f"a.csv:{number}" for number in range(deadly.first_row, deadly.first_row + deadly.rows)]
    assert sum(chunk.read for chunk in chunks) == 120
