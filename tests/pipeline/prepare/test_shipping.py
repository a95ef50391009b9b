"""A recipe in another process, which has neither its folder on a path nor stands in it."""

import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest

from penstock.pipeline.planning.recipe import LoadedRecipe, load_recipe
from penstock.pipeline.prepare.isolate import IsolatedPreparer
from penstock.pipeline.prepare.shipping import Carrying, carried, shipped

HEAD = "from penstock.pipeline import Images, Recipe\nfrom penstock.transforms.outcome import keep\n"
RECIPES = {
    "a module": "import ship_helper\ndef step(example):\n    return ship_helper.double(example)\n",
    "a name": "from ship_helper import double\ndef step(example):\n    return double(example)\n",
    "in the function": "def step(example):\n    import ship_helper\n    return ship_helper.double(example)\n",
    "a name in the function": "def step(example):\n    from ship_helper import double\n    return double(example)\n",
    "a function itself": "from ship_helper import double as step\n",
    "a package": "from ship_parts.deep import step\n",
    "in a package without a file": "from ship_bare.inner import step\n",
    "an object": "from ship_helper import Step\nstep = Step(2)\n",
}
MODULES = {
    "ship_helper.py": """
        import functools, threading
        import ship_circle
        LOCK = threading.Lock()  # cannot be pickled, and need not be
        @functools.cache
        def factor():
            return ship_circle.FACTOR
        def double(example):
            with LOCK:
                return example | {"n": example["n"] * factor()}
        class Step:
            def __init__(self, factor): self.factor = factor
            def __call__(self, example): return example | {"n": example["n"] * self.factor}
        """,
    "ship_circle.py": "import ship_helper\nFACTOR = 2\n",
    "ship_parts/__init__.py": "",
    "ship_parts/deep.py": """
        from . import numbers
        def step(example):
            from .lazy import multiply
            return multiply(example, numbers.TWO)
        """,
    "ship_parts/numbers.py": "TWO = 2\n",
    "ship_parts/lazy.py": "def multiply(example, by):\n    return example | {'n': example['n'] * by}\n",
    "ship_bare/inner.py": "def step(example):\n    return example | {'n': example['n'] * 2}\n",
}
UNPICKLE = """
import pickle, sys
steps = pickle.load(sys.stdin.buffer).steps
print([step({"n": 21})["n"] for step in steps])
"""


def options(loaded: LoadedRecipe) -> Carrying:
    """Functions before the modules that they need; of a class that travels by value itself."""

    @dataclass(frozen=True)
    class Options(Carrying):
        steps: Sequence[object]

    return Options(loaded.recipe.prepare, own=loaded.own)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    own = tmp_path / "own"
    for name, text in MODULES.items():
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("\n".join(line[indent:] for line in lines))
    monkeypatch.syspath_prepend(str(own))
    before = set(sys.modules)
    yield own
    for name in set(sys.modules) - before:
        if name.startswith(("ship_", "_recipe_")):
            del sys.modules[name]


def load(folder: Path, text: str) -> LoadedRecipe:
    path = folder / "recipe.py"
    path.write_text(f"{HEAD}{text}\nrecipe = Recipe(source=Images('*.png'), prepare=[step])\n")
    return load_recipe(str(path))


def elsewhere(content: bytes, cwd: Path) -> str:
    cwd.mkdir()
    done = subprocess.run([sys.executable, "-c", UNPICKLE], input=content, capture_output=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_runs_where_its_folder_is_not(folder: Path, tmp_path: Path, kind: str):
    loaded = load(folder, RECIPES[kind])
    with shipped(loaded.module, loaded.own):
        content = cloudpickle.dumps(options(loaded))
    assert elsewhere(content, tmp_path / "empty") == "[42]"


@pytest.mark.parametrize("has_file", [True, False])
def test_a_recipe_in_a_package_runs_where_that_is_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_file: bool
):
    package = folder / "ship_project"
    package.mkdir()
    if has_file:
        (package / "__init__.py").write_text("from .recipe import recipe as chosen\n")
    (package / "numbers.py").write_text("TWO = 2\n")
    step = "def step(example):\n    from .numbers import TWO\n    from ship_helper import double\n"
    step += "    return {'n': double(example)['n'] // 2 * TWO}\n"
    (package / "recipe.py").write_text(f"{HEAD}{step}recipe = Recipe(source=Images('*.png'), prepare=[step])\n")
    monkeypatch.chdir(folder)
    loaded = load_recipe("ship_project.recipe")
    with shipped(loaded.module, loaded.own):
        content = cloudpickle.dumps(options(loaded))
    assert elsewhere(content, tmp_path / "empty") == "[42]"


def test_the_running_process_keeps_what_it_has_imported(folder: Path):
    loaded = load(folder, RECIPES["a module"])
    helper = sys.modules["ship_helper"]
    searched = list(sys.meta_path)
    with shipped(loaded.module, loaded.own):
        unpickled = cloudpickle.loads(cloudpickle.dumps(options(loaded)))
        assert unpickled.steps[0]({"n": 21}) == {"n": 42}
        assert carried() == [loaded.own]
    assert sys.modules["ship_helper"] is helper
    assert sys.meta_path == searched


def test_what_a_recipe_imports_late_is_found_without_its_folder_on_a_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded = load(folder, RECIPES["in the function"])
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(folder)])
    with pytest.raises(ModuleNotFoundError):
        loaded.recipe.prepare[0]({"n": 21})
    with shipped(loaded.module, loaded.own):
        assert loaded.recipe.prepare[0]({"n": 21}) == {"n": 42}


def test_another_module_of_the_same_name_is_not_shipped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "ship_helper.py").write_text("def double(example):\n    return example\n")
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    assert list(load(folder, RECIPES["a name"]).own.sources) == ["ship_circle"]


def test_a_module_that_a_worker_has_from_elsewhere_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = load(folder, RECIPES["a name"])
    sent = pickle.dumps(loaded.own)
    (folder / "ship_circle.py").write_text("FACTOR = 3\n")
    assert loaded.own.imported_from_elsewhere() == {}  # changed after it was loaded
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    elsewhere = pickle.loads(sent).imported_from_elsewhere()
    assert elsewhere == {"ship_circle": str(folder / "ship_circle.py")}


def test_modules_of_the_working_folder_are_the_recipes_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(place for place in sys.path if place != str(folder))])
    (tmp_path / "ship_top.py").write_text("import own.ship_circle as circle\n")
    (folder / "ship_circle.py").write_text("FACTOR = 2\n")
    loaded = load(folder, "import ship_top\ndef step(example):\n    return example\n")
    assert sorted(loaded.own.sources) == ["own.ship_circle", "ship_top"]
    (tmp_path / "ship_top.py").write_text("import own.ship_circle as other\n")
    assert load(folder, "import ship_top\ndef step(example):\n    return example\n").hash != loaded.hash


@pytest.mark.parametrize("kind", ["a module", "in the function"])
def test_a_process_that_isolates_has_them_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    loaded = load(folder, RECIPES[kind])
    monkeypatch.chdir(tmp_path)
    step = loaded.recipe.prepare[0]

    def prepare(reference: int, count: bool, payloads: object) -> object:
        return step({"n": reference})

    with shipped(loaded.module, loaded.own):
        isolated = IsolatedPreparer(prepare, 1, 30.0)
        try:
            assert isolated(21) == {"n": 42}  # type: ignore[arg-type, comparison-overlap]
        finally:
            isolated.close()
