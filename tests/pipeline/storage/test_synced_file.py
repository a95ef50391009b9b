"""A file that is synced while it is written: its content, what fails beside it, and when it is closed."""

import errno
import os
import threading
from pathlib import Path

import pytest

from penstock.pipeline.storage import files, synced_file
from penstock.pipeline.storage.synced_file import SyncedFile


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synced_file, "_AHEAD", 10)


def test_a_file_is_synced_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    begun, goes_on, sync = threading.Event(), threading.Event(), os.fsync
    sizes = []

    def slow(descriptor: int) -> None:
        begun.set()
        assert goes_on.wait(10)
        sizes.append(os.fstat(descriptor).st_size)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with SyncedFile(str(tmp_path / "file")) as file:
        for number in range(100):
            file.write(b"%02d" % number * 4)
            if number == 1:
                assert begun.wait(10)
        goes_on.set()
        file.sync()
        assert sizes[-1] == 800  # what was written is synced in the end, whatever was begun before
    assert (tmp_path / "file").read_bytes() == b"".join(b"%02d" % number * 4 for number in range(100))


def test_a_failure_beside_the_writer_fails_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sync, calls = os.fsync, []

    def fail_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:  # the system tells each failure once
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(OSError, match="Input/output error"), files.create(str(tmp_path / "file")) as file:
        file.write(b"0123456789")
    assert os.listdir(tmp_path) == []


def test_a_file_is_closed_when_no_thread_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    begun, states = threading.Event(), []

    def slow(descriptor: int) -> None:
        begun.set()
        closing.wait(0.2)
        states.append(os.fstat(descriptor).st_size >= 0)

    closing = threading.Event()
    monkeypatch.setattr(os, "fsync", slow)
    file = SyncedFile(str(tmp_path / "file"))
    file.write(b"0123456789")
    assert begun.wait(10)
    file.close()
    assert states == [True]


def test_a_short_file_needs_no_thread(tmp_path: Path):
    before = threading.active_count()
    with SyncedFile(str(tmp_path / "file")) as file:
        file.write(b"short")
        file.sync()
        assert threading.active_count() == before
    with pytest.raises(FileExistsError):
        SyncedFile(str(tmp_path / "file"))
