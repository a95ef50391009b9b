"""examples/census.py on the real file, against NumPy and pandas-like counting by hand."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import REPOSITORY, Made, apply_graph, run_job

from penstock.pipeline.planning.recipe import load_recipe

NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
SCALED = ("age", "capital-gain", "capital-loss", "hours-per-week")
CATEGORIES = (
    "workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country",
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(real_data: Path) -> dict[str, list[str]]:
    """The columns as they are written, read by Python's own csv."""
    with (real_data / "census/adult.data").open(newline="") as file:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    return {name: [row[at] for row in rows] for at, name in enumerate(header)}


@pytest.fixture(scope="module")
def census(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    recipe = load_recipe(str(REPOSITORY / "examples/census.py")).recipe
    path = tmp_path_factory.mktemp("census") / "dataset"
    return Made(path, run_job(recipe, real_data / "census", path).manifest)


@pytest.fixture(scope="module")
def stored(census: Made) -> list[dict]:
    return census.rows()


@pytest.fixture(scope="module")
def outputs(census: Made) -> dict[str, np.ndarray]:
    return census.apply()


def test_all_rows_are_there(census: Made):
    counts = {name: getattr(census.manifest, name) for name in ("read", "written", "quarantined", "filtered")}
    assert counts == {"read": 32561, "written": 32561, "quarantined": 0, "filtered": 0}
    assert census.statistics["classification"]["top"] == {"<=50K": 24720, ">50K": 7841}


def test_question_marks_are_missing(census: Made):
    missing = {name: entry["missing"] for name, entry in census.statistics.items() if entry["missing"]}
    assert missing == {"workclass": 1836, "occupation": 1843, "native-country": 583}


@pytest.mark.parametrize("name", NUMBERS)
def test_moments_are_numpys_in_two_passes(census: Made, raw: dict[str, list[str]], name: str):
    values = np.array([float(cell) for cell in raw[name]], np.longdouble)
    mean = values.sum() / len(values)
    std = np.sqrt(((values - mean) ** 2).sum() / len(values))
    entry = census.statistics[name]
    assert entry["mean"] == pytest.approx(float(mean), rel=1e-15)
    assert entry["std"] == pytest.approx(float(std), rel=1e-15)
    assert entry["std"] == pytest.approx(np.std(np.array(raw[name], np.float64)), rel=1e-12)
    assert (entry["min"], entry["max"], entry["count"]) == (values.min(), values.max(), 32561)


@pytest.mark.parametrize("name", CATEGORIES)
def test_vocabularies_are_in_the_order_of_counts_and_tokens(census: Made, raw: dict[str, list[str]], name: str):
    counts = Counter(cell.encode() for cell in raw[name] if cell != "?")
    tokens = [token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    assert census.assets()[name.replace("-", "_")] == tokens
    top = census.statistics[name]["top"]
    assert top == {token.decode(): count for token, count in counts.items()}


def test_the_stored_rows_are_those_of_the_file(raw: dict[str, list[str]], stored: list[dict]):
    def written(cell: str) -> object:
        return None if cell == "?" else int(cell) if cell.lstrip("-").isdigit() else cell.encode()

    names = sorted(raw)
    expected = Counter(zip(*([written(cell) for cell in raw[name]] for name in names), strict=True))
    assert Counter(tuple(row.get(name) for name in names) for row in stored) == expected


@pytest.mark.parametrize("name", SCALED)
def test_z_scores(raw: dict[str, list[str]], stored: list[dict], outputs: dict[str, np.ndarray], name: str):
    values = np.array(raw[name], np.float64)
    rows = np.array([row[name] for row in stored], np.float64)
    expected = (rows - values.mean()) / values.std()
    np.testing.assert_allclose(outputs[name], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CATEGORIES)
def test_ids(raw: dict[str, list[str]], stored: list[dict], outputs: dict[str, np.ndarray], name: str):
    counts = Counter(cell.encode() for cell in raw[name] if cell != "?")
    ids = {token: at for at, token in enumerate(sorted(counts, key=lambda token: (-counts[token], token)))}
    missing = len(ids) + 1  # after the bucket of unknown ones
    assert outputs[name].tolist() == [ids[row[name]] if name in row else missing for row in stored]


def test_buckets(raw: dict[str, list[str]], stored: list[dict], outputs: dict[str, np.ndarray]):
    ages = np.sort(np.array(raw["age"], np.int64))
    boundaries = np.quantile(ages, np.arange(1, 10) / 10, method="inverted_cdf")
    rows = np.array([row["age"] for row in stored])
    assert outputs["age-bucket"].tolist() == np.searchsorted(boundaries, rows, "right").tolist()
    for place, boundary in enumerate(boundaries, 1):  # the bar: a rank error within epsilon
        low, high = (np.searchsorted(ages, boundary, side) / len(ages) for side in ("left", "right"))
        assert low - 0.01 <= place / 10 <= high + 0.01


def test_labels(stored: list[dict], outputs: dict[str, np.ndarray]):
    assert outputs["label"].tolist() == [int(row["classification"] == b">50K") for row in stored]


@pytest.mark.parametrize("units", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 7])
def test_the_number_of_units_and_the_size_of_ranges_change_no_bit(
    census: Made, real_data: Path, tmp_path: Path, units: int, monkeypatch: pytest.MonkeyPatch
):
    from dataclasses import replace

    from penstock.pipeline.planning import plan

    monkeypatch.setattr(plan, "RANGE_BYTES", {1: 1 << 30, 2: 1 << 20, 7: 77_777}[units])
    recipe = replace(load_recipe(str(REPOSITORY / "examples/census.py")).recipe, shards=units)
    other = Made(tmp_path / "dataset", run_job(recipe, real_data / "census", tmp_path / "dataset").manifest)
    assert len(other.manifest.splits["train"].shards) == units
    assert other.statistics_file == census.statistics_file
    assert other.assets() == census.assets()
    assert sorted(other.records()) == sorted(census.records())
    records = census.records()[:2000]
    for name, value in census.apply().items():
        found = _apply(other, records)[name]
        assert found.tobytes() == value[:2000].tobytes(), name


def _apply(made: Made, records: list[bytes]) -> dict[str, np.ndarray]:
    return apply_graph(str(made.generation / "transform_graph"), records)


@pytest.mark.slow
def test_two_splits(real_data: Path, tmp_path: Path):
    recipe = load_recipe(f"{REPOSITORY}/examples/census.py:evaluated").recipe
    made = Made(tmp_path / "dataset", run_job(recipe, real_data / "census", tmp_path / "dataset").manifest)
    counts = {name: split.examples for name, split in made.manifest.splits.items()}
    assert counts == {"train": 32561, "test": 16281}
    assert made.statistics_file["examples"] == 32561
