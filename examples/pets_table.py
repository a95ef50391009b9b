"""Oxford-IIIT Pet joined with its list of annotations: species and breed are columns of every photo and mask.

Each line of `annotations/list.txt` has a photo's name, the number of the breed, the species (1 cat, 2 dog) and the
number of the breed within the species.
"""

from penstock import Csv, Images, Recipe, join
from penstock.transforms import categorical, image


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "mask": inputs["mask"] - 1,
        "species": inputs["species"] - 1,
        "breed": categorical.vocabulary(inputs, "breed", oov_buckets=0),
    }


recipe = Recipe(
    source=join(
        Images("images/*.jpg", mask="annotations/trimaps/{stem}.png"),
        Csv("annotations/list.txt", delimiter=" ", names=["name", "breed", "species", "number"]),
        on="name",
        how="inner",
    ),
    prepare=[image.resize(128, 128)],
    features=features,
    splits={"train": 0.8, "validation": 0.1, "test": 0.1},
)
