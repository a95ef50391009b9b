from pathlib import Path

import pytest

from penstock.pipeline import RequestError
from penstock.pipeline.sources.key_lists import KeyIndex, KeyList

KEYS = ["a/1.jpg", "a/2.jpg", "b/2.jpg", "b/3.tar.gz", "b/.hidden", "4"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a/1.jpg", "a/1.jpg"),
        ("a/1", "a/1.jpg"),
        ("1.jpg", "a/1.jpg"),
        ("1", "a/1.jpg"),
        ("b/2", "b/2.jpg"),
        ("3.tar", "b/3.tar.gz"),
        (".hidden", "b/.hidden"),
        ("4", "4"),
        ("nowhere", None),
        ("c/1.jpg", None),
        ("", None),
    ],
)
def test_an_example_is_found_by_its_names(name: str, key: str | None):
    assert KeyIndex(KEYS).find(name, "list.txt") == key


def test_a_name_of_two_examples_is_an_error():
    for name in ("2", "2.jpg"):
        with pytest.raises(RequestError, match=r"names 2 examples .*write the path relative to the input"):
            KeyIndex(KEYS).find(name, "list.txt")


def test_an_exact_key_wins_over_another_examples_alias():
    assert KeyIndex(["x", "x.jpg", "a/x"]).find("x", "list.txt") == "x"


@pytest.mark.parametrize(
    ("name", "content", "table"),
    [
        ("l.csv", 'file,breed\n"a,1.jpg",cat\nb.jpg , dog \n', KeyList("l.csv", "file", "breed")),
        ("l.csv", '﻿id,breed,file\n0,cat,"a,1.jpg"\n\n1,dog,b.jpg\n', KeyList("l.csv", "file", "breed")),
        ("l.tsv", "a,1.jpg\tcat\r\nb.jpg\tdog\r\n", KeyList("l.tsv")),
        ("l.TSV", "x\ta,1.jpg\tcat\nx\tb.jpg\tdog", KeyList("l.TSV", 1, 2)),
        ("l.txt", "# breeds\na,1.jpg  1 cat\n\n\tb.jpg\t2 dog\n", KeyList("l.txt", 0, 2)),
        ("l.csv", "file,breed\na,x\n", None),
    ],
)
def test_lists_are_read(tmp_path: Path, name: str, content: str, table: KeyList | None):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    if table:
        assert table.read(str(tmp_path)) == [("a,1.jpg", "cat"), ("b.jpg", "dog")]
    else:  # positions take the first line for data
        assert KeyList(name).read(str(tmp_path)) == [("file", "breed"), ("a", "x")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,label\na\n", r"row 2: expected at least 2 columns, found 1: \['a'\]"),
        (b"id,breed\na,cat\n", r"expected a column 'name', found \['id', 'breed'\]"),
        (b"", r"expected a column 'name', found \[\]"),
        (b"name,label\n\xff\xfe,x\n", "expected a UTF-8 list"),
        (b'name,label\na,"' + b"x\n" * 70_000, "is a quote left open"),
    ],
)
def test_lists_with_mistakes_are_named(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(RequestError, match=message) as raised:
        KeyList("l.csv", "name", "label").read(str(tmp_path))
    assert str(tmp_path / "l.csv") in str(raised.value)
