"""What README and docs name is there: files, functions, and the recipe that they show."""

import importlib
import re
from pathlib import Path

import pytest
from helpers import REPOSITORY

import penstock

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MODULES = ("categorical", "columns", "dates", "image", "numeric", "text")
PATH = re.compile(r"(?<![\w/])(?:pipeline|transforms|runners|examples|benchmarks|docs|tests)/[\w/]+\.(?:py|md)\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path):
    assert [path for path in PATH.findall(page.read_text()) if not (REPOSITORY / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_that_are_named_exist(page: Path):
    for module, function in re.findall(rf"`({'|'.join(MODULES)})\.(\w+)", page.read_text()):
        assert hasattr(importlib.import_module(f"penstock.transforms.{module}"), function), f"{module}.{function}"
    for names in re.findall(r"from penstock import ([\w, ]+)", page.read_text()):
        for each in names.split(", "):
            assert hasattr(penstock, each), each


def test_the_readmes_recipe_is_the_example():
    (recipe, *_) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert recipe == (REPOSITORY / "examples/pets.py").read_text()


def test_the_map_names_every_module_and_no_other():
    page = (REPOSITORY / "docs/architecture.md").read_text()
    map_ = page[page.index("## The map") : page.index("## Three walks")]
    modules = {
        path.stem
        for folder in ("transforms", "pipeline", "runners")
        for path in (REPOSITORY / folder).rglob("*.py")
        if not path.stem.startswith("__")
    }
    named = set(re.findall(r"\w+", map_))
    others = {"by_hash", "by_list", "test_architecture"}  # names of other things
    assert modules - named == set()
    assert {word for word in named if re.fullmatch(r"[a-z]+_[a-z_]+", word)} - modules - others == set()
