"""Images in folders, with labels and masks: found by patterns, joined by key."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain

import pyarrow as pa

from ...transforms.image_codec import Decode
from ..errors import RequestError
from ..storage import files
from ..storage.globs import normalized
from . import key_lists, names
from .archive_files import ListedFiles, Sibling, list_with_members
from .archive_members import INSIDE
from .archives import split_pattern
from .file_patterns import EXPECTED_FILE, check_patterns, digest_files
from .masks import MaskRule, fields_of, find_masks
from .record_source import RecordSource
from .reference_lists import References
from .references import NOT_A_FILE, FileListing, Forget, ImageListing, ReferenceTable, forms

_BESIDE = "{dir}/"  # begins the template of a mask that lies beside its image


@dataclass(frozen=True)
class Folder:
    """Labels from the folder that holds the image: `train/cat/1.jpg` is a `cat`.

    Attributes:
      depth: Which folder of the path: -1 is the innermost, 0 the outermost.
    """

    depth: int = -1


@dataclass(frozen=True)
class Images:
    r"""Image files: under the input folder, in archives there, or named by a list.

    Attributes:
      pattern: Glob pattern, or several: `*` and `?` stay in a folder, `**/` is any number of folders. An example's key
        is the file's path relative to the input. `train.zip!/**/*.jpg` matches members of zip and tar files; see
        `archives`. None, where `uris` names them all.
      label: Where labels come from. A regular expression: matched in full against the stem of the file name, or, where
        it has a `/`, against the whole key; its group `label`, else its first group, else the whole is the label.
        `folder()`: the folder's name. `table(path, key, value)`: a CSV, TSV or whitespace-separated list.
        `sibling(suffix)`: a member of the same archive. None: none, or those of `uris`.
      mask: Where masks are: a template of the path with `{stem}`, `{dir}`, `{name}` of the image and the groups of
        `parts`, or a glob pattern whose files pair with the images by stem. None: there are none, or those of `uris`.
      decode: How payloads become pixels.
      max_bytes: Larger payloads are not read but quarantined.
      parts: A regular expression that must match an image's whole key; its named groups are fields of `mask`. Of
        Cityscapes: `r"leftImg8bit/(?P<city>.+)/(?P<base>[^/]+)_leftImg8bit\.png"`, with
        `mask="gtFine/{city}/{base}_gtFine_labelIds.png"`.
      uris: A list of the images instead of listing them: a path such as "list.parquet", a table, `references(...)` or
        `inventory(...)`. Of its objects, `pattern` takes those whose key it matches.
    """

    pattern: str | Sequence[str] | None = None
    label: str | Folder | key_lists.KeyList | Sibling | None = None
    mask: str | None = None
    decode: Decode = field(default_factory=Decode)
    max_bytes: int = 256 << 20
    parts: str | None = None
    uris: str | Sequence[str] | RecordSource | References | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None or self.uris is None:
            for pattern in check_patterns("Images", self.pattern or ""):
                _check_archives(pattern)
        if self.uris is not None:
            self._check_list()
        if self.mask is not None and not isinstance(self.mask, str):
            raise RequestError(
                "Images(mask=...): expected a template such as 'masks/{stem}.png' or a pattern, found "
                f"{self.mask!r}; the ids of colours are given by image.decode(mask_palette={{...}})"
            )
        if self.mask is not None:
            check_patterns("Images", self.mask)
            _check_archives(self.mask)
        elif self.parts is not None:
            raise RequestError(f"Images(parts={self.parts!r}): expected a mask=... that its groups are for, found none")
        if isinstance(self.label, str):
            try:
                re.compile(self.label)
            except re.error as error:
                raise RequestError(f"Images(label=...): {self.label!r} is no regular expression: {error}") from error
        elif self.label is not None and not isinstance(self.label, Folder | key_lists.KeyList | Sibling):
            raise RequestError(
                "Images(label=...): expected a regular expression, folder(), table(...) or sibling(...), found "
                f"{self.label!r}"
            )
        _ = self._mask_rule

    def _check_list(self) -> None:
        """Raises RequestError where the list cannot be one, or says what other arguments say too."""
        listed = self._references
        assert listed is not None
        for name, ours, theirs in (("label", self.label, listed.label), ("mask", self.mask, listed.mask)):
            if ours is not None and theirs is not None:
                raise RequestError(f"Images({name}=..., uris=...): expected one of them to tell the {name}, found both")
        inside = [pattern for pattern in (*self._patterns, self.mask or "") if INSIDE in pattern]
        if isinstance(self.label, Sibling) or inside:
            raise RequestError(
                f"Images(uris=...): expected no archives, found {inside or self.label!r}; name archives by patterns, "
                "without uris"
            )

    @cached_property
    def _references(self) -> References | None:
        if self.uris is None or isinstance(self.uris, References):
            return self.uris
        return References(self.uris)

    @property
    def _patterns(self) -> tuple[str, ...]:
        return check_patterns("Images", self.pattern) if self.pattern is not None else ()

    @cached_property
    def _mask_rule(self) -> MaskRule | None:
        return MaskRule(self.mask, self.parts) if self.mask is not None else None

    def find(self, root: str, forget: Forget | None = None) -> ImageListing:
        """Lists the images and pairs each with its label and mask.

        Args:
          root: The input folder.
          forget: Tells which keys are to be forgotten; None: none are.

        Raises:
          RequestError: a pattern matches nothing, or labels or masks are ambiguous.
        """
        table = ReferenceTable()
        listing = self._list(root)
        table.add(replace(listing, batches=map(self._labelled, listing.batches)))
        if forget:
            table.forget(forget)
        warnings = [*listing.warnings]
        lists = [self.label.path] if isinstance(self.label, key_lists.KeyList) else []
        if isinstance(self.label, key_lists.KeyList):
            warnings += _label_by_list(table, self.label, root)
        warnings += _leave_out_what_is_no_file(table)
        warnings += _warn_of_forms("names of images", "key", table) + _warn_of_forms("labels", "label", table)
        self._leave_out_problems(table)
        digests = [table.digest("files"), listing.digest]
        if self._mask_rule:
            masks = self._list_masks(self._mask_rule, root, listing)
            warnings += find_masks(table, self._mask_rule, masks, root)
            digests += [table.digest("masks"), masks.digest]
        depends_on = [(path, files.describe(files.join(root, path))) for path in [*lists, *listing.depends_on]]
        digest = hashlib.sha256("\n".join([*digests, digest_files(depends_on)]).encode()).hexdigest()
        return ImageListing(table, warnings, digest)

    def _list(self, root: str) -> FileListing:
        """The images."""
        if self._references:
            return self._references.list_files(root, self._patterns, "images")
        labels = self.label if isinstance(self.label, Sibling) else None
        return list_with_members(root, self._patterns, "images", labels, self._masks_beside)

    @property
    def _masks_beside(self) -> list[str]:
        """Patterns of the masks that a template looks for beside images in their archives."""
        rule = self._mask_rule
        if rule is None or not rule.template.startswith(_BESIDE):
            return []
        pattern = replace(rule, template=rule.template.removeprefix(_BESIDE)).pattern
        archives = dict.fromkeys(each.rpartition(INSIDE)[0] for each in self._patterns if INSIDE in each)
        return [f"{archive}{INSIDE}**/{pattern}" for archive in archives]

    def _list_masks(self, rule: MaskRule, root: str, images: FileListing) -> FileListing:
        """The masks; those in the archives of the images were found with these."""
        if self._references:
            return replace(self._references.of_masks().list_files(root, [rule.pattern]), schema=None)
        if not self._masks_beside or not isinstance(images, ListedFiles):
            return list_with_members(root, [rule.pattern], "")
        if all(INSIDE in pattern for pattern in self._patterns):
            return images.beside
        masks = list_with_members(root, [rule.pattern], "")
        return replace(masks, batches=chain(masks.batches, images.beside.batches))

    def _labelled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of files with the labels that keys tell."""
        if not isinstance(self.label, str | Folder):
            return batch
        find = self._label_of
        labels = pa.array([find(key) or None for key in batch["key"].to_pylist()], pa.string())
        return batch.append_column("label", labels)

    @cached_property
    def _label_of(self) -> Callable[[str], str | None]:
        """Gives the label that a key tells; None where it tells none."""
        if isinstance(self.label, Folder):
            depth = self.label.depth
            return lambda key: _folder(key, depth)
        assert isinstance(self.label, str)
        pattern, by_key = re.compile(self.label), "/" in self.label

        def label(key: str) -> str | None:
            name = key if by_key else fields_of(key)["stem"]
            match = pattern.fullmatch(name) or pattern.fullmatch(normalized(name))
            if match is None:
                return None
            groups = match.groupdict()
            return groups["label"] if "label" in groups else match[1 if pattern.groups else 0]

        return label

    def _leave_out_problems(self, table: ReferenceTable) -> None:
        """Leaves out what cannot be prepared, as far as listing tells."""
        table.leave_out("SELECT rid, 0 AS step, 'plan' AS stage, code, message FROM files WHERE code IS NOT NULL")
        table.leave_out(
            "SELECT rid, 0 AS step, 'plan' AS stage, 'too_large' AS code, concat('expected at most ', ?::BIGINT, "
            "' bytes, found ', size) AS message FROM files WHERE size > ?",
            self.max_bytes,
            self.max_bytes,
        )
        if self.label is not None:
            table.leave_out(
                "SELECT rid, 0 AS step, 'plan' AS stage, 'label_missing' AS code, ? AS message "
                f"FROM ({table.query('label')}) WHERE label IS NULL OR label = ''",
                f"expected a label by {self.label!r}, found none",
            )


def _label_by_list(table: ReferenceTable, labels: key_lists.KeyList, root: str) -> list[str]:
    """Takes the labels of a list file; returns warnings."""
    uri, warnings = files.join(root, labels.path), list[str]()
    names.load_names(table, "label_names", labels.read(root, partial(names.index_of, table, names.ALL), warnings))
    named = names.find_named(table, "label_names", uri, carried=["value"])
    labels_of, label = named.table, "value"
    if table.database.rows(f"SELECT rid FROM {named.table} GROUP BY rid HAVING count(*) > 1 LIMIT 1"):
        labels_of, label = "labels", "label"
        table.database.run(
            "CREATE TABLE labels AS SELECT rid, min(value) AS label, max(value) AS other "
            f"FROM {named.table} GROUP BY rid"
        )
        if table.database.rows("SELECT rid FROM labels WHERE label <> other LIMIT 1"):
            name, before, value = names.first_contradiction(table, "label_names", named.table)
            raise RequestError(f"{uri}: {name!r} has the labels {before!r} and {value!r}, expected one")
    table.join({"label": f"{labels_of}.{label}"}, f"LEFT JOIN {labels_of} USING (rid)")
    warnings += named.warnings
    if named.strangers:
        warnings.append(f"{uri} labels {named.strangers} examples that the input lacks, such as {named.stranger!r}")
    return warnings


def _leave_out_what_is_no_file(table: ReferenceTable) -> list[str]:
    """Filters what matches and cannot be read; returns a warning of it."""
    ((count, key, kind),) = table.database.rows(
        "SELECT count(*), min(key), arg_min(message, key) FROM files ANTI JOIN left_out USING (rid) "
        f"WHERE files.code = '{NOT_A_FILE}'"
    )
    if not count:
        return []
    table.leave_out(f"SELECT rid, 0 AS step, code FROM files WHERE code = '{NOT_A_FILE}'")
    return [
        f"{count} of {table.listed()} images are left out ({NOT_A_FILE}), such as {key}: {EXPECTED_FILE} {kind}; "
        "fetch them (git annex get, dvc pull), or remove their names"
    ]


def folder(depth: int = -1) -> Folder:
    """Labels from a folder of the path; see `Folder`."""
    return Folder(depth)


def table(path: str, key: str | int = 0, value: str | int = 1) -> key_lists.KeyList:
    """Labels from a list file; see `key_lists.KeyList`."""
    return key_lists.KeyList(path, key, value)


def _folder(key: str, depth: int) -> str | None:
    folders = key.split("/")[:-1]
    if not -len(folders) <= depth < len(folders):
        return None
    name = folders[depth]
    return name[:-1].rpartition(".")[0] or name[:-1] if name.endswith(INSIDE[:-1]) else name  # of an archive


def _check_archives(pattern: str) -> None:
    """Raises RequestError where a pattern does not say what is in archives."""
    if INSIDE in pattern:
        split_pattern(pattern)


def _warn_of_forms(what: str, column: str, table: ReferenceTable) -> list[str]:
    """A warning where the values of a column look alike but differ in their Unicode form."""
    query = (
        f"SELECT {column} AS name, min(key) AS first FROM ({table.query('key', 'label')}) "
        f"WHERE strlen({column}) > length({column}) GROUP BY name"
    )
    batches = (batch.append_column("form", forms(batch["name"])) for batch in table.database.batches(query))
    schema = pa.schema([("name", pa.string()), ("first", pa.string()), ("form", pa.string())])
    table.database.create("spelled", schema, batches)
    several = "SELECT form, min(first) AS first FROM spelled GROUP BY form HAVING count(*) > 1"
    alike = table.database.value(f"SELECT count(*) FROM ({several})")
    names = f"SELECT name FROM spelled WHERE form = (SELECT form FROM ({several}) ORDER BY first LIMIT 1) ORDER BY name"
    shown = [name for (name,) in table.database.rows(f"{names} LIMIT 2")]
    table.database.run("DROP TABLE spelled")
    if not alike:
        return []
    return [
        f"{alike} {what} stand there in several Unicode forms (NFC and NFD), such as {shown[0]} "
        f"({shown[0]!a} and {shown[1]!a}); they are taken for different ones: rename them if they are not"
    ]
