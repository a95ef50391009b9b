"""Parts of files in stores: what was fetched is read, the rest is asked for, and nothing twice."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.sources import file_content
from penstock.pipeline.sources.file_content import (
    FileParts,
    PartReader,
    open_content,
    open_range,
    read_fully,
    read_in_pieces,
)
from penstock.pipeline.storage import files, stores

CONTENT = np.random.default_rng(0).bytes(100_000)
_names = itertools.count()


@pytest.fixture
def uri():
    uri = f"memory://content-{next(_names)}/x.bin"
    files.write_bytes(uri, CONTENT)
    return uri


def gets():
    return stores.COUNTS.snapshot().get("get", 0)


def test_parts_give_their_bytes_across_their_borders():
    parts = FileParts({100: CONTENT[100:200], 0: CONTENT[:50], 150: CONTENT[150:300]})
    for begin, count in itertools.product([0, 20, 49, 50, 99, 100, 180, 199, 200, 299, 300], [1, 30, 1000]):
        known = 50 if begin < 50 else 300 if begin >= 100 else begin
        assert parts.read(begin, count) == CONTENT[begin : max(begin, min(begin + count, known))]
    assert parts.size == 300


@pytest.mark.parametrize("begin", [0, 10, 60])
def test_a_file_of_which_parts_were_fetched_reads_as_a_whole_one(uri, begin):
    parts = FileParts({0: CONTENT[:50], 60: CONTENT[60:90]})
    before = gets()
    with open_content(uri, PenstockError, begin, parts) as file:
        assert read_fully(file, 20) == CONTENT[begin : begin + 20]
        assert gets() == before  # the file was not opened
        assert file.position() == begin + 20
        assert read_fully(file, 1 << 20) == CONTENT[begin + 20 :]
        assert file.position() == len(CONTENT)
        assert file.read(1) == b""
    assert gets() > before


def test_a_store_is_not_asked_for_what_follows_the_end_of_a_file(uri):
    before = gets()
    with open_range(uri, PenstockError, 99_000, 100_000, file_size=100_000) as file:
        assert read_fully(file, 5000) == CONTENT[99_000:]
    assert gets() == before + 1
    with open_range(uri, PenstockError, 98_000, 99_000) as file:
        assert read_fully(file, 5000) == CONTENT[98_000:]
    assert gets() > before + 2


def test_what_is_kept_is_asked_for_once_by_all_threads(uri):
    reader = PartReader()
    barrier = threading.Barrier(8)

    def ask(_):
        barrier.wait(10)
        return reader.keep(uri, 10, 60), reader.size(uri)

    before = stores.COUNTS.snapshot()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {(CONTENT[10:60], len(CONTENT))}
    after = stores.COUNTS.snapshot()
    assert (after["get"] - before.get("get", 0), after["head"] - before.get("head", 0)) == (1, 1)


def test_what_is_kept_is_bounded_by_bytes(uri, monkeypatch):
    monkeypatch.setattr(file_content, "_KEPT", 20_000)
    reader = PartReader()
    for begin in range(0, 90_000, 5_000):
        assert reader.keep(uri, begin, begin + 5_000) == CONTENT[begin : begin + 5_000]
        reader.keep(uri, 0, 5_000)  # is used again and again, and stays
    before = gets()
    reader.keep(uri, 85_000, 90_000)
    reader.keep(uri, 0, 5_000)
    assert gets() == before
    reader.keep(uri, 10_000, 15_000)
    assert gets() == before + 1
    assert sum(len(future.result()) for future in reader._kept.values()) <= 20_000


def test_a_failure_is_not_kept(uri):
    reader = PartReader(RequestError)
    other = uri.replace("x.bin", "y.bin")
    for ask in (lambda: reader.keep(other, 0, 5), lambda: reader.size(other), lambda: reader.read(other, 0, 5)):
        with pytest.raises(RequestError, match=r"y\.bin: expected a file that can be read, found: .*; make it again"):
            ask()
    files.write_bytes(other, b"hello")
    assert (reader.keep(other, 0, 5), reader.size(other), reader.read(other, 1, 3)) == (b"hello", 5, b"el")


def test_a_store_that_does_not_answer_is_no_file_to_make_again(uri, monkeypatch):
    def fail(*_):
        raise files.UnreachableError("no answer")

    monkeypatch.setattr(files, "read_range", fail)
    with pytest.raises(PenstockError, match="expected the store to answer, found: no answer; run again when it does"):
        PartReader().read(uri, 0, 5)


def test_long_parts_are_read_side_by_side(uri, monkeypatch):
    monkeypatch.setattr(file_content, "_PIECE", 1000)
    read_range, waiting = files.read_range, threading.Barrier(4)

    def read(*arguments):
        waiting.wait(10)  # for three others
        return read_range(*arguments)

    monkeypatch.setattr(files, "read_range", read)
    assert read_in_pieces(uri, 500, 8_499) == CONTENT[500:8_499]
    monkeypatch.setattr(files, "read_range", read_range)
    before = gets()
    assert read_in_pieces(uri, 500, 2_500) == CONTENT[500:2_500]
    assert gets() == before + 1
    assert PartReader().read_all(uri, [(5, 10), (20, 40), (90, 95)]) == {
        begin: CONTENT[begin:end] for begin, end in [(5, 10), (20, 40), (90, 95)]
    }
