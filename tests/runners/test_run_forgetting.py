"""What is to be forgotten leaves no byte in a dataset."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import draw, penstock, run_job, save

from penstock.pipeline import Csv, Images, Recipe, join, table
from penstock.pipeline.commit.prune import remove_unused
from penstock.pipeline.commit.rollback import roll_back
from penstock.pipeline.errors import RequestError
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.planning.forgotten import Forgotten
from penstock.pipeline.sources import text_ranges
from penstock.transforms import image

PIXELS = bytes(range(200, 224))
NAMES = ("canary_name", "canary_label", "canary_joined")


def contents(dataset: Path) -> Iterator[tuple[str, bytes]]:
    """The name of each file, and its bytes; of Arrow files, which are compressed, the values in words as well."""
    for path in sorted(dataset.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if content.startswith(b"ARROW1"):
                with pa.ipc.open_file(path) as reader:
                    content += str(reader.read_all().to_pylist()).encode()
            yield str(path.relative_to(dataset)), content


def files_with(dataset: Path, canary: bytes) -> list[str]:
    return [name for name, content in contents(dataset) if canary in content or canary in name.encode()]


def canaries(dataset: Path) -> dict[bytes, list[str]]:
    """What is left of the canary, and where."""
    found = {canary: files_with(dataset, canary) for canary in (*map(str.encode, NAMES), PIXELS)}
    return {canary: names for canary, names in found.items() if names}


def prune(dataset: Path) -> None:
    assert list(remove_unused(str(dataset)))


def draw_canary(folder: Path) -> Path:
    """Images with masks, labels and a joined table; one of them is the canary."""
    draw(folder, masks=True)
    canary = np.frombuffer(PIXELS * 6, np.uint8).reshape(8, 6, 3)
    save(folder / "images/canary_name.png", canary)
    save(folder / "masks/canary_name.png", np.ones((8, 6), np.uint8))
    stems = sorted(path.stem for path in (folder / "images").iterdir())
    write_lists(folder, stems)
    return folder


def write_lists(folder: Path, stems: list[str]) -> None:
    labels = [f"{stem},{'canary_label' if 'canary' in stem else stem[:3]}" for stem in stems]
    (folder / "labels.csv").write_text("name,label\n" + "\n".join(labels) + "\n")
    rows = [f"{stem},{'canary_joined' if 'canary' in stem else 'usual'}" for stem in stems]
    (folder / "more.csv").write_text("name,more\n" + "\n".join(rows) + "\n")


IMAGES = Recipe(
    source=join(
        Images("images/*.png", mask="masks/{stem}.png", label=table("labels.csv", "name", "label")),
        Csv("more.csv"),
        on="name",
    ),
    encode={"image": image.raw()},
    shards=2,
)


def test_a_removed_image_leaves_no_byte(tmp_path: Path):
    raw, dataset = draw_canary(tmp_path / "raw"), tmp_path / "dataset"
    run_job(IMAGES, raw, dataset, "a" * 64)
    assert canaries(dataset).keys() == {*map(str.encode, NAMES), PIXELS}
    (raw / "images/canary_name.png").unlink()
    (raw / "masks/canary_name.png").unlink()
    write_lists(raw, sorted(path.stem for path in (raw / "images").iterdir()))
    assert run_job(IMAGES, raw, dataset, "a" * 64).status == "committed"
    prune(dataset)
    assert canaries(dataset) == {}


def test_a_forgotten_image_leaves_no_byte(tmp_path: Path):
    raw, dataset = draw_canary(tmp_path / "raw"), tmp_path / "dataset"
    before = run_job(IMAGES, raw, dataset, "a" * 64).manifest
    forget = Forgotten.of(["images/canary_name.png"])
    after = run_job(IMAGES, raw, dataset, "a" * 64, forget=forget).manifest
    assert after.generation != before.generation
    assert (after.read, after.written) == (before.read, before.written - 1)
    assert after.reasons.filtered == {"forgotten": 1}
    prune(dataset)
    assert canaries(dataset) == {}
    again = run_job(IMAGES, raw, dataset, "a" * 64)
    assert (again.status, again.manifest.generation) == ("up_to_date", after.generation)
    save(raw / "images/cat_900.png", np.ones((8, 6, 3), np.uint8))
    save(raw / "masks/cat_900.png", np.ones((8, 6), np.uint8))
    write_lists(raw, sorted(path.stem for path in (raw / "images").iterdir()))
    more = run_job(IMAGES, raw, dataset, "a" * 64).manifest
    assert (more.written, more.reasons.filtered) == (before.written, {"forgotten": 1})
    prune(dataset)
    assert canaries(dataset) == {}


def test_nothing_leads_back_to_what_is_forgotten(tmp_path: Path):
    raw, dataset = draw_canary(tmp_path / "raw"), tmp_path / "dataset"
    first = run_job(IMAGES, raw, dataset, "a" * 64).manifest
    other = run_job(replace(IMAGES, shards=1), raw, dataset, "b" * 64).manifest
    assert roll_back(str(dataset))[0].generation == first.generation
    forget = Forgotten.of(["images/canary_name.png"])
    last = run_job(IMAGES, raw, dataset, "a" * 64, forget=forget).manifest
    for generation in (first.generation, other.generation):
        with pytest.raises(RequestError, match="expected a generation without what is forgotten"):
            roll_back(str(dataset), generation)
    again = run_job(replace(IMAGES, shards=1), raw, dataset, "b" * 64).manifest
    assert (again.written, again.reasons.filtered) == (last.written, {"forgotten": 1})
    assert roll_back(str(dataset), last.generation)[0].generation == last.generation


def test_a_forgotten_image_of_no_use_is_not_named(tmp_path: Path):
    raw, dataset = draw_canary(tmp_path / "raw"), tmp_path / "dataset"
    (raw / "images/canary_name.png").write_bytes(b"no image")
    options: dict[str, Any] = {"max_quarantined": "50%"}
    run_job(IMAGES, raw, dataset, "a" * 64, **options)
    assert b"canary_name" in canaries(dataset)
    (raw / "masks/canary_name.png").rename(raw / "masks/canary_name_.png")  # its image is there, but not its mask
    run_job(IMAGES, raw, dataset, "a" * 64, forget=Forgotten.of(["images/canary_name.png"]), **options)
    prune(dataset)
    left = files_with(dataset, b"canary_name")
    assert all(b"canary_name_" in dict(contents(dataset))[name] for name in left)


def write_tables(folder: Path, canary: str = "canary_label") -> Path:
    folder.mkdir(exist_ok=True)
    rows = [f"person{number},{number},{number % 3}" for number in range(40)]
    rows[7] = f"canary_name,{canary},9"
    (folder / "people.csv").write_text("name,amount,town\n" + "\n".join(rows) + "\n")
    (folder / "towns.csv").write_text("town,place\n0,a\n1,b\n2,c\n9,canary_joined\n")
    return folder


TABLES = Recipe(source=join(Csv("people.csv"), Csv("towns.csv"), on="town"), shards=1, shuffle=None)


@pytest.mark.parametrize(
    "recipe",
    [
        TABLES,
        replace(TABLES, deduplicate=True),
        replace(
            TABLES,
            source=join(Csv("people.csv", columns={"amount": "int64", "*": "auto"}), Csv("towns.csv"), on="town"),
        ),
    ],
)
def test_a_forgotten_row_leaves_no_byte(tmp_path: Path, recipe: Recipe):
    raw, dataset = write_tables(tmp_path / "raw"), tmp_path / "dataset"
    options: dict[str, Any] = {"max_quarantined": "50%"}
    before = run_job(recipe, raw, dataset, "a" * 64, **options).manifest
    assert b"canary_label" in canaries(dataset)
    forget = Forgotten.of(["people.csv:7"])
    after = run_job(recipe, raw, dataset, "a" * 64, forget=forget, **options).manifest
    assert after.read == before.read
    assert after.written == 39
    assert after.reasons.filtered == {"forgotten": 1}
    assert not after.reasons.quarantined
    prune(dataset)
    assert {name for names in canaries(dataset).values() for name in names} == set()
    assert run_job(recipe, raw, dataset, "a" * 64, **options).status == "up_to_date"


def test_a_row_of_a_large_file_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    monkeypatch.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", 64)
    raw, dataset = write_tables(tmp_path / "raw"), tmp_path / "dataset"
    recipe = replace(TABLES, shards=3)
    before = run_job(recipe, raw, dataset, "a" * 64).manifest
    assert b"canary_label" in canaries(dataset)
    after = run_job(recipe, raw, dataset, "a" * 64, forget=Forgotten.of(["people.csv:7"])).manifest
    assert (after.written, after.reasons.filtered) == (before.written - 1, {"forgotten": 1})
    prune(dataset)
    assert {name for names in canaries(dataset).values() for name in names} == set()


def test_a_removed_row_leaves_no_byte(tmp_path: Path):
    raw, dataset = write_tables(tmp_path / "raw"), tmp_path / "dataset"
    run_job(TABLES, raw, dataset, "a" * 64)
    assert canaries(dataset).keys() == set(map(str.encode, NAMES))
    lines = (raw / "people.csv").read_text().splitlines(True)
    (raw / "people.csv").write_text("".join(line for line in lines if "canary" not in line))
    (raw / "towns.csv").write_text("town,place\n0,a\n1,b\n2,c\n")
    run_job(TABLES, raw, dataset, "a" * 64)
    prune(dataset)
    assert canaries(dataset) == {}


def test_the_command_forgets(tmp_path: Path):
    raw = draw(tmp_path / "raw")
    (tmp_path / "recipe.py").write_text(
        "from penstock.pipeline import Images, Recipe\nrecipe = Recipe(source=Images('images/*.png'))\n"
    )
    (tmp_path / "keys.txt").write_text("images/cat_001.png\nimages/no_such.png\n")
    command = ["run", tmp_path / "recipe.py", "--input", raw, "--output", tmp_path / "dataset", "--json"]
    ended = penstock(*command, "--forget", tmp_path / "keys.txt")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["written"], result["reasons"]["filtered"]) == (11, {"forgotten": 1})
    manifest = Manifest.load(str(tmp_path / "dataset"))
    assert manifest.units
    assert manifest.units.forgotten
    assert manifest.units.forgotten.examples == 2
    assert json.loads(penstock(*command).stdout)["status"] == "up_to_date"
