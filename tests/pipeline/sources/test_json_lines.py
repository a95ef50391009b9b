import functools
import gzip
import json

import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.formats.column_notes import ColumnNote, merge
from penstock.pipeline.sources import json_lines, sampling
from penstock.pipeline.sources.json_lines import JsonLines

SIZES = [30, 1000, 1 << 30]


@pytest.fixture
def write(tmp_path):
    def _write(content, name="t.jsonl"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return _write


@pytest.mark.parametrize("size", SIZES)
def test_round_trip(write, read_all, size):
    rows = [
        {"i": i, "f": i / 4, "s": f"é\n{i}", "l": [i, 2], "n": None if i % 3 else i, "day": "2020-01-01"}
        for i in range(300)
    ]
    root = write("".join(json.dumps(row) + "\n" * (1 + row["i"] % 2) for row in rows))
    read = read_all(JsonLines("t.jsonl"), root, size)
    assert read.rows == rows
    assert read.numbers == list(range(300))
    assert [str(kind) for kind in read.listing.schema.columns.types] == [
        "int64", "double", "string", "list<item: int64>", "int64", "string",
    ]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_bad_lines_cost_themselves(write, read_all, size):
    lines = [
        b'{"i": 1, "s": "a", "b": true}',
        b'{"i": 2, "s": "b"',
        b"plain",
        b"[3]",
        b'{"i": 4, "s": "\xff"}',
        b'{"i": "x", "s": "c"}',
        b'{"i": 5, "i": 6}',
        b'{"i": 6}{"i": 7}',
        b"",
        b'{"i": 18446744073709551615, "s": "d"}',
        b'{"i": 2.5}',
        b'{"s": "\\u00e9", "b": false, "more": {"x": 1}}',
        b'{"i": 9, "s": {"x": 1}}',
        b'{"i": 10}',
    ]
    root = write(b"\n".join(lines))
    source = JsonLines("t.jsonl", columns={"i": "int64", "s": "string", "b": "auto"})
    read = read_all(source, root, size)
    assert read.rows == [
        {"i": 1, "s": "a", "b": 1},
        {"i": None, "s": "é", "b": 0},
        {"i": 10, "s": None, "b": None},
    ]
    assert read.codes == {
        1: "bad_json", 2: "bad_json", 3: "bad_json", 4: "encoding", 5: "wrong_type", 6: "bad_json", 7: "bad_json",
        8: "wrong_type", 9: "wrong_type", 11: "wrong_type",
    }  # fmt: skip
    assert f"{root}/t.jsonl, line 3: expected one JSON object" in read.problems[1].message
    assert "line 10: expected int64 under 'i', found 18446744073709551615" in read.problems[7].message


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beside", [b"", b'{"a": "x"}\n'])
def test_a_line_is_one_object_whatever_is_beside_it(write, read_all, beside, size):
    lines = [
        b'{"a":1}{"a":2}',
        b"   ",
        b'{"a":3,',
        b'"b":3} {"a":4}',
        b' \t{"a":5} \r',
        b"\t",
        b'{"a":6,"z":1,"z":2}',
        b'{"a":7} {"a":8}',
        b'{"a":9,"a":10}',
        b'{"a":11',
        b"}",
        b'{"a":12}  ',
        b" ",
    ]
    root = write(b"\n".join(lines) + b"\n" + beside)
    read = read_all(JsonLines("t.jsonl", columns={"a": "int64"}), root, size)
    assert [row["a"] for row in read.rows] == [5, 6, 12]
    assert read.numbers == [3, 4, 9]
    bad = dict.fromkeys([0, 1, 2, 5, 6, 7, 8], "bad_json") | ({10: "wrong_type"} if beside else {})
    assert read.codes == bad
    messages = [problem.message.removeprefix(f"{root}/t.jsonl, ") for problem in read.problems]
    assert messages[0] == "line 1: expected one JSON object, found at column 8: Extra data"
    assert messages[4] == "line 9: expected one JSON object, found the key 'a' in it twice"
    assert messages[5] == "line 10: expected one JSON object, found at column 8: Expecting ',' delimiter"


@pytest.mark.parametrize("size", SIZES)
def test_half_of_a_surrogate_pair_costs_its_line_wherever_it_is(write, read_all, size):
    bad = r'{"a": "\ud83d", "l": ["x"]}', r'{"a": "y", "l": ["\ude00"]}', r'{"a": "z", "\ud83d": 1}'
    good = '{"a": "\\ud83d\\ude00", "l": ["é"]}\n'
    root = write("\n".join(bad) + "\n" + good * 100_000 + "\n".join(bad))
    read = read_all(JsonLines("t.jsonl", columns={"a": "auto", "l": "auto"}), root, max(size, 1 << 20))
    assert read.codes == {0: "encoding", 1: "encoding", 100_003: "encoding", 100_004: "encoding"}
    assert "line 1: expected Unicode text under 'a', found half of a surrogate pair in '\\ud83d'" in (
        read.problems[0].message
    )
    assert len(read.rows) == 100_002
    assert [read.rows[0], read.rows[1]] == [{"a": "z", "l": None}, {"a": "😀", "l": ["é"]}]
    root = write(f"{bad[2]}\n{good}")
    assert JsonLines("t.jsonl").find(str(root), 1000).schema.columns.names == ["a", "l"]


@pytest.mark.parametrize("size", [3000, 1 << 20, 1 << 30])
def test_a_key_that_is_no_utf8_costs_its_line_though_it_is_not_read(write, read_all, size):
    lines = [b'{"i":%d}\n' % number for number in range(120_000)]
    lines[1], lines[110_000], lines[110_003] = b'{"\xc3(":3,"i":1}\n', b'{"i":2,"\xff":1}\n', b'{"i":"x"}\n'
    read = read_all(JsonLines("t.jsonl", columns={"i": "int64"}), write(b"".join(lines)), size)
    assert read.codes == {1: "encoding", 110_000: "encoding", 110_003: "wrong_type"}
    assert "line 110001: expected UTF-8, found: invalid start byte at byte 8" in read.problems[1].message
    assert read_all(JsonLines("t.jsonl"), write(b"".join(lines[:3])), size).codes == {1: "encoding"}


@pytest.mark.parametrize("size", SIZES)
def test_a_deep_line_costs_itself_though_it_is_not_read(write, read_all, size):
    def nest(levels):
        return b'{"b":2,"a":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}\n"

    text = b'{"b":1}\n' + nest(30_000) + nest(63) + nest(64) + b'{"b":3,"a":' + b"[" * 100_000 + b"\n" + b'{"b":4}\n'
    read = read_all(JsonLines("t.jsonl", columns={"b": "int64"}), write(text), size)
    assert [row["b"] for row in read.rows] == [1, 2, 4]
    assert read.codes == {1: "bad_json", 3: "bad_json", 4: "bad_json"}
    assert "line 2: expected at most 64 levels of objects and lists, found 30001" in read.problems[0].message


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_first_line_may_be_long(write, read_all, end):
    long = "x" * 2_000_000
    read = read_all(
        JsonLines("t.jsonl"), write(json.dumps({"a": long}) + end + ('{"a":"y"}' + end) * bool(end)), 1 << 20
    )
    assert [row["a"] for row in read.rows] == [long, "y"][: 1 + bool(end)]


@pytest.mark.parametrize("size", [2, 30, 1 << 30])
def test_only_the_first_three_bytes_of_a_file_are_a_byte_order_mark(write, read_all, size):
    text = '\ufeff\n{"a":1}\n\ufeff{"a":2}\n{"a":3}\n'
    read = read_all(JsonLines("t.jsonl", columns={"a": "int64"}), write(text), size)
    assert ([row["a"] for row in read.rows], read.codes) == ([1, 3], {1: "bad_json"})
    assert "line 3: " in read.problems[0].message


def test_a_list_of_numbers_reads_the_same_beside_any_other(write, read_all):
    lines = ['{"l":[1.5,9007199254740993]}\n', '{"l":[1,36893488147419103232]}\n']
    source = JsonLines("t.jsonl", columns={"l": "list<float64>"})
    alone = [{"l": [1.5, 2.0**53]}, {"l": [1.0, 2.0**65]}]
    assert read_all(source, write("".join(lines))).rows == alone
    read = read_all(source, write("".join([*lines, "bad\n"])))
    assert (read.rows, read.codes) == (alone, {2: "bad_json"})


@pytest.mark.parametrize("size", SIZES)
def test_nonfinite_numbers_go_by_their_policy(write, read_all, size):
    text = '{"m":1.5,"k":NaN}\n{"m":Infinity,"k":1e300}\n{"m":1e39,"k":1}\n'
    declared = {"m": "float64", "k": "float64"}
    read = read_all(JsonLines("t.jsonl", columns=declared, nonfinite={"k": "keep"}), write(text), size)
    assert [row["m"] for row in read.rows] == [1.5, None, None]
    assert repr([row["k"] for row in read.rows]) == "[nan, 1e+300, 1.0]"
    read = read_all(JsonLines("t.jsonl", columns=declared, nonfinite="quarantine"), write(text), size)
    assert read.codes == dict.fromkeys(range(3), "nonfinite")


def test_a_value_reads_the_same_beside_any_other(write, read_all):
    lines = [json.dumps({"s": value}) for value in ("2020-01-01", 5, "x", 2.5, 10**30, True)]
    source = JsonLines("t.jsonl", columns={"s": "string"})
    alone = [read_all(source, write(line)).rows[0]["s"] for line in lines]
    assert [row["s"] for row in read_all(source, write("\n".join(lines))).rows] == alone
    assert alone[:3] == ["2020-01-01", "5", "x"]


def test_numbers_and_text_in_one_column_are_text(write, read_all):
    read = read_all(JsonLines("t.jsonl"), write('{"a":1}\n{"a":"x"}\n{"a":2}\n'))
    assert [row["a"] for row in read.rows] == ["1", "x", "2"]
    (warning,) = read.listing.warnings
    assert warning.startswith("'a' holds 2 integers (1 in ")
    assert "t.jsonl, line 1) and 1 strings ('x' in " in warning
    assert warning.endswith("t.jsonl, line 2): it is read as string")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_keys_and_types_that_first_occur_late_are_read(write, read_all, suffix):
    rows = [{"id": i, "text": "x" * 50, "n": None} for i in range(20_000)]
    rows += [{"id": i, "label": 1, "n": 2.5} for i in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    root = write(gzip.compress(text) if suffix else text, f"t.jsonl{suffix}")
    read = read_all(JsonLines(f"t.jsonl{suffix}"), root, 1 << 20)
    assert [(row["label"], row["n"]) for row in read.rows[-4:]] == [(None, None)] + [(1, 2.5)] * 3
    assert read.listing.schema.reasons == {
        "id": f"20003 integers (0 in {root}/t.jsonl{suffix}, line 1)",
        "text": f"20000 strings ('{'x' * 50}' in {root}/t.jsonl{suffix}, line 1)",
        "n": f"3 floats (2.5 in {root}/t.jsonl{suffix}, line 20001)",
        "label": f"3 integers (1 in {root}/t.jsonl{suffix}, line 20001)",
    }


def test_a_key_of_the_last_of_many_files_is_read(write, read_all):
    for number in range(20):
        root = write(json.dumps({"id": number} | ({"label": 7} if number == 19 else {})), f"{number:02d}.jsonl")
    assert read_all(JsonLines("*.jsonl"), root).rows[-1] == {"id": 19, "label": 7}


@pytest.mark.parametrize("odd", ["", '{"id": 1, "label": "x"}\n', "[]\n"])
def test_keys_that_were_not_looked_at_are_told_of(write, monkeypatch, odd):
    monkeypatch.setattr(sampling, "LOOKED_AT", 100)
    monkeypatch.setattr(sampling, "_HEAD", 100)
    late = '{"id": 1, "label": 1}\n' * 20 + odd + '{"id": 1, "label": null, "more": {"x": 1}}\n'
    root = write('{"id": 1}\n' * 300 + late + '{"id": 2}\n' * 100)
    for columns in (None, {"id": "int64", "*": "auto"}):
        source = JsonLines("t.jsonl", columns=columns)
        listing = source.find(str(root), 400)
        assert listing.schema.columns.names == ["id"]
        rows = [source.read(each, listing.schema) for each in listing.ranges]
        more = 1 if odd else 0
        assert functools.reduce(merge, (each.notes for each in rows), {}) == {
            ("left_out", "label"): ColumnNote(
                20 + (more if "label" in odd else 0), 0, f"in {root}/t.jsonl, line 301", ("t.jsonl", 301)
            ),
            ("left_out", "more"): ColumnNote(1, 0, f"in {root}/t.jsonl, line {321 + more}", ("t.jsonl", 321 + more)),
        }
        assert sum(len(each.batch) for each in rows) == 421 + ("label" in odd)
    only = JsonLines("t.jsonl", columns={"id": "int64"})
    schema = only.find(str(root), 400).schema
    assert all(only.read(each, schema).notes == {} for each in listing.ranges)


@pytest.mark.parametrize("lines", [1, 500])
def test_integers_beyond_int64_keep_their_digits(write, read_all, lines):
    ids = [2**64 - 1 - number * 7**20 for number in range(lines)] + [5, -(2**63) - 1]
    root = write("".join(json.dumps({"id": each, "x": 0.5}) + "\n" for each in ids))
    read = read_all(JsonLines("t.jsonl"), root)
    assert [row["id"] for row in read.rows] == [str(each) for each in ids]
    assert "'id' holds integers beyond int64 such as 18446744073709551615 in " in read.listing.warnings[0]
    root = write("".join(json.dumps({"id": each}) + "\n" for each in [*ids, 2.5]))
    assert read_all(JsonLines("t.jsonl"), root).rows[0] == {"id": 2.0**64}
    assert read_all(JsonLines("t.jsonl", columns={"id": "float64"}), root).rows[0] == {"id": 2.0**64}
    assert JsonLines("t.jsonl").find(str(write('{"f": 1e300}\n{"f": 1}\n')), 1000).warnings == []


def test_a_list_of_numbers_and_strings_is_named_with_its_line(write, read_all):
    root = write('{"id":1}\n{"id":2,"span":[0,4,"Bio"]}\n')
    with pytest.raises(RequestError) as refused:
        JsonLines("t.jsonl").find(str(root), 1000)
    assert str(refused.value) == (
        f"{root}/t.jsonl, line 2: expected numbers, strings or lists of either under 'span', found lists of numbers "
        "and strings, as [0, 4, 'Bio']; declare columns={'span': 'list<string>', '*': 'auto'} to read all of them as "
        "strings"
    )
    read = read_all(JsonLines("t.jsonl", columns={"span": "list<string>", "*": "auto"}), root)
    assert [row["span"] for row in read.rows] == [None, ["0", "4", "Bio"]]


@pytest.mark.parametrize("lines", [1, 1000])
def test_integers_that_become_rounded_floats_are_warned_of(write, lines):
    early = '{"a": 1}\n' * lines
    for late in ('{"a": 9007199254740993}\n{"a": 1.5}\n', '{"a": 1.5}\n{"a": 9007199254740993}\n'):
        for odd in ("", "[]\n"):
            listing = JsonLines("t.jsonl").find(str(write(early + late + odd)), 1000)
            assert "float64 rounds integers such as 9007199254740993 in" in listing.warnings[0]
    for text in ('{"a": 9007199254740993}\n', '{"a": 9007199254740994}\n{"a": 0.5}\n', '{"a": 1e300}\n{"a": 1}\n'):
        assert JsonLines("t.jsonl").find(str(write(early + text)), 1000).warnings == []


@pytest.mark.parametrize("lines", [1, 1000])
@pytest.mark.parametrize("value", ["[null, 0.5, 9007199254740993]", "9007199254740993", "18446744073709551615"])
def test_integers_in_lists_that_become_rounded_floats_are_warned_of(write, read_all, lines, value):
    root = write('{"a": [0.5]}\n' * lines + f'{{"a": {value}}}\n' + '{"a": [1, null]}\n' * lines)
    digits = value.strip("[]").split(", ")[-1]
    read = read_all(JsonLines("t.jsonl"), root)
    words = f"float64 rounds integers such as {digits} in {root}/t.jsonl, line {lines + 1}: declare it list<string> to"
    assert words in read.listing.warnings[0]
    read = read_all(JsonLines("t.jsonl", columns={"a": "list<string>"}), root)
    assert not read.problems
    assert read.rows[lines]["a"][-1] == digits


def test_integers_in_lists_that_float64_holds_are_not_warned_of(write):
    root = write('{"a": [0.5, 9007199254740994]}\n{"a": 9007199254740992}\n{"a": [null]}\n')
    assert "rounds" not in "".join(JsonLines("t.jsonl").find(str(root), 1000).warnings)


@pytest.mark.parametrize("items", ["null", "null, null", 'null, "x"', "null, 1, 0.5", "null, true"])
def test_lists_that_begin_with_null_are_read_as_they_are(write, read_all, items):
    """Of these, where no type is declared, Arrow loses the null, and reads past the end of its memory."""
    lines = [*['{"a": null}'] * 20, f'{{"a": [{items}]}}']
    read = read_all(JsonLines("t.jsonl"), write("\n".join(lines) + "\n"))
    assert [row["a"] for row in read.rows] == [json.loads(line)["a"] for line in lines]


def test_a_string_among_lists_of_strings_is_a_list_of_one(write, read_all):
    read = read_all(JsonLines("t.jsonl"), write('{"a": "x"}\n{"a": ["y", "z"]}\n{"a": 7}\n'))
    assert [row["a"] for row in read.rows] == [["x"], ["y", "z"], ["7"]]
    assert "it is read as list<item: string>" in read.listing.warnings[0]


def test_few_values_that_are_no_column_cost_their_rows_and_are_warned_of(write, read_all):
    root = write('{"a":1}\n{"a":2}\n{"a":{"x":1}}\n{"a":[3,"y"]}\n{"a":4}\n{"a":5}\n')
    read = read_all(JsonLines("t.jsonl"), root)
    assert [row["a"] for row in read.rows] == [1, 2, 4, 5]
    assert read.codes == {2: "wrong_type", 3: "wrong_type"}
    nested, mixed = read.listing.warnings
    assert nested == (
        f"'a' holds 1 objects or lists of lists, the first {{'x': 1}} in {root}/t.jsonl, line 3: their rows are "
        "quarantined"
    )
    assert "'a' holds 1 lists of numbers and strings, the first [3, 'y'] in" in mixed


def test_numbers_beyond_float32_that_become_missing_are_counted(write):
    root = write('{"m":1.5}\n{"m":1e39}\n{"m":-1e300}\n{"m":NaN}\n')
    source = JsonLines("t.jsonl", columns={"m": "float64"})
    listing = source.find(str(root), 1000)
    notes = source.read(listing.ranges[0], listing.schema).notes
    assert notes == {("overflow", "m"): ColumnNote(2, 0, "1e+39")}


def test_compressed(write, read_all):
    text = b"".join(b'{"a":%d}\n' % i for i in range(1000))
    root = write(gzip.compress(text), "t.jsonl.gz")
    read = read_all(JsonLines("t.jsonl.gz"), root, 100)
    assert [row["a"] for row in read.rows] == list(range(1000))
    assert len(read.listing.ranges) == 1
    listing = read.listing
    write(gzip.compress(text)[:-20], "t.jsonl.gz")
    with pytest.raises(PenstockError, match="decompresses"):
        JsonLines("t.jsonl.gz").read(listing.ranges[0], listing.schema)


def test_what_cannot_be_a_table_is_refused(write):
    root = write('{"a":{"b":1},"c":1}\n')
    with pytest.raises(RequestError, match="under 'a', found objects"):
        JsonLines("t.jsonl").find(str(root), 1000)
    assert JsonLines("t.jsonl", columns={"c": "auto"}).find(str(root), 1000).schema.columns.names == ["c"]
    with pytest.raises(RequestError, match=r"expected the columns \['x'\], found \['a', 'c'\]"):
        JsonLines("t.jsonl", columns={"x": "auto"}).find(str(root), 1000)
    write("[\n1,\n2]")
    with pytest.raises(RequestError, match="one JSON object a line"):
        JsonLines("t.jsonl").find(str(root), 1000)


@pytest.mark.parametrize("size", [1, 64, 1 << 30])
def test_an_empty_list_has_no_say_in_the_type_whatever_is_beside_it(write, read_all, size):
    lines = ['{"l":[1.5]}', '{"l":[]}', '{"l":[null]}', "{[[[", *['{"l":[2]}'] * 20]
    read = read_all(JsonLines("t.jsonl"), write("\n".join(lines)), size)
    assert str(read.listing.schema.columns.field("l").type) == "list<item: double>"
    assert [row["l"] for row in read.rows[:4]] == [[1.5], [], [None], [2.0]]


@pytest.mark.parametrize("size", [1, 1 << 30])
@pytest.mark.parametrize("beside", ["", "{[[[\n"])
@pytest.mark.parametrize("number", ["Inf", "-Inf", "Infinity", "-NaN", "1e999", "7" * 5000])
def test_a_number_that_is_hardly_one_reads_the_same_whatever_is_beside_it(write, read_all, number, beside, size):
    text = f'{{"a":"Inf -NaN","b":{number}}}\n{beside}{{"a":"x","b":1.5}}\n'
    read = read_all(JsonLines("t.jsonl", nonfinite="keep"), write(text), size)
    assert [row["a"] for row in read.rows] == ["Inf -NaN", "x"]
    expected = {"-Inf": "-inf", "-NaN": "nan"}.get(number, "inf")
    assert [str(row["b"]) for row in read.rows] == [expected, "1.5"]
    assert read_all(JsonLines("t.jsonl", columns={"b": "int64"}), write(text), size).codes[0] == "wrong_type"
    if number[0] == "7":
        assert read_all(JsonLines("t.jsonl", columns={"b": "string"}), write(text), size).codes[0] == "wrong_type"


def test_lines_of_ever_new_keys_are_read_a_few_at_a_time(write, read_all, monkeypatch):
    sizes = []
    read_json = json_lines._read_json
    monkeypatch.setattr(
        json_lines, "_read_json", lambda data, *args: sizes.append(data.count(b"\n")) or read_json(data, *args)
    )
    monkeypatch.setattr(json_lines, "_MOST_LINES", 100)
    lines = [f'{{"a":{number},"key {number}":1}}' for number in range(1500)]
    read = read_all(JsonLines("t.jsonl", columns={"a": "int64", "*": "auto"}), write("\n".join(lines) + "\n"))
    assert [row["a"] for row in read.rows] == list(range(1500))
    assert max(sizes) <= 100
