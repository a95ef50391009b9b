import contextlib
import random
import unicodedata
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import reference_table

from penstock.pipeline import RequestError
from penstock.pipeline.sources import key_lists, names
from penstock.pipeline.sources.key_lists import KeyList


def read(table: KeyList, root: Path, *keys: str, warnings: list[str] | None = None) -> list[tuple[str, str]]:
    """Name and value of each line."""
    index_of = partial(names.index_of, reference_table(keys), names.ALL)
    batches = table.read(str(root), index_of, [] if warnings is None else warnings)
    return [(row["name"], row["value"]) for batch in batches for row in batch.to_pylist()]


def find(keys: Sequence[str], *written: str) -> tuple[list[str | None], list[str]]:
    """The key that each name leads to, None where it leads to none, and warnings."""
    table = reference_table(keys)
    lines = {"name": pa.array(written, pa.string()), "value": [""] * len(written)}
    names.load_names(table, "written", [pa.RecordBatch.from_pydict(lines)])
    named = names.find_named(table, "written", "l.csv")
    found = table.database.rows(
        f"SELECT key FROM written LEFT JOIN {named.table} USING (row) LEFT JOIN files USING (rid) ORDER BY row"
    )
    assert named.strangers == found.count((None,))
    return [key for (key,) in found], named.warnings


def matched(table: KeyList, root: Path, keys: Sequence[str]) -> list[tuple[str | None, str]]:
    """The key that each line of a list leads to, and its value."""
    lines = read(table, root, *keys)
    found, _ = find(keys, *(name for name, _ in lines))
    return list(zip(found, (value for _, value in lines), strict=True))


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
    assert find(KEYS, name)[0] == [key]


def test_a_name_of_two_examples_is_an_error():
    for name in ("2", "2.jpg"):
        with pytest.raises(RequestError, match=r"names 2 examples .*write the path relative to the input"):
            find(KEYS, "1", name, "nowhere")


def test_an_exact_key_wins_over_another_examples_alias():
    assert find(["x", "x.jpg", "a/x"], "x", "x.jpg", "a/x")[0] == ["x", "x.jpg", "a/x"]


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
        assert read(table, tmp_path) == [("a,1.jpg", "cat"), ("b.jpg", "dog")]
    else:  # positions take the first line for data
        assert read(KeyList(name), tmp_path) == [("file", "breed"), ("a", "x")]


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
        read(KeyList("l.csv", "name", "label"), tmp_path)
    assert str(tmp_path / "l.csv") in str(raised.value)


BLANKS = ["images/cat.jpg", "images/cat 2.jpg", "images/dog.jpg", "images/dog 2.jpg"]


@pytest.mark.parametrize(
    ("lines", "keys"),
    [
        ("dog.jpg\ndog 2.jpg\n", ["images/dog.jpg", "images/dog 2.jpg"]),
        ("cat 2.jpg\n", ["images/cat 2.jpg"]),
        ("cat\ncat 2\n", ["images/cat.jpg", "images/cat 2.jpg"]),
        ("cat 1 1\ncat 2 1 1\n", ["images/cat.jpg", "images/cat 2.jpg"]),
        ("images/dog 2.jpg 7 8\ncat.jpg 9\n", ["images/dog 2.jpg", "images/cat.jpg"]),
        ("dog 2.jpg\tx\ncat.jpg\ty\n", ["images/dog 2.jpg", "images/cat.jpg"]),
        ("no such file.jpg\ncat.jpg\n", [None, "images/cat.jpg"]),
        ("# a comment\ncat.jpg\n", ["images/cat.jpg"]),
    ],
)
def test_names_with_blanks_are_not_cut(tmp_path: Path, lines: str, keys: list[str | None]):
    (tmp_path / "l.txt").write_text(lines)
    assert [key for key, _ in matched(KeyList("l.txt", value=None), tmp_path, BLANKS)] == keys


@pytest.mark.parametrize(
    ("lines", "pairs"),
    [
        ("dog.jpg 4\ncat 2.jpg 3\n", [("images/dog.jpg", "4"), ("images/cat 2.jpg", "3")]),
        ("dog.jpg\tbig dog\ncat 2.jpg\tbig cat\n", [("images/dog.jpg", "big dog"), ("images/cat 2.jpg", "big cat")]),
        ("cat 2.jpg x 3\ndog x 4\n", [("images/cat 2.jpg", "x"), ("images/dog.jpg", "x")]),
    ],
)
def test_values_after_names_with_blanks(tmp_path: Path, lines: str, pairs: list[tuple[str, str]]):
    (tmp_path / "l.txt").write_text(lines)
    assert matched(KeyList("l.txt"), tmp_path, BLANKS) == pairs


def test_a_value_before_a_name_with_blanks(tmp_path: Path):
    (tmp_path / "l.txt").write_text("class file\n4 dog.jpg\n3 cat 2.jpg\n")
    pairs = matched(KeyList("l.txt", "file", "class"), tmp_path, BLANKS)
    assert pairs == [("images/dog.jpg", "4"), ("images/cat 2.jpg", "3")]


@pytest.mark.parametrize(
    ("lines", "value", "message"),
    [
        ("cat 2\n", None, r"line 1: expected one way to read 'cat 2', found 'cat' and what follows it, or a name"),
        ("dog.jpg\ncat 3.jpg\n", None, r"line 2: expected one way to read 'cat 3.jpg'"),
        ("cat 3.jpg 7\n", 1, r"line 1: expected one way to read 'cat 3.jpg 7'"),
        ("dog.jpg dog\ncat.jpg big cat\n", 1, r"line 2: expected 2 columns as in line 1, found 3 in 'cat.jpg big cat'"),
        ("cat 1\ndog 1 1\n", None, r"line 2: expected 2 columns as in line 1, found 3"),
    ],
)
def test_what_can_be_read_in_several_ways_is_refused(tmp_path: Path, lines: str, value: int | None, message: str):
    (tmp_path / "l.txt").write_text(lines)
    with pytest.raises(RequestError, match=message) as raised:
        read(KeyList("l.txt", value=value), tmp_path, *BLANKS)
    assert "write the list as .csv or .tsv" in str(raised.value)


def test_words_behind_a_value_are_told_where_they_are_no_numbers(tmp_path: Path):
    warnings: list[str] = []
    (tmp_path / "l.txt").write_text("cat.jpg 1 1 2\ndog.jpg 2 1 3\n")
    read(KeyList("l.txt"), tmp_path, *BLANKS, warnings=warnings)
    assert warnings == []
    (tmp_path / "l.txt").write_text("cat.jpg persian cat\ndog.jpg golden retriever\n")
    read(KeyList("l.txt"), tmp_path, *BLANKS, warnings=warnings)
    (warning,) = warnings
    assert "line 1: 'persian' was taken from 'cat.jpg persian cat', and what follows it was not" in warning


def test_a_line_that_begins_with_a_hash_is_no_comment_where_it_names_an_example(tmp_path: Path):
    (tmp_path / "l.txt").write_text("#1.jpg\n#2.jpg\n")
    assert matched(KeyList("l.txt", value=None), tmp_path, ["a/#1.jpg"]) == [("a/#1.jpg", "")]


def test_names_are_found_whatever_their_unicode_form():
    composed, decomposed = ("a/" + unicodedata.normalize(form, "Müller") + ".jpg" for form in ("NFC", "NFD"))
    keys, warnings = find([decomposed, "a/2.jpg"], composed, composed[2:], composed[:-4], composed[2:-4])
    assert keys == [decomposed] * 4
    assert "l.csv: 4 names are those of examples but for their Unicode form" in "".join(warnings)
    assert find([composed, decomposed], composed[2:-4], decomposed[2:-4]) == ([composed, decomposed], [])


@pytest.mark.parametrize(
    ("content", "table", "words"),
    [
        ("file,label\na,x\nb,y, z\n", KeyList("l.csv", "file", "label"), "row 3: expected 2 columns, as the header"),
        ("a,x\nb,y, z\n", KeyList("l.csv"), "row 2: expected 2 columns, as others have, found 3"),
        ("b,1.jpg,y\na,x\n", KeyList("l.csv"), "row 1: expected 2 columns, as others have, found 3"),
        ('file,label\na,"x\nb,y\n', KeyList("l.csv", "file", "label"), "is a quote left open"),
        ('a,"x"y\n', KeyList("l.csv"), "is a quote left open"),
    ],
)
def test_a_csv_list_does_not_cut_values(tmp_path: Path, content: str, table: KeyList, words: str):
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(RequestError) as raised:
        read(table, tmp_path)
    assert words in str(raised.value)


def test_empty_columns_at_the_end_of_a_csv_list_do_not_count(tmp_path: Path):
    (tmp_path / "l.csv").write_text("file,label\na,x\nb,y,, \nc,z,\n")
    assert read(KeyList("l.csv", "file", "label"), tmp_path) == [("a", "x"), ("b", "y"), ("c", "z")]


def test_a_line_that_names_two_examples_is_warned_of(tmp_path: Path):
    keys = ["a/1.jpg", "a/2.jpg", "7.jpg"]
    for line, words in (("1.jpg 2.jpg", "'1.jpg' was taken from '1.jpg 2.jpg', and '2.jpg'"), ("1.jpg a/1.jpg 7", "")):
        (tmp_path / "l.txt").write_text(f"{line}\n")
        warnings: list[str] = []
        ((name, _),) = read(KeyList("l.txt", value=None), tmp_path, *keys, warnings=warnings)
        assert find(keys, name)[0] == ["a/1.jpg"]
        assert len(warnings) == bool(words)
        assert words in "".join(warnings)


@pytest.mark.parametrize(
    "content",
    [
        "file,label\na, x\nb,y\n",
        "\n\nfile,label\n\na,x\n\nb ,\u3000y\x1c\n",
        "\ufefffile,label\na,x\nb,y",
        "file,label\r\na,x\r\nb,y\r\n",
        "file,label\ra,x\rb,y\r",
        'file,label\n"a",x\nb,y\n',
        'file,label\na,x\n"b",y\n',
        '"file","label"\r\n"a","x"\r\n"b","y"',
        "file,label\na,x\nb,y,\n",
        "file,label,more\na,x\nb,y,\n",
    ],
)
@pytest.mark.parametrize("block", [24, 1 << 20])
def test_a_csv_list_is_read_alike_with_and_without_arrow(
    tmp_path: Path, content: str, block: int, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "l.csv").write_bytes(content.encode())
    monkeypatch.setattr(key_lists, "_BLOCK", block)
    table = KeyList("l.csv", "file", "label")
    assert read(table, tmp_path) == [("a", "x"), ("b", "y")]
    monkeypatch.setattr(key_lists, "_plain_rows", refuse)
    assert read(table, tmp_path) == [("a", "x"), ("b", "y")]


def refuse(*_: object) -> None:
    raise pa.ArrowInvalid("no")


def test_a_quoted_list_is_read_by_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(key_lists, "_to_batches", refuse)
    (tmp_path / "l.csv").write_text('"file","label"\n"a","x, ""y"""\n"b",""\n')
    assert read(KeyList("l.csv", "file", "label"), tmp_path) == [("a", 'x, "y"'), ("b", "")]


def test_whatever_a_list_holds_arrow_reads_what_python_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    generator = random.Random(0)
    path, plain = tmp_path / "l.csv", 0
    for _ in range(1000):
        content = "".join(generator.choices('ab ",\n\r', [2, 2, 1, 4, 3, 2, 1], k=generator.randint(1, 20)))
        path.write_text(content, newline="")
        monkeypatch.setattr(key_lists, "_BLOCK", generator.choice([1, 3, 16, 1 << 22]))
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowKeyError):
            batches = list(key_lists._plain_rows(str(path), ",", [], 0, 1))
            rows = [(row["name"], row["value"]) for batch in batches for row in batch.to_pylist()]
            plain += bool(rows)
            with monkeypatch.context() as patched:
                patched.setattr(key_lists, "_plain_rows", refuse)
                assert rows == read(KeyList("l.csv"), tmp_path), content
    assert plain > 50


def test_a_list_goes_on_where_a_quote_comes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(key_lists, "_BLOCK", 64)
    rows = [(f"name {number}", "x" if number < 50 else f"x, {number}") for number in range(100)]
    lines = [f'{name},"{value}"' if "," in value else f"{name},{value}" for name, value in rows]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    assert read(KeyList("l.csv"), tmp_path) == rows
