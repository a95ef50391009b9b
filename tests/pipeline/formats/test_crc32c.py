"""Checksums of rows: those of google_crc32c, and other threads run meanwhile."""

import importlib
import sys
import threading
from collections.abc import Iterator

import google_crc32c
import numpy as np
import pytest

from penstock.pipeline.formats import crc32c
from penstock.pipeline.formats.crc32c import RowChecksums

ROWS = np.random.default_rng(0).integers(0, 256, (5, 1001), np.uint8)


@pytest.fixture(params=["library", "google_crc32c"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "google_crc32c":
        monkeypatch.setattr(crc32c, "_extend", None)


@pytest.mark.usefixtures("either")
def test_a_row_after_other_bytes() -> None:
    checksums = RowChecksums(ROWS)
    for row in (0, 3, 4):
        actual = checksums.extend(google_crc32c.value(b"before"), row)
        assert actual == google_crc32c.value(b"before" + ROWS[row].tobytes())
    digits = np.frombuffer(b"123456789", np.uint8).reshape(1, 9)
    assert RowChecksums(digits).extend(0, 0) == 0xE3069283  # RFC 3720's check value
    assert RowChecksums(np.empty((1, 0), np.uint8)).extend(17, 0) == 17


def test_without_the_library_there_is_google_crc32c(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    assert crc32c.load_library() is None


@pytest.fixture
def _no_turns() -> Iterator[None]:
    """A thread that works keeps the interpreter's lock, unless it lets it go itself."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.skipif(sys.platform != "linux", reason="the library has another place there")
@pytest.mark.usefixtures("_no_turns")
def test_other_threads_run_meanwhile() -> None:
    checksums = RowChecksums(np.zeros((1, 1 << 30), np.uint8))
    begins, is_done = threading.Event(), threading.Event()

    def work() -> None:
        begins.set()
        checksums.extend(0, 0)
        is_done.set()

    thread = threading.Thread(target=work)
    thread.start()
    begins.wait()
    was_done = is_done.is_set()
    thread.join()
    assert not was_done
