"""Drawn images with masks: statistics over all pixels, and a vocabulary by tf.Transform's own analyzer."""

import tensorflow_transform as tft

from penstock import Images, Recipe
from penstock.transforms import image


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "mask": inputs["mask"] - 1,
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }


recipe = Recipe(
    source=Images("images/*.png", mask="masks/{stem}.png", label=r"(?P<label>.+)_\d+"),
    prepare=[image.resize(20, 12)],
    features=features,
    splits={"train": 0.6, "validation": 0.2, "test": 0.2},
    shards=2,
)
