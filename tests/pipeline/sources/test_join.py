import pickle
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import list_images
from PIL import Image

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.formats.column_notes import JOIN, merge
from penstock.pipeline.sources.csv import Csv
from penstock.pipeline.sources.images import Images
from penstock.pipeline.sources.join import join
from penstock.pipeline.sources.parquet import Parquet
from penstock.pipeline.sources.quarantine import FilteredExample
from penstock.pipeline.sources.union import Union

SIZES = [20, 1 << 30]
LEFT = "k,x\n" + "".join(f"{'' if i == 3 else i},{i * i}\n" for i in range(40))
RIGHT = "k,y\n" + "".join(f"{i},w{i}\n" for i in range(0, 40, 2))


@pytest.fixture
def write(tmp_path):
    def _write(**contents):
        for name, content in contents.items():
            (tmp_path / f"{name}.csv").write_text(content)
        return tmp_path

    return _write


@pytest.fixture
def opened(monkeypatch):
    """The patterns that a Csv source listed, in order."""
    listed = []
    find = Csv.find

    def _find(self, *arguments):
        listed.append(self.pattern)
        return find(self, *arguments)

    monkeypatch.setattr(Csv, "find", _find)
    return listed


# Joins.


@pytest.mark.parametrize("size", SIZES)
def test_rows_are_joined_by_key(write, read_all, size):
    root = write(l=LEFT, r=RIGHT)
    expected = [{"k": None if i == 3 else i, "x": i * i, "y": None if i % 2 else f"w{i}"} for i in range(40)]
    assert read_all(join(Csv("l.csv"), Csv("r.csv"), on="k"), root, size).rows == expected
    inner = join(Csv("l.csv"), Csv("r.csv"), on="k", how="inner")
    read = read_all(inner, root, size)
    assert read.rows == expected[::2]
    assert read.numbers == list(range(0, 40, 2))
    listing = inner.find(str(root), size)
    parts = [inner.read(record_range, listing.schema) for record_range in listing.ranges]
    assert sum(part.filtered.total() for part in parts) == 20
    filtered = [example for part in parts for example in part.filtered_examples]
    assert filtered == [FilteredExample(f"l.csv:{number}", "no_match") for number in range(1, 40, 2)]


def test_joins_of_joins(write, read_all):
    root = write(l="k,x\n1,10\n2,20\n", r="k,y\n1,a\n2,b\n", more="n,z\na,0.5\nb,1.5\n")
    deep = join(Csv("l.csv"), join(Csv("r.csv"), Csv("more.csv"), on=("y", "n")), on="k")
    expected = [{"k": 1, "x": 10, "y": "a", "z": 0.5}, {"k": 2, "x": 20, "y": "b", "z": 1.5}]
    assert read_all(deep, root, 5).rows == expected
    long = join(join(Csv("l.csv"), Csv("r.csv"), on="k"), Csv("more.csv"), on=("y", "n"))
    assert read_all(long, root, 5).rows == expected
    united = Union({"a": long, "b": Union({"c": deep}, tag="inner")})
    assert [row["z"] for row in read_all(united, root, 5).rows] == [0.5, 1.5, 0.5, 1.5]


def test_rows_without_a_key_match_nothing(write, read_all):
    root = write(l="k,x\n1,10\n,20\n", r="k,y\n,a\n1,b\n,c\n")
    assert [row["y"] for row in read_all(join(Csv("l.csv"), Csv("r.csv"), on="k"), root).rows] == ["b", None]
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(root / "1.png")
    listing = list_images(join(Images("*.png"), Csv("r.csv"), on="k"), str(root))
    assert [reference.columns for reference in listing.references] == [{"y": "b"}]


def test_a_key_that_is_there_twice_is_refused(write):
    root = write(l="k,x\n1,10\n", r="k,y\n5,a\n,b\n5,c\n,d\n")
    with pytest.raises(RequestError, match="found '5' 2 times in its column 'k'"):
        join(Csv("l.csv"), Csv("r.csv"), on="k").find(str(root), 1000)


@pytest.mark.parametrize(("value", "kind"), [(b"1", "binary"), ([1], "list<item: int64>")])
def test_keys_are_numbers_or_text(write, value, kind):
    root = write(t="k,x\n1,10\n")
    pq.write_table(pa.table({"b": [value], "y": [1]}), root / "t.parquet")
    said = f"expected numbers or strings in the column 'b' of the {{}}, found {kind}; declare it"
    for left, right, on, where in (
        (Csv("t.csv"), Parquet("t.parquet"), ("k", "b"), "joined table"),
        (Parquet("t.parquet"), Csv("t.csv"), ("b", "k"), "left side"),
    ):
        with pytest.raises(RequestError, match=said.format(where)):
            join(left, right, on=on).find(str(root), 1000)


def test_a_joined_table_is_read_once_in_a_process(write, opened):
    root = write(l=LEFT, r=RIGHT)
    source = join(Csv("l.csv"), Csv("r.csv"), on="k")
    listing = source.find(str(root), 20)
    assert len(listing.ranges) > 5
    assert opened == ["l.csv", "r.csv"]
    for record_range in listing.ranges:
        source.read(record_range, listing.schema)
    assert opened == ["l.csv", "r.csv"]
    # as in another process
    source, listing = pickle.loads(pickle.dumps((source, listing)))
    threads = [
        threading.Thread(target=source.read, args=(record_range, listing.schema))
        for record_range in listing.ranges
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["l.csv", "r.csv", "r.csv"]
    assert len(pickle.dumps(source)) < 1000


def test_a_joined_table_that_changed_is_read_anew_or_refused(write, read_all):
    root = write(l="k,x\n1,10\n", r="k,y\n1,a\n")
    source = join(Csv("l.csv"), Csv("r.csv"), on="k")
    listing = source.find(str(root), 1000)
    write(r="k,y\n1,other\n")
    assert read_all(source, root).rows == [{"k": 1, "x": 10, "y": "other"}]
    with pytest.raises(PenstockError, match="the joined table changed after it was listed; run again"):
        source.read(listing.ranges[0], listing.schema)


# Unions.


@pytest.mark.parametrize("size", SIZES)
def test_a_union_of_unions(write, read_all, size):
    root = write(a="x,only\n1,p\n2,q\n", b="x\n3\n", c="x,other\n4,0.5\n")
    inner = Union({"A": Csv("a.csv"), "C": Csv("b.csv")}, tag="inner")
    read = read_all(Union({"AB": inner, "C": Csv("c.csv")}), root, size)
    names = ("x", "only", "inner", "other", "source")
    assert [tuple(row[name] for name in names) for row in read.rows] == [
        (1, "p", "A", None, "AB"),
        (2, "q", "A", None, "AB"),
        (3, None, "C", None, "AB"),
        (4, None, None, 0.5, "C"),
    ]
    with pytest.raises(RequestError, match="expected a new name, found the column 'inner'"):
        Union({"AB": inner}, tag="inner").find(str(root), size)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({}, "dict of name to table"),
        ({"a\nb": Csv("a.csv")}, "name without line ends"),
        ({"a": Images("*.png")}, "table such as Csv"),
    ],
)
def test_unions_that_are_wrong_are_refused(sources, said):
    with pytest.raises(RequestError, match=said):
        Union(sources)


def test_what_the_joined_table_warns_of_is_told(tmp_path):
    (tmp_path / "left.csv").write_text("id\n1\n2\n")
    (tmp_path / "right.csv").write_text(f"id,hash,m\n1,{2**64},1e39\n2,5,1.5\n")
    listing = join(Csv("left.csv"), Csv("right.csv"), on="id").find(str(tmp_path), 1000)
    (integers, overflow) = listing.warnings
    assert "'hash' holds integers beyond int64" in integers
    assert overflow.startswith("column 'm': 1 numbers beyond float32's range became missing values")
    assert listing.schema.reasons["hash"].startswith("integers beyond int64")


# Rows without a partner.


def notes_of(source, root, size):
    """Rows of the left side without a partner, all of them, one of these, and which rows of the right side matched."""
    listing = source.find(str(root), size)
    noted = {}
    for record_range in listing.ranges:
        noted = merge(noted, source.read(record_range, listing.schema).notes)
    ((code, _), note) = next(iter(noted.items()))
    assert code == JOIN
    return note.count, note.of, note.example, f"{int(note.seen, 16):b}"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["left", "inner"])
def test_rows_without_a_partner_are_counted(write, size, how):
    root = write(l="k,x\n1,1\n,0\n5,0\n2,0\n1,3\n", r="k,y\n1,a\n2,b\n3,c\n1e3,d\n")
    note = notes_of(join(Csv("l.csv", columns={"k": "string", "*": "auto"}), Csv("r.csv", columns={"*": "string"}),
                         on="k", how=how), root, size)  # fmt: skip
    assert note == (2, 5, "None", "11")


def test_of_a_large_right_side_some_rows_are_noted(write, monkeypatch):
    monkeypatch.setattr("penstock.pipeline.sources.join._NOTED_ROWS", 5)
    root = write(l="k,x\n" + "".join(f"{i},0\n" for i in range(20)), r="k,y\n" + "".join(f"{i},0\n" for i in range(40)))
    assert notes_of(join(Csv("l.csv"), Csv("r.csv"), on="k"), root, 1 << 20)[3] == "111"


@pytest.mark.parametrize("how", ["left", "inner"])
def test_a_join_that_matches_nothing_is_refused_with_what_may_be_the_reason(write, how):
    root = write(l="k,x\n1,1\n2,2\n", r="k,y\n001,a\n002,b\n")
    with pytest.raises(RequestError, match=r"expected keys of 'k' .*found none of \['1', '2'\].*'1' and '001' differ"):
        join(Csv("l.csv"), Csv("r.csv"), on="k", how=how).find(str(root), 1 << 20)


def test_keys_of_another_writing_are_told_where_others_match(write):
    root = write(l="k,x\nA,1\nb,2\n", r="k,y\na,a\nb,b\n")
    (warning,) = join(Csv("l.csv"), Csv("r.csv"), on="k").find(str(root), 1 << 20).warnings
    assert "'A' and 'a' differ only in" in warning
    root = write(l="k,x\nc,1\nb,2\n", r="k,y\na,a\nb,b\n")
    assert join(Csv("l.csv"), Csv("r.csv"), on="k").find(str(root), 1 << 20).warnings == []


def test_a_beginning_that_matches_nothing_is_told(write):
    rows = "".join(f"{'x' if i < 900 else 'k'}{i},0\n" for i in range(1000))
    root = write(l=f"k,x\n{rows}", r="k,y\nk901,a\n")
    (warning,) = join(Csv("l.csv"), Csv("r.csv"), on="k").find(str(root), 400).warnings
    assert "none matches" in warning


@pytest.mark.parametrize("how", ["left", "inner"])
def test_images_and_rows_without_a_partner_are_told(write, how):
    root = write(r="k,y\n1,a\n02,b\n7,c\n")
    for name in ("1", "2", "3"):
        (root / f"{name}.png").touch()
    source = join(Images("*.png"), Csv("r.csv", columns={"*": "string"}), on="k", how=how)
    rows, images = source.find(str(root)).warnings
    assert "2 rows of the column 'k' of the joined table belong to no image, such as '02'; '02' and '2' differ" in rows
    assert images.startswith(
        "2 of 3 images have no row in the column 'k' of the joined table, such as '2.png': they are"
    )
    assert images.endswith("left out" if how == "inner" else "without its columns")


def test_tables_of_keys_alone_choose_images(write):
    root = write(a="k\n1\n2\n", b="k\n2\n3\n", c="k,y\n2,x\n")
    for name in ("1", "2", "3"):
        (root / f"{name}.png").touch()
    source = Images("*.png")
    for name in ("a", "b", "c"):
        source = join(source, Csv(f"{name}.csv", columns={"*": "string"}), on="k", how="inner")
    listing = list_images(source, str(root))
    assert [(each.key, each.columns) for each in listing.references] == [("2.png", {"y": "x"})]
    assert [each.key for each in listing.filtered_examples] == ["3.png", "1.png"]


def test_sources_that_differ_in_their_address_alone_are_different_tables(tmp_path):
    """The kept table is that of its own source, whatever its repr."""

    class Mine:
        def __init__(self, value):
            self.value = value

        def __repr__(self):
            return "Mine()"

        def find(self, root, range_bytes):
            return replace(Csv("r.csv").find(root, range_bytes), digest="same")

        def read(self, record_range, schema):
            rows = Csv("r.csv").read(record_range, schema)
            columns = [rows.batch.column("k"), pa.array([self.value] * len(rows.batch), pa.string())]
            return replace(rows, batch=pa.RecordBatch.from_arrays(columns, schema=schema.columns))

    (tmp_path / "l.csv").write_text("k,x\n1,1\n")
    (tmp_path / "r.csv").write_text("k,y\n1,a\n")
    for value in ("first", "second"):
        source = join(Csv("l.csv"), Mine(value), on="k")
        for each in (source, pickle.loads(pickle.dumps(join(Csv("l.csv"), Csv("r.csv"), on="k")))):
            listing = each.find(str(tmp_path), 1 << 20)
            (row,) = each.read(listing.ranges[0], listing.schema).batch.to_pylist()
            assert row["y"] == (value if each is source else "a")
