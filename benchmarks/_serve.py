"""Answers requests of one photo or one row, one after the other on one thread, and measures each.

Usage: _serve.py KIND CONTESTANT DATA REQUESTS OUTPUT

KIND is `photo`, and DATA a folder that has `photos/*.jpg` and the exported model `photo`; or `row`, and it has
`census/adult.data` and the exported model `row`. OUTPUT gets the percentiles as JSON. An answer is what a
model would be given next: tensors of TensorFlow's, or arrays of NumPy's.
"""

import csv
import gc
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _census
import numpy as np

SIDE = 224
QUALITY = 90
WARM = 200
MEAN, DEVIATION = np.float32([120.0, 110.0, 100.0]), np.float32([70.0, 69.0, 68.0])
BUCKETS = 10

Answer = Callable[[Any], Any]


def load_model(path: Path) -> Any:
    """The signature of an exported model, on one thread."""
    return _tensorflow().saved_model.load(str(path)).signatures["serving_default"]


def _tensorflow() -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def exported_photo(data: Path) -> Answer:
    """The exported model: what training saw, to the bit."""
    import tensorflow as tf

    model = load_model(data / "photo")
    return lambda content: model(image=tf.constant([content]))["image"]


def pillow(_: Path) -> Answer:
    """By hand with Pillow and NumPy: upright, resized, through the JPEG that is stored, standardized."""
    from PIL import Image, ImageOps

    def answer(content: bytes) -> Any:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
        stored = io.BytesIO()
        image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(stored, "JPEG", quality=QUALITY)
        pixels = np.asarray(Image.open(stored))
        return ((pixels - MEAN) / DEVIATION)[np.newaxis]

    return answer


def tensorflow_photo(_: Path) -> Answer:
    """By hand with TensorFlow's own decoder and resizer: not upright, not through storage, other pixels."""
    tf = _tensorflow()

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def answer(content: Any) -> Any:
        pixels = tf.image.resize(tf.io.decode_jpeg(content, 3), [SIDE, SIDE], antialias=True)
        return ((pixels - MEAN) / DEVIATION)[tf.newaxis]

    return lambda content: answer(tf.constant(content))


def exported_row(data: Path) -> Answer:
    """The exported model: what training saw, to the bit."""
    import tensorflow as tf

    model = load_model(data / "row")
    names = {name.replace("-", "_"): name for name in (*_census.NUMBERS, *_census.CATEGORIES)}
    dtypes = {name: spec.dtype for name, spec in model.structured_input_signature[1].items()}

    def answer(row: dict[str, Any]) -> Any:
        given = {name: tf.constant([row[names[name]]], dtype) for name, dtype in dtypes.items()}
        return model(**given)

    return answer


def numpy_row(data: Path) -> Answer:
    """By hand with NumPy and dicts: z-scores, ids by vocabulary, the age's bucket."""
    rows = read_rows(data)
    numbers = {name: np.array([row[name] for row in rows]) for name in _census.NUMBERS}
    moments = {name: (np.float32(values.mean()), np.float32(values.std())) for name, values in numbers.items()}
    vocabularies = {
        name: {value: number for number, value in enumerate(sorted({row[name] for row in rows}))}
        for name in _census.CATEGORIES
    }
    boundaries = np.quantile(numbers["age"], np.arange(1, BUCKETS) / BUCKETS)

    def answer(row: dict[str, Any]) -> Any:
        outputs = {name: (np.float32([row[name]]) - mean) / std for name, (mean, std) in moments.items()}
        outputs |= {name: np.array([ids.get(row[name], -1)]) for name, ids in vocabularies.items()}
        outputs["age-bucket"] = np.searchsorted(boundaries, [row["age"]], side="right")
        return outputs

    return answer


def read_rows(data: Path) -> list[dict[str, Any]]:
    """The census's rows: integers, and strings without the blanks around them."""
    with (data / "census" / _census.FILE).open(newline="") as file:
        rows = [dict(zip(_census.NAMES, map(str.strip, line), strict=False)) for line in csv.reader(file)]
    return [
        {**row, **{name: int(row[name]) for name in _census.NUMBERS}}
        for row in rows
        if len(row) == len(_census.NAMES) and row["age"].isdigit()
    ]


def read_photos(data: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((data / "photos").rglob("*.jpg"))]


CONTESTANTS: dict[str, tuple[Callable[[Path], list[Any]], dict[str, Callable[[Path], Answer]]]] = {
    "photo": (read_photos, {"penstock": exported_photo, "pillow": pillow, "tensorflow": tensorflow_photo}),
    "row": (read_rows, {"penstock": exported_row, "numpy": numpy_row}),
}


def main(kind: str, contestant: str, data: str, requests: str, output: str) -> None:
    read, contestants = CONTESTANTS[kind]
    answer = contestants[contestant](Path(data))
    inputs = random.Random(0).choices(read(Path(data)), k=WARM + int(requests))
    for each in inputs[:WARM]:
        answer(each)
    gc.collect()
    gc.freeze()
    seconds = []
    before = os.times()
    for each in inputs[WARM:]:
        start = time.perf_counter()
        answer(each)
        seconds.append(time.perf_counter() - start)
    after = os.times()
    cpu = (after.user + after.system - before.user - before.system) / len(seconds)
    p50, p99 = np.percentile(seconds, [50, 99])
    Path(output).write_text(json.dumps({"p50": 1e3 * p50, "p99": 1e3 * p99, "cpu": 1e3 * cpu}))


if __name__ == "__main__":
    main(*sys.argv[1:])
