"""Oxford-IIIT Pet with its list of annotations joined: breed, species and group as columns beside photo and mask.

`annotations/list.txt` has a name, the breed's number, the species (1 cat, 2 dog) and the number within the species.
"""

from penstock.pipeline import Csv, Images, Recipe, join
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
