"""The manifest and the pointer: what makes a generation a dataset. Standard library only.

`manifest.json` lists every file of a generation with its bytes and SHA-256. `_DATASET.json` points to the manifest of
the current generation; creating or replacing it is the commit.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DatasetError, NotCommittedError
from ..storage import files
from . import paths


@dataclass(frozen=True)
class Pointer:
    """What `_DATASET.json` says: the current generation, its manifest, and the manifest's SHA-256."""

    generation: str
    manifest: str
    sha256: str

    def to_bytes(self) -> bytes:
        """The file's content."""
        entry = {
            "format": paths.FORMAT,
            "generation": self.generation,
            "manifest": self.manifest,
            "sha256": self.sha256,
        }
        return (json.dumps(entry, indent=2) + "\n").encode()

    @classmethod
    def to(cls, generation: str, manifest: bytes) -> "Pointer":
        """The pointer to a generation whose manifest has the given bytes."""
        return cls(generation, f"{generation}/{paths.MANIFEST}", hashlib.sha256(manifest).hexdigest())

    @classmethod
    def read(cls, dataset: str) -> "Pointer | None":
        """Reads a dataset's pointer; None where there is none.

        Raises:
          DatasetError: the pointer is damaged, or of a newer format.
        """
        uri = files.join(dataset, paths.POINTER)
        try:
            content = files.read_bytes(uri)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError as error:
            raise DatasetError(f"{uri}: expected a pointer to a generation, found a folder; remove it") from error
        try:
            entry = json.loads(content)
            check_format(entry, uri)
            return cls(entry["generation"], entry["manifest"], entry["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{uri}: expected a pointer to a generation, found {error!r}; remove the file and run again"
            ) from error


def check_format(entry: Mapping[str, Any], uri: str) -> None:
    """Raises DatasetError where `entry` was written by a newer format."""
    if entry["format"] > paths.FORMAT:
        raise DatasetError(
            f"{uri}: expected format {paths.FORMAT} or older, found {entry['format']}; install a newer penstock"
        )


def encode(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of a manifest file."""
    return (json.dumps(manifest, indent=2) + "\n").encode()


def read(dataset: str) -> dict[str, Any]:
    """The manifest of a dataset's current generation.

    Raises:
      NotCommittedError: nothing was committed there.
      DatasetError: the manifest is missing or damaged.
    """
    pointer = Pointer.read(dataset)
    if pointer is None:
        if files.exists(files.join(dataset, paths.MANIFEST)):
            raise NotCommittedError(f"{dataset}: expected a dataset, found a generation of one; open its parent folder")
        if files.exists(dataset):
            raise NotCommittedError(
                f"{dataset} is not committed: it has no {paths.POINTER}; a run has not ended yet, or has failed: "
                "run the recipe again to resume it"
            )
        raise NotCommittedError(f"expected a dataset at {dataset}, found nothing there; check the path")
    uri = files.join(dataset, pointer.manifest)
    try:
        content = files.read_bytes(uri)
    except FileNotFoundError as error:
        raise DatasetError(f"{uri}: expected the manifest that the pointer names, found none; run again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != pointer.sha256:
        raise DatasetError(f"{uri}: expected SHA-256 {pointer.sha256}, found {found}; the manifest was changed")
    manifest: dict[str, Any] = json.loads(content)
    check_format(manifest, uri)
    return manifest


def publish(dataset: str, pointer: Pointer, replaces: Pointer | None) -> None:
    """Creates or replaces the pointer in one step, durably.

    Args:
      dataset: The dataset's URI.
      pointer: The new pointer.
      replaces: The pointer that the run saw when it began; None where there was none.

    Raises:
      DatasetError: somebody else committed another generation meanwhile.
    """
    with _locked(dataset):
        current = Pointer.read(dataset)
        if current == pointer:
            return
        if current != replaces:
            winner = current.generation if current else "none"
            raise DatasetError(
                f"{dataset}: another run committed generation {winner} while this one was at work; "
                "nothing of it was touched: run again to put this one in its place"
            )
        files.write_bytes(files.join(dataset, paths.POINTER), pointer.to_bytes())


@contextlib.contextmanager
def _locked(dataset: str) -> Iterator[None]:
    """Holds a lock on a local dataset's folder; the kernel frees it when a process dies."""
    if not files.is_local(dataset):
        raise DatasetError(f"{dataset}: expected a local folder; commits to object stores are not supported yet")
    import fcntl
    import os

    descriptor = os.open(dataset, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for name in os.listdir(dataset):
            if files.is_temporary(name):  # left behind by a run that was killed
                files.remove(files.join(dataset, name))
        yield
    finally:
        os.close(descriptor)
