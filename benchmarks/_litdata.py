"""LitData's `optimize` on the same photos: `_litdata.py FOLDER OUTPUT WORKERS`."""

import io
import sys
from pathlib import Path
from typing import Any

from litdata import optimize
from PIL import Image


def prepare(path: str) -> dict[str, Any]:
    image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return {"image": out.getvalue(), "label": Path(path).parent.name, "key": path}


if __name__ == "__main__":
    optimize(
        prepare,
        [str(path) for path in sorted(Path(sys.argv[1]).rglob("*.jpg"))],
        sys.argv[2],
        num_workers=int(sys.argv[3]),
        chunk_bytes="64MB",
    )
