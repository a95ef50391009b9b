"""The order in which classes are shown."""

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


def ordered(classes: Mapping[str, Value]) -> dict[str, Value]:
    """Classes by their names, numbers first and as numbers.

    >>> list(ordered({"10": 1, "2": 1, "-1.5": 1, "a": 1, "0": 1}))
    ['-1.5', '0', '2', '10', 'a']
    """
    return dict(sorted(classes.items(), key=lambda item: _rank(item[0])))


def _rank(name: str) -> tuple[bool, float, str]:
    is_number = re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", name) is not None
    return not is_number, float(name) if is_number else 0.0, name
