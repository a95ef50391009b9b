"""The files that a source reads: patterns under the input folder, what matches them, and a hash over it."""

import hashlib
from collections.abc import Iterable, Sequence

from ..errors import RequestError
from ..storage import files
from ..storage.files import FileInfo


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


def match_files(root: str, patterns: Sequence[str], what: str = "record files") -> dict[str, FileInfo]:
    """The files that match, by path relative to `root`, sorted; `what` they are is said where there are none.

    Raises:
      RequestError: a pattern matches nothing.
    """
    infos: dict[str, FileInfo] = {}
    for pattern in patterns:
        matched = files.glob(root, pattern)
        if not matched:
            raise RequestError(
                f"expected {what} at {files.join(root, pattern)}, found none; check --input and the pattern"
            )
        infos.update(matched)
    return dict(sorted(infos.items()))


def digest_files(infos: Iterable[tuple[str, FileInfo]]) -> str:
    """SHA-256 over (relative path, size, time of change), in the order given."""
    digest = hashlib.sha256()
    for key, info in infos:
        digest.update(f"{key}\0{info.size}\0{info.modified!r}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
