"""A recipe's hashes: of what shapes its examples, of that but for `prepare`, and of what shapes its transform graph.

A generation is made anew where one of them is another: where the first one is, every shard; where only the second one
is, no shard. They follow from what the recipe is made of (`structure`), so that a comment or a function that nobody
calls changes neither. Two recipes with the same hashes do the same; of two that do the same the hashes may differ.

    what the fields refer to       by structure: `structure.Structure`
    what imports do beside that    statements that may act on something else, in either hash: `import_effects`
    what is unclear, or imported   as source texts: all of the recipe's own modules, or those that it imports; comments
    only when code runs            do not count, docstrings do
"""

import ast
import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from .import_effects import find_effects, imported_packages
from .own_modules import imported_names
from .structure import Structure, dump, is_own_module, library_version

if TYPE_CHECKING:
    from .recipe import Recipe

_FRAME = ("source", "encode", "splits", "shards", "format", "compression", "shuffle", "seed", "deduplicate")
_SHAPE = (*_FRAME, "prepare")
_GRAPH = ("features", "statistics", "metadata")  # the last one is in no shard, and in every generation
# What Penstock imports in any case, so that importing it changes nothing.
_IMPORTED_ANYWAY = {
    "PIL", "apache_beam", "click", "cloudpickle", "duckdb", "numpy", "penstock", "pyarrow", "rich", "simplejpeg",
    "tensorflow", "tensorflow_transform",
}  # fmt: skip


@dataclass(frozen=True)
class SourceText:
    """A module of the user's.

    Attributes:
      name: Its path in its folder, or its name where it is elsewhere; empty of the recipe's own.
      source: Its source text.
      module: The module, if it was imported.
      last_line: Where what is executed as it is imported ends to count; None: at its end.
    """

    name: str
    source: bytes
    module: ModuleType | None
    last_line: int | None = None


@dataclass(frozen=True)
class RecipeHashes:
    """SHA-256 in hexadecimal digits, by structure.

    Attributes:
      shape: Of what shapes examples.
      frame: Of that, but for `prepare`.
      graph: Of what shapes the transform graph.
    """

    shape: str
    frame: str
    graph: str


def hash_recipe(
    recipe: "Recipe",
    own_file: SourceText,
    folders: Mapping[Path, Mapping[str, bytes]],
    imports_itself: bool,
    has_file: bool = True,
) -> RecipeHashes:
    """The hashes of a recipe.

    Args:
      recipe: The recipe.
      own_file: The module that defines it.
      folders: Where its own modules are, to what it imports from there, as `own_modules.own_sources` finds it; the
        first one is its own folder.
      imports_itself: Whether one of these imports the recipe's module.
      has_file: Whether the recipe is in a file; if not, `own_file` has its imports alone.

    Raises:
      RequestError: the recipe is in no file, and not all that it does can be told from its structure.
    """
    texts = [own_file, *_own_texts(folders)]
    texts += _texts_elsewhere(texts)
    return RecipeHashes(
        *(_hash(recipe, names, texts, imports_itself, has_file, list(folders)) for names in (_SHAPE, _FRAME, _GRAPH))
    )


def _hash(
    recipe: "Recipe",
    names: Sequence[str],
    texts: Sequence[SourceText],
    imports_itself: bool,
    has_file: bool,
    folders: Sequence[Path],
) -> str:
    """The hash of some fields of a recipe, and of what importing its modules does."""
    structure = Structure([str(folder) for folder in folders])
    parts: list[Any] = [*sys.version_info[:2], sys.flags.optimize]
    try:
        for name in names:
            structure.add((name, getattr(recipe, name)))
        for text in texts:
            namespace = vars(text.module) if text.module else {}
            effects = find_effects(text.source, namespace, text.last_line)
            structure.add([dump(statement) for statement in effects.statements])
            for code in effects.code:
                structure.add_names(code, namespace)
            structure.add(effects.values)
        parts.append(structure.digest())
    except Exception as error:  # what the recipe's own objects raise, or values within values
        structure.unclear.append(f"{type(error).__name__}: {error}")
    if not has_file:
        _expect_clear(structure, texts)
    counted = texts if structure.unclear else _imported_later(structure.imports, texts, imports_itself)
    parts += sorted([text.name, _tree_hash(text.source)] for text in counted)
    if structure.reflects:
        own_folder = folders[0]
        found = sorted(_modules_in(own_folder))
        parts += [[path.relative_to(own_folder).as_posix(), _tree_hash(path.read_bytes())] for path in found]
    packages = {package for text in texts for package in imported_packages(text.source)} - _IMPORTED_ANYWAY
    parts += sorted([name, library_version(name)] for name in packages - sys.stdlib_module_names)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _expect_clear(structure: Structure, texts: Sequence[SourceText]) -> None:
    """Raises RequestError where source texts would have to count that are not known."""
    unseen = sorted(structure.imports - {"", *map(_top, texts)})
    if why := [*structure.unclear, *(f"a function imports {name}" for name in unseen)]:
        raise RequestError(
            "Recipe(...): expected code whose changes can be noticed without a file, found: "
            f"{why[0]}; write the recipe into a file and give its path"
        )


def _imported_later(names: set[str], texts: Sequence[SourceText], imports_itself: bool) -> list[SourceText]:
    """The modules in some top-level packages, and all that they may import; "" stands for any package."""
    own_file, *others = texts
    reached: list[SourceText] = []
    left = set(names)
    while left:
        new = [text for text in others if text not in reached and (_top(text) in left or "" in left)]
        reached += new
        left = {name.partition(".")[0] for text in new for name in imported_names(text.source)}
    return [own_file, *reached] if reached and imports_itself else reached


def _top(text: SourceText) -> str:
    """The top-level name of a module."""
    return text.name.partition("/")[0].partition(".")[0]


def _tree_hash(source: bytes) -> str:
    """The hash of a module's syntax tree, docstrings included; of its text where it has none."""
    with contextlib.suppress(SyntaxError, ValueError):
        source = ast.dump(ast.parse(source)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(source).hexdigest()


def _own_texts(folders: Mapping[Path, Mapping[str, bytes]]) -> Iterator[SourceText]:
    """The modules that were found in the recipe's folders, each once."""
    seen = set()
    for folder, sources in folders.items():
        for place, source in sources.items():
            path = (folder / place).resolve()
            if path not in seen:
                seen.add(path)
                name = ".".join(Path(place).with_suffix("").parts).removesuffix(".__init__")
                module = sys.modules.get(name)
                is_it = module is not None and _file_of(module) == path
                yield SourceText(place, source, module if is_it else None)


def _texts_elsewhere(texts: Sequence[SourceText]) -> list[SourceText]:
    """The modules of the user's that these import from elsewhere, such as a folder on PYTHONPATH, and theirs."""
    known = {_file_of(text.module) for text in texts if text.module}
    packages = {package for text in texts for package in imported_packages(text.source)}
    found: list[SourceText] = []
    seen: set[str] = set()
    while packages - seen:
        seen |= (new := packages - seen)
        for name, module in sorted(sys.modules.items()):
            if name.partition(".")[0] not in new or not isinstance(module, ModuleType) or not is_own_module(module):
                continue
            path = _file_of(module)
            if path is not None and path not in known and path.suffix == ".py" and path.is_file():
                known.add(path)
                found.append(SourceText(name, path.read_bytes(), module))
                packages |= set(imported_packages(found[-1].source))
    return found


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _modules_in(folder: Path) -> Iterator[Path]:
    """All modules in a folder, and in the packages there: what code may import by a name that it makes up."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            if path.suffix == ".py" and path.is_file():
                yield path
            elif (path / "__init__.py").is_file():
                yield from _modules_in(path)
