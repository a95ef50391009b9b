"""People in Parquet."""

from people import doubled, features

from penstock import Parquet, Recipe

recipe = Recipe(
    source=Parquet("people/*.parquet"),
    prepare=[doubled],
    features=features,
    splits={"train": 0.7, "test": 0.3},
    shards=2,
)
