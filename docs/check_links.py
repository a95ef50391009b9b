"""Checks that every link of a built site leads to a file and an anchor that are there: `check_links.py FOLDER`.

Links that leave the site are not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None and name == "id":
                self.anchors.add(value)
            elif value is not None and name in ("href", "src"):
                self.links.add(value)


def broken_links(folder: Path) -> list[str]:
    """The links of all pages below a folder that lead nowhere, as `page: link`."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                broken.append(f"{path.relative_to(folder.resolve())}: {link}")
    return broken


def main() -> None:
    """Fails, and names the links, where a site has broken ones."""
    (folder,) = map(Path, sys.argv[1:])
    if not (folder / "index.html").is_file():
        sys.exit(f"expected a built site with an index.html, found none in {folder}; run `make docs`")
    broken = broken_links(folder)
    for each in broken:
        print(f"broken link: {each}", file=sys.stderr)
    sys.exit(f"{len(broken)} links of {folder} lead nowhere" if broken else 0)


if __name__ == "__main__":
    main()
