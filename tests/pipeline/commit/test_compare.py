"""What differs between two generations: against what was done to the input between them."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import draw, run_job, save, write

from penstock.pipeline import Csv, DatasetError, Images, Recipe, RequestError, Union, join, table
from penstock.pipeline.commit.compare import Version, choose, compare
from penstock.pipeline.commit.drift import measure
from penstock.pipeline.formats.generations import load_generation
from penstock.transforms import image

NOTHING = {"count": 0, "splits": {}, "keys": []}


def two(recipe: Recipe, raw: Path, output: Path, change: Any, other: Recipe | None = None) -> dict[str, Any]:
    """What differs after a change of the input."""
    first = run_job(recipe, raw, output, "1" * 64, max_quarantined="100%").manifest
    change()
    second = run_job(other or recipe, raw, output, "1" * 64 if other is None else None, max_quarantined="100%").manifest
    assert second.generation != first.generation
    return compare(Version(str(output), first), Version(str(output), second))


def test_what_was_done_to_images_is_what_is_told(tmp_path: Path):
    raw = draw(tmp_path / "raw", 12, masks=True)
    names = sorted(path.name for path in (raw / "images").iterdir())
    (raw / "labels.csv").write_text("name,label\n" + "".join(f"{name},cat\n" for name in names))
    (raw / "more.csv").write_text("name,n\n" + "".join(f"{name},{at}\n" for at, name in enumerate(names)))
    source = Images("images/*.png", mask="masks/{stem}.png", label=table("labels.csv", "name", "label"))
    recipe = Recipe(
        source=join(source, Csv("more.csv"), on="name"),
        prepare=[image.resize(8, 8)],
        splits={"train": 0.5, "test": 0.5},
    )

    def change() -> None:
        images, masks = raw / "images", raw / "masks"
        (images / names[0]).unlink()
        shutil.copy(images / names[1], images / "new.png")
        shutil.copy(masks / names[1], masks / "new.png")
        save(images / "new.png", np.full((9, 9, 3), 77))
        save(masks / "new.png", np.full((9, 9), 1))
        (images / names[2]).write_bytes((images / names[3]).read_bytes())
        (images / names[4]).rename(images / "renamed.png")
        (masks / names[4]).rename(masks / "renamed.png")
        save(masks / names[5], np.asarray(np.zeros((1, 1)), np.uint8))  # of another size: quarantined
        content = bytearray((masks / names[6]).read_bytes())
        (masks / names[6]).write_bytes(bytes(content) + b" ")
        rows = [(name, "dog" if name == names[7] else "cat") for name in [*names, "new.png", "renamed.png"]]
        (raw / "labels.csv").write_text("name,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
        numbers = [(name, 99 if name == names[8] else at) for at, name in enumerate(names)]
        numbers += [("new.png", 1), ("renamed.png", 4)]
        (raw / "more.csv").write_text("name,n\n" + "".join(f"{name},{number}\n" for name, number in numbers))

    told = two(recipe, raw, tmp_path / "dataset", change)
    examples = told["examples"]
    keys = [f"images/{name}" for name in names]
    assert examples["added"]["keys"] == ["images/new.png"]
    assert examples["removed"]["keys"] == [keys[0], keys[5]]
    assert examples["changed"]["keys"] == [keys[2]]
    assert examples["moved"] == {"count": 1, "keys": [[keys[4], "images/renamed.png"]]}
    assert examples["relabelled"] == {"count": 1, "keys": [keys[7]], "pairs": [["cat", "dog", 1]]}
    assert examples["described"] == {"count": 2, "keys": [keys[6], keys[8]]}
    assert examples["unchanged"] == 12 - 4
    assert sum(examples["removed"]["splits"].values()) == 2
    assert told["counts"]["quarantined"] == [0, 1]
    assert told["origins"] == {"recipe": None, "input": True, "versions": {}, "options": {}}
    assert {"n", "image"} <= told["statistics"].keys() | {"n", "image"}


def test_rows_are_told_by_their_content_wherever_they_are(tmp_path: Path):
    rows = [f"{number},w{number % 3}" for number in range(60)]
    raw = write(tmp_path / "raw", {"a.csv": "\n".join(["n,t", *rows]) + "\n"})

    def change() -> None:
        (raw / "a.csv").write_text("\n".join(["n,t", "-1,new", *rows[:30], "300,w0", *rows[31:59], rows[0]]) + "\n")

    told = two(Recipe(source=Csv("*.csv"), splits={"train": 1}), raw, tmp_path / "dataset", change)
    examples = told["examples"]
    assert examples["added"]["count"] == 3  # -1, 300, and the first row once more
    assert examples["removed"]["count"] == 2  # 30 and 59
    assert examples["changed"] == NOTHING
    assert (examples["unchanged"], examples["moved"]["count"]) == (0, 58)
    assert told["statistics"]["n"]["max"] == [59.0, 300.0]
    assert told["drift"]["t"]["shares"] == pytest.approx(
        _distance(rows, [*rows[:30], "300,w0", *rows[31:59], rows[0], "-1,new"])
    )


def _distance(before: list[str], after: list[str]) -> float:
    was, now = (Counter(row.partition(",")[2] for row in rows) for rows in (before, after))
    return sum(abs(was[word] / was.total() - now[word] / now.total()) for word in was | now) / 2


def test_rows_that_changed_in_place(tmp_path: Path):
    raw = write(tmp_path / "raw", {"a.csv": "n\n1\n2\n3\n4\n"})
    told = two(
        Recipe(source=Csv("*.csv")), raw, tmp_path / "dataset", lambda: (raw / "a.csv").write_text("n\n1\n5\n3\n4\n")
    )
    assert told["examples"]["changed"] == {"count": 1, "splits": {"train": 1}, "keys": ["a.csv:1"]}
    assert told["examples"]["unchanged"] == 3
    assert told["examples"]["added"] == told["examples"]["removed"] == NOTHING


def test_columns_and_recipes_that_differ(tmp_path: Path):
    raw = write(tmp_path / "raw", {"a.csv": "n,t,u\n1,a,7\n2,b,7\n"})
    recipe = Recipe(source=Csv("*.csv"))
    other = Recipe(source=Csv("*.csv"), seed=3)
    told = two(recipe, raw, tmp_path / "d", lambda: (raw / "a.csv").write_text("n,t,v\n1,7,x\n2,8,y\n"), other)
    assert told["schema"] == [
        "missing column 'u' (int64)",
        "new column 'v' (string)",
        "new type of column 't': int64, was string",
    ]
    assert told["features"].keys() == {"u", "v", "t"}
    assert told["features"]["u"][1] is None
    assert told["origins"]["options"] == {"seed": [0, 3]}
    assert told["origins"]["recipe"][0] == "1" * 64


def test_examples_of_one_key_are_told_apart(tmp_path: Path):
    """A union may read one file twice: then two rows have one key."""
    raw = write(tmp_path / "raw", {"a.csv": "n\n1\n2\n"})
    recipe = Recipe(source=Union({"first": Csv("a.csv"), "second": Csv("a.csv")}, tag=None))
    told = two(recipe, raw, tmp_path / "dataset", lambda: (raw / "a.csv").write_text("n\n1\n2\n3\n"))
    assert told["examples"]["added"]["keys"] == ["a.csv:2", "a.csv:2"]
    assert told["examples"]["unchanged"] == 4


def test_two_generations_and_two_datasets_are_chosen(tmp_path: Path):
    raw = write(tmp_path / "raw", {"a.csv": "n\n1\n2\n"})
    recipe = Recipe(source=Csv("*.csv"))
    output, other = tmp_path / "dataset", tmp_path / "other"
    ids = []
    for number in (1, 2):
        (raw / "a.csv").write_text(f"n\n{number}\n")
        ids.append(run_job(recipe, raw, output, str(number) * 64).manifest.generation)
    alone = run_job(recipe, raw, other, "1" * 64).manifest.generation

    def chosen(*names: str | None) -> list[tuple[str, str]]:
        return [(each.dataset, each.manifest.generation) for each in choose(str(output), *names)]

    here = str(output)
    assert chosen(ids[0], None) == [(here, ids[0]), (here, ids[1])]
    assert chosen(ids[1], ids[0]) == [(here, ids[1]), (here, ids[0])]
    assert chosen(f"{other}/", None) == [(here, ids[1]), (str(other), alone)]
    assert chosen(ids[0], str(other)) == [(here, ids[0]), (str(other), alone)]
    with pytest.raises(RequestError, match="made before the current one, found none"):
        choose(str(other), None, None)
    same = compare(*choose(str(other), alone, None))
    assert (same["examples"]["unchanged"], same["counts"], same["statistics"]) == (1, {}, {})

    hashes = next((output / ids[0] / "units").glob("*.arrow"))
    manifest = load_generation(here, ids[0])[0]
    for path in (output / ids[0] / "units").glob("0*.arrow"):
        path.write_bytes(b"damaged")
    assert hashes.exists()
    with pytest.raises(DatasetError, match="expected SHA-256"):
        compare(Version(here, manifest), Version(here, manifest))


def number(mean: Any, std: Any, missing: int = 0, count: int = 10) -> dict[str, Any]:
    return {"kind": "number", "mean": mean, "std": std, "missing": missing, "count": count}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (number(1.0, 2.0), number(2.0, 9.0), {"mean": 0.5, "missing": 0.0}),
        (number(1.0, 0.0), number(2.0, 4.0), {"mean": 0.25, "missing": 0.0}),
        (number(1.0, 0.0), number(1.0, 0.0), {"mean": 0.0, "missing": 0.0}),
        (number(1.0, 1.0, 0), number(1.0, 1.0, 10), {"mean": 0.0, "missing": 0.5}),
        (number(1.0, 1.0, 10), number(1.0, 1.0, 0), {"mean": 0.0, "missing": 0.0}),
        (
            {"kind": "image", "mean": [1, 2], "std": [1, 2]},
            {"kind": "image", "mean": [2, 6], "std": [1, 1]},
            {"mean": 2.0},
        ),
        ({"kind": "image", "mean": [1, 2], "std": [1, 2]}, {"kind": "image", "mean": [2], "std": [1]}, {}),
        ({"kind": "label", "counts": {"a": 1, "b": 3}}, {"kind": "label", "counts": {"b": 1, "c": 1}}, {"shares": 0.5}),
        ({"kind": "mask", "classes": {"1": 4}}, {"kind": "mask", "classes": {"2": 4}}, {"shares": 1.0}),
        (
            {"kind": "text", "top": {"a": 1}, "distinct": 9, "missing": 0, "count": 9},
            {"kind": "text", "top": {"b": 1}, "distinct": 1, "missing": 0, "count": 9},
            {"missing": 0.0},
        ),
    ],
)
def test_how_far_values_moved(before: dict[str, Any], after: dict[str, Any], told: dict[str, float]):
    shifts = measure({"features": {"x": before, "y": before}}, {"features": {"x": after, "z": after}})
    assert {name: shift.to_json() for name, shift in shifts.items()} == {"x": told}


def test_a_constant_that_became_another_one_moved_further_than_any_limit():
    (shift,) = measure({"features": {"x": number(1.0, 0.0)}}, {"features": {"x": number(2.0, 0.0)}}).values()
    assert shift.mean == float("inf")
    assert shift.to_json()["mean"] > 1e300
