"""The device part of `features` as a Keras layer."""

from pathlib import Path

import pytest
from helpers import differences

from penstock.pipeline.load import Dataset


@pytest.mark.slow
def test_the_layer_goes_with_its_model(dataset: Dataset, tmp_path: Path) -> None:
    import keras

    layer = dataset.transform.layer()
    (host,) = dataset.numpy("train", 21, features="host")
    (expected,) = dataset.numpy("train", 21)
    assert differences(layer(host), expected) == []
    inputs = {name: keras.Input(values.shape[1:], dtype=str(values.dtype), name=name) for name, values in host.items()}
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert differences(again(host), expected) == []
