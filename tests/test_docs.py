"""What README and docs name is there: files, functions, and the recipe that they show."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import REPOSITORY

import penstock

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MODULES = ("categorical", "columns", "dates", "image", "numeric", "text")
INTERNAL = {"as_text", "find", "put", "steps_of_scaled"}  # of transforms, for other modules of Penstock's
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


def test_the_reference_has_every_public_name():
    pages = "\n".join(path.read_text() for path in (REPOSITORY / "docs/reference").glob("*.md"))
    described = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", pages, re.MULTILINE))
    assert set(penstock.__all__) - {"__version__"} - described == set()
    for module, members in re.findall(r"automodule:: penstock\.transforms\.(\w+)\n +:members: (.+)", pages):
        tree = ast.parse((REPOSITORY / f"transforms/{module}.py").read_text())
        functions = {each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_"}
        assert functions - set(members.split(", ")) - INTERNAL == set(), module


def test_a_broken_link_of_the_site_is_found(tmp_path: Path):
    (tmp_path / "index.html").write_text('<p id="top"><a href="other.html#part"></a><a href="#top"></a></p>')
    command = [sys.executable, str(REPOSITORY / "docs/check_links.py"), str(tmp_path)]
    for other, is_broken in (("", True), ('<p id="part">', False), ("<a href=gone.png>", True)):
        (tmp_path / "other.html").write_text(other)
        assert bool(subprocess.run(command, capture_output=True).returncode) == is_broken, other


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
