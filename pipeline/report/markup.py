"""HTML as values: what is no markup is escaped, so that nothing of a dataset can become part of the page's own."""

import html
from collections.abc import Iterable
from typing import TypeAlias

from ..formats.printable import printable

_VOID = frozenset(("br", "img", "input", "link", "meta"))


class Html(str):
    """Markup: text that is not to be escaped any more."""


Content: TypeAlias = "str | int | float | Iterable[Content] | None"


def escape(text: str) -> Html:
    """Text as markup that shows it, characters that would show nothing as escapes."""
    return Html(html.escape(str(printable(text))))


def join(*contents: Content) -> Html:
    """Markup of several contents, one after the other: markup stays, other strings are escaped, None is nothing."""
    return Html("".join(_pieces(contents)))


def _pieces(content: Content) -> Iterable[str]:
    if content is None:
        return
    if isinstance(content, Html):
        yield content
    elif isinstance(content, str | int | float):
        yield escape(str(content))
    else:
        for each in content:
            yield from _pieces(each)


def element(tag: str, *contents: Content, **attributes: str | int | float | bool | None) -> Html:
    """An element.

    Args:
      tag: Its name.
      *contents: What is in it; see `join`.
      **attributes: By their names: `_` stands for `-`, and one at the end is left out (`class_`). True is an attribute
        without a value; one that is False or None is left out.

    >>> element("a", "<b>", href="#x", class_="y")
    '<a href="#x" class="y">&lt;b&gt;</a>'
    """
    shown = []
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            shown.append(f" {name}")
        elif value is not None and value is not False:
            shown.append(f' {name}="{escape(str(value))}"')
    opening = f"<{tag}{''.join(shown)}>"
    return Html(opening if tag in _VOID else f"{opening}{join(*contents)}</{tag}>")


def table(caption: Content, head: Iterable[Content], rows: Iterable[Iterable[Content]], **attributes: str) -> Html:
    """A table, in a region of its own that scrolls where it is wider than the page; each row's first cell heads it."""
    body = [
        element(
            "tr", [element("td" if number else "th", cell, scope=None if number else "row") for number, cell in cells]
        )
        for cells in map(enumerate, rows)
    ]
    content = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", [element("th", cell, scope="col") for cell in head])),
        element("tbody", body),
        **attributes,
    )
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=_text(caption))


def bar(share: float, text: Content) -> Html:
    """A cell's text with a bar under it, as long as a share (0 to 1) of the cell; the text says the same."""
    return element("span", text, class_="bar", style=f"--share:{100 * min(1.0, max(0.0, share)):.1f}%")


def _text(content: Content) -> str:
    """What markup says, without its elements."""
    joined, parts, inside = join(content), [], False
    for character in joined:
        inside = character == "<" or (inside and character != ">")
        parts.append("" if inside or character == ">" else character)
    return html.unescape("".join(parts))
