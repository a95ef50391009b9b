"""The census the way tf.Transform's own example does it: CSV TFXIO, AnalyzeAndTransformDataset, TFRecord.

Usage: _tft_census.py FOLDER OUTPUT
"""

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from _census import CATEGORIES, FILE, LABEL, NAMES, NUMBERS
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.public import tfxio

SPEC = {
    **{name: tf.io.FixedLenFeature([], tf.float32) for name in NUMBERS},
    **{name: tf.io.FixedLenFeature([], tf.string) for name in (*CATEGORIES, LABEL)},
}


def features(inputs: dict[str, Any]) -> dict[str, Any]:
    outputs = {name: tft.scale_to_z_score(inputs[name]) for name in NUMBERS}
    for name in CATEGORIES:
        outputs[name] = tft.compute_and_apply_vocabulary(tf.strings.strip(inputs[name]), num_oov_buckets=1)
    outputs["age-bucket"] = tft.bucketize(inputs["age"], 10)
    outputs["label"] = tf.cast(tf.strings.strip(inputs[LABEL]) == ">50K", tf.int64)
    return outputs


def main(folder: str, output: str) -> None:
    schema = schema_utils.schema_from_feature_spec(SPEC)
    source = tfxio.BeamRecordCsvTFXIO(physical_format="text", column_names=list(NAMES), schema=schema)
    options = PipelineOptions(["--runner=FnApiRunner", "--direct_num_workers=1", "--direct_running_mode=in_memory"])
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=f"{output}/temp"):
        lines = pipeline | beam.io.ReadFromText(f"{folder}/{FILE}", coder=beam.coders.BytesCoder(), skip_header_lines=1)
        rows = lines | source.BeamSource()
        (transformed, metadata), graph = (rows, source.TensorAdapterConfig()) | tft_beam.AnalyzeAndTransformDataset(
            features, output_record_batches=True
        )
        encoder = RecordBatchToExamplesEncoder(metadata.schema)
        _ = (
            transformed
            | "Encode" >> beam.FlatMapTuple(lambda batch, _: encoder.encode(batch))
            | beam.io.WriteToTFRecord(f"{output}/train")
        )
        _ = graph | tft_beam.WriteTransformFn(f"{output}/graph")


if __name__ == "__main__":
    main(*sys.argv[1:])
