"""A thread pool that only reads, decodes, resizes and encodes: the most that a machine can do with these libraries.

Usage: _bare_pool.py penstock|pillow FOLDER THREADS
"""

import io
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def with_penstock() -> Callable[[Path], bytes]:
    """The functions that `penstock run` calls."""
    from penstock.transforms import image

    decode, resize, encoding = image.decode(), image.resize(224, 224), image.jpeg(90)
    return lambda path: encoding.encode(resize({"image": decode(path.read_bytes())})["image"])


def with_pillow() -> Callable[[Path], bytes]:
    """Written by hand with Pillow."""
    from PIL import Image

    def prepare(path: Path) -> bytes:
        image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
        return out.getvalue()

    return prepare


def main(kind: str, folder: str, threads: str) -> None:
    prepare = {"penstock": with_penstock, "pillow": with_pillow}[kind]()
    paths = sorted(Path(folder).rglob("*.jpg"))
    with ThreadPoolExecutor(int(threads)) as pool:
        size = sum(len(content) for content in pool.map(prepare, paths))
    print(f"{len(paths)} images, {size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
