"""banking77: short questions of a bank's customers, in 77 classes (PolyAI-LDN/task-specific-datasets)."""

from penstock.pipeline import Csv, Recipe, by_glob
from penstock.transforms import categorical, text


def features(inputs):
    return {
        "words": text.bag_of_words(inputs, "text"),
        "label": categorical.vocabulary(inputs, "category", oov_buckets=0),
    }


recipe = Recipe(
    source=Csv(["train.csv", "test.csv"]),
    features=features,
    splits=by_glob({"train": "train.csv", "test": "test.csv"}),
)
