"""People in CSV."""

from people import doubled, features

from penstock import Csv, Recipe

recipe = Recipe(
    source=Csv("people/*.csv"),
    prepare=[doubled],
    features=features,
    splits={"train": 0.7, "test": 0.3},
    shards=2,
)
