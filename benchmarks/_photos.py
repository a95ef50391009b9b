"""Photos for the benchmarks: copies of real ones, or drawn ones if there are none."""

import io
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

DRAWN = 200  # distinct photos; the rest are copies
SIZE = (400, 533)  # width, height: of the real ones
COUNTED = 8  # photos in the folder "few"
LARGE = ((3000, 2000), (2448, 3264), (4000, 3000))  # width, height: as cameras make them, 6 to 12 megapixels
TILED = 12  # distinct large photos


def load(source: Path | None) -> list[tuple[str, bytes]]:
    """Returns photos as (label, content), always in the same order; drawn ones if there is no such folder.

    Args:
      source: A folder of `.../<label>/<name>.jpg`.
    """
    if source is None or not source.is_dir():
        return [(f"class{number % 5}", _draw(number)) for number in range(DRAWN)]
    photos = [(path.parent.name, path.read_bytes()) for path in sorted(source.rglob("*.jpg"))]
    random.Random(0).shuffle(photos)
    return photos


def tiled(photos: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Large photos, tiled from small ones that are enlarged to twice their size: (label, content)."""
    return [(label, _tile(photos, number)) for number, (label, _) in enumerate(_repeated(photos, TILED))]


def write(photos: Sequence[tuple[str, bytes]], count: int, folder: Path) -> None:
    """Writes `few/<label>/<number>.jpg` for the first eight and `most/<label>/<number>.jpg` for all others.

    Copies of one photo have equal pixels but different bytes: a comment after the first marker holds their number.
    """
    for number, (label, content) in enumerate(_repeated(photos, count)):
        path = folder / ("few" if number < COUNTED else "most") / label / f"{number:06d}.jpg"
        os.makedirs(path.parent, exist_ok=True)
        comment = b"%08d" % number
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big")
        path.write_bytes(content[:2] + marker + comment + content[2:])


def _tile(photos: Sequence[tuple[str, bytes]], number: int) -> bytes:
    """A photo of one of the sizes of LARGE; neighbours in `photos` are its tiles."""
    canvas = Image.new("RGB", LARGE[number % len(LARGE)])
    width, height = 2 * SIZE[0], 2 * SIZE[1]
    corners = [(x, y) for y in range(0, canvas.height, height) for x in range(0, canvas.width, width)]
    for tile, corner in enumerate(corners):
        content = photos[(number * len(corners) + tile) % len(photos)][1]
        canvas.paste(Image.open(io.BytesIO(content)).convert("RGB").resize((width, height)), corner)
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=90)
    return out.getvalue()


def _repeated(photos: Sequence[tuple[str, bytes]], count: int) -> Iterator[tuple[str, bytes]]:
    for number in range(count):
        yield photos[number % len(photos)]


def _draw(seed: int) -> bytes:
    """Draws an image as expensive to decode and encode as a photo: smooth areas, edges and noise, about 28 kB."""
    generator = random.Random(seed)
    noise = Image.effect_noise(SIZE, 24)
    channels = [Image.linear_gradient("L").rotate(90 * generator.randrange(4)).resize(SIZE) for _ in range(3)]
    canvas = Image.merge("RGB", channels)
    pen = ImageDraw.Draw(canvas)
    for _ in range(40):
        x, y, size = generator.randrange(SIZE[0]), generator.randrange(SIZE[1]), generator.randrange(10, 120)
        pen.ellipse((x, y, x + size, y + size), fill=tuple(generator.randrange(256) for _ in range(3)))
    out = io.BytesIO()
    Image.blend(canvas, Image.merge("RGB", [noise] * 3), 0.12).save(out, "JPEG", quality=75)
    return out.getvalue()
