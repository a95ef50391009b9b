import pickle
import sqlite3
import sys
import types

import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.sources.sql import Sql, redact

SIZES = [1000, 1 << 30]


@pytest.fixture
def root(tmp_path):
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute('CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY, "na""me" TEXT, x REAL, mixed, b BLOB)')
        rows = [(3 * i - 50, f"n{i}" if i % 7 else None, i / 2, "t" if i % 10 == 3 else i, b"\xff") for i in range(500)]
        connection.executemany('INSERT INTO "odd ""name" VALUES (?, ?, ?, ?, ?)', rows)
    connection.close()
    return tmp_path


@pytest.mark.parametrize("size", SIZES)
def test_a_table_by_ranges_of_its_key(root, read_all, size):
    read = read_all(Sql("sqlite:///t.db", table='odd "name', partition="id"), root, size)
    assert (len(read.listing.ranges) > 1) == (size == 1000)
    assert read.numbers == [3 * i - 50 for i in range(500)]
    assert read.rows[3] == {"id": -41, 'na"me': "n3", "x": 1.5, "mixed": "t", "b": b"\xff"}
    assert read.rows[7] == {"id": -29, 'na"me': None, "x": 3.5, "mixed": "7", "b": b"\xff"}
    assert read.listing.warnings == [
        "the column 'mixed' holds numbers in some rows and text or bytes in others (450 integer and 50 text): "
        "it is read as string"
    ]


@pytest.mark.parametrize("size", SIZES)
def test_what_does_not_fit_is_a_problem(root, read_all, size):
    source = Sql("sqlite:///t.db", table='odd "name', partition="id", columns={"mixed": "int64", "x": "float64"})
    with sqlite3.connect(root / "t.db") as connection:
        connection.execute('UPDATE "odd ""name" SET x = 9e999 WHERE id = -50')
    connection.close()
    read = read_all(source, root, size)
    assert read.rows[0] == {"x": None, "mixed": 0}
    assert set(read.codes.values()) == {"wrong_type"}
    assert len(read.codes) == 50
    assert read.problems[0].key == 'odd "name:-41'
    assert read.problems[0].message.startswith(
        "sqlite:///t.db, odd \"name, id -41: expected int64 in the column 'mixed'"
    )


def test_types_of_sqlite_hold_for_all_rows(tmp_path, read_all):
    with sqlite3.connect(tmp_path / "n.db") as connection:
        connection.execute("CREATE TABLE n (i, late, empty, text)")
        rows = [(i, i, None, i) for i in range(3000)] + [(1, 2.5, 7, "x")]
        connection.executemany("INSERT INTO n VALUES (?, ?, ?, ?)", rows)
    connection.close()
    read = read_all(Sql("sqlite:///n.db", table="n"), tmp_path)
    assert read.rows[0] == {"i": 0, "late": 0.0, "empty": None, "text": "0"}
    assert read.rows[-1] == {"i": 1, "late": 2.5, "empty": 7, "text": "x"}
    assert read.listing.schema.reasons == {
        "i": "3001 integer", "late": "3000 integer and 1 real", "empty": "1 integer", "text": "3000 integer and 1 text",
    }  # fmt: skip
    assert ["'text'" in warning for warning in read.listing.warnings] == [True]


def test_a_query(root, read_all):
    source = Sql("sqlite:///t.db", query='SELECT id, x * 2 AS y FROM "odd ""name" WHERE id > 0 ORDER BY id DESC;')
    read = read_all(source, root)
    assert read.rows[0] == {"id": 1447, "y": 499.0}
    assert read.numbers == list(range(483))
    assert len({record_range.key for record_range in read.listing.ranges}) == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_text_that_is_no_utf8_costs_its_row(root, read_all, size):
    with sqlite3.connect(root / "t.db") as connection:
        connection.execute("""UPDATE "odd ""name" SET "na""me" = CAST(x'FF41' AS TEXT) WHERE id IN (-47, 1447)""")
        connection.execute("""UPDATE "odd ""name" SET "na""me" = 'é' WHERE id = -44""")
    connection.close()
    declared = {'na"me': "auto", "id": "auto"}
    read = read_all(Sql("sqlite:///t.db", table='odd "name', partition="id", columns=declared), root, size)
    assert read.codes == {-47: "encoding", 1447: "encoding"}
    assert "id -47: expected UTF-8 in the column 'na\"me', found b'\\xffA'" in read.problems[0].message
    assert len(read.rows) == 498
    assert read.rows[1] == {"id": -44, 'na"me': "é"}
    declared = {'na"me': "binary"}
    read = read_all(Sql("sqlite:///t.db", table='odd "name', partition="id", columns=declared), root, size)
    assert read.rows[1] == {'na"me': b"\xffA"}


def test_whole_numbers_beside_real_ones_become_the_nearest(tmp_path, read_all):
    with sqlite3.connect(tmp_path / "n.db") as connection:
        connection.execute("CREATE TABLE n (x)")
        connection.executemany("INSERT INTO n VALUES (?)", [(2**53 + 1,), (1.5,), (2**63 - 1,)])
    connection.close()
    read = read_all(Sql("sqlite:///n.db", table="n"), tmp_path)
    assert [row["x"] for row in read.rows] == [2.0**53, 1.5, 2.0**63]


def test_a_whole_number_beyond_int64_is_of_the_wrong_type(tmp_path, read_all):
    with sqlite3.connect(tmp_path / "n.db") as connection:
        connection.execute("CREATE TABLE n (x TEXT)")
        connection.executemany("INSERT INTO n VALUES (?)", [("1",), ("9223372036854775808",), ("0x1",)])
    connection.close()
    read = read_all(Sql("sqlite:///n.db", table="n", columns={"x": "int64"}), tmp_path)
    assert read.rows == [{"x": 1}]
    assert read.codes == {1: "wrong_type", 2: "wrong_type"}


def test_a_query_may_end_in_a_comment(root, read_all):
    source = Sql("sqlite:///t.db", query='SELECT id FROM "odd ""name" WHERE id > 1440 -- the last ones')
    assert read_all(source, root).rows == [{"id": 1441}, {"id": 1444}, {"id": 1447}]


def test_a_change_that_waits_in_the_write_ahead_log_is_noticed(tmp_path):
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    source = Sql("sqlite:///t.db", table="t")
    digests = [source.find(str(tmp_path), 1000).digest for _ in range(2)]
    connection.execute("UPDATE t SET a = 2")
    connection.commit()
    digests.append(source.find(str(tmp_path), 1000).digest)
    connection.close()
    assert digests[0] == digests[1] != digests[2]


def test_a_changed_table_has_another_digest(root):
    source = Sql("sqlite:///t.db", table='odd "name', partition="id")
    digest = source.find(str(root), 1000).digest
    assert digest == source.find(str(root), 1000).digest
    with sqlite3.connect(root / "t.db") as connection:
        connection.execute('DELETE FROM "odd ""name" WHERE id = 1')
    connection.close()
    assert digest != source.find(str(root), 1000).digest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "none"}, "no such table"),
        ({"query": "SELEC 1"}, "syntax error"),
        ({"table": 'odd "name', "partition": "none"}, r"expected the column 'none' .*found \['id'"),
        ({"table": 'odd "name', "partition": "x"}, "integers without nulls and duplicates"),
        ({"table": 'odd "name', "partition": 'na"me'}, "integers"),
        ({"table": 'odd "name', "columns": {"y": "int64"}}, r"expected the columns \['y'\]"),
        ({"query": 'SELECT * FROM "odd ""name" WHERE id > 9999'}, "expected rows"),
    ],
)
def test_wrong_requests_are_refused(root, options, said):
    with pytest.raises(RequestError, match=said):
        Sql("sqlite:///t.db", **options).find(str(root), 1000)


def test_databases_that_are_not_there(tmp_path):
    with pytest.raises(RequestError, match=r"expected an SQLite file at .*none\.db, found none"):
        Sql("sqlite:///none.db", table="t").find(str(tmp_path), 1000)
    with pytest.raises(RequestError, match="table or a query"):
        Sql("sqlite:///t.db")
    with pytest.raises(RequestError, match="no scheme"):
        Sql("t.db", table="t")


def test_passwords_are_nowhere(root, monkeypatch):
    uri = "nodatabase://me:s3cret@127.0.0.1:1/db?token=hush"
    source = Sql(uri, table="t")
    assert "s3cret" not in repr(source)
    assert "hush" not in repr(source)
    assert pickle.loads(pickle.dumps(source)) == source
    assert redact(uri) == "nodatabase://me@127.0.0.1:1/db"
    with pytest.raises(PenstockError) as error:
        source.find(str(root), 1000)
    assert "s3cret" not in str(error.value)
    monkeypatch.setenv("PENSTOCK_TEST_DB", "t.db")
    assert Sql("sqlite:///$PENSTOCK_TEST_DB", table='odd "name').find(str(root), 1 << 30).ranges


COMMON = 'SELECT id, "na""me", x, b FROM "odd ""name"'  # columns of one type each, as other drivers want them


def _both(source, root, read_all):
    by_sqlite3 = Sql("sqlite:///t.db", query=COMMON, partition="id")
    return [(read.numbers, read.rows) for read in (read_all(each, root, 1000) for each in (source, by_sqlite3))]


@pytest.mark.extras("sqlalchemy")
def test_sqlalchemy_gives_the_same(root, read_all):
    found, expected = _both(Sql(f"sqlite+pysqlite:///{root}/t.db", query=COMMON, partition="id"), root, read_all)
    assert len(expected[0]) == 500
    assert found == expected


@pytest.mark.extras("adbc_driver_sqlite")
def test_adbc_gives_the_same(root, read_all, monkeypatch):
    # The only driver that needs no server, under a scheme that has a driver: its `connect` is told where the file is.
    from adbc_driver_sqlite import dbapi

    connected = []

    def connect(uri):
        connected.append(uri)
        return dbapi.connect(str(root / "t.db"))

    driver = types.SimpleNamespace(connect=connect)
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", types.SimpleNamespace(dbapi=driver))
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", driver)
    found, expected = _both(Sql("postgresql://host/t", query=COMMON, partition="id"), root, read_all)
    assert len(expected[0]) == 500
    assert found == expected
    assert set(connected) == {"postgresql://host/t"}
