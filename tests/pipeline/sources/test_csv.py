import bz2
import gzip
import hashlib
import pickle
import re

import pyarrow as pa
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.formats.column_notes import ColumnNote
from penstock.pipeline.sources import column_types, csv, csv_rows, row_blocks, row_boundaries, sampling
from penstock.pipeline.sources.csv import Csv, tsv

SIZES = [20, 1000, 1 << 30]


@pytest.fixture
def write(tmp_path):
    def _write(content, name="t.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return _write


def columns(read):
    return {name: [row[name] for row in read.rows] for name in read.listing.schema.columns.names}


# Real data.


@pytest.mark.parametrize(("name", "rows"), [("train", 10_003), ("test", 3_080)])
def test_banking77_holds_its_rows_whatever_the_range_size(real_data, name, rows):
    source = Csv(f"banking77/{name}.csv")
    whole = None
    size = 1000
    while size < 2_000_000:
        listing = source.find(str(real_data), size)
        parts = [source.read(record_range, listing.schema) for record_range in listing.ranges]
        table = pa.Table.from_batches([part.batch for part in parts]).combine_chunks()
        assert table.num_rows == rows
        assert [number for part in parts for number in part.numbers.tolist()] == list(range(rows))
        assert not any(part.problems for part in parts)
        whole = whole or table
        assert table.equals(whole)
        size *= 3
    assert len(set(whole["category"].to_pylist())) == 77


def test_census_is_stripped_and_its_question_marks_are_missing(real_data):
    source = Csv("census/adult.data")
    listing = source.find(str(real_data), 1 << 20)
    table = pa.Table.from_batches([source.read(record_range, listing.schema).batch for record_range in listing.ranges])
    missing = {name: table[name].null_count for name in table.schema.names if table[name].null_count}
    assert len(listing.ranges) == 4
    assert table.num_rows == 32_561
    assert missing == {"workclass": 1836, "occupation": 1843, "native-country": 583}
    assert table.schema.field("age").type == pa.int64()
    assert table["classification"].value_counts().to_pylist() == [
        {"values": "<=50K", "counts": 24_720},
        {"values": ">50K", "counts": 7_841},
    ]


def test_stocks_are_one_table(real_data, read_all):
    read = read_all(Csv("stocks/*.csv"), real_data, 20_000)
    lines = sum(path.read_bytes().count(b"\n") for path in (real_data / "stocks").glob("*.csv"))
    assert len({record_range.uri for record_range in read.listing.ranges}) == 100
    assert len(read.rows) == lines - 100
    assert len({row["Name"] for row in read.rows}) == 100
    assert not read.problems
    assert [str(kind) for kind in read.listing.schema.columns.types] == ["string", *["double"] * 4, "int64", "string"]


# Rows that do not fit.


@pytest.mark.parametrize("size", SIZES)
def test_wrong_columns_are_reported_with_their_line(write, read_all, size):
    root = write('a,b\n1,"x\ny"\n\n2\n3,z\n4,5,6\n')
    read = read_all(Csv("t.csv"), root, size)
    assert columns(read) == {"a": [1, 3], "b": ["x\ny", "z"]}
    assert read.numbers == [0, 2]
    first, second = read.problems
    assert (first.key, first.code, first.sha256) == ("t.csv:1", "wrong_columns", hashlib.sha256(b"2").hexdigest())
    assert first.message == f"{root}/t.csv, line 5: expected 2 fields, found 1"
    assert second.message == f"{root}/t.csv, line 7: expected 2 fields, found 3"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "rows", "bad"),
    [
        ('a,b\n1,"x\n2,y\n3,z\n', [(2, "y"), (3, "z")], {0: 2}),  # no quote after it
        ('a,b\n1,"x\n2,"y"\n3,z\n', [(2, "y"), (3, "z")], {0: 2}),  # the next one opens
        ('a,b\n1,x\n2,"y', [(1, "x")], {1: 3}),  # at the end
        ('a,b\n1,"p\nq"\n2,"x\n3,"y"\n4,"r""\n5,s\n', [(1, "p\nq"), (3, "y"), (5, "s")], {1: 4, 3: 6}),
        ('a,b\r\n1,"x\r\n2,"y"\r\n', [(2, "y")], {0: 2}),
    ],
)
def test_an_unclosed_quote_costs_its_row_only(write, read_all, size, text, rows, bad):
    root = write(text)
    read = read_all(Csv("t.csv", columns={"a": "int64", "b": "string"}), root, size)
    assert [tuple(row.values()) for row in read.rows] == rows
    assert read.codes == dict.fromkeys(bad, "unclosed_quote")
    for number, problem in zip(bad, read.problems, strict=True):
        assert f"line {bad[number]}: " in problem.message


@pytest.mark.parametrize("size", SIZES)
def test_a_stray_quote_is_text(write, read_all, size):
    read = read_all(Csv("t.csv"), write('a,b\n1,5" nail\n2,"6"" nail"\n4,x"\n'), size)
    assert columns(read) == {"a": [1, 2, 4], "b": ['5" nail', '6" nail', 'x"']}


@pytest.mark.parametrize("size", SIZES)
def test_text_after_a_closing_quote_costs_its_row(write, read_all, size):
    root = write('a,b\n1,"x"\n2,"7" or so\n"3"0,y\n4,"\\"W\\""\n5,"p\nq"\n6,"v" \n"7"x,"m\nn"\n8,z')
    read = read_all(Csv("t.csv", columns={"a": "int64", "b": "string"}), root, size)
    assert columns(read) == {"a": [1, 5, 6, 8], "b": ["x", "p\nq", "v", "z"]}
    assert read.codes == dict.fromkeys([1, 2, 3, 6], "text_after_quote")
    messages = [problem.message for problem in read.problems]
    assert "line 3: expected the delimiter or the row's end after a closing quote" in messages[0]
    assert ["declare Csv(escape='\\\\')" in message for message in messages] == [False, False, True, False]
    with pytest.raises(RequestError, match=r"t\.csv, line 1: expected a header, found: field larger than"):
        Csv("t.csv").find(str(write("a" * 200_000 + ",b\n1,2\n")), size)
    with pytest.raises(RequestError, match=r"expected a header, found text after a closing quote"):
        Csv("t.csv").find(str(write('"a"x,b\n1,2\n')), size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quote", ['"', None])
def test_what_follows_an_escape_is_text(write, read_all, size, quote):
    mark = quote or ""
    values = ['"Walt"', "a\\b", "p,q", "r\ns", "t\r\nu", '\\"', "\\N", "v\\", ""]
    lines = []
    for number, value in enumerate(values):
        written = value
        for character in ("\\", '"', ",", "\n", "\r"):
            written = written.replace(character, "\\" + character)
        lines.append(f"{number},{mark}{written}{mark}\n")
    root = write("\\a,b\n" + "".join(lines) + "9,\\N\n\\N,x\n11,y")
    columns_ = {"a": "int64", "b": "string"}
    read = read_all(Csv("t.csv", escape="\\", quote=quote, missing=["", "\\N"], columns=columns_), root, size)
    assert [row["b"] for row in read.rows] == [None if each in ("", "\\N") else each for each in values] + [
        None,
        "x",
        "y",
    ]
    assert [row["a"] for row in read.rows] == [*range(10), None, 11]
    kept = read_all(Csv("t.csv", escape="\\", quote=quote, missing=[], columns={"b": "string"}), root, size)
    assert [row["b"] for row in kept.rows] == [*values, "\\N", "x", "y"]


@pytest.mark.parametrize("size", SIZES)
def test_an_escape_at_the_end_of_the_file_costs_its_row(write, read_all, size):
    read = read_all(Csv("t.csv", escape="\\"), write("a,b\n1,x\n2,y\\"), size)
    assert columns(read) == {"a": [1], "b": ["x"]}
    assert read.codes == {1: "unclosed_quote"}


def test_a_quoted_field_that_never_ends_is_given_up(write, read_all, monkeypatch):
    monkeypatch.setattr(row_boundaries, "LONGEST_FIELD", 100)
    monkeypatch.setattr(row_blocks, "_BLOCK", 64)
    text = 'a,b\n1,"x\n' + "".join(f"{i},y\n" for i in range(2, 60)) + '60,z"\n61,"w"\n'
    for size in SIZES:
        read = read_all(Csv("t.csv"), write(text), size)
        assert len(read.rows) == 60
        assert read.codes == {0: "unclosed_quote"}


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_another_type_is_a_problem(write, read_all, size):
    text = "i,f,s\n" + "1,1.5,x\n" * 3 + "x,1,a\n2,y,b\n3.0,1,c\n99999999999999999999,1,d\n 4 , 2 , e \n5,,?\n"
    read = read_all(Csv("t.csv", columns={"i": "int64", "f": "float64", "s": "string"}), write(text), size)
    assert columns(read) == {
        "i": [1, 1, 1, 4, 5],
        "f": [1.5, 1.5, 1.5, 2, None],
        "s": ["x", "x", "x", "e", None],
    }
    assert read.codes == dict.fromkeys([3, 4, 5, 6], "wrong_type")
    assert "line 5: expected int64 in the column 'i', found 'x'" in read.problems[0].message
    assert "line 6: expected double in the column 'f', found 'y'" in read.problems[1].message


@pytest.mark.parametrize("size", SIZES)
def test_bytes_that_are_no_utf8_cost_their_row(write, read_all, size):
    root = write(b"a,b\n1,\xc3\xa9\n2,\xff\n\xff,3,4\n\xff,x\n5,y\n")
    read = read_all(Csv("t.csv", columns={"a": "int64", "b": "string"}), root, size)
    assert columns(read) == {"a": [1, 5], "b": ["é", "y"]}
    assert read.codes == {1: "encoding", 2: "wrong_columns", 3: "encoding"}
    assert "line 3: " in read.problems[0].message
    assert read.problems[0].sha256 == hashlib.sha256(b"2,\xff").hexdigest()
    only = read_all(Csv("t.csv", columns={"a": "string"}), root, size)  # what is not read cannot be wrong
    assert only.codes == {2: "wrong_columns", 3: "encoding"}
    assert columns(read_all(Csv("t.csv", columns={"b": "binary"}), root, size))["b"] == [
        b"\xc3\xa9",
        b"\xff",
        b"x",
        b"y",
    ]


@pytest.mark.parametrize("size", SIZES)
def test_nonfinite_numbers_go_by_their_policy(write, read_all, size):
    root = write("m,k,q\n1,inf,1\n-inf,1e39,2\n1e400,nan,inf\n3,-1,1e39\n4,2,3e38\n")
    policies = {"k": "keep", "q": "quarantine"}
    read = read_all(Csv("t.csv", columns=dict.fromkeys("mkq", "float64"), nonfinite=policies), root, size)
    assert columns(read) == {"m": [1, None, 4], "k": [float("inf"), 1e39, 2], "q": [1, 2, 3e38]}
    assert read.codes == {2: "nonfinite", 3: "nonfinite"}
    assert "in the column 'q', found inf" in read.problems[0].message


def test_many_values_of_another_type_are_found_at_once(write, read_all, monkeypatch):
    casts = []
    cast = column_types._cast_column
    monkeypatch.setattr(column_types, "_cast_column", lambda *args: casts.append(1) or cast(*args))
    integers, missing, floats = ["7", "-7", " 8 "], [""], ["1e5", "1.5", "nan", "-.5e-3", "99999999999999999999"]
    others = ["x", "0x1", "-", "+", "1e", "."]
    values = [*integers, *missing, *floats, *others]
    root = write("i,f\n" + "".join(f"{value},{value}\n" for value in values) * 50)
    read = read_all(Csv("t.csv", columns={"i": "int64"}), root)
    assert [row["i"] for row in read.rows] == [7, -7, 8, None] * 50
    assert read.codes == {row: "wrong_type" for row in range(50 * 15) if row % 15 >= 4}
    assert len(casts) < 50 * 12
    read = read_all(Csv("t.csv", columns={"f": "float64"}, nonfinite="keep"), root)
    assert read.codes == {row: "wrong_type" for row in range(50 * 15) if row % 15 >= 9}


# What text is.


def test_blanks_are_stripped_or_kept(write, read_all):
    root = write('a , b\n 1 ,\t x y \t\n2, "q, r" \n3,  ? \n4,?\n')
    assert columns(read_all(Csv("t.csv"), root)) == {"a": [1, 2, 3, 4], "b": ["x y", "q, r", None, None]}
    kept = read_all(Csv("t.csv", strip=False, columns={" b": "string"}), root)
    assert [row[" b"] for row in kept.rows] == ["\t x y \t", "  ? ", None]
    assert kept.codes == {1: "wrong_columns"}


def test_missing_tokens(write, read_all):
    root = write('a,b\n-,x\n1,-\n2,?\n3,""\n')
    assert columns(read_all(Csv("t.csv", missing=["-"]), root)) == {"a": [None, 1, 2, 3], "b": ["x", None, "?", ""]}
    assert columns(read_all(Csv("t.csv", missing=[]), root))["b"] == ["x", "-", "?", ""]


@pytest.mark.parametrize("size", SIZES)
def test_missing_tokens_that_are_numbers_may_have_blanks_around_them(write, read_all, size):
    tokens = ["-999", " -999", "  -999", "-999 ", "-999\t", "\t-999", '" -999 "', " -9", "-999.0"]
    root = write("a,b,c\n1,2.5,x\n" + "".join(f"{token},{token},{token}\n" for token in tokens[:-1]) + "-99,-999.0,y\n")
    read = read_all(Csv("t.csv", missing=["-999"]), root, size)
    expected = [None] * 7 + [-9]
    assert columns(read) == {
        "a": [1, *expected, -99],
        "b": [2.5, *expected, -999.0],
        "c": ["x", *[None] * 7, "-9", "y"],
    }
    assert [str(kind) for kind in read.listing.schema.columns.types] == ["int64", "double", "string"]
    assert columns(read_all(Csv("t.csv", missing=[" -999 "]), root, size)) == columns(read)


@pytest.mark.parametrize("policy", ["keep", "quarantine", "missing"])
def test_nan_with_blanks_around_it_is_a_missing_value_whatever_the_policy(write, read_all, policy):
    read = read_all(Csv("t.csv", nonfinite=policy), write("a,b\n1.5,x\n  NaN,y\nNaN\t,z\n"))
    assert columns(read) == {"a": [1.5, None, None], "b": ["x", "y", "z"]}
    assert not read.problems


@pytest.mark.parametrize("size", SIZES)
def test_hexadecimal_is_text(write, read_all, size):
    root = write("a,b\n0x1A,1\n0xFFFFFFFFFFFFFFFF,2\n0Xff,3\n")
    assert columns(read_all(Csv("t.csv"), root, size)) == {
        "a": ["0x1A", "0xFFFFFFFFFFFFFFFF", "0Xff"],
        "b": [1, 2, 3],
    }
    root = write("a,b\n1,0x1\n 0xFFFFFFFFFFFFFFFF,x\n0X1,y\n 4 ,z\n")
    for strip in (True, False):
        read = read_all(Csv("t.csv", columns={"a": "int64", "b": "string"}, strip=strip), root, size)
        assert columns(read) == {"a": [1, 4], "b": ["0x1", "z"]}
        assert read.codes == {1: "wrong_type", 2: "wrong_type"}
        assert "line 3: expected int64 in the column 'a', found '0xFFFFFFFFFFFFFFFF'" in read.problems[0].message


@pytest.mark.parametrize("size", [20, 1 << 30])
@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y\r\n",
        b"a,b\r1,x\r2,y",
        b"\n\na,b\n\n1,x\n\n\n2,y\n\n\n",
        b'"a","b"\n"1","x"\n"2","y"',
    ],
)
def test_line_ends_blank_lines_and_byte_order_marks(write, read_all, content, size):
    read = read_all(Csv("t.csv"), write(content), size)
    assert columns(read) == {"a": [1, 2], "b": ["x", "y"]}
    assert read.numbers == [0, 1]


@pytest.mark.parametrize("size", [20, 1000, 1 << 20])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_only_the_first_three_bytes_of_a_file_are_a_byte_order_mark(write, read_all, size, suffix):
    rows = "".join(f"\ufeffw,{number}\n" for number in range(200))
    pack = gzip.compress if suffix else bytes
    read = read_all(Csv(f"t.csv{suffix}"), write(pack(f"\ufeffword,n\n{rows}".encode()), f"t.csv{suffix}"), size)
    assert columns(read) == {"word": ["\ufeffw"] * 200, "n": list(range(200))}
    read = read_all(Csv(f"t.csv{suffix}"), write(pack(("word\n" + "\ufeff\n" * 200).encode()), f"t.csv{suffix}"), size)
    assert columns(read) == {"word": ["\ufeff"] * 200}
    cut = write(pack(b"word\nx\n" * 10 + b"\xef"), f"t.csv{suffix}")
    assert read_all(Csv(f"t.csv{suffix}"), cut, size).codes == {19: "encoding"}


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_many_rows_in_another_encoding_are_found_at_once_and_the_message_names_it(write, read_all, monkeypatch, size):
    rows = b"".join(b"%d,caf\xe9,x\n" % number if number % 9 else b"%d,caf\xe9\n" % number for number in range(500))
    root = write(b"id,name,z\n-1,ok,y\n" + rows)
    listing = Csv("t.csv").find(str(root), size)
    parsed = []
    monkeypatch.setattr(
        csv_rows, "_parse", lambda *args, parse=csv_rows._parse, **more: parsed.append(1) or parse(*args, **more)
    )
    read = [Csv("t.csv").read(each, listing.schema) for each in listing.ranges]
    assert len(parsed) <= 3 * len(listing.ranges)
    problems = [problem for rows in read for problem in rows.problems]
    assert [problem.code for problem in problems] == ["wrong_columns" if n % 9 == 0 else "encoding" for n in range(500)]
    assert (
        "found b'caf\\xe9', which is 'café' in latin-1: if the file is, declare encoding='latin-1'"
        in problems[1].message
    )
    assert [row for part in read for row in part.batch.to_pylist()] == [{"id": -1, "name": "ok", "z": "y"}]
    assert "500 of 501 rows that were looked at are not in UTF-8" in listing.warnings[0]


@pytest.mark.parametrize("columns", [None, {"id": "int64", "name": "auto"}])
def test_where_types_are_inferred_all_rows_are_looked_at(write, columns):
    root = write(b"id,name\n0,caf\xe9\n" + b"1,coffee\n" * 300_000)
    (warning,) = Csv("t.csv", columns=columns).find(str(root), 1 << 20).warnings
    assert "1 of 300001 rows that were looked at are not in UTF-8" in warning


def test_where_types_are_declared_the_beginning_of_each_file_is_looked_at(write):
    root = write(b"id,name\n0,caf\xe9\n" + b"1,coffee\n" * 300_000)
    write(b"id,name\n" + b"1,coffee,black\n" * 300_000, "u.csv")
    declared = {"id": "int64", "name": "string"}
    (warning,) = Csv("t.csv", columns=declared).find(str(root), 1 << 20).warnings
    looked = re.search(r"1 of (\d+) rows that were looked at are not in UTF-8", warning)
    assert looked
    assert 1000 < int(looked[1]) < 200_000
    with pytest.raises(RequestError, match="expected 2 fields, found 3"):
        Csv("*.csv", columns=declared).find(str(root), 1 << 20)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "shift_jis"])
def test_encodings(write, read_all, encoding):
    word = "日本" if encoding == "shift_jis" else "é"
    text = f"a,{word}\n" + "".join(f"{i},{word}{i}\n" for i in range(200))
    root = write(text.encode(encoding))
    for size in (100, 1 << 30):
        read = read_all(Csv("t.csv", encoding=encoding), root, size)
        assert [row[word] for row in read.rows] == [f"{word}{i}" for i in range(200)]
    assert (len(read_all(Csv("t.csv", encoding=encoding), root, 100).listing.ranges) > 1) == (
        encoding in ("latin-1", "cp1252")
    )


def test_bytes_that_an_encoding_lacks_cost_their_row(write, read_all):
    read = read_all(Csv("t.csv", encoding="cp1252"), write(b"a\n\xe9\n\x81\nb\n"))
    assert [row["a"] for row in read.rows] == ["é", "b"]
    assert read.codes == {1: "encoding"}
    assert "line 3: expected cp1252 in the column 'a', found b'\\x81'" in read.problems[0].message
    read = read_all(Csv("t.csv", encoding="shift_jis"), write("a,b\n日本,x\n".encode("shift_jis") + b"\xff,y\nz,z\n"))
    assert [row["a"] for row in read.rows] == ["日本", "z"]
    assert "line 3: expected shift_jis in the column 'a', found b'\\xff'" in read.problems[0].message
    with pytest.raises(RequestError, match=r"t\.csv, line 3, byte 16: expected text in utf-16-be, found"):
        read_all(Csv("t.csv", encoding="utf-16-be"), write("a,b\r\né,\n".encode("utf-16-be") + b"\xd8\x00\x00,\x00x"))


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst"])
def test_compressed_files_are_one_range(write, read_all, suffix):
    text = b"a,b\n" + b"".join(b'%d,"x\n%d"\n' % (i, i) for i in range(5000)) + b"1,2,3\n"
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "zst": pa.Codec("zstd").compress}[suffix]
    content = pack(text)
    root = write(content.to_pybytes() if isinstance(content, pa.Buffer) else content, f"t.csv.{suffix}")
    source = Csv(f"t.csv.{suffix}")
    read = read_all(source, root, 1000)
    assert len(read.listing.ranges) == 1
    assert [row["b"] for row in read.rows] == [f"x\n{i}" for i in range(5000)]
    assert "line 10002: " in read.problems[0].message
    if suffix == "gz":
        write(content[: len(content) // 2], f"t.csv.{suffix}")
        with pytest.raises(PenstockError, match=r"t\.csv\.gz"):
            read_all(source, root)


def test_other_delimiters_quotes_and_names(write, read_all):
    root = write("1\tx, y\n2\t'z'\n")
    assert columns(read_all(tsv("t.csv", names=["a", "b"]), root)) == {"a": [1, 2], "b": ["x, y", "'z'"]}
    assert columns(read_all(tsv("t.csv", names=["a", "b"], quote="'"), root))["b"] == ["x, y", "z"]
    root = write('a|b\n1|"x\n2|y"\n')
    assert columns(read_all(Csv("t.csv", delimiter="|", quote=None), root))["b"] == ['"x', 'y"']


# Many files, and their columns.


def test_files_may_order_their_columns_differently(write, read_all):
    write("a,b\n1,x\n", "d/1.csv")
    root = write("b,a\ny,2\nz,3.5\n", "d/2.csv")
    read = read_all(Csv("d/*.csv"), root)
    assert columns(read) == {"a": [1, 2, 3.5], "b": ["x", "y", "z"]}
    assert read.numbers == [0, 0, 1]
    assert columns(read_all(Csv("d/*.csv", columns={"b": "auto"}), root)) == {"b": ["x", "y", "z"]}


def test_declared_columns_limit_and_override(write, read_all):
    root = write("a,b,c\n1,007,x\n2,010,y\n")
    assert columns(read_all(Csv("t.csv", columns={"b": "string"}), root)) == {"b": ["007", "010"]}
    read = read_all(Csv("t.csv", columns={"b": "string", "*": "auto"}), root)
    assert columns(read) == {"a": [1, 2], "b": ["007", "010"], "c": ["x", "y"]}


@pytest.mark.parametrize("size", [1000, 1 << 20])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_types_hold_for_the_whole_input(write, read_all, size, suffix):
    early = "1,1,,7,1.5,100000001.0,x\n" * 60_000
    late = "02134,2.5,3,12e4,oops,100000002.0,y\n"
    text = f"zeros,late,empty,id,measured,whole,text\n{early}{late}".encode()
    root = write(gzip.compress(text) if suffix else text, f"t.csv{suffix}")
    read = read_all(Csv(f"t.csv{suffix}"), root, size * 20)
    assert not read.problems
    assert read.rows[-1] == {
        "zeros": "02134", "late": 2.5, "empty": 3, "id": "12e4", "measured": "oops", "whole": 100000002, "text": "y",
    }  # fmt: skip
    assert read.rows[0] == {
        "zeros": "1", "late": 1.0, "empty": None, "id": "7", "measured": "1.5", "whole": 100000001, "text": "x",
    }  # fmt: skip
    where = f"{root}/t.csv{suffix}, line 60002"
    assert read.listing.schema.reasons == {
        "zeros": f"'02134' in {where} would lose its zeros as a number",
        "late": f"60001 numbers, such as '2.5' in {where}",
        "empty": "1 integers",
        "id": f"integers, and '12e4' in {where}, which may be an id",
        "measured": f"60000 numbers and 1 other strings such as 'oops' in {where}",
        "whole": f"60001 whole numbers, of which float32 would round '100000001.0' in {root}/t.csv{suffix}, line 2",
        "text": f"60001 strings, such as 'x' in {root}/t.csv{suffix}, line 2",
    }
    assert [re.match(r"the column '(\w+)'", warning)[1] for warning in read.listing.warnings] == ["id", "measured"]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("blank", ["", " "])
def test_what_was_not_looked_at_is_read_as_strictly(write, read_all, monkeypatch, quote, blank):
    monkeypatch.setattr(sampling, "LOOKED_AT", 100)
    monkeypatch.setattr(sampling, "_HEAD", 100)
    late = ["02134", "-007", "2.5", "x", "99999999999999999999", "5.0", "0", "-0", "10"]
    rows = "".join(f"{blank}{quote}{value}{quote}{blank},1.5,03\n" for value in late)
    floats = "".join(f"7,{blank}{quote}{value}{quote}{blank},03\n" for value in ("02.5", "00", "0.5", "1e400", "y"))
    root = write("a,f,s\n" + "1,1.5,03\n" * 100 + rows + floats + "2,1.5,03\n" * 50)
    read = read_all(Csv("t.csv"), root, 200)
    assert [str(kind) for kind in read.listing.schema.columns.types] == ["int64", "double", "string"]
    assert [row["a"] for row in read.rows[100:104]] == [5, 0, 0, 10]
    assert [row["f"] for row in read.rows[104:106]] == [0.5, None]
    assert {row["s"] for row in read.rows} == {"03"}
    assert read.codes == dict.fromkeys([*range(100, 105), 109, 110, 113], "wrong_type")
    assert "line 102: expected int64 in the column 'a', found '02134', which would lose its zeros as a number" in (
        read.problems[0].message
    )
    declared = read_all(Csv("t.csv", columns={"a": "int64", "f": "float64"}), root, 200)
    assert [row["a"] for row in declared.rows[100:102]] == [2134, -7]


def test_the_type_depends_on_all_files(write, read_all):
    for number in range(20):
        root = write("a,b\n1,x\n" if number < 19 else "a,b\n01,x\n", f"d/{number:02d}.csv")
    read = read_all(Csv("d/*.csv"), root)
    assert [row["a"] for row in read.rows] == ["1"] * 19 + ["01"]
    assert "19.csv, line 2" in read.listing.schema.reasons["a"]


@pytest.mark.parametrize(
    ("text", "delimiter"), [("a;b;c\n1;2;x\n3;4;y\n", ";"), ("a\tb\n1\t2\n", "\t"), ("a|b\n1|2\n", "|")]
)
def test_a_wrong_delimiter_is_refused(write, read_all, text, delimiter):
    root = write(text)
    with pytest.raises(RequestError, match=rf"found one column .*; declare delimiter={re.escape(repr(delimiter))}"):
        Csv("t.csv").find(str(root), 1000)
    assert not read_all(Csv("t.csv", delimiter=delimiter), root).problems
    name = text.partition("\n")[0]
    assert len(read_all(Csv("t.csv", columns={name: "string"}), root).rows) == text.count("\n") - 1


@pytest.mark.parametrize("text", ["text; more\nx;y\nplain\n", "text\nx;y\nz;w\n", "a;b\n", "a\n1\n"])
def test_one_column_of_text_is_one(write, text):
    assert len(Csv("t.csv", names=None).find(str(write(text + "x\n")), 1000).schema.columns) == 1


def test_numbers_beyond_float32_that_become_missing_are_counted(write):
    source = Csv("t.csv", nonfinite={"q": "quarantine"})
    listing = source.find(str(write("m,q\n1.5,1.5\n1e39,1\n-1e300,2\nnan,1\n")), 1000)
    notes = source.read(listing.ranges[0], listing.schema).notes
    assert notes == {("overflow", "m"): ColumnNote(2, 0, "1e+39")}


def test_inference(write, read_all):
    write("i,f,n,s,big\n1,1,,1,18446744073709551615\n", "d/1.csv")
    root = write("i,f,n,s,big\n2,1.5,?,x,1\n", "d/2.csv")
    listing = Csv("d/*.csv").find(str(root), 1000)
    assert [str(kind) for kind in listing.schema.columns.types] == ["int64", "double", "string", "string", "string"]
    assert any("'s'" in warning and "string" in warning for warning in listing.warnings)
    assert any("beyond int64" in warning for warning in listing.warnings)
    write("a\n" + "1\n" * 20 + "oops\n")
    listing = Csv("t.csv").find(str(root), 1000)
    assert listing.schema.columns.field("a").type == pa.string()
    assert "20 numbers and 1 other strings such as 'oops'" in listing.warnings[0]


def test_empty_files_are_named(write, read_all):
    for name, content in (("1", "a\n"), ("2", ""), ("3", "a\n1\n"), ("4", "\n\n")):
        root = write(content, f"d/{name}.csv")
    read = read_all(Csv("d/*.csv"), root)
    assert columns(read) == {"a": [1]}
    assert len(read.listing.warnings) == 3
    with pytest.raises(RequestError, match="expected rows"):
        Csv("d/[12].csv").find(str(root), 1000)


def test_a_changed_input_has_another_digest(write):
    root = write("a\n1\n")
    digest = Csv("t.csv").find(str(root), 1000).digest
    write("a\n12\n")
    assert Csv("t.csv").find(str(root), 1000).digest != digest


# Requests that are wrong.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delimiter": ",,"}, "one ASCII character"),
        ({"quote": ","}, "a delimiter other than the quote"),
        ({"escape": "ab"}, "one ASCII character"),
        ({"escape": '"'}, "a quote other than the escape"),
        ({"missing": "?"}, "list of strings"),
        ({"encoding": "utf-9"}, "encoding"),
        ({"names": ["a", "a"]}, "distinct"),
        ({"columns": {"a": "int32"}}, "int32"),
        ({"columns": {}}, "at least one column"),
        ({"nonfinite": "drop"}, "drop"),
        ({"nonfinite": {"a": "keep"}, "columns": {"b": "float64"}}, "'a'"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(RequestError, match=said):
        Csv("t.csv", **options)


def test_patterns_stay_in_the_input(tmp_path):
    for pattern in ("/etc/*.csv", "../t.csv", "gs://b/t.csv", ""):
        with pytest.raises(RequestError):
            Csv(pattern)
    with pytest.raises(RequestError, match=r"expected record files at .*none\*\.csv, found none"):
        Csv("none*.csv").find(str(tmp_path), 1000)


def test_columns_that_do_not_fit_are_named(write):
    write("a,b\n1,2\n", "d/1.csv")
    root = write("a,c\n1,2\n", "d/2.csv")
    with pytest.raises(
        RequestError, match=r"2\.csv: expected the columns of .*1\.csv, but it lacks \['b'\] and it alone"
    ):
        Csv("d/*.csv").find(str(root), 1000)
    with pytest.raises(RequestError, match=r"2\.csv: expected the columns \['b'\], found \['a', 'c'\]"):
        Csv("d/*.csv", columns={"b": "int64"}).find(str(root), 1000)
    assert Csv("d/*.csv", columns={"a": "int64"}).find(str(root), 1000).schema.columns.names == ["a"]
    write("a,a\n1,2\n")
    with pytest.raises(RequestError, match=r"t\.csv, line 1: expected distinct column names, found \['a'\]"):
        Csv("t.csv").find(str(root), 1000)
    write("a,b\n1,2,3\n4,5,6\n")
    with pytest.raises(RequestError, match="expected 2 fields, found 3"):
        Csv("t.csv").find(str(root), 1000)


def test_a_file_that_shrank_is_no_silent_loss(write):
    root = write("a\n" + "1\n" * 1000)
    listing = Csv("t.csv").find(str(root), 500)
    write("a\n" + "1\n" * 900)
    with pytest.raises(PenstockError, match="changed after it was listed"):
        Csv("t.csv").read(listing.ranges[-1], listing.schema)
    write("b\n" + "1\n" * 1000)
    with pytest.raises(PenstockError, match=r"expected the columns \['a'\]"):
        Csv("t.csv").read(listing.ranges[0], listing.schema)


def test_sources_can_be_pickled_and_shown():
    source = Csv(["a.csv", "b.csv"], columns={"a": "int64"})
    assert pickle.loads(pickle.dumps(source)) == source
    assert "columns={'a': 'int64'}" in repr(source)


def test_types_do_not_depend_on_what_is_looked_at_together(write, monkeypatch):
    for number in range(4):
        rows = [f"{row % 7},{row}.0,{'x' if row == 50 * number else row},0{row % 3}\n" for row in range(200)]
        rows[number] = "1.5,1.0,-,12e4,more\n"
        rows[number + 8] = "1.5,1.0,9,00\n"
        rows[number + 4] = f"{2**60 + number},{2**24 + 1}.0, ? ,7\n"
        root = write("a,b,c,d\n" + "".join(rows), f"{number}.csv")
    monkeypatch.setattr(sampling, "_JOINED", 1)
    found = []
    for at_a_time, waiting in ((1, 0), (1000, 0), (1 << 20, 3000), (1 << 20, 1 << 20)):
        monkeypatch.setattr(csv, "_TOGETHER", at_a_time)
        monkeypatch.setattr(csv, "_WAITING", waiting)
        listing = Csv("*.csv").find(str(root), 300)
        found.append((listing.schema.columns, listing.schema.reasons, listing.warnings))
    assert all(each == found[0] for each in found)
    columns, reasons, warnings = found[0]
    assert [str(column.type) for column in columns] == ["double", "int64", "string", "string"]
    assert "1.csv, line 7" in warnings[0]  # 2**60 is a float
    assert "0.csv, line 3" in reasons["d"]  # the row before it has too many fields
