"""The real data from store to store: the bytes of a local run, verified, and loaded alike."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import REPOSITORY, differences
from stores.data import sample, shards, upload
from stores.servers import Store

from penstock.pipeline import open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.planned_run import RunRequest
from penstock.pipeline.planning.recipe import load_recipe
from penstock.runners.run import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "patterns", "source", "output"),
    [
        ("pets", {"images/*.jpg": 10, "annotations/**/*.*": 1}, "s3", "s3"),
        ("pets", {"images/*.jpg": 10, "annotations/**/*.*": 1}, "local", "azure"),
        ("clothing", {"*/*/*.jpg": 10}, "s3", "gcs"),
        ("census", {"adult.data": 1}, "gcs", "local"),
        ("census", {"adult.data": 1}, "local", "s3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_example_of_the_documentation(
    real_data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    use: Callable[..., None],
    folder_names: Callable[[], str],
    name: str,
    patterns: dict[str, int],
    source: str,
    output: str,
):
    raw, places = sample(real_data / name, tmp_path / "raw", patterns), {}
    for place in {source, output} - {"local"}:
        store: Store = request.getfixturevalue(place)
        use(store)
        places[place] = store.uri(f"{folder_names()}/{name}")
    recipe = load_recipe(str(REPOSITORY / "examples" / f"{name}.py"))

    def made(input: str, output: str) -> Manifest:
        return run(RunRequest(recipe, input, output)).manifest

    expected = made(str(raw), str(tmp_path / "expected"))
    there = str(raw) if source == "local" else upload(raw, places[source] + "-raw")
    target = places.get(output, str(tmp_path / "dataset"))
    manifest = made(there, target)
    assert manifest.read == expected.read > 50
    assert shards(manifest) == shards(expected)
    assert list(verify(target)) == []
    ours, theirs = (
        open_dataset(uri).numpy("train", 64, shuffle="exact") for uri in (target, str(tmp_path / "expected"))
    )
    for loaded, reference in zip(ours, theirs, strict=True):
        assert differences(loaded, reference) == []
