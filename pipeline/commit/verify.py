"""Checks a committed dataset against its manifest: every file, every record, every count, and the graph."""

import gzip
from collections.abc import Iterator
from itertools import islice

from ..build.journal import read_kept
from ..build.shards import read_examples
from ..errors import DatasetError
from ..formats import paths
from ..formats.damage import all_files
from ..formats.generations import load_generation
from ..formats.manifest import Manifest, Shard, StoredFile, read_stored
from ..storage import files
from .golden import Golden

_SMALL = 8 << 20  # bytes of a file that takes one request or two
_FILES = 32  # small ones that are read at a time
_SHARDS = 8  # large files that are read at a time, of which tens of MB may be held


def verify(dataset: str, graph: bool = True, trust: bool = False, generation: str | None = None) -> Iterator[str]:
    """Checks a dataset; yields every fault in words, naming the file.

    Args:
      dataset: The dataset's URI.
      graph: Whether to apply the transform graph to its golden examples, which needs TensorFlow.
      trust: Whether the graph may do whatever it wants; else it is only applied where it is known to be harmless.
      generation: The id of a generation, or the beginning of it; None: the current one.

    Raises:
      NotCommittedError: nothing was committed there.
      RequestError: there is no such generation.
      DatasetError: the manifest itself cannot be trusted.
    """
    manifest, _ = load_generation(dataset, generation)
    whole = True
    listed = list(all_files(dataset, manifest))
    small = [file for file in listed if file.bytes <= _SMALL]
    large = [file for file in listed if file.bytes > _SMALL]
    for group, calls in ((small, _FILES), (large, _SHARDS)):
        for fault in files.map_files(lambda file: _check_file(dataset, file), group, calls):
            if fault:
                whole = False
                yield fault
    if files.exists(files.join(dataset, manifest.generation, paths.MANIFEST_SHA256)):
        try:
            Manifest.read_generation(dataset, manifest.generation)
        except DatasetError as error:
            yield str(error)
    yield from _check_counts(dataset, manifest)
    if whole:
        try:
            read_kept(dataset, manifest)
        except DatasetError as error:
            yield str(error)
    if graph and whole:
        yield from _check_graph(dataset, manifest, trust)


def _check_file(dataset: str, file: StoredFile) -> str | None:
    uri = files.join(dataset, file.path)
    try:
        digest, size = files.sha256(uri)
    except FileNotFoundError:
        return f"{uri}: the file is missing"
    except OSError as error:
        return f"{uri}: the file cannot be read: {error}"
    if size != file.bytes:
        return f"{uri}: expected {file.bytes} bytes, found {size}"
    if digest != file.sha256:
        return f"{uri}: expected SHA-256 {file.sha256}, found {digest}: its content was changed"
    return None


def _check_counts(dataset: str, manifest: Manifest) -> Iterator[str]:
    """Counts the examples in every shard, and compares all sums that the manifest gives."""
    written = 0
    for name, split in manifest.splits.items():
        faults = files.map_files(lambda shard: _check_examples(dataset, shard), split.shards, _SHARDS)
        yield from filter(None, faults)
        in_shards = sum(shard.examples for shard in split.shards)
        if in_shards != split.examples:
            yield f"split {name!r}: expected {split.examples} examples, found {in_shards} in its shards"
        written += split.examples
    if written != manifest.written:
        yield f"expected {manifest.written} written examples, found {written} in the splits"
    if manifest.read != manifest.written + manifest.quarantined + manifest.filtered:
        yield (
            f"expected read = written + quarantined + filtered, found {manifest.read} = {manifest.written} + "
            f"{manifest.quarantined} + {manifest.filtered}"
        )
    lines = sum(file.examples or 0 for file in manifest.quarantine)
    if lines != manifest.quarantined:
        yield f"expected {manifest.quarantined} quarantined examples, found {lines} in the quarantine files"


def _check_examples(dataset: str, shard: Shard) -> str | None:
    """Counts the examples in a shard; what is wrong with it, in words."""
    uri = files.join(dataset, shard.path)
    try:
        count = sum(1 for _ in read_examples(uri))
    except FileNotFoundError:
        return None  # reported with the files
    except (DatasetError, OSError, EOFError, gzip.BadGzipFile) as error:
        return f"{uri}: its records cannot be read: {error}"
    return None if count == shard.examples else f"{uri}: expected {shard.examples} examples, found {count}"


def _check_graph(dataset: str, manifest: Manifest, trust: bool) -> Iterator[str]:
    """Applies the graph to the golden examples again, and compares what comes out."""
    from ..graph.savedmodel import SavedGraph, apply_to_examples

    golden_uri = files.join(dataset, manifest.transform_graph.golden.path)
    try:
        golden = Golden.decode(read_stored(dataset, manifest.transform_graph.golden))
    except ValueError as error:
        yield f"{golden_uri}: expected what the graph gave for a few examples: {error}"
        return
    if golden.shard not in {shard.path for split in manifest.splits.values() for shard in split.shards}:
        yield f"{golden_uri}: expected one of the manifest's shards, found {golden.shard!r}"
        return
    examples = list(islice(read_examples(files.join(dataset, golden.shard)), golden.examples))
    uri = files.join(dataset, manifest.transform_graph.path)
    for name in golden.differing(apply_to_examples(SavedGraph(uri, manifest.features, trust), examples)):
        yield (
            f"{uri}: output {name!r} is not what it was when the dataset was written; made with "
            f"{manifest.origin.versions}: compare the versions installed here"
        )
