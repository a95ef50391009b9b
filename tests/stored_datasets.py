"""Small committed datasets, written by hand: what loading reads, without what writes it."""

import base64
import gzip
import hashlib
import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import simplejpeg
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

from penstock.pipeline.load.shard_files import ShardFile

GENERATION = "0123456789abcdef"
SHAPE = (16, 24, 3)
MEAN, STD = np.array([120, 110, 100], np.float32), np.array([60, 61, 62], np.float32)
LABELS = [b"cat", b"dog"]


def _example_class() -> Any:
    """tf.train.Example, from a description of it: importing TensorFlow's takes seconds."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = (("BytesList", field.TYPE_BYTES), ("FloatList", field.TYPE_FLOAT), ("Int64List", field.TYPE_INT64))
    for name, kind in kinds:
        file.message_type.add(name=name).field.add(name="value", number=1, label=3, type=kind)
    feature = file.message_type.add(name="Feature")
    for number, (name, _) in enumerate(kinds, 1):
        lower = name.replace("List", "_list").lower()
        feature.field.add(name=lower, number=number, label=1, type=11, type_name=f".t.{name}")
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".t.Feature")
    features.field.add(name="feature", number=1, label=3, type=11, type_name=".t.Features.FeatureEntry")
    file.message_type.add(name="Example").field.add(
        name="features", number=1, label=1, type=11, type_name=".t.Features"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = _example_class()


def serialize(values: Mapping[str, Any]) -> bytes:
    """A tf.train.Example of bytes, lists of ints and lists of floats."""
    example = EXAMPLE()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif all(isinstance(item, int) for item in value):
            feature.int64_list.value.extend(value)
        else:
            feature.float_list.value.extend(value)
    return bytes(example.SerializeToString(deterministic=True))


def _crc(content: bytes) -> bytes:
    value = google_crc32c.value(content)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(records: list[bytes]) -> tuple[bytes, bytes]:
    """A TFRecord file, and its index."""
    content, offsets = b"", [0]
    for record in records:
        length = struct.pack("<Q", len(record))
        content += length + _crc(length) + record + _crc(record)
        offsets.append(len(content))
    return content, np.array(offsets, "<u8").tobytes()


def pixels(number: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The pixels that example `number` is made of: smooth, as JPEG likes them."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.stack([(rows * 5 + columns * 3 + number * 7 + c * 40) % 256 for c in range(shape[2])], -1).astype("uint8")


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def example(number: int) -> bytes:
    """A prepared example: key, JPEG image, PNG mask of value number % 3 + 1, label, and two numbers."""
    image = simplejpeg.encode_jpeg(pixels(number), 95)
    mask = png(np.full(SHAPE[:2], number % 3 + 1, np.uint8))
    values = {"key": b"k%03d" % number, "image": image, "mask": mask, "label": LABELS[number % 2], "row": [number]}
    return serialize(values)


def constant(array: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def operation(kind: str, inputs: list[str], output: str, dtype: str, **attributes: Any) -> dict[str, Any]:
    return {"op": kind, "inputs": inputs, "output": output, "dtype": dtype, "attributes": attributes}


def portable() -> dict[str, Any]:
    """(image - MEAN) / STD, mask - 1, the label's number; row goes through."""
    return {
        "format": 1,
        "inputs": {name: {"dtype": entry["dtype"], "shape": entry["shape"]} for name, entry in FEATURES.items()},
        "outputs": {
            "image": {"value": "t2", "dtype": "float32"},
            "label": {"value": "t3", "dtype": "int64"},
            "mask": {"value": "t4", "dtype": "uint8"},
            "row": {"value": "input:row", "dtype": "int64"},
        },
        "constants": {
            "c0": constant(MEAN),
            "c1": constant(STD),
            "c2": constant(np.array(-1)),
            "c3": constant(np.array(1, np.uint8)),
        },
        "tables": {"v0": {"asset": "transform_fn/assets/labels", "size": len(LABELS)}},
        "operations": [
            operation("Cast", ["input:image"], "t0", "float32", DstT="float32"),
            operation("Sub", ["t0", "c0"], "t1", "float32"),
            operation("RealDiv", ["t1", "c1"], "t2", "float32"),
            operation("LookupTableFindV2", ["input:label", "c2"], "t3", "int64", table="v0"),
            operation("Sub", ["input:mask", "c3"], "t4", "uint8"),
        ],
        "unsupported": [],
    }


FEATURES: dict[str, dict[str, Any]] = {
    "key": {"kind": "key", "dtype": "string", "shape": [], "encoding": None, "optional": False},
    "image": {"kind": "image", "dtype": "uint8", "shape": list(SHAPE), "encoding": "jpeg", "optional": False},
    "mask": {"kind": "mask", "dtype": "uint8", "shape": [*SHAPE[:2], 1], "encoding": "png", "optional": False},
    "label": {"kind": "label", "dtype": "string", "shape": [], "encoding": None, "optional": False},
    "row": {"kind": "number", "dtype": "int64", "shape": [], "encoding": None, "optional": False},
}


def manifest_content(generation: str, **fields: Any) -> dict[str, Any]:
    """A whole manifest as a JSON object, of a dataset without shards unless `fields` say otherwise."""
    file = {"path": f"{generation}/file", "bytes": 0, "sha256": "0" * 64}
    content = {
        "recipe": {"name": "by hand", "hash": "0" * 64},
        "versions": {"python": "3.11"},
        "options": {"input": "raw"},
        "prepare": {"steps": []},
        "schema": None,
        "warnings": [],
        "format": 1,
        "generation": generation,
        "created": "2024-01-01T00:00:00+00:00",
        "written": 0,
        "filtered": 0,
        "quarantined": 0,
        "reasons": {"filtered": {}, "quarantined": {}, "examples": {"filtered": {}, "quarantined": {}}},
        "quarantine": [],
        "filtered_lists": [],
        "features": FEATURES,
        "splits": {},
        "transform_graph": {
            "path": f"{generation}/transform_graph",
            "sha256": "0" * 64,
            "files": [],
            "outputs": {},
            "golden": file,
        },
        "statistics": {**file, "split": "train", "values": file},
        "duplicates": {"groups": 0, "across_splits": 0, "shared": {}, "contradicting": 0, "examples": [], "file": None},
    }
    content |= fields
    return {**content, "read": fields.get("read", content["written"])}


def write(
    root: Path,
    sizes: tuple[int, ...] = (7, 5, 9),
    compressed: bool = False,
    graph: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a committed dataset with one split, "train"; returns its folder."""

    def store(path: str, content: bytes) -> dict[str, Any]:
        file = root / GENERATION / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return {"path": f"{GENERATION}/{path}", "bytes": len(content), "sha256": sha256}

    shards, number = [], 0
    for index, size in enumerate(sizes):
        content, offsets = frame([example(number + i) for i in range(size)])
        number += size
        name = f"train-{index:05d}-of-{len(sizes):05d}"
        data = gzip.compress(content, mtime=0) if compressed else content
        shard = store(f"data/{name}.tfrecord{'.gz' if compressed else ''}", data) | {"examples": size}
        shards.append(shard | {"index": store(f"index/{name}.u64", offsets) | {"examples": size}})
    graph_files = [
        store("transform_graph/portable.json", json.dumps(graph or portable()).encode()),
        store("transform_graph/transform_fn/assets/labels", b"cat\ndog\n"),
    ]
    statistics = {
        "split": "train",
        "features": {"image": {"kind": "image", "mean": MEAN.tolist(), "std": STD.tolist()}},
        "labels": {"train": {"cat": 11, "dog": 10}},
    }
    golden = {"shard": shards[0]["path"], "examples": 0, "outputs": {}}
    manifest = manifest_content(
        GENERATION,
        written=number,
        splits={"train": {"examples": number, "shards": shards}},
        transform_graph={
            "path": f"{GENERATION}/transform_graph",
            "sha256": "0" * 64,
            "files": graph_files,
            "outputs": {name: {"dtype": entry["dtype"]} for name, entry in portable()["outputs"].items()},
            "golden": store("statistics/golden.json", json.dumps(golden).encode()),
        },
        statistics={
            **store("statistics/statistics.json", json.dumps(statistics).encode()),
            "split": "train",
            "values": store("statistics/values.arrow", b""),
        },
    )
    entry = store("manifest.json", json.dumps(manifest).encode())
    pointer = {"format": 1, "generation": GENERATION, "manifest": entry["path"], "sha256": entry["sha256"]}
    (root / "_DATASET.json").write_text(json.dumps(pointer))
    return root


def write_shard(folder: Path, name: str, records: Sequence[bytes], prefix: str = "") -> ShardFile:
    """Writes a shard and its index.

    Args:
      folder: Where.
      name: The shard's file name; with .gz, it is compressed.
      records: Its records.
      prefix: Stands before the path in its URI.
    """
    content, offsets = frame(list(records))
    content = gzip.compress(content) if name.endswith(".gz") else content
    (folder / name).write_bytes(content)
    (folder / f"{name}.u64").write_bytes(offsets)
    sums = [hashlib.sha256(part).hexdigest() for part in (content, offsets)]
    return ShardFile(f"{prefix}{folder / name}", f"{prefix}{folder / name}.u64", len(records), len(content), *sums)
