"""Runs whose text files are scanned for rows by workers make what runs make that find the rows while planning."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Made, contents, plan_job, prepare_job, request, run_job, write

from penstock.pipeline import Csv, JsonLines, Recipe, Union, by_hash, by_time, join
from penstock.pipeline.build import global_shuffle, scan
from penstock.pipeline.build.journal import FinishedUnits
from penstock.pipeline.errors import PenstockError
from penstock.pipeline.formats import paths
from penstock.pipeline.job import begin, plan
from penstock.pipeline.sources import joined_table, text_ranges
from penstock.pipeline.storage import files
from penstock.runners.run import run
from penstock.transforms import columns

STRINGS = ["plain", '"a ""quoted"" one"', '"two\nlines, and, commas"', '"\n\n"', '""', '"a,b"', '5"', '"unclosed', "x"]


def rows(seed: int, count: int = 3000) -> str:
    pick = random.Random(seed)
    return "".join(f"{number},{pick.choice(STRINGS)},{number % 5}\n" for number in range(count))


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    lines = "".join(f'{{"n":{n},"s":"{n % 3}"}}\n' + "\n" * (n % 7 == 0) for n in range(3000))
    write(tmp_path, {"raw/a.csv": "n,s,five\n" + rows(1), "raw/b.csv": "n,s,five\r\n" + rows(2)})
    write(tmp_path, {"raw/small.csv": "n,s,five\n1,x,2\n", "raw/lines.jsonl": lines})
    write(tmp_path, {"raw/fives.csv": "five,name\n" + "".join(f"{n},five {n}\n" for n in range(5))})
    return tmp_path / "raw"


def by_workers(monkeypatch: pytest.MonkeyPatch, range_bytes: int = 3000) -> None:
    """Every text file larger than a range is scanned by workers, a few ranges a task."""
    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    monkeypatch.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", range_bytes)
    monkeypatch.setattr("penstock.pipeline.planning.cut.SCAN_BYTES", 4 * range_bytes)


def both(monkeypatch: pytest.MonkeyPatch, recipe: Callable[[], Recipe], raw: Path, folder: Path) -> tuple[Made, Made]:
    """The dataset as the launcher's own scan leads to it, and as workers' scans do."""
    with monkeypatch.context() as patched:
        patched.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", 3000)
        here = Made(folder / "here", run_job(recipe(), raw, folder / "here", max_quarantined="90%").manifest)
    by_workers(monkeypatch)
    there = Made(folder / "there", run_job(recipe(), raw, folder / "there", max_quarantined="90%").manifest)
    return here, there


def counts(made: Made) -> Any:
    manifest = made.manifest
    return manifest.read, manifest.written, manifest.filtered, manifest.quarantined, manifest.reasons.quarantined


def passed(inputs: Any) -> dict[str, Any]:
    return {"n": inputs["n"]}


SOURCES = {
    "csv": lambda: Csv(["a.csv", "b.csv", "small.csv"]),
    "join": lambda: join(Csv(["a.csv", "b.csv"]), Csv("fives.csv"), on="five"),
    "union": lambda: Union({"text": Csv(["b.csv", "small.csv"]), "lines": JsonLines("lines.jsonl")}),
}


@pytest.mark.parametrize("source", SOURCES)
def test_workers_find_the_rows_that_the_launcher_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path, source: str
):
    here, there = both(
        monkeypatch,
        lambda: Recipe(source=SOURCES[source](), features=passed, splits={"train": 0.7, "test": 0.3}, shards=3),
        tables,
        tmp_path,
    )
    for split in ("train", "test"):
        assert sorted(there.records(split)) == sorted(here.records(split))
    order = [(line["key"], line["message"], line["sha256"]) for line in here.quarantine]
    assert order
    assert sorted((line["key"], line["message"], line["sha256"]) for line in there.quarantine) == sorted(order)
    assert counts(there) == counts(here)


@pytest.mark.parametrize(
    "fields",
    [
        {"splits": by_time("n", shares={"train": 0.7, "test": 0.3})},
        {"splits": by_hash({"train": 0.7, "test": 0.3}, stratify="five"), "shuffle": "global"},
    ],
    ids=["by time", "stratified, in global order"],
)
def test_what_needs_all_rows_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path, fields: Any):
    here, there = both(
        monkeypatch,
        lambda: Recipe(source=Csv(["a.csv", "b.csv"]), features=passed, shards=3, **fields),
        tables,
        tmp_path,
    )
    for split in ("train", "test"):
        assert sorted(there.records(split)) == sorted(here.records(split))
    assert counts(there) == counts(here)


def test_a_plan_does_not_read_what_it_leaves_to_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path):
    by_workers(monkeypatch)
    planned = plan_job(Recipe(source=Csv("a.csv"), features=passed, splits={"train": 0.7, "test": 0.3}), tables)
    assert planned.inventory.read == -1
    assert [unit.examples for unit, _ in planned.units] == [-1] * len(planned.units)
    ranges = [each for _, group in planned.scans for each in group]
    assert [each.number for each in ranges] == list(range(len(ranges)))
    assert sorted(each.number for _, group in planned.units for each in group) == list(range(len(ranges)))


def test_what_is_scanned_is_not_scanned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path):
    by_workers(monkeypatch)
    asked = request(
        Recipe(source=Csv("a.csv"), features=passed, splits={"train": 0.7, "test": 0.3}), tables, tmp_path / "out"
    )
    planned = plan(asked)
    job = prepare_job(asked, planned)
    begin(job, planned, FinishedUnits(job.make.root))
    options = job.make.scan
    assert options is not None
    scanned = []

    def count(source: Any, record_range: Any) -> Any:
        scanned.append(record_range.number)
        return nominal_scan(source, record_range)

    nominal_scan = scan.nominal.scan
    monkeypatch.setattr(scan.nominal, "scan", count)
    scan.scan_here(options)
    assert sorted(scanned) == list(range(sum(len(group) for _, group in planned.plan.scans)))
    table, scanned[:] = Path(options.table).read_bytes(), []
    scan.scan_here(options)
    assert not scanned
    Path(options.table).unlink()
    (Path(options.root) / paths.scan(1)).unlink()
    scan.scan_here(options)
    assert sorted(scanned) == [each.number for each in list(planned.plan.scans)[1][1]]
    assert Path(options.table).read_bytes() == table


def test_a_damaged_shard_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path):
    by_workers(monkeypatch)
    fields: Any = {"features": passed, "splits": {"train": 0.7, "test": 0.3}, "shards": 3}
    options: Any = {"hash": "7" * 64, "max_quarantined": "90%"}
    output = tmp_path / "made"
    manifest = run_job(Recipe(source=Csv("a.csv"), **fields), tables, output, **options).manifest
    before = contents(output)
    (output / manifest.splits["train"].shards[1].path).write_bytes(b"")
    assert run_job(Recipe(source=Csv("a.csv"), **fields), tables, output, **options).manifest == manifest
    assert contents(output) == before


def test_a_file_that_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path):
    by_workers(monkeypatch)
    asked = request(
        Recipe(source=Csv("a.csv"), features=passed, splits={"train": 0.7, "test": 0.3}), tables, tmp_path / "out"
    )
    planned = plan(asked)
    job = prepare_job(asked, planned)
    begin(job, planned, FinishedUnits(job.make.root))
    content = (tables / "a.csv").read_bytes()
    (tables / "a.csv").write_bytes(content[: len(content) // 2])
    assert job.make.scan is not None
    assert job.make.scan.versions == job.make.versions
    with pytest.raises(PenstockError, match=r"a\.csv: expected .* bytes .*run again"):
        scan.scan_here(job.make.scan)


def test_a_run_from_store_to_store_is_that_of_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path):
    """Scanned text, a joined table in a file, duplicates by workers and a shuffle in two steps, all in a store."""
    by_workers(monkeypatch)
    monkeypatch.setattr(joined_table, "IN_MEMORY", 0)
    monkeypatch.setattr(global_shuffle, "ONE_STEP", 2)
    stored = f"memory://scan-{tmp_path.name}"
    for path in tables.iterdir():
        files.write_bytes(f"{stored}/raw/{path.name}", path.read_bytes())

    def make_from(raw: str, output: str) -> list[bytes]:
        recipe = Recipe(
            source=join(Csv(["a.csv", "b.csv"]), Csv("fives.csv"), on="five"),
            prepare=[columns.drop("n")],
            features=lambda inputs: {"five": inputs["five"]},
            splits={"train": 0.7, "test": 0.3},
            shards=4,
            deduplicate=True,
            shuffle="global",
        )
        manifest = run(request(recipe, raw, output, hash="3" * 64, max_quarantined="90%")).manifest  # type: ignore
        assert manifest.reasons.filtered["duplicate"]
        shards = [shard for split in manifest.splits.values() for shard in split.shards]
        assert not [name for name in files.list_names(files.join(output, manifest.generation)) if name == paths.WORK]
        return [files.read_bytes(files.join(output, shard.path)) for shard in shards]

    there = make_from(f"{stored}/raw", f"{stored}/dataset")
    assert there == make_from(str(tables), str(tmp_path / "dataset"))
