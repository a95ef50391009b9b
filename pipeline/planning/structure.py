"""What values and code come to: a hash of how they are built, not of the text they were written as.

Functions count by their syntax trees, without docstrings and positions, and by the values of what they use: closures,
defaults, and those of a module's names that their code loads. Libraries' functions and classes count by name and
version, all else by its type and state. Neither an address, nor a path, nor the name of a module of the user's has a
part in it, nor the order of a set. What cannot be told apart like this is *unclear*: whoever asks must count source
texts instead.
"""

import abc
import ast
import dis
import enum
import functools
import hashlib
import linecache
import logging
import re
import sys
import threading
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np

_PENSTOCK = __name__.partition(".")[0]
_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range, slice)
_STATELESS = (logging.Logger, type(threading.Lock()), type(threading.RLock()), threading.local)
_OF_MODULES = {"__name__", "__file__", "__spec__", "__package__", "__path__", "__loader__", "__builtins__"}
_OF_CLASSES = {
    "__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__", "_abc_impl",
}  # fmt: skip
_NAMED_DESCRIPTORS = (GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType)
_METACLASSES = (type, abc.ABCMeta, type(typing.Protocol))
# What leads to code or values that no name in the code tells.
_REFLECTING_MODULES = {"importlib", "pkgutil", "pydoc", "runpy", "gc", "ctypes", "pickle", "cloudpickle"}
_IMPORTING = {
    "importlib",
    "pkgutil",
    "pydoc",
    "runpy",
    "pickle",
    "__import__",
    "exec",
    "eval",
    "import_module",
    "modules",
}
_REFLECTING = {"eval", "exec", "compile", "globals", "locals", "vars", "__import__", "dir"}
_REFLECTING_ATTRIBUTES = {
    "__doc__", "__code__", "__globals__", "__builtins__", "__subclasses__", "__annotations__", "_getframe",
    "currentframe", "getdoc", "getmembers", "getsource", "import_module", "modules", "stack",
}  # fmt: skip


def is_own(name: str, file: str | None) -> bool:
    """Whether a module is the user's: neither Penstock's, nor Python's, nor an installed distribution's.

    Args:
      name: The module's name.
      file: Its file; None where it has none, as what a notebook defines.
    """
    top = name.partition(".")[0]
    if name == "__main__":
        return True
    if top == _PENSTOCK or top in sys.stdlib_module_names:
        return False
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)


def is_own_module(module: ModuleType) -> bool:
    """The same of an imported module; a package without a file is where its parts are."""
    file = getattr(module, "__file__", None)
    if file is None and hasattr(module, "__path__"):
        file = next(iter(module.__path__), None)
    if file is None and module.__name__ != "__main__":
        return False
    return is_own(module.__name__, file)


@functools.cache
def library_version(name: str) -> str:
    """The version of the distribution that a library's module belongs to; empty where other versions tell it."""
    top = name.partition(".")[0]
    if top == _PENSTOCK or top in sys.stdlib_module_names:
        return ""
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        owners = metadata.packages_distributions().get(top, [])
        return ",".join(f"{owner}={metadata.version(owner)}" for owner in sorted(set(owners)))


def library_name(value: Any) -> tuple[str, str] | None:
    """The module and the qualified name by which a library's function or class can be imported; None: it is no such."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module not in sys.modules:
        return None
    place: Any = sys.modules[module]
    if is_own_module(place):
        return None
    for part in name.split("."):
        place = getattr(place, part, None)
    return (module, name) if place is value else None


class Structure:
    """A hash that values are added to.

    Attributes:
      unclear: What could not be told apart, in words.
      imports: The top-level names of what code that was met imports only when it runs, if that may be the user's; empty
        for an import from its own package.
      reflects: Whether it may import modules by names that it makes up.
    """

    def __init__(self, folders: Sequence[str] = ()) -> None:
        """A hash of nothing yet.

        Args:
          folders: Where the user's modules are: strings that begin with one of them count without it.
        """
        self.unclear: list[str] = []
        self.imports: set[str] = set()
        self.reflects = False
        self._folders = tuple(sorted(folders, key=len, reverse=True))
        self._words: list[bytes] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no two values have the same address

    def digest(self) -> str:
        """The hash, as hexadecimal digits."""
        return hashlib.sha256(b"".join(self._words)).hexdigest()

    def add(self, value: Any) -> None:
        """Adds a value, with all that it refers to."""
        kind = type(value)
        if kind in _ATOMS:
            self._add_atom(value)
        elif kind is tuple:
            self._add_items("tuple", value)
        elif (named := library_name(value)) is not None:
            self._add_library(*named)
        elif isinstance(value, ModuleType):
            self._add_module(value)
        elif not self._add_leaf(value) and not self._is_again(value):
            self._add_shared(value)

    def add_code(self, code: CodeType, namespace: Mapping[str, Any]) -> None:
        """Adds a piece of the user's code, with the values of the names that it loads from its module."""
        node = syntax_of(code)
        if node is None:
            self._add_compiled(code)
        else:
            self._token("syntax", dump(node), code.co_flags, *code.co_freevars)
        self.add_names(code, namespace)

    def add_names(self, code: CodeType, namespace: Mapping[str, Any]) -> None:
        """Adds the values of the names that a piece of the user's code loads from its module."""
        for name, chains in sorted(global_names(code).items()):
            self._token("name", name)
            if name in _OF_MODULES:
                continue
            if name in namespace:
                self._add_global(namespace[name], sorted(chains))
            elif name in _REFLECTING:
                self._note(f"{code.co_qualname} uses {name}()", name)
        for attribute in sorted(_attributes(code) & _REFLECTING_ATTRIBUTES):
            self._note(f"{code.co_qualname} uses {attribute}", attribute)
        for level, name in sorted(set(_imports(code))):
            self._add_import(code, level, name)

    def _token(self, *parts: object) -> None:
        """Adds words, each with its length, so that no two sequences of them are the same bytes."""
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
            if len(data) > 1 << 10:
                data = hashlib.sha256(data).digest()
            self._words += b"%d:" % len(data), data

    def _note(self, words: str, name: str = "") -> None:
        """Says that something is unclear; `name` is that of what may import modules."""
        self.reflects |= name in _IMPORTING
        self._token("unclear")
        self.unclear.append(words)

    def _add_atom(self, value: Any) -> None:
        if isinstance(value, bytes):
            self._token("bytes", value)
            return
        if isinstance(value, str):
            for folder in self._folders:
                if value == folder or value.startswith(f"{folder}/"):
                    self._token("beside", value[len(folder) :])
                    return
        self._token(type(value).__name__, value if isinstance(value, str) else repr(value))

    def _add_items(self, kind: str, items: Sequence[Any]) -> None:
        self._token(kind, len(items))
        for item in items:
            self.add(item)

    def _add_library(self, module: str, name: str) -> None:
        self._token("library", module, name, library_version(module))
        top = module.partition(".")[0]
        if top in _REFLECTING_MODULES or (top == "builtins" and name in _REFLECTING):
            self._note(f"the code uses {module}.{name}", name if top == "builtins" else top)

    def _add_module(self, module: ModuleType) -> None:
        file = Path(getattr(module, "__file__", None) or "")
        if is_own_module(module) and file.is_file() and file.suffix != ".py":
            self._token("binary", file.read_bytes())
        elif is_own_module(module):
            self._note(f"the module {module.__name__} is used as a value")
        else:
            self._add_library(module.__name__, "")

    def _add_leaf(self, value: Any) -> bool:
        """Adds what counts by what it is worth, wherever else it is referred to; whether it is such."""
        kind = type(value)
        if isinstance(value, PurePath) and not is_own(kind.__module__, None):
            self._token("path", kind.__name__)
            self._add_atom(str(value))
        elif kind is re.Pattern:
            self._token("pattern", value.flags)
            self.add(value.pattern)
        elif isinstance(value, np.generic | np.ndarray) and kind.__module__ == "numpy" and not value.dtype.hasobject:
            self._token("array", repr(value.dtype.descr), value.shape, np.ascontiguousarray(value).tobytes())
        elif kind in (set, frozenset):
            self._add_set(value)
        elif kind in _STATELESS:
            self._token("stateless", kind.__name__)
        elif isinstance(value, _NAMED_DESCRIPTORS):
            self._token("descriptor", value.__name__)
            if library_name(value.__objclass__):
                self.add(value.__objclass__)
        elif isinstance(value, GenericAlias | UnionType) or (kind.__module__ == "typing" and not _has_code(value)):
            self._token("typing", kind.__name__, getattr(value, "__name__", ""))
            self.add(getattr(value, "__origin__", None))
            self.add(getattr(value, "__args__", None))
            self.add(getattr(value, "__metadata__", None))  # of Annotated
            if kind is typing.ForwardRef:
                self._token(value.__forward_arg__)
        elif isinstance(value, BuiltinFunctionType):
            self._token("method", value.__name__)
            self.add(value.__self__)
        else:
            return False
        return True

    def _add_set(self, values: Any) -> None:
        """Adds a set's items in an order of their own."""
        if not all(map(_is_plain, values)):
            self._note("a set of objects")
            return
        digests = []
        for value in values:
            item = Structure(self._folders)
            item.add(value)
            digests.append(item.digest())
            self.unclear += item.unclear
            self.reflects |= item.reflects
        self._token(type(values).__name__, *sorted(digests))

    def _is_again(self, value: Any) -> bool:
        """Whether a value was added before; adds its number then, and gives it one otherwise."""
        number = self._numbers.get(id(value))
        if number is not None:
            self._token("again", number)
            return True
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return False

    def _add_shared(self, value: Any) -> None:
        """Adds what may be referred to from several places."""
        kind = type(value)
        if kind is list:
            self._add_items("list", value)
        elif kind in (dict, MappingProxyType):
            self._add_items("dict", [part for item in value.items() for part in item])
        elif kind is FunctionType:
            self._add_function(value)
        elif kind is MethodType:
            self._add_items("bound", (value.__func__, value.__self__))
        elif kind is property:
            self._add_items("property", (value.fget, value.fset, value.fdel))
        elif kind in (classmethod, staticmethod):
            self._add_items(kind.__name__, (value.__func__,))
        elif kind is functools.cached_property:
            self._add_items("cached", (value.func,))
        elif kind is functools._lru_cache_wrapper:
            self._add_items("cache", (value.__wrapped__, value.cache_parameters()))
        elif kind is CellType:
            self._add_cell(value)
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, enum.Enum):
            self._add_items("member", (kind, value.name, value.value))
        elif is_dataclass(kind) and kind.__module__.partition(".")[0] == _PENSTOCK:
            self.add(kind)
            names = [field.name for field in fields(kind) if field.compare]
            self._add_items("fields", [part for name in names for part in (name, getattr(value, name))])
        else:
            self._add_instance(value)

    def _add_cell(self, cell: CellType) -> None:
        try:
            content = cell.cell_contents
        except ValueError:
            self._token("empty")
            return
        if isinstance(content, ModuleType) and is_own_module(content):
            self._note(f"the module {content.__name__} is used in a closure")
        else:
            self._add_items("cell", (content,))

    def _add_function(self, function: FunctionType) -> None:
        """Adds a function that has no name in a library: with its code, unless that is a library's."""
        module = str(function.__globals__.get("__name__"))
        self._token("function", function.__qualname__)
        if is_own(module, function.__globals__.get("__file__")):
            self.add_code(function.__code__, function.__globals__)
        else:
            self._token(module, library_version(module))
            self._add_compiled(function.__code__)
        state = {name: value for name, value in vars(function).items() if name != "__doc__"}
        self._add_items(
            "state", (function.__defaults__, function.__kwdefaults__, function.__closure__, function.__annotations__)
        )
        self._add_items("attributes", [part for item in sorted(state.items()) for part in item])

    def _add_class(self, kind: type) -> None:
        """Adds a class of the user's, or one that a library makes on the way."""
        self._token("class", kind.__qualname__)
        self._add_items("bases", kind.__bases__)
        content = {name: value for name, value in vars(kind).items() if name not in _OF_CLASSES}
        if issubclass(kind, enum.Enum):
            self._add_items("members", [part for each in kind for part in (each.name, each.value)])
            content = {name: value for name, value in content.items() if _is_function(value)}
        elif type(kind) not in _METACLASSES:
            if library_name(type(kind)):
                self._note(f"the class {kind.__qualname__} is made by {type(kind).__qualname__}")
                content = {name: value for name, value in content.items() if _is_function(value)}
            self.add(type(kind))
        for name, value in sorted(content.items()):
            self._token("member", name)
            self.add(value)

    def _add_instance(self, value: Any) -> None:
        """Adds an object by what would make the same one again, and by its attributes where its class is the user's."""
        kind = type(value)
        self.add(kind)
        words, alive, unclear = len(self._words), len(self._alive), len(self.unclear)
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # whatever an object's pickling raises
            self._note(f"an object of {kind.__qualname__}")
            reduced = None
        if isinstance(reduced, str):
            module = getattr(value, "__module__", None) or kind.__module__
            self._token("global", module, reduced, library_version(module))
        elif reduced is not None:
            parts = [*reduced, None, None, None]
            self._add_items("reduced", parts[:3])
            self._add_items("items", list(parts[3] or ()))
            self._add_items("pairs", [part for pair in parts[4] or () for part in pair])
        if library_name(kind) is None:
            if hasattr(value, "__dict__"):
                self.add(dict(vars(value)))
            for name in sorted(_slots(kind)):
                if hasattr(value, name):
                    self._add_items("slot", (name, getattr(value, name)))
        elif len(self.unclear) > unclear:  # what else it holds may be another each time: counters, names of threads
            del self._words[words:]
            for each in self._alive[alive:]:
                del self._numbers[id(each)]
            del self._alive[alive:]

    def _add_global(self, value: Any, chains: Sequence[tuple[str, ...]]) -> None:
        """Adds what a name stands for; of a module of the user's, what is taken from it."""
        if not (isinstance(value, ModuleType) and is_own_module(value)):
            self.add(value)
            return
        for chain in chains:
            part: Any = value
            used = 0
            while used < len(chain) and isinstance(part, ModuleType) and is_own_module(part):
                if chain[used] not in vars(part):
                    break
                part = vars(part)[chain[used]]
                used += 1
            self._token("of", *chain[:used])
            self.add(part)  # a module still: it is used as a value

    def _add_import(self, code: CodeType, level: int, name: str) -> None:
        """Adds what an import in a function leads to, as far as it can be told before it is executed."""
        top = name.partition(".")[0]
        if top in _REFLECTING_MODULES:
            self._note(f"{code.co_qualname} imports {name}", top)
        if level == 0 and (top in sys.stdlib_module_names or top == _PENSTOCK):
            return
        version = "" if level else library_version(name)
        self._token("import", level, name, version)
        if not version:
            self.imports.add("" if level else top)

    def _add_compiled(self, code: CodeType) -> None:
        """Adds code of which the source is not known."""
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        self._token("compiled", code.co_name, code.co_code, code.co_exceptiontable, *counts)
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            self._token(len(names), *names)
        self._token(len(code.co_consts))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._add_compiled(constant)
            else:
                self.add(constant)


def _is_plain(value: Any) -> bool:
    """Whether a set's item has no part that others may refer to."""
    if type(value) in (tuple, frozenset):
        return all(map(_is_plain, value))
    return type(value) in _ATOMS or isinstance(value, PurePath) or library_name(value) is not None


def _has_code(value: Any) -> bool:
    """Whether something of a type of `typing`'s is a class with methods: those of protocols are."""
    return isinstance(value, type) and not typing.is_typeddict(value)


def _slots(kind: type) -> set[str]:
    """The names of the slots of a class and of those that it comes from."""
    descriptors = ((name, value) for each in kind.__mro__ for name, value in vars(each).items())
    return {name for name, value in descriptors if isinstance(value, MemberDescriptorType)}


def _is_function(value: Any) -> bool:
    return isinstance(value, FunctionType | classmethod | staticmethod | property)


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A piece of code, and those within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def global_names(code: CodeType) -> dict[str, set[tuple[str, ...]]]:
    """The names that code looks up in its module or changes there, each with the attributes that are taken from it.

    >>> import os
    >>> sorted(global_names((lambda: (os.path.join("a"), os, len)).__code__)["os"])
    [(), ('path', 'join')]
    """
    names: dict[str, set[tuple[str, ...]]] = {}
    for each in _nested(code):
        name: str | None = None
        chain: tuple[str, ...] = ()
        for instruction in dis.get_instructions(each):
            operation = instruction.opname
            if operation in ("EXTENDED_ARG", "CACHE"):
                continue
            if name is not None and operation in ("LOAD_ATTR", "LOAD_METHOD"):
                chain = (*chain, instruction.argval)
                continue
            if name is not None:
                names.setdefault(name, set()).add(chain)
            name, chain = None, ()
            if operation.endswith(("_GLOBAL", "_NAME")) and operation != "IMPORT_NAME":
                name = instruction.argval
        if name is not None:
            names.setdefault(name, set()).add(chain)
    return names


def _attributes(code: CodeType) -> set[str]:
    """The names of all attributes and modules that code uses."""
    return {name for each in _nested(code) for name in each.co_names}


def _imports(code: CodeType) -> Iterator[tuple[int, str]]:
    """How many packages up, and which modules, code imports when it is executed."""
    for each in _nested(code):
        before: list[dis.Instruction] = []
        for instruction in dis.get_instructions(each):
            if instruction.opname == "IMPORT_NAME":
                level = before[-2].argval if len(before) > 1 else 0
                yield level if isinstance(level, int) else 0, instruction.argval
            if instruction.opname not in ("EXTENDED_ARG", "CACHE"):
                before.append(instruction)


class _WithoutConstants(ast.NodeTransformer):
    """Takes out statements that are a constant: docstrings are."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


def dump(node: ast.AST) -> str:
    """A syntax tree without positions and docstrings, as text. Takes docstrings out of the tree itself."""
    return ast.dump(_WithoutConstants().visit(node))


_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def syntax_of(code: CodeType) -> _Function | None:
    """The syntax tree of a function; None where its source is not there or is another by now, or has two in a line."""
    name = code.co_filename
    path = Path(name)
    if path.is_file():
        source = path.read_bytes()
    elif name in linecache.cache:  # what a notebook's cells are kept in
        source = "".join(linecache.getlines(name)).encode()
    else:
        return None
    parsed = _parse(source, name)
    if parsed is None or code not in parsed[1]:
        return None
    found = parsed[0].get((code.co_name, code.co_firstlineno), ())
    return found[0] if len(found) == 1 else None


@functools.lru_cache(256)
def _parse(source: bytes, name: str) -> tuple[dict[tuple[str, int], list[_Function]], frozenset[CodeType]] | None:
    """The functions of a source text by name and first line, and all code that it comes to; None where it is none."""
    try:
        tree, compiled = ast.parse(source), compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    functions: dict[tuple[str, int], list[_Function]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            functions.setdefault(_place(node), []).append(node)
    return functions, frozenset(_nested(compiled))


def _place(node: _Function) -> tuple[str, int]:
    """The name and the first line that a function's code has."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    return node.name, min([node.lineno, *(each.lineno for each in node.decorator_list)])
