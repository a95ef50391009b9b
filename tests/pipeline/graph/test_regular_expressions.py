"""Regular expressions as Python runs them, against RE2, which is TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from penstock.pipeline.graph.obstacles import expression_classes
from penstock.pipeline.graph.regular_expressions import NotAlikeError, compiled, replacement, translate

GENERATOR = np.random.default_rng(0)
LETTERS = list("ab1.- \n\t\u000bé٣_X]")
STRINGS = [
    *("", "abc a1b2", "12.5, 7", "a\nb\n", "été ÄÖ über", "foo123bar", "日本 語", "[x]{y}", "1.2.3.4", "ab" * 5),
    *("".join(GENERATOR.choice(LETTERS, GENERATOR.integers(0, 12))) for _ in range(500)),
]
ENCODED = [*(string.encode() for string in STRINGS), b"a\xffb 1\xc3", b"\xff\xfe"]
ALIKE = [
    (r"[^\pL\pM\pN]+", " "),
    (r"\P{L}+", "-"),
    (r"[\p{Greek}\p{Lu}]", "G"),
    ("[0-9]+", "#"),
    (r"\d+(\.\d+)?", r"<\1>"),
    (r"[\s,.]+", "S"),
    (r"\S", "s"),
    (r"\W", ""),
    (r"(\w)(\w)", r"\2\1\\"),
    ("a|ab|b", "_"),
    ("^a", "^"),
    (r"\n$", "$"),
    (r"\bX\b", "w"),
    (".", "?"),
    ("[^a]", "n"),
    (r"[a-c\d]+", "k"),
    (r"(\d{1,3}\.){3}\d+", "ip"),
    ("a{2,3}?", "aa"),
    ("(?:ab){2,}", "R"),
    ("a+?b", "q"),
    (r"(a)|(b)", r"\1\2\0"),
    (r"[\-\]]", "b"),
]


@pytest.mark.parametrize(("pattern", "rewrite"), ALIKE)
def test_what_is_portable_means_the_same(pattern: str, rewrite: str) -> None:
    expression = compiled(pattern, tuple(sorted(expression_classes(pattern).items())), True)
    write = replacement(rewrite, expression.groups)
    decoded = [string.decode("utf-8", "surrogateescape") for string in ENCODED]
    for count, everywhere in ((0, True), (1, False)):
        replaced = [expression.sub(write, string, count).encode("utf-8", "surrogateescape") for string in decoded]
        assert replaced == tf.strings.regex_replace(ENCODED, pattern, rewrite, everywhere).numpy().tolist()
    matches = [expression.fullmatch(string) is not None for string in decoded]
    assert matches == tf.strings.regex_full_match(ENCODED, pattern).numpy().tolist()


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("x*", "matches the empty text"),
        (r"\b", "matches the empty text"),
        ("(a+)+", "repeats what may be empty or of several lengths"),
        ("(a|ab)*c", "repeats what may be empty or of several lengths"),
        ("(a?)*", "repeats what may be empty"),
        ("a**", "repeats"),
        ("(a+){11}", "repeats"),
        ("a{1001}", "more than 1000 times"),
        ("(?i)a", "flag"),
        ("(?P<n>a)", "named group"),
        ("[[:alpha:]]", "bracket in brackets"),
        (r"[a-\d]", "range that is not between"),
        (r"[^\D]", "negated class"),
        (r"\x41", r"\\x"),
        (r"\C", r"\\C"),
        (r"a\Bb", r"\\B"),
        ("[ab", "ends too early"),
        ("a)", r"expected no '\)'"),
        ("a{", r"expected no '\{'"),
        (r"\p{Nothing}", "unknown class"),
    ],
)
def test_what_may_mean_something_else_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(NotAlikeError, match=reason):
        translate(pattern, {"L": "41-5a 61-7a"}, replaced=True)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("[z-a]", "bad character range"), ("a{3,2}", "min repeat"), ("(" * 3000 + ")" * 3000, "nested too deeply")],
)
def test_what_is_no_expression_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(NotAlikeError, match=reason):
        compiled(pattern, (), False)


@pytest.mark.parametrize("rewrite", [r"\2", r"\a", "\\"])
def test_a_rewrite_names_groups_that_are_there(rewrite: str) -> None:
    with pytest.raises(NotAlikeError, match="names what is no group"):
        replacement(rewrite, 1)
