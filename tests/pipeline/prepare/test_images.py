"""One example at a time: what comes out, and that a bad one never raises."""

import hashlib
import io
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import pixels, save
from PIL import Image

from penstock.pipeline.errors import PenstockError
from penstock.pipeline.formats import example_reader
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.prepare.chunk import Chunk
from penstock.pipeline.prepare.images import ImagePreparer, ImageSteps
from penstock.pipeline.prepare.outcomes import FilteredExample, Prepared
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.pipeline.prepare.summaries import Summaries, SummarySpec, encode, merge
from penstock.pipeline.sources.listed_payload import UNKNOWN
from penstock.pipeline.sources.listing import Reference
from penstock.pipeline.sources.quarantine import QuarantinedExample
from penstock.pipeline.sources.table_schema import TableSchema
from penstock.pipeline.storage import files
from penstock.transforms import image
from penstock.transforms.outcome import Filtered, Rejected, keep

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    path = save(tmp_path / "cat_1.png", PIXELS)
    return Reference("images/cat_1.png", str(path), path.stat().st_size, "cat")


def prepare(reference: Reference, *functions: Any, encode: Any = None, features: Any = None) -> Any:
    steps = ImageSteps(image.decode(), functions, {"image": image.png(), **(encode or {})})
    return steps(reference, count=True, expected=features)


def test_what_a_good_example_becomes(reference: Reference):
    outcome = prepare(reference)
    assert isinstance(outcome, Prepared)
    assert (outcome.key, outcome.label) == ("images/cat_1.png", "cat")
    assert outcome.sha256 == hashlib.sha256(Path(reference.uri).read_bytes()).hexdigest()
    assert set(outcome.values) == {"key", "label", "image"}
    assert np.array_equal(pixels(outcome.values["image"]), PIXELS)
    assert outcome.features["image"] == Feature("image", "uint8", (6, 5, 3), "png")
    for channel in range(3):
        counts = np.bincount(PIXELS[:, :, channel].ravel(), minlength=256)
        assert np.array_equal(outcome.histograms["image"][channel], counts)


@pytest.mark.parametrize("timeout", [None, 60.0], ids=["threads", "processes"])
@pytest.mark.parametrize("encoding", [image.jpeg(30), image.jpeg(95), image.png(), image.raw()], ids=repr)
def test_histograms_are_of_what_is_stored(tmp_path: Path, encoding: Any, timeout: float | None):
    def add_crop(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "crop": np.asarray(example["image"])[:2]}

    references = []
    for number in range(40):
        path = save(tmp_path / f"{number}.png", PIXELS + np.uint8(5 * number))
        references.append(Reference(path.name, str(path), path.stat().st_size))
    (tmp_path / "7.png").write_text("<html>")
    references[7] = references[7]._replace(size=6)
    steps = ImageSteps(image.decode(), [add_crop], {"image": encoding, "crop": image.png()})
    features = steps(references[0]).features  # type: ignore[union-attr]
    worker = ImagePreparer(steps, features, StatisticsSpec("train"), timeout).start(threads=2)
    try:
        chunks = list(worker.chunks(["train"], references))
    finally:
        worker.close()
    merged: Summaries = {}
    for chunk in chunks:
        merged = merge(merged, chunk.summaries)
    examples = [example_reader.parse(each) for chunk in chunks for each in chunk.splits["train"].examples]
    assert len(examples) == 39
    for name in ("image", "crop"):
        shape, codec = features[name].pixel_shape, steps.encoding(name)
        contents = [bytes(example[name][1]) for example in examples]
        stored = np.stack([codec.decode(content, shape, np.uint8) for content in contents])
        counts = [np.bincount(stored[..., channel].ravel(), minlength=256) for channel in range(3)]
        assert np.array_equal(merged[SummarySpec("histogram", name)].counts, counts)  # type: ignore[union-attr]


def test_histograms_are_made_where_they_are_asked_for(reference: Reference):
    assert ImageSteps(image.decode(), encode={"image": image.png()})(reference).histograms == {}


@pytest.mark.parametrize(
    "value",
    [
        PIXELS,
        Image.fromarray(PIXELS),
        PIXELS[:, :, 0],
        PIXELS[:, :, :1],
        PIXELS[:, :, 0].astype(np.uint16) * 257,
        np.asfortranarray(PIXELS),
        PIXELS[::-1, ::2],
    ],
)
@pytest.mark.parametrize("encode", [image.png(), image.raw()])
def test_a_function_may_return_pixels_of_any_kind(reference: Reference, value: Any, encode: Any):
    outcome = prepare(reference, lambda example: {**example, "image": value}, encode={"image": encode})
    array = np.asarray(value)
    array = array if array.ndim == 3 else array[:, :, np.newaxis]
    feature = outcome.features["image"]
    assert feature == Feature("image", str(array.dtype), array.shape, encode.codec_id)
    stored = outcome.values["image"]
    found = np.frombuffer(stored, feature.dtype).reshape(feature.shape) if encode.codec_id == "raw" else pixels(stored)
    assert np.array_equal(found, array)


def test_a_function_may_add_features(reference: Reference):
    extra = {"width": 5, "ratio": np.float64(1.2), "note": "x", "box": np.arange(4), "seen": True, "crop": PIXELS[:2]}
    outcome = prepare(reference, lambda example: {**example, **extra})
    kinds = {name: (feature.kind, feature.dtype, feature.shape) for name, feature in outcome.features.items()}
    assert kinds["width"] == ("number", "int64", ())
    assert kinds["ratio"] == ("number", "float32", ())
    assert kinds["note"] == ("text", "string", ())
    assert kinds["box"] == ("number", "int64", (4,))
    assert kinds["seen"] == ("number", "int64", ())
    assert kinds["crop"] == ("image", "uint8", (2, 5, 3))
    assert set(outcome.histograms) == {"image", "crop"}


def test_a_function_may_change_the_label(reference: Reference):
    assert prepare(reference, lambda example: {**example, "label": 7}).label == "7"
    without = prepare(reference, lambda example: {name: example[name] for name in ("key", "image")})
    assert without.label is None
    assert "label" not in without.features


def raiser(error: BaseException) -> Any:
    def step(example: dict[str, Any]) -> dict[str, Any]:
        raise error

    return step


@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        (raiser(KeyError("boxes")), "prepare_error", "step: KeyError: 'boxes'"),
        (raiser(SystemExit(0)), "prepare_error", "SystemExit"),
        (raiser(MemoryError()), "prepare_error", "MemoryError"),
        (raiser(RecursionError("deep")), "prepare_error", "RecursionError"),
        (raiser(Rejected("no_face", "expected a face")), "no_face", "expected a face"),
        (lambda example: None, "prepare_result", "found NoneType"),
        (lambda example: [example], "prepare_result", "found list"),
        (lambda example: {"image": example["image"]}, "prepare_result", "a dict with 'key'"),
        (lambda example: {**example, "x": None}, "unsupported_value", "'x'"),
        (lambda example: {**example, "x": 2**63}, "unsupported_value", "'x'"),
        (lambda example: {**example, "x": "\ud800"}, "unsupported_value", "'x'"),
        (lambda example: {**example, 3: 1}, "unsupported_value", "name"),
        (lambda example: {**example, "x": np.array(["a", "b"])}, "unsupported_value", "'x'"),
        (lambda example: {**example, "image": example["image"].convert("RGBA")}, "cannot_encode", "RGBA"),
        (lambda example: {**example, "image": example["image"].convert("F")}, "cannot_encode", "F"),
        (lambda example: {**example, "image": PIXELS[:0]}, "cannot_encode", "image"),
        (lambda example: {**example, "image": np.zeros((2, 2, 5), np.uint8)}, "cannot_encode", "image"),
    ],
)
def test_a_bad_function_costs_one_example(reference: Reference, step: Any, code: str, words: str):
    outcome = prepare(reference, step)
    assert isinstance(outcome, QuarantinedExample)
    assert (outcome.key, outcome.uri, outcome.code) == (reference.key, reference.uri, code)
    assert words in outcome.message
    assert outcome.sha256 == hashlib.sha256(Path(reference.uri).read_bytes()).hexdigest()


def test_an_interrupt_is_no_bad_example(reference: Reference):
    with pytest.raises(KeyboardInterrupt):
        prepare(reference, raiser(KeyboardInterrupt()))


def test_a_filter_names_its_reason(reference: Reference):
    dropped = FilteredExample(reference.key, "dark")
    assert prepare(reference, keep(lambda example: False, "dark")) == dropped
    assert isinstance(prepare(reference, keep(lambda example: True, "dark")), Prepared)


def test_a_payload_that_is_gone_or_no_image(reference: Reference, tmp_path: Path):
    gone = prepare(reference._replace(uri=str(tmp_path / "none.png")))
    assert (gone.stage, gone.code, gone.sha256) == ("read", "missing", None)
    changed = prepare(reference._replace(size=reference.size + 1))
    assert (changed.stage, changed.code) == ("read", "changed")
    (tmp_path / "text.png").write_text("<html>")
    text = prepare(reference._replace(uri=str(tmp_path / "text.png"), size=6))
    assert (text.stage, text.code) == ("decode", "not_an_image")
    assert text.sha256 == hashlib.sha256(b"<html>").hexdigest()


def test_a_bad_mask_is_named_instead_of_its_image(reference: Reference, tmp_path: Path):
    small = save(tmp_path / "small.png", np.zeros((3, 3)))
    (tmp_path / "cut.png").write_bytes(small.read_bytes()[:-20])
    for name, code in (("small.png", "mask_size_mismatch"), ("cut.png", "mask_truncated")):
        outcome = prepare(reference._replace(mask=str(tmp_path / name)))
        assert (outcome.uri, outcome.key) == (str(tmp_path / name), reference.key)
        assert outcome.code.startswith("mask_")
        assert outcome.code in (code, "mask_corrupt")


def test_every_example_must_be_like_the_first(reference: Reference):
    expected = prepare(reference, lambda example: {**example, "x": 1.5}).features

    def with_x(value: Any) -> Any:
        return prepare(reference, lambda example: {**example, "x": value}, features=expected)

    assert isinstance(with_x(2.5), Prepared)
    assert isinstance(with_x(2), Prepared)  # a whole number is a real
    assert with_x("2").code == "wrong_shape"
    assert with_x([1.0, 2.0]).code == "wrong_shape"
    assert prepare(reference, features=expected).code == "wrong_features"
    turned = prepare(reference, lambda e: {**e, "x": 1.0, "image": e["image"].transpose(2)}, features=expected)
    assert turned.code == "wrong_shape"
    assert "[6, 5, 3]" in turned.message
    assert "[5, 6, 3]" in turned.message


def test_what_a_function_prints_goes_nowhere_special(reference: Reference, capsys: pytest.CaptureFixture[str]):
    prepare(reference, lambda example: print("hello") or example)
    assert capsys.readouterr().out == "hello\n"


def test_pixels_are_stored_without_the_files_words(tmp_path: Path):
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    Image.fromarray(PIXELS).save(path, exif=exif, comment=b"a secret")
    outcome = prepare(Reference("x", str(path), UNKNOWN), encode={"image": image.jpeg()})
    assert b"secret" in path.read_bytes()
    assert b"secret" not in outcome.values["image"]
    assert Image.open(io.BytesIO(outcome.values["image"])).size == (5, 6)


@pytest.fixture
def unit(tmp_path: Path) -> list[Reference]:
    """Two images and a file that is none, with a number joined to each."""
    paths = [save(tmp_path / f"{number}.png", PIXELS + np.uint8(number)) for number in range(3)]
    (tmp_path / "3.png").write_text("<html>")
    numbers = (1.0, 1e300, -1e39, 7.0)
    return [
        Reference(path.name, str(path), path.stat().st_size, "cat", columns={"x": number})
        for path, number in zip([*paths, tmp_path / "3.png"], numbers, strict=True)
    ]


def chunks(unit: list[Reference], split: str, columns: tuple[str, ...] = ()) -> Any:
    steps = ImageSteps(image.decode(), joined=TableSchema(pa.schema([("x", pa.float64())]), {}))
    features = steps(unit[0]).features  # type: ignore[union-attr]
    statistics = StatisticsSpec("train", (SummarySpec("moments", "x"),), columns)
    worker = ImagePreparer(steps, features, statistics).start(threads=2)
    try:
        return list(worker.chunks([split], unit))
    finally:
        worker.close()


def test_a_units_chunks_are_in_the_order_of_its_references(unit: list[Reference]):
    *images, bad, _ = chunks(unit, "train")
    assert [chunk.splits["train"].hashes.to_pylist() for chunk in images] == [
        [
            {
                "content_hash": hashlib.sha256(Path(reference.uri).read_bytes()).digest(),
                "key": reference.key,
                "label": "cat",
            }
        ]
        for reference in unit[:3]
    ]
    assert [chunk.splits["train"].labels for chunk in images] == [{"cat": 1}] * 3
    assert [example.code for example in bad.quarantined] == ["not_an_image"]
    assert [chunk.read for chunk in (*images, bad)] == [1] * 4


def test_joined_numbers_beyond_float32_are_infinite_in_statistics_too(unit: list[Reference]):
    """As they are in the shards: a tf.train.Example holds float32."""
    *_, last = chunks(unit, "train")
    moments = last.summaries[SummarySpec("moments", "x")]
    assert (moments.count, moments.max, moments.positive_inf, moments.negative_inf) == (1, 1.0, 1, 1)
    assert last.read == 0


def test_analyzers_read_the_columns_that_they_asked_for(unit: list[Reference]):
    from tensorflow.core.example.example_pb2 import Example

    first, *_ = chunks(unit, "train", ("x",))
    (analyzed,) = first.analyzed
    assert Example.FromString(analyzed).features.feature.keys() == {"x"}


def test_nothing_is_counted_in_other_splits_than_that_of_the_statistics(unit: list[Reference]):
    found = chunks(unit, "test", ("x",))
    assert len(found) == len(unit)
    assert not any(chunk.summaries or chunk.analyzed for chunk in found)


def test_images_that_a_thread_hands_over_together_become_what_each_becomes_alone(tmp_path: Path):
    """Good ones, one that is no image, ones that are left out or cannot be stored, ones without a label."""
    references = []
    for number in range(70):
        path = save(tmp_path / f"{number}.png", PIXELS + np.uint8(number))
        label = None if number == 9 else f"class{number % 3}"
        references.append(Reference(path.name, str(path), path.stat().st_size, label, columns={"x": float(number)}))
    (tmp_path / "5.png").write_text("<html>")
    references[5] = references[5]._replace(size=6)

    def step(example: dict[str, Any]) -> dict[str, Any]:
        if example["x"] == 7:
            raise Filtered("seven")
        if example["x"] == 8:
            example = {**example, "label": Unstorable()}
        return {"label": "none", **example}

    steps = ImageSteps(image.decode(), (step,), joined=TableSchema(pa.schema([("x", pa.float64())]), {}))
    features = steps(references[0]).features  # type: ignore[union-attr]
    statistics = StatisticsSpec("train", (SummarySpec("moments", "x"),), ("x",))
    worker = ImagePreparer(steps, features, statistics).start(threads=1)
    try:
        together = list(worker.chunks(["train"], references))
        alone = [chunk for reference in references for chunk in worker.chunks(["train"], [reference])]
    finally:
        worker.close()
    assert max(chunk.read for chunk in together) == 16
    assert together[-2].read == 1  # before the summaries: no thread is left with much when the others have nothing
    assert seen_in(together) == seen_in(alone)
    assert [example.code for chunk in together for example in chunk.quarantined] == [
        "not_an_image",
        "unsupported_value",
    ]
    assert seen_in(together)["filtered"] == {"seven": 1}


class Unstorable(str):
    """A string by its type, which cannot be encoded."""

    def encode(self, *_: Any) -> bytes:
        raise ValueError("no bytes")


def seen_in(chunks: list[Chunk]) -> dict[str, Any]:
    """All that a unit takes of chunks."""
    splits = [chunk.splits["train"] for chunk in chunks if chunk.splits]
    merged: Summaries = {}
    for chunk in chunks:
        merged = merge(merged, chunk.summaries)
    return {
        "examples": [example for split in splits for example in split.examples],
        "labels": sum((split.labels or Counter() for split in splits), Counter()),
        "hashes": [row for split in splits for row in split.hashes.to_pylist()],  # type: ignore[union-attr]
        "quarantined": [example for chunk in chunks for example in chunk.quarantined],
        "filtered": sum((chunk.filtered for chunk in chunks), Counter()),
        "filtered_examples": [example for chunk in chunks for example in chunk.filtered_examples],
        "analyzed": [example for chunk in chunks for example in chunk.analyzed],
        "summaries": encode(merged),
    }


def test_large_images_are_handed_over_one_by_one(tmp_path: Path):
    path = save(tmp_path / "1.png", np.zeros((1200, 1200, 3), np.uint8))
    references = [Reference(str(number), str(path), path.stat().st_size) for number in range(16)]
    steps = ImageSteps(image.decode(), encode={"image": image.raw()})
    features = steps(references[0]).features  # type: ignore[union-attr]
    worker = ImagePreparer(steps, features, StatisticsSpec("train")).start(threads=1)
    try:
        assert [chunk.read for chunk in worker.chunks(["train"], references)] == [1] * 16
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.int64(), 2**70),
        (pa.int64(), 2**63),
        (pa.int64(), 1.5),
        (pa.float64(), 2**70),
        (pa.float64(), 2**60 + 1),
        (pa.float64(), "x"),
        (pa.string(), "\udcff"),
        (pa.string(), b"\xff"),
        (pa.list_(pa.int64()), [1, 2**70]),
        (pa.list_(pa.string()), ["\udcff"]),
    ],
)
def test_a_joined_column_is_overwritten_with_what_does_not_fit(unit: list[Reference], kind: pa.DataType, value: Any):
    """It costs that example, not the run."""
    good = {pa.int64(): 1, pa.float64(): 1.5, pa.string(): "a", pa.list_(pa.int64()): [1]}.get(kind, ["a"])
    references = [reference._replace(columns={"x": good}) for reference in unit[:3]]

    def overwrite(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "x": value} if example["key"] == "1.png" else example

    steps = ImageSteps(image.decode(), [overwrite], joined=TableSchema(pa.schema([("x", kind)]), {}))
    features = steps(references[0]).features  # type: ignore[union-attr]
    summaries = (SummarySpec("counts" if kind == pa.string() else "moments", "x"),)
    statistics = StatisticsSpec("train", () if pa.types.is_list(kind) else summaries)
    worker = ImagePreparer(steps, features, statistics).start(threads=1)
    try:
        chunks = list(worker.chunks(["train"], references))
    finally:
        worker.close()
    assert [len(chunk.quarantined) for chunk in chunks[:3]] == [0, 1, 0]


@pytest.mark.parametrize("kind", [Image.fromarray, np.asarray])
def test_a_mask_that_prepare_leaves_at_another_size_is_quarantined(tmp_path: Path, kind: Any):
    path, mask = save(tmp_path / "1.png", PIXELS), save(tmp_path / "m.png", PIXELS[:, :, 0])
    reference = Reference("1.png", str(path), path.stat().st_size, None, str(mask))

    def crop(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "image": kind(np.asarray(example["image"])[:4])}

    outcome = prepare(reference, crop)
    assert isinstance(outcome, QuarantinedExample)
    assert outcome.code == "mask_size_mismatch"
    assert "a mask of the image's size, 5x4, found 5x6" in outcome.message
    assert isinstance(prepare(reference), Prepared)


def test_images_of_16_bit_are_stored_as_png(tmp_path: Path):
    deep = np.arange(30, dtype=np.uint16).reshape(5, 6) * 100
    Image.fromarray(deep).save(tmp_path / "1.png")
    outcome = ImageSteps(image.decode(mode="I;16"))(Reference("1.png", str(tmp_path / "1.png"), UNKNOWN))
    assert isinstance(outcome, Prepared)
    assert outcome.features["image"] == Feature("image", "uint16", (5, 6, 1), "png")
    assert np.array_equal(pixels(outcome.values["image"])[:, :, 0], deep)


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_images_of_a_store_become_what_those_of_a_disk_do(
    tmp_path: Path, timeout: float | None, monkeypatch: pytest.MonkeyPatch
):
    """A process of its own is given their payloads: it has no access to the store."""
    local, remote = [], []
    for number in range(12):
        path = save(tmp_path / f"{number}.png", PIXELS + number)
        mask = save(tmp_path / f"m{number}.png", PIXELS[:, :, 0]) if number % 2 else None
        reference = Reference(f"{number}.png", str(path), path.stat().st_size, "cat", str(mask) if mask else None)
        local.append(reference)
        uris = []
        for each in filter(None, (path, mask)):
            uris.append(f"memory://images-{timeout}/{each.name}")
            files.write_bytes(uris[-1], each.read_bytes())
        remote.append(reference._replace(uri=uris[0], mask=uris[1] if mask else None))
    (tmp_path / "3.png").unlink()
    files.remove(remote[3].uri)
    steps = ImageSteps(image.decode())
    features = {**steps(local[1]).features}  # type: ignore[union-attr]
    preparer = ImagePreparer(steps, features, StatisticsSpec("train"), timeout)
    outcomes = []
    for references in (local, remote):
        worker = preparer.start(threads=2)
        try:
            chunks = [*worker.chunks(["train"], references), *worker.chunks(["train"], references[::-1])]
        finally:
            worker.close()
        written = [example for chunk in chunks for split in chunk.splits.values() for example in split.examples]
        quarantined = [(each.key, each.stage, each.code) for chunk in chunks for each in chunk.quarantined]
        assert [key for key, stage, _ in quarantined if stage == "read"] == ["3.png", "3.png"]
        outcomes.append((written, quarantined))
    assert outcomes[0] == outcomes[1]


def test_a_unit_that_fails_stops_its_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = save(tmp_path / "1.png", PIXELS).read_bytes()
    asked = []

    def read(uri: str, limit: int | None = None) -> bytes:
        asked.append(uri)
        if uri.endswith("/1"):
            raise files.UnreachableError(f"{uri}: no answer")
        time.sleep(0.005)
        return content

    monkeypatch.setattr(files, "read_bytes", read)
    references = [Reference(str(number), f"s3://b/{number}", len(content)) for number in range(10_000)]
    features = {**ImageSteps(image.decode())(references[0]).features}  # type: ignore[union-attr]
    worker = ImagePreparer(ImageSteps(image.decode()), features, StatisticsSpec("train")).start(threads=2)
    chunks = worker.chunks(["train"], references)
    try:
        assert next(chunks).read == 1
        with pytest.raises(PenstockError, match="expected the store to answer"):
            next(chunks)
    finally:
        worker.close()
    assert len(asked) < 600  # of which 128 at a time


def test_late_answers_of_a_store_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = save(tmp_path / "1.png", PIXELS).read_bytes()

    def read(*_: Any) -> bytes:
        time.sleep(0.05)
        return content

    monkeypatch.setattr(files, "read_bytes", read)
    references = [Reference(str(number), f"s3://b/{number}", len(content)) for number in range(300)]
    features = {**ImageSteps(image.decode())(references[0]).features}  # type: ignore[union-attr]
    worker = ImagePreparer(ImageSteps(image.decode()), features, StatisticsSpec("train")).start(threads=2)
    start = time.monotonic()
    try:
        chunks = list(worker.chunks(["train"], references))
    finally:
        worker.close()
    assert [example for chunk in chunks for example in chunk.quarantined] == []
    assert sum(chunk.read for chunk in chunks) == 300
    assert time.monotonic() - start < 5  # two threads alone would take 7.5 s


def test_large_jpegs_may_be_decoded_at_a_fraction_of_their_size(tmp_path: Path) -> None:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8))
    coarse.resize((640, 480)).save(tmp_path / "a.jpg")
    Image.fromarray((np.arange(640 * 480) % 7).astype(np.uint8).reshape(480, 640)).save(tmp_path / "mask.png")
    size = (tmp_path / "a.jpg").stat().st_size
    reference = Reference("a.jpg", str(tmp_path / "a.jpg"), size, mask=str(tmp_path / "mask.png"))
    seen: list[Any] = []

    def see(example: dict[str, Any]) -> dict[str, Any]:
        seen.append((np.asarray(example["image"]), np.asarray(example["mask"])))
        return example

    for scale in (2, None):
        steps = ImageSteps(image.decode(scale=scale), [image.min_size(400, 400), image.resize(30, 40), see])
        assert isinstance(steps(reference), Prepared)
    (small, mask), (whole, whole_mask) = seen
    assert (mask == whole_mask).all()
    assert 0 < abs(small.astype(int) - whole).max() <= 3
    filtered = ImageSteps(image.decode(scale=2), [image.min_size(481, 400), image.resize(30, 40)])(reference)
    assert isinstance(filtered, FilteredExample)
