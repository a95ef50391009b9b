"""What is read a block at a time is what is read at once, however long rows are and wherever blocks end."""

import gzip
import random
import subprocess
import sys
import zlib

import pytest

from penstock.pipeline.sources import row_blocks, row_boundaries
from penstock.pipeline.sources.csv import Csv
from penstock.pipeline.sources.json_lines import JsonLines
from penstock.pipeline.sources.record_source import stream_rows
from penstock.pipeline.sources.union import Union

JUNK = [b'"', b'"', b'""', b",", b",", b"\n", b"\n", b"\r\n", b"\r", b" ", b'\n1,"', b"x", b"12", b"\xff", b"?", b"\\"]
LINES = [
    b'{"a":1,"b":"x"}',
    b'{"b":"\xff"}',
    b"{",
    b'{"b":"' + b"y" * 150 + b'"}',
    b"",
    b" ",
    b'{"a":"z"}',
    b"\xef\xbb\xbf",
]


def small_blocks(monkeypatch, pick):
    monkeypatch.setattr(row_blocks, "_BLOCK", pick.choice([7, 16, 100]))
    monkeypatch.setattr(row_blocks, "LONGEST_ROW", pick.choice([40, 120, 1 << 20]))
    monkeypatch.setattr(row_boundaries, "LONGEST_FIELD", pick.choice([30, 60]))


def outcome(read):
    """All but where it was found: a compressed file has another name."""
    problems = [
        (problem.key.rpartition(":")[2], problem.code, problem.message.split(", line ")[1]) for problem in read.problems
    ]
    return read.rows, read.numbers, problems


@pytest.mark.parametrize("seed", range(60))
def test_csv(tmp_path, monkeypatch, read_all, seed):
    pick = random.Random(seed)
    content = b"a,b\n1,x\n" + b"".join(pick.choices(JUNK, k=pick.randint(1, 600)))
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "ascii.csv").write_bytes(content.replace(b"\xff", b"w"))
    (tmp_path / "u.csv").write_bytes(content.replace(b"\xff", b"w").decode().encode("utf-16"))
    options = {"columns": {"a": "int64", "b": "string"}, "escape": "\\" if seed % 3 else None, "strip": bool(seed % 2)}
    small_blocks(monkeypatch, pick)
    whole = read_all(Csv("t.csv", **options), tmp_path)
    assert sorted([*whole.numbers, *whole.codes]) == list(range(len(whole.numbers) + len(whole.codes)))
    for size in (10, 60, 400):
        assert outcome(read_all(Csv("t.csv", **options), tmp_path, size)) == outcome(whole)
    assert outcome(read_all(Csv("t.csv.gz", **options), tmp_path)) == outcome(whole)
    plain = outcome(read_all(Csv("ascii.csv", **options), tmp_path))
    assert outcome(read_all(Csv("ascii.csv", encoding="latin-1", **options), tmp_path, 50)) == plain
    assert outcome(read_all(Csv("u.csv", encoding="utf-16", **options), tmp_path)) == plain


@pytest.mark.parametrize("seed", range(20))
def test_json_lines(tmp_path, monkeypatch, read_all, seed):
    pick = random.Random(seed)
    end = pick.choice([b"\n", b"\r\n", b"\r"])
    mark = b"\xef\xbb\xbf" if seed % 4 == 0 else b""
    content = mark + end.join([LINES[0], *pick.choices(LINES, k=pick.randint(1, 60))])
    (tmp_path / "t.jsonl").write_bytes(content)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(content))
    columns = {"a": "int64", "b": "string"}
    small_blocks(monkeypatch, pick)
    whole = read_all(JsonLines("t.jsonl", columns=columns), tmp_path)
    for size in (10, 60, 400):
        assert outcome(read_all(JsonLines("t.jsonl", columns=columns), tmp_path, size)) == outcome(whole)
    assert outcome(read_all(JsonLines("t.jsonl.gz", columns=columns), tmp_path)) == outcome(whole)
    too_long = [code for code in whole.codes.values() if code == "row_too_long"]
    lengths = [len(line) + len(end) for line in content.removeprefix(mark).split(end)[:-1]]
    assert len(too_long) >= sum(length > row_blocks.LONGEST_ROW for length in lengths)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_row_that_is_too_long_costs_itself(tmp_path, monkeypatch, read_all, suffix, end):
    monkeypatch.setattr(row_blocks, "_BLOCK", 16)
    monkeypatch.setattr(row_blocks, "LONGEST_ROW", 100)
    monkeypatch.setattr(row_boundaries, "LONGEST_FIELD", 50)
    lines = [
        b"a,b",
        b"1,x",
        b"2," + b"y" * 5000,
        b"3,z",
        b'4,"' + b"y" * 98 + b'"',
        b"5," + b"y" * (98 - len(end)),
        b"6,w",
    ]
    pack = gzip.compress if suffix else bytes
    (tmp_path / f"t.csv{suffix}").write_bytes(pack(end.join(lines)))
    for size in (10, 1000, 1 << 30):
        read = read_all(Csv(f"t.csv{suffix}"), tmp_path, size)
        assert [row["a"] for row in read.rows] == [1, 3, 5, 6]
        assert read.codes == {1: "row_too_long", 3: "row_too_long"}
        assert f"line 3: expected at most 100 bytes in a row, found {5002 + len(end)}" in read.problems[0].message
        assert "line 5: " in read.problems[1].message


def test_a_compressed_file_is_read_in_parts_by_whatever_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(row_blocks, "_BLOCK", 1 << 16)
    content = b"".join(
        b'{"a":%d,"s":"%s"}\n' % (number, random.Random(number).randbytes(20).hex().encode())
        for number in range(20_000)
    )
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(content))
    source = Union({"one": JsonLines("t.jsonl.gz"), "two": JsonLines("*.gz", columns={"a": "int64"})})
    listing = source.find(str(tmp_path), 1000)
    for record_range in listing.ranges:
        parts = list(stream_rows(source, record_range, listing.schema))
        assert len(parts) > 10
        assert max(part.batch.num_rows for part in parts) < 2000
        assert [number for part in parts for number in part.numbers.tolist()] == list(range(20_000))
        assert [number for part in parts for number in part.batch["a"].to_pylist()] == list(range(20_000))
        sizes = [part.size for part in parts]
        assert sum(sizes) == record_range.size
        assert max(sizes) < record_range.size / 5
        assert source.read(record_range, listing.schema).batch.num_rows == 20_000


READ = """
import resource, sys
from penstock.pipeline import Csv, JsonLines
from penstock.pipeline.errors import PenstockError
from penstock.pipeline.sources.record_source import stream_rows
source = Csv(sys.argv[2]) if "csv" in sys.argv[2] else JsonLines(sys.argv[2])
rows = problems = 0
try:
    listing = source.find(sys.argv[1], 1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for record_range in listing.ranges:
        for part in stream_rows(source, record_range, listing.schema):
            rows, problems = rows + part.batch.num_rows, problems + len(part.problems)
    print(rows, problems)
except PenstockError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "repeated", "count", "said"),
    [
        ("rows.csv.gz", b"a,b\n", b"1,2\n" * (1 << 18), 512, "134217728 0"),
        ("blank.csv.gz", b"a,b\n1,2\n", b"\n" * (1 << 20), 100, "1 0"),
        ("header.csv.gz", b"", b"x" * (1 << 20), 200, "expected a row in its first 67108864 bytes, found none"),
        ("row.csv.gz", b"a,b\n1,2\n", b"x" * (1 << 20), 512, "1 1"),
        ("quotes.csv.gz", b"a,b\n1,2\n", b'"' * (1 << 20), 100, "1 1"),
        ("line.jsonl.gz", b'{"a":1}\n', b"x" * (1 << 20), 512, "1 1"),
    ],
)
def test_a_small_file_that_holds_gigabytes_is_read_in_bounded_memory(tmp_path, name, head, repeated, count, said):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(head), *(packer.compress(repeated) for _ in range(count)), packer.flush()]
    (tmp_path / name).write_bytes(b"".join(parts))
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path), name], capture_output=True, text=True, check=True)
    words, memory = done.stdout.strip().rsplit("\n", 1)
    assert said in words
    assert int(memory) < 1500  # MiB, with the libraries'
