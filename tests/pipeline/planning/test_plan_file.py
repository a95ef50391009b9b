from pathlib import Path

import pyarrow as pa
import pytest
from helpers import draw, plan_job

from penstock.pipeline import Csv, Images, Recipe, join
from penstock.pipeline.planning import plan_file, selection
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


def test_many_references_are_joined_before_they_are_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    raw = draw(tmp_path / "raw", 9, masks=True)
    recipe = Recipe(
        source=Images("images/*.png", mask="masks/{stem}.png"), splits={"train": 0.5, "test": 0.5}, shards=2
    )
    at_once = list(plan_job(recipe, raw).units)
    monkeypatch.setattr(selection, "_JOINED_AND_SORTED", 0)
    assert list(plan_job(recipe, raw).units) == at_once
