import gzip
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from penstock.pipeline import Csv, RequestError, Sql
from penstock.pipeline.sources.reference_lists import References, references
from penstock.pipeline.sources.references import FileListing
from penstock.pipeline.storage import files

ROWS = [
    {"uri": "s3://a/x/1.jpg", "size": 10, "etag": '"aa"', "label": "cat", "n": 1},
    {"uri": "gs://b/1.jpg", "size": 20, "etag": "bb", "label": "dog", "n": 2},
    {"uri": "x/2.jpg", "size": 30, "etag": None, "label": "cat", "n": 3},
]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a list by its suffix."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".tsv":
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter="\t"))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(listing: FileListing) -> list[dict[str, Any]]:
    return [row for batch in listing.batches for row in batch.to_pylist()]


def found(source: References, root: object, *patterns: str) -> list[dict[str, Any]]:
    return rows_of(source.list_files(str(root), patterns))


def column(source: References, root: object, name: str) -> list[Any]:
    return [row[name] for row in found(source, root)]


@pytest.mark.parametrize("name", ["list.parquet", "list.csv", "list.tsv", "list.jsonl"])
def test_a_list_in_every_format(tmp_path: Path, name: str):
    write(tmp_path / name, ROWS)
    rows = found(references(name, label="label", columns=["n"]), tmp_path)
    assert [row["uri"] for row in rows] == ["s3://a/x/1.jpg", "gs://b/1.jpg", f"{tmp_path}/x/2.jpg"]
    assert [row["key"] for row in rows] == ["a/x/1.jpg", "b/1.jpg", "x/2.jpg"]
    assert [(row["size"], row["etag"], row["label"], row["n"]) for row in rows] == [
        (10, "aa", "cat", 1),
        (20, "bb", "dog", 2),
        (30, "", "cat", 3),
    ]
    assert {(row["code"], row["message"], row["modified"]) for row in rows} == {(None, None, 0.0)}


def test_a_list_of_uris_alone(tmp_path: Path):
    (tmp_path / "list.txt").write_text('s3://a/1, "x".jpg\nhttps://host/a.jpg?id=1\n\nb/2.jpg\n')
    assert column(references("list.txt"), tmp_path, "uri") == [
        's3://a/1, "x".jpg',
        "https://host/a.jpg?id=1",
        f"{tmp_path}/b/2.jpg",
    ]
    assert column(references("list.txt"), tmp_path, "size") == [-1, -1, -1]


def test_a_list_may_be_a_table_of_any_source(tmp_path: Path):
    with sqlite3.connect(tmp_path / "db.sqlite") as database:
        database.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, place TEXT, breed TEXT)")
        database.executemany("INSERT INTO images VALUES (?, ?, ?)", [(1, "s3://a/1.jpg", "cat"), (2, "b/2.jpg", "dog")])
    table = Sql("sqlite:///db.sqlite", table="images", partition="id")
    assert column(references(table, uri="place", label="breed"), tmp_path, "label") == ["cat", "dog"]
    (tmp_path / "list.dat").write_text("1.jpg;7\n")
    listed = references(Csv("list.dat", delimiter=";", names=["name", "class"]), uri="name", label="class")
    assert column(listed, tmp_path, "label") == [7]


def test_a_table_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "list.csv", ROWS)
    calls = []
    find = Csv.find
    monkeypatch.setattr(Csv, "find", lambda *arguments: calls.append(arguments) or find(*arguments))
    for source in (references("list.csv"), references(Csv("list.csv"))):
        assert len(column(source, tmp_path, "uri")) == 3
    assert len(calls) == 2


def test_a_list_may_lie_elsewhere_and_be_compressed(tmp_path: Path):
    uri = f"memory://lists-{tmp_path.name}/deep/list.csv.gz"
    files.write_bytes(uri, gzip.compress(b"uri,size\ns3://a/1.jpg,5\n"))
    listing = references(uri).list_files("/input")
    assert [row["key"] for row in rows_of(listing)] == ["a/1.jpg"]
    files.write_bytes(uri, gzip.compress(b"uri,size\ns3://a/2.jpg,5\n"))
    assert references(uri).list_files("/input").digest != listing.digest
    write(tmp_path / "list.parquet", ROWS)
    assert len(column(references(str(tmp_path / "l*.parquet")), "s3://elsewhere", "uri")) == 3


def test_several_files_are_one_list(tmp_path: Path):
    for number in range(3):
        write(tmp_path / f"{number}.parquet", [{"uri": f"s3://a/{number}.jpg"}])
    assert column(references(["[01].parquet", "2.parquet"]), tmp_path, "key") == [f"a/{n}.jpg" for n in range(3)]


@pytest.mark.parametrize(
    ("root", "written", "uri", "key"),
    [
        ("/in", "a/1.jpg", "/in/a/1.jpg", "a/1.jpg"),
        ("/in", "./a/1.jpg", "/in/a/1.jpg", "a/1.jpg"),
        ("/in", "/in/a/1.jpg", "/in/a/1.jpg", "a/1.jpg"),
        ("/in", "/elsewhere/1.jpg", "/elsewhere/1.jpg", "elsewhere/1.jpg"),
        ("/in", "file:///elsewhere/1.jpg", "/elsewhere/1.jpg", "elsewhere/1.jpg"),
        ("s3://b/in", "a/1.jpg", "s3://b/in/a/1.jpg", "a/1.jpg"),
        ("s3://b/in", "s3://b/in/a/1.jpg", "s3://b/in/a/1.jpg", "a/1.jpg"),
        ("s3://b/in", "s3a://b/in/a/1.jpg", "s3://b/in/a/1.jpg", "a/1.jpg"),
        ("s3://b/in", "s3://b/inside/1.jpg", "s3://b/inside/1.jpg", "b/inside/1.jpg"),
        ("s3://b/in", "gs://b/ü #%?+.jpg", "gs://b/ü #%?+.jpg", "b/ü #%?+.jpg"),
        ("/in", "abfss://c@account.dfs.core.windows.net/1.jpg", "abfss://c@account.dfs.core.windows.net/1.jpg", None),
    ],
)
def test_where_objects_are_and_what_their_keys_are(tmp_path: Path, root: str, written: str, uri: str, key: str | None):
    write(tmp_path / "list.jsonl", [{"uri": written}])
    (row,) = found(references(str(tmp_path / "list.jsonl")), root)
    assert (row["uri"], row["key"], row["code"]) == (uri, key or uri.partition("://")[2], None)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"uri": None}, "uri_missing"),
        ({"uri": ""}, "uri_missing"),
        ({"uri": "ftp://host/1.jpg"}, "unsupported_uri"),
        ({"uri": "../1.jpg"}, "unsupported_uri"),
        ({"uri": "a/../../1.jpg"}, "unsupported_uri"),
        ({"uri": "s3://a/folder/"}, "unsupported_uri"),
        ({"uri": "s3:///1.jpg"}, "unsupported_uri"),
        ({"uri": "s3://a/x.tar!/1.jpg#tar:10:0:9:9:"}, "unsupported_uri"),
        ({"label": None}, "label_missing"),
        ({"mask": None}, "mask_missing"),
        ({"mask": "../mask.png"}, "mask_unsupported_uri"),
        ({"id": None}, "key_missing"),
    ],
)
def test_a_row_that_names_no_example_is_told(tmp_path: Path, row: dict[str, Any], code: str):
    good = {"uri": "s3://a/1.jpg", "label": "cat", "mask": "m/1.png", "id": "one"}
    write(tmp_path / "list.jsonl", [good, {**good, "id": "two", **row}, {**good, "id": "three", **row}])
    first, *others = found(references("list.jsonl", label="label", mask="mask", key="id"), tmp_path)
    assert (first["key"], first["code"], first["mask"]) == ("one", None, f"{tmp_path}/m/1.png")
    assert [other["code"] for other in others] == [code, code]
    assert all(other["message"].startswith("expected") for other in others)
    assert len({other["key"] for other in others}) == 2  # equal ones would be two examples of one key
    assert all(other["uri"] for other in others)


@pytest.mark.parametrize(
    "uri",
    [
        "https://b.s3.amazonaws.com/1.jpg?X-Amz-Algorithm=AWS4&X-Amz-Signature=secret",
        "https://storage.googleapis.com/b/1.jpg?X-Goog-Signature=secret",
        "https://a.blob.core.windows.net/c/1.jpg?sv=2024&sig=secret&se=1",
        "http://host/1.jpg?access_token=secret",
        "https://user:secret@host/1.jpg",
        "https://secret@host/1.jpg",
        "az://container/1.jpg?sv=2024-11-04&se=1&sig=secret",
        "s3://bucket/1.jpg?X-Amz-Signature=secret",
    ],
)
def test_a_signature_in_a_uri_is_refused_and_shown_nowhere(tmp_path: Path, uri: str):
    write(tmp_path / "list.jsonl", [{"uri": uri, "mask": "1.png"}, {"uri": "2.jpg", "mask": uri}])
    rows = found(references("list.jsonl", mask="mask"), tmp_path)
    assert [(row["key"], row["code"]) for row in rows] == [(f"list.jsonl:{n}", "signed_uri") for n in (0, 1)]
    assert "secret" not in str(rows)
    write(tmp_path / "list.jsonl", [{"uri": "https://host/show?id=7&signature_of=x", "mask": "1.png"}])
    assert found(references("list.jsonl", mask="mask"), tmp_path)[0]["key"] == "host/show?id=7&signature_of=x"


def test_rows_that_do_not_fit_are_quarantined_with_their_place(tmp_path: Path):
    (tmp_path / "list.csv").write_text("uri,size\ns3://a/1.jpg,5\ns3://a/2.jpg,many\n")
    rows = found(references("list.csv"), tmp_path)
    assert sorted(row["key"] for row in rows) == ["a/1.jpg", "list.csv:1"]
    (bad,) = (row for row in rows if row["code"])
    assert bad["key"] == "list.csv:1"
    assert "many" in bad["message"]


def test_templates_make_uris_of_columns(tmp_path: Path):
    write(tmp_path / "list.csv", [{"bucket": "b", "name": "x/1.jpg", "id": 7}, {"bucket": "b", "name": None, "id": 8}])
    source = references("list.csv", uri="gs://{bucket}/{name}", mask="masks/{id}.png", key="id")
    rows = found(source, tmp_path)
    assert tuple(rows[0][name] for name in ("key", "uri", "mask")) == (
        "7",
        "gs://b/x/1.jpg",
        f"{tmp_path}/masks/7.png",
    )
    assert rows[1]["code"] == "uri_missing"


def test_columns_are_chosen_by_their_usual_names(tmp_path: Path):
    write(tmp_path / "1.csv", [{"Bucket": "b", "Key": "k/1.jpg", "Size": 3, "ETag": "ee"}])
    (row,) = found(references("1.csv"), tmp_path)
    assert (row["uri"], row["size"], row["etag"]) == ("s3://b/k/1.jpg", 3, "ee")
    (row,) = found(references("1.csv", size="", etag=""), tmp_path)
    assert (row["size"], row["etag"]) == (-1, "")
    write(tmp_path / "2.csv", [{"URL": "https://h/1.jpg", "path": "a"}])
    assert column(references("2.csv"), tmp_path, "uri") == ["https://h/1.jpg"]


@pytest.mark.parametrize("name", ["list.csv", "list.parquet", "list.jsonl"])
def test_sizes_may_be_written_as_floats(tmp_path: Path, name: str):
    write(tmp_path / name, [{"uri": "s3://a/1.jpg", "size": 5.0}, {"uri": "s3://a/2.jpg", "size": None}])
    assert column(references(name), tmp_path, "size") == [5, -1]


def test_a_row_may_lack_what_others_have(tmp_path: Path):
    write(tmp_path / "list.jsonl", [{"uri": "s3://a/1.jpg"}, {"uri": "s3://a/2.jpg", "size": 3, "etag": "ee"}])
    rows = found(references("list.jsonl"), tmp_path)
    assert [(row["size"], row["etag"]) for row in rows] == [(-1, ""), (3, "ee")]


def test_patterns_choose_among_the_objects(tmp_path: Path):
    write(
        tmp_path / "list.jsonl",
        [{"uri": name} for name in ("a/1.jpg", "a/b/2.jpg", "a/3.txt", "s3://x/4.jpg", "é.jpg")],
    )
    source = references("list.jsonl")
    listing = source.list_files(str(tmp_path), ["**/*.jpg"])
    assert [row["key"] for row in rows_of(listing)] == ["a/1.jpg", "a/b/2.jpg", "x/4.jpg", "é.jpg"]
    assert listing.warnings == []
    assert found(source, tmp_path, "*.gif") == []
    with pytest.raises(
        RequestError, match=r"images that match \['\*\.gif'\] in the list, found others, such as a/1\.jpg"
    ):
        rows_of(source.list_files(str(tmp_path), ["*.gif"], "images"))
    assert [row["key"] for row in found(source, tmp_path, "a/*.jpg", "*/[4].jpg")] == ["a/1.jpg", "x/4.jpg"]


def test_a_list_of_another_form_is_refused(tmp_path: Path):
    write(tmp_path / "list.csv", [{"uri": "a", "n": 1.5, "size": 1}])
    for options, words in [
        ({"uri": "nothing"}, "found 'nothing'"),
        ({"uri": "s3://{nothing}"}, "found 'nothing'"),
        ({"label": "nothing"}, "found 'nothing'"),
        ({"columns": ["nothing"]}, "found 'nothing'"),
        ({"label": "n"}, "int64 or string in the column 'n', found double"),
    ]:
        with pytest.raises(RequestError, match=words):
            references("list.csv", **options).list_files(str(tmp_path))  # type: ignore[arg-type]
    write(tmp_path / "other.csv", [{"a": 1}])
    with pytest.raises(RequestError, match="uri='COLUMN'"):
        references("other.csv").list_files(str(tmp_path))
    with pytest.raises(RequestError, match="expected record files"):
        references("none.csv").list_files(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"table": "list.xlsx"}, "ends in .parquet"),
        ({"table": ""}, "expected a path"),
        ({"table": 7}, "expected a path"),
        ({"table": "l.csv", "columns": "n"}, "a list of names"),
        ({"table": "l.csv", "columns": ["key"]}, "names that examples do not have"),
        ({"table": "l.csv", "columns": ["label"], "label": "label"}, "names that examples do not have"),
        ({"table": "l.csv", "uri": "s3://{}"}, "names of columns in braces"),
        ({"table": "l.csv", "mask": "{"}, "no template"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], words: str):
    with pytest.raises(RequestError, match=words):
        references(**options)


def test_joined_columns_keep_their_types_and_why(tmp_path: Path):
    write(
        tmp_path / "list.csv",
        [{"uri": "1.jpg", "n": 1, "x": 1.5, "s": "a"}, {"uri": "2.jpg", "n": None, "x": 2.5, "s": "b"}],
    )
    listing = references("list.csv", columns=["s", "n", "x"]).list_files(str(tmp_path))
    assert listing.schema is not None
    assert [(each.name, str(each.type)) for each in listing.schema.columns] == [
        ("s", "string"),
        ("n", "int64"),
        ("x", "double"),
    ]
    assert set(listing.schema.rules) == {"s", "n", "x"}
    assert [row["n"] for row in rows_of(listing)] == [1, None]


def test_a_list_is_read_by_batches(tmp_path: Path):
    table = pa.table({"uri": [f"s3://a/{number}.jpg" for number in range(200_000)]})
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet", row_group_size=150_000)
    batches = references("list.parquet").list_files(str(tmp_path)).batches
    assert [len(batch) for batch in batches] == [65536, 65536, 65536, 3392]


def test_a_damaged_list_is_refused(tmp_path: Path):
    write(tmp_path / "list.parquet", ROWS)
    content = bytearray((tmp_path / "list.parquet").read_bytes())
    content[len(content) // 3] ^= 0xFF
    (tmp_path / "list.parquet").write_bytes(content[: len(content) - 30])
    with pytest.raises(RequestError, match=r"list\.parquet"):
        found(references("list.parquet"), tmp_path)
