"""How many examples may be quarantined: what is allowed, what is refused, and what is said before any work."""

from pathlib import Path

import numpy as np
import pytest
from helpers import LABEL, draw, request, save, write

from penstock.pipeline import Csv, Images, OverBudgetError, Recipe
from penstock.pipeline.commit.budget import Budget
from penstock.pipeline.job import check_budget, plan


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        ("25", (25, 10), (26, 10**6)),
        ("0", (0, 10), (1, 10**6)),
        ("1", (1, 10), (2, 10**6)),
        ("1%", (1, 100), (1, 99)),
        ("29%", (29, 100), (30, 100)),
        ("7%", (7, 100), (8, 100)),
        ("0.01", (6, 600), (7, 600)),
        ("0.0", (0, 10), (1, 10**6)),
        ("100%", (10, 10), None),
        ("1.0", (10, 10), None),
        ("1e-3", (1, 1000), (2, 1000)),
    ],
)
def test_budgets(text: str, allowed: tuple[int, int], refused: tuple[int, int] | None):
    budget = Budget.parse(text)
    assert budget.allows(*allowed)
    assert budget.allows(0, 0)
    assert refused is None or not budget.allows(*refused)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101%", "many", "nan", "nan%", "inf", "1 %%", "-0.1", "²"])
def test_what_is_no_budget(text: str):
    with pytest.raises(ValueError, match="expected a count such as 25, or a fraction"):
        Budget.parse(text)


def test_the_words_of_an_excess():
    budget = Budget.parse("1%")
    assert budget.excess({"empty": 1}, 100, {}) is None
    words = "3 of 100 examples were quarantined (wrong_type 2, empty 1), expected at most 0.01 of those read"
    assert budget.excess({"empty": 1, "wrong_type": 2}, 100, {}) == words
    examples = {"empty": "a.csv:3: expected\na value", "wrong_type": "x" * 1000}
    shown = budget.excess({"empty": 1, "wrong_type": 2}, 100, examples)
    assert shown == f"{words}; such as wrong_type: {'x' * 240}; empty: a.csv:3: expected a value"


def check(recipe: Recipe, source: Path, budget: str) -> None:
    asked = request(recipe, source, Path("/nowhere/dataset"), max_quarantined=budget)
    check_budget(asked, plan(asked))


def test_a_plan_that_is_over_budget_is_refused_with_the_words_of_the_run(tmp_path: Path):
    raw = draw(tmp_path / "raw", 10, masks=True)
    (raw / "masks" / "cat_001.png").unlink()
    (raw / "masks" / "cat_002.png").unlink()
    masked = Recipe(source=Images("images/*.png", mask="masks/{stem}.png", label=LABEL))
    words = r"2 of 10 examples were quarantined \(mask_missing 2\), expected at most 1 .*; such as mask_missing: images"
    with pytest.raises(OverBudgetError, match=words):
        check(masked, raw, "1")
    check(masked, raw, "2")


def test_images_that_were_tried_count_too(tmp_path: Path):
    for number in range(4):
        save(tmp_path / "images" / f"whole_{number}.png", np.zeros((4, 4, 3)))
        (tmp_path / "images" / f"broken_{number}.png").write_bytes(b"no image")
    recipe = Recipe(source=Images("images/*.png"), shuffle=None)
    with pytest.raises(OverBudgetError, match="of 8 examples were quarantined"):
        check(recipe, tmp_path, "0")
    check(recipe, tmp_path, "4")


def test_rows_of_a_table_that_were_tried_count_too(tmp_path: Path):
    raw = write(tmp_path, {"a.csv": "n,t\nmany,x\n1,y\n", "b.csv": "n,t\n2,z\n"})
    fields = {"n": "int64", "t": "string"}
    with pytest.raises(OverBudgetError, match="1 of 2 examples were quarantined"):
        check(Recipe(source=Csv("a.csv", columns=fields)), raw, "10%")
    check(Recipe(source=Csv("*.csv", columns=fields)), raw, "1")
