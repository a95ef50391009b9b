from pathlib import Path

import pytest

from penstock.pipeline.planning.own_modules import own_sources, unsent_modules
from penstock.pipeline.planning.recipe import load_recipe

RECIPE = "from penstock.pipeline import Images, Recipe\nrecipe = Recipe(source=Images('*.jpg'))\n"
FILES = {
    "helper.py": "import circle\n",
    "circle.py": "import helper\n",
    "lazy.py": "",
    "parts/__init__.py": "",
    "parts/one.py": "from . import two\nfrom .deep.three import value\nfrom ... import outside\n",
    "parts/two.py": "x = (",
    "parts/deep/three.py": "from ..four import x",
    "parts/four.py": "",
    "parts/unused.py": "",
    "unused.py": "",
    "random.py": "",
    "penstock/__init__.py": "",
    "penstock/pipeline/__init__.py": "",
    "../outside.py": "",
}


def place(folder: Path, imports: str) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "recipe.py").write_text(imports)
    return folder / "recipe.py"


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ("import numpy as np, random, os.path\nfrom random import random\nfrom penstock import pipeline", []),
        ("import recipe, outside", []),
        ("import helper", ["circle.py", "helper.py"]),
        ("from helper import *", ["circle.py", "helper.py"]),
        ("def step(example):\n    import lazy\n    return example", ["lazy.py"]),
        ("import parts", ["parts/__init__.py"]),
        ("from parts import two, no_module", ["parts/__init__.py", "parts/two.py"]),
        ("import parts.four", ["parts/__init__.py", "parts/four.py"]),
        (
            "from parts.one import two",
            [f"parts/{name}.py" for name in ("__init__", "deep/three", "four", "one", "two")],
        ),
    ],
)
def test_modules_of_its_own_folder_are_found(tmp_path: Path, imports: str, expected: list[str]):
    recipe = place(tmp_path / "own", imports)
    sources = own_sources(recipe, recipe.read_bytes(), recipe.parent)
    assert list(sources) == expected
    assert all(sources[name].decode() == FILES[name] for name in expected)


@pytest.mark.parametrize("module", [False, True])
def test_what_a_recipe_imports_counts_in_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: bool):
    package = tmp_path / "counted"
    recipe = place(package, f"{RECIPE}\ndef step(example):\n    {'from . import lazy' if module else 'import lazy'}\n")
    monkeypatch.chdir(tmp_path)
    spec = "counted.recipe" if module else str(recipe)
    first = load_recipe(spec).hash
    (package / "unused.py").write_text("changed = 1")
    assert load_recipe(spec).hash == first
    (package / "lazy.py").write_text("changed = 1")
    assert load_recipe(spec).hash != first


def test_what_workers_must_have_otherwise_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "unsent_one.py").write_text("")
    (tmp_path / "elsewhere" / "unsent_two.py").write_text("")
    recipe = place(tmp_path / "own", f"{RECIPE}import json, numpy, pytest, unsent_one, counted_helper\n")
    (recipe.parent / "counted_helper.py").write_text("import unsent_two\n")
    for folder in (recipe.parent, tmp_path / "elsewhere"):
        monkeypatch.syspath_prepend(str(folder))
    loaded = load_recipe(str(recipe))
    assert list(loaded.own.sources) == ["counted_helper"]
    assert unsent_modules(recipe, loaded.own) == {
        name: str(tmp_path / "elsewhere" / f"{name}.py") for name in ("unsent_one", "unsent_two")
    }
