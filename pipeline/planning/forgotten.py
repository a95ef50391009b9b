"""Examples that are to be forgotten, though their source still has them: they are read no more, and named nowhere.

    penstock run … --forget keys.txt     a key a line: of an image its path, of a row its file's path, `:`, its number

They count as filtered, by the reason `forgotten`. Each generation of the dataset keeps digests of all keys that were
ever given, `units/forgotten.txt`, so that later runs forget them too. A line there holds SHA-256 digests: of a key, and
of the shorter names that lists and warnings use for it; of a row those of its key and of its file, and its number.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from ..errors import DatasetError, RequestError
from ..formats import paths
from ..sources.listing import RecordRange
from ..storage import files
from ..storage.globs import normalized

_ROW = re.compile(r"(?P<file>.+):(?P<number>\d+)", re.DOTALL)
_LINE = re.compile(r"([0-9a-f]{64} ){3}[0-9a-f]{64}|[0-9a-f]{64} [0-9a-f]{64} \d+")
_WORD = re.compile(r"""[^\s'",;:()\[\]…]+""")
_WORDS = 12  # that a name in a warning may have, at most
_EXAMPLE = re.compile(r",? (such as|of which|the first) .*|, and .*", re.DOTALL)
_LINE_OF_TABLE = re.compile(r", line \d+")
HIDDEN = "(forgotten)"


@dataclass(frozen=True)
class Forgotten:
    """The examples of a dataset that are to be forgotten.

    Attributes:
      lines: Digests of their keys, as they are stored; sorted, each once.
    """

    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, keys: Iterable[str]) -> "Forgotten":
        """What keys name; one that begins with `./`, as `find .` gives it, names what it does without."""
        return cls(tuple(sorted({_line(normalized(re.sub(r"^(\./+)+", "", key))) for key in keys})))

    @classmethod
    def read_keys(cls, uri: str) -> "Forgotten":
        """What a file with a key a line names.

        Raises:
          RequestError: it cannot be read, is no text in UTF-8, or names nothing.
        """
        try:
            text = files.read_bytes(uri).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"--forget: expected a text in UTF-8 with a key a line, found: {error}") from error
        keys = [line for line in re.split(r"\r?\n", text) if line]
        if not keys:
            raise RequestError(f"--forget: expected a key a line in {uri}, found none")
        return cls.of(keys)

    @classmethod
    def decode(cls, content: bytes, uri: str) -> "Forgotten":
        """What a generation keeps.

        Raises:
          DatasetError: it is not as it was written.
        """
        lines = content.decode("ascii", "replace").splitlines()
        if any(_LINE.fullmatch(line) is None for line in lines):
            raise DatasetError(
                f"{uri}: expected digests of forgotten keys, found something else; run `penstock verify`"
            )
        return cls(tuple(sorted(set(lines))))

    def encode(self) -> bytes:
        """The content of the file that a generation keeps."""
        return "".join(f"{line}\n" for line in self.lines).encode()

    def __or__(self, other: "Forgotten") -> "Forgotten":
        return Forgotten(tuple(sorted({*self.lines, *other.lines})))

    def __len__(self) -> int:
        return len(self.lines)

    def with_digest(self, digest: str) -> str:
        """A digest of the input that tells what is forgotten of it, too."""
        return hashlib.sha256(digest.encode() + self.encode()).hexdigest() if self.lines else digest

    def find(self, keys: pa.Array) -> np.ndarray:
        """Which keys are to be forgotten: bool [keys]."""
        if not self.lines:
            return np.zeros(len(keys), bool)
        return np.array([_digest(normalized(key)) in self._keys for key in keys.to_pylist()], bool)

    def rows_of(self, key: str) -> np.ndarray:
        """The numbers of the rows of a file that are to be forgotten: int64, sorted."""
        return np.array(sorted(self._rows.get(_digest(normalized(key)), ())), np.int64)

    def mark(self, ranges: Sequence[RecordRange]) -> list[RecordRange]:
        """Ranges with the numbers of their rows that are to be forgotten; of ranges without numbers, of their files."""
        rows = {key: self.rows_of(key) for key in {record_range.key for record_range in ranges}}
        marked = []
        for each in ranges:
            numbers = rows[each.key]
            if each.rows >= 0 and not each.is_nominal:
                numbers = numbers[(numbers >= each.first_row) & (numbers < each.first_row + each.rows)]
            marked.append(replace(each, forgotten=numbers.tobytes()))
        return marked

    def hide(self, warnings: Iterable[str], of_table: bool) -> list[str]:
        """Warnings without what is to be forgotten: without its names, and of a table, a joined one too, any values."""
        if not self.lines:
            return list(warnings)
        return [
            _EXAMPLE.sub("", warning) if of_table or _LINE_OF_TABLE.search(warning) else self._hide_names(warning)
            for warning in warnings
        ]

    def _hide_names(self, warning: str) -> str:
        words = [match.span() for match in _WORD.finditer(warning)]
        parts = {warning[begin:end] for at, (begin, _) in enumerate(words) for _, end in words[at : at + _WORDS]}
        for part in sorted(parts, key=len):
            if any(_digest(name) in self._names for name in _names_of(normalized(part))):
                warning = warning.replace(part, HIDDEN)
        return warning

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(line[:64] for line in self.lines)

    @cached_property
    def _names(self) -> frozenset[str]:
        """The digests of all names of keys that are no rows'."""
        return frozenset(digest for line in self.lines if line.count(" ") == 3 for digest in line.split())

    @cached_property
    def _rows(self) -> dict[str, set[int]]:
        """The digests of files to the numbers of their rows."""
        rows: dict[str, set[int]] = {}
        for line in self.lines:
            if line.count(" ") == 2:
                _, file, number = line.split()
                rows.setdefault(file, set()).add(int(number))
        return rows


NOTHING = Forgotten()


def read_forgotten(dataset: str) -> Forgotten:
    """What is to be forgotten of a dataset: what any generation that is there says.

    Raises:
      DatasetError: what one says cannot be read: examples could come back.
    """
    forgotten = Forgotten()
    try:
        for name in filter(paths.is_generation, _names_in(dataset)):
            uri = files.join(dataset, name, paths.FORGOTTEN)
            with contextlib.suppress(FileNotFoundError):  # most have none: asking first would be a request more
                content = files.read_bytes(uri)
                if files.exists(files.join(dataset, name, paths.MANIFEST)):
                    forgotten |= Forgotten.decode(content, uri)
    except OSError as error:
        raise DatasetError(f"{dataset}: expected to read what was forgotten, found: {error}; run again") from error
    return forgotten


def _names_in(folder: str) -> list[str]:
    """The names of what lies in a folder; none where it is not there."""
    try:
        return files.list_names(folder)
    except FileNotFoundError:
        return []


def _line(key: str) -> str:
    """What is kept of a key."""
    row = _ROW.fullmatch(key)
    if row:
        return f"{_digest(key)} {_digest(row['file'])} {int(row['number'])}"
    return " ".join(map(_digest, _names_of(key)))


def _names_of(key: str) -> list[str]:
    """A key, and the names that lists use for it: without its suffix, its file name, and its stem."""
    name = key.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return [key, f"{key.removesuffix(name)}{stem}", name, stem]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
