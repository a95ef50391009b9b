"""Whole runs from store to store through a proxy that fails requests, seeded: no example is lost or doubled.

PENSTOCK_FAULTS is how many faults there are in all: 1,000 where it is not set. A failure names the run's seed:
`PENSTOCK_FAULTS_SEED=4711 make test-stores ARGS="-k faulty_runs"` does that one again, on each store.
"""

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import request
from stores.data import raw_data, shards, table, upload
from stores.proxy import MODES, STATUSES, Call, Proxy, Seeded
from stores.servers import Store

from penstock.pipeline import Csv, Images, JsonLines, Parquet, Recipe, open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.errors import PenstockError
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files
from penstock.pipeline.storage.leases import Owner
from penstock.runners.run import run
from penstock.transforms import image

pytestmark = pytest.mark.slow

FAULTS = int(os.environ.get("PENSTOCK_FAULTS", "1000"))
_SEEDS = [int(seed) for seed in os.environ.get("PENSTOCK_FAULTS_SEED", "").split()]
_STORES = 3
_RATE = 0.3
_MODES = [mode for mode in MODES for _ in range(1 if "stall" in mode else 6)]  # a stall takes its time
_HARD = [*STATUSES, "reset", "lost", "late_500", "truncate"]


def pictures(inputs: Any) -> dict[str, Any]:
    return {"image": image.standardize(inputs, "image"), "mask": inputs["mask"]}


RECIPES: list[Callable[[], Recipe]] = [
    lambda: Recipe(
        source=Images("images/*.png", mask="masks/{stem}.png", label=r"(?P<label>.+)_\d+"),
        features=pictures,
        splits={"train": 0.7, "test": 0.3},
        shards=2,
    ),
    lambda: table(Csv("people/*.csv")),
    lambda: table(JsonLines("people/*.jsonl")),
    lambda: table(Parquet("people/*.parquet")),
]
EXAMPLES = [40, 800, 800, 800]


class Outage:
    """From a request on a store does nothing right, and for ever."""

    def __init__(self, seed: int, start: int) -> None:
        self._random = random.Random(seed)
        self._left = start

    def __call__(self, _: Call) -> str:
        self._left -= 1
        return self._random.choice(_HARD) if self._left < 0 else ""


class Campaign:
    """Runs on one store, with faults and without."""

    def __init__(self, store: Store, proxy: Proxy, source: str, root: str) -> None:
        self._store = store
        self._proxy = proxy
        self._source = source
        self._root = root
        self._recipes = [make() for make in RECIPES]
        self._references: dict[int, Manifest] = {}
        self.spoiled: Counter[tuple[str, str]] = Counter()

    def reference(self, kind: int) -> Manifest:
        """What comes of a recipe where nothing fails."""
        if kind not in self._references:
            self._references[kind] = self.run(kind, f"{self._root}/reference{kind}")
        return self._references[kind]

    def run(self, kind: int, output: str) -> Manifest:
        asked = request(self._recipes[kind], self._source, output, f"{kind:064x}")  # type: ignore[arg-type]
        return run(asked).manifest

    def disturbed(self, seed: int) -> int:
        """A run with faults that its retries can ride out; the number of faults."""
        kind, output = seed % len(RECIPES), f"{self._root}/{seed}"
        expected = self.reference(kind)
        self._proxy.reset(Seeded(seed, _RATE, _MODES))
        try:
            manifest = self.run(kind, output)
        except (PenstockError, OSError) as error:
            raise AssertionError(f"seed {seed}: failed though no request failed more than twice: {error}") from error
        seen = self._proxy.reset()
        self.spoiled += seen.spoiled
        assert Manifest.load(output) == manifest, f"seed {seed}"
        self.expect(seed, kind, output, expected)
        return seen.faults.total()

    def interrupted(self, seed: int, requests: int) -> int:
        """A run whose store goes down at one of its requests; it says so, and the next one completes it."""
        kind, output = seed % len(RECIPES), f"{self._root}/{seed}"
        expected = self.reference(kind)
        self._proxy.reset(Outage(seed, random.Random(seed).randrange(requests)))
        try:
            self.run(kind, output)
            failure = ""
        except (PenstockError, OSError) as error:
            failure = str(error)
        seen = self._proxy.reset()
        self.spoiled += seen.spoiled
        if seen.faults:
            assert self._store.scheme in failure, f"seed {seed}: {failure!r}"
            assert "Traceback" not in failure, f"seed {seed}: {failure!r}"
        with pytest.MonkeyPatch.context() as patch:  # the lease is this process's own, which has not ended
            patch.setattr(Owner, "is_gone", lambda _: True)
            self.run(kind, output)
        self.expect(seed, kind, output, expected)
        return seen.faults.total()

    def expect(self, seed: int, kind: int, output: str, expected: Manifest) -> None:
        """A dataset is whole, has the bytes of an undisturbed one, and each example once."""
        assert shards(Manifest.load(output)) == shards(expected), f"seed {seed}"
        assert list(verify(output, graph=False)) == [], f"seed {seed}"
        dataset = open_dataset(output)
        name = "person" if "person" in dataset.features else "key"
        keys = [key for split in dataset.splits for key in dataset.column(split, name).tolist()]
        assert len(set(keys)) == len(keys) == EXAMPLES[kind], f"seed {seed}"
        files.remove(output)


@pytest.fixture(scope="module")
def spoiled() -> Counter[tuple[str, str]]:
    """Which calls suffered which faults, in all of this module's tests."""
    return Counter()


@pytest.fixture
def campaign(
    store: Store,
    use: Callable[..., None],
    proxied: Callable[..., Proxy],
    folder_names: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
    spoiled: Counter[tuple[str, str]],
    impatient: None,
) -> Iterator[Campaign]:
    root = store.uri(folder_names())
    source = upload(raw_data(tmp_path_factory.mktemp("raw")), files.join(root, "raw"))
    proxy = proxied(store)
    use(store, proxy)
    campaign = Campaign(store, proxy, source, root)
    yield campaign
    spoiled += campaign.spoiled


def test_faults_that_retries_ride_out_change_nothing(campaign: Campaign):
    faults, seeds = 0, iter(_SEEDS or itertools.count())
    for seed in seeds:
        faults += campaign.disturbed(seed)
        if faults >= 0.8 * FAULTS / _STORES:
            break
    assert faults


def test_a_run_without_its_store_says_so_and_is_completed(campaign: Campaign):
    faults, seeds = 0, iter(_SEEDS or itertools.count(1_000_000))
    for seed in seeds:
        faults += campaign.interrupted(seed, 60)
        if faults >= 0.2 * FAULTS / _STORES:
            break
    assert faults


def test_every_kind_of_call_suffered_every_fault(spoiled: Counter[tuple[str, str]]):
    assert {kind for kind, _ in spoiled} >= {"get", "list", "put", "create", "replace", "delete"}
    assert {mode for _, mode in spoiled} == set(MODES)
