"""Which pieces of a plan a base has stored, and the units of a run that takes them over."""

import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from penstock.pipeline.formats.paths import ShardName
from penstock.pipeline.planning import delta
from penstock.pipeline.planning.cut import cut_new_references
from penstock.pipeline.planning.delta import Overlap, Pieces, Takeover
from penstock.pipeline.planning.piece_hashes import are_versioned, hash_pieces
from penstock.pipeline.planning.plan_file import BASE, BASE_PLACE, PlannedUnits, Unit, of_ranges
from penstock.pipeline.sources.listing import RecordRange

JOINED = pa.struct([("n", pa.int64()), ("x", pa.float64()), ("words", pa.list_(pa.string()))])
Row = Mapping[str, Any]


def reference(key: str, split: str = "train", **fields: Any) -> dict[str, Any]:
    joined = {"n": 1, "x": 0.0, "words": ["a", "b"]}
    columns = {"key": key, "uri": f"/raw/{key}", "size": 10, "label": "cat", "mask": None, "columns": joined}
    versions = {"etag": "", "modified": 5.0, "mask_key": None, "mask_etag": None, "mask_modified": None}
    return {**columns, **versions, "split": split, **fields}


_OTHERS = {"size": pa.int64(), "columns": JOINED, "modified": pa.float64(), "mask_modified": pa.float64()}
SCHEMA = pa.schema([(name, _OTHERS.get(name, pa.string())) for name in reference("") if name != "split"])


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{name: row[name] for name in SCHEMA.names} for row in rows], SCHEMA)


def planned(*units: Sequence[Row]) -> PlannedUnits:
    """A plan of units of references, each of one split."""
    splits = [unit[0]["split"] for unit in units]
    shards = [ShardName(name, splits[:at].count(name), splits.count(name)) for at, name in enumerate(splits)]

    def each() -> Iterator[tuple[Unit, pa.RecordBatch]]:
        for number, rows in enumerate(units):
            yield Unit(number, {splits[number]: shards[number]}, len(rows), 10 * len(rows)), batch(rows)

    return PlannedUnits(each())


def one_unit(sizes: np.ndarray) -> np.ndarray:
    return np.zeros(len(sizes), np.int64)


def overlap(plan: PlannedUnits, base: PlannedUnits, versions: Mapping[str, str] | None = None) -> Overlap:
    pieces, stored = (Pieces.of(units.kept(versions or {})) for units in (plan, base))
    return Overlap.between(plan, pieces, "b" * 16, stored, np.ones(len(stored), np.int64), np.zeros(len(stored), bool))


def take_over(plan: PlannedUnits, base: PlannedUnits, is_fixed: bool = False) -> Takeover | None:
    return overlap(plan, base).take_over(one_unit, is_fixed)


def described(takeover: Takeover) -> list[tuple[str, int | None, list[tuple[str, int | None]]]]:
    """Of each unit its shard, the unit of the base that it is, and its keys with the units that have them."""
    units = []
    with takeover.units.open_pieces() as pieces:
        begin = 0
        for unit in takeover.units.units:
            (shard,) = unit.shards.values()
            batch = pieces.take(np.arange(begin, begin + unit.examples))
            begin += unit.examples
            rows = zip(batch["key"].to_pylist(), batch[BASE].to_pylist(), strict=True)
            units.append((str(shard), unit.base, list(rows)))
    return units


def keys(names: str, split: str = "train") -> list[dict[str, Any]]:
    return [reference(name, split) for name in names]


def shard(split: str, index: int, count: int) -> str:
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def test_what_did_not_change_stays_where_it_is_and_what_is_new_comes_at_the_end_of_its_split():
    base = planned(keys("abcd"), keys("efgh"), keys("xyz", "test"))
    plan = planned(keys("aNbcd"), keys("efgh"), keys("xyz", "test"))  # as the canonical layout has it
    takeover = take_over(plan, base)
    assert takeover is not None
    assert described(takeover) == [
        (shard("train", 0, 3), 0, [(key, 0) for key in "abcd"]),
        (shard("train", 1, 3), 1, [(key, 1) for key in "efgh"]),
        (shard("train", 2, 3), None, [("N", None)]),
        (shard("test", 0, 1), 2, [(key, 2) for key in "xyz"]),
    ]
    assert (takeover.whole_units, takeover.whole_examples) == (3, 11)
    assert (takeover.stored_examples, takeover.new_pieces, takeover.is_canonical) == (0, 1, False)
    assert takeover.to_prepare == [(0, 0), (0, 0), (1, 10), (0, 0)]
    assert takeover.units.largest_first() == [0, 1, 3, 2]


def test_a_unit_that_lost_pieces_is_assembled_of_those_that_are_left_and_goes_with_the_last():
    base = planned(keys("abcdef"), keys("ghijkl"), keys("x", "test"), keys("yz", "test"))
    plan = planned(keys("abdef"), keys("ghijkl"), keys("y", "test"), keys("z", "test"))
    takeover = take_over(plan, base)
    assert takeover is not None
    assert described(takeover) == [
        (shard("train", 0, 2), None, [(key, 0) for key in "abdef"]),
        (shard("train", 1, 2), 1, [(key, 1) for key in "ghijkl"]),
        (shard("test", 0, 1), 3, [("y", 3), ("z", 3)]),
    ]
    assert (takeover.whole_units, takeover.stored_examples, takeover.new_pieces) == (2, 5, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 11},
        {"label": "dog"},
        {"label": None},
        {"modified": 6.0},
        {"etag": "e"},
        {"mask_key": "m", "mask_modified": 1.0},
        {"columns": {"n": 2, "x": 0.0, "words": ["a", "b"]}},
        {"columns": {"n": None, "x": 0.0, "words": ["a", "b"]}},
        {"columns": {"n": 1, "x": -0.0, "words": ["a", "b"]}},
        {"columns": {"n": 1, "x": 0.25, "words": ["a", "b"]}},
        {"columns": {"n": 1, "x": 0.0, "words": ["b", "a"]}},
        {"columns": {"n": 1, "x": 0.0, "words": ["a", "b", ""]}},
        {"columns": {"n": 1, "x": 0.0, "words": ["ab"]}},
        {"columns": {"n": 1, "x": 0.0, "words": []}},
        {"columns": {"n": 1, "x": 0.0, "words": None}},
        {"columns": None},
        {"split": "test"},
    ],
)
def test_a_piece_of_which_anything_changed_is_prepared_again(change: dict[str, Any]):
    base = planned(keys("abcd"), keys("yz", "test"))
    changed = reference("d", **change)
    units = [keys("abc"), keys("yz", "test")]
    units[changed["split"] == "test"].append(changed)
    takeover = take_over(planned(*units), base)
    assert takeover is not None
    assert takeover.new_pieces == 1
    assert [key for _, _, rows in described(takeover) for key, unit in rows if unit is None] == ["d"]


def test_where_a_file_lies_and_what_its_time_of_change_is_beside_an_etag_says_nothing():
    base = planned([reference(key, etag=key) for key in "abc"])
    plan = planned([reference(key, etag=key, uri=f"s3://b/{key}", modified=9.0) for key in "abc"])
    takeover = take_over(plan, base)
    assert takeover is not None
    assert (takeover.whole_units, takeover.new_pieces, takeover.is_canonical) == (1, 0, True)


def test_what_nothing_but_a_size_tells_of_is_never_stored():
    for unknown in ({"modified": 0.0}, {"modified": None}, {"mask_key": "m", "mask_modified": 0.0, "mask_etag": ""}):
        base = planned([*keys("abc"), reference("d", **unknown)])
        takeover = take_over(base, base)
        assert takeover is not None
        assert takeover.new_pieces == 1, unknown
        assert takeover.whole_units == 0


def test_nothing_in_common_is_no_takeover():
    assert take_over(planned(keys("abc")), planned(keys("xyz"))) is None


def test_two_pieces_are_never_the_same_stored_one(monkeypatch: pytest.MonkeyPatch):
    twice = planned([*keys("abc"), reference("c")])
    stored = overlap(twice, planned(keys("abc"))).stored
    assert stored.tolist() == [0, 1, 2, -1]
    monkeypatch.setattr(delta, "_PART", 2)  # neither among pieces that are looked for together nor beyond them
    assert overlap(twice, planned(keys("abc"))).stored.tolist() == [0, 1, 2, -1]
    again = planned([reference("c"), *keys("abc")])
    assert overlap(again, planned(keys("abc"))).stored.tolist() == [2, 0, 1, -1]


def test_the_canonical_layout_takes_over_whole_units_and_assembles_the_others():
    base = planned(keys("abcd"), keys("efgh"), keys("N"))
    plan = planned(keys("aNbc"), keys("defg"), keys("h"))
    takeover = take_over(plan, base, is_fixed=True)
    assert takeover is not None
    assert described(takeover) == [
        (shard("train", 0, 3), None, [("a", 0), ("N", 2), ("b", 0), ("c", 0)]),
        (shard("train", 1, 3), None, [("d", 0), ("e", 1), ("f", 1), ("g", 1)]),
        (shard("train", 2, 3), None, [("h", 1)]),
    ]
    assert takeover.is_canonical
    assert (takeover.whole_units, takeover.stored_examples, takeover.new_pieces) == (0, 9, 0)
    again = take_over(plan, plan, is_fixed=True)
    assert again is not None
    assert (again.whole_units, again.stored_examples) == (3, 0)


def test_a_unit_in_another_order_is_not_the_same():
    takeover = take_over(planned(keys("abc")), planned(keys("cab")), is_fixed=True)
    assert takeover is not None
    assert (takeover.whole_units, takeover.stored_examples) == (0, 3)


@pytest.mark.parametrize(
    ("base", "is_canonical"),
    [
        ((keys("abcdefgh"), keys("ij")), False),  # 2 of 10 are in a small shard
        ((keys("abcdefg"), keys("hij")), True),  # 3 of 10
        ((keys("abcdef"), keys("ghijkl"), keys("m")), True),  # three shards for one
    ],
)
def test_a_split_in_many_or_small_shards_is_laid_out_anew(base: Any, is_canonical: bool):
    names = [row["key"] for unit in base for row in unit]
    takeover = take_over(planned([reference(name) for name in names]), planned(*base))
    assert takeover is not None
    assert takeover.is_canonical is is_canonical
    assert len(takeover.units) == (1 if is_canonical else 2)


def test_one_split_may_be_laid_out_anew_beside_another_that_is_not():
    base = planned(keys("abcdefgh"), keys("i"), keys("uv", "test"), keys("wx", "test"), keys("yz", "test"))
    plan = planned(keys("abcdefghi"), keys("uvwxyz", "test"))
    takeover = take_over(plan, base)
    assert takeover is not None
    assert [len(rows) for _, _, rows in described(takeover)] == [8, 1, 6]
    assert [unit for _, unit, _ in described(takeover)] == [0, 1, None]


def record_range(key: str, begin: int, rows: int = 10, **fields: Any) -> RecordRange:
    return RecordRange(f"/raw/{key}", key, begin, begin + 100, begin, rows, 100, **fields)


def table(*units: Sequence[RecordRange]) -> PlannedUnits:
    names = [{name: ShardName(name, at, len(units)) for name in ("train", "test")} for at in range(len(units))]
    return of_ranges(
        [
            (Unit(at, names[at], sum(each.rows for each in ranges), 100 * len(ranges)), ranges)
            for at, ranges in enumerate(units)
        ]
    )


VERSIONS = {"a.csv": "1", "b.csv": "1", "c.csv": "1"}


def of_table(plan: PlannedUnits, base: PlannedUnits, now: Mapping[str, str] = VERSIONS) -> Takeover | None:
    pieces, stored = Pieces.of(plan.kept(now)), Pieces.of(base.kept(VERSIONS))
    common = Overlap.between(plan, pieces, "b" * 16, stored, stored.examples, np.zeros(len(stored), bool))
    return common.take_over(one_unit, is_fixed=False)


def test_ranges_of_files_that_did_not_change_are_taken_over_whole_whatever_their_numbers():
    base = table(
        [record_range("a.csv", 0, number=0), record_range("b.csv", 0, number=2)],
        [record_range("a.csv", 100, number=1), record_range("b.csv", 100, number=3)],
    )
    plan = table(
        [record_range("a.csv", 0, number=0), record_range("c.csv", 0, number=2), record_range("b.csv", 0, number=3)],
        [record_range("a.csv", 100, number=1), record_range("b.csv", 100, number=4)],
    )
    takeover = of_table(plan, base)
    assert takeover is not None
    assert [(unit.base, len(pieces), unit.examples) for unit, pieces in takeover.units] == [
        (0, 2, 20),
        (1, 2, 20),
        (None, 1, 10),
    ]
    assert [sorted(map(str, unit.shards.values())) for unit in takeover.units.units] == [
        [shard("test", at, 3), shard("train", at, 3)] for at in range(3)
    ]
    assert (takeover.whole_units, takeover.examples, takeover.new_pieces) == (2, 40, 1)


def test_a_unit_of_a_table_that_lost_a_range_is_assembled_without_it():
    base = table(
        [record_range("a.csv", begin) for begin in range(0, 800, 100)] + [record_range("b.csv", 0)],
        [record_range("a.csv", begin) for begin in range(800, 1600, 100)],
    )
    plan = table(
        [record_range("a.csv", begin) for begin in range(0, 800, 100)],
        [record_range("a.csv", begin) for begin in range(800, 1600, 100)],
    )
    for gone, now in ((plan, VERSIONS), (base, VERSIONS | {"b.csv": "2"})):
        takeover = of_table(gone, base, now)
        assert takeover is not None
        assert takeover.units.units[0].base is None
        assert takeover.units.units[1].base == 1
        assert (takeover.whole_units, takeover.whole_examples, takeover.stored_examples) == (1, 80, 80)
        assert takeover.new_pieces == (0 if gone is plan else 1)
        with takeover.units.open_pieces() as pieces:
            first = pieces.take(np.arange(8))
        assert first[BASE].to_pylist() == [0] * 8
        assert first[BASE_PLACE].to_pylist() == list(range(8))
    assert takeover.units.prepared_keys() == {"b.csv"}


def test_ranges_of_a_source_without_files_are_never_stored():
    assert of_table(table([record_range("a.csv", 0)]), table([record_range("a.csv", 0)]), {}) is None
    kept = pa.RecordBatch.from_pydict({"key": ["t"], "version": [""]})
    assert are_versioned(kept).tolist() == [False]


def test_rows_left_out_as_duplicates_are_part_of_a_range():
    left_out = np.array([3], np.int64).tobytes()
    assert of_table(table([record_range("a.csv", 0, duplicates=left_out)]), table([record_range("a.csv", 0)])) is None


def test_hashes_do_not_depend_on_how_batches_are_cut():
    rows = [reference(key, label=label) for key, label in zip("abcdef", [None, "x", "y", "x", None, "z"], strict=True)]
    whole = hash_pieces(batch(rows), ["train"])
    parts = np.concatenate([hash_pieces(batch(rows)[begin : begin + 2], ["train"]) for begin in (0, 2, 4)])
    assert np.array_equal(whole, parts)
    assert len(np.unique(whole[:, 0])) == len(rows)
    assert not (hash_pieces(batch(rows), ["test"]) == whole).any()


def many(numbers: Sequence[int] | np.ndarray, per_unit: int) -> Callable[[], Iterator[tuple[Unit, pa.RecordBatch]]]:
    """Units of numbered references, as plain as they come from a listing."""
    numbers = np.asarray(numbers)
    count = -(-len(numbers) // per_unit)

    def units() -> Iterator[tuple[Unit, pa.RecordBatch]]:
        for at in range(count):
            chosen = numbers[at * per_unit : (at + 1) * per_unit]
            texts = pa.array(chosen).cast(pa.string())
            columns = {
                "key": pc.binary_join_element_wise("train/images/", texts, ""),
                "uri": pc.binary_join_element_wise("/data/raw/train/images/", texts, ""),
                "size": pa.array(1000 + chosen % 977),
                "label": pa.array(chosen % 10).cast(pa.string()),
                "mask": pa.nulls(len(chosen), pa.string()),
                "columns": pa.nulls(len(chosen)),
                "etag": pa.array([""] * len(chosen)),
                "modified": pa.array(1.7e9 + chosen),
            }
            size = int(columns["size"].to_numpy().sum())
            unit = Unit(at, {"train": ShardName("train", at, count)}, len(chosen), size)
            yield unit, pa.RecordBatch.from_pydict(columns)

    return units


@pytest.mark.slow
def test_a_million_references_take_seconds_and_no_memory_to_speak_of():
    count, per_unit = 1_000_000, 5000
    removed = np.arange(0, count, 100)
    base = PlannedUnits(many(np.arange(count), per_unit)())
    plan = PlannedUnits(many(np.setdiff1d(np.arange(count + 10_000), removed), per_unit)())
    start = time.process_time()
    overlap(plan, base)
    seconds = time.process_time() - start
    tracemalloc.start()
    allocated = pa.total_allocated_bytes()
    takeover = overlap(plan, base).take_over(partial(cut_new_references, example_bytes=2000.0), False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert takeover is not None
    assert (takeover.new_pieces, takeover.examples) == (10_000, count - len(removed))
    assert pa.total_allocated_bytes() - allocated < 64 << 20
    assert peak < 400 << 20
    assert seconds < 10, seconds


def test_images_that_are_tried_again_are_new_and_the_others_of_their_units_are_stored():
    plan = planned(keys("abcd"), keys("efgh"))
    common = overlap(plan, plan)
    common.retried[[1, 2]] = True
    takeover = common.take_over(one_unit, is_fixed=True)
    assert takeover is not None
    assert described(takeover) == [
        (shard("train", 0, 2), None, [("a", 0), ("b", None), ("c", None), ("d", 0)]),
        (shard("train", 1, 2), 1, [(key, 1) for key in "efgh"]),
    ]
    assert (takeover.new_pieces, takeover.stored_examples) == (2, 2)


def test_ranges_of_which_a_row_is_tried_again_are_new_and_the_others_of_their_units_are_stored():
    plan = table([record_range("a.csv", 0), record_range("b.csv", 0)], [record_range("c.csv", 0)])
    pieces = Pieces.of(plan.kept(VERSIONS))
    common = Overlap.between(plan, pieces, "b" * 16, pieces, pieces.examples, np.array([False, True, False]))
    takeover = common.take_over(one_unit, is_fixed=True)
    assert takeover is not None
    assert [(unit.base, len(ranges)) for unit, ranges in takeover.units] == [(None, 2), (1, 1)]
    assert (takeover.new_pieces, takeover.stored_examples, takeover.whole_examples) == (1, 10, 10)
    assert takeover.units.prepared_keys() == {"b.csv"}
