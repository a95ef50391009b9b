"""A sample of the input: how many examples, of which splits, from where; and that nothing else is read."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import LABEL, draw, list_images, plan_job, save, write

from penstock.pipeline import Csv, Images, Parquet, Recipe, RequestError, by_folder, by_hash, join
from penstock.pipeline.planning.limit import limit_ranges, share_out
from penstock.pipeline.sources import text_ranges
from penstock.pipeline.splits.rules import ByHash

SOURCE = Images("images/*.png", label=LABEL)
SHARES = {"train": 0.75, "test": 0.25}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("raw"), 60, masks=True)


def keys(plan: Any) -> list[str]:
    return [reference.key for _, references in plan.units for reference in references]


@pytest.mark.parametrize(
    ("limit", "sizes", "shares"),
    [
        (10, {"a": 800, "b": 100, "c": 100}, {"a": 8, "b": 1, "c": 1}),
        (3, {"a": 1_000_000, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 1}),
        (10, {"a": 997, "b": 2, "c": 1}, {"a": 8, "b": 1, "c": 1}),
        (7, {"a": 1, "b": 1}, {"a": 4, "b": 3}),
        (5, {"a": 50, "b": 0}, {"a": 5, "b": 0}),
    ],
)
def test_each_split_gets_its_share_and_none_is_forgotten(limit: int, sizes: dict[str, int], shares: dict[str, int]):
    assert share_out(limit, sizes) == shares


def test_a_limit_below_the_number_of_splits_is_refused(raw: Path):
    with pytest.raises(RequestError, match="--limit: expected an example for each of the 2 splits, found 1"):
        plan_job(Recipe(source=SOURCE, splits=SHARES), raw, limit=1)


@pytest.mark.parametrize("shuffle", ["unit", None])
def test_images_are_the_first_of_each_split_by_a_hash(raw: Path, shuffle: str | None):
    recipe = Recipe(source=SOURCE, splits=SHARES, shuffle=shuffle, shards=1)
    plan, whole = plan_job(recipe, raw, limit=16), plan_job(recipe, raw)
    assert plan.inventory.read == 16
    assert {name: split.examples for name, split in plan.splits.items()} == share_out(
        16, {name: split.examples for name, split in whole.splits.items()}
    )
    sampled, everything = keys(plan), keys(whole)
    assert sampled == [key for key in everything if key in set(sampled)]  # splits and order are those of all
    assert sorted(sampled) != sorted(everything)[:16]
    assert {key.split("/")[1][:3] for key in sampled} == {"cat", "dog"}
    assert keys(plan_job(recipe, raw, limit=16)) == sampled
    assert set(sampled) < set(keys(plan_job(recipe, raw, limit=30)))
    assert any("limited to 16 of 60 examples" in warning for warning in plan.inventory.warnings)


def test_what_the_plan_quarantines_has_its_share_in_a_sample(tmp_path: Path):
    raw = draw(tmp_path, 40, masks=True)
    for path in sorted((raw / "masks").iterdir())[:20]:
        path.unlink()
    recipe = Recipe(source=Images("images/*.png", mask="masks/{stem}.png", label=LABEL))
    plan = plan_job(recipe, raw, limit=10)
    assert plan.inventory.read == 20  # half of all have no mask
    assert plan.inventory.quarantined.counts == {"mask_missing": 10}
    assert any("the plan would quarantine mask_missing 20" in warning for warning in plan.inventory.warnings)


def test_a_limit_beyond_the_input_takes_all_of_it(raw: Path):
    recipe = Recipe(source=SOURCE, splits=SHARES)
    assert sorted(keys(plan_job(recipe, raw, limit=1000))) == sorted(keys(plan_job(recipe, raw)))


def test_only_images_of_the_sample_are_compared_for_duplicates(raw: Path, monkeypatch: pytest.MonkeyPatch):
    from penstock.pipeline.planning import selection

    hashed: list[str] = []
    hash_here = selection.hash_here

    def count(candidates: Any, threads: int) -> Any:
        batches = list(candidates)
        hashed.extend(uri for batch in batches for uri in batch["uri"].to_pylist())
        return hash_here(iter(batches), threads)

    monkeypatch.setattr(selection, "hash_here", count)
    plan = plan_job(Recipe(source=SOURCE, deduplicate=True), raw, limit=8)
    assert len(hashed) <= 8
    assert plan.inventory.read == 8


def rows(plan: Any) -> list[tuple[str, int]]:
    """The file and the number of each row that the units of a plan read."""
    found: list[tuple[str, int]] = []
    for _, ranges in plan.units:
        for record_range in ranges:
            for part in plan.preparer(None).read(record_range):
                found += [(record_range.key, int(number)) for number in part.numbers]
    return found


def table(count: int, begin: int = 0) -> str:
    return "n\n" + "".join(f"{number}\n" for number in range(begin, begin + count))


def test_rows_come_from_all_files(tmp_path: Path):
    raw = write(tmp_path, {f"{name}.csv": table(200) for name in "abcdefgh"})
    found = rows(plan_job(Recipe(source=Csv("*.csv"), splits=SHARES), raw, limit=80))
    assert Counter(key for key, _ in found) == {f"{name}.csv": 10 for name in "abcdefgh"}
    assert {number for _, number in found} == set(range(10))


@pytest.mark.parametrize("limit", [1, 7, 90, 104, 500])
def test_there_are_as_many_rows_as_were_asked_for(tmp_path: Path, limit: int):
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = write(tmp_path, {"a.csv": table(100), "b.csv": table(4)})
    pq.write_table(pa.table({"n": range(104)}), raw / "a.parquet", row_group_size=50)
    for source in (Csv("*.csv"), Parquet("a.parquet")):
        found = rows(plan_job(Recipe(source=source), raw, limit=limit))
        assert len(found) == len(set(found)) == min(limit, 104)


def test_rows_that_do_not_fit_count_as_rows_of_the_sample(tmp_path: Path):
    raw = write(tmp_path, {"a.csv": "n,t\n" + "".join(f"{n},x\n" if n % 2 else f"{n}\n" for n in range(100))})
    plan = plan_job(Recipe(source=Csv("*.csv")), raw, limit=10)
    ((_, (record_range,)),) = plan.units
    (part,) = plan.preparer(None).read(record_range)
    assert part.numbers.tolist() == [1, 3, 5, 7, 9]
    assert [problem.key for problem in part.quarantined] == [f"a.csv:{number}" for number in (0, 2, 4, 6, 8)]
    assert plan.known_losses.read == 10


def test_files_that_are_splits_each_have_rows(tmp_path: Path):
    raw = write(tmp_path, {**{f"train/{n}.csv": table(50) for n in range(40)}, "test/a.csv": table(50)})
    found = rows(plan_job(Recipe(source=Csv("*/*.csv"), splits=by_folder()), raw, limit=41))
    assert Counter(key.split("/")[0] for key, _ in found) == {"train": 40, "test": 1}


def test_of_a_join_unmatched_rows_are_filtered_as_far_as_they_are_sampled(tmp_path: Path):
    raw = write(tmp_path, {"a.csv": table(100), "b.csv": "n,x\n" + "".join(f"{n},1\n" for n in range(0, 100, 2))})
    source = join(Csv("a.csv"), Csv("b.csv"), on="n", how="inner")
    plan = plan_job(Recipe(source=source), raw, limit=10)
    ((_, (record_range,)),) = plan.units
    parts = list(plan.preparer(None).read(record_range))
    assert [number for part in parts for number in part.numbers.tolist()] == [0, 2, 4, 6, 8]
    assert sum((part.filtered for part in parts), Counter()) == {"no_match": 5}


def test_of_a_large_text_file_rows_from_its_midst_are_taken_and_no_more_is_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from penstock.pipeline.planning import plan as planning
    from penstock.pipeline.sources import nominal

    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    monkeypatch.setattr(planning, "RANGE_BYTES", 1000)
    monkeypatch.setattr(nominal, "scan", lambda *_: pytest.fail("a range was scanned"))
    raw = write(tmp_path, {"a.csv": "n,t\n" + "".join(f'{n},"some words"\n' for n in range(20_000))})
    plan = plan_job(Recipe(source=Csv("*.csv"), splits=SHARES), raw, limit=320)
    assert plan.scans is None
    values: list[int] = []
    for _, ranges in plan.units:
        for record_range in ranges:
            values += [n for part in plan.preparer(None).read(record_range) for n in part.batch["n"].to_pylist()]
    assert len(values) == len(set(values)) == 320
    assert min(values) < 4_000
    assert max(values) > 16_000
    found = rows(plan)
    assert len(set(found)) == 320  # every key is one row's
    assert any("named by the bytes" in warning for warning in plan.inventory.warnings)


def test_rows_of_compressed_files_are_not_read_further_than_needed(tmp_path: Path):
    import gzip

    raw = write(tmp_path, {f"{name}.csv.gz": gzip.compress(table(50_000).encode()) for name in "abc"})
    found = rows(plan_job(Recipe(source=Csv("*.csv.gz")), raw, limit=30))
    assert Counter(key for key, _ in found) == {f"{name}.csv.gz": 10 for name in "abc"}


def test_ranges_stay_in_their_order(tmp_path: Path):
    source, raw = Csv("*.csv"), write(tmp_path, {f"{name}.csv": table(3) for name in "edcba"})
    listing = source.find(str(raw), 1 << 20)
    ranges, limits, _ = limit_ranges(source, listing.schema, listing.ranges, ByHash(SHARES), 4)
    assert [each.key for each in ranges] == sorted(each.key for each in ranges)
    assert [each.number for each in ranges] == list(range(len(ranges)))
    assert sum(limits.values()) == 4


def test_a_sample_lists_all_and_keeps_some(tmp_path: Path):
    raw = draw(tmp_path, 12)
    save(raw / "images" / "bird_000.png", [[[0, 0, 0]]])
    assert len(list_images(SOURCE, str(raw)).references) == 13
    assert len(keys(plan_job(Recipe(source=SOURCE, splits=by_hash(SHARES)), raw, limit=5))) == 5
