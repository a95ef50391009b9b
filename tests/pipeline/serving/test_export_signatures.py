"""What a serving export's signatures take: names, lists, places, and only what is needed."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from helpers import draw, run_job

from penstock.pipeline import Csv, Images, JsonLines, Recipe, RequestError, open_dataset
from penstock.pipeline.load import Dataset
from penstock.pipeline.serving import export as exporting
from penstock.pipeline.storage import files
from penstock.transforms import image

NAMES = ("self", "class", "a", "A", "größe", "Größe", "1st", "_x", "x y", "x_y", "given", "name", "x1st")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = tmp_path_factory.mktemp("named")
    (raw / "rows.csv").write_text(",".join(NAMES) + "\n" + ",".join(map(str, range(len(NAMES)))) + "\n")
    return _prepared(
        Recipe(source=Csv("*.csv"), features=lambda inputs: {name: inputs[name] + 1 for name in NAMES}),
        raw,
        tmp_path_factory.mktemp("dataset"),
    )


def _prepared(recipe: Recipe, raw: Path, folder: Path) -> Dataset:
    run_job(recipe, raw, folder / "dataset")
    return open_dataset(str(folder / "dataset"))


def _signatures(model: Any) -> Any:
    return tf.saved_model.load(model.path).signatures


def test_columns_of_any_name(named: Dataset, tmp_path: Path) -> None:
    model = named.export(str(tmp_path / "served"))
    serving = _signatures(model)["serving_default"]
    assert set(serving.structured_input_signature[1]) == set(model.inputs)
    assert len(model.inputs) == len(NAMES)
    given = {argument: tf.constant([number], tf.int64) for number, argument in enumerate(model.inputs)}
    order = [name for name in named.features if name in NAMES]
    actual = serving(**given)
    assert {name: int(actual[name][0]) for name in NAMES} == {name: order.index(name) + 1 for name in NAMES}


def test_an_output_may_be_called_valid() -> None:
    assert exporting._free("valid", ["valid", "valid_"]) == "valid__"


def test_only_what_an_output_needs_is_asked_for(named: Dataset, tmp_path: Path) -> None:
    model = named.export(str(tmp_path / "served"), outputs=["class", "1st"])
    assert list(model.inputs) == ["class_", "x1st"]


ROWS = '{"tags_lengths": 3, "tags": [1, 2], "words": ["a"]}\n{"tags_lengths": 4, "tags": [], "words": ["b", "c"]}\n'


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = tmp_path_factory.mktemp("lists")
    (raw / "rows.jsonl").write_text(ROWS)

    def features(inputs: Any) -> dict[str, Any]:
        return {
            "sum": tf.reduce_sum(inputs["tags"], axis=1),
            "count": inputs["words"].row_lengths(),
            "next": inputs["tags_lengths"] + 1,
        }

    recipe = Recipe(source=JsonLines("*.jsonl"), features=features, shuffle=None, splits={"train": 1})
    return _prepared(recipe, raw, tmp_path_factory.mktemp("dataset"))


def test_a_list_is_its_values_and_lengths(lists: Dataset, tmp_path: Path) -> None:
    model = lists.export(str(tmp_path / "served"))
    assert set(model.inputs) == {"tags_lengths", "tags", "tags_lengths_", "words", "words_lengths"}
    assert len(model.not_included) == 2
    signatures = _signatures(model)
    assert set(signatures["serving_default"].structured_input_signature[1]) == set(model.inputs)
    actual = signatures["serving_default"](
        tags_lengths=tf.constant([3, 4], tf.int64),
        tags=tf.constant([1, 2], tf.int64),
        tags_lengths_=tf.constant([2, 0], tf.int64),
        words=tf.constant(["a", "b", "c"]),
        words_lengths=tf.constant([1, 2], tf.int64),
    )
    expected = {"sum": [3, 0], "count": [1, 2], "next": [4, 5], "valid": [True, True]}
    assert {name: values.numpy().tolist() for name, values in actual.items()} == expected
    integers = {"tags_lengths": [4], "tags": []}
    feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for name, v in integers.items()}
    feature["words"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"b", b"c"]))
    example = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    actual = signatures["examples"](tf.constant([example, b"no example"]))
    expected = {"sum": [0, 0], "count": [2, 0], "next": [5, 0], "valid": [True, False]}
    assert {name: values.numpy().tolist() for name, values in actual.items()} == expected


def test_a_list_that_is_not_needed_takes_nothing_away(lists: Dataset, tmp_path: Path) -> None:
    model = lists.export(str(tmp_path / "served"), outputs=["next"])
    assert (model.not_included, list(model.inputs)) == ((), ["tags_lengths"])
    assert model.inputs["tags_lengths"].startswith("int64 [batch]; missing is ")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = draw(tmp_path_factory.mktemp("photos"), 6)

    def with_brightness(example: Any) -> Any:
        return {**example, "brightness": float(np.asarray(example["image"]).mean())}

    recipe = Recipe(
        source=Images("images/*.png"),
        prepare=[image.resize(8, 8), with_brightness],
        features=lambda inputs: {"image": image.scale(inputs, "image"), "twice": inputs["brightness"] * 2.0},
        splits={"train": 1},
    )
    return _prepared(recipe, raw, tmp_path_factory.mktemp("dataset"))


def test_no_photo_is_asked_for_where_none_is_needed(photos: Dataset, tmp_path: Path) -> None:
    model = photos.export(str(tmp_path / "served"), outputs=["twice"])
    assert list(model.inputs) == ["brightness"]
    assert "with_brightness, which is Python" in model.not_included[0]
    served = _signatures(model)
    np.testing.assert_array_equal(served["serving_default"](brightness=tf.constant([1.5]))["twice"], [3])
    assert set(served) == {"serving_default", "examples"}


def test_what_is_left_out_needs_nothing(photos: Dataset, tmp_path: Path) -> None:
    model = photos.export(str(tmp_path / "served"), without=["image"])
    assert (model.outputs, list(model.inputs)) == (("twice",), ["brightness"])
    assert model.left_out == {"image": "is not asked for"}
    with pytest.raises(RequestError, match=r"without: expected some of \['image', 'twice'\], found 'mask'"):
        photos.export(str(tmp_path / "other"), without=["mask"])
    with pytest.raises(RequestError, match="expected an output that can be served, found none"):
        photos.export(str(tmp_path / "other"), without=["image", "twice"])


def test_prepared_pixels_have_no_signature_of_examples(photos: Dataset, tmp_path: Path) -> None:
    model = photos.export(str(tmp_path / "served"))
    assert model.inputs["image"] == "uint8 [batch, 8, 8, 3], as `prepare` makes it"
    assert set(_signatures(model)) == {"serving_default"}


@pytest.mark.parametrize(
    ("outputs", "message"), [("image", "found 'image'"), ("", "found ''"), ([], r"found \[\]"), (["x"], "found 'x'")]
)
def test_outputs_are_names_in_a_list(photos: Dataset, tmp_path: Path, outputs: Any, message: str) -> None:
    with pytest.raises(RequestError, match=rf"outputs: expected .*\['image', 'twice'\].*{message}"):
        photos.export(str(tmp_path / "served"), outputs=outputs)


def test_the_folder_may_be_empty_and_what_is_above_it_is_made(
    photos: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for path in ("empty", "deep/below/1", f"file://{tmp_path}/scheme"):
        assert photos.export(path, outputs=["twice"]).path == path
    for path in ("empty", "deep/below/1", "scheme"):
        assert (tmp_path / path / "saved_model.pb").is_file()
    assert sorted(os.listdir(tmp_path)) == ["deep", "empty", "scheme"]
    with pytest.raises(RequestError, match="expected a new folder for the export, found something there"):
        photos.export("empty")


@pytest.mark.parametrize(
    ("path", "words"),
    [("https://host/x", "found a web server"), ("sftp://host/x", "sftp://"), ("", "name")],
)
def test_places_that_cannot_be_written_to(photos: Dataset, path: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        photos.export(path)


def test_a_store_gets_all_files_and_the_models_own_last(
    photos: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    create = files.create
    monkeypatch.setattr(files, "create", lambda uri: written.append(uri) or create(uri))
    assert photos.export("memory://served/pets/1", outputs=["twice"]).path == "memory://served/pets/1"
    assert written[-1] == "memory://served/pets/1/saved_model.pb"
    for info in files.list_folder("memory://served/pets/1"):
        target = tmp_path / info.uri.removeprefix("memory://served/pets/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files.read_bytes(info.uri))
    assert "serving_default" in tf.saved_model.load(str(tmp_path / "1")).signatures
    with pytest.raises(RequestError, match="expected a new folder for the export, found something there"):
        photos.export("memory://served/pets/1")


def test_an_interrupted_export_leaves_nothing(photos: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(module: Any, folder: str, **_: Any) -> None:
        (Path(folder) / "variables").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting.tf.saved_model, "save", die)
    with pytest.raises(KeyboardInterrupt):
        photos.export(str(tmp_path / "served"))
    assert os.listdir(tmp_path) == []
