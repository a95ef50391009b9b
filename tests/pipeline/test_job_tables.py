"""Whole runs on small tables: exactness, splits, order, formats, bad rows, and what is refused before any work."""

import gzip
import hashlib
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_transform as tft
from helpers import Made, contents, request, write

from penstock.pipeline import (
    Csv,
    JsonLines,
    OverBudgetError,
    Recipe,
    RequestError,
    by_column,
    by_glob,
    by_hash,
    by_list,
    join,
)
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.job import plan
from penstock.transforms import columns, numeric
from penstock.transforms.quantiles import Quantiles


def passed(inputs: Any) -> dict[str, Any]:
    """Outputs that need no analyzer."""
    return {"n": inputs["n"]}


def numbers(count: int, begin: int = 0) -> str:
    return "".join(f"{number},word {number % 7}\n" for number in range(begin, begin + count))


TABLE = "n,t\n" + numbers(1000)


# The four univariate sets NumAcc1 to NumAcc4 of NIST's Statistical Reference Datasets, and their certified values.
# https://www.itl.nist.gov/div898/strd/univ/homepage.html
NIST = {
    "NumAcc1": ([10000001, 10000003, 10000002], 10000002, 1.0),
    "NumAcc2": ([1.2] + [1.1, 1.3] * 500, 1.2, 0.1),
    "NumAcc3": ([1000000.2] + [1000000.1, 1000000.3] * 500, 1000000.2, 0.1),
    "NumAcc4": ([10000000.2] + [10000000.1, 10000000.3] * 500, 10000000.2, 0.1),
}


def test_nist(make: Callable[..., Made]):
    """To 8 digits of the mean and 7 of the standard deviation, whose divisor is n - 1 there."""
    lines = [",".join(NIST)]
    for row in range(1001):
        lines.append(",".join(str(values[row]) if row < len(values) else "" for values, _, _ in NIST.values()))

    def features(inputs: Any) -> dict[str, Any]:
        return {name: numeric.standardize(inputs, name, missing="keep") for name in NIST}

    made = make({"a.csv": "\n".join(lines) + "\n"}, features=features, shards=3)
    for name, (values, mean, std) in NIST.items():
        entry = made.statistics[name]
        assert entry["count"] == len(values)
        sample = entry["std"] * math.sqrt(len(values) / (len(values) - 1))
        assert digits(entry["mean"], mean) >= 8, name
        assert digits(sample, std) >= 7, name


def digits(found: float, certified: float) -> float:
    """The log relative error."""
    return 15.0 if found == certified else min(15.0, -math.log10(abs(found - certified) / abs(certified)))


def test_what_was_not_looked_at_is_told_at_the_commit(make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch):
    from penstock.pipeline.planning import plan as plans
    from penstock.pipeline.sources import sampling

    for module, name, size in ((sampling, "LOOKED_AT", 100), (sampling, "_HEAD", 100), (plans, "RANGE_BYTES", 500)):
        monkeypatch.setattr(module, name, size)
    rows = '{"n": 1}\n' * 300 + '{"n": 1.5, "label": 1}\n' * 2 + '{"n": 2, "label": 1}\n' * 20
    made = make({"a.jsonl": rows}, source=JsonLines("a.jsonl"), features=passed, max_quarantined="2")
    assert made.manifest.written == 320
    (warning,) = made.manifest.warnings
    assert warning.startswith("'label' is not read, and 20 rows hold it, first in ")
    assert "a.jsonl, line 303: no row that was looked at while planning has it" in warning
    assert made.manifest.origin.prepare["reasons"]["n"].endswith("a.jsonl, line 1)")


@pytest.fixture(scope="module")
def sizes(make: Callable[..., Made], tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """One job, its ranges and units of different sizes."""
    from penstock.pipeline.planning import plan as plans

    made = []
    with pytest.MonkeyPatch.context() as patch:
        for range_bytes, shards in ((1 << 20, 1), (997, 3), (50, 2)):
            patch.setattr(plans, "RANGE_BYTES", range_bytes)
            made.append(make({"a.csv": TABLE}, features=passed, shards=shards, splits={"train": 0.8, "test": 0.2}))
    return made


def test_every_row_once_whatever_the_size_of_ranges_and_units(sizes: list[Made]):
    for made in sizes:
        assert sorted(made.column("n") + made.column("n", "test")) == list(range(1000))


def test_splits_and_statistics_depend_on_no_size(sizes: list[Made]):
    first, *others = sizes
    assert 150 < len(first.column("n", "test")) < 250
    for made in others:
        assert sorted(made.column("n", "test")) == sorted(first.column("n", "test"))
        assert made.statistics_file == first.statistics_file


def test_rows_keep_their_split_when_others_are_appended(make: Callable[..., Made], sizes: list[Made]):
    longer = make({"a.csv": TABLE + numbers(500, 1000)}, features=passed, splits={"train": 0.8, "test": 0.2})
    assert {number for number in longer.column("n", "test") if number < 1000} == set(sizes[0].column("n", "test"))


def test_the_unit_shuffle_mixes_and_is_the_same_every_time(make: Callable[..., Made], sizes: list[Made]):
    order = sizes[0].column("n")
    assert order != sorted(order)
    ranks = np.argsort(np.argsort(order))
    assert abs(np.corrcoef(ranks, np.arange(len(order)))[0, 1]) < 0.15
    again = make({"a.csv": TABLE}, features=passed, shards=1, splits={"train": 0.8, "test": 0.2})
    assert again.column("n") == order
    other = make({"a.csv": TABLE}, features=passed, shards=1, splits={"train": 0.8, "test": 0.2}, seed=1)
    assert other.column("n") != order
    assert sorted(other.column("n")) == sorted(order)


def test_without_a_shuffle_rows_keep_the_order_of_the_files(make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch):
    from penstock.pipeline.planning import plan as plans

    monkeypatch.setattr(plans, "RANGE_BYTES", 500)
    files = {"a.csv": TABLE, "b.csv": "n,t\n" + numbers(300, 1000)}
    made = make(files, features=passed, shards=3, shuffle=None, compression="gzip")
    assert made.column("n") == list(range(1300))
    assert all(shard.path.endswith(".tfrecord.gz") for shard in made.manifest.splits["train"].shards)
    assert list(verify(str(made.path))) == []


def test_parquet(make: Callable[..., Made]):
    table = "n,t,x,b\n" + "".join(f"{n},w{n % 5},{'' if n % 4 else n / 3},{n}\n" for n in range(500))
    source = Csv("*.csv", columns={"n": "int64", "t": "string", "x": "float64", "b": "binary"})

    def features(inputs: Any) -> dict[str, Any]:
        return {"x": numeric.standardize(inputs, "x"), "n": inputs["n"]}

    made, plain = (
        make({"a.csv": table}, source=source, features=features, shards=2, format=format)
        for format in ("parquet", "tfrecord")
    )
    assert list(verify(str(made.path))) == []
    shards = made.manifest.splits["train"].shards
    assert len(shards) == 2
    read = pa.concat_tables([pq.read_table(made.path / shard.path) for shard in shards]).to_pydict()
    assert sorted(read["n"]) == list(range(500))
    assert sum(value is None for value in read["x"]) == 375
    assert made.records() == plain.records()
    for name, value in plain.apply().items():
        np.testing.assert_array_equal(made.apply()[name], value)
    assert made.statistics_file == plain.statistics_file


BAD = (
    "n,x,t\n"
    "1,0.5,good\n"
    "2,nan,not a number\n"
    "3,1e999,too large\n"
    "4,oops,no number\n"
    "5,1.5\n"
    "6,1.5,too,many\n"
    "99999999999999999999,1.5,too large\n"
    '7,1.5,"quoted\nline"\n'
    "\n"
    "8,?,missing\n"
    "1.5,2,no whole number\n"
)
TYPED = {"n": "int64", "x": "float64", "t": "string"}


def test_bad_rows_are_quarantined_with_file_and_line(make: Callable[..., Made]):
    source = Csv("*.csv", columns=TYPED, nonfinite={"x": "quarantine"})
    content = BAD.encode() + b"9,2.5,\xff\xfe\n" + b'10,2.5,"never closed\n'
    made = make({"a.csv": content}, source=source, features=passed, max_quarantined="90%", shuffle=None)
    found = {entry["message"].partition(": ")[0].rpartition(", ")[2]: entry["code"] for entry in made.quarantine}
    assert found == {
        "line 3": "nonfinite",
        "line 4": "nonfinite",
        "line 5": "wrong_type",
        "line 6": "wrong_columns",
        "line 7": "wrong_columns",
        "line 8": "wrong_type",
        "line 13": "wrong_type",
        "line 14": "encoding",
        "line 15": "unclosed_quote",
    }
    assert made.column("n") == [1, 7, 8]
    assert made.column("t")[1] == b"quoted\nline"
    assert all(entry["uri"].endswith("a.csv") and entry["stage"] == "read" for entry in made.quarantine)
    assert made.manifest.read == 12
    assert list(verify(str(made.path))) == []


def test_over_budget(make: Callable[..., Made], tmp_path: Path):
    source = Csv("*.csv", columns=TYPED)
    output = tmp_path / "dataset"
    with pytest.raises(OverBudgetError, match=r"5 of 10 examples were quarantined .*wrong_type"):
        make({"a.csv": BAD}, output=output, source=source, features=passed, max_quarantined="2")
    assert not (output / "_DATASET.json").exists()
    assert list(output.glob("*/quarantine/*.jsonl"))


def test_columns_without_values_or_with_one_value(make: Callable[..., Made]):
    """A column without values, a constant one, and one that is mostly missing: outputs stay finite where asked to."""
    rows = "".join(f"{'' if row else 5},,3,same\n" for row in range(100))

    def features(inputs: Any) -> dict[str, Any]:
        return {
            "rare": inputs["rare"],  # NaN in nearly all rows
            "z_rare": numeric.standardize(inputs, "rare"),
            "z_none": numeric.standardize(inputs, "none"),
            "z_constant": numeric.standardize(inputs, "constant"),
            "unit": numeric.min_max(inputs, "constant"),
            "bucket": numeric.bucketize(inputs, "constant", 4),
        }

    source = Csv("*.csv", columns={"rare": "float64", "none": "float64", "constant": "int64", "t": "string"})
    made = make({"a.csv": "rare,none,constant,t\n" + rows}, source=source, features=features)
    outputs = made.apply()
    assert np.isfinite(outputs["rare"]).sum() == 1
    for name in ("z_rare", "z_none", "z_constant", "unit"):
        np.testing.assert_array_equal(outputs[name], np.zeros(100, np.float32), err_msg=name)
    assert set(outputs["bucket"].tolist()) == {3}
    entry = made.statistics["none"]
    assert (entry["count"], entry["missing"]) == (0, 100)
    assert "mean" not in entry
    assert made.statistics["constant"]["std"] == 0


def test_boundaries_where_half_of_a_column_is_nearly_equal_do_not_follow_the_units(make: Callable[..., Made]):
    """They need a second look at what is stored: at the commit, or before a later pass of tft's analyzers."""
    generator = np.random.default_rng(3)
    dense = 1 + generator.random(26_000) * 0.01
    values = np.where(generator.random(26_000) < 0.5, dense, generator.lognormal(0, 6, 26_000))
    assert Quantiles.of(values.astype(np.float32), 0.01).look([10])

    def features(inputs: Any) -> dict[str, Any]:
        return {"bucket": numeric.bucketize(inputs, "x", 10)}

    def in_passes(inputs: Any) -> dict[str, Any]:
        bucket = numeric.bucketize(inputs, "x", 10)
        return {"bucket": bucket, "most": bucket + tft.max(bucket + tft.min(bucket))}

    files = {"a.csv": "x\n" + "".join(f"{value!r}\n" for value in values.tolist())}
    buckets = []
    for fields in ({"shards": 5}, {"shards": 3, "shuffle": "global", "features": in_passes}):
        made = make(files, splits={"train": 0.99, "test": 0.01}, **{"features": features, **fields})
        order = np.argsort(made.column("x"), kind="stable")
        buckets.append(made.apply()["bucket"][order])
        assert np.abs(np.bincount(buckets[-1], minlength=10) / len(order) - 0.1).max() < 0.02
        np.testing.assert_array_equal(buckets[-1], buckets[0])


def test_one_row(make: Callable[..., Made]):
    made = make({"a.csv": "n,t\n7,x\n"}, features=lambda inputs: {"z": numeric.standardize(inputs, "n")})
    assert made.apply()["z"].tolist() == [0.0]
    assert made.statistics["n"] == {
        "kind": "number", "count": 1, "missing": 0, "mean": 7.0, "std": 0.0, "min": 7.0, "max": 7.0,
    }  # fmt: skip


def test_splits_by_a_column(make: Callable[..., Made]):
    rows = "".join(f"{n},{['train', 'test', 'other', ''][n % 4]}\n" for n in range(40))
    made = make({"a.csv": "n,t\n" + rows}, features=passed, splits=by_column("t", ["train", "test"]))
    assert sorted(made.column("n")) == list(range(0, 40, 4))
    assert sorted(made.column("n", "test")) == list(range(1, 40, 4))
    assert made.manifest.reasons.filtered == {"in_no_split": 20}


def test_splits_by_a_hash_of_a_column_keep_its_values_together(make: Callable[..., Made]):
    made = make({"a.csv": TABLE}, features=passed, splits=by_hash({"train": 0.5, "test": 0.5}, column="t"))
    apart = set(made.column("t")) & set(made.column("t", "test"))
    assert not apart
    assert len(made.column("n")) + len(made.column("n", "test")) == 1000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"splits": by_column("split", ["train"])},
            r"splits=.*expected one of the columns \['n', 't'\], found 'split'",
        ),
        ({"splits": by_hash({"train": 1.0}, column="who")}, r"splits=.*columns \['n', 't'\], found 'who'"),
        ({"splits": by_hash({"train": 1.0}, group=r"\d")}, r"by_hash\(group=.*column="),
        ({"splits": by_list({"train": "list.txt"})}, r"splits=.*for rows of a table, found ByList"),
        ({"splits": by_glob({"train": "a.csv", "test": "b.csv"})}, r"split 'test'.*b\.csv"),
        ({"shards": {"train": 2}}, r"shards=.*expected one number for rows"),
        ({"statistics": "tran"}, r"statistics=.*expected one of .*train.*found 'tran'"),
        ({"source": Csv("nothing*.csv")}, r"expected record files at .*nothing.*found none"),
        ({"source": Csv("*.csv", columns={"m": "int64"})}, r"expected the columns \['m'\], found \['n', 't'\]"),
        ({"prepare": [lambda example: {"made": object()}]}, r"'made'"),
        ({"prepare": [lambda example: {}]}, r"expected a dict of columns by their names, found \{\}; fix `prepare`$"),
        ({"prepare": [columns.drop("m")]}, r"columns.drop\('m'\): .*, found 'm'; fix the recipe$"),
        ({"prepare": [columns.where(lambda batch: None, "no")]}, r"expected a predicate .*'None'; fix the recipe$"),
        ({"prepare": [lambda example: {"m": None}]}, r"column 'm': expected .* found null"),
        ({"prepare": [lambda example: 1 / 0]}, r"no row .* could be prepared; the first problem: .*ZeroDivisionError"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(fields: dict[str, Any], message: str, tmp_path: Path):
    write(tmp_path, {"raw/a.csv": "n,t\n" + numbers(50), "raw/list.txt": "a.csv\n"})

    def run() -> None:
        recipe = Recipe(**{"source": Csv("*.csv"), **fields})
        plan(request(recipe, tmp_path / "raw", tmp_path / "dataset"))

    with pytest.raises(RequestError, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda inputs: {"x": inputs["missing"]}, r"features=.*KeyError: 'missing'"),
        (lambda inputs: {"x": numeric.standardize(inputs, "m")}, r"features=.*expected .*\['n', 't'\], found 'm'"),
        (lambda inputs: {"x": numeric.standardize(inputs, "t")}, r"features=.*column of numbers, found 't'"),
        (lambda inputs: None, r"features=.*dict of tensors"),
    ],
)
def test_features_on_wrong_columns_are_told_before_any_work(
    features: Callable[[Any], Any], message: str, make: Callable[..., Made], tmp_path: Path
):
    with pytest.raises(RequestError, match=message):
        make({"a.csv": TABLE}, output=tmp_path / "dataset", features=features)
    assert not (tmp_path / "dataset" / "_DATASET.json").exists()


def test_a_second_run_finds_nothing_to_do(tmp_path: Path):
    from helpers import run_job

    write(tmp_path, {"raw/a.csv": TABLE})
    recipe = Recipe(source=Csv("*.csv"), features=passed)
    first = run_job(recipe, tmp_path / "raw", tmp_path / "dataset", "a" * 64)
    before = contents(tmp_path / "dataset")
    second = run_job(recipe, tmp_path / "raw", tmp_path / "dataset", "a" * 64)
    assert (first.status, second.status) == ("committed", "up_to_date")
    assert contents(tmp_path / "dataset") == before


def test_the_label_column_of_any_type(make: Callable[..., Made]):
    """Labels are counted; a target of reals is a column of numbers like any other."""
    rows = "".join(f"{n},{n / 7}\n" for n in range(300))
    made = make({"a.csv": "n,label\n" + rows}, features=passed)
    assert made.statistics["label"]["kind"] == "number"
    assert made.statistics["label"]["mean"] == pytest.approx(np.mean([n / 7 for n in range(300)]))
    text = make({"a.csv": "n,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(10))}, features=passed)
    assert text.statistics["label"]["counts"] == {"a": 5, "b": 5}


def test_rows_are_unique_in_all_shards(sizes: list[Made]):
    counts = Counter(
        hashlib.sha256(record).hexdigest() for split in ("train", "test") for record in sizes[1].records(split)
    )
    assert set(counts.values()) == {1}


def test_columns_that_only_some_ranges_have(make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch):
    """The plan looks at several ranges where examples make the columns; Parquet shards have one schema."""
    from penstock.pipeline.planning import plan as plans

    monkeypatch.setattr(plans, "RANGE_BYTES", 2000)

    def step(example: dict[str, Any]) -> dict[str, Any]:
        n = example["n"]
        late = {"late": n, "half": n / 2} if n > 700 else {"half": n}
        return example | late | {"b": b"\xff" if n < 500 else None}

    for format in ("tfrecord", "parquet"):
        made = make({"a.csv": TABLE}, prepare=[step], features=passed, format=format, shuffle=None)
        assert made.manifest.quarantined == 0
        assert made.column("late") == [None if n <= 700 else n for n in range(1000)]
        assert made.column("half") == [n if n <= 700 else n / 2 for n in range(1000)]
        assert made.column("b") == [b"\xff" if n < 500 else None for n in range(1000)]


def test_as_many_shards_as_were_asked_for(make: Callable[..., Made]):
    made = make({"a.csv": "n\n" + "".join(f"{n}\n" for n in range(1000))}, shards=4)
    shards = [shard.examples for shard in made.manifest.splits["train"].shards]
    assert len(shards) == 4
    assert min(shards) > 100
    assert sorted(made.column("n")) == list(range(1000))


def test_a_file_that_cannot_be_cut_is_told_of(make: Callable[..., Made]):
    content = gzip.compress(b"n\n" + b"".join(b"%d\n" % n for n in range(1000)))
    made = make({"a.csv.gz": content}, source=Csv("*.gz"), shards=4)
    assert len(made.manifest.splits["train"].shards) == 1
    assert "expected enough rows for 4 shards, found 1 parts that can be read alone" in made.manifest.warnings[0]


def test_equal_rows_in_two_splits_are_told_and_can_be_left_out_or_kept_together(make: Callable[..., Made]):
    """As in logs, where most of the rows of a test split may stand in the one that is trained on."""
    content = "n,t\n" + "".join(f"{number % 50},word {number % 50}\n" for number in range(300))
    splits = {"train": 0.5, "test": 0.5}
    leaking = make({"a.csv": content}, features=passed, splits=splits, shards=2)
    duplicates = leaking.manifest.duplicates
    keys = {name: set(leaking.column("n", name)) for name in splits}
    shared = keys["train"] & keys["test"]
    assert duplicates.groups == 50
    assert duplicates.across_splits == len(shared) > 40
    assert duplicates.shared == {
        name: sum(value in shared for value in leaking.column("n", name)) for name in sorted(splits, reverse=True)
    }
    (warning,) = [warning for warning in leaking.manifest.warnings if "equal examples of another split" in warning]
    assert "a.csv:" in warning

    once = make({"a.csv": content}, features=passed, splits=splits, shards=2, deduplicate=True)
    assert sorted(once.column("n") + once.column("n", "test")) == list(range(50))
    assert once.manifest.reasons.filtered == {"duplicate": 250}
    assert once.manifest.duplicates.groups == 0

    together = make({"a.csv": content}, features=passed, splits=by_hash(splits, column="*"), shards=2)
    assert together.manifest.written == 300
    assert (together.manifest.duplicates.groups, together.manifest.duplicates.across_splits) == (50, 0)


def test_a_join_says_how_many_rows_found_no_partner(make: Callable[..., Made]):
    files = {"l.csv": "k,n\n" + "".join(f"{n},{n}\n" for n in range(200)), "r.csv": "k,y\n5,a\n7,b\n900,c\n"}
    made = make(files, source=join(Csv("l.csv"), Csv("r.csv"), on="k"), shards=3, features=passed)
    left, right = (warning for warning in made.manifest.warnings if warning.startswith("join"))
    assert left.startswith("join on 'k': 198 of 200 rows of the left side match no row of the joined table, such as '")
    assert right == "join on 'k': 1 of 3 rows of the joined table match no row of the left side"
