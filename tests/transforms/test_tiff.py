"""No pixel of a TIFF that was not decoded."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.transforms import image
from penstock.transforms.outcome import Rejected

Save = Callable[..., bytes]
BITS = np.repeat(np.random.default_rng(0).random((64, 30)) < 0.4, 3, axis=1)


def damaged(payload: bytes, at: float) -> bytes:
    """Sixteen bytes of the strips' data, which come before their directory, are zero."""
    content = bytearray(payload)
    begin = 8 + int(at * (struct.unpack_from("<I", payload, 4)[0] - 8))
    content[begin : begin + 16] = bytes(16)
    return bytes(content)


@pytest.mark.parametrize("rows", [64, 7, 1])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_a_whole_group_4_image_keeps_its_pixels(rows: int, fill_order: int, saved: Save) -> None:
    payload = saved(BITS, "TIFF", compression="group4", tiffinfo={278: rows, 266: fill_order})
    assert np.array_equal(np.asarray(image.decode(mode="L")(payload)), BITS * 255)


@pytest.mark.parametrize("rows", [64, 32])
@pytest.mark.parametrize("at", [0.05, 0.5, 0.9])
def test_a_group_4_image_whose_rows_are_not_all_decoded_is_rejected(rows: int, at: float, saved: Save) -> None:
    payload = damaged(saved(BITS, "TIFF", compression="group4", tiffinfo={278: rows}), at)
    with pytest.raises(Rejected, match=r"expected a whole CCITT group 4 image of 64 rows, found \d+ that") as caught:
        image.decode()(payload)
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_in_a_tiff_must_fill_its_place(mode: str, saved: Save) -> None:
    payload = saved(Image.new(mode, (32, 48), "white"), "TIFF", compression="jpeg")
    assert image.decode()(payload).size == (32, 48)
    height = struct.pack(">H", 48)
    at = payload.index(b"\xff\xc0") + 5
    assert payload[at : at + 2] == height
    with pytest.raises(Rejected, match="expected JPEG parts of 32x48 in the TIFF, found one of 32x16"):
        image.decode()(payload[:at] + struct.pack(">H", 16) + payload[at + 2 :])


def test_a_compression_that_does_not_tell_of_damage_is_rejected(saved: Save) -> None:
    payload = bytearray(saved(BITS, "TIFF", compression="packbits"))
    directory = struct.unpack_from("<I", payload, 4)[0]
    (entries,) = struct.unpack_from("<H", payload, directory)
    for entry in range(entries):
        at = directory + 2 + 12 * entry
        if struct.unpack_from("<H", payload, at)[0] == 259:
            struct.pack_into("<H", payload, at + 8, 32809)
    with pytest.raises(Rejected, match=r"found tiff_thunderscan, whose decoder does not tell of damage") as caught:
        image.decode()(bytes(payload))
    assert caught.value.code == "unsupported_compression"


def test_a_cameras_raw_file_is_not_taken_for_its_preview(saved: Save) -> None:
    with pytest.raises(Rejected, match="whose first page is a small copy of it, as in a camera's raw files") as caught:
        image.decode()(saved(BITS, "TIFF", tiffinfo={254: 1}))
    assert caught.value.code == "preview"
    assert image.decode()(saved(BITS, "TIFF", tiffinfo={254: 0})).size == (90, 64)


PROGRAM = """
import hashlib, io, random, sys
import numpy as np
from PIL import Image
from penstock.transforms import image
from penstock.transforms.outcome import Rejected

def saved(pixels, kind, **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()

draw, rng = random.Random(0), np.random.default_rng(0)
bits, grey = rng.random((48, 64)) < 0.4, rng.integers(0, 256, (48, 64), np.uint8)
files = [saved(bits, "TIFF", compression=kind, tiffinfo={278: rows}) for kind in ("group4", "group3", "tiff_ccitt")
         for rows in (48, 8)]
files += [saved(grey, "TIFF", compression=kind) for kind in ("jpeg", "tiff_lzw", "packbits", "tiff_adobe_deflate")]
files += [saved(grey, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP")]
digest, decoded = hashlib.sha256(), 0
for number in range(1500):
    content = bytearray(files[number % len(files)])
    if draw.random() < 0.2:
        content = content[: draw.randrange(8, len(content))]
    for _ in range(draw.choice([1, 1, 2])):
        content[draw.randrange(len(content))] = draw.randrange(256)
    try:
        pixels = image.decode(mode="L", strict=number % 2 == 0)(bytes(content))
        decoded += 1
        digest.update(pixels.tobytes())
    except Rejected as rejected:
        digest.update(rejected.code.encode())
print(decoded, digest.hexdigest())
"""


@pytest.mark.linux  # glibc fills new memory with a byte where this variable says so
def test_no_damaged_file_shows_what_was_in_memory() -> None:
    answers = []
    for fill in ("85", "170"):
        variables: dict[str, Any] = {"MALLOC_PERTURB_": fill, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **variables})
        answers.append(ran.stdout.split())
    assert int(answers[0][0]) > 500
    assert answers[0] == answers[1]
