"""The rows of a list of objects as references: where each object is, its key, and what the row says of it."""

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from ..formats.column_notes import Notes, describe_notes, merge
from ..storage import files
from ..storage.clients import SCHEMES
from ..storage.globs import compile_glob, matches_glob
from ..storage.stores import SIGNATURE
from .listing import RecordRange
from .quarantine import QuarantinedExample
from .record_source import Rows
from .references import FILES

_BATCH_ROWS = 1 << 16
_ADDRESS = r"!/.*#(?:tar|zip):[0-9]+:"
_OTHER_SPELLINGS = {"s3a://": "s3://", "s3n://": "s3://", "file:///": "/"}
_SIGNATURE = rf"(?i)^https?://[^?]*\?(?:.*&)?(?:signature|sig|[a-z_-]*token)=|://.*{SIGNATURE}"
_PASSWORD = r"://[^/@]*:[^/@]*@|^https?://[^/@]*@"
_UNSIGNED = (
    "expected a URI without a signature or a password, which would be stored with the dataset, found one; name the "
    "object by its store's scheme, and set credentials in the environment"
)
_EXPECTED_URI = (
    f"expected a path below the input, or a URI with one of {', '.join(f'{each}://' for each in sorted(SCHEMES))}, "
    "found another"
)


@dataclass(frozen=True)
class ListColumns:
    """What the columns of a list are.

    Attributes:
      uri: The column with the objects' URIs, or a template of columns.
      key: The column with the examples' keys; empty: none.
      size: The column with the objects' bytes; empty: none.
      etag: The column with their ETags; empty: none.
      label: The column with the labels; empty: none.
      mask: The column with the masks' URIs, or a template of columns; empty: none.
      others: Columns that are stored with the examples.
      keep: Tells which rows are objects; None: all are.
      left_out: What the rows are that are none, for a warning.
      decode: Decodes the strings of a column; those that are not in it stand as they are.
    """

    uri: str
    key: str = ""
    size: str = ""
    etag: str = ""
    label: str = ""
    mask: str = ""
    others: Sequence[str] = ()
    keep: Callable[[pa.RecordBatch], pa.Array] | None = None
    left_out: str = ""
    decode: Mapping[str, Callable[[str], str]] = field(default_factory=dict)

    @property
    def addresses(self) -> list[str]:
        """The columns that URIs are made of."""
        return [*fields_of(self.uri, "uri"), *fields_of(self.mask, "mask")]


def fields_of(template: str, argument: str) -> list[str]:
    """The columns that a template names; one without any is a column's name itself.

    Raises:
      RequestError: it is no template.
    """
    if not template:
        return []
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise RequestError(f"references({argument}=...): {template!r} is no template: {error}") from error
    if not all(fields):
        raise RequestError(f"references({argument}=...): expected names of columns in braces, found {template!r}")
    return fields or [template]


def _fill(template: str, batch: pa.RecordBatch, decode: Mapping[str, Callable[[str], str]]) -> pa.Array:
    """A template's strings, missing where a value is; or the column itself."""

    def text(name: str) -> pa.Array:
        values = batch.column(name).cast(pa.string())
        return _decoded(values, decode[name]) if name in decode else values

    parts: list[Any] = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts += [pa.scalar(literal)] if literal else []
        parts += [text(name)] if name is not None else []
    if not any(isinstance(part, pa.Array) for part in parts):
        return text(template)
    return pc.binary_join_element_wise(*parts, "", null_handling="emit_null")


def _decoded(values: pa.Array, decode: Callable[[str], str]) -> pa.Array:
    return pa.array([None if value is None else decode(value) for value in values.to_pylist()], pa.string())


class RowReader:
    """Makes columns of references of a list's rows.

    Attributes:
      matched: How many objects match the patterns, where there are any.
      unmatched: The path of one that does not; empty where there is none.
    """

    def __init__(self, columns: ListColumns, root: str, patterns: Sequence[str]) -> None:
        """Reads nothing yet.

        Args:
          columns: What the list's columns are.
          root: The input folder, which paths are relative to.
          patterns: Patterns of which one must match an object's path; none: all are taken.
        """
        self._columns = columns
        self._root = files.join(root, "")
        self._patterns = patterns
        self._notes: Notes = {}
        self._left_out = self.matched = 0
        self.unmatched = ""

    def batches(self, rows: Rows, record_range: RecordRange) -> Iterator[pa.RecordBatch]:
        """The references of some rows of a range; rows that do not fit are quarantined."""
        self._notes = merge(self._notes, rows.notes)
        if rows.problems:
            yield _of_problems(rows.problems)
        for begin in range(0, len(rows.batch), _BATCH_ROWS):
            batch = rows.batch.slice(begin, _BATCH_ROWS)
            numbers = pa.array(rows.numbers[begin : begin + _BATCH_ROWS], pa.int64())
            if self._columns.keep is not None:
                kept = pc.fill_null(self._columns.keep(batch), False)
                self._left_out += len(batch) - kept.true_count
                batch, numbers = batch.filter(kept), numbers.filter(kept)
            row = pc.binary_join_element_wise(record_range.key, numbers.cast(pa.string()), ":")
            yield self._batch(batch, row, record_range.uri)

    def warnings(self) -> list[str]:
        """What the user should know once all rows are read."""
        warnings = describe_notes(self._notes)
        if self._left_out:
            warnings.append(f"{self._left_out} rows of the list are passed over: {self._columns.left_out}")
        return warnings

    def _batch(self, batch: pa.RecordBatch, row: pa.Array, list_uri: str) -> pa.RecordBatch:
        """The references of a batch of rows; one that lacks a URI or a key, or tells a secret, has the row's name."""
        names = self._columns
        uri, path, outside = self._place(_fill(names.uri, batch, names.decode))
        key = batch.column(names.key).cast(pa.string()) if names.key else path
        mask, _, mask_outside = (
            self._place(_fill(names.mask, batch, names.decode)) if names.mask else (None, None, None)
        )
        label = batch.column(names.label) if names.label else None
        problems: list[tuple[pa.Array, str, str]] = [
            (_missing(uri), "uri_missing", f"expected a URI by {names.uri!r}, found none"),
            (_missing(key), "key_missing", f"expected a key in the column {names.key!r}, found none"),
            (outside, "unsupported_uri", _EXPECTED_URI),
        ]
        if label is not None:
            words = f"expected a label in the column {names.label!r}, found none"
            problems.append((_missing(label.cast(pa.string())), "label_missing", words))
        if mask is not None:
            problems.append((_missing(mask), "mask_missing", f"expected a mask by {names.mask!r}, found none"))
            problems.append((mask_outside, "mask_unsupported_uri", _EXPECTED_URI))
        secret = pc.or_(_signed(uri), _signed(mask)) if mask is not None else _signed(uri)
        problems.insert(0, (secret, "signed_uri", _UNSIGNED))
        nameless = pc.or_(pc.or_(_missing(key), _missing(uri)), secret)
        code, message = _first_problem(problems, len(batch))
        columns = {
            "key": pc.if_else(nameless, row, key),
            "uri": pc.if_else(pc.or_(_missing(uri), secret), list_uri, uri),
            "size": _size(batch, names),
            "etag": _etag(batch, names),
            "modified": pa.repeat(0.0, len(batch)),
            "code": code,
            "message": message,
        }
        columns |= {"label": label} if label is not None else {}
        columns |= {"mask": pc.if_else(secret, pa.scalar(None, pa.string()), mask)} if mask is not None else {}
        columns |= {name: batch.column(name) for name in names.others}
        references = pa.RecordBatch.from_pydict(columns)
        if not self._patterns:
            return references
        matched = _match(self._patterns, pc.coalesce(path, ""))
        self.matched += matched.true_count
        self.unmatched = self.unmatched or next(iter(path.filter(pc.invert(matched)).drop_null().to_pylist()), "")
        return references.filter(matched)

    def _place(self, written: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Where objects are that a list names, their paths as keys, and which of them no store has.

        Args:
          written: Their URIs, or paths relative to the input.
        """
        uri = _spelled(pc.if_else(_missing(written), pa.scalar(None, pa.string()), written))
        is_remote = pc.match_substring(uri, "://")
        is_relative = pc.invert(pc.or_(is_remote, pc.starts_with(uri, "/")))
        outside = pc.ends_with(uri, "/")
        if _any(is_relative):
            if _any(pc.starts_with(uri, "./")):
                uri = pc.if_else(is_relative, pc.replace_substring_regex(uri, r"^(?:\./+)+", ""), uri)
            if _any(pc.match_substring(uri, "..")):
                leads_out = pc.match_substring_regex(uri, r"(?:^|/)\.\.(?:/|$)")
                outside = pc.or_(outside, pc.and_(is_relative, leads_out))
            uri = pc.if_else(is_relative, pc.binary_join_element_wise(self._root, uri, ""), uri)
        if _any(pc.match_substring(uri, "!/")):
            outside = pc.or_(outside, pc.match_substring_regex(uri, _ADDRESS))
        path, is_known = pc.utf8_ltrim(uri, "/"), pc.invert(is_remote)
        for scheme in SCHEMES if _any(is_remote) else ():
            has_scheme = pc.starts_with(uri, f"{scheme}://")
            if _any(has_scheme):
                path = pc.if_else(has_scheme, pc.utf8_slice_codeunits(uri, len(scheme) + 3), path)
                is_known = pc.or_(is_known, pc.and_(has_scheme, pc.invert(pc.starts_with(uri, f"{scheme}:///"))))
        is_below = pc.starts_with(uri, self._root)
        if _any(is_below):
            path = pc.if_else(is_below, pc.utf8_slice_codeunits(uri, len(self._root)), path)
        return uri, path, pc.or_(outside, pc.invert(pc.or_(is_known, is_below)))


def _signed(uri: pa.Array) -> pa.Array:
    """Which URIs hold a password, or a signature or a token, as links that are references for some time do."""
    signed = pa.repeat(False, len(uri))
    for character, pattern in (("?", _SIGNATURE), ("@", _PASSWORD)):
        if _any(pc.match_substring(uri, character)):
            signed = pc.or_(signed, pc.fill_null(pc.match_substring_regex(uri, pattern), False))
    return signed


def _spelled(uri: pa.Array) -> pa.Array:
    """URIs without what others write for the same: Hadoop's schemes, and that of local paths."""
    for prefix, replacement in _OTHER_SPELLINGS.items():
        has_it = pc.starts_with(uri, prefix)
        if _any(has_it):
            rest = pc.utf8_slice_codeunits(uri, len(prefix))
            uri = pc.if_else(has_it, pc.binary_join_element_wise(replacement, rest, ""), uri)
    return uri


def _any(which: pa.Array) -> bool:
    return bool(which.true_count)


def _missing(values: pa.Array) -> pa.Array:
    """Which strings are missing, or empty."""
    return pc.equal(pc.coalesce(values, ""), "")


def _first_problem(problems: Sequence[tuple[pa.Array, str, str]], count: int) -> tuple[pa.Array, pa.Array]:
    """Each row's code and message, by the first problem that it has; missing where it has none."""
    code, message = pa.nulls(count, pa.string()), pa.nulls(count, pa.string())
    for has_it, its_code, words in reversed(problems):
        has_it = pc.fill_null(has_it, False)
        code, message = pc.if_else(has_it, its_code, code), pc.if_else(has_it, words, message)
    return code, message


def _size(batch: pa.RecordBatch, names: ListColumns) -> pa.Array:
    if not names.size:
        return pa.repeat(-1, len(batch))
    values = batch.column(names.size)
    return pc.fill_null(values.cast(pa.int64(), safe=False), -1)


def _etag(batch: pa.RecordBatch, names: ListColumns) -> pa.Array:
    if not names.etag:
        return pa.repeat("", len(batch))
    values = batch.column(names.etag)
    if names.etag in names.decode:
        values = _decoded(values, names.decode[names.etag])
    return pc.utf8_trim(pc.coalesce(values, ""), '"')


def _match(patterns: Sequence[str], paths: pa.Array) -> pa.Array:
    """Which paths match one of the patterns."""
    if all("[" not in pattern and pattern.isascii() for pattern in patterns):  # what both regular expressions know
        whole = "|".join(compile_glob(pattern).pattern for pattern in patterns)
        return pc.match_substring_regex(paths, f"(?s)^(?:{whole})$")
    return pa.array(
        [any(matches_glob(pattern, path) for pattern in patterns) for path in paths.to_pylist()], pa.bool_()
    )


def _of_problems(problems: Sequence[QuarantinedExample]) -> pa.RecordBatch:
    """Rows of a list that do not fit it."""
    rows = [
        {
            "key": problem.key,
            "uri": problem.uri,
            "size": -1,
            "etag": "",
            "modified": 0.0,
            "code": problem.code,
            "message": problem.message,
        }
        for problem in problems
    ]
    return pa.RecordBatch.from_pylist(rows, FILES)
