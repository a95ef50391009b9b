"""Ranges that are scanned one by one, and put together, have the rows of a reader of the whole file."""

import csv
import io
import random

import numpy as np
import pytest

from penstock.pipeline.errors import PenstockError
from penstock.pipeline.sources import row_blocks, row_boundaries, row_scan, sampling, text_ranges
from penstock.pipeline.sources.csv import Csv
from penstock.pipeline.sources.nominal import resolve_all, resolve_in_turn
from penstock.pipeline.sources.row_boundaries import Dialect, find_boundaries
from penstock.pipeline.sources.row_scan import resolve, sample_range, scan_range
from penstock.pipeline.sources.text_ranges import nominal_ranges
from penstock.pipeline.storage.files import FileInfo

TABLES = [b'"', b'"', b'""', b",", b",", b"\n", b"\n", b"\r\n", b"\r", b" ", b'\n1,"', b'",', b"x", b"12", b"\\", b"\t"]
QUOTED = [b'"a,b\n\nc",', b'"x","""y"""\r\n', b'"\n', b"1,2\n", b'"",""\n', b'"\n\n', b',"', b"plain text", b"\n"]
JSON = [b'{"a":1}\n', b"\n", b" \n", b"\t{}\r\n", b" \r", b"{}\r", b"x", b"  "]


def draw(pick):
    """A dialect and bytes that use what it knows."""
    if pick.random() < 0.15:
        return Dialect(0, None, False, skip_blanks=True), b"".join(pick.choices(JSON, k=pick.randint(1, 80)))
    dialect = Dialect(
        ord(","), ord('"') if pick.random() < 0.9 else None, pick.random() < 0.5, escape=pick.choice([None, ord("\\")])
    )
    pieces = pick.choice([TABLES, QUOTED, TABLES + QUOTED])
    return dialect, b"".join(pick.choices(pieces, k=pick.randint(1, pick.choice([20, 300]))))


def serial(content, dialect, ranges):
    """What `resolve` is to give, by `find_boundaries` on all of the content."""
    data = np.frombuffer(content, np.uint8)
    boundaries = find_boundaries(data, dialect)
    blank = boundaries.blank(data, dialect.skip_blanks)
    filled = np.ones(len(boundaries.ends), bool) if blank is None else ~blank
    owners = np.searchsorted([each.begin for each in ranges], boundaries.starts, "right") - 1
    expected = []
    for number in np.unique(owners):
        rows = np.flatnonzero(owners == number)
        if filled[rows].any():
            begin = int(boundaries.starts[rows[0]])
            line = 1 + int(np.searchsorted(boundaries.lines, begin))
            first_row = int(np.count_nonzero(filled[: rows[0]]))
            end = int(boundaries.ends[rows[-1]])
            expected.append((begin, end, first_row, int(np.count_nonzero(filled[rows])), line))
    return expected


def compose(path, content, dialect, size, begin=0):
    """What `resolve` gives, of ranges of this size."""
    path.write_bytes(content)
    info = FileInfo(str(path), len(content), 0.0)
    ranges = nominal_ranges(info, "t", size, begin)
    scans = [scan_range(each, dialect) for each in ranges]
    return ranges, resolve(ranges, scans, dialect)


def shown(ranges):
    return [(each.begin, each.end, each.first_row, each.rows, each.first_line) for each in ranges]


def check(path, monkeypatch, seed):
    pick = random.Random(seed)
    monkeypatch.setattr(row_boundaries, "LONGEST_FIELD", pick.choice([10, 40, 1 << 20]))
    monkeypatch.setattr(row_scan, "_BEHIND", pick.choice([1, 3, 64]))
    monkeypatch.setattr(row_scan, "_AHEAD", pick.choice([1, 8, 1 << 16]))
    dialect, content = draw(pick)
    for size in {1, pick.randint(2, 9), pick.randint(10, 200)}:
        ranges, resolved = compose(path, content, dialect, size)
        assert shown(resolved) == serial(content, dialect, ranges), (seed, size)


@pytest.mark.parametrize("part", range(4))
def test_boundaries_are_those_of_a_serial_reader(tmp_path, monkeypatch, part):
    for seed in range(part * 15, part * 15 + 15):
        check(tmp_path / "t", monkeypatch, seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_boundaries_of_ten_thousand_files_are_those_of_a_serial_reader(tmp_path, monkeypatch, part):
    for seed in range(1000 + part * 1000, 2000 + part * 1000):
        check(tmp_path / "t", monkeypatch, seed)


def table(seed, rows=400):
    """A table as Python writes it: fields with quotes, delimiters and line ends."""
    pick = random.Random(seed)
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=pick.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    for number in range(rows):
        words = [pick.choice(["a", ",", '"', "\n", "word", "\r\n", '","', ", "]) for _ in range(pick.randint(0, 12))]
        writer.writerow([number, "".join(words), number / 7])
    return text.getvalue()


@pytest.mark.parametrize("seed", range(6))
def test_samples_of_a_range_are_rows(tmp_path, seed):
    content, dialect = table(seed).encode(), Dialect(ord(","), ord('"'), True)
    ranges, _ = compose(tmp_path / "t", content, dialect, 500)
    boundaries = find_boundaries(np.frombuffer(content, np.uint8), dialect)
    begins = {0, *boundaries.ends.tolist()}
    samples = [sample for each in ranges if (sample := sample_range(each, dialect))]
    assert len(samples) > 0.9 * len(ranges)
    assert all({each.begin, each.end} <= begins for each in samples)
    assert sum(each.size for each in samples) > 0.5 * len(content)


def test_samples_show_the_types_of_columns(tmp_path, monkeypatch):
    """Of a file that is not read whole: as its beginning and parts from all over it show them."""
    (tmp_path / "t.csv").write_text(table(3, 2000) + 'x,"a\nb",0.5\n')
    monkeypatch.setattr(sampling, "LOOKED_AT", 10_000)
    monkeypatch.setattr(sampling, "_HEAD", 1000)
    monkeypatch.setattr(sampling, "_JOINED", 600)
    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    source = Csv("t.csv", names=["n", "text", "ratio"])
    listing = source.find(str(tmp_path), 500)
    assert all(each.is_nominal for each in listing.ranges)
    assert [str(field.type) for field in listing.schema.columns] == ["int64", "string", "double"]


@pytest.mark.parametrize("seed", range(30))
def test_rows_that_are_too_long_are_cut_as_a_serial_reader_cuts_them(tmp_path, monkeypatch, read_all, seed):
    pick = random.Random(seed)
    content = b"a,b\n1,x\n" + b"".join(pick.choices([*TABLES, b"x" * 50], k=pick.randint(1, 300)))
    (tmp_path / "t.csv").write_bytes(content)
    monkeypatch.setattr(row_blocks, "_BLOCK", pick.choice([7, 16, 100]))
    monkeypatch.setattr(row_blocks, "LONGEST_ROW", pick.choice([40, 120]))
    monkeypatch.setattr(row_boundaries, "LONGEST_FIELD", pick.choice([30, 60]))
    source = Csv("t.csv", columns={"a": "string", "b": "string"}, strip=bool(seed % 2))
    whole = read_all(source, tmp_path)
    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    for size in (10, 60, 400):
        listing = source.find(str(tmp_path), size)
        ranges = resolve_all(source, listing.ranges, 4)
        parts = [source.read(each, listing.schema) for each in ranges]
        assert [row for part in parts for row in part.batch.to_pylist()] == whole.rows
        assert [number for part in parts for number in part.numbers.tolist()] == whole.numbers
        assert [problem for part in parts for problem in part.problems] == whole.problems
        assert list(resolve_in_turn(source, listing.ranges)) == ranges


def test_a_scan_reads_as_far_as_a_field_goes(tmp_path, monkeypatch):
    """Beyond the range and the bytes that are read with it; and a quote without another is known to be that."""
    monkeypatch.setattr(row_scan, "_AHEAD", 2)
    dialect = Dialect(ord(","), ord('"'), False)
    for tail in (b'", end\n1,2\n', b'"\n1,2\n', b"\n1,2\n"):
        content = b'1,2\n3,"' + b"long\n" * 400 + tail
        ranges, resolved = compose(tmp_path / "t", content, dialect, 7)
        assert shown(resolved) == serial(content, dialect, ranges)


def test_a_file_that_changed_between_scan_and_use_is_refused(tmp_path):
    dialect = Dialect(ord(","), ord('"'), False)
    ranges, _ = compose(tmp_path / "t", b'1,"a b c d e"\n3,"4 5"\n', dialect, 8)
    first = [scan_range(ranges[0], dialect)]
    (tmp_path / "t").write_bytes(b'1,a b c d e"\n3,"4 5"\n\n')
    with pytest.raises(PenstockError, match="changed after it was listed"):
        resolve(ranges, [*first, *(scan_range(each, dialect) for each in ranges[1:])], dialect)


def test_the_first_ranges_are_resolved_without_the_others(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"1,2\n" * 1000)
    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    source = Csv("t.csv")
    listing = source.find(str(tmp_path), 100)
    scanned = []

    def counted(record_range, dialect):
        scanned.append(record_range.begin)
        return scan_range(record_range, dialect)

    monkeypatch.setattr("penstock.pipeline.sources.nominal.scan_range", counted)
    first = next(resolve_in_turn(source, listing.ranges))
    assert (first.begin, first.first_row, first.first_line, first.is_nominal) == (4, 0, 2, False)
    assert len(scanned) == 2


@pytest.mark.parametrize("size", range(1, 30))
def test_after_a_field_that_is_too_long_quotes_count_from_the_next_line_on(tmp_path, monkeypatch, size):
    monkeypatch.setattr(row_boundaries, "LONGEST_FIELD", 10)
    dialect = Dialect(ord(","), ord('"'), False)
    content = b'1,2\n"' + b"a" * 30 + b'","b\nc",d\n"e\nf",g\n'
    ranges, resolved = compose(tmp_path / "t", content, dialect, size)
    assert shown(resolved) == serial(content, dialect, ranges)
