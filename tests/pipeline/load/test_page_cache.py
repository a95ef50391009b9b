"""Bytes of a local file that are in memory: copied, or left to the kernel, and never a death of the process."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock.pipeline.load.page_cache import MappedFile, map_file
from penstock.pipeline.load.shard_files import LocalFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps no files there")
CONTENT = np.random.default_rng(0).integers(0, 256, 300_001, np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT.tobytes())
    return tmp_path / "file"


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def parts(*sizes: int) -> list[np.ndarray]:
    return [np.full(size, 7, np.uint8) for size in sizes]


def mapped(descriptor: int) -> MappedFile:
    file = map_file(descriptor)
    assert file
    return file


@pytest.mark.parametrize("start", [0, 1, 4095, 4096, 150_000])
def test_the_bytes_are_the_files(descriptor: int, start: int) -> None:
    arrays = parts(3, 140_000, 0, 9)
    assert mapped(descriptor).fill(start, arrays)
    np.testing.assert_array_equal(np.concatenate(arrays), CONTENT[start : start + 140_012])


def test_what_the_disk_has_alone_is_left_to_the_kernel(path: Path, descriptor: int) -> None:
    file, source = mapped(descriptor), LocalFile(str(path))
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    arrays = parts(200_000)
    if file.fill(5, arrays):
        pytest.skip("this file system keeps all in memory")
    assert set(arrays[0].tolist()) == {7}
    source.fill(5, arrays)
    np.testing.assert_array_equal(arrays[0], CONTENT[5:200_005])
    assert file.fill(5, parts(200_000))


def test_a_file_that_is_cut_short_kills_nobody(path: Path, descriptor: int) -> None:
    file, source = mapped(descriptor), LocalFile(str(path))
    source.fill(250_000, parts(50_001))
    os.truncate(path, 260_000)
    arrays = parts(50_001)
    assert not file.fill(250_000, arrays)
    assert not file.fill(0, parts(10))
    source.fill(250_000, arrays)
    np.testing.assert_array_equal(arrays[0][:10_000], CONTENT[250_000:260_000])
    assert not arrays[0][10_000:].any()


def test_nothing_is_behind_the_end(descriptor: int) -> None:
    assert not mapped(descriptor).fill(299_999, parts(3))


def test_files_of_others_are_not_mapped(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of these `mincore` says that all is in memory."""
    monkeypatch.setattr(os, "geteuid", lambda: os.fstat(descriptor).st_uid + 1)
    assert map_file(descriptor)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert map_file(descriptor) is None


def test_an_empty_file_is_not_mapped(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as file:
        assert map_file(file.fileno()) is None
