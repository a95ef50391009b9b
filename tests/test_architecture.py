"""What may import what, and how large a module may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import REPOSITORY

FOLDERS = ("transforms", "pipeline", "runners")
MODULES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
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
        assert not is_under(imported, *OUTPUT), imported
    names = [node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)]
    assert "open" not in names
    for imported in imports(path, top_level_only=True):
        assert not is_under(imported, *HEAVY), f"{imported}: import it where it is used, it takes seconds"


@pytest.mark.parametrize("path", [path for path in MODULES if "load" in path.parts], ids=name)
def test_load_needs_neither_beam_nor_tf_transform(path: Path):
    for imported in imports(path):
        assert not is_under(imported, "apache_beam", "tensorflow_transform", "tfx_bsl"), imported


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_readable(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 410, "divide it"
    tree = ast.parse(text)
    assert ast.get_docstring(tree) is not None or not text.strip()
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a statement loads in a fresh process."""
    code = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import penstock.pipeline",
        "import penstock.transforms.image",
        "import penstock.runners.cli",
        "from penstock.runners.cli import main; main(['--help'], standalone_mode=False)",
        "from penstock.runners.cli import main; main(['run', '--help'], standalone_mode=False)",
    ],
)
def test_these_answer_at_once(statement: str):
    assert not loaded_by(statement) & {*HEAVY, "keras", "grpc"}


@pytest.mark.parametrize("module", ["load", "manifest", "isolate", "verify"])
def test_these_need_no_engine(module: str):
    assert not loaded_by(f"import penstock.pipeline.{module}") & {*HEAVY, "keras", "grpc"}
