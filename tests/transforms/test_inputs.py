"""What is called in `features`, and what importing costs. tf.Transform itself is tested in tests/pipeline."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from penstock.transforms import categorical, dates, image, numeric, text
from penstock.transforms.inputs import Inputs


def test_importing_the_modules_is_light() -> None:
    program = """
import sys
from penstock.transforms import histogram, image, image_codec, inputs, outcome
heavy = {"apache_beam", "tensorflow", "tensorflow_transform", "tfx_bsl", "pyarrow"}
print(heavy & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "set()", ran.stderr


def test_inputs_are_a_dict_with_statistics() -> None:
    inputs = Inputs({"a": 1})
    assert dict(inputs) == {"a": 1}
    with pytest.raises(ValueError, match="found inputs without statistics; pass on the very `inputs`"):
        _ = inputs.statistics


class Counted:
    """Stands in for the statistics of a run: the counts of one batch."""

    def __init__(self, pixels: Any) -> None:
        self._counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(pixels, -1, 0)])

    def histogram(self, name: str) -> Any:
        if name != "image":
            raise ValueError(f"expected the name of a uint8 image, one of ['image'], found {name!r}")
        import tensorflow as tf

        return tf.constant(self._counts)


def analyzed(pixels: Any) -> Inputs:
    """Inputs as `features` receives them."""
    import tensorflow as tf

    return Inputs({"image": tf.constant(pixels)}, statistics=Counted(pixels))  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("per_channel", [True, False])
def test_standardized_pixels_are_what_numpy_computes(channels: int, per_channel: bool) -> None:
    rng = np.random.default_rng(2)
    pixels = (rng.integers(0, 256, (5, 6, 7, channels)) // np.array([1, 3, 20][:channels])).astype(np.uint8)
    actual = image.standardize(analyzed(pixels), "image", per_channel=per_channel).numpy()
    axes = (0, 1, 2) if per_channel else None
    mean = pixels.mean(axis=axes, dtype=np.float64).astype(np.float32)
    std = pixels.std(axis=axes, dtype=np.float64).astype(np.float32)
    assert actual.dtype == np.float32
    assert np.array_equal(actual, (pixels.astype(np.float32) - mean) / std)


def test_a_constant_channel_becomes_zeros() -> None:
    pixels = np.full((2, 3, 3, 3), 40, np.uint8)
    pixels[0, 0, 0, 1] = 50
    actual = image.standardize(analyzed(pixels), "image").numpy()
    assert not actual[..., [0, 2]].any()
    assert actual[..., 1].any()
    assert np.isfinite(actual).all()


def test_no_data_gives_finite_numbers() -> None:
    """tf.Transform may run the graph on nothing before there are statistics."""
    inputs = analyzed(np.ones((1, 2, 2, 3), np.uint8))
    empty = Inputs(dict(inputs), statistics=Counted(np.ones((0, 2, 2, 3), np.uint8)))  # type: ignore[arg-type]
    assert np.isfinite(image.standardize(empty, "image").numpy()).all()


def test_standardize_refuses_what_has_no_counts() -> None:
    with pytest.raises(ValueError, match=r"standardize: .*one of \['image'\], found 'mask'; use tft.scale_to_z_score"):
        image.standardize(analyzed(np.ones((1, 2, 2, 3), np.uint8)), "mask")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.5, 0.5), (2.0, 10.0)])
def test_scale_maps_the_ends_onto_the_ends(low: float, high: float) -> None:
    import tensorflow as tf

    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    actual = image.scale(Inputs({"image": tf.constant(values)}), "image", low, high).numpy()
    assert (actual.dtype, actual.shape) == (np.float32, values.shape)
    assert (actual.flat[0], actual.flat[255]) == (low, high)
    assert actual == pytest.approx(low + values.astype(np.float64) * (high - low) / 255, rel=1e-6, abs=1e-6)


def test_scale_refuses_what_is_no_uint8_image() -> None:
    import tensorflow as tf

    inputs = Inputs({"image": tf.zeros([1, 2, 2, 3], tf.uint8), "depth": tf.zeros([1, 2, 2, 1], tf.uint16)})
    with pytest.raises(ValueError, match=r"one of \['image'\], found 'depth' of dtype uint16; use"):
        image.scale(inputs, "depth")
    with pytest.raises(ValueError, match=r"one of \['image'\], found 'photo'; use"):
        image.scale(inputs, "photo")
    with pytest.raises(ValueError, match=r"scale\(low=..., high=...\): expected low < high, found \(1, 0\)"):
        image.scale(inputs, "image", 1, 0)


BY_NAME: list[Callable[[Any, Any], Any]] = [
    numeric.standardize,
    numeric.min_max,
    numeric.robust_scale,
    numeric.log,
    numeric.is_missing,
    categorical.vocabulary,
    categorical.vocabulary_size,
    categorical.frequency,
    image.standardize,
    image.scale,
    lambda inputs, name: numeric.bucketize(inputs, name, 3),
    lambda inputs, name: numeric.clip(inputs, name, 0),
    lambda inputs, name: numeric.fill_missing(inputs, name, 0),
    lambda inputs, name: numeric.standardize_by_key(inputs, "x", name),
    lambda inputs, name: dates.cyclical(inputs, name, 12),
]


@pytest.mark.parametrize("helper", BY_NAME)
def test_helpers_of_columns_say_that_they_want_a_name(helper: Callable[[Any, Any], Any]) -> None:
    import tensorflow as tf

    tensor = tf.constant([1.0])
    inputs = Inputs({"x": tensor})
    words = r"expected a column's name, one of \['x'\], found a tensor of float32 \['batch'\]; use "
    with pytest.raises(ValueError, match=words):
        helper(inputs, tensor)
    for others, found in ((tensor, "a tensor of float32"), (dict(inputs), "a dict")):
        with pytest.raises(ValueError, match=f"expected the very `inputs` that `features` received first, .* {found}"):
            helper(others, "x")


@pytest.mark.parametrize(
    "helper",
    [
        text.lower,
        text.words,
        lambda name: categorical.one_hot(name, 3),
        lambda name: categorical.hash_bucket(name, 3),
        lambda name: text.pad(name, 3),
        lambda name: text.ngrams(name, 2),
        lambda name: text.word_ids(name, top_k=3),
        lambda name: text.bag_of_words(name, 3),
        lambda name: text.tfidf(name, 3),
    ],
)
def test_helpers_of_tensors_say_that_they_want_one(helper: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"expected a tensor, such as inputs\['title'\], found the name 'title'"):
        helper("title")
