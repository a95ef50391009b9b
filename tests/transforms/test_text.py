import pickle
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from penstock.transforms import text

PIECES = ("[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ",", "[PAD]")


def applied(step: Any, *strings: str | None) -> list[Any]:
    return step(pa.record_batch({"t": pa.array(strings, pa.string())}))["t"].to_pylist()  # type: ignore[no-any-return]


def test_normalize() -> None:
    # a ligature, full-width letters, e and an accent, a no-break space, a sharp s
    assert applied(text.normalize("t"), " \ufb01ne\u00a0\t \uff21\uff22 ", "E\u0301", "STRA\u1e9eE", None, "") == [
        "fine ab",
        "\u00e9",
        "stra\u00dfe",
        None,
        "",
    ]
    assert applied(text.normalize("t", form="NFC", lower=False, strip=False), " \ufb01 E\u0301") == [" \ufb01 \u00c9"]
    large = pa.record_batch({"t": pa.array(["A"], pa.large_string())})
    assert text.normalize("t")(large)["t"].to_pylist() == ["a"]


@pytest.mark.parametrize("form", ["NFC", "NFKC", "NFD", "NFKD"])
def test_normal_forms_are_unicodes(form: text.Form) -> None:
    strings = ["E\u0301", "\u00c9", "\u1112\u1161\u11ab", "\u212b", "a\u0323\u0307", "a\u0307\u0323", "\u2460", "plain"]
    step = text.normalize("t", form=form, lower=False, strip=False)
    assert applied(step, *strings, None) == [*(unicodedata.normalize(form, t) for t in strings), None]


def test_limit_counts_characters() -> None:
    assert applied(text.limit("t", 3), "äöüß", "ab", None, "😀😀😀😀") == ["äöü", "ab", None, "😀😀😀"]


def test_steps_pickle_and_check_their_arguments() -> None:
    for step in (text.normalize("t"), text.limit("t", 3), text.wordpiece("t", text.WordPiece(PIECES))):
        assert pickle.loads(pickle.dumps(step)) == step
        with pytest.raises(ValueError, match=r"one of the columns \['x'\], found 't'"):
            step(pa.record_batch({"x": ["a"]}))
        with pytest.raises(ValueError, match="expected a column of text, found 'int64'"):
            step(pa.record_batch({"t": [1]}))
    for bad in (
        lambda: text.normalize("t", form="NFX"),  # type: ignore[arg-type]
        lambda: text.limit("t", 0),
        lambda: text.wordpiece("t", text.WordPiece(PIECES), length=0),
        lambda: text.wordpiece("t", text.WordPiece(PIECES), padding="[PAD]"),
        lambda: text.WordPiece(("a",)),
        lambda: text.WordPiece(("[UNK]", "a", "a")),
    ):
        with pytest.raises(ValueError, match="expected"):
            bad()


# the cases of google-research/bert, tokenization_test.py
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("UNwant\u00e9d,running", ["un", "##want", "##ed", ",", "runn", "##ing"]),
        ("", []),
        ("unwanted running", ["un", "##want", "##ed", "runn", "##ing"]),
        ("unwantedX running", ["[UNK]", "runn", "##ing"]),
    ],
)
def test_wordpiece_cuts_as_bert_does(given: str, expected: list[str]) -> None:
    assert text.WordPiece(PIECES).tokens(given) == expected


@pytest.mark.parametrize(
    ("given", "lower", "expected"),
    [
        (" \tHeLLo!how  \n Are yoU?  ", True, ["hello", "!", "how", "are", "you", "?"]),
        ("H\u00e9llo", True, ["hello"]),
        (" \tHeLLo!how  \n Are yoU?  ", False, ["HeLLo", "!", "how", "Are", "yoU", "?"]),
        ("ah\u535a\u63a8zz", True, ["ah", "\u535a", "\u63a8", "zz"]),
        ("a\u0000b\ufffd\u200bc", True, ["abc"]),
        ("$5 a-b", True, ["$", "5", "a", "-", "b"]),
    ],
)
def test_basic_tokens_are_berts(given: str, lower: bool, expected: list[str]) -> None:
    tokenizer = text.WordPiece(("[UNK]", *dict.fromkeys(expected)), lower=lower)
    assert tokenizer.tokens(given) == expected


def test_wordpiece_gives_ids() -> None:
    tokenizer = text.WordPiece(PIECES)
    assert tokenizer.ids("unwanted, wanted") == [7, 4, 5, 10, 3, 5]
    assert tokenizer.ids("a" * 101) == [0]
    assert text.WordPiece(("[UNK]", "a", "##a")).ids("a" * 100) == [1] + [2] * 99
    assert tokenizer == pickle.loads(pickle.dumps(tokenizer))
    step = text.wordpiece("t", tokenizer)
    assert applied(step, "wanted", None, "un,un") == [[3, 5], [], [7, 10, 7]]
    assert applied(text.wordpiece("t", tokenizer, length=3, padding="[PAD]"), "wanted", "un,un,un", None) == [
        [3, 5, 11],
        [7, 10, 7],
        [11, 11, 11],
    ]
    both = text.wordpiece("t", tokenizer, output="ids", length=1)(pa.record_batch({"t": ["wanted"]}))
    assert both.to_pydict() == {"t": ["wanted"], "ids": [[3]]}
    assert applied(step) == []


def ragged(value: Any) -> list[list[Any]]:
    return [[item.decode() if isinstance(item, bytes) else item for item in row] for row in value.to_list()]


TEXTS = ["Zürich: 3 Äpfel, don't!", "", "日本 e\u0301t"]


def test_words_of_any_script() -> None:
    expected = [["zürich", "3", "äpfel", "don", "t"], [], ["日本", "e\u0301t"]]
    assert ragged(text.words(text.lower(tf.constant(TEXTS)))) == expected
    function = tf.function(
        lambda strings: text.words(text.lower(strings)), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    assert ragged(function(tf.constant(TEXTS))) == expected


def test_ngrams() -> None:
    tokens = tf.ragged.constant([["a", "b", "c"], ["d"], []])
    assert ragged(text.ngrams(tokens, 2)) == [["a b", "b c"], [], []]
    assert ragged(text.ngrams(tokens, [1, 2], "_")) == [["a", "b", "c", "a_b", "b_c"], ["d"], []]
    for bad in (0, [], [1, 0]):
        with pytest.raises(ValueError, match=r"ngrams\(widths\)"):
            text.ngrams(tokens, bad)


def test_pad() -> None:
    actual = text.pad(tf.ragged.constant([[1, 2, 3], [4], []], tf.int64), 2, tf.constant(-1, tf.int64))
    assert actual.numpy().tolist() == [[1, 2], [4, -1], [-1, -1]]
    assert text.pad(tf.ragged.constant([["a"], []]), 2).numpy().tolist() == [[b"a", b""], [b"", b""]]
    assert actual.shape == (3, 2)
    with pytest.raises(ValueError, match=r"pad\(length\)"):
        text.pad(tf.ragged.constant([[1]]), 0)


def test_bag_of_words_counts() -> None:
    ids = tf.ragged.constant([[0, 2, 2], [], [1]], tf.int64)
    assert text.bag_of_words(ids, 4).numpy().tolist() == [[1, 0, 2, 0], [0] * 4, [0, 1, 0, 0]]


@pytest.mark.slow
def test_vocabulary_bag_of_words_and_tfidf_through_tf_transform(tmp_path: Path) -> None:
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata

    strings = ["pie pie I like pie", "yum yum pie", "", "rare"]

    def features(given: Any) -> dict[str, Any]:
        ids = text.word_ids(text.words(text.lower(given["t"])), top_k=4, min_count=1)
        return {"ids": text.pad(ids, 5, -1), "bag": text.bag_of_words(ids, 5), "tfidf": text.tfidf(ids, 5)}

    metadata = dataset_metadata.DatasetMetadata.from_feature_spec({"t": tf.io.FixedLenFeature([], tf.string)})
    with tft_beam.Context(temp_dir=str(tmp_path)):
        (rows, _), _ = ([{"t": t} for t in strings], metadata) | tft_beam.AnalyzeAndTransformDataset(features)
    # pie 4, yum 2, rare 1, like 1 (tf.Transform orders ties from z to a); "i" is out of it
    number = {"pie": 0, "yum": 1, "rare": 2, "like": 3, "i": 4}
    documents = [[number[word] for word in t.lower().split()] for t in strings]
    having = Counter(word for document in documents for word in set(document))
    for row, document in zip(rows, documents, strict=True):
        assert row["ids"].tolist() == (document + [-1] * 5)[:5]
        counts = np.bincount(document, minlength=5) if document else np.zeros(5)
        assert row["bag"].tolist() == counts.tolist()
        idf = [1 + np.log((len(strings) + 1) / (having[word] + 1)) for word in range(5)]
        np.testing.assert_allclose(row["tfidf"], counts / max(len(document), 1) * idf, rtol=1e-5)


def test_sizes_are_checked() -> None:
    ids = tf.ragged.constant([[0]], tf.int64)
    for call in (
        lambda: text.bag_of_words(ids, 0),
        lambda: text.tfidf(ids, 0),
        lambda: text.word_ids(ids, top_k=0),
        lambda: text.word_ids(ids, top_k=1, min_count=0),
        lambda: text.word_ids(ids, top_k=1, oov_buckets=0),
    ):
        with pytest.raises(ValueError, match="a whole number from 1, found 0"):
            call()
