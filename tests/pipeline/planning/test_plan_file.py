import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import draw, plan_job

from penstock.pipeline import Csv, Images, Recipe, join
from penstock.pipeline.planning import plan_file, selection
from penstock.pipeline.storage import files
from penstock.transforms import image


def test_units_come_back_with_their_references(tmp_path: Path):
    raw = draw(tmp_path / "raw", 9, masks=True)
    names = sorted(path.name for path in (raw / "images").iterdir())
    lines = [f"{name},{number / 4},{'' if number == 3 else number},é{number}" for number, name in enumerate(names)]
    (raw / "more.csv").write_text("\n".join(["name,x,n,text", *lines]) + "\n")
    source = join(Images("images/*.png", mask="masks/{stem}.png", label=r"(.+)_\d+"), Csv("more.csv"), on="name")
    plan = plan_job(Recipe(source=source, shards=4, prepare=[image.resize(4, 4)]), raw)
    plan.units.write(str(tmp_path / "plan.arrow"))
    found = [plan_file.read_unit(str(tmp_path / "plan.arrow"), number) for number in range(4)]
    assert [unit for unit, _ in found] == plan.units.units
    assert found == list(plan.units)
    references = sorted(reference for _, pieces in found for reference in pieces)
    assert [reference.key for reference in references] == [f"images/{name}" for name in names]
    assert [reference.columns for reference in references] == [
        {"x": number / 4, "n": None if number == 3 else number, "text": f"é{number}"} for number in range(9)
    ]
    first = references[0]
    assert (first.label, first.mask, first.etag) == ("cat", f"{raw}/masks/{names[0]}", "")
    assert first.size == (raw / "images" / names[0]).stat().st_size


def test_a_units_description_is_beside_its_batch_alone(tmp_path: Path):
    """Workers read one unit each: nothing that they read may grow with the number of units but the file's footer."""
    raw = draw(tmp_path / "raw", 30)
    sizes = []
    for shards in (2, 30):
        plan = plan_job(Recipe(source=Images("images/*.png"), shards=shards), raw)
        plan.units.write(str(tmp_path / "plan.arrow"))
        with pa.ipc.open_file(str(tmp_path / "plan.arrow")) as reader:
            sizes.append(reader.schema.serialize().size)
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("shards", [1, 5])
def test_the_units_alone_are_in_a_file_of_their_own(tmp_path: Path, shards: int):
    raw = draw(tmp_path / "raw", 7)
    units = plan_job(Recipe(source=Images("images/*.png"), shards=shards), raw).units
    (tmp_path / "units.jsonl").write_bytes(units.lines())
    assert plan_file.read_units(str(tmp_path / "units.jsonl")) == units.units
    assert sum(unit.examples for unit in units.units) == 7


def with_base(planned: plan_file.PlannedUnits, path: Path) -> plan_file.PlannedUnits:
    """The same units, of which the first is one of a base and the others hold what its unit 7 has, but for a first."""
    planned.write(str(path))
    reader = pa.ipc.open_file(path.read_bytes())
    units = []
    for unit in planned.units:
        batch = reader.get_batch(unit.index)
        bases = [None, *[7] * (len(batch) - 1)]
        stored = batch.append_column(plan_file.BASE, pa.array(bases, pa.int32()))
        stored = stored.append_column(plan_file.BASE_PLACE, pa.array([None, *range(len(batch) - 1)], pa.int32()))
        units.append((replace(unit, base=None if unit.index else 3), stored))
    return plan_file.PlannedUnits(iter(units))


@pytest.mark.parametrize("kind", ["images", "table"])
def test_units_say_what_a_base_has_of_them(tmp_path: Path, kind: str):
    if kind == "images":
        recipe, raw = Recipe(source=Images("images/*.png"), shards=2), draw(tmp_path / "raw", 7)
    else:
        recipe, raw = Recipe(source=Csv("*.csv"), shards=2), tmp_path
        for name in "abcd":
            (raw / f"{name}.csv").write_text("x\n1\n2\n")
    plan = plan_job(recipe, raw)
    units = with_base(plan.units, tmp_path / "plan.arrow")
    units.write(str(tmp_path / "delta.arrow"))
    with plan_file.PlanReader(str(tmp_path / "plan.arrow")) as planned:
        full = [planned.read(number) for number in range(2)]
    with plan_file.PlanReader(str(tmp_path / "delta.arrow")) as reader:
        first, second = (reader.read(number) for number in range(2))
    assert [inputs.stored for inputs in full] == [[None] * len(inputs.pieces) for inputs in full]
    assert (first.unit, second.unit) == (replace(full[0].unit, base=3), full[1].unit)
    assert (first.pieces, second.pieces) == (full[0].pieces, full[1].pieces)
    assert second.stored == [None, *((7, place) for place in range(len(second.pieces) - 1))]
    assert (full[1].is_stored, second.is_stored) == (False, True)
    assert units.prepared_keys() == {second.pieces[0].key}
    assert units.units == [first.unit, second.unit]
    (tmp_path / "units.jsonl").write_bytes(units.lines())
    assert plan_file.read_units(str(tmp_path / "units.jsonl")) == units.units
    versions = plan.inventory.versions
    kept = units.keep(str(tmp_path / "delta"), versions), plan.units.keep(str(tmp_path / "full"), versions)
    assert kept[0] == kept[1]  # what a unit read does not follow from whether it was taken over


def test_many_references_are_joined_before_they_are_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    raw = draw(tmp_path / "raw", 9, masks=True)
    recipe = Recipe(
        source=Images("images/*.png", mask="masks/{stem}.png"), splits={"train": 0.5, "test": 0.5}, shards=2
    )
    at_once = list(plan_job(recipe, raw).units)
    monkeypatch.setattr(selection, "_JOINED_AND_SORTED", 0)
    assert list(plan_job(recipe, raw).units) == at_once


def inputs_of(recipe: Recipe, raw: Path, root: Path) -> pa.Table:
    planned = plan_job(recipe, raw)
    stored = planned.units.keep(str(root), planned.inventory.versions)
    assert (stored.bytes, stored.sha256) == (
        (root / stored.path).stat().st_size,
        files.sha256(str(root / stored.path))[0],
    )
    return pa.ipc.open_file((root / stored.path).read_bytes()).read_all()


def test_what_images_were_read_is_kept_without_where_they_were(tmp_path: Path):
    raw = draw(tmp_path / "raw", 7, masks=True)
    recipe = Recipe(source=Images("images/*.png", mask="masks/{stem}.png", label=r"(.+)_\d+"), shards=2)
    kept = inputs_of(recipe, raw, tmp_path / "kept")
    shutil.copytree(raw, tmp_path / "elsewhere")  # with the same times of change
    assert inputs_of(recipe, tmp_path / "elsewhere", tmp_path / "again").equals(kept)
    rows = sorted(kept.to_pylist(), key=lambda row: row["key"])
    image, mask = raw / "images" / "cat_001.png", raw / "masks" / "cat_001.png"
    assert (rows[0]["key"], rows[0]["label"], rows[0]["mask_key"]) == ("images/cat_001.png", "cat", "masks/cat_001.png")
    assert (rows[0]["size"], rows[0]["modified"]) == (image.stat().st_size, image.stat().st_mtime)
    assert (rows[0]["mask_size"], rows[0]["mask_modified"]) == (mask.stat().st_size, mask.stat().st_mtime)
    os.utime(mask, (1, 1))
    (changed,) = {*map(str, inputs_of(recipe, raw, tmp_path / "new").to_pylist())} - {*map(str, kept.to_pylist())}
    assert "cat_001" in changed


def test_what_lies_in_memory_where_numbers_are_missing_is_not_kept(tmp_path: Path):
    raw = draw(tmp_path / "raw", 8)
    (raw / "more.csv").write_text(
        "name,n\n" + "".join(f"{path.name},\n" for path in (raw / "images").iterdir()) + "x,1\n"
    )
    recipe = Recipe(source=join(Images("images/*.png"), Csv("more.csv"), on="name"))
    planned = plan_job(recipe, raw)
    planned.units.write(str(tmp_path / "plan.arrow"))
    with pa.ipc.open_file((tmp_path / "plan.arrow").read_bytes()) as reader:
        batch = reader.get_batch(0)
    leftover = pa.py_buffer(np.full(8, 86420))
    columns = pa.StructArray.from_arrays(
        [pa.Array.from_buffers(pa.int64(), 8, [pa.py_buffer(bytes(1)), leftover])],
        batch.schema.field("columns").type.names,
    )
    at = batch.schema.get_field_index("columns")
    units = plan_file.PlannedUnits(
        iter([(planned.units.units[0], batch.set_column(at, batch.schema.field(at), columns))])
    )
    units.keep(str(tmp_path / "kept"), {})
    with pa.ipc.open_file((tmp_path / "kept/units/inputs.arrow").read_bytes()) as reader:
        (numbers,) = reader.get_batch(0)["columns"].flatten()
    assert numbers.null_count == 8
    assert not np.frombuffer(numbers.buffers()[1], np.int64).any()


def test_what_ranges_were_read_is_kept_with_the_versions_of_their_files(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("x\n1\n2\n")
    rows = inputs_of(Recipe(source=Csv("*.csv")), tmp_path, tmp_path / "kept").to_pylist()
    assert [(row["key"], row["rows"]) for row in rows] == [("a.csv", 2), ("b.csv", 2)]
    assert [row["version"] for row in rows] == [f"6\x00{(tmp_path / row['key']).stat().st_mtime!r}" for row in rows]
    os.utime(tmp_path / "b.csv", (1, 1))
    again = inputs_of(Recipe(source=Csv("*.csv")), tmp_path, tmp_path / "new").to_pylist()
    assert [row["version"] for row in again] == [rows[0]["version"], "6\x001.0"]
    os.utime(tmp_path / "b.csv", (0, 0))  # as archives that are to be reproducible have all files: it tells nothing
    untold = inputs_of(Recipe(source=Csv("*.csv")), tmp_path, tmp_path / "untold").to_pylist()
    assert [row["version"] for row in untold] == [rows[0]["version"], ""]
