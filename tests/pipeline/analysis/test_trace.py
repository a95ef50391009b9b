"""What tf.Transform's analyzers may be given, and what is inside the graph that comes out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.runners.portability.fn_api_runner import execution
from helpers import LABEL, REPOSITORY, Committed, apply_graph, draw, pixels, plan_job, run_job

from penstock.pipeline import Images, Recipe, RequestError
from penstock.pipeline.analysis.trace import trace
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.formats.tfrecord import read_records
from penstock.pipeline.planning.recipe import load_recipe
from penstock.transforms import categorical, image, numeric, text

SOURCE = Images("images/*.png", label=LABEL)


def number(example: dict[str, Any]) -> dict[str, Any]:
    return {**example, "number": float(example["key"][-7:-4]), "flat": np.full((2, 2, 3), 9, np.uint8)}


def one_phase(inputs: Any) -> dict[str, Any]:
    pixels = tf.cast(inputs["image"], tf.float32)
    return {
        "z": tft.scale_to_z_score(inputs["number"]),
        "bucket": tft.bucketize(inputs["number"], 2),
        "mean": tft.mean(pixels) + 0 * inputs["number"],
        "bright": pixels - tft.mean(pixels, reduce_instance_dims=False),
        "global": image.standardize(inputs, "image", per_channel=False),
        "flat": image.standardize(inputs, "flat"),
        "scaled": image.scale(inputs, "image", -1.0, 1.0),
        "number": inputs["number"],
    }


def two_phases(inputs: Any) -> dict[str, Any]:
    values = inputs["number"]
    standardized = image.standardize(inputs, "image")
    ids = tft.compute_and_apply_vocabulary(inputs["label"])
    return {
        "range": tft.max(values - tft.min(values)) + 0 * values,
        "brightest": tft.max(standardized) + 0 * values,
        "deviation": tft.var(standardized) + 0 * values,
        "rare": tft.mean(tf.cast(ids, tf.float32)) + 0 * values,
    }


def make(tmp_path: Path, features: Any, count: int = 20, **fields: Any) -> tuple[Committed, dict[str, np.ndarray]]:
    """The dataset, and the graph's outputs for the training split."""
    raw, path = draw(tmp_path / "raw", count), tmp_path / "dataset"
    recipe = Recipe(**{"source": SOURCE, "prepare": [number], "features": features, "shards": 3, **fields})
    dataset = Committed(path, raw, run_job(recipe, raw, path).manifest)
    shards = dataset.manifest.splits["train"].shards
    records = [record for shard in shards for record in read_records(str(path / shard.path))]
    return dataset, apply_graph(dataset.graph, records)


def test_any_analyzer_on_any_prepared_feature(tmp_path: Path):
    dataset, outputs = make(tmp_path, one_phase)
    values = np.stack([pixels(example["image"]) for example in dataset.examples("train")]).astype(np.float64)
    numbers = np.array([example["number"] for example in dataset.examples("train")], np.float64)
    assert np.abs(outputs["z"] - (numbers - numbers.mean()) / numbers.std()).max() < 1e-6
    assert sorted(set(outputs["bucket"].tolist())) == [0, 1]
    assert np.abs(outputs["mean"] - values.mean()).max() < 1e-4
    assert np.abs(outputs["bright"] - (values - values.mean(axis=0))).max() < 1e-4
    assert np.abs(outputs["global"] - (values - values.mean()) / values.std()).max() < 1e-6
    assert not outputs["flat"].any()  # a constant image is divided by 1
    assert np.abs(outputs["scaled"] - (values / 127.5 - 1)).max() < 1e-6
    assert outputs["number"].tolist() == numbers.tolist()


def test_analyzers_may_work_on_what_analyzers_found(tmp_path: Path):
    dataset, outputs = make(tmp_path, two_phases)
    values = np.stack([pixels(example["image"]) for example in dataset.examples("train")]).astype(np.float64)
    standardized = (values - values.mean(axis=(0, 1, 2))) / values.std(axis=(0, 1, 2))
    assert outputs["range"].tolist() == [19.0] * 20
    assert abs(outputs["brightest"][0] - standardized.max()) < 1e-5
    assert abs(outputs["deviation"][0] - 1) < 1e-5
    assert abs(outputs["rare"][0] - 7 / 20) < 1e-6  # 7 dogs have the index 1


def test_phases_and_columns_are_what_the_analyzers_need(tmp_path: Path):
    features = plan_job(Recipe(source=SOURCE, prepare=[number]), draw(tmp_path)).features
    one, two = trace(one_phase, features), trace(two_phases, features)
    assert (one.phases, two.phases, trace(None, features).phases) == (1, 2, 0)
    assert set(one.columns) == {"number", "image"}
    assert {spec.column for spec in one.summary_specs} == {"image", "flat"}
    assert set(two.columns) == {"number", "image", "label"}
    assert trace(None, features).columns == ()
    light = trace(lambda inputs: {"image": image.standardize(inputs, "image"), "x": inputs["number"]}, features)
    assert (light.columns, light.phases, [spec.column for spec in light.summary_specs]) == ((), 0, ["image"])


def test_a_size_that_only_the_pass_tells_is_no_mistake(tmp_path: Path):
    features = {"word": Feature("text", "string", (), optional=True)}

    def ours(inputs: Any) -> dict[str, Any]:
        ids = categorical.vocabulary(inputs, "word")
        return {"x": categorical.one_hot(ids, categorical.vocabulary_size(inputs, "word"))}

    def theirs(inputs: Any) -> dict[str, Any]:
        ids = tft.compute_and_apply_vocabulary(inputs["word"], vocab_filename="words")
        size = tft.experimental.get_vocabulary_size_by_name("words")
        return {"x": tf.one_hot(ids, tf.cast(size, tf.int32))}

    assert [trace(function, features).phases for function in (ours, theirs)] == [0, 1]


def test_a_mistake_is_told_with_its_line():
    def mistaken(inputs: Any) -> dict[str, Any]:
        return {"x": inputs["nmuber"]}

    line = mistaken.__code__.co_firstlineno + 1
    with pytest.raises(RequestError, match=rf"KeyError: 'nmuber' \(test_trace.py, line {line}\); it was given"):
        trace(mistaken, {"number": Feature("number", "float32", ())})


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the size of every element that the engine keeps between two stages."""
    sizes: list[int] = []
    for buffer in (execution.ListBuffer, execution.GroupingBuffer):

        def append(self: Any, element: bytes, keep: Any = buffer.append) -> None:
            sizes.append(len(element))
            keep(self, element)

        monkeypatch.setattr(buffer, "append", append)
    return sizes


def pixels_alone(inputs: Any) -> dict[str, Any]:
    return {"mean": tft.mean(tf.cast(inputs["image"], tf.float32)) + 0 * inputs["number"]}


def pixels_twice(inputs: Any) -> dict[str, Any]:
    return {"brightest": tft.max(image.standardize(inputs, "image")) + 0 * inputs["number"]}


@pytest.mark.parametrize("features", [pixels_alone, pixels_twice])
def test_no_batch_waits_at_a_barrier(tmp_path: Path, waiting: list[int], features: Any):
    """Pixels go through the analyzers, and five times as many leave no more behind."""
    kept = []
    for count in (40, 200):
        waiting.clear()
        dataset, _ = make(tmp_path / str(count), features, count)
        kept.append(sum(waiting))
    assert sum(shard.file.bytes for shard in dataset.manifest.splits["train"].shards) > 150_000
    assert kept[1] - kept[0] < 1000, kept


def test_decoded_pixels_are_pillows_to_the_bit(tmp_path: Path):
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64, 1)

    def copies(example: dict[str, Any]) -> dict[str, Any]:
        photo = example["image"].resize((37, 41), 2)
        return {
            **example,
            "image": photo,
            "poor": photo,
            "grey": photo.convert("L"),
            "png": photo,
            "raw": photo,
            "deep": deep,
            "deep_raw": deep,
        }

    encode = {
        "poor": image.jpeg(20),
        "grey": image.jpeg(),
        "raw": image.raw(),
        "deep_raw": image.raw(),
    }
    dataset, outputs = make(tmp_path, None, prepare=[copies], encode=encode)
    examples = dataset.examples("train")
    for name in ("image", "poor", "grey", "png", "deep"):
        assert np.array_equal(outputs[name], np.stack([pixels(example[name]) for example in examples])), name
    assert np.array_equal(outputs["raw"], outputs["png"])
    assert np.array_equal(outputs["deep_raw"], outputs["deep"])
    assert np.array_equal(outputs["deep"][0], deep)
    assert outputs["key"].tolist() == [example["key"] for example in examples]


def test_tensorflow_opens_the_graph_and_parses_the_shards(committed: Committed):
    output = tft.TFTransformOutput(committed.graph)
    spec = output.raw_feature_spec()
    assert set(spec) == set(committed.manifest.features)
    assert not any("histogram" in name for name in spec)
    files = [str(committed.path / shard.path) for shard in committed.manifest.splits["test"].shards]
    layer = output.transform_features_layer()
    batches = tf.data.TFRecordDataset(files).batch(3).map(lambda batch: layer(tf.io.parse_example(batch, spec)))
    rows = list(batches.as_numpy_iterator())
    assert sum(len(batch["label"]) for batch in rows) == committed.manifest.splits["test"].examples
    assert set(rows[0]) == set(committed.manifest.transform_graph.outputs)
    assert rows[0]["image"].shape[1:] == (24, 16, 3)
    assert set(np.unique(rows[0]["mask"])) <= {0, 1, 2}
    assert output.vocabulary_by_name("vocab_compute_and_apply_vocabulary_vocabulary") == [b"cat", b"dog"]


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (lambda inputs: None, "expected a function that returns a dict of tensors, found None"),
        (lambda inputs: {}, "expected a function that returns a dict of tensors"),
        (lambda inputs: [inputs["number"]], "expected a function that returns a dict of tensors"),
        (lambda inputs: {"x": inputs["nmuber"]}, "KeyError: 'nmuber'"),
        (lambda inputs: {"x": 1 / 0}, "ZeroDivisionError"),
        (lambda inputs: {"x": image.standardize(inputs, "number")}, "standardize: expected the name of a uint8 image"),
        (
            lambda inputs: {"x": tf.cast(inputs["number"], tf.complex64)},
            "strings, integers or floats as 'x', found complex64",
        ),
        (lambda inputs: {"x": 1.0}, "'x'"),
        (lambda inputs: {"x": tf.constant(1.0)}, "'x'"),
        (lambda inputs: {3: inputs["number"]}, "3"),
        (lambda inputs: {"x": tf.constant([1, 2, 3])}, "'x', found 3 rows in every batch"),
        (
            lambda inputs: {"x": tft.pca(tf.stack([inputs["number"]] * 2, 1), 1, tf.float32)},
            "a row for every example in 'x', found 2 rows in every batch",
        ),
        (
            lambda inputs: {"x": tft.count_per_key(inputs["label"])[1]},
            "a row for every example in 'x', found a tensor that depends on no input",
        ),
        (
            lambda inputs: {"x": text.words(inputs["label"]).to_tensor()},
            "one size for every batch as 'x', found the shape ['batch', None]; use text.pad(tokens, length)",
        ),
        (
            lambda inputs: {"x": text.word_ids(text.words(inputs["label"]), top_k=9).to_tensor() + 1},
            "one size for every batch as 'x', found the shape ['batch', None]; use text.pad(tokens, length)",
        ),
        (lambda inputs: {"x": tf.numpy_function(abs, [inputs["number"]], tf.float32)}, "'x', found the shape unknown"),
    ],
)
def test_mistakes_in_features_are_named_before_any_work(tmp_path: Path, features: Any, words: str):
    raw = draw(tmp_path / "raw", 4)
    with pytest.raises(RequestError) as raised:
        run_job(Recipe(source=SOURCE, prepare=[number], features=features), raw, tmp_path / "dataset")
    assert str(raised.value).startswith("Recipe(features=...): ")
    assert words in str(raised.value)
    assert not (tmp_path / "dataset").exists()


def vector(example: dict[str, Any]) -> dict[str, Any]:
    row = float(example["key"][-7:-4])
    return {**example, "vector": np.array([row, row + 1, 3 * row]), "counts": np.array([int(row), 1])}


def test_statistics_of_arrays_are_of_all_that_is_in_them(tmp_path: Path):
    def features(inputs: Any) -> dict[str, Any]:
        return {
            "standardized": numeric.standardize(inputs, "vector"),
            "robust": numeric.robust_scale(inputs, "vector"),
            "frequency": categorical.frequency(inputs, "counts"),
        }

    dataset, outputs = make(tmp_path, features, count=6, prepare=[vector], shards=1)
    rows = np.array(
        [[row, row + 1, 3 * row] for row in (example["vector"][0] for example in dataset.examples("train"))]
    )
    expected = (rows - rows.mean()) / rows.std()
    np.testing.assert_allclose(outputs["standardized"], expected, rtol=1e-6)
    assert outputs["robust"].shape == rows.shape
    assert outputs["frequency"][0].tolist() == pytest.approx([1 / 12 + 1 / 2 * (rows[0][0] == 1), 7 / 12], abs=1e-6)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda statistics: statistics.moments("s"), "expected a column of numbers, found 's' of string"),
        (lambda statistics: statistics.quantiles("s", 2, 0.1), "expected a column of numbers, found 's' of string"),
        (lambda statistics: statistics.frequencies("x"), "strings or integers, found 'x' of float32"),
        (lambda statistics: statistics.grouped_moments("v", "s"), "one value in a row, found 'v', of several"),
        (lambda statistics: statistics.grouped_moments("x", "x"), "strings or integers, found 'x' of float32"),
        (lambda statistics: statistics.moments(tf.constant(1.0)), "expected the name of a raw column"),
    ],
)
def test_what_has_no_such_statistic_is_refused_before_a_run(ask: Any, words: str):
    columns = {
        "x": Feature("number", "float32", ()),
        "s": Feature("text", "string", ()),
        "v": Feature("number", "float32", (3,)),
    }
    with pytest.raises(RequestError, match=words):
        trace(lambda inputs: {"y": inputs["x"] + tf.cast(ask(inputs.statistics)[0], tf.float32)}, columns)


def test_what_is_not_portable_is_known_from_the_trace():
    columns = {"x": Feature("number", "float32", ()), "s": Feature("text", "string", ())}

    def features(inputs: Any) -> dict[str, Any]:
        by_key = tft.scale_to_z_score_per_key(inputs["x"], inputs["s"])
        return {
            "by_key": by_key,
            "words": text.words(inputs["s"]),
            "codes": tf.strings.unicode_decode(inputs["s"], "UTF-8").to_tensor(shape=[None, 3]),
            "replaced": tf.strings.regex_replace(inputs["s"], "(?i)a", "b"),
            "padded": text.pad(text.words(inputs["s"]), 3),
        }

    [warning] = trace(features, columns).warnings
    assert warning.startswith("not portable, so that only ds.tf")
    assert warning.partition(": ")[2].split("; '") == [
        "'by_key' for StatelessIf (control flow; numeric.standardize_by_key and categorical have none)",
        "codes' for UnicodeDecode",
        "replaced' for the regular expression '(?i)a' (it has a flag or a named group)",
        "words' for RaggedTensor, a list of any length: bring it to one length with text.pad",
    ]
    assert trace(lambda inputs: {"x": inputs["x"]}, columns).warnings == ()


def _columns(dtypes: dict[str, str]) -> dict[str, Feature]:
    return {
        name: Feature("text" if dtype == "string" else "number", dtype, (), optional=True)
        for name, dtype in dtypes.items()
    }


CENSUS_NUMBERS = ("age", "capital-gain", "capital-loss", "hours-per-week")
CENSUS_STRINGS = (
    *("workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country"),
    "classification",
)


@pytest.mark.parametrize(
    ("name", "dtypes"),
    [
        ("stocks", {**dict.fromkeys(("Open", "High", "Low", "Close", "Volume"), "float32"), "Name": "string"}),
        ("banking77", {"text": "string", "category": "string"}),
        ("census", {**dict.fromkeys(CENSUS_NUMBERS, "int64"), **dict.fromkeys(CENSUS_STRINGS, "string")}),
    ],
)
def test_the_examples_load_without_tensorflow(name: str, dtypes: dict[str, str]):
    recipe = load_recipe(str(REPOSITORY / "examples" / f"{name}.py")).recipe
    analysis = trace(recipe.features, _columns(dtypes))
    assert analysis.warnings == ()
    assert analysis.outputs


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_long_chain_of_operations_is_traced(analyzed: bool):
    def features(inputs: Any) -> dict[str, Any]:
        x = inputs["x"]
        for _ in range(1500):
            x = x * 1.0001
        return {"y": tft.scale_to_z_score(x) if analyzed else x}

    assert trace(features, _columns({"x": "float32"})).phases == analyzed


def _vocabulary_of(column: str, fails: bool = False) -> Any:
    def features(inputs: Any) -> dict[str, Any]:
        ids = tft.compute_and_apply_vocabulary(inputs[column])
        if fails:
            raise ValueError("too late")
        return {"ids": ids}

    return features


def test_features_of_one_process_look_values_up_in_tables_of_their_own() -> None:
    columns = {name: Feature(name, dtype, ()) for name, dtype in (("name", "string"), ("count", "int64"))}
    assert trace(_vocabulary_of("name"), columns).columns == ("name",)
    with pytest.raises(RequestError, match="too late"):
        trace(_vocabulary_of("name", fails=True), columns)
    assert trace(_vocabulary_of("count"), columns).columns == ("count",)
