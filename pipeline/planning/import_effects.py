"""What happens when the user's modules are imported, beside that names get values.

`ImageFile.LOAD_TRUNCATED_IMAGES = True`, `random.seed(1)` or `register(opener)` shape examples, but no function refers
to them. So the statements of a module that may act on something else than its own names are looked for: whatever calls
what is not known to be harmless. What a statement gives its names counts by value where these are used.
"""

import ast
import builtins
import collections
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .structure import is_own, is_own_module, library_name, syntax_of

_PENSTOCK = __name__.partition(".")[0]
_ACTING_BUILTINS = {
    "breakpoint", "compile", "delattr", "eval", "exec", "globals", "input", "locals", "setattr", "vars", "__import__",
}  # fmt: skip
_HARMLESS = {
    "_collections", "_functools", "_io", "_operator", "_struct", "abc", "ast", "base64", "bisect", "builtins",
    "calendar", "cmath", "collections", "colorsys", "contextlib", "copy", "dataclasses", "datetime", "enum",
    "fractions", "functools", "glob", "hashlib", "heapq", "html", "io", "itertools", "json", "keyword", "math",
    "numbers", "operator", "pathlib", "posixpath", "re", "statistics", "string", "struct", "textwrap", "time", "types",
    "typing", "typing_extensions", "unicodedata", "uuid", "zlib",
    "tensorflow_transform", _PENSTOCK,
}  # fmt: skip
_ACTING_NUMPY = {"random", "errstate", "testing", "ctypeslib", "f2py"}
_MAKING = {"Decimal", "Generator", "Random", "RandomState", "default_rng"}  # of modules with a state, but new objects
_TENSORFLOW = {"constant", "function", "TensorSpec", "cast", "range", "DType"}
_PLAIN = (str, bytes, int, float, complex, bool, list, dict, tuple, set, frozenset, range, collections.Counter)
_CALLING = {"map", "filter", "sorted", "min", "max", "reduce"}  # harmless, but for the functions that they are given
_METHODS = {name for kind in (*_PLAIN, Path, FunctionType) for name in dir(kind)} | {"read", "close", "readlines"}


@dataclass
class Effects:
    """What importing a module may do beside giving its names values.

    Attributes:
      statements: The statements that do it.
      code: What of them does it, compiled: the names that it loads stand for what it does it with.
      values: The user's functions and classes that they call to do it.
    """

    statements: list[ast.stmt] = field(default_factory=list)
    code: list[CodeType] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


def find_effects(source: bytes, namespace: Mapping[str, Any], last_line: int | None = None) -> Effects:
    """Looks for the statements of a module that may act on something else than its own names.

    Args:
      source: The module's source text.
      namespace: What its names stand for; empty where it was not imported: then few calls are known to be harmless.
      last_line: Of the last statement that is looked at; None: of the module.
    """
    effects = Effects()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return effects
    for statement in tree.body:
        if last_line is not None and statement.lineno > last_line:
            break
        if isinstance(statement, ast.If) and _is_main_guard(statement.test):
            continue
        visitor = _Visitor(namespace, frozenset(), frozenset())
        visitor.visit(statement)
        if visitor.acts:
            effects.statements.append(statement)
            effects.values += visitor.values
            parts: list[ast.stmt] = [statement]
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value and not visitor.stores:
                is_told = all(map(visitor.is_of_module, visitor.calls))  # else what is called is a name's in between
                parts = [ast.Expr(part) for part in (visitor.calls if is_told else [statement.value])]
            effects.code += [_compile(part) for part in parts]
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                effects.values.append(namespace.get(statement.name))
    return effects


def _compile(statement: ast.stmt) -> CodeType:
    module = ast.Module([statement], type_ignores=[])
    return compile(ast.fix_missing_locations(module), "<import>", "exec", dont_inherit=True)


def imported_packages(source: bytes) -> Iterator[str]:
    """The top-level packages that a module imports as it is imported: doing so may act on others."""
    left: list[ast.AST] = []
    try:
        left += ast.parse(source).body
    except (SyntaxError, ValueError):
        return
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            left += ast.iter_child_nodes(node)


def _is_main_guard(test: ast.expr) -> bool:
    return ast.unparse(test) in ("__name__ == '__main__'", "'__main__' == __name__")


class _Visitor(ast.NodeVisitor):
    """Goes through what a statement, or a function's body, executes; bodies of functions within it are not executed."""

    def __init__(self, namespace: Mapping[str, Any], local: frozenset[str], seen: frozenset[CodeType]) -> None:
        """Begins a visit.

        Args:
          namespace: The module's names.
          local: The names of a function's own, the first argument among them.
          seen: The functions that are being looked into.
        """
        self.calls: list[ast.expr] = []  # that act
        self.stores = False  # whether a store does
        self.values: list[Any] = []
        self._namespace = namespace
        self._local = local
        self._seen = seen

    @property
    def acts(self) -> bool:
        """Whether anything may act."""
        return self.stores or bool(self.calls)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit(node.args)
        self._visit_decorators(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_decorators(node)
        for base in (*node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(base)
            if self._may_act(base, is_base=True):
                self.calls.append(base)
        inner = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        inner |= {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
        visitor = _Visitor(self._namespace, self._local | inner, self._seen)
        for statement in node.body:
            visitor.visit(statement)
        self.calls += visitor.calls
        self.stores |= visitor.stores
        self.values += visitor.values

    def visit_Call(self, node: ast.Call) -> None:
        if self._may_act(node.func):
            self.calls.append(node)
        if _attributes(node.func)[-1:] == ("reduce",) or (isinstance(node.func, ast.Name) and node.func.id in _CALLING):
            given = (*node.args, *(keyword.value for keyword in node.keywords))
            self.calls += [each for each in given if isinstance(each, ast.Name) and self._function_may_act(each.id)]
        self.generic_visit(node)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            made = item.context_expr
            if isinstance(made, ast.Call) and isinstance(made.func, ast.Name):
                kind = self._namespace.get(made.func.id)
                methods = [vars(kind).get(name) for name in ("__enter__", "__exit__")] if isinstance(kind, type) else []
                if any(isinstance(each, FunctionType) and self._enter(each, kind) for each in methods):
                    self.calls.append(made)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load) and not self._is_own_target(node.value):
            self.stores = True
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        root = _root(node)
        is_local = isinstance(root, ast.Name) and root.id in self._local
        if not isinstance(node.ctx, ast.Load) and not is_local and not self._is_own_target(node.value):
            self.stores = True
        self.generic_visit(node)

    def is_of_module(self, called: ast.expr) -> bool:
        """Whether what is called has a name of the module's."""
        root = _root(called.func if isinstance(called, ast.Call) else called)
        return isinstance(root, ast.Name) and (root.id in self._namespace or hasattr(builtins, root.id))

    def _function_may_act(self, name: str) -> bool:
        """Whether one of the module's names is a function that may act."""
        value = self._namespace.get(name)
        return name not in self._local and isinstance(value, FunctionType) and self._value_may_act(name, (), False)

    def _visit_decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
            if not isinstance(decorator, ast.Call) and self._may_act(decorator):  # of a call, the call tells
                self.calls.append(decorator)

    def _is_own_target(self, target: ast.expr) -> bool:
        """Whether what is changed is something of the user's, which counts by value: `self` in a method, a table."""
        root = _root(target)
        if not isinstance(root, ast.Name):
            return False
        if root.id in self._local:
            return root.id == "self" and root is target
        if root.id not in self._namespace:
            return False
        value = self._namespace[root.id]
        return not isinstance(value, ModuleType) and (
            type(value) in _PLAIN or (library_name(type(value)) is None and library_name(value) is None)
        )

    def _may_act(self, function: ast.expr, is_base: bool = False) -> bool:
        """Whether a call of what an expression stands for may act."""
        root, chain = _root(function), _attributes(function)
        if isinstance(function, ast.Name | ast.Attribute) and isinstance(root, ast.Name) and root.id not in self._local:
            return self._value_may_act(root.id, chain, is_base)
        return not chain or chain[-1] not in _METHODS

    def _value_may_act(self, name: str, chain: tuple[str, ...], is_base: bool) -> bool:
        """The same of one of the module's names, and attributes of what it stands for."""
        if name not in self._namespace:
            return not hasattr(builtins, name) or name in _ACTING_BUILTINS
        value = self._namespace[name]
        for depth, part in enumerate(chain):
            if isinstance(value, ModuleType) and not is_own_module(value):
                return not _is_harmless(value.__name__, chain[depth:])
            if type(value) in _PLAIN:
                return False
            if part not in dir(value):
                return True
            value = getattr(value, part)
        if (named := library_name(value)) is not None:
            return not _is_harmless(*_split(named))
        if is_base:
            return False  # a class of the user's: its own statement is looked at
        if isinstance(value, type):
            made_by = [getattr(value, method, None) for method in ("__new__", "__init__", "__post_init__")]
            return any(self._enter(method, value) for method in made_by)
        return self._enter(getattr(value, "__func__", value), value)

    def _enter(self, function: Any, value: Any) -> bool:
        """Whether a function of the user's may act, which is kept then."""
        wrapped = getattr(function, "__wrapped__", None)  # of a context manager's function, too
        if isinstance(wrapped, FunctionType) and self._enter(wrapped, value):
            return True
        if isinstance(function, functools._lru_cache_wrapper):
            return False
        if not isinstance(function, FunctionType):
            called = vars(type(function)).get("__call__")
            if not isinstance(called, FunctionType):
                named = None if isinstance(value, type) else library_name(type(value))
                return named is not None and not _is_harmless(*_split(named))
            function = called
        code, namespace = function.__code__, function.__globals__
        if not is_own(str(namespace.get("__name__")), namespace.get("__file__")):
            return not _is_harmless(str(namespace.get("__name__")), ())
        if code in self._seen or code.co_filename == "<string>":  # made by dataclasses or namedtuple
            return False
        node = syntax_of(code)
        local = frozenset((*code.co_varnames, *code.co_cellvars, *code.co_freevars))
        visitor = _Visitor(namespace, local, self._seen | {code})
        for statement in node.body if isinstance(node, ast.FunctionDef) else ():
            visitor.visit(statement)
        if node is not None and not visitor.acts:
            return False
        self.values += [value, *visitor.values]
        return True


def _root(node: ast.expr) -> ast.expr:
    """What attributes and items are taken from."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def _attributes(node: ast.expr) -> tuple[str, ...]:
    """The attributes that an expression takes, the last one last."""
    names: tuple[str, ...] = ()
    while isinstance(node, ast.Attribute):
        names = (node.attr, *names)
        node = node.value
    return names


def _split(named: tuple[str, str]) -> tuple[str, tuple[str, ...]]:
    return named[0], tuple(named[1].split("."))


def _is_harmless(module: str, chain: tuple[str, ...]) -> bool:
    """Whether a call of a library's function is known to act on nothing else."""
    top, *rest = (*module.split("."), *chain)
    if any(part.startswith("register") for part in rest):
        return False
    if top in ("numpy", "random", "decimal") and rest and rest[-1] in _MAKING:
        return True
    if top in ("numpy", "pyarrow"):
        return not any(part in _ACTING_NUMPY or part.startswith("set") for part in rest)
    if top == "tensorflow":
        return bool(chain) and chain[-1] in _TENSORFLOW
    if top == "logging":
        return chain == ("getLogger",)
    if top == "os":
        return chain[:1] in (("path",), ("getenv",), ("cpu_count",)) or chain == ("environ", "get")
    if top == "builtins":
        return chain[-1] not in _ACTING_BUILTINS
    return top in _HARMLESS
