"""A SavedModel for serving: its `serving_default` does to raw inputs what `prepare` and the graph did in training."""

import keyword
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ..errors import RequestError
from ..formats.features import IMAGE, LABEL, MASK, Feature
from ..graph.graph_copy import MODEL
from ..graph.savedmodel import SavedGraph
from ..graph.transform import Transform
from ..storage import files
from . import images, isolated, rows

_READ_ONLY = ("http://", "https://")
_TOGETHER = 16  # photos of a batch that are prepared at a time, where there are cores for it
_UNKNOWN = (LABEL, MASK)  # what nobody knows of what a model is asked about


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
      path: The SavedModel's folder.
      inputs: What `serving_default` takes: name to what it is, in words.
      outputs: What it gives.
      left_out: Outputs of the graph that it does not give, and why.
      not_included: What of `prepare` could not be included, by name; where there is any, `serving_default` takes
        examples that are prepared already.
      valid: The name of one more output, bool [batch]: false for an input that a run would quarantine, whose other
        outputs are zeros, empty strings or empty lists.
    """

    path: str
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    left_out: Mapping[str, str]
    not_included: tuple[str, ...]
    valid: str


def export(
    transform: Transform,
    features: Mapping[str, Feature],
    prepare: Mapping[str, Any],
    path: str,
    outputs: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> Export:
    """Writes the SavedModel.

    Args:
      transform: The transform graph.
      features: The stored features, by name.
      prepare: How they were prepared: the manifest's entry `prepare`.
      path: A new folder, or an empty one; what is above it is made.
      outputs: Which of the graph's outputs it gives; None: all but those that need a label, a mask or a key.
      without: Outputs that it does not give.

    Raises:
      RequestError: something is in the folder, it cannot be written to, or an output cannot be given.
    """
    _check_place(path)
    saved = SavedGraph(transform.path, features, transform.trust)
    chosen, left_out = _choose(saved, features, prepare, outputs, without)
    needed = {name for output in chosen for name in _sources(saved, output)}
    taken = {name: feature for name, feature in features.items() if name in needed}
    raw = _raw_images(taken, prepare) if _is_of_images(prepare) else _raw_rows(taken, prepare)
    apply = saved.on_decoded({name: transform.outputs[name] for name in chosen})
    arguments = _arguments(raw.inputs)

    valid = _free("valid", chosen)

    def run(inputs: Mapping[str, Any], parsed: Any = True) -> dict[str, tf.Tensor]:
        prepared, is_valid = raw.prepare(inputs)
        given = apply(prepared)
        is_valid = tf.broadcast_to(is_valid & parsed, [_rows_of(next(iter(prepared.values())))])
        return {name: isolated.only_valid(value, is_valid) for name, value in given.items()} | {valid: is_valid}

    def serve(**values: tf.Tensor) -> dict[str, tf.Tensor]:
        return run({name: values[argument] for name, argument in arguments.items()})

    def serve_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return run(*isolated.parse(examples, raw.parsing))

    module = tf.Module()
    module.graph = saved.loaded  # the vocabularies belong to it
    module.serve = tf.function(serve, autograph=False)
    specs = {arguments[name]: taken.spec for name, taken in raw.inputs.items()}
    signatures = {"serving_default": module.serve.get_concrete_function(**specs)}
    if raw.parsing:
        module.serve_examples = tf.function(serve_examples, autograph=False)
        signatures["examples"] = module.serve_examples.get_concrete_function(tf.TensorSpec([None], tf.string))
    _write(path, lambda folder: tf.saved_model.save(module, folder, signatures=signatures))
    inputs = {arguments[name]: taken.words for name, taken in raw.inputs.items()}
    return Export(path, inputs, tuple(chosen), left_out, tuple(raw.not_included), valid)


def _rows_of(values: Any) -> Any:
    return values.nrows(tf.int32) if isinstance(values, tf.RaggedTensor) else tf.shape(values)[0]


def _check_place(path: str) -> None:
    """Finds out before any work whether something is there already, as far as that can be told."""
    if not path:
        raise RequestError("expected a new folder for the export, found no name; name one")
    if path.startswith(_READ_ONLY):
        raise RequestError(f"{path}: expected a place that can be written to, found a web server; name another one")
    try:
        taken = files.exists(path) and not (files.is_local(path) and os.path.isdir(path) and not os.listdir(path))
    except OSError as error:
        raise RequestError(f"{path}: expected a place that can be written to, found: {error}") from error
    if taken:
        raise RequestError(f"{path}: expected a new folder for the export, found something there; name another one")


def _write(path: str, save: Callable[[str], Any]) -> None:
    """Writes a folder: on a local disk whole or not at all, in a store the model's own file last."""
    if not files.is_local(path):
        with tempfile.TemporaryDirectory(prefix="penstock-") as local:
            save(local)
            _upload(local, path)
        return
    path = os.path.abspath(path)
    folder, name = os.path.dirname(path), f"{uuid.uuid4().hex}.tmp"
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, name)
    try:
        with files.literal_path(folder) as literal:
            save(os.path.join(literal, name))
        os.replace(temporary, path)
    except BaseException:
        files.remove(temporary)
        raise


def _upload(folder: str, uri: str) -> None:
    """Writes a SavedModel's files to a store; without its last one, it is none."""
    names = [os.path.relpath(info.uri, folder) for info in files.list_folder(folder)]
    for name in sorted(names, key=lambda name: name == MODEL):
        try:
            with open(os.path.join(folder, name), "rb") as source, files.create(files.join(uri, name)) as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise RequestError(f"{uri}: expected a place that can be written to, found: {error}") from error


@dataclass(frozen=True)
class _Input:
    """What one input of a signature is, for TensorFlow and in words."""

    spec: tf.TensorSpec
    words: str


@dataclass(frozen=True)
class _Raw:
    """What a signature takes, and how it becomes the features that the graph takes.

    Attributes:
      inputs: What `serving_default` takes, by name.
      parsing: How tf.io.parse_example reads the same for `examples`; empty where it cannot.
      prepare: From either to features, and whether each row is one that a run would take: bool [batch], or [] for all.
      not_included: What of `prepare` it leaves to the client, by name.
    """

    inputs: Mapping[str, _Input]
    parsing: Mapping[str, Any]
    prepare: Callable[[Mapping[str, Any]], tuple[dict[str, Any], Any]]
    not_included: Sequence[str] = ()


def _choose(
    saved: SavedGraph,
    features: Mapping[str, Feature],
    prepare: Mapping[str, Any],
    outputs: Sequence[str] | None,
    without: Sequence[str],
) -> tuple[list[str], dict[str, str]]:
    """The outputs that are given, and why the others are not."""
    if isinstance(outputs, str) or (outputs is not None and not outputs):
        raise RequestError(
            f"outputs: expected a list of some of {list(saved.outputs)}, found {outputs!r}; name one, or leave it out"
        )
    for option, names in (("outputs", outputs or ()), ("without", [without] if isinstance(without, str) else without)):
        for name in names:
            if name not in saved.outputs:
                raise RequestError(f"{option}: expected some of {list(saved.outputs)}, found {name!r}")
    left_out: dict[str, str] = {}
    for name in saved.outputs:
        unknown = [source for source in _sources(saved, name) if _is_unknown(features[source], source, prepare)]
        if name in without or (outputs is not None and name not in outputs):
            left_out[name] = "is not asked for"
        elif unknown and (outputs is None or _is_of_images(prepare)):
            left_out[name] = f"needs {', '.join(unknown)}"
            if outputs is not None:
                raise RequestError(f"outputs: {name!r} {left_out[name]}, which serving does not have; leave it out")
        elif name == LABEL and outputs is None:
            left_out[name] = "is the label; name it in outputs to have it"
    chosen = [name for name in saved.outputs if name not in left_out]
    if not chosen:
        raise RequestError(f"expected an output that can be served, found none: {left_out}")
    return chosen, left_out


def _sources(saved: SavedGraph, output: str) -> list[str]:
    """The stored features that an output depends on."""
    tensors = tf.nest.flatten(saved.outputs[output], expand_composites=True)
    return sorted({name for tensor in tensors for name in saved.operations.dependencies(tensor.op)})


def _is_of_images(prepare: Mapping[str, Any]) -> bool:
    """Whether the dataset is of images, which are decoded; rows of a table are not."""
    return "decode" in prepare


def _is_unknown(feature: Feature, name: str, prepare: Mapping[str, Any]) -> bool:
    is_key = name == "key" and _is_of_images(prepare)
    return feature.kind in _UNKNOWN or is_key


def _raw_images(features: Mapping[str, Feature], prepare: Mapping[str, Any]) -> _Raw:
    """Takes image files and the columns joined to them; features as `prepare` makes them where it cannot do more."""
    reading = {**prepare, "columns": prepare.get("columns", {}), "steps": []}  # no step of images changes a column
    joined = {
        name: rows.DTYPES[kind] for name, kind in reading["columns"].items() if name in features and kind in rows.DTYPES
    }
    others = {name: feature for name, feature in features.items() if name != IMAGE and name not in joined}
    not_included = [
        *images.obstacles(prepare, IMAGE in features, joined),
        *(f"{name!r}, an image that `prepare` makes" for name, feature in others.items() if feature.is_pixels),
        *rows.obstacles(reading, joined),
    ]
    if not_included:
        return _prepared(features, not_included)
    beside, columns = _prepared(others, ()), _columns(joined, rows.pipeline(reading))
    inputs, parsing = {**beside.inputs, **columns.inputs}, {**beside.parsing, **columns.parsing}

    def with_columns(values: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        prepared, valid = columns.prepare({name: values[name] for name in joined})
        return beside.prepare(values)[0] | prepared, valid

    if IMAGE not in features:
        return _Raw(inputs, parsing, with_columns)
    run = images.pipeline(prepare)
    spec = tf.TensorSpec(features[IMAGE].shape, tf.uint8)
    words = f"string [batch], the content of a {' or '.join(images.accepted(prepare['decode']['arguments']))} file"
    inputs[IMAGE] = _Input(tf.TensorSpec([None], tf.string), words)
    parsing[IMAGE] = tf.io.FixedLenFeature([], tf.string)

    def photo(payload: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, is_valid = run(payload)
        is_valid &= tf.reduce_all(tf.shape(pixels) == spec.shape)
        pixels = tf.cond(is_valid, lambda: pixels, lambda: tf.zeros(spec.shape, spec.dtype))
        return tf.ensure_shape(pixels, spec.shape), is_valid

    def with_pixels(values: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        prepared, valid = with_columns(values)
        results = spec, tf.TensorSpec([], tf.bool)
        pixels, is_photo = tf.map_fn(photo, values[IMAGE], parallel_iterations=_TOGETHER, fn_output_signature=results)
        return prepared | {IMAGE: pixels}, valid & is_photo

    return _Raw(inputs, parsing, with_pixels)


def _raw_rows(features: Mapping[str, Feature], prepare: Mapping[str, Any]) -> _Raw:
    names = _raw_names(prepare, features)
    not_included = rows.obstacles(prepare, names)
    if not_included:
        return _prepared(features, not_included)
    dtypes = {name: rows.DTYPES[kind] for name, kind in prepare["columns"].items() if name in names}
    return _columns(dtypes, rows.pipeline(prepare))


def _columns(dtypes: Mapping[str, tf.DType], run: Callable[[Mapping[str, Any]], tuple[dict[str, Any], Any]]) -> _Raw:
    """Takes raw columns, and runs something on them."""
    inputs = {
        name: _Input(tf.TensorSpec([None], dtype), f"{dtype.name} [batch]; missing is {rows.missing_value(dtype)!r}")
        for name, dtype in dtypes.items()
    }
    return _Raw(inputs, {name: rows.parsing(dtype) for name, dtype in dtypes.items()}, run)


def _prepared(features: Mapping[str, Feature], not_included: Sequence[str]) -> _Raw:
    """Takes features as `prepare` makes them: a list of any length as the values of all lists, and their lengths."""
    lengths = {name: _lengths(name, features) for name, feature in features.items() if None in feature.shape}
    inputs: dict[str, _Input] = {}
    for name, feature in features.items():
        if name in lengths:
            words = f"{feature.dtype} [values], as `prepare` makes it: those of all lists, one list after the other"
            inputs[name] = _Input(tf.TensorSpec([None], feature.dtype), words)
            inputs[lengths[name]] = _Input(
                tf.TensorSpec([None], tf.int64), f"int64 [batch], how many each {name!r} has"
            )
        else:
            inputs[name] = _Input(tf.TensorSpec([None, *feature.shape], feature.dtype), _in_words(feature))

    def prepare(values: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        prepared = {
            name: tf.RaggedTensor.from_row_lengths(values[name], values[lengths[name]])
            if name in lengths and isinstance(values[name], tf.Tensor)  # parsed examples have a RaggedTensor
            else values[name]
            for name in features
        }
        return prepared, tf.constant(True)

    has_pixels = any(feature.is_pixels for feature in features.values())
    parsing = {} if has_pixels else {name: _parsed(feature) for name, feature in features.items()}
    return _Raw(inputs, parsing, prepare, not_included)


def _lengths(name: str, features: Mapping[str, Feature]) -> str:
    """A name for the lengths of lists that no feature has."""
    return _free(f"{name}_lengths", features)


def _free(name: str, taken: Container[str]) -> str:
    """A name that is not taken, with `_` behind it where it is."""
    while name in taken:
        name += "_"
    return name


def _raw_names(prepare: Mapping[str, Any], needed: Iterable[str]) -> set[str]:
    """The raw columns that become those that are needed."""
    names = set(needed)
    for step in reversed(prepare["steps"]):
        if step.get("step") == "columns.rename":
            old = {new: name for name, new in step["arguments"]["names"].items()}
            names = {old.get(name, name) for name in names}
    return names


def _arguments(names: Iterable[str]) -> dict[str, str]:
    """For each name one that a signature keeps as it is: a Python name in ASCII, distinct from others in any case."""
    arguments: dict[str, str] = {}
    for name in names:
        argument = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not argument[:1].isalpha():
            argument = f"x{argument}"
        taken = {other.lower() for other in arguments.values()} | {"self"}
        while argument.lower() in taken or keyword.iskeyword(argument):
            argument += "_"
        arguments[name] = argument
    return arguments


def _parsed(feature: Feature) -> Any:
    if None in feature.shape:
        return tf.io.RaggedFeature(feature.dtype, row_splits_dtype=tf.int64)
    default = _missing(feature) if feature.optional else None
    return tf.io.FixedLenFeature(feature.shape, feature.dtype, default)


def _missing(feature: Feature) -> Any:
    return rows.missing_value(tf.as_dtype(feature.dtype))


def _in_words(feature: Feature) -> str:
    shape = ", ".join(["batch", *map(str, feature.shape)])
    missing = f"; missing is {_missing(feature)!r}" if feature.optional else ""
    return f"{feature.dtype} [{shape}], as `prepare` makes it{missing}"
