"""Edits of recipes, and which of a recipe's two hashes must be another one afterwards."""

import copyreg
import linecache
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from PIL import ImageFile

from penstock.pipeline.planning.recipe import load_recipe
from penstock.pipeline.planning.recipe_hash import SourceText, hash_recipe

RECIPE = '''"""A recipe."""
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ImageFile

import hashed_helpers
import hashed_package.deep.leaf
from hashed_helpers import brighten, features_of as made
from penstock.pipeline import Images, Recipe, by_hash
from penstock.transforms import image
from penstock.transforms.declare import touches
from penstock.transforms.outcome import keep

ImageFile.LOAD_TRUNCATED_IMAGES = False
LIMIT = 3
UNUSED = 1
HERE = Path(__file__).parent
TABLE = {}
for name in ("a", "b"):
    TABLE[name] = len(name)
PATTERN = re.compile("a+")
WORDS = {"x", "y", "z", "u", "v", "w"}
WEIGHTS = np.array([1.0, 2.0])
LATER = 1


def unrelated(example):
    return example


def step(example):
    """Does something."""
    # a comment
    inner = lambda value: value + 1  # noqa: E731

    def nested(value):
        return value * 2

    return {**example, "n": nested(inner(LIMIT)), "t": TABLE, "w": WORDS, "p": PATTERN}


def scaled(factor, offset=0):
    def apply(example, *, power=1):
        return {**example, "x": factor * WEIGHTS + offset, "p": power}

    return apply


def traced(function):
    @functools.wraps(function)
    def wrapper(example):
        return function(example) or 0

    return wrapper


@traced
def decorated(example):
    return hashed_helpers.normalized(example)


class Base:
    def shared(self):
        return 1


class Stateful(Base):
    SIZE = 5

    def __init__(self, amount):
        self.amount = amount

    def __call__(self, example):
        return {**example, "s": self.amount + self.SIZE + self.shared() + self.helper()}

    @staticmethod
    def helper():
        return 1

    @property
    def size(self):
        return 1


@dataclass(frozen=True)
class Config:
    width: int = 4

    def __call__(self, example):
        return example


def partial_step(example, amount):
    return example


@functools.lru_cache
def cached(value):
    return value


def with_cache(example):
    return {**example, "c": cached(1), "late": LATER}


@touches("mask")
def masked(example):
    return example


def leaf(example):
    return hashed_package.deep.leaf.grow(example)


def late(example):
    import hashed_late

    return hashed_late.f(example)


def features(inputs):
    """Features."""
    return {"image": made(inputs["image"]), "limit": scale_of(inputs), "here": HERE}


def scale_of(inputs):
    return 2


STATEFUL = Stateful(3)
recipe = Recipe(
    source=Images("*.jpg"),
    prepare=[
        step, scaled(2), decorated, STATEFUL, STATEFUL.__call__, Config(), functools.partial(partial_step, amount=1),
        with_cache, masked, brighten,
        keep(lambda example: example["n"] > 1, "few"), keep(lambda example: example["m"] > 1, "few"),
        image.resize(8, 8), leaf, late,
    ],
    features=features,
    splits={"train": 0.5, "test": 0.5},
)
'''
FILES = {
    "recipe.py": RECIPE,
    "hashed_helpers.py": (
        "import os\n\nGAIN = 2\n\n\ndef brighten(example):\n    return {**example, 'g': GAIN}\n\n\n"
        "def features_of(value):\n    return value + 1\n\n\ndef normalized(example):\n    return _inner(example)\n\n\n"
        "def _inner(example):\n    return example\n\n\ndef nobody_calls(example):\n    return 1\n"
    ),
    "hashed_late.py": "def f(example):\n    return example\n",
    "hashed_package/__init__.py": "",
    "hashed_package/deep/__init__.py": "",
    "hashed_package/deep/leaf.py": "from .other import AMOUNT\n\n\ndef grow(example):\n    return AMOUNT\n",
    "hashed_package/deep/other.py": "AMOUNT = 1\nOTHER = 1\n",
}
ODD = """import abc, collections, contextlib, dataclasses, datetime, decimal, enum, functools, logging, operator, random
import threading, typing, uuid
import numpy as np, pyarrow as pa, pyarrow.compute as pc
from penstock.pipeline import Csv, Recipe
from typing import NamedTuple, Optional, Generic, TypeVar
T = TypeVar("T")
logger = logging.getLogger(__name__)
LOCK = threading.Lock()
class Color(enum.Enum):
    RED = 1
    def f(self): return 2
class P(NamedTuple):
    x: int
    y: "str" = "a"
Q = collections.namedtuple("Q", "a b")
@dataclasses.dataclass
class D:
    a: int
    b: list[Optional[int]] = dataclasses.field(default_factory=list)
class G(Generic[T]):
    def g(self, x: T) -> T: return x
class Pr(typing.Protocol):
    def z(self): ...
class A(abc.ABC):
    @abc.abstractmethod
    def q(self): ...
    @functools.cached_property
    def w(self): return 1
class Slots:
    __slots__ = ("u",)
    def __init__(self): self.u = 3
class Hidden(Slots):
    __slots__ = ("hidden",)
    def __reduce__(self): return Hidden, ()
UNUSED = 1
HIDDEN = Hidden(); HIDDEN.hidden = 5; ANNOTATED = typing.Annotated[int, "metres"]
ARR = pa.array([1, 2]); SCH = pa.schema([("a", pa.int32())]); TAB = pa.table({"a": [1]})
OD = collections.OrderedDict(a=1); DD = collections.defaultdict(list, a=[1]); DQ = collections.deque([1])
CT = collections.Counter("aab")
RNG = np.random.default_rng(3); R = random.Random(1); DEC = decimal.Decimal("1.5")
DT = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
GET = operator.itemgetter("a"); UF = np.add; DTY = np.dtype("f4"); U = uuid.UUID(int=3)
JOIN = ",".join; OBJ = np.array([1, "a", None], object)
SLOTS = Slots(); BYTES = bytearray(b'a'); FROZEN = frozenset({'a', 'b', 'c'}); SETS = {1: {2}}
@contextlib.contextmanager
def cm():
    yield
@functools.singledispatch
def sd(x): return x
@sd.register
def _(x: int): return -x
gen = (i for i in range(3))
def step(batch):
    logger.info("x")
    with LOCK, cm():
        return [
            Color.RED, P, Q, D, D(1), P(1), Q(1,2), G, Pr, A, SLOTS, ARR, SCH, TAB, OD, DD, DQ, CT, RNG, R, DEC, DT,
            GET, UF, DTY, U, JOIN, OBJ, pc.equal, pa.int64(), typing.Any, Optional[int], int | None, list[int],
            lambda *, a=3: a, np.float32(3), sd, range(3), slice(1), BYTES, memoryview, FROZEN, SETS, gen,
            HIDDEN, ANNOTATED
        ]
recipe = Recipe(source=Csv('a.csv'), prepare=[step])
"""
CLEAR = ODD.replace(" sd,", "").replace(", gen", "")  # without what keeps weak references, and without a generator


@pytest.fixture(autouse=True)
def no_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a .pyc stands for any text of its size and second
    for name in ("LOAD_TRUNCATED_IMAGES", "MAXBLOCK"):  # what recipes here change
        monkeypatch.setattr(ImageFile, name, getattr(ImageFile, name))
    monkeypatch.setenv("A_SWITCH", "0")
    yield
    copyreg.dispatch_table.pop(ImageFile.Parser, None)
    forget_modules()


def forget_modules() -> None:
    for name in [name for name in sys.modules if name.startswith("hashed_")]:
        del sys.modules[name]


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "recipe.py"


def hashes(folder: Path, files: Mapping[str, str] = FILES) -> tuple[str, str]:
    """Both hashes, in this process, with modules that are imported anew."""
    forget_modules()
    shutil.rmtree(folder, ignore_errors=True)
    path = write(folder, files)
    sys.path.insert(0, str(folder))
    sys.path_importer_cache.clear()
    try:
        loaded = load_recipe(str(path))
    finally:
        sys.path.remove(str(folder))
    return loaded.shape, loaded.graph


def changed(folder: Path, old: str, new: str, file: str = "recipe.py", files: Mapping[str, str] = FILES) -> str:
    """Which of the hashes an edit changes."""
    assert files[file].count(old) == 1, old
    first = hashes(folder, files)
    second = hashes(folder, {**files, file: files[file].replace(old, new)})
    names = [name for name, before, after in zip(("shape", "graph"), first, second, strict=True) if before != after]
    return " ".join(names)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another one"),
        ('"""Does something."""\n', ""),
        ('"""Does something."""\n', '"""Does something else."""\n'),
        ('"""Features."""\n', '"""Does it."""\n'),
        ('"""A recipe."""\n', "\n\n\n"),
        ("import re\n", "import json\nimport re\n"),
        ("import numpy as np\n", "import numpy as np\nimport pyarrow as pa\n"),
        ("UNUSED = 1", "UNUSED = 2"),
        ("def unrelated(example):\n    return example", "def unrelated(example):\n    return {}"),
        ("def unrelated(example):\n    return example", ""),
        ('    return {**example, "n"', "    return {\n        **example,\n\n        'n'"),
        ("return function(example) or 0", "return (\n        function(example)\n        or 0\n    )"),
        ('{"x", "y", "z", "u", "v", "w"}', '{"w", "v", "u", "z", "y", "x"}'),
        ("image.resize(8, 8)", "image.resize(height=8, width=8)"),
        ("factor * WEIGHTS + offset", "(factor * WEIGHTS) + offset"),
        ("class Base:\n", 'class Base:\n    """A base."""\n\n'),
    ],
)
def test_what_changes_nothing(tmp_path: Path, old: str, new: str):
    assert changed(tmp_path, old, new) == ""


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("hashed_helpers.py", "import os\n", "# here\nimport sys\n"),
        ("hashed_helpers.py", "return 1\n", "return 2\n"),
        ("hashed_package/deep/other.py", "OTHER = 1", "OTHER = 2"),
        ("hashed_late.py", "    return example", "    # comment\n    return (example)"),
    ],
)
def test_what_changes_nothing_in_modules(tmp_path: Path, file: str, old: str, new: str):
    assert changed(tmp_path, old, new, file) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("value + 1", "value + 2"),
        ("value * 2", "value * 3"),
        ("TABLE[name] = len(name)", "TABLE[name] = 2 * len(name)"),
        ('re.compile("a+")', 're.compile("a*")'),
        ('"u", "v", "w"}', '"u", "v"}'),
        ("[1.0, 2.0]", "[1.0, 2.5]"),
        ("scaled(2)", "scaled(2.0)"),
        ("offset=0", "offset=1"),
        ("power=1", "power=2"),
        ("or 0", "or 1"),
        ("SIZE = 5", "SIZE = 6"),
        ("Stateful(3)", "Stateful(4)"),
        ("    def shared(self):\n        return 1", "    def shared(self):\n        return 2"),
        ("def helper():\n        return 1", "def helper():\n        return 2"),
        ("width: int = 4", "width: int = 5"),
        ("Config()", "Config(9)"),
        ("amount=1)", "amount=2)"),
        ("def partial_step(example, amount):\n    return example", "def partial_step(example, amount):\n    return {}"),
        ("def cached(value):\n    return value", "def cached(value):\n    return -value"),
        ("LATER = 1", "LATER = 1.0"),
        ("LATER = 1", "LATER = True"),
        ("step, scaled(2)", "scaled(2), step"),
        ('"n"] > 1', '"n"] > 2'),
        ('keep(lambda example: example["n"] > 1, "few"), keep(lambda example: example["m"] > 1, "few")',
         'keep(lambda example: example["m"] > 1, "few"), keep(lambda example: example["n"] > 1, "few")'),
        ("image.resize(8, 8)", "image.resize(8, 9)"),
        ('"train": 0.5, "test": 0.5', '"test": 0.5, "train": 0.5'),
        ('Images("*.jpg")', 'Images("*.png")'),
        ("features=features,", "features=features, shards=2,"),
        ("features=features,", "features=features, seed=2,"),
        ("features=features,", "features=features, deduplicate=True,"),
        ("features=features,", "features=features, compression='gzip',"),
        ("features=features,", "features=features, shuffle=None,"),
        ("features=features,", "features=features, encode={'image': image.png()},"),
        ("@touches(\"mask\")", "@touches(\"mask\", \"image\")"),
    ],
)  # fmt: skip
def test_what_changes_examples(tmp_path: Path, old: str, new: str):
    assert changed(tmp_path, old, new) == "shape"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("hashed_helpers.py", "GAIN = 2", "GAIN = 3"),
        ("hashed_helpers.py", "return _inner(example)", "return dict(_inner(example))"),
        ("hashed_helpers.py", "def _inner(example):\n    return example", "def _inner(example):\n    return {}"),
        ("hashed_package/deep/leaf.py", "return AMOUNT", "return -AMOUNT"),
        ("hashed_package/deep/other.py", "AMOUNT = 1", "AMOUNT = 2"),
        ("hashed_late.py", "return example", "return {}"),
    ],
)
def test_what_changes_examples_from_modules(tmp_path: Path, file: str, old: str, new: str):
    assert changed(tmp_path, old, new, file) == "shape"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("recipe.py", "def scale_of(inputs):\n    return 2", "def scale_of(inputs):\n    return 3"),
        ("recipe.py", '"limit": scale_of(inputs)', '"scale": scale_of(inputs)'),
        ("recipe.py", "features=features,", 'features=features, statistics="test",'),
        ("recipe.py", "features=features,", 'features=features, metadata={"license": "MIT"},'),
        ("recipe.py", "features=features,", ""),
        ("hashed_helpers.py", "return value + 1", "return value + 2"),
    ],
)
def test_what_changes_the_graph_alone(tmp_path: Path, file: str, old: str, new: str):
    assert changed(tmp_path, old, new, file) == "graph"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LOAD_TRUNCATED_IMAGES = False", "LOAD_TRUNCATED_IMAGES = True"),
        ("LIMIT = 3", "LIMIT = 3\nnp.random.seed(1)"),
        ("LIMIT = 3", "LIMIT = 3\nimport os\nos.environ['A_SWITCH'] = '1'"),
        ("LIMIT = 3", "LIMIT = 3\nimport pytest"),
        ("LIMIT = 3", "LIMIT = 3\ndef act():\n    ImageFile.MAXBLOCK = 1 << 20\nact()"),
        ("LIMIT = 3", "LIMIT = 3\nfor each in [1]:\n    setattr(ImageFile, 'MAXBLOCK', 1 << 20)"),
        ("LIMIT = 3", "LIMIT = 3\nclass Acts:\n    ImageFile.MAXBLOCK = 1 << 20"),
        ("LIMIT = 3", "LIMIT = 3\nenvironment = ImageFile\nenvironment.MAXBLOCK = 1 << 20"),
    ],
)
def test_what_acts_at_import_changes_both(tmp_path: Path, old: str, new: str):
    assert changed(tmp_path, old, new) == "shape graph"


@pytest.mark.parametrize(
    "statement",
    [
        "DONE = list(map(act, [1]))",
        "DONE = sorted([1], key=act)",
        "DONE = [each(1) for each in [act]]",
        "class Acting:\n    def __enter__(self): act(1)\n    def __exit__(self, *_): ...\nwith Acting(): pass",
        "import contextlib\n@contextlib.contextmanager\ndef acting():\n    act(1)\n    yield\nwith acting(): pass",
    ],
)
def test_functions_that_others_call_at_import_count(tmp_path: Path, statement: str):
    acting = f"LIMIT = 3\ndef act(value):\n    ImageFile.MAXBLOCK = 1 << 16\n{statement}\n"
    files = {**FILES, "recipe.py": RECIPE.replace("LIMIT = 3", acting)}
    assert changed(tmp_path, "1 << 16", "1 << 17", files=files) == "shape graph"
    assert changed(tmp_path, "UNUSED = 1", "UNUSED = 2", files=files) == ""


def test_what_a_function_does_that_acts_at_import_changes_both(tmp_path: Path):
    acting = "LIMIT = 3\ndef act(value):\n    ImageFile.MAXBLOCK = value\nact(1 << 16)\n"
    files = {**FILES, "recipe.py": RECIPE.replace("LIMIT = 3", acting)}
    assert (
        changed(tmp_path, "ImageFile.MAXBLOCK = value", "ImageFile.MAXBLOCK = 2 * value", files=files) == "shape graph"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import string\nstring.digits_of_penstock = taken",
        "import copyreg\ncopyreg.dispatch_table[ImageFile.Parser] = taken",
        "import copyreg\ncopyreg.pickle(ImageFile.Parser, taken)",
        "import copyreg\nfor each in [taken, print]:\n    copyreg.pickle(ImageFile.Parser, each)",
        "import copyreg\n_ = copyreg.pickle(ImageFile.Parser, lambda name: taken(name))",
        "import atexit\n@atexit.register\ndef registered():\n    return taken('x')",
        "import sys\nunused = sys.intern(taken('') or 'x')",
    ],
)
def test_what_an_effect_is_given_counts(tmp_path: Path, statement: str):
    text = RECIPE.replace("LIMIT = 3", f"LIMIT = 3\ndef taken(name):\n    return None\n\n\n{statement}")
    files = {**FILES, "recipe.py": text}
    assert changed(tmp_path, "return None", "return None or None", files=files) == "shape graph"


@pytest.mark.parametrize(
    "body",
    [
        "return globals()['unrelated'](example)",
        "import importlib\n    return importlib.import_module('hashed_late').f(example)",
        "return eval('unrelated(example)')",
        "return getattr(hashed_helpers, 'nobody_calls')(example)",
        "module = hashed_helpers\n    return module.nobody_calls(example)",
        "return {'x': unrelated.__doc__}",
        "return THREADS.submit(unrelated, example).result()",
    ],
)
def test_what_cannot_be_told_counts_as_text(tmp_path: Path, body: str):
    text = RECIPE.replace("    return hashed_helpers.normalized(example)", f"    {body}")
    text = text.replace(
        "LIMIT = 3", "LIMIT = 3\nfrom concurrent.futures import ThreadPoolExecutor\nTHREADS = ThreadPoolExecutor(1)"
    )
    files = {**FILES, "recipe.py": text}
    for file, old, new in (
        ("hashed_helpers.py", "return 1\n", "return 2\n"),
        ("recipe.py", "def unrelated(example):\n", 'def unrelated(example):\n    """Is called by a made-up name."""\n'),
    ):
        assert "shape" in changed(tmp_path, old, new, file, files)
    assert changed(tmp_path, "# a comment", "# another", files=files) == ""


def test_a_module_that_is_imported_by_a_made_up_name_counts(tmp_path: Path):
    text = RECIPE.replace(
        "return hashed_helpers.normalized(example)", "import importlib\n    return importlib.import_module('plug')"
    )
    files = {**FILES, "recipe.py": text, "plug.py": "VALUE = 1\n"}
    assert changed(tmp_path, "VALUE = 1", "VALUE = 2", "plug.py", files) == "shape"


def test_a_module_from_elsewhere_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lib").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    text = RECIPE.replace("import hashed_helpers\n", "import hashed_helpers\nimport hashed_elsewhere\n")
    text = text.replace("hashed_helpers.normalized(example)", "hashed_elsewhere.f(example)")
    files = {**FILES, "recipe.py": text}
    found = []
    for body in ("return 1", "return  1  # same", "return 2", "return 2\n\nimport random\nrandom.seed(0)"):
        (tmp_path / "lib" / "hashed_elsewhere.py").write_text(f"def f(example):\n    {body}\n")
        found.append(hashes(tmp_path / "own", files))
    assert found[0] == found[1]
    assert found[1][0] != found[2][0]
    assert found[1][1] == found[2][1]
    assert found[2][0] != found[3][0]
    assert found[2][1] != found[3][1]


PROGRAM = """
import sys
from penstock.pipeline.planning.recipe import load_recipe
sys.path.insert(0, sys.argv[1])
loaded = load_recipe(sys.argv[2])
print(loaded.shape, loaded.graph)
"""


@pytest.mark.parametrize("seed", ["0", "1", "77"])
def test_another_process_and_folder_give_the_same(tmp_path: Path, seed: str):
    first = hashes(tmp_path / "here")
    assert in_another_process(write(tmp_path / "some where" / "else", FILES), seed) == first


def in_another_process(path: Path, seed: str) -> tuple[str, ...]:
    """Both hashes as another process finds them."""
    command = [sys.executable, "-c", PROGRAM, str(path.parent), str(path)]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return tuple(ended.stdout.split())


def test_odd_values_give_the_same(tmp_path: Path):
    first = hashes(tmp_path, {"recipe.py": ODD})
    assert hashes(tmp_path, {"recipe.py": ODD}) == first
    assert in_another_process(tmp_path / "recipe.py", "3") == first


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pa.array([1, 2])", "pa.array([1, 3])"),
        ('("a", pa.int32())', '("a", pa.int64())'),
        ("default_rng(3)", "default_rng(4)"),
        ("random.Random(1)", "random.Random(2)"),
        ('Decimal("1.5")', 'Decimal("1.50")'),
        ('itemgetter("a")', 'itemgetter("b")'),
        ("UF = np.add", "UF = np.subtract"),
        ('np.dtype("f4")', 'np.dtype("f8")'),
        ('",".join', '";".join'),
        ('[1, "a", None]', '[1, "b", None]'),
        ("self.u = 3", "self.u = 4"),
        ("HIDDEN.hidden = 5", "HIDDEN.hidden = 6"),
        ('"metres"', '"feet"'),
        ("RED = 1", "RED = 2"),
        ("def f(self): return 2", "def f(self): return 3"),
        ('y: "str" = "a"', 'y: "str" = "b"'),
        ('"a b")', '"b a")'),
        ("def w(self): return 1", "def w(self): return 2"),
        ("def z(self): ...", "def z(self): return 1"),
        ("deque([1])", "deque([1], 5)"),
        ('Counter("aab")', 'Counter("abb")'),
        ("bytearray(b'a')", "bytearray(b'b')"),
        ("lambda *, a=3: a", "lambda *, a=4: a"),
        ("Optional[int], int | None", "Optional[str], int | None"),
    ],
)
def test_odd_values_count(tmp_path: Path, old: str, new: str):
    assert changed(tmp_path, old, new, files={"recipe.py": CLEAR}) == "shape"


def test_odd_values_are_told_by_what_they_are(tmp_path: Path):
    """Else their text would count, and the test above would see nothing."""
    assert changed(tmp_path, "UNUSED = 1", "UNUSED = 2", files={"recipe.py": CLEAR}) == ""


def test_what_cannot_be_told_of_odd_values_counts_as_text(tmp_path: Path):
    assert changed(tmp_path, "UNUSED = 1", "UNUSED = 2", files={"recipe.py": ODD}) == "shape"
    assert changed(tmp_path, "def _(x: int): return -x", "def _(x: int): return x", files={"recipe.py": ODD}) == "shape"


def test_a_notebook_gives_the_same(tmp_path: Path):
    first = hashes(tmp_path / "here")
    path = write(tmp_path / "there", FILES)
    forget_modules()
    sys.path.insert(0, str(path.parent))
    main = ModuleType("__main__")
    main.__file__ = str(path)  # what HERE follows from; a notebook has none
    kept = sys.modules["__main__"]
    sys.modules["__main__"] = main
    try:
        cell = "<ipython-input-1-abc>"
        linecache.cache[cell] = len(RECIPE), None, RECIPE.splitlines(True), cell
        exec(compile(RECIPE, cell, "exec"), vars(main))
        own = {name: text.encode() for name, text in sorted(FILES.items()) if name != "recipe.py"}
        text = SourceText("", RECIPE.encode(), main)
        found = hash_recipe(main.recipe, text, {path.parent: own}, False)
        assert (found.shape, found.graph) == first
    finally:
        sys.modules["__main__"] = kept
        sys.path.remove(str(path.parent))
        del linecache.cache[cell]


def test_lambdas_in_one_line_are_told_apart(tmp_path: Path):
    text = (
        "from penstock.pipeline import Images, Recipe\n"
        "A, B = lambda example: example, lambda example: {}\n"
        "recipe = Recipe(source=Images('*'), prepare=[A])\n"
    )
    assert changed(tmp_path, "prepare=[A]", "prepare=[B]", files={"recipe.py": text}) == "shape"
    assert changed(tmp_path, "lambda example: {}", "lambda example: 1", files={"recipe.py": text}) == ""


def test_two_recipes_of_a_file_share_what_they_share(tmp_path: Path):
    path = write(tmp_path, {"recipe.py": (
        "from dataclasses import replace\nfrom penstock.pipeline import Images, Recipe\n"
        "def features(inputs):\n    return inputs\n"
        "recipe = Recipe(source=Images('*'), features=features)\n"
        "other = replace(recipe, features=None)\nthird = replace(recipe, seed=1)\n"
    )})  # fmt: skip
    first, other, third = (load_recipe(f"{path}:{name}") for name in ("recipe", "other", "third"))
    assert first.shape == other.shape != third.shape
    assert first.graph == third.graph != other.graph


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("LIMIT = 3", "LIMIT = 4", True),
        ("image.resize(8, 8)", "image.resize(9, 9)", True),
        ("step, scaled(2)", "scaled(2), step", True),
        ('Images("*.jpg")', 'Images("*.png")', False),
        ("features=features,", "features=features, seed=1,", False),
        ("LOAD_TRUNCATED_IMAGES = False", "LOAD_TRUNCATED_IMAGES = True", False),
    ],
)
def test_the_frame_is_all_but_prepare(tmp_path: Path, old: str, new: str, same: bool):
    assert RECIPE.count(old) == 1
    frames = []
    for text in (RECIPE, RECIPE.replace(old, new)):
        hashes(tmp_path, {**FILES, "recipe.py": text})
        sys.path.insert(0, str(tmp_path))
        frames.append(load_recipe(str(tmp_path / "recipe.py")).frame)
        sys.path.remove(str(tmp_path))
    assert (frames[0] == frames[1]) == same


@pytest.mark.parametrize("functions", ["", "import threading\nLOCAL = iter([1])\n"])
def test_the_names_of_a_recipes_file_and_folder_do_not_count(tmp_path: Path, functions: str):
    text = f"{functions}def step(example):\n    return LOCAL, __name__, __file__\n{SHORT}"
    found = []
    for name in ("one.py", "folder/two.py", "packed/three.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        loaded = load_recipe(str(path))
        found.append((loaded.shape, loaded.graph, loaded.frame))
    assert found == found[:1] * 3


SHORT = "from penstock.pipeline import Images, Recipe\nrecipe = Recipe(source=Images('*'), prepare=[step])\n"
