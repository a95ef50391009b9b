"""A process that decodes what was quarantined: such files may make a decoder hang or crash, and do it here.

It takes a file's content a message, and answers with a line of JSON (`size`, [width, height], and `format`) and, behind
it, a thumbnail as JPEG; with an empty message where the content is no image.
"""

import io
import json
import warnings

from PIL import Image

from ..storage.child_process import limit_memory, read_message, serve_parent, write_message
from .pictures import shrink

MODULE = "penstock.pipeline.report.thumbnails"
SIDE = 96  # pixels


def thumbnail(content: bytes) -> bytes:
    """The answer to one message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                about = {"size": image.size, "format": image.format}
                image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded at a fraction of its size
                small = shrink(image.convert("RGB"), SIDE)
    except Exception:  # whatever a decoder raises
        return b""
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=75)
    return json.dumps(about).encode() + b"\n" + buffer.getvalue()


def main() -> None:
    """Answers messages until there are no more."""
    requests, answers = serve_parent()
    limit_memory()
    while (content := read_message(requests)) is not None:
        write_message(answers, thumbnail(content))


if __name__ == "__main__":
    main()
