"""Whole runs with all that may happen to single examples."""

import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from helpers import LABEL, Committed, draw, pixels, prepare_job, request, run_job, save

from penstock.pipeline import Images, Recipe
from penstock.pipeline.build.units import MakeUnits
from penstock.pipeline.job import plan
from penstock.transforms import image
from penstock.transforms.outcome import Rejected, keep

SOURCE = Images("images/*.png", mask="masks/{stem}.png", label=LABEL)


def number(example: dict[str, Any]) -> int:
    return int(example["key"][-7:-4])


def troubled(example: dict[str, Any]) -> Any:
    """Does with some examples whatever a user's function may do."""
    found = number(example)
    if found == 3:
        raise KeyError("boxes")
    if found == 5:
        return None
    if found == 7:
        return {**example, "image": np.zeros((3, 3, 3), np.uint8), "mask": np.zeros((3, 3), np.uint8)}
    if found == 9:
        raise Rejected("unlucky", "its number")
    if found == 11:
        return {name: value for name, value in example.items() if name != "extra"}
    if found == 13:
        raise SystemExit(0)
    return {**example, "image": np.asarray(example["image"])[:, ::-1]}


def add(example: dict[str, Any]) -> dict[str, Any]:
    return {**example, "extra": [number(example), 0.5], "name": f"é{number(example)}"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Committed:
    """40 examples, of which some fail, some are not wanted, some lack their mask or are broken files."""
    root = tmp_path_factory.mktemp("made")
    raw = draw(root / "raw", 40, masks=True)
    (raw / "masks" / "cat_001.png").unlink()
    save(raw / "masks" / "orphan.png", np.zeros((8, 6)))
    save(raw / "masks" / "cat_002.png", np.zeros((2, 2)))
    (raw / "images" / "cat_004.png").write_bytes(b"")
    (raw / "images" / "dog_006.png").write_text("<html>not found</html>")
    cut = raw / "images" / "cat_008.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    recipe = Recipe(
        source=SOURCE,
        prepare=[keep(lambda example: number(example) % 10 != 0, "tens"), add, troubled],
        encode={"image": image.png()},
        shards=3,
    )
    return Committed(root / "dataset", raw, run_job(recipe, raw, root / "dataset", max_quarantined="40%").manifest)


REASONS = {
    "mask_missing": [1],
    "mask_size_mismatch": [2],
    "prepare_error": [3, 13],
    "empty": [4],
    "prepare_result": [5],
    "not_an_image": [6],
    "wrong_shape": [7],
    "truncated": [8],
    "unlucky": [9],
    "wrong_features": [11],
}


def test_every_example_is_written_quarantined_or_filtered(made: Committed):
    manifest = made.manifest
    assert manifest.read == 40
    assert manifest.reasons.filtered == {"tens": 4}
    assert manifest.reasons.quarantined == {code: len(numbers) for code, numbers in REASONS.items()}
    lost = {0, 10, 20, 30, *(number for numbers in REASONS.values() for number in numbers)}
    written = [example["key"].decode() for example in made.examples("train")]
    assert sorted(int(key[-7:-4]) for key in written) == sorted(set(range(40)) - lost)
    assert manifest.written == len(written)
    assert len(manifest.warnings) == 1
    assert "orphan.png" in manifest.warnings[0]


def test_the_quarantine_says_what_was_wrong_with_what(made: Committed):
    lines = []
    for file in made.manifest.quarantine:
        text = (made.path / file.path).read_text().splitlines()
        assert len(text) == file.examples
        lines += [json.loads(line) for line in text]
    assert Counter(line["code"] for line in lines) == {code: len(numbers) for code, numbers in REASONS.items()}
    for line in lines:
        assert int(line["key"][-7:-4]) in REASONS[line["code"]]
        assert Path(line["uri"]).exists()
        assert line["message"]
        assert line["stage"] in {"plan", "decode", "prepare", "encode"}
        assert (line["sha256"] is None) == (line["stage"] == "plan")
    (mask,) = [line for line in lines if line["code"] == "mask_size_mismatch"]
    assert mask["uri"].endswith("masks/cat_002.png")


def test_filtered_examples_are_listed_with_their_reasons(made: Committed):
    lines = []
    for file in made.manifest.filtered_lists:
        listed = (made.path / file.path).read_text().splitlines()
        assert len(listed) == file.examples
        lines += [json.loads(line) for line in listed]
    assert {(int(line["key"][-7:-4]), line["reason"]) for line in lines} == {(each, "tens") for each in (0, 10, 20, 30)}


def test_of_each_reason_an_example_is_told(made: Committed):
    reasons = made.manifest.reasons
    assert reasons.filtered_examples.keys() == {"tens"}
    assert int(reasons.filtered_examples["tens"][-7:-4]) % 10 == 0
    assert reasons.quarantined_examples.keys() == REASONS.keys()
    for code, example in reasons.quarantined_examples.items():
        key, _, message = example.partition(": ")
        assert int(key[-7:-4]) in REASONS[code]
        assert message


def test_what_was_written_is_what_the_functions_made(made: Committed):
    for example in made.examples("train"):
        key = example["key"].decode()
        original = pixels((made.source / key).read_bytes())
        assert np.array_equal(pixels(example["image"]), original[:, ::-1])
        mask = pixels((made.source / key.replace("images", "masks")).read_bytes())
        assert np.array_equal(pixels(example["mask"]), mask)
        assert example["extra"] == [float(key[-7:-4]), 0.5]
        assert example["name"].decode() == f"é{int(key[-7:-4])}"
        assert example["label"].decode() == ("cat" if "cat" in key else "dog")


def test_a_shards_index_says_where_its_records_begin(made: Committed):
    for shard in made.manifest.splits["train"].shards:
        content = (made.path / shard.path).read_bytes()
        offsets = np.frombuffer((made.path / shard.index.path).read_bytes(), "<u8").tolist()
        assert len(offsets) == shard.examples + 1
        assert (offsets[0], offsets[-1]) == (0, len(content))
        for start, end in itertools.pairwise(offsets):
            assert int.from_bytes(content[start : start + 8], "little") == end - start - 16


def test_threads_change_no_byte(made: Committed, tmp_path: Path):
    shutil.copytree(made.source, tmp_path / "raw", copy_function=shutil.copy2)
    recipes = Recipe(source=Images("images/*_0[123]*.png"), prepare=[add], shards=2)
    hashes = []
    for threads in (1, 5):
        manifest = run_job(recipes, tmp_path / "raw", tmp_path / str(threads), "3" * 64, threads=threads).manifest
        hashes.append([shard.file.sha256 for shard in manifest.splits["train"].shards])
    assert hashes[0] == hashes[1]


def test_masks_keep_their_classes(tmp_path: Path):
    raw = draw(tmp_path / "raw", 8, (40, 30), masks=True)
    recipe = Recipe(source=SOURCE, prepare=[image.resize(17, 23, fit="letterbox", mask_fill=2)])
    dataset = Committed(tmp_path / "dataset", raw, run_job(recipe, raw, tmp_path / "dataset").manifest)
    for example in dataset.examples("train"):
        mask = pixels(example["mask"])
        assert mask.shape == (17, 23, 1)
        assert set(np.unique(mask)) <= {1, 2, 3}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"unit": 0}', b'{"unit": 0, "read": 1, "shards": 5}'])
def test_a_damaged_journal_is_none(tmp_path: Path, content: bytes):
    from penstock.pipeline.build.journal import Journal

    Journal(unit=0, read=1, shards={}).write(str(tmp_path))
    assert Journal.read_finished(str(tmp_path), 0)
    (tmp_path / "_work/units/00000.json").write_bytes(content)
    assert Journal.read_finished(str(tmp_path), 0) is None


def test_a_worker_that_makes_units_needs_no_tensorflow(tmp_path: Path) -> None:
    draw(tmp_path / "images", 8)
    recipe = Recipe(
        source=Images("images/*.png"),
        features=lambda inputs: {"image": image.standardize(inputs, "image")},
        splits={"train": 1.0},
    )
    asked = request(recipe, tmp_path / "images", tmp_path / "out")
    job = prepare_job(asked, plan(asked))
    program = (
        "import sys, pickle; import penstock.pipeline.build.phases;"
        "stage = pickle.load(sys.stdin.buffer); stage.setup();"
        "print(type(stage).__name__, *{'tensorflow', 'tensorflow_transform', 'tfx_bsl'} & {*sys.modules})"
    )
    stage = cloudpickle.dumps(MakeUnits(job.make, job.make.run))
    done = subprocess.run([sys.executable, "-c", program], input=stage, check=True, capture_output=True)
    assert done.stdout.decode().strip() == "MakeUnits"
