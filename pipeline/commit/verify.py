"""Checks a committed dataset against its manifest: every file, every record, every count, and the graph."""

import gzip
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ..build.shards import read_examples
from ..errors import DatasetError
from ..formats import manifest
from ..storage import files

_ULPS = 1e-5  # relative: another processor may round a float differently


def verify(dataset: str, graph: bool = True) -> Iterator[str]:
    """Checks a dataset; yields every fault in words, naming the file.

    Args:
      dataset: The dataset's URI.
      graph: Whether to apply the transform graph to its golden examples, which needs TensorFlow.

    Raises:
      NotCommittedError: nothing was committed there.
      DatasetError: the manifest itself cannot be trusted.
    """
    content = manifest.read(dataset)
    whole = True
    for entry in listed_files(content):
        fault = _check_file(dataset, entry)
        if fault:
            whole = False
            yield fault
    yield from _check_counts(dataset, content)
    if graph and whole:
        yield from _check_graph(dataset, content)


def listed_files(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entries (path, bytes, sha256, …) of every file that a manifest lists."""
    for split in content["splits"].values():
        for shard in split["shards"]:
            yield shard
            if shard["index"]:
                yield shard["index"]
    yield from content["quarantine"]
    yield from content["transform_graph"]["files"]
    yield content["transform_graph"]["golden"]
    yield content["statistics"]
    yield content["statistics"]["values"]
    if content["duplicates"]["file"]:
        yield content["duplicates"]["file"]


def _check_file(dataset: str, entry: Mapping[str, Any]) -> str | None:
    uri = files.join(dataset, entry["path"])
    try:
        digest, size = files.sha256(uri)
    except FileNotFoundError:
        return f"{uri}: the file is missing"
    except OSError as error:
        return f"{uri}: the file cannot be read: {error}"
    if size != entry["bytes"]:
        return f"{uri}: expected {entry['bytes']} bytes, found {size}"
    if digest != entry["sha256"]:
        return f"{uri}: expected SHA-256 {entry['sha256']}, found {digest}: its content was changed"
    return None


def _check_counts(dataset: str, content: Mapping[str, Any]) -> Iterator[str]:
    written = 0
    for name, split in content["splits"].items():
        for shard in split["shards"]:
            uri = files.join(dataset, shard["path"])
            try:
                found = sum(1 for _ in read_examples(uri))
            except FileNotFoundError:
                continue  # told before
            except (DatasetError, OSError, EOFError, gzip.BadGzipFile) as error:
                yield f"{uri}: its records cannot be read: {error}"
                continue
            if found != shard["examples"]:
                yield f"{uri}: expected {shard['examples']} examples, found {found}"
        in_shards = sum(shard["examples"] for shard in split["shards"])
        if in_shards != split["examples"]:
            yield f"split {name!r}: expected {split['examples']} examples, found {in_shards} in its shards"
        written += split["examples"]
    if written != content["written"]:
        yield f"expected {content['written']} written examples, found {written} in the splits"
    if content["read"] != content["written"] + content["quarantined"] + content["filtered"]:
        yield (
            f"expected read = written + quarantined + filtered, found {content['read']} = {content['written']} + "
            f"{content['quarantined']} + {content['filtered']}"
        )
    lines = sum(entry["lines"] for entry in content["quarantine"])
    if lines != content["quarantined"]:
        yield f"expected {content['quarantined']} quarantined examples, found {lines} in the quarantine files"


def _check_graph(dataset: str, content: Mapping[str, Any]) -> Iterator[str]:
    from ..formats.features import Feature
    from ..graph.savedmodel import SavedGraph, apply_to_examples
    from .commit import golden_value

    entry = content["transform_graph"]
    golden = json.loads(files.read_bytes(files.join(dataset, entry["golden"]["path"])))
    examples = list(islice(read_examples(files.join(dataset, golden["shard"])), golden["examples"]))
    uri = files.join(dataset, entry["path"])
    features = {name: Feature.from_json(feature) for name, feature in content["features"].items()}
    applied = apply_to_examples(SavedGraph(uri, features), examples)
    found = {name: golden_value(value) for name, value in applied.items()}
    for name in sorted(golden["outputs"].keys() | found.keys()):
        expected, actual = golden["outputs"].get(name), found.get(name)
        if expected is None or actual is None or not _agree(expected, actual):
            yield (
                f"{uri}: output {name!r} is not what it was when the dataset was written; made with "
                f"{content['versions']}: compare the versions installed here"
            )


def _agree(expected: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    if any(expected[name] != found[name] for name in ("dtype", "shape")):
        return False
    if expected["sha256"] == found["sha256"]:
        return True
    if not expected["dtype"].startswith("float"):
        return False
    pairs = zip(expected["start"], found["start"], strict=True)
    return all(abs(a - b) <= _ULPS * max(abs(a), abs(b), 1) for a, b in pairs)
