"""All files of a generation, and which of them are damaged as far as their sizes tell."""

import json
from collections.abc import Iterator

from ..errors import DatasetError
from ..storage import files
from .json_fields import JsonObject
from .manifest import Manifest, StoredFile, read_stored

# The fields of a unit's journal that name files which are kept for later runs, and which no manifest lists.
KEPT_FILES = ("summaries", "hashes", "accumulators", "range_totals")


def all_files(dataset: str, manifest: Manifest) -> Iterator[StoredFile]:
    """Every file of a generation but the manifest itself, once: those, too, that only runs after it or others need.

    Those that its units left are listed by their journals; none are where these are damaged.
    """
    yield from manifest.files()
    if manifest.croissant:
        yield manifest.croissant.file
        yield manifest.croissant.checksums
    if manifest.units is None:
        return
    yield manifest.units.inputs
    if manifest.units.forgotten:
        yield manifest.units.forgotten
    yield manifest.units.journals
    try:
        for line in read_stored(dataset, manifest.units.journals).splitlines():
            journal = JsonObject.of(json.loads(line))
            for name in KEPT_FILES:
                if entry := journal.optional_object(name):
                    yield StoredFile.read(entry).within(manifest.generation)
    except (DatasetError, ValueError):
        return  # whoever looks at the journals themselves says so


def find_damage(dataset: str, manifest: Manifest) -> dict[str, str]:
    """The files that are missing or of another size than the manifest says: path to what is wrong, with their URIs.

    It reads none of them but the units' journals; `commit.verify` does.
    """
    start = len(dataset.rstrip("/")) + 1
    listed = files.list_folder(files.join(dataset, manifest.generation))
    sizes = {info.uri[start:]: info.size for info in listed}
    damage = {}
    for file in all_files(dataset, manifest):
        if sizes.get(file.path) != file.bytes and (fault := _fault(files.join(dataset, file.path), file.bytes)):
            damage[file.path] = fault
    return damage


def _fault(uri: str, expected: int) -> str | None:
    """What is wrong with a file that was not listed with the bytes that are expected; None: it has them by now."""
    try:
        size = files.size(uri)
    except FileNotFoundError:
        return f"{uri}: the file is missing"
    except OSError as error:
        return f"{uri}: the file cannot be read: {error}"
    return None if size == expected else f"{uri}: expected {expected} bytes, found {size}"
