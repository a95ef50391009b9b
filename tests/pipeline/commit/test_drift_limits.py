"""The current generation as a contract: what is beyond it fails a run, and nothing is committed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import LABEL, request, run_job, save, write

from penstock.pipeline import Csv, Images, PenstockError, Recipe, RequestError
from penstock.pipeline.commit.drift import DriftLimits
from penstock.pipeline.commit.rollback import roll_back
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.job import plan

RECIPE = Recipe(source=Csv("*.csv"))
ROWS = [(number % 100, f"w{number % 4}") for number in range(400)]
CONTRACT = DriftLimits()


def raw(folder: Path, rows: list[tuple[Any, ...]], header: str = "n,t") -> Path:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    return write(folder / "raw", {"a.csv": "\n".join(lines) + "\n"})


def run(folder: Path, rows: list[tuple[Any, ...]], drift: DriftLimits | None = CONTRACT, header: str = "n,t") -> Any:
    return run_job(RECIPE, raw(folder, rows, header), folder / "dataset", "1" * 64, drift=drift)


def current(folder: Path) -> str:
    return Manifest.load(str(folder / "dataset")).generation


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of one generation: the first run has nothing to be like."""
    assert run(tmp_path, ROWS).status == "committed"
    return tmp_path


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [(n, "new" if at < 5 else t) for at, (n, t) in enumerate(ROWS)],
            "'t': 1.25 % of its values are new, such as 'new'",
        ),
        ([(n + 15, t) for n, t in ROWS], "column 'n': its mean moved by 0.52 standard deviations"),
        (
            [("" if at < 5 else n, t) for at, (n, t) in enumerate(ROWS)],
            "column 'n': 1.25% more of its values are missing",
        ),
        (
            [(n, "w0" if at % 2 else t) for at, (n, t) in enumerate(ROWS)],
            "column 't': the shares of its values moved by ",
        ),
    ],
    ids=["new values", "mean", "missing", "shares"],
)
def test_values_beyond_a_limit_fail_the_run_and_are_accepted_without_the_flag(
    folder: Path, rows: list[tuple[Any, ...]], words: str
):
    before = current(folder)
    with pytest.raises(PenstockError) as raised:
        run(folder, rows)
    assert words in str(raised.value)
    assert "nothing was committed" in str(raised.value)
    assert "accept this by a run without --fail-on-drift" in str(raised.value)
    assert raised.value.exit_code == 1
    assert current(folder) == before
    shards = {path: path.stat().st_mtime_ns for path in (folder / "dataset").rglob("*.tfrecord")}
    assert len(shards) == 2  # what was made stays for the run that accepts it
    assert run_job(RECIPE, folder / "raw", folder / "dataset", "1" * 64).status == "committed"
    assert current(folder) != before
    assert {path: path.stat().st_mtime_ns for path in (folder / "dataset").rglob("*.tfrecord")} == shards


@pytest.mark.parametrize(
    ("rows", "limits"),
    [
        ([(n, "new" if at < 4 else t) for at, (n, t) in enumerate(ROWS)], CONTRACT),
        ([(n + 14, t) for n, t in ROWS], CONTRACT),
        ([(n + 15, t) for n, t in ROWS], DriftLimits(mean=0.6)),
        ([(n, "new" if at < 5 else t) for at, (n, t) in enumerate(ROWS)], DriftLimits(new_values=0.02)),
        (ROWS[:-7], CONTRACT),
    ],
)
def test_values_within_the_limits_are_committed(folder: Path, rows: list[tuple[Any, ...]], limits: DriftLimits):
    assert run(folder, rows, limits).status == "committed"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("n,u", "missing column 't' (string); new column 'u' (string)"),
        ("t,n", "new type of column 't': int64, was string; new type of column 'n': string, was int64"),
    ],
)
def test_other_columns_are_told_before_any_work(folder: Path, header: str, words: str):
    before = sorted((folder / "dataset").rglob("*"))
    with pytest.raises(RequestError) as raised:
        run(folder, ROWS, header=header)
    assert words in str(raised.value)
    assert sorted((folder / "dataset").rglob("*")) == before
    with pytest.raises(RequestError):  # `--dry-run`, too
        plan(request(RECIPE, folder / "raw", folder / "dataset", "1" * 64, drift=CONTRACT))
    assert run(folder, ROWS, None, header).status == "committed"


def test_features_that_are_stored_otherwise_are_told(folder: Path):
    def square(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "n": float(example["n"]), "square": example["n"] ** 2}

    recipe = Recipe(source=Csv("*.csv"), prepare=[square])
    with pytest.raises(RequestError) as raised:
        run_job(recipe, folder / "raw", folder / "dataset", drift=CONTRACT)
    assert "feature 'n': number float32, was number int64" in str(raised.value)
    assert "feature 'square': number int64, was none" in str(raised.value)


def test_labels_of_images_are_values(tmp_path: Path):
    source = tmp_path / "raw"
    for number in range(40):
        save(source / "images" / f"{'cat' if number % 2 else 'dog'}_{number}.png", np.full((4, 4, 3), number))
    recipe = Recipe(source=Images("images/*.png", label=LABEL))
    run_job(recipe, source, tmp_path / "dataset", "1" * 64)
    save(source / "images" / "cow_1.png", np.full((4, 4, 3), 3))
    with pytest.raises(PenstockError, match=r"column 'label': 2.44 % of its values are new, such as 'cow'"):
        run_job(recipe, source, tmp_path / "dataset", "1" * 64, drift=CONTRACT)
    (source / "images" / "cow_1.png").unlink()
    for path in (source / "images").glob("*.png"):
        save(path, np.full((4, 4, 3), 255))
    with pytest.raises(PenstockError, match=r"column 'image': its mean moved by \d"):
        run_job(recipe, source, tmp_path / "dataset", "1" * 64, drift=CONTRACT)


def test_a_generation_that_is_there_is_no_way_around_it(folder: Path):
    first = current(folder)
    drifted = [(n + 50, t) for n, t in ROWS]
    second = run(folder, drifted, None).manifest.generation
    roll_back(str(folder / "dataset"))
    assert current(folder) == first
    with pytest.raises(PenstockError, match="its mean moved by"):
        run_job(RECIPE, folder / "raw", folder / "dataset", "1" * 64, drift=CONTRACT)
    assert current(folder) == first
    assert run_job(RECIPE, folder / "raw", folder / "dataset", "1" * 64).status == "up_to_date"
    assert current(folder) == second
    assert run_job(RECIPE, folder / "raw", folder / "dataset", "1" * 64, drift=CONTRACT).status == "up_to_date"


def test_a_damaged_contract_is_none(folder: Path):
    manifest = Manifest.load(str(folder / "dataset"))
    (folder / "dataset" / manifest.statistics.values.path).write_bytes(b"damaged")
    with pytest.raises(PenstockError, match=r"values.arrow: expected .* run `penstock verify`"):
        run(folder, ROWS[:-1])
    assert run(folder, ROWS[:-1], None).status == "committed"
