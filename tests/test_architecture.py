"""What may import what: the rooms of docs/architecture.md, from the lowest to the highest."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import REPOSITORY

FOLDERS = ("transforms", "pipeline", "runners")
MODULES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
IN_MEMORY = "transforms/memory_file.py"  # whose files have no names
HEAVY = ("apache_beam", "tensorflow", "tensorflow_transform", "tfx_bsl")
OUTPUT = ("apache_beam", "os", "pathlib", "shutil", "tempfile", "socket", "subprocess", "urllib", "requests", "fsspec")


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The absolute names of all that a module imports."""
    package = ["penstock", *path.relative_to(REPOSITORY).parent.parts]
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_one_way(path: Path):
    folder = path.relative_to(REPOSITORY).parts[0]
    above = FOLDERS[FOLDERS.index(folder) + 1 :]
    for imported in imports(path):
        assert not is_under(imported, *(f"penstock.{other}" for other in above)), imported
        assert not imported.startswith("penstock.") or is_under(imported, *(f"penstock.{each}" for each in FOLDERS))


@pytest.mark.parametrize("path", [path for path in MODULES if "transforms" in path.parts], ids=name)
def test_transforms_know_no_engine_and_no_files(path: Path):
    for imported in imports(path):
        assert not is_under(imported, *OUTPUT) or (imported == "os" and name(path) == IN_MEMORY), imported
    names = [node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)]
    assert "open" not in names
    for imported in imports(path, top_level_only=True):
        assert not is_under(imported, *HEAVY), f"{imported}: import it where it is used, it takes seconds"


# What each room of pipeline/ may import besides `errors` and `transforms`. Nothing else, so there is no circle.
ROOMS = {
    "errors": "",
    "splitmix": "",
    "cores": "",
    "garbage": "",
    "storage": "cores",
    "formats": "splitmix storage",
    "graph": "formats storage",
    "sources": "cores formats storage",
    "splits": "sources splitmix storage",
    "prepare": "formats sources splits splitmix storage",
    "planning": "formats prepare sources splits splitmix storage",
    "analysis": "formats garbage graph prepare storage",
    "build": "analysis cores formats planning prepare sources storage",
    "commit": "analysis build formats garbage graph prepare splits storage",
    "planned_run": "analysis build commit cores formats planning sources",
    "beam": "build commit",
    "job": "analysis beam build commit cores formats planned_run planning prepare sources storage",
    "serving": "formats graph storage sources.column_types",
    "load": "cores formats graph serving splitmix storage",
    "report": "commit formats graph load storage",
    "__init__": "load planning sources splits",  # the face; nothing imports it from within
}
ROOM_MODULES = [path for path in MODULES if "pipeline" in path.parts]


def room(path: Path) -> str:
    parts = path.relative_to(REPOSITORY / "pipeline").with_suffix("").parts
    return parts[0]


@pytest.mark.parametrize("path", ROOM_MODULES, ids=name)
def test_a_room_imports_lower_rooms_only(path: Path):
    allowed = [f"penstock.pipeline.{each}" for each in (room(path), "errors", *ROOMS[room(path)].split())]
    for imported in imports(path):
        if is_under(imported, "penstock.pipeline") and imported != "penstock.pipeline":
            assert is_under(imported, *allowed) or any(is_under(each, imported) for each in allowed), imported


def test_the_rooms_have_no_circle():
    placed: set[str] = set()
    for each, below in ROOMS.items():
        assert {entry.partition(".")[0] for entry in below.split()} <= placed, each
        placed.add(each)


@pytest.mark.parametrize("path", [path for path in MODULES if {"load", "graph", "serving"} & set(path.parts)], ids=name)
def test_loading_and_serving_need_neither_beam_nor_tf_transform(path: Path):
    for imported in imports(path):
        assert not is_under(imported, "apache_beam", "tensorflow_transform", "tfx_bsl"), imported


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_say_what_they_are(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) is not None
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))


TESTS = sorted(path for folder in FOLDERS for path in (REPOSITORY / "tests" / folder).rglob("test_*.py"))
OF_WHOLE_FOLDERS = ("tests/transforms/test_doctests.py",)


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_are_named_after_their_module(path: Path):
    """tests/x/test_y.py tests x/y.py, and so does test_y_aspect.py."""
    folder = REPOSITORY / path.relative_to(REPOSITORY / "tests").parent
    modules = {module.stem for module in folder.glob("*.py")}
    parts = path.stem.split("_")[1:]
    prefixes = {"_".join(parts[:length]) for length in range(1, len(parts) + 1)}
    assert prefixes & modules or name(path) in OF_WHOLE_FOLDERS


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a statement loads in a fresh process."""
    code = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import penstock",
        "import penstock.pipeline",
        "import penstock.transforms.image",
        "from penstock import Csv, Images, Recipe, by_hash, join, open_dataset",
        "import penstock.runners.cli",
        "from penstock.runners.cli import main; main(['--help'], standalone_mode=False)",
        "from penstock.runners.cli import main; main(['run', '--help'], standalone_mode=False)",
    ],
)
def test_these_answer_at_once(statement: str):
    assert not loaded_by(statement) & {*HEAVY, "keras", "grpc"}


@pytest.mark.parametrize("module", ["load", "formats.manifest", "prepare.isolate", "commit.verify"])
def test_these_need_no_engine(module: str):
    assert not loaded_by(f"import penstock.pipeline.{module}") & {*HEAVY, "keras", "grpc"}


@pytest.mark.parametrize("module", ["penstock", "penstock.pipeline", "penstock.pipeline.errors"])
def test_the_face_is_light(module: str):
    assert not loaded_by(f"import {module}") & {*HEAVY, "numpy", "pyarrow", "PIL"}


def test_the_face_has_every_name():
    import penstock
    from penstock import pipeline

    for each in pipeline.__all__:
        assert getattr(penstock, each) is getattr(pipeline, each)
