"""banking77: short questions from customers of a bank, in 77 classes (PolyAI-LDN/task-specific-datasets)."""

from penstock import Csv, Recipe, by_glob
from penstock.transforms import categorical, text

WORDS = 2000  # the most frequent words, which get an id each


def features(inputs):
    ids = text.word_ids(text.words(text.lower(inputs["text"])), top_k=WORDS, name="words")
    return {
        "words": text.pad(ids + 1, 40),  # 0 is padding
        "bag": text.bag_of_words(ids, WORDS + 1),
        "label": categorical.vocabulary(inputs, "category", oov_buckets=0),
    }


recipe = Recipe(
    source=Csv(["train.csv", "test.csv"]),
    prepare=[text.normalize("text")],  # Unicode NFKC, lower case, without blanks around it
    features=features,
    splits=by_glob({"train": "train.csv", "test": "test.csv"}),
)
