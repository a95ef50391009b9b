"""Text: functions for `prepare`, which work on whole batches in Arrow, and for `features`, which work on tensors.

| in `prepare` (Arrow, Python)                 | in `features` (the graph, so also when serving)       |
| -------------------------------------------- | ----------------------------------------------------- |
| normalize: Unicode form, case, white space   | lower: case                                           |
| limit: at most so many characters            | pad: at most, and at least, so many words             |
| wordpiece: text to the ids of a given model  | words, ngrams, word_ids, bag_of_words, tfidf          |

TensorFlow has no Unicode normalization without tensorflow_text, hence the division: what `prepare` does to text, a
server that gets raw text must do as well, before it calls the graph.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .check import expect, is_int
from .columns import Vectorized, put
from .inputs import expect_tensor
from .step import config_of

Form = Literal["NFC", "NFKC", "NFD", "NFKD"]


def normalize(name: str, *, form: Form = "NFKC", lower: bool = True, strip: bool = True) -> Vectorized:
    """For `prepare`: brings text to one Unicode form, so that what looks alike is alike.

    Args:
      name: A column of text.
      form: The Unicode normal form; "NFKC" also replaces ligatures, full-width letters and the like.
      lower: Whether to make it lower-case.
      strip: Whether to remove white space at both ends and make that between words one space.

    Raises:
      ValueError: an argument is not what it should be.

    >>> text.normalize("t")(pa.record_batch({"t": ["  Two  ﬁgs ", None]})).to_pydict()
    {'t': ['two figs', None]}
    """
    expect(isinstance(name, str) and bool(name), "normalize(name)", "the name of a column", name)
    expect(form in get_args(Form), "normalize(form=...)", f"one of {get_args(Form)}", form)
    return Vectorized(_Normalize(name, form, lower, strip), f"text.normalize({name!r})")


@dataclass(frozen=True)
class _Normalize:
    step_id: ClassVar[str] = "text.normalize"

    name: str
    form: Form
    lower: bool
    strip: bool

    @property
    def touches(self) -> tuple[str, ...]:
        """The column that it changes."""
        return (self.name,)

    def config(self) -> dict[str, Any]:
        """The arguments of `normalize`, by name."""
        return config_of(self)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        strings = _normalized(_string_column("normalize", self.name, batch), self.form)
        if self.lower:
            strings = pc.utf8_lower(strings)
        if self.strip:
            strings = pc.utf8_trim_whitespace(pc.replace_substring_regex(strings, r"[\s\p{Z}]+", " "))
        return put(batch, self.name, strings)


def _normalized(strings: pa.Array, form: Form) -> pa.Array:
    """Strings in a Unicode normal form, by Python: pyarrow 25's utf8_normalize never composes (apache/arrow#51225)."""
    beyond_ascii = pc.fill_null(pc.invert(pc.string_is_ascii(strings)), False)
    if not pc.any(beyond_ascii).as_py():
        return strings  # ASCII is in every normal form
    changed = [unicodedata.normalize(form, text) for text in strings.filter(beyond_ascii).to_pylist()]
    return pc.replace_with_mask(strings, beyond_ascii, pa.array(changed, strings.type))


def limit(name: str, characters: int) -> Vectorized:
    """For `prepare`: cuts text off after so many characters (Unicode code points).

    Raises:
      ValueError: an argument is not what it should be.

    >>> text.limit("t", 3)(pa.record_batch({"t": ["abcde", "ab"]})).to_pydict()
    {'t': ['abc', 'ab']}
    """
    expect(is_int(characters, 1), "limit(characters)", "a whole number from 1", characters)
    return Vectorized(_Limit(name, characters), f"text.limit({name!r}, {characters})")


@dataclass(frozen=True)
class _Limit:
    step_id: ClassVar[str] = "text.limit"

    name: str
    characters: int

    @property
    def touches(self) -> tuple[str, ...]:
        """The column that it changes."""
        return (self.name,)

    def config(self) -> dict[str, Any]:
        """The arguments of `limit`, by name."""
        return config_of(self)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        strings = _string_column("limit", self.name, batch)
        return put(batch, self.name, pc.utf8_slice_codeunits(strings, 0, self.characters))


class _Letters(dict[int, str]):
    """For str.translate: characters as BERT's basic tokenizer sees them, found out when they first occur."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character.isspace():
            replaced = " "
        elif category in ("Cc", "Cf") or code in (0, 0xFFFD):
            replaced = ""
        elif category.startswith("P") or (33 <= code < 127 and not character.isalnum()) or _is_ideograph(code):
            replaced = f" {character} "
        else:
            replaced = character
        self[code] = replaced
        return replaced


_LETTERS = _Letters()


@dataclass(frozen=True)
class WordPiece:
    """Cuts text into the pieces of a vocabulary, as BERT does: into words, then off each the longest piece that fits.

    Google's BERT, tokenization.py, says it in Python: BasicTokenizer, then WordpieceTokenizer.

    Attributes:
      vocabulary: The pieces; a piece's place is its id. Those that continue a word start with "##".
      lower: Whether to make text lower-case and drop its accents, as "uncased" models want.
      unknown: The piece for a word that cannot be cut into others; it must be in the vocabulary.
      longest: A word of more characters is unknown.
    """

    vocabulary: tuple[str, ...]
    lower: bool = True
    unknown: str = "[UNK]"
    longest: int = 100

    def __post_init__(self) -> None:
        expect(self.unknown in self.vocabulary, "WordPiece(unknown=...)", "a piece of the vocabulary", self.unknown)
        is_set = len(set(self.vocabulary)) == len(self.vocabulary)
        expect(is_set, "WordPiece(vocabulary=...)", "pieces that differ", f"{len(self.vocabulary)} with doubles")

    def config(self) -> dict[str, Any]:
        """The arguments by name; of the vocabulary, which may be large, its size and the SHA-256 of its lines."""
        lines = "".join(f"{piece}\n" for piece in self.vocabulary).encode()
        vocabulary = {"size": len(self.vocabulary), "sha256": hashlib.sha256(lines).hexdigest()}
        return {"vocabulary": vocabulary, "lower": self.lower, "unknown": self.unknown, "longest": self.longest}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.vocabulary)}

    @cached_property
    def _cut(self) -> dict[str, list[str]]:
        return {}  # words that were cut before

    def tokens(self, text: str) -> list[str]:
        """The pieces of a text."""
        if self.lower:
            text = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        return [piece for word in text.translate(_LETTERS).split() for piece in self._pieces(word)]

    def ids(self, text: str) -> list[int]:
        """The ids of a text's pieces."""
        return [self._ids[piece] for piece in self.tokens(text)]

    def _pieces(self, word: str) -> list[str]:
        known = self._cut.get(word)
        if known is None:
            known = self._longest_match(word)
            if len(self._cut) < 100_000:
                self._cut[word] = known
        return known

    def _longest_match(self, word: str) -> list[str]:
        if len(word) > self.longest:
            return [self.unknown]
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self._ids)
            end = next(ends, None)
            if end is None:
                return [self.unknown]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}  # no caches


def wordpiece(
    name: str, tokenizer: WordPiece, *, output: str | None = None, length: int | None = None, padding: str | None = None
) -> Vectorized:
    """For `prepare`: replaces text with the ids of its pieces. It is the part of a model that needs no full pass.

    Args:
      name: A column of text; a missing one has no pieces.
      tokenizer: How to cut it.
      output: The column to put them into, int64 lists; None replaces the text.
      length: Leaves out pieces beyond so many.
      padding: The piece, such as "[PAD]", with which shorter rows are filled up to the length.

    Raises:
      ValueError: an argument is not what it should be.

    >>> tokenizer = text.WordPiece(("[PAD]", "[UNK]", "play", "##ing"))
    >>> step = text.wordpiece("t", tokenizer, length=3, padding="[PAD]")
    >>> step(pa.record_batch({"t": ["Playing", "play chess"]})).to_pydict()
    {'t': [[2, 3, 0], [2, 1, 0]]}
    """
    expect(length is None or is_int(length, 1), "wordpiece(length=...)", "None or a whole number from 1", length)
    is_piece = padding is None or (length is not None and padding in tokenizer.vocabulary)
    expect(is_piece, "wordpiece(padding=...)", "a piece of the vocabulary, and a length", padding)
    return Vectorized(_ToPieces(name, tokenizer, output or name, length, padding), f"text.wordpiece({name!r})")


@dataclass(frozen=True)
class _ToPieces:
    step_id: ClassVar[str] = "text.wordpiece"

    name: str
    tokenizer: WordPiece
    output: str
    length: int | None
    padding: str | None

    @property
    def touches(self) -> tuple[str, ...]:
        """The column that it changes."""
        return (self.output,)

    def config(self) -> dict[str, Any]:
        """The arguments of `wordpiece`, by name."""
        return config_of(self) | {"tokenizer": self.tokenizer.config()}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        filling = [] if self.padding is None else [self.tokenizer.vocabulary.index(self.padding)] * (self.length or 0)
        strings = _string_column("wordpiece", self.name, batch).to_pylist()
        rows = [(self.tokenizer.ids(text or "") + filling)[: self.length] for text in strings]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        flat = np.fromiter((number for row in rows for number in row), np.int64, int(offsets[-1]))
        return put(batch, self.output, pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)))


def lower(strings: Any) -> Any:
    """For `features`: text in lower case, of any script.

    Args:
      strings: string of any shape, UTF-8.

    >>> text.lower(tf.constant(["ÄRA"])).numpy()[0].decode()
    'ära'
    """
    expect_tensor(strings, "lower(strings)")
    import tensorflow as tf

    return tf.strings.lower(strings, encoding="utf-8")


def words(strings: Any) -> Any:
    """For `features`: the words of text: runs of letters, marks and digits, of any script.

    Args:
      strings: string [batch], UTF-8.

    Returns:
      A ragged string tensor [batch, words].

    >>> text.words(tf.constant(["to be, or", ""])).to_list()
    [[b'to', b'be', b'or'], []]
    """
    expect_tensor(strings, "words(strings)")
    import tensorflow as tf

    return tf.strings.split(tf.strings.regex_replace(strings, r"[^\pL\pM\pN]+", " "))


def ngrams(tokens: Any, widths: int | Sequence[int], separator: str = " ") -> Any:
    """For `features`: runs of so many tokens.

    Args:
      tokens: A ragged string tensor [batch, tokens].
      widths: How many tokens; or several numbers, whose runs follow one another.
      separator: What joins them.

    Returns:
      A ragged string tensor [batch, runs]; a text that is shorter than a width has none of it.

    Raises:
      ValueError: a width is none.

    >>> tokens = tf.ragged.constant([["to", "be", "or"], ["not"]])
    >>> text.ngrams(tokens, [1, 2]).to_list()
    [[b'to', b'be', b'or', b'to be', b'be or'], [b'not']]
    """
    expect_tensor(tokens, "ngrams(tokens)")
    several = [widths] if isinstance(widths, int) else list(widths)
    expect(bool(several) and all(is_int(w, 1) for w in several), "ngrams(widths)", "whole numbers from 1", widths)
    import tensorflow as tf

    return tf.concat([tf.strings.ngrams(tokens, width, separator=separator) for width in several], axis=1)


def pad(tokens: Any, length: int, value: Any = None) -> Any:
    """For `features`: a dense tensor with so many tokens in every row: longer rows are cut, shorter ones filled up.

    Args:
      tokens: A ragged tensor [batch, tokens].
      length: How many.
      value: What fills; None is 0 or the empty text.

    Returns:
      A tensor [batch, length] of the tokens' dtype.

    Raises:
      ValueError: the length is none.

    >>> text.pad(tf.ragged.constant([[1, 2, 3], [4]]), 2).numpy().tolist()
    [[1, 2], [4, 0]]
    """
    expect_tensor(tokens, "pad(tokens)")
    expect(is_int(length, 1), "pad(length)", "a whole number from 1", length)
    return tokens.to_tensor(default_value=value, shape=[None, length])


def word_ids(tokens: Any, *, top_k: int, min_count: int = 1, oov_buckets: int = 1, name: str | None = None) -> Any:
    """For `features`: numbers tokens by how often they occur in the statistics' split (tft.vocabulary).

    Unlike columns' own values, what `features` computes is counted by tf.Transform itself.

    Args:
      tokens: A ragged string tensor [batch, tokens].
      top_k: At most so many tokens get an id of their own.
      min_count: So do only tokens that occur at least so often.
      oov_buckets: The ids after these, for all other tokens.
      name: The vocabulary file's name.

    Returns:
      A ragged int64 tensor [batch, tokens], 0 to top_k + oov_buckets - 1.

    Raises:
      ValueError: an argument is not what it should be.

    Of a batch `tokens` of [["to", "be"], ["be"]], "be" is the more frequent::

      text.word_ids(tokens, top_k=10)  # [[1, 0], [0]]
    """
    expect_tensor(tokens, "word_ids(tokens)")
    expect(is_int(top_k, 1), "word_ids(top_k=...)", "a whole number from 1", top_k)
    expect(is_int(min_count, 1), "word_ids(min_count=...)", "a whole number from 1", min_count)
    expect(is_int(oov_buckets, 1), "word_ids(oov_buckets=...)", "a whole number from 1", oov_buckets)
    import tensorflow_transform as tft

    return tft.compute_and_apply_vocabulary(
        tokens,
        top_k=top_k,
        frequency_threshold=min_count if min_count > 1 else None,
        num_oov_buckets=oov_buckets,
        vocab_filename=name,
    )


def bag_of_words(ids: Any, size: int) -> Any:
    """For `features`: how often each id occurs in a row.

    Args:
      ids: A ragged int64 tensor [batch, tokens], of `word_ids`.
      size: How many ids there are: top_k + oov_buckets.

    Returns:
      float32 [batch, size].

    Raises:
      ValueError: the size is none.

    >>> text.bag_of_words(tf.ragged.constant([[0, 2, 2], []], dtype=tf.int64), 3).numpy().tolist()
    [[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
    """
    expect_tensor(ids, "bag_of_words(ids)")
    expect(is_int(size, 1), "bag_of_words(size)", "a whole number from 1", size)
    import tensorflow as tf

    rows = tf.cast(ids.value_rowids(), tf.int64)
    indices = tf.stack([rows, ids.flat_values], axis=1)
    return tf.scatter_nd(indices, tf.ones_like(ids.flat_values, tf.float32), tf.stack([ids.nrows(), size]))


def tfidf(ids: Any, size: int, *, smooth: bool = True) -> Any:
    """For `features`: term frequency times inverse document frequency (tft.tfidf).

    The term frequency is a token's share of its row; the inverse document frequency is
    1 + log((rows + 1) / (rows with the token + 1)).

    Args:
      ids: A ragged int64 tensor [batch, tokens], of `word_ids`.
      size: How many ids there are: top_k + oov_buckets.
      smooth: Whether the two ones are added within the logarithm.

    Returns:
      float32 [batch, size].

    Raises:
      ValueError: the size is none.

    Of `ids` of [[1, 0], [0]] and a size of 2::

      text.tfidf(ids, 2)  # [[0.5, 0.702733], [1.0, 0.0]]
    """
    expect_tensor(ids, "tfidf(ids)")
    expect(is_int(size, 1), "tfidf(size)", "a whole number from 1", size)
    import tensorflow as tf
    import tensorflow_transform as tft

    tokens, weights = tft.tfidf(ids.to_sparse(), size, smooth=smooth)
    indices = tf.stack([tokens.indices[:, 0], tokens.values], axis=1)
    return tf.scatter_nd(indices, weights.values, tf.stack([ids.nrows(), size]))


def _string_column(function: str, name: str, batch: pa.RecordBatch) -> pa.Array:
    expect(name in batch.schema.names, f"{function}({name!r})", f"one of the columns {batch.schema.names}", name)
    column = batch.column(name)
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    expect(is_text, f"{function}({name!r})", "a column of text", str(column.type))
    return column


def _is_ideograph(code: int) -> bool:
    """Whether BERT takes a character for a word of its own: Chinese characters, not Japanese syllables or Hangul."""
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )
