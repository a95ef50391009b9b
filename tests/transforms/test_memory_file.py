"""Images in memory: the bytes that Pillow writes into a BytesIO, from any thread and any process."""

import errno
import gc
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from penstock.transforms import memory_file

SIZES = [(8, 8), (224, 224), (1500, 1500), (5, 300), (16, 16)]


def image(number: int) -> Image.Image:
    width, height = SIZES[number % len(SIZES)]
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8))


def by_pillow(pixels: Image.Image) -> bytes:
    out = io.BytesIO()
    pixels.save(out, "JPEG", quality=90)
    return out.getvalue()


def test_the_bytes_are_pillows_in_all_threads():
    images = [image(number) for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda each: memory_file.save(each, "JPEG", quality=90), images))
    assert actual == [by_pillow(each) for each in images]


def test_the_bytes_are_pillows_where_python_has_no_files_in_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert memory_file.save(image(1), "JPEG", quality=90) == by_pillow(image(1))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="has no files in memory")
def test_the_bytes_are_pillows_where_a_sandbox_forbids_files_in_memory(
    monkeypatch: pytest.MonkeyPatch,
):
    def forbid(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", forbid)
    with ThreadPoolExecutor(1) as pool:  # a thread that has no file yet
        contents = list(pool.map(lambda each: memory_file.save(each, "JPEG", quality=90), [image(2), image(0)]))
    assert contents == [by_pillow(image(2)), by_pillow(image(0))]


def test_an_image_after_one_that_fails_is_whole():
    with pytest.raises(OSError, match="cannot write mode"):
        memory_file.save(Image.new("RGBA", (8, 8)), "JPEG")
    assert memory_file.save(image(0), "JPEG", quality=90) == by_pillow(image(0))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="has no files in memory")
def test_a_threads_file_is_closed_with_it():
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    written: list[bytes] = []
    for number in range(3):
        thread = threading.Thread(target=lambda: written.append(memory_file.save(image(0), "JPEG", quality=90)))
        thread.start()
        thread.join()
        assert written.pop() == by_pillow(image(0)), number
    assert descriptors() == before


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="has no files in memory")
def test_a_fork_has_a_file_of_its_own():
    memory_file.save(image(0), "JPEG")
    before = memory_file._local.file
    assert before is not None
    child = os.fork()
    if not child:
        is_right = memory_file.save(image(1), "JPEG", quality=90) == by_pillow(image(1))
        os._exit(0 if is_right and memory_file._local.file is not before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert memory_file._local.file is before


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="has no files in memory")
def test_a_large_images_memory_is_given_back():
    assert len(memory_file.save(image(2), "JPEG", quality=95)) > memory_file._KEPT
    file = memory_file._local.file
    assert file is not None
    assert os.fstat(file.fileno()).st_size == 0
