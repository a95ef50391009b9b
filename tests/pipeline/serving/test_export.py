"""The serving export: the same raw inputs give what training saw."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from helpers import run_job

from penstock.pipeline import Csv, Images, Recipe, RequestError, open_dataset
from penstock.transforms import categorical, columns, image, numeric

ROWS = """age; town ;x
31;Ulm;1.5
?;Bonn;
40;?;inf
28; Ulm ;-2.25
31;NA;1e-3
"""


def of_rows(inputs: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {
        "years": numeric.standardize(inputs, "years"),
        "known": tf.cast(~inputs.missing["years"], tf.int64),
        "town": categorical.vocabulary(inputs, "town"),
        "filled": inputs["x"],
        "label": tf.cast(inputs["years"] > 30, tf.int64),
    }


@columns.vectorized
def double(batch: Any) -> Any:
    return columns.put(batch, "x", pc.multiply(batch["x"], 2.0))


STEPS = [
    columns.rename({"age": "years"}),
    columns.fill({"x": 0.5}),
    columns.cast({"years": "float64"}),
    columns.where(lambda batch: pc.greater(batch["x"], -1e9), "never"),
    columns.select("x", "town", "years"),
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/rows.csv").write_text(ROWS)
    return tmp_path / "raw"


def exported(recipe: Recipe, raw: Path, tmp_path: Path, **options: Any) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    run_job(recipe, raw, tmp_path / "dataset")
    dataset = open_dataset(str(tmp_path / "dataset"))
    model = dataset.export(str(tmp_path / "served"), **options)
    return dataset, model, tf.saved_model.load(model.path).signatures


def test_raw_rows_become_what_training_sees(rows: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    recipe = Recipe(
        source=Csv("*.csv", delimiter=";"), prepare=STEPS, features=of_rows, shuffle=None, splits={"train": 1}
    )
    dataset, model, signatures = exported(recipe, rows, tmp_path)
    assert (model.not_included, set(model.left_out)) == ((), {"label"})
    assert list(model.inputs) == ["age", "town", "x"]
    raw = {
        "age": tf.constant([31, tf.int64.min, 40, 28, 31], tf.int64),
        "town": tf.constant([b"Ulm", b"Bonn", b"?", b" Ulm ", b"NA"]),
        "x": tf.constant([1.5, np.nan, np.inf, -2.25, 1e-3], tf.float64),
    }
    expected = next(iter(dataset.numpy("train", 5)))
    actual = signatures["serving_default"](**raw)
    assert set(actual) == set(expected) - {"label"} | {"valid"}
    assert actual.pop("valid").numpy().all()
    for name, values in actual.items():
        np.testing.assert_array_equal(values.numpy(), expected[name], name)
        assert values.dtype == expected[name].dtype
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    "age": tf.train.Feature(int64_list=tf.train.Int64List(value=[40])),
                    "x": tf.train.Feature(float_list=tf.train.FloatList(value=[np.inf])),
                }
            )
        ).SerializeToString()
    ]
    actual = signatures["examples"](tf.constant([*examples, b"no example"]))
    assert actual.pop("valid").numpy().tolist() == [True, False]
    for name, values in actual.items():
        assert not values[1]
        np.testing.assert_array_equal(values[:1].numpy(), expected[name][2:3], name)


def test_the_label_is_given_when_it_is_asked_for(rows: Path, tmp_path: Path) -> None:
    recipe = Recipe(source=Csv("*.csv", delimiter=";"), prepare=STEPS, features=of_rows, splits={"train": 1})
    _, model, signatures = exported(recipe, rows, tmp_path, outputs=["label"])
    assert (model.outputs, list(model.inputs)) == (("label",), ["age"])
    assert signatures["serving_default"](age=[31, 28])["label"].numpy().tolist() == [1, 0]


def test_python_in_prepare_is_named_and_prepared_rows_are_taken(rows: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        source=Csv("*.csv", delimiter=";"),
        prepare=[*STEPS, double],
        features=of_rows,
        shuffle=None,
        splits={"train": 1},
    )
    dataset, model, signatures = exported(recipe, rows, tmp_path)
    assert [words.rpartition(".")[2] for words in model.not_included] == ["double, which is Python"]
    stored = next(iter(dataset.numpy("train", 5, features=False)))
    expected = next(iter(dataset.numpy("train", 5)))
    actual = signatures["serving_default"](years=stored["years"], town=stored["town"].tolist(), x=stored["x"])
    assert actual.pop("valid").numpy().all()
    for name, values in actual.items():
        np.testing.assert_array_equal(values.numpy(), expected[name], name)


def of_photos(inputs: Any) -> dict[str, Any]:
    import tensorflow as tf
    import tensorflow_transform as tft

    return {
        "image": image.standardize(inputs, "image"),
        "key": inputs["key"],
        "brightness": tf.reduce_mean(tf.cast(inputs["image"], tf.float32), axis=[1, 2, 3]),
        "class": tft.compute_and_apply_vocabulary(inputs["label"]),
    }


def test_real_photos_become_what_training_sees(real_data: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        source=Images("images/*_1*.jpg", label=r"(?P<label>.+)_\d+"),
        prepare=[image.resize(64, 48, fit="cover")],
        features=of_photos,
        splits={"train": 1},
    )
    dataset, model, signatures = exported(recipe, real_data / "pets", tmp_path)
    assert model.outputs == ("brightness", "image")
    assert model.left_out == {"class": "needs label", "key": "needs key"}
    batch = next(iter(dataset.numpy("train", 40)))
    payloads = [(real_data / "pets" / key.decode()).read_bytes() for key in batch["key"]]
    actual = signatures["serving_default"](image=payloads)
    np.testing.assert_array_equal(actual["image"].numpy(), batch["image"])
    np.testing.assert_allclose(actual["brightness"].numpy(), batch["brightness"], rtol=2e-7)


def test_requests_that_cannot_be_served(rows: Path, tmp_path: Path) -> None:
    recipe = Recipe(source=Csv("*.csv", delimiter=";"), prepare=STEPS, features=of_rows, splits={"train": 1})
    run_job(recipe, rows, tmp_path / "dataset")
    dataset = open_dataset(str(tmp_path / "dataset"))
    with pytest.raises(RequestError, match="expected a new folder"):
        dataset.export(str(rows))
    with pytest.raises(RequestError, match=r"outputs: expected some of \['filled', 'known',.*found 'nothing'"):
        dataset.export(str(tmp_path / "served"), outputs=["nothing"])
