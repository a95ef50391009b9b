"""The fixtures that all tests share. `helpers.py`, beside this file, can be imported by every test."""

import os
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from helpers import SHARED, STANDARD, Cli, Committed, Made, draw, run_job, standard_recipe, write


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped has failed")


def pytest_configure() -> None:
    # PyTorch imports its compiler where it is installed, and Triton aborts a process that TensorFlow is in.
    sys.modules["triton"] = None  # type: ignore[assignment]


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")
    if sys.platform != "linux":
        left_out = [item for item in items if item.get_closest_marker("linux")]
        items[:] = [item for item in items if not item.get_closest_marker("linux")]
        config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("extras"):
        for module in marker.args:
            pytest.importorskip(module, reason=f"{module} is not installed: `make test-extras` has it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _unskipped(item.config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _unskipped(collector.config, (yield))


def _unskipped(config: pytest.Config, report: Any) -> Any:
    """The report; with --no-skips, of a failure where it is one of a skipped test."""
    if report.skipped and not hasattr(report, "wasxfail") and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"expected no skipped test (--no-skips), found: {report.longrepr[2]}"
    return report


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 drawn images with masks."""
    return draw(tmp_path_factory.mktemp("shapes"), 40, (24, 16), masks=True)


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Committed:
    """The drawn images as a dataset; do not change it, `damaged` is for that."""
    path = tmp_path_factory.mktemp("committed") / "dataset"
    return Committed(path, shapes, run_job(standard_recipe(), shapes, path, STANDARD).manifest)


@pytest.fixture
def damaged(committed: Committed, tmp_path: Path) -> Committed:
    """A copy of the committed dataset, to be damaged."""
    shutil.copytree(committed.path, tmp_path / "damaged")
    return Committed(tmp_path / "damaged", committed.source, committed.manifest)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data. A test that asks for it has the mark `real_data`, and is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Writes files, runs a recipe of a table on them, and gives what came out."""

    def make_(files: Mapping[str, str | bytes] | Path, output: Path | None = None, **fields: Any) -> Made:
        from penstock.pipeline import Csv, Recipe

        options = {name: fields.pop(name) for name in ("hash", "max_quarantined", "threads") if name in fields}
        source = files if isinstance(files, Path) else write(tmp_path_factory.mktemp("raw"), files)
        output = output or tmp_path_factory.mktemp("made") / "dataset"
        recipe = Recipe(**{"source": Csv("*.csv"), **fields})
        return Made(output, run_job(recipe, source, output, **options).manifest)

    return make_
