"""Listings by many requests at a time tell every key once, whatever keys are like, and however often they are cut."""

import bisect
import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from obstore.exceptions import GenericError

from penstock.pipeline.storage import files, globs, listing, stores
from penstock.pipeline.storage.globs import _Pattern, compile_glob
from penstock.pipeline.storage.stores import Bucket, StoreError


class Listed:
    """A store that lists as S3 does, page by page, from any key on; some requests fail."""

    empty = False  # whether all objects are

    def __init__(self, keys: list[str], failing: float = 0.0, seed: int = 0, latency: float = 0.0) -> None:
        self.keys = sorted(keys)
        self.requests = self.most_at_once = self._at_once = 0
        self._failing, self._random, self._latency = failing, random.Random(seed), latency
        self._lock = threading.Lock()

    def list(self, prefix=None, offset=None, chunk_size=50, return_arrow=False) -> Iterator[pa.RecordBatch]:
        assert return_arrow
        start = f"{prefix}/" if prefix else ""
        end = bisect.bisect_left(self.keys, f"{start}\U0010ffff") if start else len(self.keys)
        at = bisect.bisect_left(self.keys, start)
        if offset is not None:
            at = max(at, bisect.bisect_right(self.keys, offset))
        while True:
            self._answer()
            page = self.keys[at : min(end, at + chunk_size)]
            if page:
                yield self._page(page)
            if len(page) < chunk_size:
                return
            at += chunk_size

    def _answer(self) -> None:
        with self._lock:
            self.requests += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            fails = self._random.random() < self._failing
        time.sleep(self._latency)
        with self._lock:
            self._at_once -= 1
        if fails:
            raise GenericError("Generic S3 error: error decoding response body")

    def _page(self, keys: Sequence[str]) -> pa.RecordBatch:
        count = len(keys)
        return pa.record_batch(
            {
                "path": pa.array([key.removesuffix("/") for key in keys], pa.string()),
                "last_modified": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * count, pa.timestamp("us", "UTC")),
                "size": pa.array([0 if key.endswith("/") else 7 for key in keys], pa.uint64()),
                "e_tag": pa.array(['"x"'] * count),
            }
        )

    def head(self, key: str) -> dict[str, int]:
        if key not in self.keys:
            raise FileNotFoundError(key)
        return {"size": 0 if self.empty else 7}


@pytest.fixture
def listed(monkeypatch):
    """Lists keys by the lister, some at a time."""
    monkeypatch.setattr(stores, "_LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(listing, "_PAGE", 20)

    def run(store: Listed, folder: str = "p", pattern: str | None = None, ways: int = 8) -> list[str]:
        monkeypatch.setattr(listing, "locate", lambda uri: (Bucket("s3://b/", lambda *_: store), uri))
        batches = listing.list_batches(folder, _Pattern(pattern) if pattern else None, ways)
        return [key for batch in batches for key in batch.column("key").to_pylist()]

    return run


def _names(kind: str, count: int, rng: random.Random) -> list[str]:
    match kind:
        case "numbered":
            return [f"img_{i:07}.jpg" for i in range(count)]
        case "random":
            return [f"{rng.getrandbits(64):016x}" for _ in range(count)]
        case "dated":
            return [f"2026/{i % 12:02}/{i % 28:02}/part-{i:05}" for i in range(count)]
        case "words":
            return list(
                {"".join(rng.choices("aeioust-_. ", k=rng.randint(2, 9))).strip(". ") + f"{i}" for i in range(count)}
            )
        case "unicode":
            return [f"{rng.choice('猫狗鳥éüz~')}{rng.choice('一二三四')}/{i}" for i in range(count)]
        case "one long name":
            return ["x" * 900 + str(i) for i in range(count)]
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["numbered", "random", "dated", "words", "unicode", "one long name"])
@pytest.mark.parametrize("failing", [0.0, 0.2])
@pytest.mark.parametrize("count", [0, 1, 20, 21, 3000])
def test_every_key_is_told_once(kind, failing, count, listed):
    names = _names(kind, count, random.Random(count))
    store = Listed([f"p/{name}" for name in names] + ["p", "o/1", "p!/1", "p0/1"], failing, seed=count)
    assert sorted(listed(store)) == sorted(names)


def test_a_listing_goes_many_ways_at_once_and_makes_few_requests_more(listed):
    store = Listed([f"p/{name}" for name in _names("numbered", 6000, random.Random(0))], latency=0.002)
    listed(store, ways=16)
    assert store.most_at_once > 8
    assert store.requests < 2 * 6000 / 20


def test_a_page_is_one_request(listed):
    store = Listed([f"p/{i}" for i in range(19)])
    listed(store, ways=16)
    assert store.requests == 1


def test_folders_that_a_pattern_cannot_match_in_are_passed_over(listed):
    keys = [f"p/videos/{i:05}" for i in range(5000)] + [f"p/images/{i:03}.jpg" for i in range(100)]
    keys += [f"p/{folder}/x/{i:03}" for folder in "abz" for i in range(300)]
    store = Listed(keys)
    assert len(listed(store, pattern="images/*.jpg")) == 100
    assert store.requests < 100  # of 250 pages that are videos
    assert len(listed(Listed(keys), pattern="*/x/*")) == 900
    assert len(listed(Listed(keys), pattern="**/*")) == len(keys)


@pytest.mark.parametrize(
    ("pattern", "count", "requests"),
    [
        ("d/img_015*.jpg", 10, 1),
        ("d/img_0150.jpg", 1, 1),
        ("d/img_0*", 1000, 150),
        ("d/x 1/*", 1, 1),
        ("d/x *", 1, 1),
        ("d/é*", 2, 2000),
        ("d/e*/x", 1, 1),
        ("nothing/*.jpg", 0, 1),
        ("d/!.jpg", 1, 1),
    ],
)
def test_a_glob_lists_only_keys_that_begin_as_it_does(pattern, count, requests, listed, monkeypatch):
    names = [f"img_{number:04}.jpg" for number in range(5000)] + [
        "x 1/y",
        "x 1",
        "é1",
        "e\u0301x",
        "e\u0301/x",
        "!.jpg",
    ]
    store = Listed([f"p/d/{name}" for name in names] + [f"p/e/{number}" for number in range(100)])
    monkeypatch.setattr(
        listing, "locate", lambda uri: (Bucket("s3://b/", lambda *_: store), uri.removeprefix("s3://b/"))
    )
    found = globs.glob("s3://b/p", pattern).files
    assert len(found) == count
    assert all(globs.matches_glob(pattern, key) for key in found)
    assert store.requests <= requests


def test_objects_that_stand_for_folders_are_no_files(listed):
    store = Listed(
        ["p/", "p/a/", "p/a-b", "p/a/1", "p/both", "p/both/", "p/empty/", "p/v1.0/", "p/v1.0/x", "p/z_$folder$/"]
    )
    assert sorted(listed(store)) == ["a-b", "a/1", "both", "v1.0/x"]


def test_empty_objects_are_files(listed):
    class Empty(Listed):
        empty = True

        def _page(self, keys):
            page = super()._page(keys)
            return page.set_column(2, "size", pa.array([0] * page.num_rows, pa.uint64()))

    assert sorted(listed(Empty(["p/a.txt", "p/b", "p/c/"]))) == ["a.txt", "b"]


def test_a_store_that_keeps_no_order_is_refused_before_a_key_is_lost(listed):
    class Unordered(Listed):
        def _page(self, keys):
            return super()._page(keys[::-1])

    with pytest.raises(StoreError, match="in the order of their bytes"):
        listed(Unordered([f"p/{i:04}" for i in range(100)]))


def test_a_store_that_ignores_where_to_begin_tells_every_key_once(listed):
    class Ignoring(Listed):
        def list(self, prefix=None, offset=None, chunk_size=50, return_arrow=False):
            return super().list(prefix, None, chunk_size, return_arrow)

    names = [f"{i:04}" for i in range(500)]
    assert sorted(listed(Ignoring([f"p/{name}" for name in names], failing=0.02))) == names


def test_a_listing_that_fails_says_so_in_whichever_thread_it_does(listed):
    class Failing(Listed):
        def _answer(self):
            super()._answer()
            if self.requests > 40:
                raise GenericError("Server returned non-2xx status code: 403 Forbidden: ")

    with pytest.raises(PermissionError, match="s3://b/p: the store refused access"):
        listed(Failing([f"p/{i:05}" for i in range(5000)]))


def test_a_listing_may_be_left_early(listed, monkeypatch):
    store = Listed([f"p/{i:05}" for i in range(5000)], latency=0.001)
    monkeypatch.setattr(listing, "locate", lambda uri: (Bucket("s3://b/", lambda *_: store), uri))
    batches = listing.list_batches("p")
    for _ in range(5):
        next(batches)
    batches.close()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("list-") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "threads stay behind"


def test_globs_of_a_store_match_as_on_a_disk(tmp_path):
    root = f"memory://{uuid.uuid4().hex}/r"
    names = [
        "a.jpg",
        "b/c.jpg",
        "b/d e/f.jpg",
        "b/d e/[1].jpg",
        "u/cafe\u0301.jpg",
        "x/y.png",
        "b/c.jpg.txt",
        "v1.0/n\nl",
    ]
    for name in names[:-1]:
        files.write_bytes(files.join(root, name), b"x")
        files.write_bytes(str(tmp_path / name), b"x")
    for pattern in (
        "**/*.jpg",
        "*.jpg",
        "b/**",
        "b/*/*",
        "b/?.jpg",
        "**/[[]1].jpg",
        "u/café.jpg",
        "b/d e/*",
        "[ab]*/**",
        "**",
    ):
        assert list(globs.glob(root, pattern).files) == list(globs.glob(str(tmp_path), pattern).files), pattern


@pytest.mark.parametrize("pattern", ["a b#&~-/*.x", "**/?+(){}|^$.*", "*", "**", "a/**/b\\*"])
def test_arrow_selects_what_the_expression_matches(pattern):
    keys = ["a b#&~-/c.x", "a b#&~-/c.y", "x/y+(){}|^$.z", "y+(){}|^$.z", "a\nb", "a/b\\", "a/c/d/b\\e", "", "a/b"]
    expected = [bool(compile_glob(pattern).fullmatch(key)) for key in keys]
    assert _Pattern(pattern).select(pa.array(keys)).to_pylist() == expected


def test_a_client_that_panics_ends_the_listing(listed):
    class Panic(BaseException):
        """As pyo3's: no Exception."""

    class Panicking(Listed):
        def _page(self, keys: Sequence[str]) -> pa.RecordBatch:
            if self.requests > 30:
                raise Panic
            return super()._page(keys)

    with pytest.raises(Panic):
        listed(Panicking([f"p/{number:05}" for number in range(3000)]))
