"""The same job written by hand: Beam prepares, tf.Transform analyzes the decoded pixels, Beam writes the shards.

It uses Beam's in-process runner, with or without worker processes.

Usage: _naive_tft.py FOLDER OUTPUT WORKERS
"""

import io
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

SPEC = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.string)}


def prepare(path: str) -> dict[str, bytes]:
    from PIL import Image

    image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return {"image": out.getvalue(), "label": Path(path).parent.name.encode()}


def serialize(row: dict[str, bytes]) -> bytes:
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in sorted(row.items())
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def features(inputs: dict[str, Any]) -> dict[str, Any]:
    pixels = tf.map_fn(lambda content: tf.io.decode_jpeg(content, 3), inputs["image"], fn_output_signature=tf.uint8)
    flat = tf.reshape(tf.cast(pixels, tf.float32), [-1, 3])
    return {
        "image": tf.reshape(tft.scale_to_z_score(flat, elementwise=True), [-1, 224, 224, 3]),
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }


def main(folder: str, output: str, workers: str) -> None:
    mode = "multi_processing" if int(workers) > 1 else "in_memory"
    options = PipelineOptions(
        ["--runner=FnApiRunner", f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"],
        save_main_session=True,
    )
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(SPEC))
    paths = [str(path) for path in sorted(Path(folder).rglob("*.jpg"))]
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=f"{output}/temp"):
        rows = pipeline | beam.Create(paths) | "Prepare" >> beam.Map(prepare)
        transform_fn = (rows, metadata) | tft_beam.AnalyzeDataset(features)
        _ = transform_fn | tft_beam.WriteTransformFn(f"{output}/graph")
        _ = rows | "Serialize" >> beam.Map(serialize) | beam.io.WriteToTFRecord(f"{output}/train", num_shards=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
