"""One dataset whatever stores its input and output are on: made, verified, shown, loaded, exported, pruned."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, differences, request
from stores.data import RECIPES, raw_data, shards, table, upload
from stores.servers import Store

from penstock.pipeline import Csv, Recipe, open_dataset
from penstock.pipeline.build.shards import read_examples
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files
from penstock.runners.run import run

pytestmark = pytest.mark.slow

ROUTES = [
    ("local", "s3", "images"),
    ("s3", "s3", "images"),
    ("s3", "gcs", "images"),
    ("gcs", "local", "images"),
    ("azure", "azure", "images"),
    ("local", "gcs", "csv"),
    ("s3", "s3", "csv"),
    ("gcs", "azure", "csv"),
    ("azure", "local", "csv"),
    ("s3", "gcs", "json lines"),
    ("gcs", "s3", "parquet"),
]


@dataclass(frozen=True)
class Place:
    """The same raw data, and a folder for datasets, somewhere."""

    raw: str
    datasets: str


@dataclass(frozen=True)
class Made:
    """A dataset that was made, and the same one made from local files on the local disk."""

    recipe: Recipe
    hash: str
    source: str
    output: str
    manifest: Manifest
    local: str
    local_manifest: Manifest

    def run(self, **options: Any) -> Any:
        return run(request(self.recipe, self.source, self.output, self.hash, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, s3: Store, gcs: Store, azure: Store) -> Iterator[dict[str, Place]]:
    local = raw_data(tmp_path_factory.mktemp("raw"))
    found = {"local": Place(str(local), str(tmp_path_factory.mktemp("datasets")))}
    with pytest.MonkeyPatch.context() as patch:
        for name, store in (("s3", s3), ("gcs", gcs), ("azure", azure)):
            for variable, value in store.variables().items():
                patch.setenv(variable, value)
            found[name] = Place(upload(local, store.uri("matrix", "raw")), store.uri("matrix"))
        yield found


@pytest.fixture(scope="module")
def made(places: dict[str, Place]) -> Callable[[str, str, str], Made]:
    """A dataset of each route, made when it is first asked for."""

    @cache
    def reference(name: str) -> tuple[Recipe, str, str, Manifest]:
        recipe, hash_ = RECIPES[name](), f"{list(RECIPES).index(name):064x}"
        output = files.join(places["local"].datasets, f"reference-{name}")
        return recipe, hash_, output, run(request(recipe, places["local"].raw, output, hash_)).manifest  # type: ignore[arg-type]

    @cache
    def make(source: str, output: str, name: str) -> Made:
        recipe, hash_, local, manifest = reference(name)
        uris = places[source].raw, files.join(places[output].datasets, f"{source}-{name.replace(' ', '-')}")
        result = run(request(recipe, *uris, hash_))  # type: ignore[arg-type]
        assert result.status == "committed"
        return Made(recipe, hash_, *uris, result.manifest, local, manifest)

    return make


@pytest.mark.parametrize("route", ROUTES, ids="-".join)
def test_the_bytes_are_those_of_a_local_run(made: Callable[..., Made], route: tuple[str, str, str]):
    dataset = made(*route)
    assert shards(dataset.manifest) == shards(dataset.local_manifest)
    for file in dataset.manifest.files():
        assert files.sha256(files.join(dataset.output, file.path)) == (file.sha256, file.bytes)


@pytest.mark.parametrize("route", ROUTES, ids="-".join)
def test_it_is_verified_and_shown(made: Callable[..., Made], route: tuple[str, str, str], cli: Cli):
    dataset = made(*route)
    assert list(verify(dataset.output)) == []
    shown = cli("inspect", dataset.output, "--json")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["manifest"]["read"] == dataset.local_manifest.read


@pytest.mark.parametrize("route", ROUTES, ids="-".join)
def test_it_is_made_once(made: Callable[..., Made], route: tuple[str, str, str]):
    dataset = made(*route)
    before = files.list_folder(dataset.output)
    assert dataset.run().status == "up_to_date"
    assert files.list_folder(dataset.output) == before


@pytest.mark.parametrize("route", ROUTES, ids="-".join)
def test_it_is_loaded(made: Callable[..., Made], route: tuple[str, str, str]):
    dataset = made(*route)
    here, there = open_dataset(dataset.output, verify=True), open_dataset(dataset.local)
    for order in ("exact", "window"):  # True is one of them on a local disk and the other one in a store
        batches = (each.numpy("train", 8, shuffle=order, seed=3) for each in (here, there))
        for loaded, expected in zip(*batches, strict=True):
            assert differences(loaded, expected) == []


@pytest.mark.parametrize("route", [ROUTES[1], ROUTES[2], ROUTES[4]], ids="-".join)
def test_tensorflow_loads_it(made: Callable[..., Made], route: tuple[str, str, str]):
    dataset = made(*route)
    for graph in (None, "saved"):
        arrays = [
            {name: value.numpy() for name, value in batch.items()}
            for batch in open_dataset(dataset.output).tf("test", 8, graph=graph)
        ]
        expected = open_dataset(dataset.local).numpy("test", 8)
        for ours, theirs in zip(arrays, expected, strict=True):
            assert differences(ours, theirs, ulps=2) == []


@pytest.mark.parametrize("route", [ROUTES[1], ROUTES[2], ROUTES[4], ROUTES[6]], ids="-".join)
def test_it_is_exported(made: Callable[..., Made], route: tuple[str, str, str], tmp_path: Path):
    import tensorflow as tf

    dataset = made(*route)
    for source, target in ((dataset.output, "there"), (dataset.local, "here")):
        open_dataset(source).export(str(tmp_path / target))
    signatures = [tf.saved_model.load(str(tmp_path / target)).signatures for target in ("there", "here")]
    shard = dataset.local_manifest.splits["test"].shards[0]
    records = list(read_examples(files.join(dataset.local, shard.path)))[:3]
    ours, theirs = (signature["examples"](tf.constant(records)) for signature in signatures)
    assert differences({k: v.numpy() for k, v in ours.items()}, {k: v.numpy() for k, v in theirs.items()}) == []


@pytest.mark.parametrize("output", ["s3", "gcs", "azure"])
def test_what_no_pointer_names_is_pruned(places: dict[str, Place], output: str, cli: Cli):
    uri = files.join(places[output].datasets, "pruned")
    recipe = table(Csv("people/*.csv"))
    first = run(request(recipe, places["local"].raw, uri)).manifest  # type: ignore[arg-type]
    second = run(request(recipe, places["local"].raw, uri)).manifest  # type: ignore[arg-type]
    assert set(files.list_names(uri)) >= {first.generation, second.generation}
    listed = cli("prune", uri)
    assert first.generation in listed.output
    assert set(files.list_names(uri)) >= {first.generation, second.generation}
    assert cli("prune", uri, "--yes").exit_code == 0
    assert first.generation not in files.list_names(uri)
    assert list(verify(uri)) == []
