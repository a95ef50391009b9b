"""The files that a source reads: patterns under the input folder, what matches them, and a hash over it."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from ..storage import files, globs
from ..storage.files import FileInfo
from ..storage.scratch import BATCH_ROWS
from .references import FILES, NOT_A_FILE, FileListing

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
_LITTER = r"(?i)(^|/)(\._|" + "|".join(re.escape(name) for name in [*_LITTER_FOLDERS, *_LITTER_NAMES]) + ")"


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
    if _names_litter(pattern):
        return MatchedFiles(matches.files, matches.unreadable, matches.warnings)
    litter = {key: kind for key in [*matches.files, *matches.unreadable] if (kind := _litter(key)) is not None}
    if litter:
        matches.warnings.append(_litter_warning(pattern, len(litter), min(litter)))
    return MatchedFiles(
        {key: info for key, info in matches.files.items() if key not in litter},
        {key: kind for key, kind in matches.unreadable.items() if key not in litter},
        matches.warnings,
    )


def list_files(root: str, patterns: Sequence[str], what: str) -> FileListing:
    """The files that match, as columns; what the warnings tell is the reader's to say of what matches and is no file.

    Args:
      root: The input folder.
      patterns: Patterns below it; a file that several match comes several times.
      what: What the files are, for the message where a pattern matches none; empty: that is no error.

    Raises:
      RequestError: a pattern matches nothing; raised while the batches are taken.
    """
    listing = FileListing(iter(()))

    def batches() -> Iterator[pa.RecordBatch]:
        for pattern in patterns:
            warnings: list[str] = []
            count = 0
            for batch in _list_pattern(root, pattern, warnings):
                count += len(batch)
                yield batch
            listing.warnings += [warning for warning in warnings if warning not in listing.warnings]
            if what and not count:
                raise nothing_matches(root, pattern, what, warnings)

    listing.batches = batches()
    return listing


def _list_pattern(root: str, pattern: str, warnings: list[str]) -> Iterator[pa.RecordBatch]:
    """What a pattern matches, as columns; adds to the warnings."""
    count, first = 0, ""
    if files.is_local(root):
        rows = []
        for key, found in globs.walk(root, pattern, warnings):
            if not _names_litter(pattern) and _litter(key) is not None:
                count, first = count + 1, min(first or key, key)
                continue
            rows.append(_to_row(root, key, found))
            if len(rows) == BATCH_ROWS:
                yield _to_batch(rows)
                rows.clear()
        if rows:
            yield _to_batch(rows)
        if count:
            warnings.append(_litter_warning(pattern, count, first))
        return
    for batch in globs.list_batches(root, pattern):
        is_litter = _is_litter(batch["key"]) if not _names_litter(pattern) else pa.repeat(False, len(batch))
        litter = batch["key"].filter(is_litter)
        count += len(litter)
        first = min([first] * bool(first) + litter.to_pylist(), default="")
        kept = batch.filter(pc.invert(is_litter))
        prefix = pa.scalar(files.join(root, ""))
        seconds = pc.divide(kept["modified"].cast(pa.int64()).cast(pa.float64()), 1e6)
        nothing = pa.nulls(len(kept), pa.string())
        uris = pc.binary_join_element_wise(prefix, kept["key"], "")
        yield pa.RecordBatch.from_arrays(
            [kept["key"], uris, kept["size"], kept["etag"], seconds, nothing, nothing], schema=FILES
        )
    if count:
        warnings.append(_litter_warning(pattern, count, first))


def _is_litter(keys: pa.Array) -> pa.Array:
    """Whether each of many keys is litter; see `_litter`."""
    candidates = pc.match_substring_regex(keys, _LITTER)
    if not pc.any(candidates).as_py():
        return candidates
    return pa.array([_litter(key) is not None for key in keys.to_pylist()])


def _names_litter(pattern: str) -> bool:
    """Whether a pattern asks for what would be passed over."""
    return pattern.rpartition("/")[2].startswith(".")


def _litter_warning(pattern: str, count: int, first: str) -> str:
    return (
        f"{count} files that match {pattern!r} were passed over, such as {globs.printable(first)}: "
        f"{_litter(first)}, not data; remove them, or name them by a pattern whose file name begins with a dot"
    )


def _to_batch(rows: Sequence[tuple[str | float | None, ...]]) -> pa.RecordBatch:
    columns = [pa.array(column, each.type) for column, each in zip(zip(*rows, strict=True), FILES, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=FILES)


def _to_row(root: str, key: str, found: FileInfo | str) -> tuple[str | float | None, ...]:
    """The values of `FILES` of what a local pattern matches: a file, or what stands there instead."""
    if isinstance(found, str):
        uri = globs.printable(files.join(root, key))
        return globs.printable(key), uri, -1, None, 0.0, NOT_A_FILE, found
    code, message = None, None
    if not (is_utf8(key) and is_utf8(found.uri)):
        code, message = "name_not_utf8", "expected a file name in UTF-8, found another; rename it"
    return globs.printable(key), globs.printable(found.uri), found.size, None, found.modified, code, message


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
    """SHA-256 over relative path, size, and ETag or else time of change, in the order given."""
    digest = hashlib.sha256()
    for key, info in infos:
        digest.update(f"{key}\0{_version(info)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def versions_of(matched: Mapping[str, FileInfo]) -> dict[str, str]:
    """What tells whether a file is what it was, by its key; empty where nothing but its size does."""
    return {key: _version(info) if info.etag or info.modified else "" for key, info in matched.items()}


def _version(info: FileInfo) -> str:
    return f"{info.size}\0{info.etag or repr(info.modified)}"
