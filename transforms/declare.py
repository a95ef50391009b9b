"""What a function of `prepare` touches, said by its author: serving can leave out what does not matter to it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .check import expect

_NOTHING = object()


def touches(*names: str) -> Callable[[Any], Any]:
    """Says that a function of `prepare` changes, adds or removes nothing but these features; use it as a decorator.

    An export for serving includes what `prepare` does to the features that its outputs need. A function of Python
    cannot be included, unless what it touches is not needed: one that changes masks alone does not matter to a model
    of images. A function that changes something else fails its examples; but what it does within an image in place,
    or to columns of a batch, nobody checks.

    Args:
      names: The features; none for a function that only leaves examples out.

    Raises:
      ValueError: a name is none.

    >>> @touches("mask")
    ... def binary(example: dict) -> dict:
    ...     return {**example, "mask": min(example["mask"], 1)}
    >>> binary({"image": 7, "mask": 3})
    {'image': 7, 'mask': 1}
    """
    expect(all(isinstance(name, str) and name for name in names), "touches(...)", "names of features", names)

    def declare(function: Any) -> Any:
        from .columns import Vectorized

        if isinstance(function, Vectorized):
            return replace(function, function=_declared(function.function, names, lambda *_: None))
        expect(callable(function), "touches(...)", "a function of an example", function)
        return _declared(function, names, functools.partial(_check, names))

    return declare


def touched(step: Any) -> tuple[str, ...] | None:
    """What a function of `prepare`, or a step of Penstock's own, says that it touches; None where it does not say.

    >>> from penstock.transforms import image
    >>> touched(image.convert("L")), touched(touches("mask")(len)), touched(len)
    (('image',), ('mask',), None)
    """
    names = getattr(getattr(step, "function", step), "touches", None)
    return None if names is None else tuple(names)


def _declared(function: Callable[[Any], Any], names: tuple[str, ...], check: Callable[[Any, Any], None]) -> Any:
    @functools.wraps(function)
    def declared(before: Any) -> Any:
        given = dict(before) if isinstance(before, Mapping) else before  # it may be changed in place
        after = function(before)
        check(given, after)
        return after

    declared.touches = names  # type: ignore[attr-defined]
    return declared


def _check(names: tuple[str, ...], before: Any, after: Any) -> None:
    """Raises ValueError where another feature is not what it was."""
    if not isinstance(after, Mapping):
        return  # whoever applies the function says so
    for name in before.keys() | after.keys():
        old, new = before.get(name, _NOTHING), after.get(name, _NOTHING)
        same = old is new or (type(old) is type(new) and isinstance(old, int | float | str | bytes) and old == new)
        if name not in names and not same:
            raise ValueError(
                f"touches({', '.join(map(repr, names))}): expected nothing else to change, found another {name!r}; "
                "name it as well, or leave it as it is"
            )
