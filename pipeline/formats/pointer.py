"""The pointer, `_DATASET.json`: which generation a dataset is. Creating or replacing it is the commit.

It is replaced in one step, under the dataset's lock, and only if it still says what the run saw when it began.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import DatasetError
from ..storage import files
from ..storage.locks import locked_folder
from . import paths
from .json_fields import JsonObject, mismatch

POINTER_BYTES = 1 << 16  # what the pointer and a checksum's file may have at most: nothing is read without an end


@dataclass(frozen=True)
class Pointer:
    """What `_DATASET.json` says: the current generation, its manifest, and the manifest's SHA-256.

    Each field follows from another or from the manifest: none can be changed without notice.
    """

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

    def manifest_sum(self) -> bytes:
        """The content of manifest.sha256."""
        return f"{self.sha256}  {paths.MANIFEST}\n".encode()

    def write_sum(self, dataset: str) -> None:
        """Writes manifest.sha256, unless it is as it should be."""
        uri = files.join(dataset, self.generation, paths.MANIFEST_SHA256)
        with contextlib.suppress(OSError):
            if files.read_bytes(uri, POINTER_BYTES) == self.manifest_sum():
                return
        files.write_bytes(uri, self.manifest_sum())

    @classmethod
    def read(cls, dataset: str) -> "Pointer | None":
        """Reads a dataset's pointer; None where there is none.

        Raises:
          DatasetError: the pointer is damaged, or of a newer format.
        """
        uri = files.join(dataset, paths.POINTER)
        try:
            content = files.read_bytes(uri, POINTER_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError as error:
            raise DatasetError(f"{uri}: expected a pointer to a generation, found a folder; remove it") from error
        except OSError as error:
            raise DatasetError(
                f"{uri}: expected a pointer to a generation, found: {error}; remove the file and run the recipe again"
            ) from error
        try:
            entry = JsonObject.of(json.loads(content))
            check_format(entry, uri)
            pointer = cls(read_generation_id(entry), entry.path("manifest"), entry.string("sha256"))
            expected = f"{pointer.generation}/{paths.MANIFEST}"
            if pointer.manifest != expected:
                raise mismatch("manifest", f"the generation's, {expected}", pointer.manifest)
            return pointer
        except ValueError as error:
            raise DatasetError(
                f"{uri}: expected a pointer to a generation: {error}; remove the file and run the recipe again"
            ) from error


def read_generation_id(entry: JsonObject) -> str:
    """The field `generation`; raises ValueError where it cannot be one."""
    generation = entry.string("generation")
    if not paths.is_generation(generation):
        raise mismatch(entry.key_of("generation"), "16 hexadecimal digits", generation)
    return generation


def check_format(entry: JsonObject, uri: str) -> None:
    """Raises DatasetError where `entry` was written by a newer format, ValueError where there is no such format."""
    if not entry.count("format"):
        raise mismatch("format", "a whole number from 1", 0)
    if entry.count("format") > paths.FORMAT:
        raise DatasetError(
            f"{uri}: expected format {paths.FORMAT} or older, found {entry.count('format')}; install a newer penstock"
        )


def publish(dataset: str, pointer: Pointer, replaces: Pointer | None) -> None:
    """Creates or replaces the pointer in one step, durably.

    Args:
      dataset: The dataset's URI.
      pointer: The new pointer.
      replaces: The pointer that the run saw when it began; None where there was none.

    Raises:
      DatasetError: somebody else committed another generation meanwhile.
    """
    with locked_dataset(dataset):
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
def locked_dataset(dataset: str) -> Iterator[None]:
    """Holds the lock of a local dataset: while it lasts, nobody else replaces the pointer or removes a generation."""
    if not files.is_local(dataset):
        raise DatasetError(f"{dataset}: expected a local folder; commits to object stores are not supported yet")
    with locked_folder(dataset):
        for name in files.list_names(dataset):
            if files.is_temporary(name):  # left behind by a run that was killed
                files.remove(files.join(dataset, name))
        yield
