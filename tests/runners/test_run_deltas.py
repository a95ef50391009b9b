"""Runs on changed input take over what did not change, and come to what full runs come to."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_transform as tft
from helpers import LABEL, REPOSITORY, Made, apply_graph, draw, request, tar, write, zipped

from penstock.pipeline import Csv, Images, Parquet, Recipe, by_hash, folder, join
from penstock.pipeline.build.base import BaseGeneration
from penstock.pipeline.commit.rollback import roll_back
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.errors import DatasetError, PenstockError
from penstock.pipeline.formats.pointer import Pointer
from penstock.pipeline.job import plan, preview
from penstock.pipeline.planned_run import PlannedRun
from penstock.pipeline.planning.delta import Takeover
from penstock.pipeline.prepare import images as prepared_images
from penstock.pipeline.prepare.tables import TablePreparer, TableWorker
from penstock.pipeline.sources import text_ranges
from penstock.pipeline.storage import files
from penstock.runners import run as run_module
from penstock.runners.reporter import Silent
from penstock.runners.reuse import planned_in_words
from penstock.runners.run import run
from penstock.transforms import image, numeric
from penstock.transforms.outcome import keep

HASH = "e" * 64


def features(inputs: Any) -> dict[str, Any]:
    return {
        "image": image.standardize(inputs, "image"),
        "label": tft.compute_and_apply_vocabulary(inputs["label"], vocab_filename="labels"),
        "age": numeric.standardize(inputs, "age"),
    }


def of_images(**fields: Any) -> Recipe:
    source = join(Images("**/*.png", label=folder()), Csv("table.csv"), on="name")
    plain = {"source": source, "features": features, "splits": by_hash({"train": 0.7, "test": 0.3})}
    return Recipe(**{**plain, **fields})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images in folders that are their labels, and a table with an age for each."""
    drawn = draw(tmp_path / "drawn", 60, (12, 10))
    root = tmp_path / "raw"
    for number, path in enumerate(sorted(drawn.rglob("*.png"))):
        target = root / ("cat", "dog", "bird")[number % 3] / f"i{number:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    write_table(root, {f"i{number:03d}": number % 17 for number in range(70)})
    return root


def write_table(root: Path, ages: dict[str, int]) -> None:
    write(root, {"table.csv": "name,age\n" + "".join(f"{name},{age}\n" for name, age in ages.items())})


def made(recipe: Recipe, source: Path, output: Path, hash: str = HASH, **options: Any) -> SimpleNamespace:
    """A run's dataset, with its status and what was planned to be taken over."""
    asked = request(recipe, source, output, hash, **options)
    planned = plan(asked)
    result = run(asked)
    return SimpleNamespace(made=Made(output, result.manifest), result=result, planned=planned)


def assets(dataset: Made) -> dict[str, list[bytes]]:
    """The vocabularies, if there are any."""
    has_some = (dataset.generation / "transform_graph/transform_fn/assets").is_dir()
    return dataset.assets() if has_some else {}


def expect_as_full(delta: Made, recipe: Recipe, source: Path, tmp_path: Path, hash: str = HASH) -> Made:
    """Holds a dataset against one that a full run makes of the same."""
    assert list(verify(str(delta.path), generation=delta.manifest.generation)) == []
    output = tmp_path / "full"
    shutil.rmtree(output, ignore_errors=True)
    full = made(recipe, source, output, hash, max_quarantined="5").made
    for name in ("statistics/statistics.json", "statistics/values.arrow"):
        assert (delta.generation / name).read_bytes() == (full.generation / name).read_bytes(), name
    assert assets(delta) == assets(full)
    counts = [(each.manifest.read, each.manifest.written, each.manifest.reasons.filtered) for each in (delta, full)]
    assert counts[0] == counts[1]
    assert delta.manifest.quarantined == full.manifest.quarantined
    assert delta.manifest.splits.keys() == full.manifest.splits.keys()
    assert delta.keyed() == full.keyed()
    for split in full.manifest.splits:
        records = sorted(full.records(split))
        assert sorted(delta.records(split)) == records
        outputs, expected = (apply_graph(str(each.generation / "transform_graph"), records) for each in (delta, full))
        for name, values in expected.items():
            is_same = np.array_equal if values.dtype == object else lambda a, b: a.tobytes() == b.tobytes()
            assert is_same(outputs[name], values), (split, name)
    return full


def add(root: Path) -> int:
    shutil.copy(root / "cat/i000.png", root / "dog/i061.png")
    return 1


def remove(root: Path) -> int:
    (root / "cat/i003.png").unlink()
    return 0


def change(root: Path) -> int:
    shutil.copy(root / "dog/i001.png", root / "cat/i006.png")
    return 1


def relabel(root: Path) -> int:
    (root / "cat/i009.png").rename(root / "dog/i009.png")
    return 1


def correct(root: Path) -> int:
    write_table(root, {f"i{number:03d}": number % 17 + 5 * (number == 12) for number in range(70)})
    return 1


def break_one(root: Path) -> int:
    (root / "cat/i015.png").write_bytes(b"no image")
    return 1


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the references that are prepared, or of the ranges, in this process."""
    keys: list[str] = []
    of_image, of_table = prepared_images.ImageSteps.__call__, TablePreparer.prepare_part

    def image_steps(self: Any, reference: Any, *arguments: Any, **options: Any) -> Any:
        keys.append(reference.key)
        return of_image(self, reference, *arguments, **options)

    def prepare_part(self: Any, record_range: Any, rows: Any) -> Any:
        keys.append(f"{record_range.key}:{record_range.begin}")
        return of_table(self, record_range, rows)

    monkeypatch.setattr(prepared_images.ImageSteps, "__call__", image_steps)
    monkeypatch.setattr(TablePreparer, "prepare_part", prepare_part)
    return keys


TRIED = 4  # images that a plan prepares, to see what comes out
CHANGES = (add, remove, change, relabel, correct, break_one)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_images_that_changed_are_prepared_and_all_others_are_taken_over(
    change: Callable[[Path], int], photos: Path, tmp_path: Path, read: list[str]
):
    recipe, output = of_images(), tmp_path / "out"
    first = made(recipe, photos, output, max_quarantined="5").made
    new = change(photos)
    read.clear()
    delta = made(recipe, photos, output, max_quarantined="5")
    assert len(read) == 2 * TRIED + new  # `made` plans twice
    assert delta.planned.reuse.takeover.new_pieces == new
    assert delta.made.manifest.delta.base == first.manifest.generation
    assert delta.made.manifest.delta.examples == delta.made.manifest.read - new
    assert delta.result.status == "committed"
    assert delta.made.manifest.generation != first.manifest.generation
    expect_as_full(delta.made, recipe, photos, tmp_path)
    assert made(recipe, photos, output).result.status == "up_to_date"


@pytest.mark.slow
def test_the_base_keeps_its_bytes(photos: Path, tmp_path: Path):
    recipe, output = of_images(), tmp_path / "out"
    first = made(recipe, photos, output).made
    before = {path: path.read_bytes() for path in first.generation.rglob("*") if path.is_file()}
    for change in CHANGES[:4]:
        change(photos)
        made(recipe, photos, output)
    assert before == {path: path.read_bytes() for path in first.generation.rglob("*") if path.is_file()}


def test_full_lays_everything_out_as_a_full_run_does_and_is_one_generation_with_it(photos: Path, tmp_path: Path):
    recipe, output = of_images(), tmp_path / "out"
    made(recipe, photos, output)
    for change in CHANGES[:5]:
        change(photos)
    delta = made(recipe, photos, output).made
    canonical = made(recipe, photos, output, full=True)
    assert canonical.result.status == "committed"
    assert canonical.made.manifest.delta.examples == canonical.made.manifest.read
    full = expect_as_full(canonical.made, recipe, photos, tmp_path)
    assert canonical.made.manifest.generation == full.manifest.generation != delta.manifest.generation
    contents = {path.relative_to(full.generation): path.read_bytes() for path in full.generation.rglob("*.*")}
    for path, content in contents.items():
        if path.parts[0] in ("data", "index", "units", "quarantine", "filtered") and path.name != "journals.jsonl":
            assert (canonical.made.generation / path).read_bytes() == content, path
    assert made(recipe, photos, output, full=True).result.status == "up_to_date"
    assert made(recipe, photos, output).result.status == "up_to_date"


@pytest.mark.slow
def test_images_with_a_fixed_number_of_shards_or_in_order_keep_the_canonical_layout(photos: Path, tmp_path: Path):
    for number, fields in enumerate(({"shards": 2}, {"shuffle": None}, {"shuffle": "global"})):
        recipe, output = of_images(**fields), tmp_path / f"out{number}"
        made(recipe, photos, output)
        shutil.copy(photos / "cat/i000.png", photos / f"dog/i06{number}.png")
        delta = made(recipe, photos, output)
        assert delta.planned.reuse.takeover.new_pieces == 1
        full = expect_as_full(delta.made, recipe, photos, tmp_path)
        assert delta.made.manifest.generation == full.manifest.generation


@pytest.mark.slow
def test_many_small_deltas_are_laid_out_anew(photos: Path, tmp_path: Path):
    recipe, output = of_images(splits={"train": 1.0}), tmp_path / "out"
    made(recipe, photos, output)
    shards = []
    for number in range(4):
        shutil.copy(photos / "cat/i000.png", photos / f"dog/i06{number}.png")
        shards.append(len(made(recipe, photos, output).made.manifest.splits["train"].shards))
    assert shards == [2, 1, 2, 1]


def test_features_that_changed_need_no_image(photos: Path, tmp_path: Path, read: list[str]):
    output = tmp_path / "out"
    first = made(of_images(), photos, output).made

    def others(inputs: Any) -> dict[str, Any]:
        return {"label": tft.compute_and_apply_vocabulary(inputs["label"], num_oov_buckets=1)}

    recipe = of_images(features=others)
    read.clear()
    changed = made(recipe, photos, output, graph="f" * 64)
    assert len(read) == 2 * TRIED
    assert changed.made.manifest.delta.units == len(first.manifest.splits)
    assert changed.made.manifest.generation != first.manifest.generation
    expect_as_full(changed.made, recipe, photos, tmp_path, "f" * 64)


def test_what_shapes_examples_is_said_where_all_is_prepared_anew(photos: Path, tmp_path: Path):
    output, other = tmp_path / "out", of_images(prepare=[keep(lambda example: example["age"] > 3, "young")])
    made(of_images(), photos, output, frame="a" * 64)
    asked = request(other, photos, output, HASH, shape="f" * 64, frame="a" * 64)
    assert plan(asked).anew.startswith("`prepare` changed; --keep-prepared takes over")
    anew = made(other, photos, output, shape="f" * 64)
    assert anew.planned.reuse is None
    assert anew.result.anew.startswith("the source, `prepare`, splits")
    assert anew.made.manifest.delta is None


def test_a_filter_takes_no_part_in_what_is_taken_over(photos: Path, tmp_path: Path):
    recipe, output = of_images(prepare=[keep(lambda example: example["age"] > 3, "young")]), tmp_path / "out"
    made(recipe, photos, output)
    remove(photos), add(photos)
    delta = made(recipe, photos, output)
    assert delta.made.manifest.filtered > 0
    expect_as_full(delta.made, recipe, photos, tmp_path)


class Heard(Silent):
    """Keeps the ids of the generations that it is told of."""

    def __init__(self) -> None:
        self.generations: list[str] = []

    def planned(self, planned: PlannedRun) -> None:
        self.generations.append(planned.generation_id)

    def settled(self, planned: PlannedRun) -> None:
        self.generations.append(planned.generation_id)


def test_an_analyzer_whose_results_follow_the_grouping_has_the_canonical_layout(photos: Path, tmp_path: Path):
    def grouped(inputs: Any) -> dict[str, Any]:
        return {"age": tft.scale_to_z_score(inputs["age"]), "label": tft.compute_and_apply_vocabulary(inputs["label"])}

    recipe, output = of_images(features=grouped), tmp_path / "out"
    made(recipe, photos, output)
    add(photos), remove(photos)
    asked, reporter = request(recipe, photos, output, HASH), Heard()
    previewed = preview(asked, plan(asked)).planned
    delta = Made(output, run(asked, reporter).manifest)
    full = expect_as_full(delta, recipe, photos, tmp_path)
    free, settled = reporter.generations
    assert free != settled == previewed.generation_id == delta.manifest.generation == full.manifest.generation
    assert made(recipe, photos, output).result.status == "up_to_date"


def test_a_damaged_base_is_no_base_and_a_damaged_delta_is_made_in_full(photos: Path, tmp_path: Path):
    recipe, output = of_images(), tmp_path / "out"
    first = made(recipe, photos, output).made
    shard = first.path / first.manifest.splits["train"].shards[0].path
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    add(photos)
    anew = made(recipe, photos, tmp_path / "out")
    assert anew.result.anew.startswith(f"generation {first.manifest.generation} is damaged: ")
    relabel(photos)
    delta = made(recipe, photos, output).made
    assert delta.manifest.delta
    (delta.path / delta.manifest.splits["test"].shards[0].path).unlink()
    again = made(recipe, photos, output)
    assert "of the same content, is damaged" in again.result.anew
    full = expect_as_full(again.made, recipe, photos, tmp_path)
    assert again.made.manifest.generation == full.manifest.generation


def test_a_delta_that_was_rolled_back_is_taken_again(photos: Path, tmp_path: Path):
    recipe, output = of_images(), tmp_path / "out"
    first = made(recipe, photos, output).made
    add(photos)
    delta = made(recipe, photos, output).made
    roll_back(str(output), first.manifest.generation)
    again = made(recipe, photos, output)
    assert again.result.status == "up_to_date"
    pointer = Pointer.read(str(output))
    assert pointer
    assert pointer.generation == delta.manifest.generation


def test_a_base_that_is_gone_ends_the_run_in_words_and_the_next_one_makes_all(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, output = of_images(), tmp_path / "out"
    first = made(recipe, photos, output).made
    add(photos)
    asked = request(recipe, photos, output, HASH)
    link = BaseGeneration.link

    def gone(self: BaseGeneration, *arguments: Any) -> None:
        shutil.rmtree(first.generation, ignore_errors=True)
        link(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(BaseGeneration, "link", gone)
        with pytest.raises(PenstockError, match="expected the generation that this run takes examples over from"):
            run(asked)
    again = run(asked)
    assert "is damaged" in again.anew
    expect_as_full(Made(output, again.manifest), recipe, photos, tmp_path)


@pytest.mark.parametrize("kept", ["00001.summaries", "00001.accumulators", "00001.arrow"])
def test_what_is_not_as_a_unit_left_it_is_in_no_statistics(
    kept: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("penstock.pipeline.planning.cut.SHARD_BYTES", 10_000)
    recipe, output = of_images(), tmp_path / "out"
    first = made(recipe, photos, output).made
    assert len(first.manifest.splits["train"].shards) > 1
    path = first.generation / "units" / kept
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # of the same size, which the plan takes for whole
    path.write_bytes(content)
    add(photos)
    asked = request(recipe, photos, output, HASH)
    with pytest.raises(PenstockError, match=rf"{kept}: expected SHA-256 .*remove it, and what `penstock verify` names"):
        run(asked)
    assert Pointer.read(str(output)) == Pointer.to(first.manifest.generation, first.manifest.encode())
    (fault,) = verify(str(output), graph=False)
    assert fault.startswith(str(path))
    path.unlink()
    again = run(asked)
    assert "is damaged" in again.anew
    expect_as_full(Made(output, again.manifest), recipe, photos, tmp_path)


def test_a_base_that_is_replaced_meanwhile_fails_the_run_and_the_next_takes_over_from_the_new_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, output = of_images(), tmp_path / "out"
    made(recipe, photos, output)
    add(photos)
    asked, other = (request(recipe, photos, output, HASH, graph=graph) for graph in (None, "f" * 64))
    analyze = run_module.analyze

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(run_module, "analyze", analyze)
        run(other)
        return analyze(*arguments)

    monkeypatch.setattr(run_module, "analyze", meanwhile)
    with pytest.raises(DatasetError, match="another run committed generation"):
        run(asked)
    current = Pointer.read(str(output))
    result = run(asked)
    assert current
    assert result.manifest.delta
    assert result.manifest.delta.base == current.generation
    assert result.manifest.delta.examples == result.manifest.read
    expect_as_full(Made(output, result.manifest), recipe, photos, tmp_path)


def no_commit(options: Any) -> None:
    raise PenstockError("no")


def test_a_delta_that_was_interrupted_goes_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe, output = of_images(), tmp_path / "out"
    made(recipe, photos, output)
    add(photos), remove(photos)
    asked = request(recipe, photos, output, HASH)
    planned = plan(asked)
    with monkeypatch.context() as patched:
        patched.setattr("penstock.pipeline.commit.commit.commit", no_commit)
        with pytest.raises(PenstockError, match="no"):
            run(asked)
    journals = output / planned.generation_id / "_work/units"
    times = {path.name: os.stat(path).st_mtime_ns for path in journals.iterdir()}
    assert len(times) == len(planned.plan.units)
    result = run(asked)
    assert result.manifest.generation == planned.generation_id
    expect_as_full(Made(output, result.manifest), recipe, photos, tmp_path)


@pytest.mark.parametrize(("archive", "pack", "new"), [("a.zip", zipped, 1), ("a.tar", tar, 12)])
def test_of_a_zip_file_that_changed_only_other_members_are_prepared(
    archive: str, pack: Callable[..., bytes], new: int, tmp_path: Path
):
    drawn = {path.name: path.read_bytes() for path in sorted(draw(tmp_path / "drawn", 12).rglob("*.png"))}
    source = write(tmp_path / "raw", {archive: pack(drawn), "b.zip": zipped({"dog_100.png": drawn[min(drawn)]})})
    recipe = Recipe(source=Images([f"{archive}!/*.png", "b.zip!/*.png"], label=LABEL))
    output = tmp_path / "out"
    made(recipe, source, output)
    write(source, {archive: pack({**drawn, min(drawn): drawn[min(drawn)] + b" "})})
    delta = made(recipe, source, output)
    assert delta.planned.reuse.takeover.new_pieces == new
    expect_as_full(delta.made, recipe, source, tmp_path)


def rows(begin: int, end: int, seed: int = 0) -> str:
    numbers = np.random.default_rng(seed).normal(size=end - begin)
    lines = (f"{number},{value:.6f},w{number % 7}\n" for number, value in zip(range(begin, end), numbers, strict=True))
    return "n,x,word\n" + "".join(lines)


def of_table(**fields: Any) -> Recipe:
    def table_features(inputs: Any) -> dict[str, Any]:
        return {
            "x": numeric.standardize(inputs, "x"),
            "word": tft.compute_and_apply_vocabulary(inputs["word"], vocab_filename="words"),
        }

    plain = {"source": Csv("*.csv"), "features": table_features, "splits": {"train": 0.8, "test": 0.2}}
    return Recipe(**{**plain, **fields})


def grow(root: Path) -> None:
    write(root, {"c.csv": rows(500, 600, seed=3)})


def shrink(root: Path) -> None:
    (root / "b.csv").unlink()


def correct_rows(root: Path) -> None:
    write(root, {"b.csv": rows(200, 500, seed=9)})


def test_a_table_of_which_no_file_is_as_it_was_is_said_to_be(tmp_path: Path):
    source = write(tmp_path / "raw", {"a.csv": rows(0, 200)})
    recipe, output = of_table(features=None), tmp_path / "out"
    first = made(recipe, source, output).made
    write(source, {"a.csv": rows(0, 201)})
    anew = plan(request(recipe, source, output, HASH)).anew
    assert anew == f"generation {first.manifest.generation} has none of the files of this table as they are"


def test_what_an_earlier_prepare_has_made_is_kept_in_the_canonical_layout_too(tmp_path: Path):
    def grouped(inputs: Any) -> dict[str, Any]:
        return {"x": tft.scale_to_z_score(inputs["x"])}

    source = write(tmp_path / "raw", {"a.csv": rows(0, 400)})
    recipe, output, frame = of_table(features=grouped), tmp_path / "out", "a" * 64
    run(request(recipe, source, output, HASH, frame=frame))
    mixed = run(request(recipe, source, output, HASH, shape="f" * 64, frame=frame, keep_prepared=True)).manifest
    assert mixed.delta
    assert mixed.delta.shapes
    assert any("an earlier `prepare`" in warning for warning in mixed.warnings)
    write(source, {"c.csv": rows(400, 800)})
    asked = request(recipe, source, output, HASH, shape="f" * 64, frame=frame, keep_prepared=True)
    later = preview(asked, plan(asked)).planned
    assert later.reuse
    assert (later.reuse.takeover.is_canonical, later.reuse.takeover.new_pieces) == (True, 1)
    delta = run(asked).manifest
    assert delta.generation == later.generation_id
    assert (delta.delta.examples, delta.delta.shapes) == (400, mixed.delta.shapes)


@pytest.mark.parametrize("change", [grow, shrink, correct_rows], ids=lambda change: change.__name__)
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="tfrecord"),
        pytest.param({"format": "parquet"}, marks=pytest.mark.slow, id="parquet"),
        pytest.param({"shards": 3}, marks=pytest.mark.slow, id="shards"),
    ],
)
def test_tables_come_to_what_a_full_run_comes_to(
    change: Callable[[Path], None], fields: dict[str, Any], tmp_path: Path
):
    source = write(tmp_path / "raw", {"a.csv": rows(0, 200, seed=1), "b.csv": rows(200, 500, seed=2)})
    recipe, output = of_table(**fields), tmp_path / "out"
    made(recipe, source, output)
    change(source)
    delta = made(recipe, source, output)
    assert delta.result.status == "committed"
    if "shards" not in fields:
        assert delta.made.manifest.delta.units == (change is grow)
        assert delta.planned.reuse.takeover.new_pieces == (change is not shrink)
        assert delta.made.manifest.delta.examples == (500 if change is grow else 200)
    expect_table_as_full(delta.made, recipe, source, tmp_path)
    assert made(recipe, source, output).result.status == "up_to_date"


def expect_table_as_full(delta: Made, recipe: Recipe, source: Path, tmp_path: Path) -> None:
    """As `expect_as_full`; Parquet shards have no records."""
    if recipe.format == "tfrecord":
        expect_as_full(delta, recipe, source, tmp_path)
        return
    full = made(recipe, source, tmp_path / "full").made
    for name in ("statistics/statistics.json", "statistics/values.arrow"):
        assert (delta.generation / name).read_bytes() == (full.generation / name).read_bytes(), name
    assert delta.keyed() == full.keyed()


@pytest.mark.parametrize("change", [grow, shrink, correct_rows], ids=lambda change: change.__name__)
@pytest.mark.parametrize("fields", [{}, {"shards": 3}], ids=["free", "shards"])
def test_only_new_ranges_of_a_table_are_read(
    fields: dict[str, Any], change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", 1000)
    source = write(tmp_path / "raw", {"a.csv": rows(0, 200, seed=1), "b.csv": rows(200, 500, seed=2)})
    recipe, output = of_table(features=None, **fields), tmp_path / "out"
    run(request(recipe, source, output, HASH))
    change(source)
    read: list[str] = []
    chunks = TableWorker.chunks

    def counting(self: TableWorker, splits: Any, pieces: Any) -> Any:
        read.extend(each.key for each in pieces)
        return chunks(self, splits, pieces)

    monkeypatch.setattr(TableWorker, "chunks", counting)
    run(request(recipe, source, output, HASH))
    assert set(read) == {grow: {"c.csv"}, shrink: set(), correct_rows: {"b.csv"}}[change]


def test_a_split_rule_that_is_fitted_to_all_rows_is_part_of_what_shapes_them(tmp_path: Path):
    source = write(tmp_path / "raw", {"a.csv": rows(0, 200, seed=1), "b.csv": rows(200, 500, seed=2)})
    recipe, output = of_table(splits=by_hash({"train": 0.8, "test": 0.2}, stratify="word")), tmp_path / "out"
    made(recipe, source, output)
    grow(source)
    anew = made(recipe, source, output)
    assert anew.planned.reuse is None
    assert anew.result.anew
    expect_as_full(anew.made, recipe, source, tmp_path)


def test_what_tells_its_state_says_what_is_taken_over(photos: Path, tmp_path: Path, cli: Any):
    recipe = cli.recipe(
        'source=Images("**/*.png", label=folder()), splits={"train": 0.7, "test": 0.3}',
    )
    assert cli.run(recipe, photos, "--quiet").exit_code == 0
    (photos / "cat/i003.png").unlink()
    add(photos)
    planned = json.loads(cli.run(recipe, photos, "--dry-run", "--json").output)
    assert planned["reuse"]["examples"] == 59
    assert planned["reuse"]["to_prepare"] == 1
    assert planned["reuse"]["in_words"].endswith("; 1 image to prepare")
    said = cli.run(recipe, photos)
    assert planned["reuse"]["in_words"] in said.output
    assert f"taken over from generation {planned['reuse']['base']}: 59 examples" in said.stdout
    log = cli("log", cli.folder / "dataset")
    assert f"taken over from {planned['reuse']['base']}: 59 examples" in log.output
    recipe.write_text(recipe.read_text().replace('"train": 0.7, "test": 0.3', '"train": 0.6, "test": 0.4'))
    planned = json.loads(cli.run(recipe, photos, "--dry-run", "--json").output)
    assert planned["reuse"] == {"in_words": planned["reuse"]["in_words"]}
    assert planned["reuse"]["in_words"].startswith("everything is prepared anew: the source, `prepare`, splits")
    assert planned["reuse"]["in_words"] in cli.run(recipe, photos).stdout


def test_on_a_store_copies_take_the_place_of_links(photos: Path, tmp_path: Path):
    recipe, output = of_images(), "memory://deltas/dataset"
    run(request(recipe, photos, output, HASH))  # type: ignore[arg-type]
    add(photos)
    remove(photos)
    result = run(request(recipe, photos, output, HASH))  # type: ignore[arg-type]
    assert result.manifest.delta
    assert result.manifest.delta.examples == 59
    here = {info.uri[len(output) + 1 :]: files.read_bytes(info.uri) for info in files.list_folder(output)}
    expect_as_full(Made(write(tmp_path / "here", here), result.manifest), recipe, photos, tmp_path)
    assert run(request(recipe, photos, output, HASH)).status == "up_to_date"  # type: ignore[arg-type]


def test_only_files_whose_rows_are_prepared_are_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    monkeypatch.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", 500)
    source = write(tmp_path / "raw", {"a.csv": rows(0, 200, seed=1), "b.csv": rows(200, 500, seed=2)})
    recipe, output = of_table(), tmp_path / "out"
    made(recipe, source, output)
    grow(source)
    asked = request(recipe, source, output, HASH)
    planned = plan(asked)
    assert planned.plan.scans
    assert {each.key for _, group in planned.plan.scans for each in group} == {"c.csv"}
    assert planned.reuse
    assert planned.reuse.full.plan.scans
    result = run(asked)
    expect_as_full(Made(output, result.manifest), recipe, source, tmp_path)
    changed = request(recipe, source, output, HASH, graph="f" * 64)
    assert plan(changed).plan.scans is None
    expect_as_full(Made(output, run(changed).manifest), recipe, source, tmp_path)


def test_rows_that_workers_have_left_out_as_duplicates_are_not_taken_for_kept_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = tmp_path / "raw"
    source.mkdir()
    for name, begin in (("a", 0), ("b", 0), ("c", 300)):
        table = pa.table({"n": np.arange(begin, begin + 200), "x": np.ones(200), "word": ["w"] * 200})
        pq.write_table(table, tmp_path / f"raw/{name}.parquet")
    recipe = of_table(source=Parquet("*.parquet"), deduplicate=True, splits={"train": 1.0}, features=None)
    output = tmp_path / "out"
    asked = request(recipe, source, output, HASH)
    whole = sum(unit.size for unit in plan(asked).plan.units.units)
    monkeypatch.setattr(text_ranges, "READ_WHOLE", whole - 1)
    first = run(asked)
    assert first.manifest.reasons.filtered == {"duplicate": 200}
    (source / "a.parquet").unlink()
    anew = run(asked)
    assert anew.anew.startswith("deduplicate=True: workers compared the rows of generation")
    assert anew.manifest.reasons.filtered == {}
    expect_as_full(Made(output, anew.manifest), recipe, source, tmp_path)


def test_the_page_shows_what_a_run_says():
    (line,) = re.findall("^taken over from .*", (REPOSITORY / "docs/changing-data.md").read_text(), re.MULTILINE)
    counts = {"whole_units": 2, "whole_examples": 1608, "stored_examples": 2390, "new_pieces": 42}
    takeover = Takeover("e6c7f7cd9dfcf8dd", units=[None] * 5, to_prepare=[], is_canonical=False, **counts)  # type: ignore[arg-type]
    planned = SimpleNamespace(reuse=SimpleNamespace(takeover=takeover), plan=SimpleNamespace(table_schema=None))
    assert planned_in_words(planned) == line  # type: ignore[arg-type]
