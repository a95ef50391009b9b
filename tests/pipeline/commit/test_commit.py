"""What is checked before anything is committed, and what an uncommitted run leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from helpers import LABEL, Committed, contents, draw, pixels, run_job

from penstock.pipeline import Images, NotCommittedError, OverBudgetError, PenstockError, Recipe, by_folder
from penstock.pipeline.formats.damage import all_files
from penstock.pipeline.formats.manifest import Manifest
from penstock.transforms import image
from penstock.transforms.outcome import Rejected

SOURCE = Images("images/*.png", label=LABEL)


def reject(*numbers: int) -> Any:
    def step(example: dict[str, Any]) -> dict[str, Any]:
        if int(example["key"][-7:-4]) in numbers:
            raise Rejected("unlucky", "its number is unlucky")
        return example

    return step


def number(example: dict[str, Any]) -> dict[str, Any]:
    return {**example, "number": float(example["key"][-7:-4])}


def test_over_budget_commits_nothing_and_more_budget_redoes_nothing(tmp_path: Path):
    raw, output = draw(tmp_path / "raw", 20), tmp_path / "dataset"
    recipe = Recipe(source=SOURCE, prepare=[reject(3, 7)], shards=2)
    with pytest.raises(OverBudgetError, match=r"2 of 20 examples were quarantined \(unlucky 2\), expected at most 1"):
        run_job(recipe, raw, output, "1" * 64, max_quarantined="1")
    with pytest.raises(NotCommittedError):
        Manifest.load(str(output))
    lines = [json.loads(line) for path in output.rglob("quarantine/*.jsonl") for line in path.read_text().splitlines()]
    assert {(line["key"][-7:-4], line["code"]) for line in lines} == {("003", "unlucky"), ("007", "unlucky")}
    shards = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.rglob("*.tfrecord")}
    assert len(shards) == 2

    result = run_job(recipe, raw, output, "1" * 64, max_quarantined="10%")
    assert (result.status, result.manifest.written, result.manifest.quarantined) == ("committed", 18, 2)
    assert result.manifest.reasons.quarantined == {"unlucky": 2}
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.rglob("*.tfrecord")} == shards


def test_a_split_that_came_out_empty_is_named(tmp_path: Path):
    for split in ("train", "test"):
        draw(tmp_path / "raw" / split, 5)

    def spare_the_train_split(example: dict[str, Any]) -> dict[str, Any]:
        return reject(*range(5))(example) if example["key"].startswith("test") else example

    recipe = Recipe(source=Images("*/images/*.png"), prepare=[spare_the_train_split], splits=by_folder())
    with pytest.raises(PenstockError, match="split 'test' came out empty: every example of it was quarantined"):
        run_job(recipe, tmp_path / "raw", tmp_path / "dataset", max_quarantined="100%")
    assert not (tmp_path / "dataset" / "_DATASET.json").exists()


def test_a_training_split_that_came_out_empty_is_named(tmp_path: Path):
    tried = []

    def fail_after_the_first(example: dict[str, Any]) -> dict[str, Any]:
        tried.append(example["key"])
        return reject(*range(99))(example) if len(tried) > 4 else example

    recipe = Recipe(
        source=SOURCE,
        prepare=[fail_after_the_first],
        features=lambda inputs: {"image": image.standardize(inputs, "image")},
        splits={"train": 0.5, "test": 0.5},
    )
    raw = draw(tmp_path / "raw", 20)
    with pytest.raises(PenstockError, match=r"'(train|test)' came out empty: every example of it was quarantined"):
        run_job(recipe, raw, tmp_path / "dataset", max_quarantined="100%")
    assert not (tmp_path / "dataset" / "_DATASET.json").exists()


def divide_by_zero(inputs: Any) -> dict[str, Any]:
    ratio = inputs["number"] / tf.zeros_like(inputs["number"])
    return {"ok": inputs["number"], "ratio": ratio - tft.mean(ratio)}


def standardize_nothing(inputs: Any) -> dict[str, Any]:
    return {"ok": inputs["number"], "ratio": inputs["number"] / (tft.var(inputs["number"]) * 0)}


def empty_words(inputs: Any) -> dict[str, Any]:
    return {"ok": inputs["number"], "word": tft.compute_and_apply_vocabulary(inputs["label"], frequency_threshold=99)}


def empty_numbers(inputs: Any) -> dict[str, Any]:
    with tf.name_scope("numbers"):  # TensorFlow shares tables by name in a process, and others are of words
        numbers = tf.cast(inputs["number"], tf.int64)
        return {"ok": inputs["number"], "word": tft.compute_and_apply_vocabulary(numbers, frequency_threshold=99)}


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (divide_by_zero, ["'ratio'", "not finite"]),
        (standardize_nothing, ["'ratio'", "not finite"]),
        (empty_words, ["vocabulary", "came out empty", "label"]),
        (empty_numbers, ["vocabulary", "came out empty", "number"]),
    ],
)
def test_a_statistic_that_is_none_fails_the_run_and_the_old_generation_stays(
    damaged: Committed, tmp_path: Path, features: Any, words: list[str]
):
    raw = draw(tmp_path / "raw")
    before = contents(damaged.path)
    with pytest.raises(PenstockError) as raised:
        run_job(Recipe(source=SOURCE, prepare=[number], features=features), raw, damaged.path)
    assert all(word in str(raised.value) for word in words), raised.value
    assert before.items() <= contents(damaged.path).items()
    assert Manifest.load(str(damaged.path)) == damaged.manifest


@pytest.mark.parametrize(("column", "token"), [("n", "-1"), ("s", "x -1"), ("s", "1 y")])
def test_a_vocabulary_of_one_token_is_not_empty(make: Any, column: str, token: str):
    """tf.Transform writes -1 into an empty vocabulary of integers: here it is the value that there is."""

    def features(inputs: Any) -> dict[str, Any]:
        with tf.name_scope(f"one_{column}_{len(token)}"):
            return {"id": tft.compute_and_apply_vocabulary(inputs[column])}

    made = make({"a.csv": f"{column},other\n" + f"{token},1\n" * 9}, features=features)
    assert list(made.assets().values()) == [[token.encode()]]


def test_a_number_that_is_not_finite_in_the_data_is_no_fault_of_the_statistics(tmp_path: Path):
    def sometimes_nan(example: dict[str, Any]) -> dict[str, Any]:
        found = int(example["key"][-7:-4])
        return {**example, "number": float("nan") if found % 2 else float(found)}

    def scaled(inputs: Any) -> dict[str, Any]:
        return {"number": tft.scale_to_z_score(inputs["number"])}

    raw = draw(tmp_path / "raw", 20)
    recipe = Recipe(source=SOURCE, prepare=[sometimes_nan], features=scaled)
    assert run_job(recipe, raw, tmp_path / "dataset").manifest.written == 20


def test_the_manifest_lists_every_file_and_nothing_else_is_there(committed: Committed):
    files = list(all_files(str(committed.path), committed.manifest))
    listed = {file.path: (file.bytes, file.sha256) for file in files}
    assert len(listed) == len(files)
    found = contents(committed.path)
    own = {f"{committed.manifest.generation}/{name}" for name in ("manifest.json", "manifest.sha256")}
    assert found.keys() == {*listed, "_DATASET.json", *own}
    for path, (size, sha256) in listed.items():
        assert found[path] == sha256
        assert (committed.path / path).stat().st_size == size


def test_the_manifest_says_what_was_done(committed: Committed):
    content = json.loads((committed.generation / "manifest.json").read_text())
    assert content == committed.manifest.to_json()
    assert content["read"] == content["written"] == 40
    assert (content["filtered"], content["quarantined"], content["warnings"]) == (0, 0, [])
    assert {name: split["examples"] for name, split in content["splits"].items()} == {
        name: len(committed.examples(name)) for name in ("train", "validation", "test")
    }
    assert [len(split["shards"]) for split in content["splits"].values()] == [2, 2, 2]
    assert content["features"]["image"] == {
        **content["features"]["image"],
        "kind": "image",
        "dtype": "uint8",
        "shape": [24, 16, 3],
        "encoding": "jpeg",
    }
    assert content["features"]["mask"]["encoding"] == "png"
    assert content["transform_graph"]["outputs"] == {
        "image": {"dtype": "float32"},
        "mask": {"dtype": "uint8"},
        "label": {"dtype": "int64"},
    }
    assert set(content["versions"]) >= {"python", "beam", "tensorflow", "tft", "penstock"}


def test_compressed_shards_are_read_by_tensorflow(tmp_path: Path):
    raw = draw(tmp_path / "raw")
    manifest = run_job(Recipe(source=SOURCE, compression="gzip"), raw, tmp_path / "dataset").manifest
    assert manifest.splits["train"].shards[0].path.endswith(".tfrecord.gz")
    assert len(Committed(tmp_path / "dataset", raw, manifest).examples("train")) == 12


def test_images_may_be_kept_raw(tmp_path: Path):
    raw = draw(tmp_path / "raw", 4)
    recipe = Recipe(source=SOURCE, encode={"image": image.raw()})
    dataset = Committed(tmp_path / "dataset", raw, run_job(recipe, raw, tmp_path / "dataset").manifest)
    for example in dataset.examples("train"):
        assert example["image"] == pixels((raw / example["key"].decode()).read_bytes()).tobytes()
