"""Units that are taken over from a base as they are."""

import itertools
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from delta_plans import Planned, begin_delta, written
from helpers import LABEL, draw, run_job

from penstock.pipeline import Csv, Images, PenstockError, Recipe
from penstock.pipeline.build.base import link_unit
from penstock.pipeline.build.journal import Journal
from penstock.pipeline.build.shards import store
from penstock.pipeline.build.units import make_units
from penstock.pipeline.formats import paths
from penstock.pipeline.formats.damage import all_files
from penstock.pipeline.planning import plan_file
from penstock.pipeline.storage import files

SPLITS = {"train": 0.6, "test": 0.4}
_NUMBERS = itertools.count()


def recipe(kind: str) -> Recipe:
    if kind == "images":
        source: Any = Images("images/*.png", mask="masks/{stem}.png", label=LABEL)
        return Recipe(source=source, splits=SPLITS, shards=2)
    return Recipe(source=Csv("*.csv"), splits=SPLITS, shards=3, format=kind)


@pytest.fixture(scope="module", params=["images", "tfrecord", "parquet"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def raw(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images, of which one is broken; or three files of rows, of which one does not fit."""
    folder = tmp_path_factory.mktemp(kind)
    if kind == "images":
        draw(folder, 24, masks=True)
        (folder / "images" / "cat_001.png").write_bytes(b"no image")
        return folder
    for name in "abc":
        rows = [f"{number / 3},{name}{number % 2}" for number in range(40)]
        (folder / f"{name}.csv").write_text("\n".join(["x,label", *rows, "1,2,3"]) + "\n")
    return folder


def place(store: str, folder: Path) -> str:
    return str(folder) if store == "local" else f"memory://base-{next(_NUMBERS)}"


def turned(planned: list[Planned]) -> Iterable[Planned]:
    """The units of a plan in another order, each one of a base's as a whole."""
    ordered = [*planned[1:], planned[0]]
    numbers = dict.fromkeys({split for unit, _ in planned for split in unit.shards}, 0)
    for index, (unit, batch) in enumerate(ordered):
        shards = {}
        for split, name in unit.shards.items():
            shards[split] = replace(name, index=numbers[split])
            numbers[split] += 1
        yield replace(unit, index=index, shards=shards, base=unit.index), batch


@pytest.mark.parametrize("store", ["local", "memory"])
def test_units_of_a_base_are_taken_over_as_they_are(
    kind: str, raw: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
):
    output = place(store, tmp_path / "dataset")
    manifest = run_job(recipe(kind), raw, output, max_quarantined="20%").manifest
    base = files.join(output, manifest.generation)
    before = written(base)
    named = {file.path.removeprefix(f"{manifest.generation}/") for file in all_files(str(output), manifest)}
    assert before.keys() == named | {paths.MANIFEST, paths.MANIFEST_SHA256}  # damage to each is found
    old = [Journal.from_json(json.loads(line)) for line in before[paths.JOURNALS].splitlines()]
    job = begin_delta(recipe(kind), raw, output, tmp_path, base, turned)
    (raw / "images").rename(raw / "moved") if kind == "images" else None
    try:  # nothing is read of the input
        made = list(make_units(job.make, range(len(old))))
    finally:
        (raw / "moved").rename(raw / "images") if kind == "images" else None
    new = written(job.make.root)
    assert [journal.unit for journal in made] == list(range(len(old)))
    for journal, source in zip(made, [*old[1:], old[0]], strict=True):
        assert Journal.load(job.make.root, journal.unit) == journal
        assert [new[file.path] for file in journal.files] == [before[file.path] for file in source.files]
        assert [(file.bytes, file.sha256) for file in journal.files] == [
            (file.bytes, file.sha256) for file in source.files
        ]
        assert (journal.read, journal.labels, journal.quarantined) == (source.read, source.labels, source.quarantined)
        if store == "local":
            assert all(
                os.path.samefile(f"{base}/{old.path}", f"{job.make.root}/{new.path}")
                for old, new in zip(source.files, journal.files, strict=True)
            )
    names = [shard.path for journal in made for shard in journal.shards.values()]
    assert sorted(names) == sorted(shard.path for journal in old for shard in journal.shards.values())
    assert written(base) == before


@pytest.fixture
def delta(kind: str, raw: Path, tmp_path: Path) -> tuple[Any, Path]:
    """A job all of whose units are a base's, and the base."""
    manifest = run_job(recipe(kind), raw, tmp_path / "dataset", max_quarantined="20%").manifest
    base = tmp_path / "dataset" / manifest.generation
    return begin_delta(recipe(kind), raw, tmp_path / "dataset", tmp_path, base, turned), base


def test_what_an_earlier_attempt_left_of_a_unit_goes(delta: tuple[Any, Path]):
    job, _ = delta
    for path in (paths.unit_filtered(0), paths.unit_accumulators(0), paths.unit_filtered(1)):
        store(job.make.root, path, None, b"{}\n")
    made = make_units(job.make, [0])
    assert next(made).filtered_list is None
    left = written(job.make.root)
    assert paths.unit_filtered(1) in left
    assert not {paths.unit_filtered(0), paths.unit_accumulators(0)} & {*left}


def drop_generation(base: Path) -> None:
    files.remove(str(base))


def drop_shards(base: Path) -> None:
    for path in (base / "data").iterdir():
        path.unlink()


def cut_shards(base: Path) -> None:
    for path in (base / "data").iterdir():
        path.write_bytes(path.read_bytes()[:-1])


def drop_journals(base: Path) -> None:
    (base / paths.JOURNALS).unlink()


@pytest.mark.parametrize("damage", [drop_generation, drop_shards, cut_shards, drop_journals])
def test_a_base_that_is_gone_is_refused(delta: tuple[Any, Path], damage: Callable[[Path], None]):
    job, base = delta
    damage(base)
    with pytest.raises(PenstockError, match="expected the generation that this run takes examples over from, found: "):
        list(make_units(job.make, [0]))
    assert not Path(job.make.root, paths.unit_journal(0)).exists()


def test_a_unit_that_the_base_has_not_is_refused(delta: tuple[Any, Path]):
    job, _ = delta
    unit = plan_file.read_units(files.join(job.make.root, paths.PLAN_UNITS))[0]
    with pytest.raises(PenstockError, match="expected a journal of unit 99, found none"):
        link_unit(job.make.base, job.make.root, replace(unit, base=99))
    with pytest.raises(PenstockError, match=r"expected shards of \['other'\] of unit 0, found "):
        link_unit(
            job.make.base, job.make.root, replace(unit, base=0, shards={"other": next(iter(unit.shards.values()))})
        )
