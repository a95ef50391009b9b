import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.sources.parquet import Parquet

SIZES = [10, 1 << 30]


@pytest.mark.parametrize("size", SIZES)
def test_types_are_normalised(tmp_path, read_all, size):
    day = datetime.date(2020, 1, 2)
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5)
    table = pa.table(
        {
            "int8": pa.array([1, None], pa.int8()),
            "uint32": pa.array([1, 2**32 - 1], pa.uint32()),
            "float32": pa.array([0.5, None], pa.float32()),
            "bool": [True, False],
            "date": [day, None],
            "time": pa.array([moment, None], pa.timestamp("s", "UTC")),
            "decimal": [Decimal("1.50"), None],
            "dictionary": pa.array(["x", "y"]).dictionary_encode(),
            "large": pa.array(["x", None], pa.large_string()),
            "bytes": [b"\xff", None],
            "null": pa.nulls(2),
            "list": pa.array([[1.5, 2], None], pa.list_(pa.float32())),
            "times": pa.array([[moment], []], pa.list_(pa.timestamp("s"))),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1)
    read = read_all(Parquet("t.parquet"), tmp_path, size)
    assert len(read.listing.ranges) == (2 if size == 10 else 1)
    assert list(read.rows[0].values()) == [
        1, 1, 0.5, 1, "2020-01-02", "2020-01-02T03:04:05.000Z", 1.5, "x", "x", b"\xff", None, [1.5, 2.0],
        ["2020-01-02T03:04:05.000"],
    ]  # fmt: skip
    assert list(read.rows[1].values())[:4] == [None, 2**32 - 1, None, 0]
    assert read.numbers == [0, 1]


@pytest.mark.parametrize("size", SIZES)
def test_what_does_not_fit_is_a_problem(tmp_path, read_all, size):
    table = pa.table(
        {
            "u": pa.array([1, 2**64 - 1, 3, 4], pa.uint64()),
            "f": [1.0, 2.0, 2.5, 3.0],
            "l": [[1.0], [1.0], [1.0], [float("nan"), 1.0]],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1)
    source = Parquet("t.parquet", columns={"u": "int64", "f": "int64", "l": "auto"})
    read = read_all(source, tmp_path, size)
    assert read.rows == [{"u": 1, "f": 1, "l": [1.0]}, {"u": 4, "f": 3, "l": None}]
    assert read.codes == {1: "wrong_type", 2: "wrong_type"}
    assert read.problems[0].message.startswith(f"{tmp_path}/t.parquet, row 1: expected int64 in the column 'u'")
    assert read_all(Parquet("t.parquet", nonfinite="quarantine"), tmp_path, size).codes[3] == "nonfinite"


def test_decimals_are_numbers_where_these_keep_every_digit(tmp_path, read_all):
    digits = [f"{number}.{number % 100:02d}" for number in range(0, 10**7, 9973)]
    columns = {
        "price": pa.array(map(Decimal, digits), pa.decimal128(10, 2)),
        "count": pa.array(map(Decimal, range(len(digits))), pa.decimal128(18, 0)),
        "wide": pa.array([Decimal(f"0.{number:016d}") for number in range(len(digits))], pa.decimal128(16, 16)),
        "prices": pa.array([[Decimal(number)] for number in digits], pa.list_(pa.decimal128(10, 2))),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    read = read_all(Parquet("t.parquet"), tmp_path)
    assert [row["price"] for row in read.rows] == [float(number) for number in digits]
    assert [row["prices"] for row in read.rows] == [[float(number)] for number in digits]
    assert [row["count"] for row in read.rows] == list(range(len(digits)))
    assert read.rows[1]["wide"] == "1E-16"
    assert read.listing.warnings == [
        "the column 'wide' is decimal128(16, 16), and has more digits than float64 keeps: it is read as string; "
        "declare it float64 for the nearest numbers"
    ]
    assert read_all(Parquet("t.parquet", columns={"wide": "float64"}), tmp_path).rows[1]["wide"] == 1e-16
    assert read_all(Parquet("t.parquet", columns={"price": "string"}), tmp_path).rows[1]["price"] == "9973.73"


def test_unsigned_integers_beyond_int64_are_strings_where_the_file_tells(tmp_path, read_all):
    hashes = [2**64 - 1, 5, None, 2**63]
    table = pa.table({"hash": pa.array(hashes, pa.uint64()), "small": pa.array([1, 2, 3, None], pa.uint64())})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    read = read_all(Parquet("t.parquet"), tmp_path)
    assert [row["hash"] for row in read.rows] == [None if each is None else str(each) for each in hashes]
    assert [row["small"] for row in read.rows] == [1, 2, 3, None]
    (warning,) = read.listing.warnings
    assert warning.startswith("the column 'hash' is uint64, and holds integers beyond int64: it is read as string")
    pq.write_table(table, tmp_path / "t.parquet", write_statistics=False)
    assert read_all(Parquet("t.parquet"), tmp_path).codes == {0: "wrong_type", 3: "wrong_type"}


def test_the_files_say_why_a_column_is_of_its_type(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1.5], "b": ["x"]}), tmp_path / "2.parquet")
    reasons = Parquet("*.parquet", columns={"b": "string", "*": "auto"}).find(str(tmp_path), 1000).schema.reasons
    assert reasons == {"a": f"int64 in {tmp_path}/1.parquet and double in {tmp_path}/2.parquet", "b": "declared"}


def test_text_as_whole_numbers(tmp_path, read_all):
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        values = pa.array(["1", "0x10", "99999999999999999999", None], kind)
        table = pa.table({"a": values, "l": pa.array([["2"], ["3"], [], ["4", "0x5"]])})
        pq.write_table(table, tmp_path / "t.parquet")
        read = read_all(Parquet("t.parquet", columns={"a": "int64", "l": "list<int64>"}), tmp_path)
        assert read.rows == [{"a": 1, "l": [2]}]
        assert read.codes == {1: "wrong_type", 2: "wrong_type", 3: "wrong_type"}
        assert "found '0x10'" in read.problems[0].message


def test_whole_numbers_become_the_nearest_real_number(tmp_path, read_all):
    table = pa.table({"a": [1, 2**53 + 1], "u": pa.array([2**64 - 1, 0], pa.uint64()), "l": [[2**53 + 1], [1, None]]})
    pq.write_table(table, tmp_path / "t.parquet")
    declared = {"a": "float64", "u": "float64", "l": "list<float64>"}
    assert read_all(Parquet("t.parquet", columns=declared), tmp_path).rows == [
        {"a": 1.0, "u": 2.0**64, "l": [2.0**53]},
        {"a": 2.0**53, "u": 0.0, "l": [1.0, None]},
    ]


def test_two_columns_of_one_name_are_refused_where_they_are_read(tmp_path, read_all):
    pq.write_table(pa.table({"x": [1], "y": [3]}), tmp_path / "1.parquet")
    twice = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["x", "x", "y"])
    pq.write_table(twice, tmp_path / "2.parquet")
    with pytest.raises(RequestError, match=r"2\.parquet: expected distinct column names, found \['x'\] more than once"):
        Parquet("*.parquet").find(str(tmp_path), 1000)
    assert read_all(Parquet("*.parquet", columns={"y": "auto"}), tmp_path).rows == [{"y": 3}, {"y": 3}]


def test_only_declared_columns_are_read(tmp_path, read_all):
    pq.write_table(pa.table({"a": [1, 2], "s": [{"x": 1}, {"x": 2}]}), tmp_path / "t.parquet")
    with pytest.raises(RequestError, match="in the column 's', found struct"):
        Parquet("t.parquet").find(str(tmp_path), 1000)
    assert read_all(Parquet("t.parquet", columns={"a": "auto"}), tmp_path).rows == [{"a": 1}, {"a": 2}]


def test_files_that_differ(tmp_path, read_all):
    pq.write_table(pa.table({"a": [1], "b": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["x"], "a": [1.5]}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "3.parquet")
    read = read_all(Parquet("[12].parquet"), tmp_path)
    assert read.rows == [{"a": 1.0, "b": "1"}, {"a": 1.5, "b": "x"}]
    assert "'b' has different types" in read.listing.warnings[0]
    with pytest.raises(RequestError, match=r"3\.parquet: expected the columns of .*1\.parquet, but it lacks \['b'\]"):
        Parquet("*.parquet").find(str(tmp_path), 1000)


def test_a_damaged_file_is_a_clear_error(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"a": list(range(1000))}), path, use_dictionary=False, compression="none", write_page_checksum=True
    )
    listing = Parquet("t.parquet").find(str(tmp_path), 1000)
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(PenstockError, match=r"t\.parquet, row groups 0 to 0: .*damaged"):
        Parquet("t.parquet").read(listing.ranges[0], listing.schema)
    path.write_bytes(content[:3000])
    with pytest.raises(RequestError, match=r"expected a Parquet file"):
        Parquet("t.parquet").find(str(tmp_path), 1000)


def test_no_rows(tmp_path):
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    with pytest.raises(RequestError, match="expected rows"):
        Parquet("t.parquet").find(str(tmp_path), 1000)


def test_durations_of_several_units_are_refused(tmp_path, read_all):
    for name, kind in (("a", pa.duration("ms")), ("b", pa.null()), ("c", pa.duration("s"))):
        pq.write_table(pa.table({"took": pa.array([None if name == "b" else 5], kind)}), tmp_path / f"{name}.parquet")
    with pytest.raises(RequestError, match=r"one unit of the column 'took', found duration\[ms\] in .*a.parquet and "):
        Parquet("*.parquet").find(str(tmp_path), 1000)
    read = read_all(Parquet(["a.parquet", "b.parquet"]), tmp_path)
    assert [row["took"] for row in read.rows] == [5, None]
