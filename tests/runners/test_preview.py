"""A few examples raw, prepared and transformed, without anything being written."""

from pathlib import Path

import numpy as np
from helpers import LABEL, draw, standard_recipe, write

from penstock.pipeline import Csv, Images, Recipe
from penstock.runners.preview import preview
from penstock.transforms import image


def test_images_are_shown_at_each_stage_and_damaged_ones_are_named(tmp_path: Path):
    raw = draw(tmp_path / "raw", 12, masks=True)
    (raw / "images" / "cat_001.png").write_bytes(b"no image")
    before = sorted(raw.rglob("*"))
    recipe = standard_recipe(
        source=Images("images/*.png", mask="masks/{stem}.png", label=LABEL), prepare=[image.resize(4, 4)]
    )
    shown = preview(recipe, str(raw), n=12)
    assert [example["image"].shape for example in shown.raw] == [(8, 6, 3)] * 11
    assert [example["image"].shape for example in shown.prepared] == [(4, 4, 3)] * 11
    pixels = np.stack([example["image"] for example in shown.transformed])
    assert abs(float(pixels.mean())) < 0.01  # standardized by these examples' own statistics
    (lost,) = shown.quarantined
    assert lost["key"] == "images/cat_001.png"
    assert lost["code"] in repr(shown)
    assert shown._repr_html_().count("data:image/png") >= 33
    assert sorted(raw.rglob("*")) == before


def test_rows_are_shown_and_escaped(tmp_path: Path):
    raw = write(tmp_path / "raw", {"a.csv": "n,t\n" + "".join(f"{n},<b>{n}\n" for n in range(50))})
    recipe = Recipe(source=Csv("a.csv"), features=lambda inputs: {"twice": inputs["n"] * 2})
    shown = preview(recipe, str(raw), n=5)
    assert [row["n"] for row in shown.raw] == [0, 1, 2, 3, 4]
    assert sorted(int(row["n"]) for row in shown.prepared) == [0, 1, 2, 3, 4]
    assert sorted(int(row["twice"]) for row in shown.transformed) == [0, 2, 4, 6, 8]
    assert "&lt;b&gt;3" in shown._repr_html_()
    assert "<b>3" not in shown._repr_html_()
