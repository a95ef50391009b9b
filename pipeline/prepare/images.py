"""Prepares one example: payload in, stored values out. Pure but for reading the payloads."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...transforms.histogram import count_pixels
from ...transforms.image_codec import Decode, Jpeg, Png, Raw
from ...transforms.outcome import Filtered, Rejected
from ..errors import in_words
from ..formats.features import IMAGE, KEY, LABEL, MASK, Feature, describe, is_pixels
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample
from ..storage import files
from .outcomes import FilteredExample, Outcome, Prepared


@dataclass(frozen=True)
class Preparer:
    """Turns a reference into what is stored for it, or into why it is not. Never raises for a bad example.

    Attributes:
      decode: How payloads become pixels.
      steps: The recipe's `prepare` functions.
      encode: Feature name to how its pixels are stored; the rest: JPEG for `image`, PNG for all else.
      joined: What the columns are that are joined to the examples; a value may be missing.
      features: What every example must hold; None while that is being found out.
    """

    decode: Decode
    steps: Sequence[Callable[[dict[str, Any]], dict[str, Any]]]
    encode: Mapping[str, Jpeg | Png | Raw]
    joined: Mapping[str, Feature] = field(default_factory=dict)
    features: Mapping[str, Feature] | None = None

    def encoding(self, name: str) -> Jpeg | Png | Raw:
        """How the pixels of a feature are stored."""
        return self.encode.get(name) or (Jpeg() if name == IMAGE else Png())

    def __call__(self, reference: Reference, histograms: bool = False) -> Outcome:
        """Reads, decodes, prepares and encodes one example; counts its stored pixels where asked to."""
        try:
            payload = files.read_bytes(reference.uri)
            mask = files.read_bytes(reference.mask) if reference.mask else None
        except OSError as error:
            return QuarantinedExample(
                reference.key, reference.uri, "read", "unreadable", f"{type(error).__name__}: {error}"
            )
        sha256 = hashlib.sha256(payload).hexdigest()
        stage = "decode"
        try:
            example = self._decode(reference, payload, mask)
            stage = "prepare"
            for step in self.steps:
                example = _apply(step, example)
            stage = "encode"
            described = self._describe(example)
            values, counts = self._encode(example, described, histograms)
        except Filtered as dropped:
            return FilteredExample(reference.key, dropped.reason)
        except Rejected as rejected:
            about_mask = reference.mask and rejected.code.startswith("mask_")
            uri = reference.mask if about_mask and reference.mask else reference.uri
            return QuarantinedExample(reference.key, uri, stage, rejected.code, rejected.message, sha256)
        label = example.get(LABEL)
        return Prepared(reference.key, None if label is None else str(label), values, described, sha256, counts)

    def _decode(self, reference: Reference, payload: bytes, mask: bytes | None) -> dict[str, Any]:
        example: dict[str, Any] = {KEY: reference.key}
        if mask is None:
            example[IMAGE] = self.decode(payload)
        else:
            example[IMAGE], example[MASK] = self.decode.decode_pair(payload, mask)
        if reference.label is not None:
            example[LABEL] = reference.label
        example.update(reference.columns or {})
        return example

    def _describe(self, example: dict[str, Any]) -> dict[str, Feature]:
        try:
            described = {
                name: self.joined[name]
                if name in self.joined and _fits(value, self.joined[name])
                else describe(name, value, self.encoding(name).codec_id)
                for name, value in example.items()
            }
        except ValueError as error:
            raise Rejected("unsupported_value", str(error)) from error
        if self.features is not None:
            _check(described, self.features)
        return described

    def _encode(
        self, example: dict[str, Any], described: dict[str, Feature], count: bool
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        values: dict[str, Any] = {}
        counts: dict[str, np.ndarray] = {}
        for name, value in example.items():
            if not is_pixels(value):
                values[name] = value
                continue
            encoding, feature = self.encoding(name), described[name]
            try:
                values[name] = encoding.encode(value)
            except ValueError as error:
                raise Rejected("cannot_encode", f"{name!r}: {error}") from error
            if count and feature.dtype == "uint8":
                # counted on what was stored, not on what was there before a lossy encoding
                counts[name] = count_pixels(encoding.decode(values[name], feature.pixel_shape, np.uint8))
        return values, counts


def _apply(step: Callable[[dict[str, Any]], dict[str, Any]], example: dict[str, Any]) -> dict[str, Any]:
    try:
        prepared = step(example)
    except (Rejected, Filtered):
        raise
    except (Exception, SystemExit) as error:  # a user's function may raise anything: one example fails, not the run
        raise Rejected("prepare_error", f"{_name(step)}: {in_words(error, step)}") from error
    if not isinstance(prepared, dict) or KEY not in prepared:
        raise Rejected(
            "prepare_result",
            f"{_name(step)}: expected it to return the example, a dict with 'key', found {type(prepared).__name__}; "
            "to leave an example out, use keep(predicate, reason)",
        )
    return prepared


def _fits(value: object, column: Feature) -> bool:
    """Whether a value is still of the kind that its joined column holds; a missing one is."""
    if value is None:
        return True
    if column.shape:
        return isinstance(value, list | tuple)
    kinds = {"int64": (bool, int), "float32": (int, float), "string": (str, bytes)}
    return isinstance(value, kinds[column.dtype])


def _name(step: object) -> str:
    return getattr(step, "__name__", None) or repr(step)


def _check(found: Mapping[str, Feature], expected: Mapping[str, Feature]) -> None:
    if found.keys() != expected.keys():
        raise Rejected(
            "wrong_features", f"expected the features {sorted(expected)}, found {sorted(found)}; see `prepare`"
        )
    for name, feature in expected.items():
        whole_for_real = found[name] == replace(feature, dtype="int64") and feature.dtype == "float32"
        if found[name] != feature and not whole_for_real:
            raise Rejected(
                "wrong_shape",
                f"{name!r}: expected {feature.dtype} {list(feature.shape)} like the first examples, "
                f"found {found[name].dtype} {list(found[name].shape)}",
            )
