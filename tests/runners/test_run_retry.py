"""`--retry` tries again what was quarantined, and `--keep-prepared` takes over what an earlier `prepare` has made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Made, draw, penstock, quarantined, request, run_job

from penstock.pipeline import Csv, Images, Recipe
from penstock.pipeline.errors import RequestError
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.job import plan
from penstock.pipeline.prepare import payloads
from penstock.pipeline.prepare.tables import TablePreparer
from penstock.runners.reuse import planned_in_words
from penstock.runners.run import run
from penstock.transforms import columns
from penstock.transforms.outcome import Rejected

HASH = "a" * 64
OPTIONS: dict[str, Any] = {"max_quarantined": "90%"}
STATE: dict[str, Any] = {"fails": True, "factor": 1}


@pytest.fixture(autouse=True)
def state() -> None:
    STATE.update(fails=True, factor=1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the images, and of the ranges, that are read."""
    keys: list[str] = []
    of_image, of_table = payloads.read_payload, TablePreparer.read

    def read_payload(uri: str, *arguments: Any, **options: Any) -> Any:
        keys.append("/".join(Path(uri).parts[-2:]))
        return of_image(uri, *arguments, **options)

    def read_range(self: Any, record_range: Any) -> Any:
        keys.append(f"{record_range.key}:{record_range.begin}")
        return of_table(self, record_range)

    monkeypatch.setattr(payloads, "read_payload", read_payload)
    monkeypatch.setattr(TablePreparer, "read", read_range)
    return keys


def step(example: dict[str, Any]) -> dict[str, Any]:
    """Fails like a service that is down."""
    if STATE["fails"] and np.asarray(example["image"])[0, 0].sum() % 5 == 0:
        if STATE["fails"] == "otherwise":
            raise Rejected("elsewhere", "no answer")
        raise ValueError("no answer")
    return {**example, "factor": STATE["factor"]}


IMAGES = Recipe(source=Images("images/*.png"), prepare=[step], shards=3)


def records(output: Path, manifest: Manifest) -> list[bytes]:
    return sorted(Made(output, manifest).records("train"))


def again(recipe: Recipe, source: Path, output: Path, read: list[str], hash: str = HASH, **options: Any) -> Any:
    """A run's result, after which `read` has what the run itself read, and not what its plan tried."""
    asked = request(recipe, source, output, hash, **{**OPTIONS, **options})
    read.clear()
    plan(asked)
    tried = list(read)
    read.clear()
    result = run(asked)
    for key in tried:
        read.remove(key)
    return result


def test_only_what_was_quarantined_is_read_again(tmp_path: Path, read: list[str]):
    raw, output = draw(tmp_path / "raw", 60), tmp_path / "out"
    first = run_job(IMAGES, raw, output, HASH, **OPTIONS).manifest
    lost = {line["key"] for line in quarantined(Made(output, first).generation)}
    assert 0 < len(lost) < 20
    STATE["fails"] = False
    assert again(IMAGES, raw, output, read).status == "up_to_date"
    assert not read
    result = again(IMAGES, raw, output, read, retry=True)
    assert (result.status, result.manifest.quarantined, result.manifest.written) == ("committed", 0, 60)
    assert sorted(read) == sorted(lost)
    assert result.manifest.generation != first.generation
    full = run_job(IMAGES, raw, tmp_path / "full", HASH, **OPTIONS).manifest
    assert records(output, result.manifest) == records(tmp_path / "full", full)
    assert result.manifest.identity.content == full.generation
    assert again(IMAGES, raw, output, read).status == "up_to_date"
    nothing = again(IMAGES, raw, output, read, retry=True)
    assert (nothing.status, nothing.manifest.generation) == ("up_to_date", result.manifest.generation)
    assert not read
    planned = plan(request(IMAGES, raw, output, HASH, retry=True, **OPTIONS))
    assert "nothing to try again" in planned_in_words(planned)


def names(output: Path) -> list[str]:
    return sorted(path.name for path in output.iterdir() if path.is_dir())


def test_nothing_changes_where_all_that_is_tried_again_fails_again(tmp_path: Path, read: list[str]):
    raw, output = draw(tmp_path / "raw", 60), tmp_path / "out"
    first = run_job(IMAGES, raw, output, HASH, **OPTIONS).manifest
    pointer = (output / "_DATASET.json").read_bytes()
    result = again(IMAGES, raw, output, read, retry=True)
    assert len(read) == first.quarantined
    assert (result.status, result.manifest) == ("up_to_date", first)
    assert result.note == "what had been quarantined is quarantined again: nothing changed"
    assert names(output) == [first.generation]
    assert (output / "_DATASET.json").read_bytes() == pointer
    damaged = output / first.splits["train"].shards[0].file.path
    damaged.unlink()
    repaired = again(IMAGES, raw, output, read, retry=True)
    assert (repaired.status, repaired.manifest.written) == ("committed", first.written)


def test_one_that_fails_otherwise_makes_a_generation(tmp_path: Path):
    raw, output = draw(tmp_path / "raw", 60), tmp_path / "out"
    first = run_job(IMAGES, raw, output, HASH, **OPTIONS).manifest
    STATE["fails"] = "otherwise"
    second = run_job(IMAGES, raw, output, HASH, retry=True, **OPTIONS).manifest
    assert second.generation != first.generation
    assert (second.written, second.reasons.quarantined) == (first.written, {"elsewhere": first.quarantined})


def test_what_fails_again_is_laid_out_anew_where_that_is_asked_for(tmp_path: Path):
    raw, output = draw(tmp_path / "raw", 60), tmp_path / "out"
    recipe = replace(IMAGES, shards=None)
    run_job(recipe, raw, output, HASH, **OPTIONS)
    shutil.copy(raw / "images/cat_002.png", raw / "images/new_000.png")
    delta = run_job(recipe, raw, output, HASH, **OPTIONS).manifest
    assert delta.generation != delta.identity.content
    full = run_job(recipe, raw, output, HASH, retry=True, full=True, **OPTIONS)
    assert (full.status, full.manifest.quarantined) == ("committed", delta.quarantined)
    same = run_job(recipe, raw, output, HASH, retry=True, **OPTIONS)
    assert (same.status, same.manifest.generation) == ("up_to_date", full.manifest.generation)


def test_a_table_without_a_unit_that_can_stay_is_not_changed_either(tmp_path: Path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_text("x\n" + "".join(f"{number}\n" for number in range(100)))
    first = run_job(TABLES, tmp_path / "raw", tmp_path / "out", HASH, **OPTIONS).manifest
    result = run_job(TABLES, tmp_path / "raw", tmp_path / "out", HASH, retry=True, **OPTIONS)
    assert first.quarantined
    assert (result.status, result.manifest, bool(result.note)) == ("up_to_date", first, True)
    assert names(tmp_path / "out") == [first.generation]


def test_new_images_and_those_that_are_tried_again_are_read(tmp_path: Path, read: list[str]):
    raw, output = draw(tmp_path / "raw", 60), tmp_path / "out"
    first = run_job(IMAGES, raw, output, HASH, **OPTIONS).manifest
    lost = {line["key"] for line in quarantined(Made(output, first).generation)}
    shutil.copy(raw / "images/cat_002.png", raw / "images/new_000.png")
    STATE["fails"] = False
    result = again(IMAGES, raw, output, read, retry=True).manifest
    assert sorted(read) == sorted([*lost, "images/new_000.png"])
    assert (result.written, result.quarantined) == (61, 0)


def of_batch(batch: Any) -> Any:
    if STATE["fails"]:
        values = batch["x"].to_pylist()
        if any(value % 97 == 5 for value in values):
            raise ValueError("no answer")
    return batch


TABLES = Recipe(source=Csv("*.csv"), prepare=[columns.vectorized(of_batch)], shards=4)


def write_tables(folder: Path) -> Path:
    folder.mkdir()
    for name in range(4):
        rows = range(1000) if name == 1 else range(10, 97)
        (folder / f"{name}.csv").write_text("x\n" + "".join(f"{number}\n" for number in rows))
    return folder


def test_ranges_of_tables_with_rows_that_were_quarantined_are_read_again(tmp_path: Path, read: list[str]):
    raw, output = write_tables(tmp_path / "raw"), tmp_path / "out"
    first = run_job(TABLES, raw, output, HASH, **OPTIONS).manifest
    assert first.quarantined == 11
    STATE["fails"] = False
    result = again(TABLES, raw, output, read, retry=True)
    assert (result.status, result.manifest.quarantined) == ("committed", 0)
    assert {key.partition(":")[0] for key in read} == {"1.csv"}
    assert result.manifest.delta.examples == 3 * 87
    full = run_job(TABLES, raw, tmp_path / "full", HASH, **OPTIONS).manifest
    assert records(output, result.manifest) == records(tmp_path / "full", full)
    assert again(TABLES, raw, output, read, retry=True).status == "up_to_date"


def test_examples_of_an_earlier_prepare_are_kept_at_the_users_word(tmp_path: Path, read: list[str]):
    raw, output = draw(tmp_path / "raw", 60), tmp_path / "out"
    first = run_job(IMAGES, raw, output, HASH, frame="f" * 64, **OPTIONS).manifest
    lost = {line["key"] for line in quarantined(Made(output, first).generation)}
    STATE.update(fails=False, factor=2)
    fixed: dict[str, Any] = {"hash": "b" * 64, "frame": "f" * 64, "keep_prepared": True}
    shutil.copy(raw / "images/cat_002.png", raw / "images/new_000.png")
    result = again(IMAGES, raw, output, read, retry=True, **fixed)
    assert sorted(read) == sorted([*lost, "images/new_000.png"])
    manifest = result.manifest
    assert manifest.delta.shapes == (first.identity.shape,)
    assert manifest.identity.shape != first.identity.shape
    assert any("made by an earlier `prepare`" in warning for warning in manifest.warnings)
    factors = [row["factor"] for row in Made(output, manifest).rows("train")]
    assert sorted(factors) == [1] * (60 - len(lost)) + [2] * (len(lost) + 1)
    fixed["keep_prepared"] = False
    assert again(IMAGES, raw, output, read, **fixed).status == "up_to_date"
    shutil.copy(raw / "images/cat_002.png", raw / "images/new_001.png")
    later = again(IMAGES, raw, output, read, **fixed).manifest
    assert read == ["images/new_001.png"]
    assert later.delta.shapes == (first.identity.shape,)
    pure = again(IMAGES, raw, output, read, full=True, **fixed).manifest
    assert (pure.delta, len(read), pure.generation) == (None, 62, pure.identity.content)


def test_nothing_changed_but_prepare_and_all_is_kept(tmp_path: Path, read: list[str]):
    raw, output = draw(tmp_path / "raw", 30), tmp_path / "out"
    first = run_job(IMAGES, raw, output, HASH, frame="f" * 64, **OPTIONS).manifest
    result = again(IMAGES, raw, output, read, "b" * 64, frame="f" * 64, keep_prepared=True).manifest
    assert not read
    assert (result.written, result.quarantined) == (first.written, first.quarantined)
    assert result.generation not in (first.generation, result.identity.content)
    assert records(output, result) == records(output, first)


@pytest.mark.parametrize(
    ("frame", "changed", "why"),
    [
        ("e" * 64, {}, "something else than `prepare`"),
        ("", {}, "something else than `prepare`"),
        ("f" * 64, {"prepare": [lambda example: {**example, "more": 1}]}, "something else than `prepare`"),
    ],
)
def test_nothing_else_than_prepare_may_be_another(tmp_path: Path, frame: str, changed: dict[str, Any], why: str):
    raw, output = draw(tmp_path / "raw", 30), tmp_path / "out"
    STATE["fails"] = False
    run_job(IMAGES, raw, output, HASH, frame="f" * 64, **OPTIONS)
    with pytest.raises(RequestError, match=f"--keep-prepared: expected examples that can be taken over.*{why}"):
        run_job(replace(IMAGES, **changed), raw, output, "b" * 64, frame=frame, keep_prepared=True, **OPTIONS)


def test_the_command_tries_again(tmp_path: Path):
    raw = draw(tmp_path / "raw", 30)
    text = (
        "from penstock.pipeline import Images, Recipe\n"
        "import numpy as np\n"
        "def step(example):\n"
        "    if np.asarray(example['image'])[0, 0].sum() % 5 == 0:\n        raise ValueError('no')\n"
        "    return example\n"
        "recipe = Recipe(source=Images('images/*.png'), prepare=[step])\n"
    )
    recipe = tmp_path / "recipe.py"
    recipe.write_text(text)
    command = ["run", recipe, "--input", raw, "--output", tmp_path / "out", "--json", "--max-quarantined", "50%"]
    first = json.loads(penstock(*command).stdout)
    assert first["quarantined"]
    recipe.write_text(text.replace("raise ValueError('no')", "pass  # it is good after all"))
    ended = penstock(*command, "--retry", "--keep-prepared")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["status"], result["quarantined"], result["written"]) == ("committed", 0, 30)
    assert len(result["delta"]["shapes"]) == 1
