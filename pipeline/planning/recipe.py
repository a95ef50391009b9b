"""What a user writes, and how it is found."""

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ...transforms.columns import Vectorized, Where
from ...transforms.image import steps_of_scaled
from ...transforms.image_codec import Decode, Jpeg, Png, Raw
from ..errors import RequestError
from ..formats import croissant, paths
from ..formats.features import MASK
from ..prepare.shipping import NO_MODULES, OwnModules
from ..sources.images import Images
from ..sources.join import ImageJoin
from ..sources.record_source import RecordSource
from ..splits.rules import ByColumn, ByGlob, ByHash, ByList, ByPath, ByTime
from .own_modules import own_modules, own_sources
from .recipe_hash import SourceText, hash_recipe
from .structure import is_own_module

Example = dict[str, Any]
Encoding = Jpeg | Png | Raw
SplitRule = ByHash | ByPath | ByList | ByGlob | ByColumn | ByTime

_OF_FILE = "_recipe_"  # what the names of modules begin with that are run by their path


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How raw data becomes a dataset.

    Attributes:
      source: Where the examples are.
      prepare: Functions `example -> example`, applied in order to one decoded example at a time.
      features: A tf.Transform `preprocessing_fn`: batched tensors to batched tensors; None passes all through.
      splits: Split name to its share, or one of `by_hash`, `by_path`, `by_folder`, `by_glob`, `by_list`, `by_column`
        and `by_time`.
      shards: How many shards a split gets: one number for all, or by split. None: about 64 MiB a shard.
      encode: Feature name to how its pixels are stored; `image` is JPEG and all else PNG by default.
      format: "tfrecord" (tf.train.Example), or "parquet" for tables.
      compression: None, or "gzip" for gzip-compressed TFRecord shards.
      shuffle: "unit": examples are shuffled within a shard, and a shard's come from all over the input. "global": every
        row of a table may come to any shard, which costs a pass over the prepared rows. None: the order of the input.
      seed: Of the shuffle.
      deduplicate: Whether exact duplicates are left out: of equal images the one with the smallest key stays, of rows
        that are stored alike the first one.
      statistics: The split that statistics come from.
      metadata: What is said of the dataset to others, in `croissant.json`: properties of Croissant's such as "license",
        "url", "creator" and "citeAs". "name" and "description" are the recipe's name and its module's docstring unless
        they are given.

    Raises:
      RequestError: a field does not hold what it should.
    """

    source: Images | ImageJoin | RecordSource
    prepare: Sequence[Callable[[Example], Example]] = ()
    features: Callable[[Any], Mapping[str, Any]] | None = None
    splits: Mapping[str, float] | SplitRule = field(default_factory=lambda: {"train": 1.0})
    shards: int | Mapping[str, int] | None = None
    encode: Mapping[str, Encoding] = field(default_factory=dict)
    format: str = "tfrecord"
    compression: str | None = None
    shuffle: str | None = "unit"
    seed: int = 0
    deduplicate: bool = False
    statistics: str = "train"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_source = isinstance(self.source, Images | ImageJoin | RecordSource)
        _expect(is_source, "source", "Images(...), Csv(...) or another source", self.source)
        _expect(
            isinstance(self.prepare, Sequence) and not isinstance(self.prepare, str), "prepare", "a list", self.prepare
        )
        for step in self.prepare:
            is_step = callable(step) or isinstance(step, Where)
            _expect(is_step, "prepare", "functions, such as image.resize(128, 128)", step)
            _expect(
                not isinstance(step, Decode),
                "prepare",
                "functions of decoded examples; how files are decoded is the source's, such as "
                "Images(..., decode=image.decode(mode='L'))",
                step,
            )
            of_rows = isinstance(step, Where | Vectorized) and isinstance(self.source, Images | ImageJoin)
            _expect(
                not of_rows,
                "prepare",
                "functions of one example for images, such as keep(lambda example: example['n'] > 1, 'few')",
                step,
            )
        if isinstance(self.source, Images | ImageJoin) and self.source.decode.scale:
            _expect(
                steps_of_scaled(self.prepare) > 0,
                "prepare",
                "image.resize first, with image.min_size and image.max_aspect before it at most, since the source has "
                "image.decode(scale=...)",
                self.prepare,
            )
        _expect(self.features is None or callable(self.features), "features", "a function of inputs", self.features)
        _expect(self.compression in (None, "gzip"), "compression", "None or 'gzip'", self.compression)
        is_table = not isinstance(self.source, Images | ImageJoin)
        formats = ("tfrecord", "parquet") if is_table and not self.compression else ("tfrecord",)
        _expect(self.format in formats, "format", f"one of {formats} for this source and compression", self.format)
        _expect(self.shuffle in (None, "unit", "global"), "shuffle", "'unit', 'global' or None", self.shuffle)
        global_parquet = self.shuffle == "global" and self.format == "parquet"
        _expect(not global_parquet, "shuffle", "'unit' or None for the format 'parquet'", self.shuffle)
        _expect(type(self.seed) is int and 0 <= self.seed < 1 << 31, "seed", "a whole number below 2**31", self.seed)
        counts = self.shards.values() if isinstance(self.shards, Mapping) else [self.shards]
        for count in counts:
            _expect(count is None or (type(count) is int and count > 0), "shards", "positive whole numbers", count)
        _expect(isinstance(self.encode, Mapping), "encode", "a dict such as {'image': image.png()}", self.encode)
        for name, encoding in self.encode.items():
            _expect(
                isinstance(encoding, Jpeg | Png | Raw), f"encode[{name!r}]", "image.jpeg(), png() or raw()", encoding
            )
            _expect(
                name != MASK or not isinstance(encoding, Jpeg),
                f"encode[{name!r}]",
                "image.png() or raw(), which keep class ids as they are",
                encoding,
            )
        _expect(
            isinstance(self.splits, Mapping | SplitRule),
            "splits",
            "shares such as {'train': 0.9, 'test': 0.1}, or by_hash, by_path, by_folder, by_glob, by_list, by_column "
            "or by_time",
            self.splits,
        )
        try:
            rule = self.split_rule
        except (TypeError, ValueError) as error:
            raise RequestError(f"Recipe(splits=...): {error}; fix the recipe") from error
        for name in rule.names() or []:
            _expect(paths.is_split_name(name), "splits", "names of letters, digits, _ and .", name)
        _expect(
            rule.names() is None or self.statistics in (rule.names() or []),
            "statistics",
            f"one of the splits {list(rule.names() or [])}",
            self.statistics,
        )
        _expect(isinstance(self.metadata, Mapping), "metadata", "a dict such as {'license': 'CC0-1.0'}", self.metadata)
        for name, value in self.metadata.items():
            if fault := croissant.property_fault(name, value):
                raise RequestError(f"Recipe(metadata=...): expected {fault}; fix the recipe")

    @property
    def split_rule(self) -> SplitRule:
        """The rule that gives each key its split."""
        return ByHash(dict(self.splits)) if isinstance(self.splits, Mapping) else self.splits


def _expect(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise RequestError(f"Recipe({name}=...): expected {expected}, found {found!r}; fix the recipe")


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, its name, and the hashes of what defines it.

    Attributes:
      recipe: The recipe.
      name: The module's name.
      hash: SHA-256 of the module's source text, the recipe's name in it, and the source texts of its own modules.
      shape: The hash of what shapes its examples, by structure: see `recipe_hash`.
      graph: That of what shapes its transform graph.
      frame: That of what shapes its examples, but for `prepare`; empty where that is not known.
      module: The module where the recipe was found, for shipping it to workers.
      own: Its own modules, for shipping them: those that it imports from its own folder (or the one that its top
        package is in), or from the working folder, where the recipe is somewhere in that.
    """

    recipe: Recipe
    name: str
    hash: str
    shape: str
    graph: str
    module: ModuleType | None = None
    own: OwnModules = NO_MODULES
    frame: str = ""

    @property
    def metadata(self) -> dict[str, Any]:
        """What is said of the dataset: the recipe's metadata, with a name and a description in any case."""
        words = inspect.cleandoc((self.module and self.module.__doc__) or "")
        named = {"name": self.name, "description": words or f"Prepared by the recipe {self.name}."}
        return {**named, **self.recipe.metadata}


def find_recipe(recipe: "Recipe | ModuleType | str | os.PathLike[str]") -> LoadedRecipe:
    """A recipe from Python: one by itself, the module that has it as `recipe`, or as `load_recipe` takes it.

    One by itself counts as its module does, if that has a file; what a notebook defines counts by its structure alone.

    Raises:
      RequestError: as `load_recipe` does; or it was made in a notebook or a session, and what its code does cannot be
        told without a file.
    """
    if isinstance(recipe, str | os.PathLike):
        return load_recipe(os.fspath(recipe))
    if isinstance(recipe, ModuleType):
        return _loaded(_named(recipe, "recipe", recipe.__name__), "recipe", recipe)
    if not isinstance(recipe, Recipe):
        raise RequestError(
            f"expected a Recipe, its module, or the path of its file, found {type(recipe).__name__}; give one of these"
        )
    module = _defining_module(recipe)
    names = [name for name, value in vars(module).items() if value is recipe] if module else []
    return _loaded(recipe, names[0] if names else "recipe", module)


def load_recipe(spec: str) -> LoadedRecipe:
    """Finds a recipe named `file.py`, `file.py:name` or `package.module:name`; the name defaults to `recipe`.

    Raises:
      RequestError: there is no such file, module or name, it cannot be imported, or it is no Recipe.
    """
    where, _, name = spec.partition(":")
    name = name or "recipe"
    try:
        module = _import_file(where) if where.endswith(".py") else _import_module(where)
    except RequestError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise RequestError(f"{where}: the recipe's module cannot be imported: {_describe(error, where)}") from error
    return _loaded(_named(module, name, where), name, module)


def _named(module: ModuleType, name: str, where: str) -> Recipe:
    """The recipe of a name in a module.

    Raises:
      RequestError: there is no such name, or it is no Recipe's.
    """
    recipe = getattr(module, name, None)
    if recipe is None:
        names = [key for key, value in vars(module).items() if isinstance(value, Recipe)]
        found = f"the recipes {names}" if names else "no Recipe at all"
        raise RequestError(f"{where}: expected `{name} = Recipe(...)`, found {found}; use FILE.py:NAME to name one")
    if not isinstance(recipe, Recipe):
        raise RequestError(f"{where}: expected {name} to be a Recipe, found {type(recipe).__name__}")
    return recipe


def _defining_module(recipe: Recipe) -> ModuleType | None:
    """The user's module that has a recipe under some name, or else its functions; the deepest one of several."""
    modules = [each for each in list(sys.modules.values()) if isinstance(each, ModuleType)]
    places = [each for each in modules if any(value is recipe for value in list(vars(each).values()))]
    if not places:
        names = {getattr(function, "__module__", None) for function in (*recipe.prepare, recipe.features)}
        places = [each for each in modules if each.__name__ in names]
    own = filter(is_own_module, places)
    return max(own, key=lambda each: (each.__name__ != "__main__", each.__name__.count(".")), default=None)


def _loaded(recipe: Recipe, name: str, module: ModuleType | None) -> LoadedRecipe:
    """A recipe with the hashes of what defines it.

    Args:
      recipe: The recipe.
      name: Its name in its module.
      module: The module; None where it is in none.
    """
    file = getattr(module, "__file__", None)
    file = file if file and os.path.isfile(file) else None  # "<stdin>" is none
    path = Path(file) if file else Path.cwd() / "recipe"  # where a session's own modules would be beside it
    source = path.read_bytes() if file else _imports_of(module)
    digest = hashlib.sha256(source + b"\0" + name.encode())
    sources = {}
    for folder in _search_folders(path.resolve(), _depth(module, path)):
        sources[folder] = own_sources(path, source, folder)
        for own, own_source in sources[folder].items():
            digest.update(b"\0" + own.encode() + b"\0" + hashlib.sha256(own_source).digest())
    modules = own_modules(path, sources)
    imports_itself = any(
        (folder / place).resolve() == path.resolve() for place, _ in modules.sources.values() for folder in sources
    )
    is_main = module is not None and module.__name__ == "__main__"  # what it does with the recipe does not shape that
    text = SourceText("", source, module, _line_of(name, source) if is_main else None)
    hashes = hash_recipe(recipe, text, sources, imports_itself, has_file=bool(file))
    if not file:
        digest.update(f"{hashes.shape} {hashes.graph}".encode())
    return LoadedRecipe(
        recipe,
        path.stem,
        digest.hexdigest(),
        hashes.shape,
        hashes.graph,
        module if file else None,  # what a session defines is pickled by value in any case
        modules,
        hashes.frame,
    )


def _line_of(name: str, source: bytes) -> int | None:
    """The line in which a module last gives a name a value; None: in none by itself."""
    for statement in reversed(ast.parse(source).body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(each, ast.Name) and each.id == name for each in targets):
            return statement.lineno
    return None


def _depth(module: ModuleType | None, path: Path) -> int:
    """How many folders above a module's own one its top package is in."""
    spec = module and module.__spec__  # a script has none, and a module that is run has its name there alone
    if spec is None or spec.name.startswith(_OF_FILE):
        return 0
    return spec.name.count(".") + (path.name == "__init__.py")


def _imports_of(module: ModuleType | None) -> bytes:
    """What is known of the text of a module without a file: imports of the user's modules that its names come from."""
    values = list(vars(module).values()) if module else []
    names = {str(getattr(each, "__name__" if isinstance(each, ModuleType) else "__module__", "")) for each in values}
    imported = [sys.modules[name] for name in sorted(names - {"__main__"}) if name in sys.modules]
    own = [each.__name__ for each in imported if isinstance(each, ModuleType) and is_own_module(each)]
    return "".join(f"import {name}\n" for name in own).encode()


def _search_folders(path: Path, depth: int) -> Sequence[Path]:
    """Where a recipe's own modules are: around its top package, so many folders up, and in the working folder."""
    folders = [path.parents[depth]]
    with contextlib.suppress(FileNotFoundError):  # it may have been removed
        working = Path.cwd()
        if working not in folders and path.is_relative_to(working):
            folders.append(working)
    return folders


def _import_module(name: str) -> ModuleType:
    """Imports a module, from the working folder too, as `python -m` does; `sys.path` is afterwards what it was."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        with contextlib.suppress(ValueError):  # the module may have changed the path itself
            sys.path.remove(folder)


def _import_file(path: str) -> ModuleType:
    """Runs a file as a module, which `sys.modules` has from then on; after an error it is what it was."""
    if not Path(path).is_file():
        raise RequestError(f"expected a recipe file, found nothing at {path}; check the path")
    name = f"{_OF_FILE}{Path(path).stem}"  # a recipe called json.py must not shadow the json module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"expected a Python file, found {path}")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    try:
        # not by the loader: it would take a cached .pyc for a file that was changed within the same second
        exec(compile(Path(path).read_bytes(), path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _describe(error: BaseException, path: str) -> str:
    """The error, and the line of the recipe's own file that led to it."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}{'' if error.filename == path else f' of {error.filename}'}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = f"line {lines[-1]}: " if lines else ""
    return f"{line}{type(error).__name__}: {error}"
