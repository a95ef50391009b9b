import pyarrow as pa
import pytest
from helpers import reference_table

from penstock.pipeline import RequestError
from penstock.pipeline.sources.listing import Reference
from penstock.pipeline.sources.quarantine import LISTED, FilteredExample
from penstock.pipeline.sources.references import FileListing, ReferenceTable, forms
from penstock.pipeline.sources.table_schema import TableSchema


def listing(*rows: dict[str, object], **fields: object) -> FileListing:
    return FileListing(iter([pa.RecordBatch.from_pylist(list(rows))]), **fields)


def references(table: ReferenceTable) -> list[Reference]:
    return list(table.references(table.query(order="files.key")))


def test_what_a_lister_leaves_out_is_unknown():
    table = ReferenceTable()
    table.add(listing({"key": "b", "uri": "s3://x/b", "size": 3}, {"key": "a", "uri": "s3://x/a", "size": -1}))
    assert references(table) == [Reference("a", "s3://x/a", -1), Reference("b", "s3://x/b", 3)]


def test_a_list_brings_labels_masks_and_columns_of_any_names():
    schema = TableSchema(pa.schema([("A", pa.int64()), ("a", pa.list_(pa.float64())), ("key of it", pa.string())]), {})
    row = {"key": "k", "uri": "u", "size": 1, "etag": "e", "label": "l", "mask": "m"}
    table = ReferenceTable()
    table.add(listing({**row, "A": 1, "a": [0.5, None], "key of it": "é"}, schema=schema))
    assert references(table) == [Reference("k", "u", 1, "l", "m", {"A": 1, "a": [0.5, None], "key of it": "é"}, "e")]


def test_equal_keys_are_one_file_or_refused():
    rows = [{"key": key, "uri": f"{key}{at}", "size": 1} for at, key in enumerate("abcb")]
    table = ReferenceTable()
    table.add(listing(*rows))
    assert [reference.key for reference in references(table)] == ["a", "b", "c"]
    with pytest.raises(RequestError, match="found 'b' for b1 and for b3"):
        ReferenceTable().add(listing(*rows, unique=False))


def test_who_is_left_out_first_stays_left_out_for_that():
    table = reference_table(["a", "b", "c", "d"])
    table.leave_out("SELECT rid, 2 AS step, 'few' AS code FROM files WHERE key = 'c'")
    table.leave_out("SELECT rid, 1 AS step, 'plan' AS stage, 'bad' AS code, ? AS message FROM files", "expected more")
    assert references(table) == []
    assert [(each.key, each.stage, each.code, each.message) for each in table.quarantined()] == [
        (key, "plan", "bad", "expected more") for key in "abd"
    ]
    assert table.filtered() == ({"few": 1}, [FilteredExample("c", "few")])
    assert (table.count(), table.listed()) == (0, 4)


def test_reasons_are_counted_in_the_order_of_steps():
    table = reference_table([str(number) for number in range(9)])
    for step in (7, 3, 5, 1):
        table.leave_out(f"SELECT rid, {step} AS step, 'by_{step}' AS code FROM files WHERE key = '{step}'")
    assert list(table.filtered()[0]) == ["by_1", "by_3", "by_5", "by_7"]


def test_of_many_that_are_filtered_the_first_are_listed():
    table = reference_table([f"{number:06}" for number in range(LISTED + 5)])
    table.leave_out("SELECT rid, 1 AS step, CASE WHEN key < '000002' THEN 'early' ELSE 'late' END AS code FROM files")
    counts, examples = table.filtered()
    assert counts == {"early": 2, "late": LISTED + 3}
    assert [example.reason for example in examples] == ["early"] * 2 + ["late"] * LISTED
    assert [example.key for example in examples] == [f"{number:06}" for number in range(LISTED + 2)]


def test_the_digest_is_of_keys_sizes_and_versions_in_no_order():
    def digest(*rows: tuple[str, int, str, float]) -> str:
        table = ReferenceTable()
        names = ("key", "size", "etag", "modified")
        table.add(listing(*({**dict(zip(names, row, strict=True)), "uri": "x"} for row in rows)))
        return table.digest("files")

    first, second = ("a", 1, "", 5.25), ("b", 2, "e", 6.5)
    known = digest(first, second)
    assert digest(second, first) == known
    assert digest(first, ("b", 2, "e", 7.0)) == known  # the ETag tells
    for other in (("b", 2, "f", 6.5), ("b", 3, "e", 6.5), ("c", 2, "e", 6.5)):
        assert digest(first, other) != known
    assert digest(("a", 1, "", 5.5), second) != known
    assert digest(first) != known


def test_forms_are_those_of_names_that_are_not_ascii():
    assert forms(pa.array(["a", "u\u0308", "\u00fc"])).to_pylist() == [None, "\u00fc", "\u00fc"]


def test_uris_that_begin_alike_come_back_whole():
    uris = {"a": "s3://x/o'raw/a", "b": "s3://x/o'raw/b", "c": "s3://y/c", "d": "elsewhere/e", "e": "s3://x/o'raw/E"}
    table = ReferenceTable()
    table.add(listing(*({"key": key, "uri": uri, "size": 1} for key, uri in uris.items())))
    table.leave_out("SELECT rid, 1 AS step, 'plan' AS stage, 'bad' AS code, 'm' AS message FROM files WHERE key = 'b'")
    assert {reference.key: reference.uri for reference in references(table)} == {
        key: uri for key, uri in uris.items() if key != "b"
    }
    assert [example.uri for example in table.quarantined()] == [uris["b"]]
    assert table.database.value("SELECT count(uri) FROM files") == 3


def test_many_bases_are_kept_whole():
    table = ReferenceTable()
    batches = ([{"key": f"{n}", "uri": f"s3://{n}/{n}", "size": 1}] for n in range(100))
    table.add(FileListing(map(pa.RecordBatch.from_pylist, batches)))
    assert {reference.uri for reference in references(table)} == {f"s3://{n}/{n}" for n in range(100)}
