"""Arithmetic that TensorFlow's graph optimizer would change gives the very values of `ds.numpy`, wherever it is run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import differences, draw, run_job
from PIL import Image

from penstock.pipeline import Csv, Images, Recipe, open_dataset
from penstock.pipeline.load import Dataset
from penstock.transforms import image

ORIENTATION = 0x0112  # EXIF's
ROWS = "x,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in np.random.default_rng(0).normal(0, 1e3, (64, 2)).tolist())


def of_photos(inputs: Any) -> dict[str, Any]:
    """Penstock's own helpers alone: nothing that tf.Transform analyzes."""
    return {
        "standardized": image.standardize(inputs, "image"),
        "all_channels": image.standardize(inputs, "image", per_channel=False),
        "unit": image.scale(inputs, "image"),
        "signed": image.scale(inputs, "image", -1, 1),
    }


def of_rows(inputs: Any) -> dict[str, Any]:
    x, y = inputs["x"], inputs["y"]
    return {
        "products": x * 3.3 * 0.7 + 0.1 + 0.3,
        "quotients": x / 3.0 / 7.0,
        "centred": (x - 0.3) / 3.0,
        "common_factor": x * 0.7 + y * 0.7,
        "sum": (x + y) + (x + 0.1),
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("photos"), 12, (24, 16))


@pytest.fixture(scope="module")
def of_images(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    recipe = Recipe(
        source=Images("images/*.png"), prepare=[image.resize(20, 20)], features=of_photos, splits={"train": 1}
    )
    return _prepared(recipe, photos, tmp_path_factory)


@pytest.fixture(scope="module")
def of_table(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = tmp_path_factory.mktemp("rows")
    (raw / "rows.csv").write_text(ROWS)
    recipe = Recipe(source=Csv("*.csv"), features=of_rows, shuffle=None, splits={"train": 1})
    return _prepared(recipe, raw, tmp_path_factory)


def _prepared(recipe: Recipe, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("prepared") / "dataset"
    run_job(recipe, raw, path)
    return open_dataset(str(path))


@pytest.fixture(params=["of_images", "of_table"])
def dataset(request: pytest.FixtureRequest) -> Dataset:
    actual: Dataset = request.getfixturevalue(request.param)
    return actual


def _expected(dataset: Dataset, **options: Any) -> Any:
    return next(iter(dataset.numpy("train", 64, **options)))


def test_serving_photos(of_images: Dataset, photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    model = of_images.export(str(tmp_path / "served"))
    payloads = [(photos / example["key"].decode()).read_bytes() for example in of_images.examples("train", 12)]
    served = tf.saved_model.load(model.path).signatures["serving_default"]
    actual = served(image=tf.constant(payloads))
    assert actual.pop("valid").numpy().all()
    assert differences(actual, _expected(of_images)) == []


@pytest.mark.slow
def test_one_bad_photo_fails_alone(of_images: Dataset, photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    model = of_images.export(str(tmp_path / "served"))
    payloads = [(photos / example["key"].decode()).read_bytes() for example in of_images.examples("train", 12)]
    cut = payloads[2][: len(payloads[2]) // 2]
    bad = {2: cut, 5: b"", 6: b"\xff\xd8\xff\xe0 no photo", 11: b"\x89PNG\r\n\x1a\n"}
    given = [bad.get(number, payload) for number, payload in enumerate(payloads)]
    signatures = tf.saved_model.load(model.path).signatures
    features = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[payload])) for payload in given]
    examples = [
        tf.train.Example(features=tf.train.Features(feature={"image": each})).SerializeToString() for each in features
    ]
    examples[0] = b"no example"
    for actual, lost in (
        (signatures["serving_default"](image=tf.constant(given)), set(bad)),
        (signatures["examples"](tf.constant(examples)), {0, *bad}),
    ):
        assert np.flatnonzero(~actual.pop("valid").numpy()).tolist() == sorted(lost)
        for name, values in _expected(of_images).items():
            values[list(lost)] = 0
            np.testing.assert_array_equal(actual[name], values, name)
    nothing = signatures["serving_default"](image=tf.constant([], tf.string))
    assert {name: values.shape[0] for name, values in nothing.items()} == dict.fromkeys([*model.outputs, "valid"], 0)


def test_serving_photos_of_phones_and_scanners(tmp_path: Path) -> None:
    """All orientations, grey and colour, decoded whole or at a fraction; CMYK, which training alone can read."""
    import tensorflow as tf

    sizes = [(24, 31), (330, 257), (403, 99), (101, 517), (640, 777), (222, 444), (81, 80), (500, 400), (333, 333)]
    for number, size in enumerate(sizes):
        coarse = np.random.default_rng(number).integers(0, 256, (7, 5, 4), np.uint8)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[ORIENTATION] = number % 8 + 1
        mode = ("CMYK" if number == len(sizes) - 1 else "L") if number % 4 == 0 else "RGB"
        path = tmp_path / "raw" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture.convert(mode).save(path, exif=exif, quality=85, progressive=number % 3 == 0)
    recipe = Recipe(
        source=Images("*.jpg", decode=image.decode(scale=1)),
        prepare=[image.resize(20, 24, fit="cover")],
        features=of_photos,
        encode={"image": image.jpeg(90)},
        shuffle=None,
        splits={"train": 1},
    )
    run_job(recipe, tmp_path / "raw", tmp_path / "dataset")
    dataset = open_dataset(str(tmp_path / "dataset"))
    keys = [example["key"].decode() for example in dataset.examples("train", len(sizes))]
    assert sorted(keys) == [f"{number}.jpg" for number in range(len(sizes))]
    payloads = [(tmp_path / "raw" / key).read_bytes() for key in keys]
    model = dataset.export(str(tmp_path / "served"))
    actual = tf.saved_model.load(model.path).signatures["serving_default"](image=tf.constant(payloads))
    is_cmyk = np.array([key == f"{len(sizes) - 1}.jpg" for key in keys])
    np.testing.assert_array_equal(actual.pop("valid"), ~is_cmyk)
    expected = _expected(dataset)
    for values in expected.values():
        values[is_cmyk] = 0
    assert differences(actual, expected) == []


def test_serving_rows(of_table: Dataset, tmp_path: Path) -> None:
    import tensorflow as tf

    model = of_table.export(str(tmp_path / "served"))
    raw = {name: tf.cast(_expected(of_table, features=False)[name], tf.float64) for name in ("x", "y")}
    served = tf.saved_model.load(model.path).signatures["serving_default"]
    actual = served(**raw)
    assert actual.pop("valid").numpy().all()
    assert differences(actual, _expected(of_table)) == []


@pytest.mark.parametrize("graph", ["portable", "saved"])
def test_tf_data(dataset: Dataset, graph: Any) -> None:
    assert differences(next(iter(dataset.tf("train", 64, graph=graph))), _expected(dataset)) == []
    full = dataset.tf("train", 4, graph=graph, drop_remainder=True)
    assert {spec.shape[0] for spec in full.element_spec.values()} == {4}


def test_the_device_part_in_a_function(dataset: Dataset) -> None:
    import tensorflow as tf

    host = {name: tf.constant(values) for name, values in _expected(dataset, features="host").items()}
    assert differences(tf.function(dataset.transform.device)(host), _expected(dataset)) == []
    compiled = tf.function(dataset.transform.device, jit_compile=True)(host)
    for name, values in _expected(dataset).items():  # XLA rounds in its own way: see docs/loading.md
        np.testing.assert_allclose(compiled[name], values, 1e-5, 1e-3 if "x" in host else 1e-6, err_msg=name)


def test_gradients_go_through_the_device_part(of_table: Dataset) -> None:
    import tensorflow as tf

    @tf.function
    def gradient(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            quotients = of_table.transform.device({"x": x, "y": x})["quotients"]
        return tape.gradient(quotients, x)

    np.testing.assert_allclose(gradient(tf.ones([3])), [1 / 21] * 3, 1e-6)


def test_a_keras_model(dataset: Dataset) -> None:
    import keras

    host = _expected(dataset, features="host")
    inputs = {name: keras.Input(values.shape[1:], dtype=str(values.dtype), name=name) for name, values in host.items()}
    model = keras.Model(inputs, dataset.transform.layer()(inputs))
    model.compile(jit_compile=False)  # "auto" is XLA
    assert differences(model.predict(host, verbose=0), _expected(dataset)) == []
