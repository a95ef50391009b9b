"""The masks of images: by a template of the path, or by a pattern whose files pair with the images by stem."""

import re
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import RequestError
from ..storage import files
from ..storage.files import FileInfo
from ..storage.globs import escape_glob, normalized, printable
from .file_patterns import find_files

FIELDS = ("stem", "dir", "name")
_SHOWN = 3  # files named in a warning


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


class MaskIndex:
    """The masks below an input folder, and which of them belong to which images."""

    def __init__(self, rule: MaskRule, root: str) -> None:
        """Lists them.

        Raises:
          RequestError: there are none, or several have one stem where they pair by it.
        """
        self._rule = rule
        matched = find_files(root, rule.pattern)
        if not matched.files and not matched.unreadable:
            at = files.join(root, rule.template)
            notes = "".join(f"; {warning}" for warning in matched.warnings)
            raise RequestError(f"expected masks at {at}, found none; check Images(mask=...){notes}")
        self._unreadable = matched.unreadable
        self._warnings = matched.warnings
        self.files: Mapping[str, FileInfo] = matched.files
        self._names = self.files if rule.is_template else self._by_stem()
        self._used: dict[str, list[str]] = defaultdict(list)  # a mask's URI to the images that it serves
        self._reformed: list[str] = []

    def find(self, key: str) -> FileInfo | None:
        """The mask of an image; None where there is none.

        Raises:
          RequestError: it pairs by its stem with another image too, or is the image itself.
        """
        name = self._rule.path(key) if self._rule.is_template else fields_of(key)["stem"]
        if name is None:
            return None
        mask = self._names.get(name)
        if mask is None and len(others := self._by_form.get(normalized(name), [])) == 1:
            mask = self._names[others[0]]
            self._reformed.append(key)
        if mask is None:
            return None
        images = self._used[mask.uri]
        images.append(key)
        if len(images) > 1 and not self._rule.is_template:
            raise RequestError(
                f"{mask.uri} pairs by its stem with {key} and another image, expected one; use a template with {{dir}}"
            )
        if mask.uri.endswith(f"/{key}") and self.files.get(key) is mask:
            raise RequestError(
                f"Images(mask={self._rule.template!r}): expected a mask beside {key}, found the image itself; fix the "
                "template, or leave masks out of the pattern of the images"
            )
        return mask

    def why_not(self, key: str) -> tuple[str, str]:
        """Why an image has no mask: a code and words."""
        if not self._rule.is_template:
            return "mask_missing", f"expected a mask of its stem at {self._rule.template}, found none"
        path = self._rule.path(key)
        if path is None:
            return "mask_missing", f"expected a key that Images(parts={self._rule.parts!r}) matches, found {key}"
        if path in self._unreadable:
            return "mask_unreadable", f"expected its mask at {path}, found {self._unreadable[path]}"
        if others := self._by_form.get(normalized(path)):
            return (
                "mask_missing",
                f"expected its mask at {path}, found {len(others)} whose names differ only in their Unicode form",
            )
        return "mask_missing", f"expected its mask at {path}, found none"

    def warnings(self) -> list[str]:
        """What the user should know once all images have their masks."""
        warnings = list(self._warnings)
        orphans = [info.uri for _, info in sorted(self.files.items()) if info.uri not in self._used]
        if orphans:
            names = ", ".join(map(printable, orphans[:_SHOWN]))
            warnings.append(f"{len(orphans)} masks belong to no image: {names}{'…' * (len(orphans) > _SHOWN)}")
        if self._unreadable:
            path, kind = next(iter(self._unreadable.items()))
            warnings.append(f"{len(self._unreadable)} masks cannot be read, such as {printable(path)}: found {kind}")
        shared = {uri: images for uri, images in self._used.items() if len(images) > 1}
        if shared:
            uri, images = next(iter(shared.items()))
            warnings.append(
                f"{len(shared)} masks serve several images, such as {printable(uri)} for {printable(images[0])} and "
                f"{printable(images[1])}; if each image has its own, name it with {{dir}} or parts=... in "
                "Images(mask=...)"
            )
        if self._reformed:
            warnings.append(
                f"{len(self._reformed)} images and their masks have names of another Unicode form (NFC and NFD), such "
                f"as {self._reformed[0]}; they were matched"
            )
        return warnings

    @cached_property
    def _by_form(self) -> Mapping[str, Sequence[str]]:
        """Name in Unicode's form NFC to the names as they are, of those that are not ASCII."""
        forms: dict[str, list[str]] = defaultdict(list)
        for name in self._names:
            if not name.isascii():
                forms[normalized(name)].append(name)
        return forms

    def _by_stem(self) -> dict[str, FileInfo]:
        masks: dict[str, FileInfo] = {}
        for key, info in self.files.items():
            stem = fields_of(key)["stem"]
            if stem in masks:
                raise RequestError(
                    f"the masks {masks[stem].uri} and {info.uri} have one stem, expected one mask for an image; "
                    "use a template with {dir}"
                )
            masks[stem] = info
        return masks


def fields_of(key: str) -> dict[str, str]:
    """`{dir}`, `{name}` and `{stem}` of a key: `a/b/c.jpg` gives `a/b`, `c.jpg` and `c`."""
    directory, _, name = key.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return {"dir": directory, "name": name, "stem": stem if dot and stem else name}
