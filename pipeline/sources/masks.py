"""The masks of images: by a template of the path, or by a pattern whose files pair with the images by stem."""

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..errors import RequestError
from ..storage import files
from ..storage.globs import escape_glob, normalized
from .references import FILES, NOT_A_FILE, FileListing, ReferenceTable, forms

FIELDS = ("stem", "dir", "name")
_SHOWN = 3  # files named in a warning
_IS_FILE = f"(masks.code IS DISTINCT FROM '{NOT_A_FILE}')"
_BY_NAME = [("name", pa.string()), ("form", pa.string())]
_MASKS = pa.schema([*FILES, ("mid", pa.int64()), *_BY_NAME])
_NAMES = pa.schema([("rid", pa.int64()), *_BY_NAME])
_LEFT_OUT = pa.schema(
    [("rid", pa.int64()), ("step", pa.int32()), ("stage", pa.string()), ("code", pa.string()), ("message", pa.string())]
)


@dataclass(frozen=True)
class MaskRule:
    """Where masks are looked for.

    Attributes:
      template: A path with `{stem}`, `{dir}`, `{name}` and the groups of `parts`; or, without any, a glob pattern.
      parts: A regular expression that must match an image's whole key; its named groups are fields of the template.
    """

    template: str
    parts: str | None = None

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.parts or "").groupindex
        except re.error as error:
            raise RequestError(f"Images(parts=...): {self.parts!r} is no regular expression: {error}") from error
        if self.parts is not None and (not groups or set(groups) & set(FIELDS)):
            raise RequestError(
                f"Images(parts=...): expected named groups such as (?P<base>...), other than {FIELDS}, found "
                f"{self.parts!r}"
            )
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None}
        except ValueError as error:
            raise RequestError(f"Images(mask=...): {self.template!r} is no template: {error}") from error
        expected = (*FIELDS, *groups)
        if fields - set(expected):
            raise RequestError(f"Images(mask=...): expected the fields {expected}, found {sorted(fields)}")
        if self.parts is not None and not fields:
            raise RequestError(f"Images(parts=...): expected its groups in mask={self.template!r}, found none of them")

    @property
    def is_template(self) -> bool:
        """Whether it names each image's mask, rather than to match all masks."""
        return "{" in self.template

    @property
    def pattern(self) -> str:
        """A glob pattern that all masks match."""
        if not self.is_template:
            return self.template
        pattern = ""
        for literal, field, _, _ in string.Formatter().parse(self.template):
            pattern += escape_glob(literal)
            if field is not None:
                pattern += "*" if field in ("stem", "name") else "**"
        return pattern

    def path(self, key: str) -> str | None:
        """Where an image's mask is; None where `parts` does not match its key."""
        fields = fields_of(key)
        if self.parts is not None:
            match = re.fullmatch(self.parts, key) or re.fullmatch(self.parts, normalized(key))
            if match is None:
                return None
            fields |= {name: group or "" for name, group in match.groupdict().items()}
        return re.sub("//+", "/", self.template.format(**fields)).lstrip("/")  # {dir} may be empty


def find_masks(table: ReferenceTable, rule: MaskRule, listing: FileListing, root: str) -> list[str]:
    """Pairs the images with their masks, and leaves out those that have none.

    Args:
      table: The images.
      rule: Where their masks are.
      listing: All masks.
      root: The input folder.

    Returns:
      Warnings.

    Raises:
      RequestError: there are no masks, or they are ambiguous.
    """
    load_masks(table, rule, listing)
    if not table.database.value("SELECT count(*) FROM masks"):
        notes = "".join(f"; {warning}" for warning in listing.warnings)
        at = files.join(root, rule.template)
        raise RequestError(f"expected masks at {at}, found none; check Images(mask=...){notes}")
    if not listing.unique:
        _check_keys(table)
    if not rule.is_template:
        _check_stems(table)
    table.database.create("mask_names", _NAMES, _names_of_masks(table, rule))
    table.database.run(
        "CREATE TABLE mask_of AS SELECT rid, mid, false AS reformed FROM mask_names JOIN masks "
        f"ON mask_names.name = masks.name WHERE {_IS_FILE}"
    )
    table.database.run(
        "INSERT INTO mask_of SELECT rid, any_value(mid), true "
        "FROM (FROM mask_names ANTI JOIN mask_of USING (rid)) AS lost "
        f"JOIN masks ON coalesce(lost.form, lost.name) = masks.form WHERE {_IS_FILE} GROUP BY rid HAVING count(*) = 1"
    )
    _check_pairs(table, rule)
    columns = {"mask": "masks.uri", **{f"mask_{name}": f"masks.{name}" for name in ("key", "size", "etag", "modified")}}
    table.join(columns, "LEFT JOIN mask_of USING (rid) LEFT JOIN masks USING (mid)")
    table.database.append("left_out", _LEFT_OUT, _without_masks(table, rule))
    return listing.warnings + _warnings(table)


def load_masks(table: ReferenceTable, rule: MaskRule, listing: FileListing) -> None:
    """Makes the table `masks`: the listed files with a number, and by what images find them."""
    count = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for batch in listing.batches:
            keys = batch["key"]
            names = (
                keys
                if rule.is_template
                else pa.array([fields_of(key)["stem"] for key in keys.to_pylist()], pa.string())
            )
            numbers = pa.array(np.arange(count, count + len(batch)))
            count += len(batch)
            columns = [batch.column(each.name) for each in FILES]
            yield pa.RecordBatch.from_arrays([*columns, numbers, names, forms(names)], schema=_MASKS)

    table.database.create("masks", _MASKS, batches())


def _names_of_masks(table: ReferenceTable, rule: MaskRule) -> Iterator[pa.RecordBatch]:
    """By what each image finds its mask."""
    for batch in table.database.batches(f"SELECT rid, key FROM files WHERE code IS DISTINCT FROM '{NOT_A_FILE}'"):
        keys = batch["key"].to_pylist()
        names = pa.array([rule.path(key) if rule.is_template else fields_of(key)["stem"] for key in keys], pa.string())
        yield pa.RecordBatch.from_arrays([batch["rid"], names, forms(names)], schema=_NAMES)


def _check_keys(table: ReferenceTable) -> None:
    """Raises RequestError where a list names several masks of one key."""
    for key, first, second in table.database.rows(
        "SELECT key, min(uri), max(uri) FROM masks GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"
    ):
        raise RequestError(
            f"expected one mask of each key in the list, found {key!r} for {first} and for {second}; take one out"
        )


def _check_stems(table: ReferenceTable) -> None:
    """Raises RequestError where several masks have one stem."""
    ordered = "PARTITION BY name ORDER BY key"
    several = table.database.rows(
        f"SELECT before, uri FROM (SELECT key, uri, lag(uri) OVER ({ordered}) AS before, "
        f"row_number() OVER ({ordered}) AS n FROM masks WHERE {_IS_FILE}) WHERE n = 2 ORDER BY key LIMIT 1"
    )
    for first, second in several:
        raise RequestError(
            f"the masks {first} and {second} have one stem, expected one mask for an image; use a template with {{dir}}"
        )


def _check_pairs(table: ReferenceTable, rule: MaskRule) -> None:
    """Raises RequestError where a mask pairs by its stem with several images, or is the image itself."""
    pairs = "FROM mask_of JOIN masks USING (mid) JOIN files USING (rid)"
    several = table.database.rows(
        "SELECT uri, key FROM (SELECT masks.uri, files.key, row_number() OVER "
        f"(PARTITION BY mid ORDER BY files.key) AS n {pairs}) WHERE n = 2 ORDER BY key LIMIT 1"
    )
    for uri, key in several if not rule.is_template else ():
        raise RequestError(
            f"{uri} pairs by its stem with {key} and another image, expected one; use a template with {{dir}}"
        )
    itself = f"masks.key = files.key AND masks.uri = {table.uri_of}"
    for (key,) in table.database.rows(f"SELECT files.key {pairs} WHERE {itself} ORDER BY files.key LIMIT 1"):
        raise RequestError(
            f"Images(mask={rule.template!r}): expected a mask beside {key}, found the image itself; fix the "
            "template, or leave masks out of the pattern of the images"
        )


def _without_masks(table: ReferenceTable, rule: MaskRule) -> Iterator[pa.RecordBatch]:
    """Why images have no mask, as rows of `left_out`."""
    query = (
        "SELECT rid, files.key, mask_names.name, lost.message, alike.count FROM files JOIN mask_names USING (rid) "
        f"LEFT JOIN (SELECT name, message FROM masks WHERE NOT {_IS_FILE}) AS lost ON lost.name = mask_names.name "
        f"LEFT JOIN (SELECT form, count(*) AS count FROM masks WHERE form IS NOT NULL AND {_IS_FILE} GROUP BY form) "
        "AS alike "
        "ON alike.form = coalesce(mask_names.form, mask_names.name) "
        "ANTI JOIN mask_of USING (rid) ANTI JOIN left_out USING (rid)"
    )
    for batch in table.database.batches(query):
        reasons = [
            _why_not(rule, *values)
            for values in zip(*(batch[name].to_pylist() for name in ("key", "name", "message", "count")), strict=True)
        ]
        codes, messages = (pa.array(column, pa.string()) for column in zip(*reasons, strict=True))
        constants = pa.array([0] * len(batch), pa.int32()), pa.array(["plan"] * len(batch))
        yield pa.RecordBatch.from_arrays([batch["rid"], *constants, codes, messages], schema=_LEFT_OUT)


def _why_not(rule: MaskRule, key: str, path: str | None, kind: str | None, alike: int | None) -> tuple[str, str]:
    """Why an image has no mask: a code and words."""
    if not rule.is_template:
        return "mask_missing", f"expected a mask of its stem at {rule.template}, found none"
    if path is None:
        return "mask_missing", f"expected a key that Images(parts={rule.parts!r}) matches, found {key}"
    if kind is not None:
        return "mask_unreadable", f"expected its mask at {path}, found {kind}"
    if alike:
        return (
            "mask_missing",
            f"expected its mask at {path}, found {alike} whose names differ only in their Unicode form",
        )
    return "mask_missing", f"expected its mask at {path}, found none"


def _warnings(table: ReferenceTable) -> list[str]:
    """What the user should know once all images have their masks."""
    database, warnings = table.database, []
    orphans = f"FROM masks ANTI JOIN mask_of USING (mid) WHERE {_IS_FILE}"
    if count := database.value(f"SELECT count(*) {orphans}"):
        names = ", ".join(uri for (uri,) in database.rows(f"SELECT uri {orphans} ORDER BY key LIMIT {_SHOWN}"))
        warnings.append(f"{count} masks belong to no image: {names}{'…' * (count > _SHOWN)}")
    ((count, path, kind),) = database.rows(
        f"SELECT count(*), min(key), arg_min(message, key) FROM masks WHERE NOT {_IS_FILE}"
    )
    if count:
        warnings.append(f"{count} masks cannot be read, such as {path}: found {kind}")
    shared = "SELECT mid FROM mask_of GROUP BY mid HAVING count(*) > 1"
    users = f"FROM mask_of JOIN masks USING (mid) JOIN files USING (rid) WHERE mid IN ({shared})"
    if count := database.value(f"SELECT count(*) FROM ({shared})"):
        ((mid, uri),) = database.rows(f"SELECT mid, masks.uri {users} ORDER BY files.key LIMIT 1")
        first, second = database.rows(f"SELECT files.key {users} AND mid = ? ORDER BY files.key LIMIT 2", mid)
        warnings.append(
            f"{count} masks serve several images, such as {uri} for {first[0]} and "
            f"{second[0]}; if each image has its own, name it with {{dir}} or parts=... in "
            "Images(mask=...)"
        )
    ((count, key),) = database.rows("SELECT count(*), min(key) FROM mask_of JOIN files USING (rid) WHERE reformed")
    if count:
        warnings.append(
            f"{count} images and their masks have names of another Unicode form (NFC and NFD), such "
            f"as {key}; they were matched"
        )
    return warnings


def fields_of(key: str) -> dict[str, str]:
    """`{dir}`, `{name}` and `{stem}` of a key: `a/b/c.jpg` gives `a/b`, `c.jpg` and `c`."""
    directory, _, name = key.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return {"dir": directory, "name": name, "stem": stem if dot and stem else name}
