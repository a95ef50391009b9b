"""How one image is prepared, and a unit of images: references in, examples as they are stored out, in their order."""

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from ...transforms.histogram import count_pixels
from ...transforms.image import Resize, steps_of_scaled
from ...transforms.image_codec import Decode, Jpeg, Png, Raw
from ...transforms.observations import Observation
from ...transforms.outcome import Filtered, Rejected
from ...transforms.scaling import Scaled
from ..errors import in_words
from ..formats.column_notes import ColumnNote, merge_all
from ..formats.example_writer import serialize
from ..formats.features import (
    IMAGE,
    KEY,
    LABEL,
    MASK,
    Feature,
    describe,
    describe_columns,
    is_pixels,
    overflow_to_infinity,
)
from ..sources.archive_members import name_of
from ..sources.listing import Reference
from ..sources.quarantine import FilteredExample, QuarantinedExample
from ..sources.table_schema import NO_COLUMNS, TableSchema
from .chunk import DOUBLES, SEEN, Chunk, SplitExamples, content_hashes
from .fetch import FetchingMap, FetchLimits, Stages
from .isolate import IsolatedPreparer
from .outcomes import Outcome, Prepared
from .payloads import PayloadReader, Payloads, is_remote, read_payloads, unreadable
from .preparer import StatisticsSpec
from .rounding import rounding_notes
from .summaries import of_histograms, summarize
from .threads import ordered_map

R = TypeVar("R")

_GROUP = 16  # images that a thread prepares before it hands them over
_GROUP_BYTES = 4 << 20  # of their files, and of their pixels


@dataclass(frozen=True)
class ImageSteps:
    """Turns a reference into what is stored for it, or into why it is not. Never raises for a bad example.

    Attributes:
      decode: How payloads become pixels.
      functions: The recipe's `prepare`.
      encode: Feature name to how its pixels are stored; the rest: JPEG for `image` of 8 bit, PNG for all else.
      joined: The columns that are joined to the examples; a value may be missing.
      max_bytes: Larger payloads are not read.
    """

    decode: Decode
    functions: Sequence[Callable[[dict[str, Any]], dict[str, Any]]] = ()
    encode: Mapping[str, Jpeg | Png | Raw] = field(default_factory=dict)
    joined: TableSchema = NO_COLUMNS
    max_bytes: int = 256 << 20

    @cached_property
    def joined_features(self) -> Mapping[str, Feature]:
        """What the joined columns are."""
        return describe_columns(self.joined.columns)

    def encoding(self, name: str) -> Jpeg | Png | Raw:
        """How the pixels of a feature are stored."""
        keeps_16_bit = name != IMAGE or self.decode.mode == "I;16"
        return self.encode.get(name) or (Png() if keeps_16_bit else Jpeg())

    def __call__(
        self,
        reference: Reference,
        count: bool = False,
        expected: Mapping[str, Feature] | None = None,
        payloads: Payloads | None = None,
    ) -> Outcome:
        """Decodes, prepares and encodes one example.

        Args:
          reference: The example.
          count: Whether to count the pixels that it stores without loss.
          expected: What it must hold; None: whatever `prepare` makes.
          payloads: Its payloads; None, and they are read.
        """
        try:
            payloads = payloads or read_payloads(reference, self.max_bytes)
        except (Rejected, OSError) as error:
            return unreadable(reference, error)
        sha256 = hashlib.sha256(payloads.image).hexdigest()
        stage = "decode"
        observations: list[Observation] = []
        try:
            example, scaled = self._decode(reference, payloads, observations)
            stage = "prepare"
            for number, function in enumerate(self.functions):
                example = _apply(function, example, **({"scaled": scaled} if number < self._steps_of_scaled else {}))
            _check_mask_size(example)
            stage = "encode"
            features = self._describe(example)
            if expected is not None:
                _check(features, expected)
            values, counts = self._encode(example, features, count)
        except Filtered as filtered:
            return FilteredExample(reference.key, filtered.reason)
        except Rejected as rejected:
            about_mask = reference.mask and rejected.code.startswith("mask_")
            uri = reference.mask if about_mask and reference.mask else reference.uri
            return QuarantinedExample(reference.key, name_of(uri), stage, rejected.code, rejected.message, sha256)
        label = example.get(LABEL)
        text = None if label is None else str(label)
        return Prepared(reference.key, text, values, features, sha256, counts, tuple(observations))

    @cached_property
    def _steps_of_scaled(self) -> int:
        """How many of the first functions take an image that was decoded at a fraction of its size."""
        return steps_of_scaled(self.functions) if self.decode.scale else 0

    def _decode(
        self, reference: Reference, payloads: Payloads, observations: list[Observation]
    ) -> tuple[dict[str, Any], Scaled]:
        """The example as `prepare` gets it, and how its image was decoded."""
        example: dict[str, Any] = {KEY: reference.key}
        resize = self.functions[self._steps_of_scaled - 1] if self._steps_of_scaled else None
        shrinks_by = resize.shrinks_by if isinstance(resize, Resize) else None
        if payloads.mask is None:
            scaled = self.decode.scaled(payloads.image, observations, shrinks_by)
        else:
            scaled, example[MASK] = self.decode.scaled_pair(payloads.image, payloads.mask, observations, shrinks_by)
        example[IMAGE] = scaled.image
        if reference.label is not None:
            example[LABEL] = reference.label
        example.update(reference.columns or {})
        return example, scaled

    def _describe(self, example: dict[str, Any]) -> dict[str, Feature]:
        joined = self.joined_features
        try:
            return {
                name: joined[name]
                if name in joined and _fits(value, joined[name])
                else describe(name, value, self.encoding(name).codec_id)
                for name, value in example.items()
            }
        except ValueError as error:
            raise Rejected("unsupported_value", str(error)) from error

    def _encode(
        self, example: dict[str, Any], features: Mapping[str, Feature], count: bool
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The stored values, and of images that are stored without loss the counts of their pixels, where asked for."""
        values: dict[str, Any] = {}
        counts: dict[str, np.ndarray] = {}
        for name, value in example.items():
            if not is_pixels(value):
                values[name] = value
                continue
            encoding, feature = self.encoding(name), features[name]
            try:
                values[name] = encoding.encode(value)
            except ValueError as error:
                raise Rejected("cannot_encode", f"{name!r}: {error}") from error
            if count and feature.dtype == "uint8" and encoding.is_lossless:
                counts[name] = count_pixels(value)
        return values, counts


@dataclass(frozen=True)
class ImagePreparer:
    """How the images of a unit are prepared: a `Preparer`.

    Attributes:
      steps: How one image is prepared.
      features: What every image must become.
      statistics: What statistics and analyzers need of the examples.
      timeout: Seconds that an image may take in a process of its own; None prepares in threads.
    """

    steps: ImageSteps
    features: Mapping[str, Feature]
    statistics: StatisticsSpec
    timeout: float | None = None

    @property
    def stored_schema(self) -> None:
        """None: images are stored one by one."""
        return

    @property
    def raw_schema(self) -> TableSchema:
        """The columns that are joined to the images."""
        return self.steps.joined

    @property
    def functions(self) -> Sequence[Callable[[dict[str, Any]], dict[str, Any]]]:
        """The recipe's `prepare`."""
        return self.steps.functions

    @property
    def decode(self) -> Decode:
        """How payloads become pixels."""
        return self.steps.decode

    @property
    def encodings(self) -> dict[str, Jpeg | Png | Raw]:
        """How each feature that is an image is stored."""
        return {name: self.steps.encoding(name) for name, feature in self.features.items() if feature.is_pixels}

    def __call__(self, reference: Reference, count: bool = False, payloads: Payloads | None = None) -> Outcome:
        """What becomes of one example; for the arguments see `ImageSteps`."""
        return self.steps(reference, count, self.features, payloads)

    def summarized_columns(self, split: str) -> pa.Schema:
        """The columns of a split's examples that are summarized; images are counted beside them."""
        specs = self.statistics.summaries if split == self.statistics.split else ()
        names = dict.fromkeys(name for spec in specs for name in (spec.column, spec.key) if name)
        return pa.schema([_column(name, self.features[name]) for name in names])

    def summarize_rows(self, split: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Chunk]:
        """A chunk of what is known of the columns that are summarized, of all stored examples of a unit; or none.

        Args:
          split: The examples' split.
          rows: Column to value of each, in their order.
        """
        if rows:
            stored = _as_stored(rows, self.summarized_columns(split))
            yield Chunk(summaries=summarize(stored, self.statistics.summaries), notes=rounding_notes(stored))

    def start(self, threads: int, root: str | None = None, isolated: bool = False) -> "ImageWorker":
        """A worker that prepares so many images at a time; see `Preparer`."""
        return ImageWorker(self, threads, isolated)


class ImageWorker:
    """Prepares images in a thread pool; where they are isolated, each thread has a process of its own for it.

    Payloads on a local disk are read by the thread that decodes them, those in stores ahead by many others.
    """

    def __init__(self, preparer: ImagePreparer, threads: int, isolated: bool) -> None:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with a file, the quarantine tells
        self._preparer = preparer
        self._threads, self._limits = threads, FetchLimits.for_threads(threads)
        self._pool = ThreadPoolExecutor(threads, "prepare")
        self._fetchers = ThreadPoolExecutor(self._limits.requests, "fetch")
        self._reader = PayloadReader(preparer.steps.max_bytes)
        self._fetching: FetchingMap[Reference, Any, Any] | None = None
        is_isolated = isolated or preparer.timeout is not None
        self._isolated = IsolatedPreparer(preparer, threads, preparer.timeout) if is_isolated else None

    def close(self) -> None:
        """Ends the threads and processes."""
        self._stop_fetching()
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        self._pool.shutdown()
        if self._isolated:
            self._isolated.close()

    def _stop_fetching(self) -> None:
        """Ends what a unit that failed has begun."""
        if self._fetching:
            self._fetching.close()

    def chunks(self, splits: Collection[str], pieces: Sequence[Reference]) -> Iterator[Chunk]:
        """A chunk for every few references; and one more, of the summaries of what is joined to them."""
        (split,) = splits
        rows: list[dict[str, Any]] = []
        for chunk, summarized in self.parts(split, pieces):
            rows += summarized
            yield chunk
        yield from self._preparer.summarize_rows(split, rows)

    def parts(
        self, split: str, pieces: Sequence[Reference], ends: Collection[int] = ()
    ) -> Iterator[tuple[Chunk, list[dict[str, Any]]]]:
        """A chunk for every few references of a split, and what is summarized of those that are stored.

        Args:
          split: The split.
          pieces: The references.
          ends: Numbers of references before which a chunk ends.
        """
        features, statistics = self._preparer.features, self._preparer.statistics
        counts = split == statistics.split
        prepare = self._isolated or self._preparer
        analyzed = {name: features[name] for name in statistics.columns} if counts else {}
        lossy = {name: each for name, each in self._preparer.encodings.items() if counts and not each.is_lossless}
        names = self._preparer.summarized_columns(split).names

        def prepare_all(
            references: Sequence[Reference], fetched: Payloads | QuarantinedExample | None = None
        ) -> tuple[Chunk, list[dict[str, Any]]]:
            # Reading, serializing and counting have loops of their own: decoding an image leaves nothing else in the
            # processor's cache, and what comes next takes twice as long.
            if fetched is not None or self._isolated:  # whose process reads them
                payloads = [fetched] * len(references)
            else:
                payloads = [self._reader(reference) for reference in references]
            outcomes = [
                read if isinstance(read, QuarantinedExample) else prepare(reference, counts, read)
                for reference, read in zip(references, payloads, strict=True)
            ]
            examples = [
                _serialized(outcome, reference, features, analyzed)
                for outcome, reference in zip(outcomes, references, strict=True)
            ]
            prepared = [outcome for outcome, _, _ in examples if isinstance(outcome, Prepared)] if names else ()
            rows = [{name: _flat(outcome.values[name]) for name in names} for outcome in prepared]
            return _chunk(examples, split, features, lossy), rows

        return self._map(prepare_all, pieces, ends)

    def _map(
        self, prepare: Callable[..., tuple[Chunk, R]], references: Sequence[Reference], ends: Collection[int]
    ) -> Iterator[tuple[Chunk, R]]:
        """What becomes of the references, in order; `prepare` takes some, or one with its payloads, if fetched."""
        self._stop_fetching()
        if not any(map(is_remote, references)):
            groups = _groups(references, self._threads, self._preparer.features, ends)
            return ordered_map(self._pool, prepare, groups, 4 * self._threads)
        stages = Stages(
            self._reader,
            lambda reference, payloads: prepare([reference], payloads),
            expected_size=_expected_size,
            fetched_size=lambda payloads: payloads.size if isinstance(payloads, Payloads) else 0,
            result_size=lambda result: _stored_size(result[0]),
        )
        pools = self._fetchers, self._pool
        self._fetching = FetchingMap(pools, stages, references, self._threads, self._limits)
        return iter(self._fetching)


def _groups(
    references: Sequence[Reference], threads: int, features: Mapping[str, Feature], ends: Collection[int]
) -> Iterator[list[Reference]]:
    """References that a thread prepares before it hands over what it has: fewer towards the end, for all threads.

    What they become waits to be written, so large images come alone.
    """
    stored = sum(
        math.prod(each.pixel_shape) * np.dtype(each.dtype).itemsize for each in features.values() if each.is_pixels
    )
    largest = min(_GROUP, _GROUP_BYTES // max(1, stored))
    group: list[Reference] = []
    size = 0
    for position, reference in enumerate(references):
        most = max(1, min(largest, (len(references) - position) // (2 * threads)))
        if len(group) >= most or (group and (position in ends or size + reference.size > _GROUP_BYTES)):
            yield group
            group, size = [], 0
        group.append(reference)
        size += reference.size
    if group:
        yield group


def _expected_size(reference: Reference) -> int:
    """About the bytes of an example's payloads: a mask takes no more than its image."""
    return reference.size if reference.mask is None else 2 * reference.size


def _stored_size(chunk: Chunk) -> int:
    """The bytes of a chunk's examples, which wait encoded and serialized."""
    return 2 * sum(len(example) for split in chunk.splits.values() for example in split.examples)


class _Serialized(NamedTuple):
    """An example's outcome, and the example with its features, and with those that the analyzers read, as stored."""

    outcome: Outcome
    example: bytes = b""
    analyzed: bytes | None = None


def _serialized(
    outcome: Outcome, reference: Reference, features: Mapping[str, Feature], analyzed: Mapping[str, Feature]
) -> _Serialized:
    if not isinstance(outcome, Prepared):
        return _Serialized(outcome)
    try:
        example = serialize(outcome.values, features)
        return _Serialized(outcome, example, serialize(outcome.values, analyzed) if analyzed else None)
    except (ValueError, TypeError, OverflowError) as error:  # one example fails, not the run
        message = f"expected values that can be stored, found {error}; see `prepare`"
        name = name_of(reference.uri)
        return _Serialized(QuarantinedExample(reference.key, name, "encode", "unsupported_value", message))


def _chunk(
    examples: Sequence[_Serialized],
    split: str,
    features: Mapping[str, Feature],
    lossy: Mapping[str, Jpeg | Png | Raw],
) -> Chunk:
    """What some images give their unit; those that are stored as `lossy` says are decoded again and counted."""
    chunk = Chunk()
    stored = []
    for each in examples:
        outcome = each.outcome
        if isinstance(outcome, QuarantinedExample):
            chunk.quarantined.append(outcome)
        elif isinstance(outcome, FilteredExample):
            chunk.filtered[outcome.reason] += 1
            chunk.filtered_examples.append(outcome)
        else:
            stored.append((each, outcome))
    if not stored:
        return chunk
    prepared = [outcome for _, outcome in stored]
    labels = [outcome.label for outcome in prepared]
    counted = Counter(label for label in labels if label is not None)
    chunk.splits[split] = SplitExamples(
        [each.example for each, _ in stored],
        labels=counted or None,
        hashes=content_hashes(
            bytes.fromhex("".join(outcome.sha256 for outcome in prepared)),
            [outcome.key for outcome in prepared],
            labels,
            _further(prepared, features),
        ),
    )
    counts = {
        name: encoding.count([outcome.values[name] for outcome in prepared], features[name].pixel_shape)
        for name, encoding in lossy.items()
    }
    chunk.summaries = of_histograms([outcome.histograms for outcome in prepared]) | of_histograms([counts])
    chunk.analyzed = [each.analyzed for each, _ in stored if each.analyzed is not None]
    chunk.notes = merge_all(
        {observation: ColumnNote(1, 0, outcome.key)} for outcome in prepared for observation in outcome.observations
    )
    return chunk


def _further(prepared: Sequence[Prepared], features: Mapping[str, Feature]) -> dict[str, Sequence[object]]:
    """What the shards do not tell of examples: what was seen in each, and the floats that are stored as others."""
    seen = [json.dumps(outcome.observations) if outcome.observations else None for outcome in prepared]
    doubles = [_doubles(outcome.values, features) for outcome in prepared]
    columns: dict[str, Sequence[object]] = {
        SEEN: seen,
        DOUBLES: [[*each.items()] if each else None for each in doubles],
    }
    return {name: values for name, values in columns.items() if any(values)}


def _doubles(values: Mapping[str, Any], features: Mapping[str, Feature]) -> dict[str, list[float]]:
    """The values of those features of which float32 cannot hold all."""
    doubles = {}
    for name, feature in features.items():
        if feature.dtype != "float32" or values[name] is None:
            continue
        items = np.asarray(_flat(values[name]), np.float64).ravel()
        with np.errstate(over="ignore"):
            stored = items.astype(np.float32)
        known = np.where(np.isinf(stored), stored, items)  # what is beyond float32 is infinite to statistics, too
        if not np.array_equal(known, stored, equal_nan=True):
            doubles[name] = items.tolist()
    return doubles


def _column(name: str, feature: Feature) -> tuple[str, pa.DataType]:
    """The column that a feature's values are summarized in: arrays as the lists of their items."""
    kind = feature.arrow_type
    return name, pa.large_list(kind) if feature.shape and None not in feature.shape else kind


def _flat(value: Any) -> Any:
    """A value, or an array's items as they are stored: those beyond float32 are infinite."""
    if not isinstance(value, np.ndarray) or not value.ndim:
        return value
    items = value.ravel()
    if items.dtype.kind == "f":
        with np.errstate(all="ignore"):
            items = np.where(np.isinf(items.astype(np.float32)), np.sign(items) * np.inf, items)
    return items.tolist()


def _as_stored(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for column in columns:
        values = [row[column.name] for row in rows]
        if column.type == pa.float64():  # Arrow refuses whole numbers that are no doubles
            values = [None if value is None else float(value) for value in values]
        arrays.append(pa.array(values, column.type))
    return pa.RecordBatch.from_arrays([overflow_to_infinity(array) for array in arrays], columns.names)


def _apply(step: Callable[..., dict[str, Any]], example: dict[str, Any], **options: Any) -> dict[str, Any]:
    try:
        prepared = step(example, **options)
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
        return isinstance(value, list | tuple) and all(_fits(item, replace(column, shape=())) for item in value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bytes):
        return column.dtype == "string" and _is_utf8(value)
    if column.dtype == "int64":
        return isinstance(value, int) and -(1 << 63) <= value < 1 << 63
    return column.dtype == "float32" and (
        isinstance(value, float) or (isinstance(value, int) and abs(value) <= 1 << 53)
    )


def _is_utf8(value: str | bytes) -> bool:
    try:
        value.encode() if isinstance(value, str) else value.decode()
    except UnicodeError:
        return False
    return True


def _check_mask_size(example: Mapping[str, Any]) -> None:
    """Raises Rejected where the image and its mask are no longer on one grid."""
    image, mask = example.get(IMAGE), example.get(MASK)
    if not (is_pixels(image) and is_pixels(mask)):
        return
    (height, width), (mask_height, mask_width) = (_size(pixels) for pixels in (image, mask))
    if (height, width) != (mask_height, mask_width):
        raise Rejected(
            "mask_size_mismatch",
            f"expected `prepare` to leave a mask of the image's size, {width}x{height}, found "
            f"{mask_width}x{mask_height}; change both in one function, or give a mask of another size another name",
        )


def _size(pixels: Any) -> tuple[int, int]:
    """(height, width) of a Pillow image or an array."""
    return pixels.shape[:2] if isinstance(pixels, np.ndarray) else (pixels.height, pixels.width)


def _name(step: object) -> str:
    return getattr(step, "__name__", None) or repr(step)


def _check(features: Mapping[str, Feature], expected: Mapping[str, Feature]) -> None:
    """Raises Rejected where an example is not like the first ones; integers may stand for floats."""
    if features.keys() != expected.keys():
        raise Rejected(
            "wrong_features", f"expected the features {sorted(expected)}, found {sorted(features)}; see `prepare`"
        )
    for name, feature in expected.items():
        if features[name] == feature:
            continue
        if feature.dtype != "float32" or features[name] != replace(feature, dtype="int64"):
            raise Rejected(
                "wrong_shape",
                f"{name!r}: expected {feature.dtype} {list(feature.shape)} like the first examples, "
                f"found {features[name].dtype} {list(features[name].shape)}",
            )
