"""Datasets that change, from store to store: the store copies what did not, and a run comes to what a full one does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from helpers import Made, draw, request, write
from stores.data import upload
from stores.proxy import Call, Proxy
from stores.servers import Store

from penstock.pipeline import Csv, Images, Recipe, by_hash, join, open_dataset, table
from penstock.pipeline.commit.compare import choose, compare
from penstock.pipeline.commit.history import history
from penstock.pipeline.commit.prune import remove_unused
from penstock.pipeline.commit.rollback import roll_back
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.planning.forgotten import NOTHING, Forgotten
from penstock.pipeline.storage import files
from penstock.runners.run import run
from penstock.transforms import categorical, image, numeric

pytestmark = pytest.mark.slow

TRIED = 4  # images that a plan prepares, to see what comes out
FORGOTTEN = "images/cat_008.png"
FAILING: set[str] = set()  # while a service that `prepare` needs is down


def ask_service(example: dict[str, Any]) -> dict[str, Any]:
    if example["key"] in FAILING:
        raise ValueError("no answer")
    return example


def standardized(inputs: Any) -> dict[str, Any]:
    return {
        "image": image.standardize(inputs, "image"),
        "label": categorical.vocabulary(inputs, "label"),
        "age": numeric.standardize(inputs, "age"),
    }


def scaled(inputs: Any) -> dict[str, Any]:
    return {"image": image.scale(inputs, "image"), "label": categorical.vocabulary(inputs, "label")}


@dataclass
class World:
    """A raw dataset that changes, in a store and on the local disk, and the dataset that is made of it in the store.

    Attributes:
      local: The raw dataset's folder.
      source: The same in the store.
      output: The dataset.
      proxy: What is asked of the store goes through it.
      labels: The images' labels.
      forget: What is to be forgotten.
      features: The recipe's.
      generations: The ids of the generations that were committed, in their order.
      asked: What the last run asked of the store.
    """

    local: Path
    source: str
    output: str
    proxy: Proxy
    labels: dict[str, str]
    forget: Forgotten = NOTHING
    features: Callable[[Any], dict[str, Any]] = standardized
    generations: list[str] = field(default_factory=list)
    asked: list[Call] = field(default_factory=list)

    def put(self, name: str, content: bytes) -> None:
        write(self.local, {name: content})
        files.write_bytes(files.join(self.source, name), content)

    def list_labels(self) -> None:
        """Writes the labels, and a column that is joined."""
        labels = "".join(f"{stem},{label}\n" for stem, label in self.labels.items())
        ages = "".join(f"{stem},{number % 9}\n" for number, stem in enumerate(self.labels))
        self.put("labels.csv", f"name,label\n{labels}".encode())
        self.put("ages.csv", f"name,age\n{ages}".encode())

    def add(self) -> None:
        stem = f"new_{sum(stem.startswith('new') for stem in self.labels):03d}"
        self.put(f"images/{stem}.png", (self.local / "images/cat_002.png").read_bytes())
        self.labels[stem] = "new"
        self.list_labels()

    def remove(self) -> None:
        path = sorted((self.local / "images").iterdir())[10]
        path.unlink()
        files.remove(files.join(self.source, f"images/{path.name}"))

    def relabel(self) -> None:
        self.labels["cat_005"] = "dog"
        self.list_labels()

    def change_features(self) -> None:
        self.features = scaled

    def leave(self) -> None:
        """Changes nothing."""

    def recover(self) -> None:
        FAILING.clear()

    def ask_to_forget(self) -> None:
        self.forget = Forgotten.of([FORGOTTEN])

    def request(self, source: object, output: object, **options: Any) -> Any:
        recipe = Recipe(
            source=join(Images("images/*.png", label=table("labels.csv", "name", "label")), Csv("ages.csv"), on="name"),
            prepare=[ask_service],
            features=self.features,
            splits=by_hash({"train": 0.7, "test": 0.3}),
            encode={"image": image.raw()},
        )
        graph = {standardized: "1" * 64, scaled: "2" * 64}[self.features]
        options = {"forget": self.forget, "max_quarantined": "1", **options}
        return request(recipe, source, output, "e" * 64, graph=graph, **options)  # type: ignore[arg-type]

    def run(self, **options: Any) -> Manifest:
        """Makes a generation in the store, and looks whether it is whole."""
        self.asked.clear()
        self.proxy.reset(self._note)
        result = run(self.request(self.source, self.output, **options))
        self.proxy.reset()
        assert result.status == "committed"
        assert list(verify(self.output, graph=False)) == []
        self.generations.append(result.manifest.generation)
        return result.manifest

    def _note(self, call: Call) -> str:
        self.asked.append(call)
        return ""

    def read(self, part: str) -> int:
        """How often the last run read an object of a part of the store."""
        return sum(call.kind == "get" and part in unquote(call.target) for call in self.asked)


def described(dataset: Made) -> dict[str, Any]:
    """All that does not depend on the layout."""
    manifest = dataset.manifest
    contents = ("statistics/statistics.json", "statistics/values.arrow", "transform_graph/portable.json")
    return {
        **{path: (dataset.generation / path).read_bytes() for path in contents},
        "examples": dataset.keyed(),
        "records": {name: sorted(dataset.records(name)) for name in manifest.splits},
        "reasons": (manifest.reasons.filtered, manifest.reasons.quarantined),
    }


def checksums(manifest: Manifest) -> list[str]:
    """Of all shards, in their order."""
    return [shard.file.sha256 for split in manifest.splits.values() for shard in split.shards]


def expect_as_full(world: World, manifest: Manifest, folder: Path) -> Manifest:
    """Holds a generation in the store against what a full run makes of the local files; returns that one's manifest."""
    root = files.join(world.output, manifest.generation)
    here = folder / "here" / manifest.generation
    write(here, {info.uri[len(root) + 1 :]: files.read_bytes(info.uri) for info in files.list_folder(root)})
    full = run(world.request(world.local, folder / "full")).manifest
    found = described(Made(here.parent, manifest))
    for name, value in described(Made(folder / "full", full)).items():
        assert found[name] == value, name
    return full


@pytest.fixture
def world(
    store: Store,
    use: Callable[..., None],
    proxied: Callable[..., Proxy],
    folder_names: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """40 images in several units of each split, one of which fails until the service is back."""
    FAILING.add("images/cat_001.png")
    monkeypatch.setattr("penstock.pipeline.planning.cut.SHARD_BYTES", 5_000)
    root, local = store.uri(folder_names()), draw(tmp_path / "raw", 40, (12, 10))
    proxy = proxied(store)
    use(store, proxy)
    labels = {path.stem: path.stem[:3] for path in sorted((local / "images").iterdir())}
    world = World(local, upload(local, files.join(root, "raw")), files.join(root, "dataset"), proxy, labels)
    world.list_labels()
    return world


HISTORY: list[tuple[Callable[[World], None], dict[str, Any], int]] = [  # a change, a run's options, images to prepare
    (World.add, {}, 1),
    (World.remove, {}, 0),
    (World.relabel, {}, 1),
    (World.change_features, {}, 0),
    (World.recover, {"retry": True}, 1),
    (World.ask_to_forget, {}, 0),
    (World.leave, {"full": True}, 0),
    (World.add, {}, 1),
]


def test_a_history_ends_where_full_runs_do(world: World, tmp_path: Path):
    world.run()
    for number, (change, options, new) in enumerate(HISTORY):
        change(world)
        manifest = world.run(**options)
        assert manifest.delta, change
        assert manifest.delta.base == world.generations[-2], change
        assert world.read("/raw/images/") == TRIED + new, change
        full = expect_as_full(world, manifest, tmp_path / str(number))
        if options.get("full"):
            assert checksums(manifest) == checksums(full)
    assert world.read("/data/") == 1  # the commit's look at the graph; all other shards are copied by the store
    rolled_back = world.generations[-2]
    assert roll_back(world.output)[0].generation == rolled_back
    world.remove()
    manifest = world.run()
    assert manifest.delta
    assert manifest.delta.base == rolled_back
    expect_as_full(world, manifest, tmp_path / "last")
    assert [each["generation"] for each in history(world.output)["generations"]] == world.generations[::-1]
    assert compare(*choose(world.output, rolled_back, None))["examples"]["removed"]["count"] == 1
    assert all(removed for _, removed in remove_unused(world.output))
    assert set(files.list_names(world.output)) == {"_DATASET.json", manifest.generation}
    assert len(open_dataset(world.output, verify=True)) == manifest.written
