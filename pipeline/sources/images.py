"""Images in folders, with labels and masks: found by patterns, joined by key."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ...transforms.image_codec import Decode
from ..errors import RequestError
from ..storage import files
from ..storage.files import FileInfo
from ..storage.globs import normalized, printable
from . import key_lists
from .file_patterns import EXPECTED_FILE, check_patterns, digest_files, find_files, is_utf8, nothing_matches
from .listing import ImageListing, Reference
from .masks import MaskIndex, MaskRule, fields_of
from .quarantine import FilteredExample, QuarantinedExample

NOT_A_FILE = "not_a_file"  # the reason by which links to nothing, pipes and the like are filtered


@dataclass(frozen=True)
class Folder:
    """Labels from the folder that holds the image: `train/cat/1.jpg` is a `cat`.

    Attributes:
      depth: Which folder of the path: -1 is the innermost, 0 the outermost.
    """

    depth: int = -1


@dataclass(frozen=True)
class Images:
    r"""Image files under the input folder.

    Attributes:
      pattern: Glob pattern, or several: `*` and `?` stay in a folder, `**/` is any number of folders. An example's key
        is the file's path relative to the input.
      label: Where labels come from. A regular expression: matched in full against the stem of the file name, or, where
        it has a `/`, against the whole key; its group `label`, else its first group, else the whole is the label.
        `folder()`: the folder's name. `table(path, key, value)`: a CSV, TSV or whitespace-separated list. None: none.
      mask: Where masks are: a template of the path with `{stem}`, `{dir}`, `{name}` of the image and the groups of
        `parts`, or a glob pattern whose files pair with the images by stem. None: there are none.
      decode: How payloads become pixels.
      max_bytes: Larger payloads are not read but quarantined.
      parts: A regular expression that must match an image's whole key; its named groups are fields of `mask`. Of
        Cityscapes: `r"leftImg8bit/(?P<city>.+)/(?P<base>[^/]+)_leftImg8bit\.png"`, with
        `mask="gtFine/{city}/{base}_gtFine_labelIds.png"`.
    """

    pattern: str | Sequence[str]
    label: str | Folder | key_lists.KeyList | None = None
    mask: str | None = None
    decode: Decode = field(default_factory=Decode)
    max_bytes: int = 256 << 20
    parts: str | None = None

    def __post_init__(self) -> None:
        check_patterns("Images", self.pattern)
        if self.mask is not None and not isinstance(self.mask, str):
            raise RequestError(
                "Images(mask=...): expected a template such as 'masks/{stem}.png' or a pattern, found "
                f"{self.mask!r}; the ids of colours are given by image.decode(mask_palette={{...}})"
            )
        if self.mask is not None:
            check_patterns("Images", self.mask)
        elif self.parts is not None:
            raise RequestError(f"Images(parts={self.parts!r}): expected a mask=... that its groups are for, found none")
        if isinstance(self.label, str):
            try:
                re.compile(self.label)
            except re.error as error:
                raise RequestError(f"Images(label=...): {self.label!r} is no regular expression: {error}") from error
        elif self.label is not None and not isinstance(self.label, Folder | key_lists.KeyList):
            raise RequestError(
                f"Images(label=...): expected a regular expression, folder() or table(...), found {self.label!r}"
            )
        _ = self._mask_rule

    @cached_property
    def _mask_rule(self) -> MaskRule | None:
        return MaskRule(self.mask, self.parts) if self.mask is not None else None

    def find(self, root: str) -> ImageListing:
        """Lists the images and pairs each with its label and mask.

        Raises:
          RequestError: a pattern matches nothing, or labels or masks are ambiguous.
        """
        listing = ImageListing(references=[])
        images, unreadable = self._match(root, listing.warnings)
        masks = MaskIndex(self._mask_rule, root) if self._mask_rule else None
        labels = self._labels(root, list(images), listing.warnings)
        for key, info in images.items():
            mask = masks.find(key) if masks else None
            problem = self._problem(key, info, labels.get(key), masks, mask)
            if problem:
                listing.problems.append(problem)
            else:
                listing.references.append(
                    Reference(key, info.uri, info.size, labels.get(key), mask.uri if mask else None)
                )
        for key in unreadable:
            listing.filtered[NOT_A_FILE] += 1
            listing.filtered_examples.append(FilteredExample(printable(key), NOT_A_FILE))
        if unreadable:
            key, kind = next(iter(unreadable.items()))
            listing.warnings.append(
                f"{len(unreadable)} of {len(images) + len(unreadable)} images are left out ({NOT_A_FILE}), such as "
                f"{printable(key)}: {EXPECTED_FILE} {kind}; fetch them (git annex get, dvc pull), or remove their names"
            )
        listing.warnings += _warn_of_forms("names of images", images) + _warn_of_forms("labels", labels.values())
        listing.warnings += masks.warnings() if masks else []
        masked = sorted(masks.files.items()) if masks else []
        lists = [self.label.path] if isinstance(self.label, key_lists.KeyList) else []
        listed = [(path, files.describe(files.join(root, path))) for path in lists]
        lost = [(key, FileInfo(files.join(root, key), -1, 0.0)) for key in unreadable]
        listing.digest = digest_files([*images.items(), *masked, *listed, *lost])
        return listing

    def _match(self, root: str, warnings: list[str]) -> tuple[dict[str, FileInfo], dict[str, str]]:
        """The images, and what cannot be read of what the patterns match, by key, sorted."""
        images: dict[str, FileInfo] = {}
        unreadable: dict[str, str] = {}
        for pattern in check_patterns("Images", self.pattern):
            matched = find_files(root, pattern)
            warnings += [warning for warning in matched.warnings if warning not in warnings]
            if not matched.files and not matched.unreadable:
                raise nothing_matches(root, pattern, "images", matched.warnings)
            images |= matched.files
            unreadable |= matched.unreadable
        return dict(sorted(images.items())), dict(sorted(unreadable.items()))

    def _problem(
        self, key: str, info: FileInfo, label: str | None, masks: MaskIndex | None, mask: FileInfo | None
    ) -> QuarantinedExample | None:
        """Why an image cannot be prepared, as far as listing tells."""
        if not all(is_utf8(name) for name in (key, info.uri, mask.uri if mask else "")):
            return _plan_problem(
                key, info.uri, "name_not_utf8", "expected a file name in UTF-8, found another; rename it"
            )
        if info.size > self.max_bytes:
            return _plan_problem(
                key, info.uri, "too_large", f"expected at most {self.max_bytes} bytes, found {info.size}"
            )
        if self.label is not None and not label:
            return _plan_problem(key, info.uri, "label_missing", f"expected a label by {self.label!r}, found none")
        if masks and mask is None:
            return _plan_problem(key, info.uri, *masks.why_not(key))
        return None

    def _labels(self, root: str, keys: Sequence[str], warnings: list[str]) -> dict[str, str]:
        """Key to label, of the images that have one."""
        if self.label is None:
            return {}
        if isinstance(self.label, Folder):
            return {key: folder for key in keys if (folder := _folder(key, self.label.depth))}
        if isinstance(self.label, key_lists.KeyList):
            return self._table_labels(self.label, root, keys, warnings)
        pattern = re.compile(self.label)
        by_key = "/" in self.label
        labels = {}
        for key in keys:
            name = key if by_key else fields_of(key)["stem"]
            if match := pattern.fullmatch(name) or pattern.fullmatch(normalized(name)):
                groups = match.groupdict()
                labels[key] = groups["label"] if "label" in groups else match[1 if pattern.groups else 0]
        return labels

    def _table_labels(
        self, table: key_lists.KeyList, root: str, keys: Sequence[str], warnings: list[str]
    ) -> dict[str, str]:
        """Key to label, by a list file."""
        index, uri = key_lists.KeyIndex(keys), files.join(root, table.path)
        labels: dict[str, str] = {}
        strangers = []
        for entry in table.read(root, index, warnings):
            if entry.key is None:
                strangers.append(entry.name)
            elif labels.setdefault(entry.key, entry.value) != entry.value:
                raise RequestError(
                    f"{uri}: {entry.name!r} has the labels {labels[entry.key]!r} and {entry.value!r}, expected one"
                )
        warnings += index.warnings(uri)
        if strangers:
            warnings.append(f"{uri} labels {len(strangers)} examples that the input lacks, such as {strangers[0]!r}")
        return labels


def folder(depth: int = -1) -> Folder:
    """Labels from a folder of the path; see `Folder`."""
    return Folder(depth)


def table(path: str, key: str | int = 0, value: str | int = 1) -> key_lists.KeyList:
    """Labels from a list file; see `key_lists.KeyList`."""
    return key_lists.KeyList(path, key, value)


def _folder(key: str, depth: int) -> str | None:
    folders = key.split("/")[:-1]
    return folders[depth] if -len(folders) <= depth < len(folders) else None


def _warn_of_forms(what: str, names: Iterable[str]) -> list[str]:
    """A warning where names look alike but differ in their Unicode form."""
    forms: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if not name.isascii():
            forms[normalized(name)].add(name)
    alike = [sorted(form) for form in forms.values() if len(form) > 1]
    if not alike:
        return []
    first, second, *_ = alike[0]
    return [
        f"{len(alike)} {what} stand there in several Unicode forms (NFC and NFD), such as {printable(first)} "
        f"({first!a} and {second!a}); they are taken for different ones: rename them if they are not"
    ]


def _plan_problem(key: str, uri: str, code: str, message: str) -> QuarantinedExample:
    return QuarantinedExample(printable(key), printable(uri), "plan", code, printable(message))
