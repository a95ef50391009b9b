"""A global shuffle gives every shard the rows that belong to it, in their order, in one step and in two."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Made

from penstock.pipeline.build import global_shuffle
from penstock.pipeline.build.global_shuffle import (
    SegmentWriter,
    combine,
    count_groups,
    gather_segments,
    group_size,
    read_split,
    targets_of,
    write_digests,
)
from penstock.pipeline.build.journal import Journal
from penstock.pipeline.build.shards import read_examples
from penstock.pipeline.errors import PenstockError
from penstock.pipeline.formats import paths
from penstock.pipeline.formats.paths import ShardName
from penstock.pipeline.storage import files

SPLITS = ["train", "test"]


def rows_of(unit: int, count: int) -> dict[str, tuple[np.ndarray, list[bytes]]]:
    """Positions and contents of a unit's rows of each split; some positions are in several units."""
    generator = np.random.default_rng(unit)
    rows = {}
    for split in SPLITS if unit % 5 else SPLITS[:1]:
        positions = generator.integers(0, 1 << 64, count, np.uint64)
        positions[:1] = np.uint64(7 << 60)
        rows[split] = (positions, [f"{split} {unit} {number} {'x' * (number % 7)}".encode() for number in range(count)])
    return rows


def write_units(root: str, units: int, count: int) -> None:
    """Writes the units' segment files and journals, and what tells them apart."""
    for unit in range(units):
        writer = SegmentWriter.of_unit(root, unit, SPLITS, units)
        for split, (positions, records) in rows_of(unit, count).items():
            writer.add(split, records[:3], positions[:3])
            writer.add(split, records[3:], positions[3:])
        Journal(unit=unit, read=0, shards={}, segment_file=writer.finish().segment_file).write(root)
    write_digests(root, units)


def expected(units: int, count: int, target: int, split: str) -> list[bytes]:
    """The rows of a target's shard, straight from all rows."""
    rows = []
    for unit in range(units):
        positions, records = rows_of(unit, count).get(split, (np.zeros(0, np.uint64), []))
        chosen = np.flatnonzero(targets_of(positions, units) == target)
        rows += [(int(positions[row]), records[row]) for row in chosen]
    return [record for _, record in sorted(rows)]


def combine_all(root: str, units: int) -> None:
    for task in range(count_groups(units) ** 2 if group_size(units) > 1 else 0):
        combine(root, units, task, SPLITS)


def names(target: int, units: int) -> dict[str, ShardName]:
    return {split: ShardName(split, target, units) for split in SPLITS}


@pytest.mark.parametrize("units", [1, 7, 16, 17])
@pytest.mark.parametrize("one_step", [256, 4], ids=["one step", "two steps"])
def test_every_shard_has_its_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: int, one_step: int):
    monkeypatch.setattr(global_shuffle, "ONE_STEP", one_step)
    root = str(tmp_path)
    write_units(root, units, 40)
    combine_all(root, units)
    for target in range(units):
        journal = gather_segments(root, units, target, names(target, units))
        assert journal.unit == units + target
        for split in SPLITS:
            content = list(read_examples(files.join(root, journal.shards[split].file.path)))
            assert content == expected(units, 40, target, split)
            assert journal.shards[split].examples == len(content)


def test_a_unit_without_rows_has_a_file_all_the_same(tmp_path: Path):
    root = str(tmp_path)
    write_units(root, 3, 0)
    journal = gather_segments(root, 3, 1, names(1, 3))
    assert journal.written == 0


def test_the_rows_of_a_split_are_read_back(tmp_path: Path):
    root = str(tmp_path)
    write_units(root, 7, 40)
    rows = list(read_split(root, paths.unit_segments(3), SPLITS, "test"))
    assert sorted(rows) == sorted(rows_of(3, 40)["test"][1])


def count_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes the files of which parts are read from now on."""
    asked: list[str] = []
    read_range = files.read_range

    def counted(uri: str, *rest: Any) -> bytes:
        asked.append(uri)
        return read_range(uri, *rest)

    monkeypatch.setattr(files, "read_range", counted)
    return asked


@pytest.mark.slow
def test_of_thousands_of_units_a_shard_reads_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """2,000 units: no step reads more than twice the root of them, and what a unit says does not grow with them."""
    root, units = str(tmp_path), 2000
    write_units(root, units, 3)
    groups = count_groups(units)
    assert (group_size(units), groups) == (45, 45)
    assert (tmp_path / f"{paths.unit_segments(0)}.u64").stat().st_size == 8 * (groups * len(SPLITS) + 1)
    asked = count_requests(monkeypatch)
    target = 1234
    for task in range(target // group_size(units), groups**2, groups):
        combine(root, units, task, SPLITS)
    assert len(asked) == 2 * units
    asked.clear()
    journal = gather_segments(root, units, target, names(target, units))
    assert len(asked) == 2 * groups
    for split in SPLITS:
        content = list(read_examples(files.join(root, journal.shards[split].file.path)))
        assert content == expected(units, 3, target, split)


def test_what_was_combined_is_not_combined_again_unless_a_unit_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(global_shuffle, "ONE_STEP", 4)
    root = str(tmp_path)
    write_units(root, 16, 10)
    first = combine(root, 16, 5, SPLITS)
    asked = count_requests(monkeypatch)
    assert combine(root, 16, 5, SPLITS) == first
    assert not asked
    other = Journal.load(root, 4)
    assert other
    assert other.segment_file
    other.segment_file = replace(other.segment_file, file=replace(other.segment_file.file, sha256="0" * 64))
    other.write(root)
    write_digests(root, 16)
    assert combine(root, 16, 5, SPLITS) != first
    assert asked


def test_rows_that_are_missing_are_told(tmp_path: Path):
    write_units(str(tmp_path), 5, 10)
    (tmp_path / paths.unit_journal(3)).unlink()
    with pytest.raises(PenstockError, match="expected the rows of unit 3, found none"):
        write_digests(str(tmp_path), 5)


def test_a_run_in_two_steps_writes_the_same_bytes(make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch):
    table = "n,t\n" + "".join(f"{number},word {number % 7}\n" for number in range(1000))
    fields: Any = {
        "features": lambda inputs: {"n": inputs["n"]},
        "shuffle": "global",
        "splits": {"train": 0.7, "test": 0.3},
        "shards": 5,
    }
    one = make({"t.csv": table}, hash="4" * 64, **fields)
    monkeypatch.setattr(global_shuffle, "ONE_STEP", 2)
    two = make({"t.csv": table}, hash="4" * 64, **fields)
    for split in SPLITS:
        assert two.records(split) == one.records(split)
        one_shards, two_shards = (made.manifest.splits[split].shards for made in (one, two))
        assert [shard.file.sha256 for shard in two_shards] == [shard.file.sha256 for shard in one_shards]
