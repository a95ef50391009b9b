import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from penstock.pipeline import Images, Recipe, RequestError, by_folder, by_list
from penstock.pipeline.planning.recipe import find_recipe, load_recipe
from penstock.transforms import columns, image

SOURCE = Images("*.jpg")
TEXT = "from penstock.pipeline import Images, Recipe\nfrom penstock.transforms import image\n"
GOOD = TEXT + "recipe = Recipe(source=Images('*.jpg'))\nother = Recipe(source=Images('*.png'))\n"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "images/*.jpg"}, r"Recipe\(source=...\): expected Images"),
        ({"prepare": image.resize(2, 2)}, r"Recipe\(prepare=...\): expected a list"),
        ({"prepare": "resize"}, r"Recipe\(prepare=...\): expected a list"),
        ({"prepare": [image.resize(2, 2), "resize"]}, r"prepare=...\): expected functions.*found 'resize'"),
        (
            {"prepare": [columns.where(lambda b: b, "few")]},
            r"prepare=...\): expected functions of one example for images",
        ),
        ({"prepare": [image.decode(mode="L")]}, r"prepare=...\): .*is the source's.*found Decode\(mode='L'"),
        ({"prepare": [columns.vectorized(len)]}, r"prepare=...\): expected functions of one example for images"),
        (
            {"source": Images("*.jpg", decode=image.decode(scale=2)), "prepare": [image.convert("L")]},
            r"prepare=...\): expected image.resize first.*decode\(scale=...\), found \[Convert",
        ),
        ({"features": {"image": 1}}, r"features=...\): expected a function"),
        ({"splits": "train"}, r"splits=...\): expected shares such as"),
        ({"splits": {}}, r"splits=...\): expected positive fractions"),
        ({"splits": {"train": 0.5}}, r"splits=...\): expected positive fractions that sum to 1.*sum 0.5"),
        ({"splits": {"train": "all"}}, r"Recipe\(splits=...\): "),
        ({"splits": {"train": 0.5, "my-test": 0.5}}, "expected names of letters, digits, _ and ., found 'my-test'"),
        ({"splits": {"a": 0.5, "b": 0.5}}, r"statistics=...\): expected one of the splits \['a', 'b'\], found 'train'"),
        ({"splits": by_list({"a": "a.txt"})}, "statistics"),
        ({"statistics": "validation"}, "statistics"),
        ({"shards": 0}, r"shards=...\): expected positive whole numbers, found 0"),
        ({"shards": 2.0}, "shards"),
        ({"shards": True}, "shards"),
        ({"shards": {"train": -1}}, "shards"),
        ({"encode": {"image": "png"}}, r"encode\['image'\]=...\): expected image.jpeg"),
        ({"encode": [image.png()]}, r"encode=...\): expected a dict"),
        ({"compression": "zip"}, r"compression=...\): expected None or 'gzip', found 'zip'"),
    ],
)
def test_mistakes_in_a_recipe_are_named(fields, message: str):
    with pytest.raises(RequestError, match=message):
        Recipe(**{"source": SOURCE, **fields})


def test_a_recipe_needs_little():
    recipe = Recipe(source=SOURCE)
    assert recipe.split_rule.names() == ["train"]
    assert Recipe(source=SOURCE, splits=by_folder(), statistics="Training").statistics == "Training"


def test_a_recipe_is_found_by_file_and_by_name(tmp_path: Path):
    path = tmp_path / "json.py"  # must not shadow the module json
    path.write_text(GOOD)
    loaded = load_recipe(str(path))
    assert loaded.name == "json"
    assert loaded.recipe.source.pattern == "*.jpg"
    assert load_recipe(f"{path}:recipe").hash == loaded.hash
    other = load_recipe(f"{path}:other")
    assert other.recipe.source.pattern == "*.png"
    assert other.hash != loaded.hash
    assert sys.modules["json"].__file__ != str(path)
    assert loaded.hash == hashlib.sha256(path.read_bytes() + b"\0recipe").hexdigest()


def test_a_recipe_is_found_by_module_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_recipes").mkdir()
    (tmp_path / "own_recipes" / "pets.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    loaded = load_recipe("own_recipes.pets:other")
    assert sys.path == path
    assert loaded.name == "pets"
    assert loaded.recipe.source.pattern == "*.png"


def test_a_file_that_was_changed_a_moment_ago_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "recipe.py"
    for pattern in ("a.jpg", "b.jpg", "c.jpg"):  # same size, same second: what a cached .pyc cannot tell apart
        path.write_text(GOOD.replace("*.jpg", pattern))
        assert load_recipe(str(path)).recipe.source.pattern == pattern
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected a recipe file, found nothing at .*; check the path"),
        ("x = (", r"cannot be imported: line 1: '\(' was never closed"),
        ("\n\nimport no_such_module", "cannot be imported: line 3: ModuleNotFoundError: No module named"),
        (TEXT + "\nimage.resize(0, 1)", r"cannot be imported: line 4: ValueError: resize\(height=...\): expected"),
        (TEXT + "recipe = Recipe(source=3)", r"Recipe\(source=...\): expected Images"),
        ("import sys\nsys.exit(0)", "cannot be imported: line 2: SystemExit: 0"),
        ("x = 3", "expected `recipe = Recipe.*found no Recipe at all"),
        (TEXT + "mine = Recipe(source=Images('*'))", r"found the recipes \['mine'\]; use FILE.py:NAME"),
        ("recipe = {}", "expected recipe to be a Recipe, found dict"),
    ],
)
def test_mistakes_in_a_recipe_file_are_named(tmp_path: Path, text: str | None, message: str):
    path = tmp_path / "recipe.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RequestError, match=message) as raised:
        load_recipe(str(path))
    assert "\n" not in str(raised.value)


def test_a_file_that_fails_leaves_the_modules_as_they_were(tmp_path: Path):
    path = tmp_path / "twice.py"
    path.write_text(GOOD)
    load_recipe(str(path))
    first = sys.modules["_recipe_twice"]
    path.write_text(GOOD + "\nimport no_such_module")
    (tmp_path / "never.py").write_text("import no_such_module")
    for name in ("twice.py", "never.py"):
        with pytest.raises(RequestError, match="no_such_module"):
            load_recipe(str(tmp_path / name))
    assert sys.modules["_recipe_twice"] is first
    assert "_recipe_never" not in sys.modules


@pytest.mark.parametrize("spec", ["no_such_package.recipes", "./recipe", "", "recipe.txt"])
def test_what_is_no_module_is_named(spec: str):
    with pytest.raises(RequestError, match="cannot be imported"):
        load_recipe(spec)


@pytest.fixture
def shape_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The shape of the recipe that a script makes by some statements."""

    def shape(statements: str) -> str:
        script = ModuleType("__main__")
        script.__file__ = str(tmp_path / "script.py")
        (tmp_path / "script.py").write_text(f"{TEXT}import os\n{statements}")
        exec((tmp_path / "script.py").read_bytes(), vars(script))
        monkeypatch.setitem(sys.modules, "__main__", script)
        return find_recipe(script.recipe).shape

    return shape


@pytest.mark.parametrize("name", ["recipe", "recipe: Recipe"], ids=["plain", "annotated"])
def test_what_a_script_does_with_its_recipe_does_not_count(shape_of: Callable[[str], str], name: str):
    recipe = f"{name} = Recipe(source=Images('*.jpg'))\n"
    assert shape_of(f"{recipe}os.umask(os.umask(0))\n") == shape_of(recipe)


@pytest.mark.parametrize("before", ["recipe = None\n", "recipe: Recipe\n"], ids=["a value", "an annotation"])
def test_what_a_script_does_before_its_recipe_counts_also_where_the_name_was_there(
    shape_of: Callable[[str], str], before: str
):
    recipe = "recipe = Recipe(source=Images('*.jpg'))\n"
    assert shape_of(f"{before}os.umask(os.umask(0))\n{recipe}") != shape_of(f"{before}{recipe}")
