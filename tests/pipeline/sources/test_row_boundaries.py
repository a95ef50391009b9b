"""Rows cut anywhere are the rows of Python's csv module, whatever the text and the range size."""

import csv
import gzip
import io
import random
import re

import pytest

from penstock.pipeline.sources import row_blocks, row_boundaries, text_ranges
from penstock.pipeline.sources.csv import Csv

SIZES = [50, 137, 1000, 4096, 1 << 30]
PIECES = ["a", "bc", "é", "日本", "😀", '"', '""', "\n", "\r\n", "\r", ",", " ", "0", "1.5", "?", "x,y", "\t", "'"]


def nasty(seed, stray):
    """A random table as text: quoted newlines, doubled quotes, every line end, blank lines, `stray` quotes."""
    pick = random.Random(seed)
    width = pick.randint(1, 4)
    quoting_style = pick.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    line_end = pick.choice(["\n", "\r\n", "\r"])
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting_style, lineterminator=line_end)
    writer.writerow([f"c{i}" for i in range(width)])
    for _ in range(pick.randint(1, 120)):
        fields = ["".join(pick.choices(PIECES, k=pick.choice([0, 1, 1, 2, 5, 20]))) for _ in range(width)]
        roll = pick.random()
        if roll < 0.05:
            text.write(line_end)
        elif roll < 0.1:
            writer.writerow(fields + fields)
        elif roll < 0.2 and stray:
            text.write(
                ",".join(pick.choice(['a"b', 'x"', '"q"r', '"q"r"s"', '"q""r"s', "plain"]) for _ in range(width))
            )
            text.write(line_end)
        else:
            writer.writerow(fields)
    written = text.getvalue()
    return written.removesuffix(line_end) if pick.random() < 0.3 else written


def is_strict(lines):
    """Whether one row's lines have no text after a closing quote."""
    try:
        list(csv.reader(lines, strict=True))
    except csv.Error:
        return False
    return True


def expected(text):
    """The rows that fit, their numbers, and (number, line, code) of the others, by Python's csv module."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines)
    width = len(next(reader))
    values, numbers, others = [], [], []
    number = 0
    line = reader.line_num + 1
    for row in reader:
        if row:
            if not is_strict(lines[line - 1 : reader.line_num]):
                others.append((number, line, "text_after_quote"))
            elif len(row) == width:
                values.append(tuple(row))
                numbers.append(number)
            else:
                others.append((number, line, "wrong_columns"))
            number += 1
        line = reader.line_num + 1
    return values, numbers, others


@pytest.mark.parametrize("seed", range(80))
def test_ranges_hold_the_rows_that_the_csv_module_reads(tmp_path, monkeypatch, read_all, seed):
    text = nasty(seed, stray=seed % 3 == 0)
    (tmp_path / "t.csv").write_bytes((b"\xef\xbb\xbf" if seed % 5 == 0 else b"") + text.encode())
    monkeypatch.setattr(row_blocks, "_BLOCK", random.Random(seed).choice([40, 300, 8 << 20]))
    values, numbers, others = expected(text)
    width = len(text.splitlines()[0].split(","))
    columns = {f"c{i}": "string" for i in range(width)}
    source = Csv("t.csv", strip=False, missing=(), columns=columns)
    if not values and not others:
        return
    for size in SIZES:
        read = read_all(source, tmp_path, size)
        assert [tuple(row.values()) for row in read.rows] == values, size
        assert read.numbers == numbers
        assert [problem.code for problem in read.problems] == [code for _, _, code in others]
        assert [problem.key for problem in read.problems] == [f"t.csv:{number}" for number, _, _ in others]
        lines = [int(problem.message.split(", line ")[1].split(":")[0]) for problem in read.problems]
        assert lines == [line for _, line, _ in others]


JUNK = [
    b'"',
    b'"',
    b'""',
    b",",
    b",",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b'\n1,"',
    b"x",
    b"12",
    b"\xff",
    "é".encode(),
    b"?",
    b"\\",
]


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_give_the_same_rows_and_problems_whatever_the_range_size(tmp_path, monkeypatch, read_all, seed):
    pick = random.Random(seed)
    body = b"".join(pick.choices(JUNK, k=pick.randint(1, 600)))
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,x\n" + body)
    monkeypatch.setattr(row_boundaries, "LONGEST_FIELD", pick.choice([30, 200, 1 << 20]))
    monkeypatch.setattr(row_blocks, "_BLOCK", pick.choice([16, 100, 8 << 20]))
    source = Csv(
        "t.csv", columns={"a": "int64", "b": "string"}, strip=bool(seed % 2), escape="\\" if seed % 3 else None
    )
    whole = read_all(source, tmp_path)
    assert sorted([*whole.numbers, *whole.codes]) == list(range(len(whole.numbers) + len(whole.codes)))
    for size in (10, 60, 400):
        read = read_all(source, tmp_path, size)
        assert (read.rows, read.numbers, read.problems) == (whole.rows, whole.numbers, whole.problems)


@pytest.mark.parametrize("seed", range(20))
def test_without_quoted_newlines_every_line_is_a_row(tmp_path, monkeypatch, read_all, seed):
    pick = random.Random(seed)
    content = b"a,b\n1,x\n" + b"".join(pick.choices(JUNK, k=pick.randint(1, 150)))
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    options = {
        "columns": {"a": "string", "b": "string"},
        "escape": "\\" if seed % 3 else None,
        "strip": bool(seed % 2),
        "quoted_newlines": False,
    }
    lines, place = {}, 4
    for line in re.findall(rb"(?:[^\r\n]*(?:\r\n|\r|\n))|[^\r\n]+$", content[4:]):
        if line.strip(b"\r\n"):
            lines[place] = line
        place += len(line)
    alone = {}
    for place, line in lines.items():
        (tmp_path / "line.csv").write_bytes(b"a,b\n1,x\n" + line)
        read = read_all(Csv("line.csv", **options), tmp_path)
        alone[place] = read.rows[1] if len(read.rows) > 1 else read.problems[0].code
    monkeypatch.setattr(text_ranges, "_BLOCK", pick.choice([1, 2, 1 << 16]))
    monkeypatch.setattr(row_blocks, "_BLOCK", pick.choice([16, 100, 8 << 20]))
    for pattern, size in (("t.csv", 1 << 30), ("t.csv", 3), ("t.csv", 50), ("t.csv", 200), ("t.csv.gz", 50)):
        read = read_all(Csv(pattern, **options), tmp_path, size)
        found = dict(zip(read.numbers, read.rows, strict=True)) | read.codes
        assert found == alone, (pattern, size)
        assert read.numbers == sorted(read.numbers)
    assert all(record_range.by_lines for record_range in Csv("t.csv", **options).find(str(tmp_path), 3).ranges) or (
        len(content) < 8
    )
