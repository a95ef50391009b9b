import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from penstock.pipeline.storage.locks import locked_folder


def test_one_holds_it_and_the_other_is_told(tmp_path: Path) -> None:
    with locked_folder(str(tmp_path)) as first:
        assert first
        start = time.monotonic()
        with locked_folder(str(tmp_path), patience=0.2) as second:
            assert not second
        assert time.monotonic() - start >= 0.2
    with locked_folder(str(tmp_path), patience=0) as third:
        assert third


def test_a_folder_that_is_replaced_while_it_is_waited_for_is_locked_anew(tmp_path: Path) -> None:
    """As `prune` renames a generation that a run has just opened: the lock of the old folder would keep nobody off."""
    folder = tmp_path / "folder"
    folder.mkdir()
    old = os.open(folder, os.O_RDONLY)
    fcntl.flock(old, fcntl.LOCK_EX)
    held = threading.Event()

    def wait() -> None:
        with locked_folder(str(folder), patience=30):
            descriptor = os.open(folder, os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(descriptor)
            held.set()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    folder.rename(tmp_path / "folder.removed")
    folder.mkdir()
    os.close(old)
    thread.join(30)
    assert held.is_set()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked_folder(str(tmp_path / "none")):
        pass
