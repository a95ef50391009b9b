"""Images in folders, with labels and masks: found by patterns, joined by key."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...transforms.image_codec import Decode
from ..errors import RequestError
from ..storage import files
from ..storage.files import FileInfo
from . import key_lists
from .file_patterns import check_patterns, digest_files, match_files
from .listing import ImageListing, Reference
from .quarantine import QuarantinedExample

_FIELDS = ("stem", "dir", "name")
_SHOWN = 3  # examples named in a warning


@dataclass(frozen=True)
class Folder:
    """Labels from the folder that holds the image: `train/cat/1.jpg` is a `cat`.

    Attributes:
      depth: Which folder of the path: -1 is the innermost, 0 the outermost.
    """

    depth: int = -1


@dataclass(frozen=True)
class Images:
    """Image files under the input folder.

    Attributes:
      pattern: Glob pattern, or several: `*` and `?` stay in a folder, `**/` is any number of folders. An example's key
        is the file's path relative to the input.
      label: Where labels come from. A regular expression: matched in full against the stem of the file name, or, where
        it has a `/`, against the whole key; its group `label`, else its first group, else the whole is the label.
        `folder()`: the folder's name. `table(path, key, value)`: a CSV, TSV or whitespace-separated list. None: none.
      mask: Where masks are: a template of the path with `{stem}`, `{dir}`, `{name}` of the image, or a glob pattern
        whose files pair with the images by stem. None: there are none.
      decode: How payloads become pixels.
      max_bytes: Larger payloads are not read but quarantined.
    """

    pattern: str | Sequence[str]
    label: str | Folder | key_lists.KeyList | None = None
    mask: str | None = None
    decode: Decode = field(default_factory=Decode)
    max_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        check_patterns("Images", self.pattern)
        if self.mask is not None:
            check_patterns("Images", self.mask)
        if isinstance(self.label, str):
            try:
                re.compile(self.label)
            except re.error as error:
                raise RequestError(f"Images(label=...): {self.label!r} is no regular expression: {error}") from error
        elif self.label is not None and not isinstance(self.label, Folder | key_lists.KeyList):
            raise RequestError(
                f"Images(label=...): expected a regular expression, folder() or table(...), found {self.label!r}"
            )
        if self.mask is not None:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.mask) if name is not None}
            if fields - set(_FIELDS):
                raise RequestError(f"Images(mask=...): expected the fields {_FIELDS}, found {sorted(fields)}")

    def find(self, root: str) -> ImageListing:
        """Lists the images and pairs each with its label and mask.

        Raises:
          RequestError: a pattern matches nothing, or labels or masks are ambiguous.
        """
        images = match_files(root, check_patterns("Images", self.pattern), "images")
        listing = ImageListing(references=[])
        masks = self._masks(root, listing.warnings) if self.mask else {}
        labels = self._labels(root, list(images), listing.warnings)
        used = set()
        for key, info in images.items():
            mask_key = self._mask_key(key)
            mask = masks.get(mask_key) if mask_key else None
            if mask and mask_key:
                if mask_key in used and not self._is_template:
                    raise RequestError(
                        f"{mask.uri} pairs by its stem with {key} and another image, expected one; "
                        "use a template with {dir}"
                    )
                used.add(mask_key)
            problem = self._problem(key, info, labels.get(key), mask_key, mask)
            if problem:
                listing.problems.append(problem)
            else:
                listing.references.append(
                    Reference(key, info.uri, info.size, labels.get(key), mask.uri if mask else None)
                )
        orphans = sorted(masks.keys() - used)
        if orphans:
            names = ", ".join(masks[orphan].uri for orphan in orphans[:_SHOWN])
            listing.warnings.append(f"{len(orphans)} masks belong to no image: {names}{'…' * (len(orphans) > _SHOWN)}")
        tables_used = [self.label.path] if isinstance(self.label, key_lists.KeyList) else []
        lists = {path: info for path in tables_used for path, info in files.glob(root, path).items()}
        listing.digest = digest_files([*images.items(), *sorted(masks.items()), *lists.items()])
        return listing

    def _problem(
        self, key: str, info: FileInfo, label: str | None, mask_key: str | None, mask: FileInfo | None
    ) -> QuarantinedExample | None:
        """Why an image cannot be prepared, as far as listing tells."""
        names = (key, info.uri, mask.uri if mask else "")
        if not all(_is_utf8(name) for name in names):
            key, uri = (name.encode("utf-8", "backslashreplace").decode() for name in names[:2])
            return _plan_problem(key, uri, "name_not_utf8", "expected a file name in UTF-8, found another; rename it")
        if info.size > self.max_bytes:
            return _plan_problem(
                key, info.uri, "too_large", f"expected at most {self.max_bytes} bytes, found {info.size}"
            )
        if self.label is not None and not label:
            return _plan_problem(key, info.uri, "label_missing", f"expected a label by {self.label!r}, found none")
        if mask_key and mask is None:
            return _plan_problem(key, info.uri, "mask_missing", f"expected its mask at {mask_key}, found none")
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
            if match := pattern.fullmatch(key if by_key else _fields(key)["stem"]):
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
        for name, value in table.read(root):
            key = index.find(name, uri)
            if key is None:
                strangers.append(name)
            elif labels.setdefault(key, value) != value:
                raise RequestError(f"{uri}: {name!r} has the labels {labels[key]!r} and {value!r}, expected one")
        if strangers:
            warnings.append(f"{uri} labels {len(strangers)} examples that the input lacks, such as {strangers[0]!r}")
        return labels

    def _masks(self, root: str, warnings: list[str]) -> dict[str, FileInfo]:
        """Masks by what `_mask_key` gives for their image."""
        assert self.mask is not None
        pattern = re.sub(r"\{(\w+)\}", lambda field: "**" if field[1] == "dir" else "*", self.mask)
        matched = files.glob(root, pattern)
        if not matched:
            raise RequestError(f"expected masks at {files.join(root, self.mask)}, found none; check Images(mask=...)")
        if self._is_template:
            return matched
        masks: dict[str, FileInfo] = {}
        for key, info in matched.items():
            stem = _fields(key)["stem"]
            if stem in masks:
                raise RequestError(
                    f"the masks {masks[stem].uri} and {info.uri} have one stem, expected one mask for an image; "
                    "use a template with {dir}"
                )
            masks[stem] = info
        return masks

    @property
    def _is_template(self) -> bool:
        return self.mask is not None and "{" in self.mask

    def _mask_key(self, key: str) -> str | None:
        if self.mask is None:
            return None
        if not self._is_template:
            return _fields(key)["stem"]
        return re.sub("//+", "/", self.mask.format(**_fields(key))).lstrip("/")  # {dir} may be empty


def folder(depth: int = -1) -> Folder:
    """Labels from a folder of the path; see `Folder`."""
    return Folder(depth)


def table(path: str, key: str | int = 0, value: str | int = 1) -> key_lists.KeyList:
    """Labels from a list file; see `key_lists.KeyList`."""
    return key_lists.KeyList(path, key, value)


def _fields(key: str) -> dict[str, str]:
    """`{dir}`, `{name}` and `{stem}` of a key: `a/b/c.jpg` gives `a/b`, `c.jpg` and `c`."""
    directory, _, name = key.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return {"dir": directory, "name": name, "stem": stem if dot and stem else name}


def _folder(key: str, depth: int) -> str | None:
    folders = key.split("/")[:-1]
    return folders[depth] if -len(folders) <= depth < len(folders) else None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plan_problem(key: str, uri: str, code: str, message: str) -> QuarantinedExample:
    return QuarantinedExample(key, uri, "plan", code, message)
