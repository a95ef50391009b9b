"""The census with Beam's MLTransform: the same features, written to TFRecord.

Beam's ReadFromCsv does not work with pandas 3, so lines are split by Python's csv module.

Usage: _mltransform_census.py FOLDER OUTPUT
"""

import csv
import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import numpy as np
import tensorflow as tf
from _census import CATEGORIES, FILE, LABEL, NAMES, NUMBERS
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.ml.transforms.tft import Bucketize, ComputeAndApplyVocabulary, ScaleToZScore
from apache_beam.options.pipeline_options import PipelineOptions


def parse(line: str) -> dict[str, Any]:
    cells = dict(zip(NAMES, (cell.strip() for cell in next(csv.reader([line]))), strict=True))
    row: dict[str, Any] = {name.replace("-", "_"): cells[name] for name in (*CATEGORIES, LABEL)}
    row |= {name.replace("-", "_"): float(cells[name]) for name in NUMBERS}
    return row | {"age_bucket": float(cells["age"])}


def serialize(row: Any) -> bytes:
    example = tf.train.Example()
    for name, value in row._asdict().items():
        values = np.ravel(value)
        into = example.features.feature[name]
        (into.float_list if values.dtype.kind == "f" else into.int64_list).value.extend(values.tolist())
    return example.SerializeToString()


def main(folder: str, output: str) -> None:
    os.makedirs(f"{output}/artifacts")
    options = PipelineOptions(["--runner=FnApiRunner", "--direct_num_workers=1", "--direct_running_mode=in_memory"])
    strings = [name.replace("-", "_") for name in (*CATEGORIES, LABEL)]
    transform = MLTransform(write_artifact_location=f"{output}/artifacts")
    transform = transform.with_transform(ScaleToZScore([name.replace("-", "_") for name in NUMBERS]))
    transform = transform.with_transform(Bucketize(["age_bucket"], num_buckets=10))
    for name in strings:
        transform = transform.with_transform(ComputeAndApplyVocabulary([name], vocab_filename=name))
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromText(f"{folder}/{FILE}", skip_header_lines=1)
            | "Parse" >> beam.Map(parse)
            | transform
            | "Serialize" >> beam.Map(serialize)
            | beam.io.WriteToTFRecord(f"{output}/train")
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
