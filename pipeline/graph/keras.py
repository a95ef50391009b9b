"""A Keras 3 layer: the device's part of a transform graph inside a model, on any Keras backend. Imports Keras."""

from collections.abc import Mapping
from typing import Any

import keras

from .portable import PortableGraph


@keras.saving.register_keras_serializable("penstock")
class TransformLayer(keras.layers.Layer):
    """Applies the device's part of a transform graph to a batch: feature name to tensor in, and out.

    The model's file holds the graph's operations and constants: it needs no dataset to be opened, but this module to be
    imported, by which Keras knows the layer.

    Args:
      content: The portable graph, `portable.json` as read from JSON; see `Dataset.transform.content`.
      **options: As for keras.layers.Layer.
    """

    def __init__(self, content: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**{"trainable": False, "dtype": "float32", "autocast": False, **options})
        self._content = content
        self._graph = PortableGraph(content, lambda _: b"")  # look-ups are the host's part

    def call(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The graph's outputs, but strings."""
        return self._graph.run_device(batch)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes the layer of."""
        return {**super().get_config(), "content": self._content}
