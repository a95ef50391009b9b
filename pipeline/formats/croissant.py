"""What a generation holds, in Croissant 1.1: metadata for tools and catalogues that know nothing of Penstock.

`croissant.json` stays small however many shards there are: they are one file set, and their checksums a file of its
own, `SHA256SUMS`, as `sha256sum --check` reads it. Both follow from the shards and the recipe alone: no date is
in them, nor where the dataset lies.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from . import paths
from .features import KEY, Feature
from .manifest import SplitEntry, StoredFile, stored_file
from .paths import ShardName

# What a recipe may say of its dataset: properties of schema.org's and Croissant's own, by their names.
PROPERTIES = (
    "name",
    "description",
    "license",
    "url",
    "creator",
    "publisher",
    "datePublished",
    "citeAs",
    "keywords",
    "inLanguage",
    "sameAs",
)
_SPECIFICATION = "http://mlcommons.org/croissant/1.1"
_SHARDS, _EXAMPLES, _SPLITS = "shards", "examples", "splits"  # ids
_PARQUET = "application/x-parquet"
_TFRECORD = "https://www.tensorflow.org/tutorials/load_data/tfrecord"  # it has no media type
_TYPES = {"string": "sc:Text", "int64": "cr:Int64", "float32": "cr:Float32", "uint8": "cr:UInt8", "uint16": "cr:UInt16"}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "annotation": "cr:annotation",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "excludes": "cr:excludes",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "readLines": "cr:readLines",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sdVersion": "cr:sdVersion",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "unArchive": "cr:unArchive",
    "value": "cr:value",
}


def property_fault(name: str, value: object) -> str | None:
    """What is wrong with something that a recipe says of its dataset, in words; None: nothing.

    Args:
      name: A property's name.
      value: Its value: a string, an object as a dict with an "@type" and a "name", or a list of these.
    """
    if name not in PROPERTIES:
        return f"one of the properties {', '.join(PROPERTIES)}, found {name!r}"
    for each in value if isinstance(value, list) and value else [value]:
        is_object = isinstance(each, dict) and all(isinstance(each.get(key), str) for key in ("@type", "name"))
        if name in ("creator", "publisher") and not is_object:
            return f"for {name!r} a dict such as {{'@type': 'Person', 'name': 'A. B.'}}, or a list, found {each!r}"
        if not is_object and not (isinstance(each, str) and each):
            return f"for {name!r} a string, or a list of strings, found {each!r}"
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"for {name!r} what JSON can hold, found {value!r}: {error}"
    return None


def encode_files(
    metadata: Mapping[str, Any],
    generation: str,
    features: Mapping[str, Feature],
    splits: Mapping[str, SplitEntry],
) -> dict[str, bytes]:
    """Path in the generation to content of `croissant.json` and `SHA256SUMS`; see `encode`."""
    checksums = encode_checksums(splits)
    stored = stored_file(paths.CHECKSUMS, checksums)
    return {paths.CHECKSUMS: checksums, paths.CROISSANT: encode(metadata, generation, features, splits, stored)}


def encode_checksums(splits: Mapping[str, SplitEntry]) -> bytes:
    """The content of `SHA256SUMS`: a line a shard, `<sha256>  <path in the generation>`."""
    shards = (shard.file for split in splits.values() for shard in split.shards)
    return "".join(f"{file.sha256}  {file.path.partition('/')[2]}\n" for file in shards).encode()


def encode(
    metadata: Mapping[str, Any],
    generation: str,
    features: Mapping[str, Feature],
    splits: Mapping[str, SplitEntry],
    checksums: StoredFile,
) -> bytes:
    """The content of `croissant.json`.

    Args:
      metadata: What is said of the dataset: some of `PROPERTIES`, of which `name` and `description` are needed.
      generation: The generation's id.
      features: Feature name to what is stored of it.
      splits: Split name to its shards; each split has some, all of one format.
      checksums: `SHA256SUMS`, its path relative to the generation.
    """
    name = ShardName.parse(next(iter(splits.values())).shards[0].path)
    content = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _SPECIFICATION,
        **metadata,
        "version": f"0.0.0+{generation}",
        "distribution": [_checksums_entry(checksums), _shards_entry(name, splits)],
        "recordSet": [_splits_entry(splits), _examples_entry(name, features, splits)],
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _checksums_entry(file: StoredFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "description": "The SHA-256 of every shard, as `sha256sum --check` reads it.",
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": "text/plain",
        "sha256": file.sha256,
    }


def _shards_entry(name: ShardName, splits: Mapping[str, SplitEntry]) -> dict[str, Any]:
    """The file set of all shards, given the name of one: they are all of its format."""
    formats = [_PARQUET if name.format == "parquet" else _TFRECORD, *(["application/gzip"] if name.gzip else [])]
    records = "one row an example" if name.format == "parquet" else "TFRecord files of tf.train.Example"
    return {
        "@type": "cr:FileSet",
        "@id": _SHARDS,
        "name": _SHARDS,
        "description": f"The prepared examples: {records}{', gzip-compressed' if name.gzip else ''}.",
        "encodingFormat": formats if len(formats) > 1 else formats[0],
        "includes": [f"{paths.DATA}/{split}-*{_suffix(name)}" for split in splits],
    }


def _suffix(name: ShardName) -> str:
    return f".{name.format}{'.gz' if name.gzip else ''}"


def _splits_entry(splits: Mapping[str, SplitEntry]) -> dict[str, Any]:
    """The record set that lists the splits."""
    name, examples = f"{_SPLITS}/name", f"{_SPLITS}/examples"
    return {
        "@type": "cr:RecordSet",
        "@id": _SPLITS,
        "name": _SPLITS,
        "description": "The splits, and how many examples each has.",
        "dataType": "cr:Split",
        "key": {"@id": name},
        "field": [
            {"@type": "cr:Field", "@id": name, "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": examples, "name": "examples", "dataType": "sc:Integer"},
        ],
        "data": [{name: split, examples: entry.examples} for split, entry in splits.items()],
    }


def _examples_entry(
    name: ShardName, features: Mapping[str, Feature], splits: Mapping[str, SplitEntry]
) -> dict[str, Any]:
    """The record set of all examples: a field a feature, and one for the split, which a shard's name tells."""
    fields = [_feature_entry(each, feature) for each, feature in features.items()]
    split_id = f"{_EXAMPLES}/split"
    while any(field["@id"] == split_id for field in fields):
        split_id += "_"
    # what is optional lets a split's name match, too: mlcroissant applies the expression to what it extracted by it
    expression = f"(?:{paths.DATA}/)?({'|'.join(map(re.escape, splits))})(?:-.+{re.escape(_suffix(name))})?$"
    split = {
        "@type": "cr:Field",
        "@id": split_id,
        "name": split_id.partition("/")[2],
        "description": "The split that the example belongs to.",
        "dataType": "sc:Text",
        "references": {"field": {"@id": f"{_SPLITS}/name"}},
        "source": {
            "fileSet": {"@id": _SHARDS},
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": expression},
        },
    }
    return {
        "@type": "cr:RecordSet",
        "@id": _EXAMPLES,
        "name": _EXAMPLES,
        "description": "The prepared examples, as they are stored.",
        **({"key": {"@id": _field_id(KEY)}} if KEY in features else {}),
        "field": [split, *fields],
    }


def _feature_entry(name: str, feature: Feature) -> dict[str, Any]:
    """The field that a feature is."""
    is_encoded = feature.is_pixels and feature.encoding != "raw"
    is_array = bool(feature.shape) and not is_encoded
    shape = ",".join("-1" if size is None else str(size) for size in feature.shape)
    words = [feature.kind]
    if feature.is_pixels:
        sizes = " x ".join(map(str, feature.shape))
        words.append(f"{feature.dtype}, height x width x channels = {sizes}, stored as {feature.encoding}")
    if feature.optional:
        words.append("may be missing")
    return {
        "@type": "cr:Field",
        "@id": _field_id(name),
        "name": name,
        "description": "; ".join(words),
        "dataType": "sc:ImageObject" if is_encoded else _TYPES[feature.dtype],
        **({"isArray": True, "arrayShape": shape} if is_array else {}),
        "source": {"fileSet": {"@id": _SHARDS}, "extract": {"column": name}},
    }


def _field_id(feature: str) -> str:
    return f"{_EXAMPLES}/{quote(feature, safe='')}"
