r"""Regular expressions that TensorFlow's RE2 and Python's `re` understand alike, and their translation.

Both take the leftmost match, and of its alternatives the first. What they see differently is translated (`$`, `.`,
`\s`, the classes of Unicode's categories, which each knows from another version of Unicode), or not portable: flags,
`\B`, which in the empty text is true for RE2 alone, what can match the empty text when it is to be replaced, and
repetitions of repetitions, on which `re` may take forever.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache

_INVALID = "\ud800-\udfff"  # bytes that are no UTF-8, as they are decoded here; RE2 matches none of them with a class
_PERL = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_CONTROLS = {"n": r"\n", "t": r"\t", "r": r"\r", "f": r"\f", "v": r"\v", "a": r"\x07"}
_REPEATED = re.compile(r"(?:[*+?]|\{\d{1,4}(?:,\d{0,4})?\})\??")
_MOST = 1000  # RE2's limit on counted repetitions
_FEW = 10  # of something of several lengths: more would take `re` too long
_ANCHORS = {"^": r"\A", "$": r"\Z", r"\A": r"\A", r"\z": r"\Z", r"\b": r"\b"}


class NotAlikeError(ValueError):
    """The two may understand the expression differently."""


def classes(pattern: str) -> list[str]:
    r"""The names of Unicode's classes in an expression, such as "L" for \pL and "Greek" for \p{Greek}."""
    names = re.findall(r"(?<!\\)(?:\\\\)*\\[pP](?:\{\^?(\w+)\}|([A-Z]))", pattern)
    return sorted({braced or letter for braced, letter in names})


def translate(pattern: str, ranges: Mapping[str, str], replaced: bool = False) -> str:
    r"""An expression of RE2's in Python's words, for text that is decoded with "surrogateescape".

    Args:
      pattern: The expression.
      ranges: The code points of each of its `classes`: first and last ones, such as "41-5a 61-7a".
      replaced: Whether what matches is to be replaced.

    Raises:
      NotAlikeError: the two may understand it differently.

    >>> translate(r"[^\d.]+$", {})
    '[^0-9\\.\ud800-\udfff]+\\Z'
    """
    parser = _Parser(pattern, ranges)
    translated, can_be_empty, _ = parser.alternatives()
    if parser.rest:
        raise NotAlikeError(f"expected no {parser.rest[0]!r}")
    if replaced and can_be_empty:
        raise NotAlikeError("it matches the empty text")
    return translated


@cache
def compiled(pattern: str, ranges: tuple[tuple[str, str], ...], replaced: bool) -> re.Pattern[str]:
    """An expression, translated and compiled; what it does not spell out is as in ASCII. See `translate`."""
    try:
        return re.compile(translate(pattern, dict(ranges), replaced), re.ASCII)
    except re.error as error:  # RE2 refuses it as well, but only when it meets a string
        raise NotAlikeError(f"it is none: {error}") from error
    except RecursionError as error:
        raise NotAlikeError("it is nested too deeply") from error


def replacement(rewrite: str, groups: int) -> Callable[[re.Match[str]], str]:
    r"""What puts RE2's rewrite, such as "\2 \1", in the place of a match.

    Raises:
      NotAlikeError: it names a group that is not there, or is none of RE2's.
    """
    parts = re.split(r"\\(.?)", rewrite)  # text and what follows a backslash, by turns
    numbers = [part for part in parts[1::2] if part != "\\"]
    if not all(part.isdecimal() and part.isascii() and int(part) <= groups for part in numbers):
        raise NotAlikeError(f"the rewrite {rewrite!r} names what is no group")

    def replace(match: re.Match[str]) -> str:
        pieces = list(parts)
        pieces[1::2] = ["\\" if part == "\\" else match.group(int(part)) or "" for part in parts[1::2]]
        return "".join(pieces)

    return replace


class _Parser:
    """Goes over an expression from left to right.

    Each of its methods returns the translation, whether it can match the empty text, and whether the lengths of what it
    matches vary.
    """

    def __init__(self, pattern: str, ranges: Mapping[str, str]) -> None:
        self.rest = pattern
        self._ranges = ranges

    def alternatives(self) -> tuple[str, bool, bool]:
        """What stands between parentheses, or is the whole expression."""
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        texts, empties, varying = zip(*branches, strict=True)
        return "|".join(texts), any(empties), any(varying) or len(branches) > 1

    def _sequence(self) -> tuple[str, bool, bool]:
        texts, empty, varies = [], True, False
        while self.rest and self.rest[0] not in "|)":
            text, item_empty, item_varies = self._item()
            texts.append(text)
            empty, varies = empty and item_empty, varies or item_varies
        return "".join(texts), empty, varies

    def _item(self) -> tuple[str, bool, bool]:
        """Something with how often it is repeated."""
        text, empty, varies = self._atom()
        repetition = _REPEATED.match(self.rest)
        if not repetition:
            return text, empty, varies
        operator = repetition.group()
        self.rest = self.rest[repetition.end() :]
        counts = [int(number) for number in re.findall(r"\d+", operator)]
        once = operator[0] == "?" or ("," not in operator and max(counts, default=_FEW + 1) <= _FEW)
        if empty or (varies and not once) or _REPEATED.match(self.rest):
            raise NotAlikeError(f"{operator!r} repeats what may be empty or of several lengths")
        if counts and max(counts) > _MOST:
            raise NotAlikeError(f"{operator!r} repeats more than {_MOST} times")
        is_fixed = len(counts) == 1 and "," not in operator
        return text + operator, operator[0] in "*?" or counts[:1] == [0], varies or not is_fixed

    def _atom(self) -> tuple[str, bool, bool]:
        for anchor, translated in _ANCHORS.items():
            if self._take(anchor):
                return translated, True, False
        if self._take("("):
            plain = self._take("?:")
            if self.rest.startswith("?"):
                raise NotAlikeError("it has a flag or a named group")
            text, empty, varies = self.alternatives()
            self._expect(")")
            return f"(?:{text})" if plain else f"({text})", empty, varies
        if self._take("["):
            return self._class(), False, False
        if self._take("."):
            return f"[^\n{_INVALID}]", False, False
        if self.rest[0] in "*+?{})]":
            raise NotAlikeError(f"expected no {self.rest[0]!r}")
        if not self._take("\\"):
            return re.escape(self._next()), False, False
        text, kind = self._escape()
        return {"literal": text, "class": f"[{text}]", "others": f"[^{text}{_INVALID}]"}[kind], False, False

    def _class(self) -> str:
        """What is between brackets, and they."""
        negated = self._take("^")
        items: list[str] = []
        while not (items and self._take("]")):
            if self.rest[:1] in ("[", "]"):
                raise NotAlikeError("it has a bracket in brackets")
            items.append(self._class_item())
        return f"[{'^' if negated else ''}{''.join(items)}{_INVALID if negated else ''}]"

    def _class_item(self) -> str:
        """A character, a range of characters or a class."""
        text, kind = self._escape() if self._take("\\") else (re.escape(self._next()), "literal")
        if kind == "others":
            raise NotAlikeError("it has a negated class in brackets")
        if not self.rest.startswith("-") or self.rest.startswith("-]"):
            return text
        self._expect("-")
        if kind == "class" or self.rest[:1] in ("[", "\\"):
            raise NotAlikeError("it has a range that is not between two characters")
        return f"{text}-{re.escape(self._next())}"

    def _escape(self) -> tuple[str, str]:
        """What follows a backslash, as written within brackets; and whether it is a literal, a class or all others."""
        letter = self._next()
        if letter.lower() in _PERL:
            return _PERL[letter.lower()], "others" if letter.isupper() else "class"
        if letter in "pP":
            name = re.match(r"\{(\^?)(\w+)\}|()([A-Z])", self.rest)
            if not name:
                raise NotAlikeError("it has a class without a name")
            self.rest = self.rest[name.end() :]
            ranges = self._ranges.get(name.group(2) or name.group(4))
            if not ranges:
                raise NotAlikeError(f"it has the unknown class {name.group()}")
            ends = [[re.escape(chr(int(end, 16))) for end in part.split("-")] for part in ranges.split()]
            spelled = "".join(f"{first}-{last}" for first, last in ends)
            return spelled, "others" if (letter == "P") != bool(name.group(1)) else "class"
        if letter in _CONTROLS:
            return _CONTROLS[letter], "literal"
        if letter.isalnum() or not letter.isascii():
            raise NotAlikeError(f"it has \\{letter}")
        return re.escape(letter), "literal"

    def _take(self, text: str) -> bool:
        if not self.rest.startswith(text):
            return False
        self.rest = self.rest[len(text) :]
        return True

    def _next(self) -> str:
        if not self.rest:
            raise NotAlikeError("it ends too early")
        character, self.rest = self.rest[0], self.rest[1:]
        return character

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise NotAlikeError(f"expected {text!r}")
