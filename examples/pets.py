"""Oxford-IIIT Pet: photos with segmentation masks (https://www.robots.ox.ac.uk/~vgg/data/pets/)."""

import tensorflow_transform as tft

from penstock import Images, Recipe
from penstock.transforms import image


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),  # full-pass mean and standard deviation per channel
        "mask": inputs["mask"] - 1,  # 1 pet, 2 background, 3 border become 0, 1, 2
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }


recipe = Recipe(
    source=Images("images/*.jpg", mask="annotations/trimaps/{stem}.png", label=r"(?P<label>.+)_\d+"),
    prepare=[image.resize(128, 128)],
    features=features,
    splits={"train": 0.8, "validation": 0.1, "test": 0.1},
)
