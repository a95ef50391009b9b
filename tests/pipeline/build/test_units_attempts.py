"""Several attempts at one unit: of one run, of two runs, and what they leave."""

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import contents, draw, prepare_job, request, standard_recipe, write

from penstock.pipeline import Csv, PenstockError, Recipe, job
from penstock.pipeline.build import units
from penstock.pipeline.build.claim import claim, expect_claimed
from penstock.pipeline.build.journal import FinishedUnits, Journal
from penstock.pipeline.build.tasks import Refusal, Signal, Task
from penstock.pipeline.build.units import MakeUnits, make_units
from penstock.pipeline.formats import paths
from penstock.pipeline.prepare.tables import TablePreparer
from penstock.pipeline.storage import files, stores
from penstock.pipeline.storage.leases import Owner
from penstock.transforms.outcome import Rejected

_NUMBERS = itertools.count()


def store() -> str:
    return f"memory://attempts-{next(_NUMBERS)}/dataset"


def begin(recipe: Recipe, source: Path, output: str, **options: Any) -> Any:
    """A job whose plan is written, and no unit made."""
    asked = request(recipe, source, output, "a" * 64, **options)  # type: ignore[arg-type]
    planned = job.plan(asked)
    prepared = prepare_job(asked, planned)
    job.begin(prepared, planned, FinishedUnits(prepared.make.root))
    return prepared


def make(prepared: Any, numbers: Any) -> list[Journal]:
    """What a worker gives for units."""
    maker = MakeUnits(prepared.make, prepared.make.run)
    maker.setup()
    try:
        return signalled(maker, prepared, numbers)
    finally:
        maker.teardown()


def signalled(maker: MakeUnits, prepared: Any, numbers: Any) -> list[Journal]:
    """What a worker says for units, in one bundle, as journals."""
    maker.start_bundle()
    signals = [*maker.process(Task(tuple(numbers))), *(windowed.value for windowed in maker.finish_bundle())]
    for signal in signals:
        if signal.refusal:
            raise PenstockError(signal.refusal.message)
    assert sum(signal.done for signal in signals) == len(numbers)
    journals = [Journal.load(prepared.make.root, number) for number in numbers]
    return [journal for journal in journals if journal]


def written(root: str) -> dict[str, bytes]:
    return {info.uri[len(root) + 1 :]: files.read_bytes(info.uri) for info in files.list_folder(root)}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("raw"), 24, masks=True)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = "".join(f"{number},{number % 7 / 3},word {number % 11}\n" for number in range(3000))
    return write(tmp_path_factory.mktemp("table"), {f"{name}.csv": f"n,x,t\n{rows}" for name in "ab"})


@pytest.mark.parametrize("kind", ["images", "table", "parquet"])
def test_two_attempts_write_the_same_bytes_journal_and_summaries_too(raw: Path, table: Path, tmp_path: Path, kind: str):
    recipes = {
        "images": standard_recipe(),
        "table": Recipe(source=Csv("*.csv"), shards=3),
        "parquet": Recipe(source=Csv("*.csv"), shards=3, format="parquet"),
    }
    found = []
    for threads in (1, 5):
        prepared = begin(
            recipes[kind], raw if kind == "images" else table, str(tmp_path / f"{threads}"), threads=threads
        )
        make(prepared, range(prepared.units))
        marks = ("_work/run", "_work/attempts/")  # these name the run
        made = contents(Path(prepared.make.root))
        found.append({path: content for path, content in made.items() if not path.startswith(marks)})
    assert {path for path in found[0] if found[0][path] != found[1].get(path)} == set()
    assert any(path.endswith(".summaries") for path in found[0])
    assert any(path.endswith(".json") for path in found[0])


FLAKY: list[int] = []


def flaky(example: dict[str, Any]) -> dict[str, Any]:
    """Fails for one example as long as it is told to."""
    if FLAKY and example["key"].endswith("_004.png"):
        raise Rejected("late", "the decoder ran out of time")
    return example


def test_an_attempt_that_comes_second_leaves_what_the_first_has_made(raw: Path):
    """An example's failure may depend on the moment: the two would write different bytes under one name."""
    prepared = begin(standard_recipe(prepare=[flaky], splits={"train": 1}, shards=1), raw, store())
    late = MakeUnits(prepared.make, prepared.make.run)
    late.setup()  # when nothing was there
    FLAKY.append(1)
    try:
        (first,) = make(prepared, [0])
    finally:
        FLAKY.clear()
    before = written(prepared.make.root)
    (second,) = signalled(late, prepared, [0])
    late.teardown()
    assert first == second
    assert first.quarantined == {"late": 1}
    assert written(prepared.make.root) == before


@pytest.mark.parametrize("claimed", ["another run", None])
def test_a_late_worker_of_another_run_writes_nothing(table: Path, claimed: str | None):
    prepared = begin(Recipe(source=Csv("*.csv"), shards=2), table, store())
    make(prepared, [0])
    root = prepared.make.root
    if claimed:
        claim(root, claimed)
    else:
        files.remove(files.join(root, "_work/run"))  # the run that it was of has ended
    before = written(root)
    with pytest.raises(PenstockError, match=f"found run {claimed or 'none'}; this one ends here"):
        make(prepared, [1])
    assert written(root) == before
    claim(root, prepared.make.run)
    expect_claimed(root, prepared.make.run)
    make(prepared, [1])


def test_what_a_worker_that_died_has_finished_is_not_made_again(table: Path):
    """An engine gives a bundle anew to a worker that began, and listed what there was, before any of it was made."""
    prepared = begin(Recipe(source=Csv("*.csv"), shards=2), table, store())
    late = MakeUnits(prepared.make, prepared.make.run)
    late.setup()
    assert len(signalled(late, prepared, [1])) == 1  # it lists what there is
    journals = make(prepared, [0])
    root = prepared.make.root
    owner = replace(Owner.this_process("earlier"), process=4_000_000)
    files.write_bytes(files.join(root, paths.attempt(0)), owner.encode())
    before = stores.COUNTS.snapshot().get("put", 0)
    assert signalled(late, prepared, [0]) == journals
    assert stores.COUNTS.snapshot()["put"] - before <= 3  # its mark, twice, and a death: a unit has six files
    late.teardown()


def done(maker: MakeUnits, unit: int) -> int:
    """How many units a worker says are done, when it is given one."""
    (signal,) = maker.process(Task((unit,)))
    assert signal.refusal is None
    return int(signal.done)


def test_a_unit_is_done_once_its_journal_is_there_while_the_next_one_is_prepared(
    table: Path, monkeypatch: pytest.MonkeyPatch
):
    prepared = begin(Recipe(source=Csv("*.csv"), shards=3), table, store())
    root, write, may_write = prepared.make.root, Journal.write, threading.Event()

    def late(journal: Journal, root: str) -> None:
        assert may_write.wait(60)
        write(journal, root)

    monkeypatch.setattr(Journal, "write", late)
    maker = MakeUnits(prepared.make, prepared.make.run)
    maker.setup()
    maker.start_bundle()
    assert done(maker, 0) == 0
    assert Journal.load(root, 0) is None
    threading.Timer(1, may_write.set).start()
    assert done(maker, 1) == 1  # the first one, which it waited for
    assert Journal.load(root, 0)
    (last,) = maker.finish_bundle()
    assert last.value == Signal(1)
    assert Journal.load(root, 1)
    maker.start_bundle()
    assert [done(maker, 2), *(each.value.done for each in maker.finish_bundle())] == [0, 1]
    maker.teardown()


@pytest.mark.parametrize("error", [OSError("the disk is full"), PenstockError("no")])
def test_where_a_units_files_cannot_be_written_neither_it_nor_the_next_one_is_done(
    table: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    prepared = begin(Recipe(source=Csv("*.csv"), shards=3), table, store())
    root, write = prepared.make.root, Journal.write

    def fail_once(journal: Journal, root: str) -> None:
        monkeypatch.setattr(Journal, "write", write)
        raise error

    monkeypatch.setattr(Journal, "write", fail_once)
    maker = MakeUnits(prepared.make, prepared.make.run)
    maker.setup()
    maker.start_bundle()
    assert done(maker, 0) == 0
    if isinstance(error, OSError):  # the engine gives both again
        with pytest.raises(OSError, match="full"):
            done(maker, 1)
    else:
        (signal,) = maker.process(Task((1,)))
        assert signal == Signal(refusal=Refusal("PenstockError", "no"))
    maker.teardown()
    assert [Journal.load(root, unit) for unit in (0, 1)] == [None, None]
    assert not [path for path in written(root) if path.startswith("_work/attempts/")]  # neither is suspect
    claim(root, prepared.make.run)
    assert [journal.unit for journal in make(prepared, range(3))] == [0, 1, 2]


def test_a_list_that_an_earlier_attempt_left_goes(raw: Path):
    """It quarantined an example that the next attempt does not."""
    prepared = begin(standard_recipe(prepare=[flaky], splits={"train": 1}, shards=1), raw, store())
    root = prepared.make.root
    FLAKY.append(1)
    try:
        (first,) = make(prepared, [0])
    finally:
        FLAKY.clear()
    assert first.quarantined == {"late": 1}
    files.remove(files.join(root, "_work/units/00000.json"))  # it died before its journal
    (second,) = make(prepared, [0])
    assert second.quarantined == {}
    assert not files.exists(files.join(root, "quarantine/unit-00000.jsonl"))


@pytest.mark.parametrize(("asked", "threads"), [(None, 3), (5, 5)])
def test_a_worker_counts_its_own_cores_unless_it_is_told(
    table: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None, threads: int
):
    started: list[int] = []
    start = TablePreparer.start

    def recorded(preparer: TablePreparer, count: int, *args: Any, **options: Any) -> Any:
        started.append(count)
        return start(preparer, count, *args, **options)

    monkeypatch.setattr(TablePreparer, "start", recorded)
    monkeypatch.setattr(units, "cores", lambda: 3)
    prepared = begin(Recipe(source=Csv("*.csv")), table, store(), threads=asked)
    assert [journal.read for journal in make(prepared, [0])] == [6000]
    assert started == [threads]


def test_finished_units_cost_one_read_each_whatever_they_are_made_of(table: Path):
    prepared = begin(Recipe(source=Csv("*.csv"), shards=40), table, store())
    make(prepared, range(prepared.units))
    before = stores.COUNTS.snapshot()
    assert len(make(prepared, range(prepared.units))) == prepared.units
    after = stores.COUNTS.snapshot()
    after["get"] -= prepared.units  # the test's own
    made = {kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)}
    assert made == {"list": 1, "get": prepared.units}


def test_a_damaged_unit_is_made_again(table: Path):
    prepared = begin(Recipe(source=Csv("*.csv"), shards=3), table, store())
    journals = make(prepared, range(3))
    path = journals[1].shards["train"].path
    files.write_bytes(files.join(prepared.make.root, path), b"cut")
    assert make(prepared, range(3)) == journals
    assert files.size(files.join(prepared.make.root, path)) == journals[1].shards["train"].file.bytes
    files.remove(files.join(prepared.make.root, path))
    assert list(make_units(prepared.make, [1])) == [journals[1]]


def test_groups_are_read_together_and_work_is_handed_out_alone(table: Path):
    prepared = begin(Recipe(source=Csv("*.csv"), shards=100), table, store())
    numbers = [(unit,) for unit in range(0, 100, 50)]
    groups = replace(prepared, finished=[unit for unit in range(100) if unit % 50]).groups
    assert sorted(groups[:2]) == numbers  # those that read most come first
    assert [len(group) for group in groups] == [1, 1, 64, 34]
    assert sorted(itertools.chain(*groups)) == list(range(100))
    assert sorted(prepared.groups) == [(unit,) for unit in range(100)]
