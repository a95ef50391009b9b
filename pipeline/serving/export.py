"""A SavedModel for serving: its `serving_default` does to raw inputs what `prepare` and the graph did in training."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from .. import files
from ..errors import RequestError
from ..features import IMAGE, LABEL, MASK, Feature
from ..load.dataset import Dataset
from ..load.savedmodel import SavedGraph
from . import images, rows

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
    """

    path: str
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    left_out: Mapping[str, str]
    not_included: tuple[str, ...]


def export(dataset: Dataset, path: str, outputs: Sequence[str] | None = None) -> Export:
    """Writes the SavedModel.

    Args:
      dataset: The dataset.
      path: A new folder.
      outputs: Which of the graph's outputs it gives; None: all but those that need a label, a mask or a key.

    Raises:
      RequestError: the folder is there, or an output cannot be given.
    """
    if files.exists(path):
        raise RequestError(f"{path}: expected a new folder for the export, found something there; name another one")
    saved = SavedGraph(dataset.transform.path, dataset.features)
    chosen, left_out = _choose(dataset, saved, outputs)
    needed = {name for output in chosen for name in _sources(saved, output)}
    prepare = dataset.manifest["prepare"]
    raw = _raw_images(dataset, prepare, needed) if "decode" in prepare else _raw_rows(dataset, prepare, needed)
    apply = saved.on_decoded({name: dataset.transform.outputs[name] for name in chosen})
    arguments = _arguments(raw.specs)

    def serve(**given: tf.Tensor) -> dict[str, tf.Tensor]:
        return apply(raw.prepare({name: given[argument] for name, argument in arguments.items()}))

    def serve_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return apply(raw.prepare(tf.io.parse_example(examples, raw.examples)))

    module = tf.Module()
    module.graph = saved.loaded  # the vocabularies belong to it
    module.serve = tf.function(serve, autograph=False)
    specs = {arguments[name]: spec for name, spec in raw.specs.items()}
    signatures = {"serving_default": module.serve.get_concrete_function(**specs)}
    if raw.examples:
        module.serve_examples = tf.function(serve_examples, autograph=False)
        signatures["examples"] = module.serve_examples.get_concrete_function(tf.TensorSpec([None], tf.string))
    tf.saved_model.save(module, path, signatures=signatures)
    inputs = {arguments[name]: words for name, words in raw.words.items()}
    return Export(path, inputs, tuple(chosen), left_out, tuple(raw.not_included))


@dataclass(frozen=True)
class _Raw:
    """What a signature takes, and how it becomes the features that the graph takes."""

    specs: Mapping[str, tf.TensorSpec]
    words: Mapping[str, str]
    prepare: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]
    not_included: Sequence[str]
    examples: Mapping[str, Any]


def _choose(dataset: Dataset, saved: SavedGraph, outputs: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """The outputs that are given, and why the others are not."""
    for name in outputs or ():
        if name not in saved.outputs:
            raise RequestError(f"outputs: expected some of {list(saved.outputs)}, found {name!r}")
    left_out: dict[str, str] = {}
    for name in saved.outputs:
        unknown = [source for source in _sources(saved, name) if _is_unknown(dataset, source)]
        if outputs is not None and name not in outputs:
            left_out[name] = "is not asked for"
        elif unknown and (outputs is None or "decode" in dataset.manifest["prepare"]):
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
    return sorted({name.removesuffix(" (sparse)") for tensor in tensors for name in saved.dependencies(tensor.op)})


def _is_unknown(dataset: Dataset, name: str) -> bool:
    feature = dataset.features[name]
    is_key = name == "key" and "decode" in dataset.manifest["prepare"]
    return feature.kind in _UNKNOWN or is_key


def _raw_images(dataset: Dataset, prepare: Mapping[str, Any], needed: set[str]) -> _Raw:
    others = {name: feature for name, feature in dataset.features.items() if name in needed and name != IMAGE}
    specs = {name: _stored_spec(feature) for name, feature in others.items()}
    words = {name: _in_words(feature) for name, feature in others.items()}
    reading = {**prepare, "columns": prepare.get("columns", {}), "steps": []}  # no step of images changes a column
    joined = {
        name: rows.DTYPES[kind] for name, kind in reading["columns"].items() if name in others and kind in rows.DTYPES
    }
    not_included = [
        *images.obstacles(prepare),
        *(f"{name!r}, an image that `prepare` makes" for name, feature in others.items() if feature.is_pixels),
        *rows.obstacles(reading, joined),
    ]
    examples = {name: _parsed(feature) for name, feature in others.items()}
    image = dataset.features[IMAGE]
    if not_included:
        specs[IMAGE] = tf.TensorSpec([None, *image.shape], image.dtype)
        words[IMAGE] = f"{image.dtype} [batch, {', '.join(map(str, image.shape))}], prepared pixels"
        return _Raw(specs, words, dict, not_included, {})
    run, read = images.pipeline(prepare), rows.pipeline(reading)
    specs |= {name: tf.TensorSpec([None], dtype) for name, dtype in joined.items()}
    words |= {name: _raw_in_words(dtype) for name, dtype in joined.items()}
    examples |= {name: rows.parsing(dtype) for name, dtype in joined.items()}
    specs[IMAGE] = tf.TensorSpec([None], tf.string)
    words[IMAGE] = "string [batch], the content of a JPEG or PNG file"
    examples[IMAGE] = tf.io.FixedLenFeature([], tf.string)

    def prepared(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        pixels = tf.map_fn(run, inputs[IMAGE], fn_output_signature=tf.TensorSpec(image.shape, tf.uint8))
        return {**inputs, **read({name: inputs[name] for name in joined}), IMAGE: pixels}

    return _Raw(specs, words, prepared, [], examples)


def _raw_rows(dataset: Dataset, prepare: Mapping[str, Any], needed: set[str]) -> _Raw:
    names = _raw_names(prepare, needed)
    not_included = rows.obstacles(prepare, names)
    if not_included:
        features = {name: dataset.features[name] for name in dataset.features if name in needed}
        return _Raw(
            {name: _stored_spec(feature) for name, feature in features.items()},
            {name: _in_words(feature) for name, feature in features.items()},
            dict,
            not_included,
            {name: _parsed(feature) for name, feature in features.items() if None not in feature.shape},
        )
    run = rows.pipeline(prepare)
    dtypes = {name: rows.DTYPES[kind] for name, kind in prepare["columns"].items() if name in names}
    return _Raw(
        {name: tf.TensorSpec([None], dtype) for name, dtype in dtypes.items()},
        {name: _raw_in_words(dtype) for name, dtype in dtypes.items()},
        run,
        [],
        {name: rows.parsing(dtype) for name, dtype in dtypes.items()},
    )


def _raw_names(prepare: Mapping[str, Any], needed: set[str]) -> set[str]:
    """The raw columns that become those that are needed."""
    names = set(needed)
    for step in reversed(prepare["steps"]):
        if step.get("step") == "columns.Rename":
            old = {new: name for name, new in step["arguments"]["names"]}
            names = {old.get(name, name) for name in names}
    return names


def _arguments(names: Iterable[str]) -> dict[str, str]:
    """For each name one that an argument of a function may have, all of them distinct."""
    found: dict[str, str] = {}
    for name in names:
        argument = re.sub(r"\W", "_", name, flags=re.ASCII)
        argument = f"_{argument}" if argument[:1].isdigit() else argument
        while argument in found.values():
            argument += "_"
        found[name] = argument
    return found


def _stored_spec(feature: Feature) -> Any:
    if None in feature.shape:
        return tf.RaggedTensorSpec([None, None], feature.dtype)
    return tf.TensorSpec([None, *feature.shape], feature.dtype)


def _parsed(feature: Feature) -> Any:
    dtype = tf.as_dtype("string" if feature.is_pixels else feature.dtype)
    default = rows.missing_value(dtype) if feature.optional and not feature.shape else None
    return tf.io.FixedLenFeature(() if feature.is_pixels else feature.shape, dtype, default)


def _raw_in_words(dtype: tf.DType) -> str:
    return f"{dtype.name} [batch]; missing is {rows.missing_value(dtype)!r}"


def _in_words(feature: Feature) -> str:
    shape = ", ".join("?" if size is None else str(size) for size in feature.shape)
    return f"{feature.dtype} [batch{', ' if shape else ''}{shape}], as `prepare` makes it"
