"""Files by glob patterns: only the folders that a pattern needs are looked into, and each of them once."""

import errno
import fnmatch
import heapq
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from . import files, listing
from .files import FileInfo

_SHOWN = 3  # paths named in a warning
_LITERAL = re.compile(r"[\x20-\x7e]*?(?=[^\x20-\x7e]|[*?\[]|\Z)")  # what is so in either Unicode form
_KINDS = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))


@dataclass
class Matches:
    """What matches a pattern.

    Attributes:
      files: The files, by path relative to the root, sorted.
      unreadable: What matches but is no file that can be read, by relative path: "a link to x, where nothing is".
      warnings: Folders that could not be looked into, and links to folders that are listed already.
    """

    files: dict[str, FileInfo] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def glob(root: str, pattern: str) -> Matches:
    """The files below `root` whose path relative to it matches `pattern`.

    `*` and `?` stay inside a folder, `[...]` is a set of characters, `**/` is any number of folders, none included.
    Names match whatever their Unicode form. Links are followed; a folder that several links lead to is listed once, as
    itself where it lies below the root, else by the first link.

    Raises:
      OSError: the store cannot be listed.
    """
    if files.is_local(root):
        matches = Matches()
        for key, found in sorted(walk(root, pattern, matches.warnings), key=lambda each: each[0]):
            if isinstance(found, FileInfo):
                matches.files[key] = found
            else:
                matches.unreadable[key] = found
        return matches
    infos = [
        (key, info)
        for batch in list_batches(root, pattern)
        for key, info in zip(batch.column("key").to_pylist(), files.to_infos(root, batch), strict=True)
    ]
    return Matches(dict(sorted(infos, key=lambda each: each[0])))


def walk(root: str, pattern: str, warnings: list[str]) -> Iterator[tuple[str, FileInfo | str]]:
    """What matches a pattern below a local folder, see `glob`, in no order; none of it is held.

    Args:
      root: The folder.
      pattern: The pattern.
      warnings: Is added to when all is listed.

    Yields:
      Relative paths with their files, or with what stands there that is no file that can be read.
    """
    listing = _Walk(root.rstrip("/") or "/", pattern)
    yield from listing.entries()
    warnings += listing.warnings()


def list_batches(root: str, pattern: str) -> Iterator[pa.RecordBatch]:
    """The objects below a folder of a store that match a pattern, see `glob`: batches of `listing.SCHEMA`, in no order.

    Raises:
      OSError: the store cannot be listed.
    """
    match = _LITERAL.match(pattern)
    literal = match[0] if match else ""
    folder, slash, prefix = literal.rpartition("/")
    batches = listing.list_batches(
        files.join(root, folder) if folder else root, _Pattern(pattern[len(folder + slash) :]), prefix=prefix
    )
    for batch in batches:
        if folder:
            keys = pc.binary_join_element_wise(pa.scalar(folder), batch.column("key"), "/")
            batch = batch.set_column(0, listing.SCHEMA.field("key"), keys)
        yield batch


def compile_glob(pattern: str) -> re.Pattern[str]:
    """The regular expression of a glob pattern; see `glob`."""
    expression = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+|\[", pattern):
        if token == "**/":
            expression += r"(?:[^/]+/)*"
        elif token == "**":
            expression += r".*"
        elif token == "*":
            expression += r"[^/]*"
        elif token == "?":
            expression += r"[^/]"
        elif len(token) > 1 and token[0] == "[":
            translated = fnmatch.translate(token).removeprefix("(?s:").removesuffix(r")\Z").removesuffix(r")\z")
            expression += f"(?!/){translated}"
        else:
            expression += re.escape(token)
    return re.compile(expression, re.DOTALL)


def matches_glob(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern, whatever the Unicode form of either; see `glob`."""
    return _fits(_either_form(pattern), name)


def escape_glob(path: str) -> str:
    """The pattern that matches this very path."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def printable(name: str) -> str:
    """A path with what is not UTF-8 in it escaped, as messages can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


def normalized(name: str) -> str:
    """A name in Unicode's form NFC: macOS writes é as two characters, lists and other systems as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class _Pattern:
    """A pattern by its segments: tells which folders may hold matches.

    A state is the number of a segment that the next name may match. A segment `**` is any number of names. From one
    that has other `**` in it on, everything may match.
    """

    def __init__(self, pattern: str) -> None:
        self._whole = _either_form(pattern)
        self._segments = pattern.split("/")
        last = len(self._segments) - 1
        self._loose = next(
            (at for at, each in enumerate(self._segments) if "**" in each and (each != "**" or at == last)), last + 1
        )

    def matches(self, key: str) -> bool:
        """Whether a file's relative path matches."""
        return _fits(self._whole, key)

    def select(self, keys: pa.StringArray) -> pa.BooleanArray:
        """Whether each of some files' relative paths matches."""
        expression = self._whole[0].pattern
        if "[" in expression or not pc.all(pc.string_is_ascii(keys)).as_py():  # for which RE2 has no word, or two forms
            return pa.array([self.matches(key) for key in keys.to_pylist()], pa.bool_())
        return pc.match_substring_regex(keys, rf"(?s)\A(?:{expression})\z")

    def dead_folder(self, key: str) -> str | None:
        """The outermost folder around a path that no match can be in, if any."""
        names = key.split("/")[:-1]
        states = frozenset([0])
        for depth, name in enumerate(names, 1):
            states = self.enter(states, name)
            if not states:
                return "/".join(names[:depth])
        return None

    def enter(self, states: frozenset[int], name: str) -> frozenset[int]:
        """The states in a folder, from those in the folder that holds it; none where it need not be looked into."""
        after = set()
        for state in self._reachable(states):
            segment = self._segments[state]
            if state >= self._loose or segment == "**":
                after.add(state)
            elif state < len(self._segments) - 1 and _fits(_either_form(segment), name):
                after.add(state + 1)
        return frozenset(after)

    def _reachable(self, states: frozenset[int]) -> Iterator[int]:
        """The states themselves, and those behind a `**` that stands for no folder."""
        for state in states:
            yield state
            while state < self._loose and self._segments[state] == "**":
                state += 1
                yield state


@lru_cache(maxsize=1024)
def _either_form(pattern: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return compile_glob(pattern), compile_glob(normalized(pattern))


def _fits(expressions: tuple[re.Pattern[str], re.Pattern[str]], name: str) -> bool:
    as_written, as_normalized = expressions
    return bool(as_written.fullmatch(name) or (not name.isascii() and as_normalized.fullmatch(normalized(name))))


class _Walk:
    """One listing of a local folder. Links wait until all else is listed, so that a folder keeps its own name."""

    def __init__(self, root: str, pattern: str) -> None:
        self._root = root
        self._pattern = _Pattern(pattern)
        self._folders = [("", frozenset([0]))]
        self._links: list[tuple[str, tuple[int, ...]]] = []
        self._seen: dict[tuple[int, int], set[int]] = {}
        self._aliases: list[str] = []
        self._lost: list[str] = []  # what should be a folder but cannot be looked into

    def entries(self) -> Iterator[tuple[str, FileInfo | str]]:
        while self._folders or self._links:
            if self._folders:
                folder, states = self._folders.pop()
            else:
                folder, sorted_states = heapq.heappop(self._links)
                states = frozenset(sorted_states)
            yield from self._look_into(folder, states)

    def _look_into(self, folder: str, states: frozenset[int]) -> Iterator[tuple[str, FileInfo | str]]:
        """The matches in a folder, as far as it was not looked into in these states."""
        path = files.join(self._root, folder) if folder else self._root
        try:
            status = os.stat(path)
            seen = self._seen.setdefault((status.st_dev, status.st_ino), set())
            if states <= seen:
                self._aliases.append(folder)
                return
            new = states - seen
            seen |= states
            with os.scandir(path) as entries:
                for entry in entries:
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    if (found := self._take(entry, key, new)) is not None:
                        yield key, found
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._lost.append(f"{printable(folder) or '.'} ({error.strerror})")

    def _take(self, entry: os.DirEntry[str], key: str, states: frozenset[int]) -> FileInfo | str | None:
        """What matches there; None where nothing does, as it does not in a folder, which waits for its turn."""
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself
            is_folder = False
        if is_folder:
            if after := self._pattern.enter(states, entry.name):
                if entry.is_symlink():
                    heapq.heappush(self._links, (key, tuple(sorted(after))))
                else:
                    self._folders.append((key, after))
            return None
        matches = self._pattern.matches(key)
        if not matches and not entry.is_symlink():
            return None
        try:
            status = entry.stat()
        except OSError as error:
            why = _why_not(entry, error)
            if matches:
                return why
            if self._pattern.enter(states, entry.name):
                self._lost.append(f"{printable(key)} ({why})")
            return None
        if not matches:
            return None
        if stat.S_ISREG(status.st_mode):
            return FileInfo(entry.path, status.st_size, status.st_mtime)
        return next((kind for test, kind in _KINDS if test(status.st_mode)), "a device")

    def warnings(self) -> list[str]:
        warnings = []
        if self._lost:
            warnings.append(
                f"{len(self._lost)} folders cannot be looked into, and what they hold is not in the dataset: "
                f"{_examples(self._lost)}; mount or fetch what the links lead to, or remove them"
            )
        if self._aliases:
            warnings.append(
                f"{len(self._aliases)} links lead to folders that are listed already, and whose files are taken once: "
                f"{_examples([printable(alias) for alias in self._aliases])}"
            )
        return warnings


def _why_not(entry: os.DirEntry[str], error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a link that leads back to itself"
    if entry.is_symlink() and error.errno == errno.ENOENT:
        return f"a link to {printable(os.readlink(entry.path))}, where nothing is"
    return error.strerror or str(error)


def _examples(names: list[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + ", …" * (len(names) > _SHOWN)
