"""Photos of clothes, one folder a class, below one folder a split (alexeygrigorev/clothing-dataset-small)."""

import tensorflow_transform as tft

from penstock.pipeline import Images, Recipe, by_folder, folder
from penstock.transforms import image


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }


recipe = Recipe(
    source=Images("*/*/*.jpg", label=folder()),
    prepare=[image.resize(224, 224, fit="cover")],
    features=features,
    splits=by_folder(),
)
