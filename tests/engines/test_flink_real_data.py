"""The examples of the documentation on real data, on a Flink cluster: the bytes of the in-process runner."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from engines.jobs import STREAMING, Job, expect_same
from helpers import REPOSITORY
from stores.data import sample, upload
from stores.servers import Store


@pytest.mark.parametrize(
    ("name", "patterns", "source", "output", "beam"),
    [
        ("pets", {"images/*.jpg": 4, "annotations/**/*.*": 1}, "local", "local", ()),
        ("clothing", {"*/*/*.jpg": 8}, "s3", "s3", (STREAMING,)),
        ("census", {"adult.data": 1}, "s3", "local", ()),
        ("banking77", {"*.csv": 1}, "local", "s3", (STREAMING,)),
        pytest.param("pets", {"images/*.jpg": 1, "annotations/**/*.*": 1}, "s3", "s3", (), marks=pytest.mark.slow),
        pytest.param("clothing", {"*/*/*.jpg": 1}, "local", "local", (), marks=pytest.mark.slow),
        pytest.param("census", {"adult.data": 1}, "local", "s3", (STREAMING,), marks=pytest.mark.slow),
        pytest.param("banking77", {"*.csv": 1}, "s3", "local", (), marks=pytest.mark.slow),
    ],
)
def test_an_example_of_the_documentation(
    real_data: Path,
    on_flink: Callable[..., Job],
    reference: Callable[[Path, str], str],
    s3: Store,
    tmp_path: Path,
    name: str,
    patterns: dict[str, int],
    source: str,
    output: str,
    beam: tuple[str, ...],
):
    raw = sample(real_data / name, tmp_path / "raw", patterns)
    recipe = Path(shutil.copy(REPOSITORY / "examples" / f"{name}.py", tmp_path))
    there = str(raw) if source == "local" else upload(raw, s3.uri(f"{tmp_path.name}", "raw"))
    job = on_flink(recipe, there, output, *beam)
    assert job.run(tmp_path / "job.log") == 0
    manifest = expect_same(job.output, reference(recipe, str(raw)))
    assert manifest.read > 50
