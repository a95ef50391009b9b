"""People in JSON lines."""

from people import doubled, features

from penstock import JsonLines, Recipe

recipe = Recipe(
    source=JsonLines("people/*.jsonl"),
    prepare=[doubled],
    features=features,
    splits={"train": 0.7, "test": 0.3},
    shards=2,
)
