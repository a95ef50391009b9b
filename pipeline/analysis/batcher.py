"""Packs a unit's examples into RecordBatches for tft's analyzers, while the unit is built or when it is read back.

Only the columns that the analyzers depend on hold their values; the others hold placeholders of little size.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio import tf_example_record

from ..formats.features import Feature
from .schema import example_schema


def adapter_config(features: Mapping[str, Feature]) -> object:
    """How tf.Transform reads the batches, as a tfx_bsl TensorAdapterConfig."""
    schema = example_schema(features)
    return tf_example_record.TFExampleBeamRecord(physical_format="inmem", schema=schema).TensorAdapterConfig()


class Batcher:
    """Collects a unit's examples of the statistics' split; batches do not depend on the chunks in which they come."""

    def __init__(
        self, features: Mapping[str, Feature], columns: tuple[str, ...], batch_size: int, row_limit: int
    ) -> None:
        """Starts empty.

        Args:
          features: The features of a prepared example.
          columns: Those whose values the analyzers depend on.
          batch_size: Examples in a batch.
          row_limit: Rows in a batch where they come as columns, as many as there are at a time.
        """
        self._features = features
        self._columns = {name: features[name] for name in columns}
        self._batch_size = batch_size
        self._row_limit = row_limit
        self._schema: pa.Schema = adapter_config(features).arrow_schema  # type: ignore[attr-defined]
        self._decoder = (
            ExamplesToRecordBatchDecoder(example_schema(self._columns).SerializeToString()) if columns else None
        )
        self._examples: list[bytes] = []
        self._rows: list[pa.RecordBatch] = []

    def add(self, analyzed: Sequence[bytes] | pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Takes what a chunk has for the analyzers (see `Chunk.analyzed`); yields the batches that are full."""
        if self._decoder is None:
            return
        if isinstance(analyzed, pa.RecordBatch):
            rows = pa.Table.from_batches([*self._rows, analyzed])
            end = len(rows) - len(rows) % self._row_limit
            for start in range(0, end, self._row_limit):
                yield self._pack_rows(rows.slice(start, self._row_limit))
            self._rows = rows.slice(end).to_batches()
        else:
            self._examples += analyzed
            while len(self._examples) >= self._batch_size:
                full, self._examples = self._examples[: self._batch_size], self._examples[self._batch_size :]
                yield self._pack(self._decoder.DecodeBatch(full))

    def flush(self) -> Iterator[pa.RecordBatch]:
        """Yields the last batch."""
        if self._examples and self._decoder is not None:
            examples, self._examples = self._examples, []
            yield self._pack(self._decoder.DecodeBatch(examples))
        if self._rows:
            rows, self._rows = pa.Table.from_batches(self._rows), []
            yield self._pack_rows(rows)

    def _pack_rows(self, rows: pa.Table) -> pa.RecordBatch:
        (batch,) = rows.combine_chunks().to_batches()
        return self._pack(_as_lists(batch, self._columns))

    def _pack(self, values: pa.RecordBatch) -> pa.RecordBatch:
        """A batch with all of the features: placeholders for those that nothing depends on."""
        columns = []
        for column in self._schema:
            if column.name in self._columns:
                columns.append(values.column(values.schema.get_field_index(column.name)).cast(column.type))
            else:
                columns.append(_placeholder(self._features[column.name], len(values), column.type))
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _as_lists(batch: pa.RecordBatch, features: Mapping[str, Feature]) -> pa.RecordBatch:
    """Columns of single values as columns of lists of at most one value, which is what tfx_bsl's adapters read."""
    columns = []
    for name, feature in features.items():
        column = batch.column(name)
        if not feature.shape:
            dtype = {"int64": pa.int64(), "float32": pa.float32()}.get(feature.dtype, pa.large_binary())
            present = column.is_valid()
            offsets = np.concatenate([[0], np.cumsum(np.asarray(present))])
            column = _large_list(offsets, column.drop_null().cast(dtype, safe=False), ~np.asarray(present))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=list(features))


def _placeholder(feature: Feature, rows: int, arrow_type: pa.DataType) -> pa.Array:
    if feature.optional or None in feature.shape:
        empty = pa.array([], arrow_type.value_type)
        return _large_list(np.zeros(rows + 1, np.int64), empty, np.ones(rows, bool)).cast(arrow_type)
    width = 1 if feature.is_pixels else int(np.prod([size or 0 for size in feature.shape]))
    return _fixed(np.zeros(rows * width, np.int64), rows, arrow_type)


def _fixed(values: np.ndarray, rows: int, arrow_type: pa.DataType) -> pa.Array:
    """A column with equally many values in every row; in a column of bytes they are all empty."""
    item = arrow_type.value_type
    flat = pa.array([b""] * len(values), item) if pa.types.is_large_binary(item) else pa.array(values).cast(item)
    width = len(values) // rows if rows else 0
    return pa.LargeListArray.from_arrays(pa.array(np.arange(rows + 1) * width), flat).cast(arrow_type)


def _large_list(offsets: np.ndarray, values: pa.Array, missing: np.ndarray) -> pa.Array:
    """Lists that are null where they are missing: tfx_bsl puts a default there, but not into an empty list."""
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values, mask=pa.array(missing))
