"""How a recipe reaches other processes: its functions by value, and as source what it imports from its own folder.

What is unpickled in another process may refer to such a module, or import it later on. So whatever carries functions
of a recipe carries the modules' source texts too, and these are unpickled first: from then on they can be imported.
There they are run anew, as everything that is imported is: what the recipe has changed in them is not known.
"""

import contextlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle


@dataclass(frozen=True)
class OwnModules:
    """The source texts of a recipe's own modules. Once unpickled, these can be imported.

    Attributes:
      sources: Module name to the path in its folder and the source text.
    """

    sources: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)

    def __reduce__(self) -> Any:
        return _let_import, (dict(self.sources),)

    def imported_from_elsewhere(self) -> Mapping[str, str]:
        """Those that a process had imported with another source text before they came, each with where that was.

        There are none in the launcher, whose files may be changed while it runs.
        """
        elsewhere: dict[str, str] = {}
        if not any(finder.is_sent and finder.own == self for finder in _finders()):
            return elsewhere
        for name, (_, source) in self.sources.items():
            module = sys.modules.get(name)
            place = getattr(module, "__file__", None)
            if module is None or place is None or isinstance(module.__loader__, _Loader):
                continue
            with contextlib.suppress(OSError):
                if Path(place).read_bytes() != source:
                    elsewhere[name] = place
        return elsewhere


NO_MODULES = OwnModules()


@dataclass(frozen=True, kw_only=True)
class Carrying:
    """A base of what workers are given with functions of a recipe in it: its modules are unpickled first.

    Attributes:
      own: The recipe's own modules.
      versions: What the launcher has, and workers must have; empty: they are not asked.
    """

    own: OwnModules = NO_MODULES
    versions: Mapping[str, str] = field(default_factory=dict)

    def __reduce__(self) -> Any:
        return _restore, (self.own, type(self), dict(self.__dict__))


def _restore(_own: OwnModules, carrying: type, state: dict[str, Any]) -> Any:
    """What was pickled; its modules were unpickled before the rest."""
    restored: Any = object.__new__(carrying)
    restored.__dict__.update(state)
    return restored


def _let_import(sources: dict[str, tuple[str, bytes]]) -> OwnModules:
    """Lets own modules be imported from now on, before any others of their names."""
    own = OwnModules(sources)
    if sources and own not in carried():
        sys.meta_path.insert(0, _Finder(own, is_sent=True))
    return own


def carried() -> Sequence[OwnModules]:
    """The own modules of recipes that this process can import by their source texts."""
    return [finder.own for finder in _finders()]


def _finders() -> "list[_Finder]":
    return [finder for finder in sys.meta_path if isinstance(finder, _Finder)]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds own modules, and packages around them that have no file."""

    def __init__(self, own: OwnModules, is_sent: bool) -> None:
        """Finds modules that were sent to this process, or that it has loaded itself."""
        self.own = own
        self.is_sent = is_sent
        self._packages = {name.rpartition(".")[0] for name in own.sources} - {""}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        place, source = self.own.sources.get(name, ("", None))
        if source is None and not any(f"{package}.".startswith(f"{name}.") for package in self._packages):
            return None
        is_package = source is None or Path(place).name == "__init__.py"
        spec = ModuleSpec(name, _Loader(place, source or b""), origin=place or None, is_package=is_package)
        spec.has_location = bool(place)
        return spec


class _Loader(importlib.abc.InspectLoader):
    """Runs a module's source text."""

    def __init__(self, place: str, source: bytes) -> None:
        self._place = place
        self._source = source

    def get_source(self, name: str) -> str:
        return importlib.util.decode_source(self._source)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._place, "exec", dont_inherit=True), vars(module))


@contextlib.contextmanager
def shipped(module: ModuleType | None, own: OwnModules, picklers: Sequence[Any] = (cloudpickle,)) -> Iterator[None]:
    """While it lasts, pickles hold a recipe's functions themselves, and this process can import its own modules.

    Args:
      module: The recipe's module; None where there is none.
      own: What it imports from its own folder: the last place to look for those that cannot be found otherwise.
      picklers: Copies of the module `cloudpickle`.
    """
    new = [pickler for pickler in picklers if module and module.__name__ not in pickler.list_registry_pickle_by_value()]
    finder = _Finder(own, is_sent=False) if own.sources and own not in carried() else None
    for pickler in new:
        pickler.register_pickle_by_value(module)
    if finder:
        sys.meta_path.append(finder)
    try:
        yield
    finally:
        if finder:
            sys.meta_path.remove(finder)
        for pickler in new:
            pickler.unregister_pickle_by_value(module)
