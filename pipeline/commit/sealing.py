"""Seals a generation: which attempt's manifest it gets, that attempt's files at their places, and the pointer to it.

A commit may be made by several attempts, one after the other or side by side, and what TensorFlow writes differs
between them. So an attempt first leaves a record of all that it would write. Then manifest.json is created where there
is none: that decides. Whoever comes later takes the manifest that is there, and writes the files of that attempt, from
its record. All attempts end with the same bytes under the same names, wherever any of them stopped.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ..errors import DatasetError, PenstockError
from ..formats import paths
from ..formats.manifest import Manifest, StoredFile, read_stored
from ..formats.pointer import Pointer, expect_replaceable, locked_dataset, publish, publish_locked
from ..storage import files
from ..storage.files import VersionMismatch

_RECORD = pa.schema([("path", pa.string()), ("content", pa.large_binary())])


@dataclass(frozen=True)
class Attempt:
    """What an attempt at a commit would write.

    Attributes:
      manifest: Of the generation.
      contents: Path in the generation to content, of the files that only the commit writes.
    """

    manifest: Manifest
    contents: Mapping[str, bytes]


def seal(dataset: str, attempt: Attempt, superseded: str | None, replaces: Pointer | None) -> Manifest:
    """Commits an attempt, or the one that was first; returns the manifest that the dataset has then.

    Args:
      dataset: The dataset's URI.
      attempt: What would be committed.
      superseded: SHA-256 of a manifest of this generation that is there and is to be made again; None: there is none.
      replaces: The pointer when the run began.

    Raises:
      PenstockError: somebody else committed another generation, or is making this one again.
    """
    content = attempt.manifest.encode()
    generation = attempt.manifest.generation
    _write_record(files.join(dataset, generation), content, attempt.contents)
    is_local = files.is_local(dataset)
    with locked_dataset(dataset) if is_local else contextlib.nullcontext():
        if committed := committed_already(dataset, generation, replaces):
            return committed
        expect_replaceable(dataset, Pointer.read(dataset), generation, replaces)
        place = _LocalPlace(dataset, generation) if is_local else _StorePlace(dataset, generation)
        decided, pointer = _install(place, content, attempt, superseded)
        (publish_locked if is_local else publish)(dataset, pointer, replaces)
    return decided


def committed_already(dataset: str, generation: str, replaces: Pointer | None) -> Manifest | None:
    """The dataset's manifest where another attempt has committed this generation since the run began; else None.

    Raises:
      DatasetError: it did, and the manifest is damaged.
    """
    current = Pointer.read(dataset)
    if current is None or current.generation != generation or current == replaces:
        return None
    return Manifest.load(dataset)


class _LocalPlace:
    """A generation on a local disk; the dataset's lock is held."""

    def __init__(self, dataset: str, generation: str) -> None:
        self.dataset = dataset
        self.root = files.join(dataset, generation)

    def decide(self, content: bytes, superseded: str | None) -> bytes:
        """The generation's manifest.json: what is there, or else `content`, which is written."""
        uri = files.join(self.root, paths.MANIFEST)
        try:
            there = files.read_bytes(uri)
        except OSError:
            there = None  # nothing is there, or what is no file
        if there is None or _sha256(there) == superseded:
            files.write_bytes(uri, content)
            return content
        return there

    def write(self, path: str, content: bytes, _: str) -> None:
        """Writes a file of the decided attempt, unless it is there."""
        uri = files.join(self.root, path)
        try:
            if files.size(uri) == len(content) and files.read_bytes(uri) == content:
                return
        except OSError:
            pass  # it is not there, or is no file
        files.write_bytes(uri, content)


class _StorePlace:
    """A generation on a store: every write is conditional on what was seen before."""

    def __init__(self, dataset: str, generation: str) -> None:
        self.dataset = dataset
        self.root = files.join(dataset, generation)

    def decide(self, content: bytes, superseded: str | None) -> bytes:
        """As on a local disk."""
        uri = files.join(self.root, paths.MANIFEST)

        def is_settled(there: bytes) -> bool:
            return _sha256(there) != superseded

        return _write_unless(uri, content, is_settled)

    def write(self, path: str, content: bytes, decided: str) -> None:
        """Writes a file of the decided attempt, unless it is there.

        Raises:
          PenstockError: the generation has another manifest by now.
        """

        def is_settled(there: bytes) -> bool:
            if there == content:
                return True
            if _sha256(files.read_bytes(files.join(self.root, paths.MANIFEST))) != decided:
                raise PenstockError(f"{self.root}: another run is making it again; wait for its end, then run again")
            return False

        _write_unless(files.join(self.root, path), content, is_settled)


def _write_unless(uri: str, content: bytes, is_settled: Callable[[bytes], bool]) -> bytes:
    """Writes an object where there is none, or over one that is not settled; returns what is there then."""
    while True:
        try:
            files.create_exclusive(uri, content)
            return content
        except FileExistsError:
            pass
        try:
            there, version = files.read_versioned(uri)
            if is_settled(there):
                return there
            files.replace_exactly(uri, content, version)
            return content
        except (FileNotFoundError, VersionMismatch):
            continue  # somebody else was faster: look again


def _install(
    place: _LocalPlace | _StorePlace, content: bytes, attempt: Attempt, superseded: str | None
) -> tuple[Manifest, Pointer]:
    """Decides on a manifest and brings its attempt's files into place; returns it, and the pointer to it."""
    generation = attempt.manifest.generation
    uri = files.join(place.root, paths.MANIFEST)
    decided = place.decide(content, superseded)
    manifest, pointer = Manifest.decode(decided, uri), Pointer.to(generation, decided)
    contents: dict[str, bytes] = dict(attempt.contents)
    if decided != content:
        _expect_same_units(place.root, manifest, attempt.manifest)
        contents = _read_record(place.root, pointer.sha256)
        if not contents:
            _expect_written(place.dataset, manifest)
    contents[paths.MANIFEST_SHA256] = pointer.manifest_sum()

    def write(path: str) -> None:
        place.write(path, contents[path], pointer.sha256)

    for _ in files.map_files(write, contents):
        pass
    return manifest, pointer


def _expect_same_units(root: str, manifest: Manifest, own: Manifest) -> None:
    """Raises PenstockError where units came out otherwise than when another attempt's manifest was decided on."""
    theirs, ours = (set(each.files()) - set(_of_commit(each)) for each in (manifest, own))
    if theirs != ours:
        path = min(file.path for file in theirs ^ ours)
        raise PenstockError(
            f"{root}: expected the shards of a commit that was begun before, found that {path} came out otherwise; "
            "remove this folder and run again"
        )


def _expect_written(dataset: str, manifest: Manifest) -> None:
    """Raises PenstockError where files of a commit are not as its manifest says, and no record of them is left."""
    for file in _of_commit(manifest):
        try:
            read_stored(dataset, file)
        except DatasetError as error:
            raise PenstockError(
                f"{files.join(dataset, manifest.generation)}: expected what another attempt was to commit, found that "
                f"it is not whole ({error}); remove its {paths.MANIFEST} and run again"
            ) from error


def _of_commit(manifest: Manifest) -> list[StoredFile]:
    """The files that the commit writes, and no unit."""
    graph, statistics, duplicates = manifest.transform_graph, manifest.statistics, manifest.duplicates.file
    of_all = [*graph.files, graph.golden, statistics.file, statistics.values, *([duplicates] if duplicates else [])]
    croissant = [manifest.croissant.file, manifest.croissant.checksums] if manifest.croissant else []
    return [*of_all, *croissant, *([manifest.units.journals] if manifest.units else [])]


def _write_record(root: str, manifest: bytes, contents: Mapping[str, bytes]) -> None:
    """Leaves what another attempt needs to finish this one, under the manifest's checksum."""
    table = pa.table({"path": list(contents), "content": list(contents.values())}, _RECORD)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _RECORD) as stream:
        stream.write_table(table)
    files.write_bytes(files.join(root, paths.commit_record(_sha256(manifest))), bytes(sink.getvalue()))


def _read_record(root: str, sha256: str) -> dict[str, bytes]:
    """The files of the attempt with a manifest; none where there is no record, as after its commit."""
    try:
        content = files.read_bytes(files.join(root, paths.commit_record(sha256)))
        table = pa.ipc.open_stream(content).read_all()
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    return dict(zip(table["path"].to_pylist(), table["content"].to_pylist(), strict=True))


def has_record(root: str, manifest: bytes) -> bool:
    """Whether an attempt with this manifest.json can still be finished."""
    return files.exists(files.join(root, paths.commit_record(_sha256(manifest))))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
