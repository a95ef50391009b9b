"""Keys that would match, were they written alike: what most joins that match too little come to."""

import re
from collections.abc import Iterable
from itertools import islice

from ..storage.globs import normalized

SEARCHED = 1 << 20  # keys of the other side that are looked through


def hint(missing: Iterable[str], others: Iterable[str]) -> str:
    """Names a key without a match and the other side's that differs in its writing only; empty where there is none.

    Args:
      missing: Keys without a match.
      others: Keys of the other side.
    """
    by_form: dict[str, str] = {}
    for key in missing:
        by_form.setdefault(_form(key), key)
    if not by_form:
        return ""
    for other in islice(others, SEARCHED):
        key = by_form.get(_form(other), other)
        if key != other:
            return (
                f"{key!r} and {other!r} differ only in leading zeros, case, blanks, the decimal point or Unicode form: "
                "bring both sides to one, for example by declaring the columns as strings (columns={...})"
            )
    return ""


def _form(key: str) -> str:
    """The key without what only its writing decides."""
    bare = normalized(key).strip().casefold()
    match = re.fullmatch(r"([+-]?)0*([0-9]+?)(?:\.0*)?", bare)
    return match[1].replace("+", "") + match[2] if match else bare.lstrip("0") or bare
