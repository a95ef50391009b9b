import unicodedata

import pytest

from penstock.pipeline.sources.near_keys import hint


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("1", "001"),
        ("007", "7"),
        ("1.0", "1"),
        ("+5", "5"),
        ("Cat", "cat"),
        (" a", "a "),
        ("0a", "a"),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
    ],
)
def test_keys_that_differ_in_their_writing_are_named(key: str, other: str):
    words = hint(["x", key], ["y", other])
    assert words.startswith(f"{key!r} and {other!r} differ only in leading zeros")


@pytest.mark.parametrize(
    ("key", "other"), [("1", "10"), ("1", "-1"), ("1.5", "15"), ("a", "b"), ("0", "00x"), ("a", "a")]
)
def test_other_keys_are_not(key: str, other: str):
    assert hint([key], [other]) == ""
