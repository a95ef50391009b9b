"""Members of archives, listed as files are; and labels that lie beside them, as WebDataset's tar files have them."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from ..formats.features import LABEL
from ..storage.files import FileInfo
from .archive_members import INSIDE, MemberAddress
from .archives import Archive, ArchiveContent, ListedMember, is_archive_pattern, look_into, split_pattern
from .file_patterns import digest_files, find_files, list_files, nothing_matches
from .references import FILES, FileListing

_COLUMNS = pa.schema([*FILES, (LABEL, pa.string())])


@dataclass(frozen=True)
class Sibling:
    """Labels from members of an archive that lie beside the images: `000.cls` beside `000.jpg`.

    Attributes:
      suffix: What follows the name that both have: ".cls", ".txt", ".json". The name is the image's without its
        extension, or, as WebDataset has it, what is before its first dot.
      field: Of a JSON object, the key whose value is the label, a string or a whole number; None: the whole content is.
    """

    suffix: str
    field: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.suffix, str) or not self.suffix.startswith(".") or "/" in self.suffix:
            raise RequestError(f"sibling(suffix): expected an extension such as '.cls', found {self.suffix!r}")

    def names(self, key: str) -> tuple[str, str]:
        """The keys that an image's label may have."""
        folder, slash, name = key.rpartition("/")
        base = f"{folder}{slash}"
        return f"{base}{name.rpartition('.')[0] or name}{self.suffix}", f"{base}{name.partition('.')[0]}{self.suffix}"

    def label(self, content: bytes) -> str:
        """The label that a sibling holds.

        Raises:
          ValueError: it holds none.
        """
        text = content.decode("utf-8-sig").strip()
        if self.field is None:
            return text
        row = json.loads(text)
        value = row.get(self.field) if isinstance(row, dict) else None
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise ValueError(f"expected a string or a whole number at {self.field!r}, found {value!r}")


def sibling(suffix: str, field: str | None = None) -> Sibling:
    """Labels from members of an archive beside the images; see `Sibling`."""
    return Sibling(suffix, field)


@dataclass
class ListedFiles(FileListing):
    """Files and members of archives.

    Attributes:
      beside: Members that match the other patterns, once all batches are taken; they were found in the same pass.
    """

    beside: FileListing = field(default_factory=lambda: FileListing(iter(())))


def list_with_members(
    root: str, patterns: Sequence[str], what: str, labels: Sibling | None = None, beside: Sequence[str] = ()
) -> ListedFiles:
    """The files and the members of archives that match, as columns; see `file_patterns.list_files`.

    Args:
      root: The input folder.
      patterns: Patterns below it; those with `!/` lead into archives.
      what: What the files are, for the message where a pattern matches none; empty: that is no error.
      labels: Where members have their labels; None: they have none.
      beside: Other patterns that lead into archives.

    Raises:
      RequestError: a pattern matches nothing, an archive is damaged, or labels are asked for that files cannot have;
        raised while the batches are taken, too.
    """
    outside = [pattern for pattern in patterns if not is_archive_pattern(pattern)]
    if labels is not None and outside:
        raise RequestError(
            f"Images(label=sibling({labels.suffix!r})): expected patterns of members of archives, such as "
            f"'*.tar!/**/*.jpg', found {outside}; use table(...) for labels of files"
        )
    plain = list_files(root, outside, what)
    listing = ListedFiles(iter(()), warnings=plain.warnings, depends_on=plain.depends_on)
    inside = [pattern for pattern in patterns if is_archive_pattern(pattern)]

    def batches() -> Iterator[pa.RecordBatch]:
        yield from map(_refuse_addresses, plain.batches)
        if inside or beside:
            yield from _members(root, inside, beside, what, labels, listing)

    listing.batches = batches()
    return listing


def _refuse_addresses(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Files whose names read as the address of a member are no examples: other bytes would be read for them."""
    if not pc.match_substring(batch["uri"], INSIDE).true_count:
        return batch
    is_address = pa.array([MemberAddress.parse(uri) is not None for uri in batch["uri"].to_pylist()])
    words = "expected a name that is no address of an archive's member, found one that is; rename it"
    code = pc.if_else(is_address, "unsupported_uri", batch["code"])
    message = pc.if_else(is_address, words, batch["message"])
    columns = {**{name: batch[name] for name in batch.schema.names}, "code": code, "message": message}
    return pa.RecordBatch.from_pydict(columns)


def _members(
    root: str,
    patterns: Sequence[str],
    beside: Sequence[str],
    what: str,
    labels: Sibling | None,
    listing: ListedFiles,
) -> Iterator[pa.RecordBatch]:
    """A batch of the matching members of each archive; adds to the listing what it depends on, and what lies beside."""
    archives = _find_archives(root, [*patterns, *beside], listing)
    keep: Callable[[str], bool] = (lambda name: name.endswith(labels.suffix)) if labels else lambda name: False
    matched = Counter[int]()
    others = _Spool()
    for content in look_into(archives, keep):
        listing.warnings += content.warnings
        members = [member for member in content.members if any(number < len(patterns) for number in member.matches)]
        lying_beside = [member for member in content.members if any(n >= len(patterns) for n in member.matches)]
        matched.update(number for member in content.members for number in member.matches)
        if members:
            yield _to_batch(members, _find_labels(content, labels) if labels else None)
        if lying_beside:
            others.write(_to_batch(lying_beside, None))
    for number, pattern in enumerate(patterns):
        if what and not matched[number]:
            raise nothing_matches(root, pattern, what, listing.warnings)
    listing.digest += digest_files((archive.key, archive.info) for archive in archives)
    listing.beside = FileListing(others.batches())


def _find_archives(root: str, patterns: Sequence[str], listing: ListedFiles) -> list[Archive]:
    """The archives that patterns lead into, each once, with those of the patterns that do.

    Raises:
      RequestError: what matches is no file.
    """
    infos: dict[str, FileInfo] = {}
    inner_patterns: dict[str, dict[int, tuple[str, ...]]] = {}
    for number, pattern in enumerate(patterns):
        outer, inner = split_pattern(pattern)
        matched = find_files(root, outer)
        listing.warnings += [warning for warning in matched.warnings if warning not in listing.warnings]
        for key, kind in matched.unreadable.items():
            raise RequestError(
                f"{key}: expected an archive that can be read, found {kind}; fetch it, or remove its name"
            )
        infos |= matched.files
        for key in matched.files:
            inner_patterns.setdefault(key, {})[number] = inner
    return [Archive(key, infos[key], inner) for key, inner in sorted(inner_patterns.items())]


class _Spool:
    """Batches of files that wait on disk until they are asked for."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Keeps a batch."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when its batches are taken
            self._writer = pa.ipc.new_stream(self._file, batch.schema)
        self._writer.write_batch(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches, once."""
        if self._file is not None:
            with self._file:
                self._writer.close()
                self._file.seek(0)
                yield from pa.ipc.open_stream(self._file)


def _find_labels(content: ArchiveContent, labels: Sibling) -> Callable[[ListedMember], str | tuple[str, str]]:
    """Gives a member's label, empty where there is none; or a code and words where it cannot be read."""
    siblings = {member.key: member.content for member in content.members if member.content is not None}

    def find(member: ListedMember) -> str | tuple[str, str]:
        for name in labels.names(member.key):
            if (payload := siblings.get(name)) is not None:
                try:
                    return labels.label(payload)
                except ValueError as error:
                    return "label_unreadable", f"{name}: expected a label, found: {error}; fix it"
        return ""

    return find


def _to_batch(
    members: Sequence[ListedMember], find: Callable[[ListedMember], str | tuple[str, str]] | None
) -> pa.RecordBatch:
    """Members as columns; without a label column where nothing tells labels."""
    rows: list[tuple[Any, ...]] = []
    for member in members:
        code, message = member.problem
        label = find(member) if find else ""
        if isinstance(label, tuple):
            (code, message), label = (code, message) if code else label, ""
        rows.append((member.key, member.uri, member.size, "", 0.0, code or None, message or None, label or None))
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, each.type) for values, each in zip(columns, _COLUMNS, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=_COLUMNS)
    return batch if find else batch.select(FILES.names)
