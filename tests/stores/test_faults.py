"""Stores that fail, by a seeded proxy: what succeeds is true, what fails says so, and nothing is lost or done twice.

PENSTOCK_FAULTS is how many faults there are in all: 1,000 where it is not set. A failure names its seed.
"""

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest
from stores.proxy import MODES, Proxy, Seeded
from stores.servers import Store

from penstock.pipeline.storage import files
from penstock.pipeline.storage.files import FileVersion, VersionMismatch

pytestmark = pytest.mark.slow

FAULTS = int(os.environ.get("PENSTOCK_FAULTS", "1000"))
_RATE = 0.3
_MODES = [mode for mode in MODES for _ in range(1 if "stall" in mode else 5)]  # a stall takes its time


class Model:
    """Does what it is told at random to a folder of a store, and knows what must come of it."""

    def __init__(self, root: str, seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)
        self.contents: dict[str, bytes] = {}
        self._versions: dict[str, FileVersion] = {}
        self._number = 0

    def step(self) -> str:
        """One operation. It must succeed, or fail as it would on a store without faults; returns which it was."""
        operation = self._random.choice(
            [self.write, self.create, self.replace, self.read, self.range, self.list, self.remove]
        )
        operation()
        return operation.__name__

    def _choose(self) -> tuple[str, str]:
        name = f"{self._random.randrange(3)}/{self._random.randrange(8)}"
        return name, files.join(self._root, name)

    def _content(self) -> bytes:
        """Content that no other write has; now and then more than one part of an upload."""
        self._number += 1
        size = self._random.choice([0, 20, 5_000, 100_000, 9_000_000 if self._number % 10 == 0 else 1])
        return b"%d:" % self._number + self._random.randbytes(64) * (size // 64)

    def write(self) -> None:
        name, uri = self._choose()
        content = self._content()
        files.write_bytes(uri, content)
        self.contents[name] = content
        self._versions.pop(name, None)

    def create(self) -> None:
        name, uri = self._choose()
        content = self._content()[:100_000]
        try:
            self._versions[name] = files.create_exclusive(uri, content)
        except FileExistsError:
            assert name in self.contents, "it was not there"
        else:
            assert name not in self.contents, "it was there"
            self.contents[name] = content

    def replace(self) -> None:
        name, uri = self._choose()
        if name not in self.contents:
            return
        content, version = files.read_versioned(uri)
        assert content == self.contents[name]
        stale = self._versions.get(name)
        new = self._content()[:100_000]
        if stale is not None and stale != version:
            with pytest.raises(VersionMismatch):
                files.replace_exactly(uri, new, stale)
        self._versions[name] = version
        if self._random.random() < 0.7:
            files.replace_exactly(uri, new, version)
            self.contents[name] = new

    def read(self) -> None:
        name, uri = self._choose()
        if name in self.contents:
            assert files.read_bytes(uri) == self.contents[name]
            assert files.size(uri) == len(self.contents[name])
        else:
            assert not files.exists(uri)
            with pytest.raises(FileNotFoundError):
                files.read_bytes(uri)

    def range(self) -> None:
        name, uri = self._choose()
        content = self.contents.get(name, b"")
        begin, end = sorted(self._random.randrange(len(content) + 1) for _ in range(2))
        if name in self.contents:
            assert files.read_range(uri, begin, end) == content[begin:end]

    def list(self) -> None:
        found = {info.uri: info.size for info in files.list_folder(self._root)}
        assert found == {files.join(self._root, name): len(content) for name, content in self.contents.items()}

    def expect_all(self) -> None:
        """All that was written is there, and nothing else."""
        self.list()
        for name, content in self.contents.items():
            assert files.read_bytes(files.join(self._root, name)) == content

    def remove(self) -> None:
        names = {self._choose()[0] for _ in range(self._random.randrange(1, 4))}
        files.remove_files([files.join(self._root, name) for name in sorted(names)])
        for name in names:
            self.contents.pop(name, None)
            self._versions.pop(name, None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seed", range(4))
def test_files_are_as_on_a_store_without_faults(
    store: Store, use: Callable[..., None], proxied: Callable[..., Proxy], folder_names: Callable[[], str], seed: int
):
    proxy = proxied(store, faults=Seeded(seed, _RATE, _MODES, limit=FAULTS // 24))
    use(store, proxy)
    model = Model(store.uri(folder_names()), seed)
    done: Counter[str] = Counter()
    while proxy.seen.faults.total() < FAULTS // 24:
        done[model.step()] += 1
    assert set(proxy.seen.faults) <= set(MODES)
    use(store)
    model.expect_all()
