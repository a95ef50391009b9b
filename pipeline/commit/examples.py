"""The examples that a generation lacks, as its files list them: those that were filtered, and the quarantined ones."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import DatasetError
from ..formats.manifest import StoredFile
from ..storage import files

Listed = tuple[StoredFile, Mapping[str, int]]  # a file of examples, and how many it tells of for each reason


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


def first_filtered(root: str, listed: Iterable[Listed]) -> dict[str, str]:
    """Filter reason to the key of an example."""
    return {reason: entry["key"] for reason, entry in _firsts(root, listed, "reason").items()}


def first_quarantined(root: str, listed: Iterable[Listed]) -> dict[str, str]:
    """Reason code to an example: its key, and its message."""
    firsts = _firsts(root, listed, "code")
    return {code: f"{entry['key']}: {entry['message']}" for code, entry in firsts.items()}


def _firsts(root: str, listed: Iterable[Listed], name: str) -> dict[str, dict[str, Any]]:
    """The first example of each value of a field; read are only the files in which one of them is the first."""
    firsts: dict[str, dict[str, Any]] = {}
    for file, values in listed:
        if values.keys() - firsts.keys():
            for entry in read_lines(root, [file]):
                firsts.setdefault(entry[name], entry)
    return firsts
