"""Which modules a recipe imports from its own folder, by the text of its imports: nothing is imported to find them."""

import ast
import contextlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path

from ..prepare.shipping import OwnModules

# Top-level names that lead elsewhere, whatever lies in a recipe's folder: a clone of Penstock beside it has its name.
_ELSEWHERE = sys.stdlib_module_names | {__name__.partition(".")[0]}


def own_modules(recipe: Path, folders: Mapping[Path, Mapping[str, bytes]]) -> OwnModules:
    """Those of a recipe's own modules that an import in this process leads to, for other processes to import them.

    Args:
      recipe: The recipe's file; it is among them where one of them imports it.
      folders: Folders to what `own_sources` has found in them.
    """
    own, recipe = {}, recipe.resolve()
    for folder in map(Path.resolve, folders):
        sources = {folder / path: source for path, source in folders[folder].items()}
        if any(recipe in _imported_files(path, source, folder) for path, source in sources.items()):
            sources[recipe] = recipe.read_bytes()
        for path, source in sources.items():
            place = path.relative_to(folder)
            name = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
            if _leads_into(folder, name.partition(".")[0]):
                own[name] = place.as_posix(), source
    return OwnModules(own)


def _leads_into(folder: Path, name: str) -> bool:
    """Whether the import of a module or package leads into a folder: another one of its name may come before it."""
    module = sys.modules.get(name)
    spec = module.__spec__ if module else PathFinder.find_spec(name)
    if spec is None:
        return module is None
    places = [Path(place).resolve() for place in (*(spec.submodule_search_locations or ()), spec.origin) if place]
    return any(place == folder / f"{name}.py" or place.is_relative_to(folder / name) for place in places)


def unsent_modules(recipe: Path, own: OwnModules) -> dict[str, str]:
    """What a recipe imports that is neither sent to workers nor installed: workers must have it otherwise.

    Args:
      recipe: The recipe's file.
      own: Its own modules.

    Returns:
      The names of modules and packages that this process has imported, with where they are.
    """
    names = {
        name.partition(".")[0]
        for source in (recipe.read_bytes(), *(source for _, source in own.sources.values()))
        for name in imported_names(source)
    }
    sent = {name.partition(".")[0] for name in own.sources}
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")]
    unsent = {}
    for name in sorted(names - sent - _ELSEWHERE):
        place = getattr(sys.modules.get(name), "__file__", None)
        if place and not any(Path(place).resolve().is_relative_to(folder) for folder in installed):
            unsent[name] = place
    return unsent


def imported_names(source: bytes) -> Iterator[str]:
    """The names of the modules that import statements load, but for relative ones."""
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def own_sources(recipe: Path, source: bytes, folder: Path) -> dict[str, bytes]:
    """The source text of every module that a recipe imports from a folder, in whatever function, and of theirs.

    Args:
      recipe: The recipe's file; it need not be there.
      source: Its source text.
      folder: Where its own modules are, packages among them; not what lies outside, nor what is named like Penstock
        or a module of the standard library.

    Returns:
      The modules' paths in the folder to their bytes, sorted by path, without the recipe's own.
    """
    folder, recipe = folder.resolve(), recipe.resolve()
    sources = {recipe: source}
    left = [recipe]
    while left:
        path = left.pop()
        for imported in _imported_files(path, sources[path], folder):
            if imported not in sources:
                sources[imported] = imported.read_bytes()
                left.append(imported)
    del sources[recipe]
    return {path.relative_to(folder).as_posix(): sources[path] for path in sorted(sources)}


def _imported_files(path: Path, source: bytes, folder: Path) -> Iterator[Path]:
    """The files in the folder that one module's import statements may load, packages' own among them."""
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] not in _ELSEWHERE:
                    yield from _files(folder, alias.name.split("."), folder)
        elif isinstance(node, ast.ImportFrom):
            names = node.module.split(".") if node.module else []
            if not node.level and names[0] in _ELSEWHERE:
                continue
            start = path.parents[node.level - 1] if node.level and node.level <= len(path.parents) else folder
            for alias in node.names:
                yield from _files(start, [*names, alias.name], folder)


def _nodes(source: bytes) -> Iterator[ast.AST]:
    """The parts of a module's syntax tree."""
    with contextlib.suppress(SyntaxError, ValueError):  # whoever imports it is told
        yield from ast.walk(ast.parse(source))


def _files(start: Path, names: list[str], folder: Path) -> Iterator[Path]:
    """The files that stand for each package on the way and the module at its end; the last may be no module at all."""
    for depth in range(len(names) + 1):
        place = start.joinpath(*names[:depth])
        for file in (place / "__init__.py", place.with_suffix(".py") if depth else None):
            if file and place != folder and file.is_file() and file.resolve().is_relative_to(folder):
                yield file.resolve()
                break
