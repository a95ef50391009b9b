import pickle

import pyarrow as pa
import pytest

from penstock.pipeline.sources.csv import Csv
from penstock.pipeline.sources.join import join
from penstock.pipeline.sources.listing import RecordListing
from penstock.pipeline.sources.parquet import Parquet
from penstock.pipeline.sources.table_schema import ReadRules, RulesByTable, TableSchema, with_rules
from penstock.pipeline.sources.union import Union

COLUMNS = pa.schema([("s", pa.string()), ("b", pa.binary()), ("i", pa.int64()), ("f", pa.float64())])


class Untold:
    """A source that does not tell how it reads its one column."""

    def find(self, root, range_bytes):
        return RecordListing([], TableSchema(pa.schema([("t", pa.string())]), {}))

    def read(self, record_range, schema):
        raise NotImplementedError


@pytest.fixture
def rules(tmp_path):
    (tmp_path / "a.csv").write_text("k,t,x\n1, a ,0.5\n")
    (tmp_path / "b.csv").write_text("k,y\n1,2.5\n2,3.5\n")

    def _rules(source):
        schema = source.find(str(tmp_path), 1000).schema
        assert pickle.loads(pickle.dumps(schema)) == schema
        return schema.rules

    return _rules


def test_rules_are_those_of_a_columns_type():
    schema = with_rules(COLUMNS, {"f": "keep"}, ("", "-1", "NaN"), strip=True)
    strings = ReadRules(("", "-1", "NaN"), strip=True)
    assert schema.rules == {
        "s": strings,
        "b": strings,
        "i": ReadRules(("-1",)),
        "f": ReadRules(("-1",), nonfinite="keep"),
    }
    assert [each.to_json() for each in schema.rules.values()] == [
        {"missing": ["", "-1", "NaN"], "strip": True},
        {"missing": ["", "-1", "NaN"], "strip": True},
        {"missing": ["-1"]},
        {"missing": ["-1"], "nonfinite": "keep"},
    ]


def test_lists_are_read_as_what_they_hold():
    schema = with_rules(pa.schema([("l", pa.list_(pa.float64()))]), "quarantine", ("?", "0"))
    assert schema.rules == {"l": ReadRules(("0",), nonfinite="quarantine")}


def test_a_unions_rules_are_its_tables(rules):
    plain, other = Csv("a.csv"), Csv("a.csv", strip=False)
    assert rules(Union({"one": plain, "two": plain}, tag=None)) == rules(plain)
    united = rules(Union({"one": plain, "two": other}, tag="which"))
    assert united["t"] == RulesByTable({"one": rules(plain)["t"], "two": rules(other)["t"]})
    assert united["t"].to_json()["tables"]["two"] == {"missing": ["", "?", "NA", "NaN", "null"], "strip": False}
    assert united["x"] == rules(plain)["x"]
    assert united["which"] == ReadRules(strip=False)
    nested = rules(Union({"in": Union({"one": plain, "two": other}, tag=None), "out": plain}, tag=None))
    assert nested["t"] == RulesByTable({"in": united["t"], "out": rules(plain)["t"]})


def test_a_column_has_no_rules_where_one_of_its_tables_tells_none(rules):
    assert set(rules(Union({"a": Csv("a.csv"), "b": Untold()}, tag=None))) == {"k", "x"}


def test_a_joins_rules_are_those_of_both_sides(rules):
    left, right = Csv("a.csv", nonfinite="keep"), Csv("b.csv", missing=["9"])
    joined = rules(join(left, right, on="k"))
    assert joined == {**rules(left), "y": ReadRules(("9",), nonfinite="missing")}
    assert joined["k"] == rules(left)["k"] != rules(right)["k"]


def test_sources_that_know_no_missing_values_say_so(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"t": ["a"]}), tmp_path / "t.parquet")
    assert Parquet("t.parquet").find(str(tmp_path), 1000).schema.rules == {"t": ReadRules(strip=False)}
