"""The pointer, `_DATASET.json`: which generation a dataset is. Creating or replacing it is the commit.

It is replaced in one step, and only if it still says what the run saw when it began: on a local disk under the
dataset's lock, on a store by a conditional request. Where `penstock prune` is at work on a store, the pointer also
names what is being removed, so that one and the same object decides what is current and what may go.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..errors import DatasetError
from ..storage import files
from ..storage.files import FileVersion, VersionMismatch
from ..storage.locks import locked_folder
from . import paths
from .json_fields import JsonObject, mismatch

POINTER_BYTES = 1 << 16  # what the pointer and a checksum's file may have at most: nothing is read without an end


@dataclass(frozen=True)
class Pointer:
    """What `_DATASET.json` says.

    Attributes:
      generation: The current generation.
      manifest: Its manifest; follows from the generation.
      sha256: The manifest's SHA-256: none of the three can be changed without notice.
      removing: Other generations that are being removed from a store, and must not become current.
      rolled_back: The generation that was current before `penstock rollback`; empty where none was rolled back.
    """

    generation: str
    manifest: str
    sha256: str
    removing: tuple[str, ...] = field(default=(), compare=False)
    rolled_back: str = field(default="", compare=False)

    def to_bytes(self) -> bytes:
        """The file's content."""
        entry = {
            "format": paths.FORMAT,
            "generation": self.generation,
            "manifest": self.manifest,
            "sha256": self.sha256,
            **({"removing": list(self.removing)} if self.removing else {}),
            **({"rolled_back": self.rolled_back} if self.rolled_back else {}),
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
        except (PermissionError, files.StoreError) as error:
            raise DatasetError(f"{dataset}: expected a dataset that can be read, found: {error}") from error
        except OSError as error:
            raise DatasetError(
                f"{uri}: expected a pointer to a generation, found: {error}; remove the file and run the recipe again"
            ) from error
        return cls.decode(content, uri)

    @classmethod
    def decode(cls, content: bytes, uri: str) -> "Pointer":
        """Reads the file's content back.

        Raises:
          DatasetError: it is damaged, or of a newer format.
        """
        try:
            entry = JsonObject.of(json.loads(content))
            check_format(entry, uri)
            removing = entry.strings("removing") if "removing" in entry.fields else ()
            rolled_back = entry.string("rolled_back") if "rolled_back" in entry.fields else ""
            pointer = cls(
                read_generation_id(entry), entry.path("manifest"), entry.string("sha256"), removing, rolled_back
            )
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
      DatasetError: somebody else committed another generation meanwhile, or this one is being removed.
    """
    if files.is_local(dataset):
        with locked_dataset(dataset):
            publish_locked(dataset, pointer, replaces)
        return
    while True:
        current, version = _read_versioned(dataset)
        if not _is_due(dataset, pointer, current, replaces):
            return
        if _write_over(dataset, replace(pointer, removing=current.removing if current else ()), version):
            return


def publish_locked(dataset: str, pointer: Pointer, replaces: Pointer | None) -> None:
    """As `publish`, in a local dataset whose lock is held."""
    if _is_due(dataset, pointer, Pointer.read(dataset), replaces):
        files.write_bytes(files.join(dataset, paths.POINTER), pointer.to_bytes())


def expect_replaceable(dataset: str, current: Pointer | None, generation: str, replaces: Pointer | None) -> None:
    """Raises DatasetError where a generation may not become current.

    Args:
      dataset: The dataset's URI.
      current: Its pointer as it is.
      generation: What is to become current.
      replaces: The pointer when the run began.
    """
    if current != replaces:
        winner = current.generation if current else "none"
        raise DatasetError(
            f"{dataset}: another run committed generation {winner} while this one was at work; "
            "nothing of it was touched: run again to put this one in its place"
        )
    if current and generation in current.removing:
        raise DatasetError(
            f"{files.join(dataset, generation)}: expected a generation that stays, found `penstock prune` removing it; "
            "run again when it has ended"
        )


def _is_due(dataset: str, pointer: Pointer, current: Pointer | None, replaces: Pointer | None) -> bool:
    """Whether the pointer is still to be written; raises DatasetError where it may not be."""
    if current == pointer:
        return False
    expect_replaceable(dataset, current, pointer.generation, replaces)
    return True


def _read_versioned(dataset: str) -> tuple[Pointer | None, FileVersion | None]:
    """The pointer on a store, and which version of it that is; None where there is none."""
    uri = files.join(dataset, paths.POINTER)
    try:
        content, version = files.read_versioned(uri)
    except FileNotFoundError:
        return None, None
    return Pointer.decode(content, uri), version


def _write_over(dataset: str, pointer: Pointer, version: FileVersion | None) -> bool:
    """Writes the pointer on a store over the version that was read, None where there was none; whether it still was."""
    uri = files.join(dataset, paths.POINTER)
    try:
        if version is None:
            files.create_exclusive(uri, pointer.to_bytes())
        else:
            files.replace_exactly(uri, pointer.to_bytes(), version)
    except (FileExistsError, VersionMismatch):
        return False
    return True


def mark_removing(dataset: str, begun: Iterable[str], ended: Iterable[str] = ()) -> None:
    """Lets the pointer of a dataset on a store name generations whose removal begins, and those no more where it ended.

    From then on none of them can become current: whoever publishes one read the pointer before, and fails, or after.

    Raises:
      DatasetError: one of them is current by now, or the dataset has no pointer.
    """
    begun, ended = set(begun), set(ended)
    while True:
        current, version = _read_versioned(dataset)
        if current is None or current.generation in begun:
            found = current.generation if current else "no pointer"
            raise DatasetError(f"{dataset}: expected to remove generations that are not current, found {found}")
        marked = replace(current, removing=tuple(sorted((begun | set(current.removing)) - ended)))
        if current.removing == marked.removing or _write_over(dataset, marked, version):
            return


@contextlib.contextmanager
def locked_dataset(dataset: str) -> Iterator[None]:
    """Holds the lock of a local dataset: while it lasts, nobody else replaces the pointer or removes a generation."""
    with locked_folder(dataset):
        for name in files.list_names(dataset):
            if files.is_temporary(name):  # left behind by a run that was killed
                files.remove(files.join(dataset, name))
        yield
