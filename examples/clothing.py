"""Photos of clothes in a folder for each split and class (alexeygrigorev/clothing-dataset-small)."""

import tensorflow_transform as tft

from penstock import Images, Recipe, by_folder, folder
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
