"""The files that a source reads: patterns under the input folder, what matches them, and a hash over it."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import RequestError
from ..storage import files, globs
from ..storage.files import FileInfo

EXPECTED_FILE = "expected a file that can be read, found"
_NOT_UTF8 = "a name that is not UTF-8; rename it"
_LITTER_FOLDERS = {
    "__MACOSX": "a folder of macOS's zip files",
    ".ipynb_checkpoints": "copies that Jupyter keeps",
    "@eaDir": "previews that a Synology NAS keeps",
}
_LITTER_NAMES = {
    ".ds_store": "a file that macOS's Finder writes",
    "thumbs.db": "previews that Windows keeps",
    "ehthumbs.db": "previews that Windows keeps",
    "desktop.ini": "settings of Windows' Explorer",
}


def check_patterns(source: str, pattern: str | Sequence[str]) -> tuple[str, ...]:
    """The patterns, always as a tuple.

    Raises:
      RequestError: there is none, or one leads out of the input.
    """
    patterns = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    if not patterns or not all(isinstance(each, str) and each for each in patterns):
        raise RequestError(f"{source}(pattern): expected a pattern such as 'data/*', found {pattern!r}")
    for each in patterns:
        if each.startswith("/") or "://" in each or ".." in each.split("/"):
            raise RequestError(f"{source}: expected a path relative to --input, found {each!r}")
    return patterns


@dataclass
class MatchedFiles:
    """What patterns match.

    Attributes:
      files: The files, by path relative to the root, sorted.
      unreadable: What matches but is no file that can be read, by relative path, to what it is.
      warnings: What the user should know of the listing.
    """

    files: dict[str, FileInfo]
    unreadable: dict[str, str]
    warnings: list[str]


def find_files(root: str, pattern: str) -> MatchedFiles:
    """The files that match; what operating systems leave beside files is passed over and told.

    Raises:
      OSError: the store cannot be listed.
    """
    matches = globs.glob(root, pattern)
    if pattern.rpartition("/")[2].startswith("."):
        return MatchedFiles(matches.files, matches.unreadable, matches.warnings)
    litter = {key: kind for key in [*matches.files, *matches.unreadable] if (kind := _litter(key)) is not None}
    if litter:
        first = min(litter)
        matches.warnings.append(
            f"{len(litter)} files that match {pattern!r} were passed over, such as {globs.printable(first)}: "
            f"{litter[first]}, not data; remove them, or name them by a pattern whose file name begins with a dot"
        )
    return MatchedFiles(
        {key: info for key, info in matches.files.items() if key not in litter},
        {key: kind for key, kind in matches.unreadable.items() if key not in litter},
        matches.warnings,
    )


def match_files(root: str, patterns: Sequence[str], warnings: list[str]) -> dict[str, FileInfo]:
    """The record files that match, by path relative to `root`, sorted; adds to the warnings what was left out and why.

    Raises:
      RequestError: a pattern matches nothing.
    """
    matched: dict[str, FileInfo] = {}
    for pattern in patterns:
        found = find_files(root, pattern)
        usable = {key: info for key, info in found.files.items() if is_utf8(key)}
        left_out = {**found.unreadable, **{key: _NOT_UTF8 for key in found.files if key not in usable}}
        warnings += [warning for warning in found.warnings if warning not in warnings]
        for key, kind in left_out.items():
            warning = f"{globs.printable(key)} matches {pattern!r} and is not in the dataset: {EXPECTED_FILE} {kind}"
            if warning not in warnings:
                warnings.append(warning)
        if not usable:
            raise nothing_matches(root, pattern, "record files", [*warnings])
        matched.update(usable)
    return dict(sorted(matched.items()))


def nothing_matches(root: str, pattern: str, what: str, warnings: Sequence[str]) -> RequestError:
    """The error where a pattern matches no file; what the listing warned of may be the reason."""
    notes = f"; {'; '.join(warnings)}" if warnings else ""
    return RequestError(
        f"expected {what} at {files.join(root, pattern)}, found none; check --input and the pattern{notes}"
    )


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8, as keys must be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _litter(key: str) -> str | None:
    """What an operating system or a tool left there, by its name; None for data."""
    *folders, name = key.split("/")
    for folder, kind in _LITTER_FOLDERS.items():
        if folder in folders:
            return kind
    if name.startswith("._"):
        return "AppleDouble files, which macOS writes beside others"
    return _LITTER_NAMES.get(name.lower())


def digest_files(infos: Iterable[tuple[str, FileInfo]]) -> str:
    """SHA-256 over (relative path, size, time of change), in the order given."""
    digest = hashlib.sha256()
    for key, info in infos:
        digest.update(f"{key}\0{info.size}\0{info.modified!r}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
