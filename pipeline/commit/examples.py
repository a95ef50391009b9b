"""The examples that a generation lacks, as its files list them: those that were filtered, and the quarantined ones."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import DatasetError
from ..formats.manifest import StoredFile
from ..storage import files


def read_lines(root: str, listed: Iterable[StoredFile]) -> Iterator[dict[str, Any]]:
    """The examples that files list, one after the other.

    Args:
      root: What the files' paths are relative to.
      listed: Files of lines, of `QuarantinedExample` or `FilteredExample`.

    Raises:
      DatasetError: a file is damaged.
    """
    for file in listed:
        uri = files.join(root, file.path)
        try:
            with files.open_read(uri) as opened:
                for line in opened:
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{uri}: expected a list of examples, found: {error}; run `penstock verify`") from error


def first_filtered(root: str, listed: Iterable[StoredFile]) -> dict[str, str]:
    """Filter reason to the key of an example."""
    found: dict[str, str] = {}
    for entry in read_lines(root, listed):
        found.setdefault(entry["reason"], entry["key"])
    return found


def first_quarantined(root: str, listed: Iterable[StoredFile]) -> dict[str, str]:
    """Reason code to an example: its key, and its message."""
    found: dict[str, str] = {}
    for entry in read_lines(root, listed):
        found.setdefault(entry["code"], f"{entry['key']}: {entry['message']}")
    return found
