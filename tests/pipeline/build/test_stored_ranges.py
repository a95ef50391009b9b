"""Units of tables that are put together from what a base has stored: their files are those of a run on all input."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from delta_plans import begin_delta, unchanged, written
from helpers import run_job

from penstock.pipeline import Csv, JsonLines, PenstockError, Recipe, join
from penstock.pipeline.build import stored_ranges, units
from penstock.pipeline.build.units import make_units
from penstock.pipeline.formats import paths
from penstock.pipeline.prepare.tables import TablePreparer
from penstock.transforms import categorical, numeric
from penstock.transforms.outcome import Rejected, keep

OPTIONS: dict[str, Any] = {"max_quarantined": "50%"}


def features(inputs: Any) -> dict[str, Any]:
    import tensorflow_transform as tft

    return {
        "z": numeric.standardize(inputs, "third"),
        "bucket": numeric.bucketize(inputs, "third", 4),
        "by": numeric.standardize_by_key(inputs, "third", "word"),
        "word": categorical.vocabulary(inputs, "word"),
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
        "tft": tft.scale_to_z_score(inputs["third"]),
    }


def refuse(example: dict[str, Any]) -> dict[str, Any]:
    if example["n"] % 17 == 3:
        raise Rejected("third", "it is")
    return example


def row(number: int) -> dict[str, Any]:
    word = None if number % 5 == 0 else f"é{number % 4}"
    return {"n": number, "third": number / 3 if number % 7 else None, "word": word, "label": "ab"[number % 2]}


def write_table(path: Path, begin: int, end: int) -> None:
    """Rows, of which one in 40 is broken where the format allows it."""
    rows = [row(number) for number in range(begin, end)]
    if path.suffix == ".csv":
        lines = [",".join("" if value is None else str(value) for value in each.values()) for each in rows]
        lines[::40] = ["many,1,é,a"] * len(lines[::40])
        path.write_text("\n".join(["n,third,word,label", *lines, ""]))
    else:
        lists = [{**each, "list": [each["n"] / 3] * (each["n"] % 3)} for each in rows]
        path.write_text("".join(json.dumps(each) + "\n" for each in lists))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "rows").mkdir(parents=True)
    for at in range(8):
        write_table(folder / f"rows/f{at}.csv", 300 * at, 300 * at + 200 + at)
        write_table(folder / f"rows/f{at}.jsonl", 300 * at, 300 * at + 200 + at)
    (folder / "more.csv").write_text("word,weight\n" + "".join(f"é{number},{number / 7}\n" for number in range(3)))
    return folder


def change(raw: Path) -> None:
    """One file goes, one comes, one becomes longer."""
    for suffix in ("csv", "jsonl"):
        (raw / f"rows/f2.{suffix}").unlink()
        write_table(raw / f"rows/new.{suffix}", 5000, 5100)
        write_table(raw / f"rows/f5.{suffix}", 1500, 1750)


CSV = Csv("rows/*.csv", columns={"n": "int64", "third": "float64", "word": "string", "label": "string"})
KINDS: dict[str, dict[str, Any]] = {
    "records": {},
    "compressed": {"compression": "gzip"},
    "Parquet": {"format": "parquet"},
    "in their order": {"shuffle": None},
    "lists, without statistics of their own": {"source": JsonLines("rows/*.jsonl"), "features": None},
    "joined": {"source": join(CSV, Csv("more.csv"), on="word", how="inner")},
}


def recipe(**fields: Any) -> Recipe:
    steps = [keep(lambda example: example["n"] % 11 != 3, "three"), refuse, keep(lambda each: each["n"] > 5, "small")]
    plain = {"source": CSV, "prepare": steps, "features": features, "splits": {"train": 0.7, "test": 0.3}, "shards": 3}
    return Recipe(**{**plain, **fields})


def base_of(recipe: Recipe, raw: Path, tmp_path: Path) -> Path:
    """A committed generation."""
    return tmp_path / "base" / run_job(recipe, raw, tmp_path / "base", **OPTIONS).manifest.generation


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often ranges were read, by their keys."""
    counts: Counter[str] = Counter()
    whole = TablePreparer.read

    def counting(self: TablePreparer, record_range: Any) -> Any:
        counts[record_range.key] += 1
        return whole(self, record_range)

    monkeypatch.setattr(TablePreparer, "read", counting)
    return counts


def make(job: Any) -> Any:
    list(make_units(job.make, range(len(job.order))))
    return job.make.root


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_put_together_as_if_they_were_prepared(
    kind: str, raw: Path, tmp_path: Path, read: Counter[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stored_ranges, "_ROWS", 64)
    monkeypatch.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", 1 << 11)
    asked = recipe(**KINDS[kind])
    base = base_of(asked, raw, tmp_path)
    change(raw)
    full = make(begin_delta(asked, raw, tmp_path / "full", tmp_path, **OPTIONS))
    job = begin_delta(asked, raw, tmp_path / "delta", tmp_path, base, unchanged(base), **OPTIONS)
    read.clear()
    delta = make(job)
    assert {key.partition(".")[0] for key in read} == {"rows/new", "rows/f5"}
    assert written(delta) == written(full)


def test_other_statistics_are_made_of_what_is_stored(raw: Path, tmp_path: Path):
    base = base_of(recipe(features=None), raw, tmp_path)
    change(raw)
    full = make(begin_delta(recipe(), raw, tmp_path / "full", tmp_path, **OPTIONS))
    delta = make(begin_delta(recipe(), raw, tmp_path / "delta", tmp_path, base, unchanged(base), False, **OPTIONS))
    assert written(delta) == written(full)


def test_ranges_may_come_from_several_units_and_in_any_order(raw: Path, tmp_path: Path):
    base = base_of(recipe(shards=4), raw, tmp_path)
    full = make(begin_delta(recipe(shards=1), raw, tmp_path / "full", tmp_path, **OPTIONS))
    delta = make(begin_delta(recipe(shards=1), raw, tmp_path / "delta", tmp_path, base, unchanged(base), **OPTIONS))
    assert written(delta) == written(full)


def test_a_list_of_filtered_rows_goes_on_where_it_was_full(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(units, "LISTED", 5)
    base = base_of(recipe(shards=1), raw, tmp_path)
    listed = (base / paths.unit_filtered(0)).read_bytes()
    delta = make(begin_delta(recipe(shards=1), raw, tmp_path / "delta", tmp_path, base, unchanged(base), **OPTIONS))
    assert Path(delta, paths.unit_filtered(0)).read_bytes() == listed
    assert Path(delta, paths.unit_ranges(0)).read_bytes() == (base / paths.unit_ranges(0)).read_bytes()


@pytest.mark.parametrize("kind", ["records", "compressed", "Parquet"])
def test_a_damaged_shard_is_refused(kind: str, raw: Path, tmp_path: Path):
    base = base_of(recipe(**KINDS[kind]), raw, tmp_path)
    for shard in (base / "data").iterdir():
        content = bytearray(shard.read_bytes())
        content[len(content) // 3] ^= 1
        shard.write_bytes(content)
    change(raw)
    job = begin_delta(recipe(**KINDS[kind]), raw, tmp_path / "delta", tmp_path, base, unchanged(base), **OPTIONS)
    with pytest.raises(PenstockError, match=r"; run `penstock verify`"):
        make(job)
