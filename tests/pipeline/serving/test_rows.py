"""Raw rows through the serving export: reading and the steps of `prepare` give what training got, to the bit."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers import draw, run_job

from penstock.pipeline import Csv, Images, JsonLines, Parquet, Recipe, Sql, TfRecord, Union, join, open_dataset
from penstock.pipeline.planning.step_configs import describe_step
from penstock.pipeline.serving import rows
from penstock.transforms import columns, text, touches

NAN = float("nan")
NONE = np.iinfo(np.int64).min


def as_they_are(inputs: Any) -> dict[str, Any]:
    """Every column, and whether it is missing."""
    import tensorflow as tf

    missing = {f"no {name}": tf.cast(values, tf.int64) for name, values in inputs.missing.items()}
    return {name: tf.identity(values) for name, values in inputs.items()} | missing


def write(folder: Path, **tables: Any) -> Path:
    """Writes `a="..."` as a.csv, and `a={name: values}` as a.parquet."""
    folder.mkdir(exist_ok=True)
    for name, content in tables.items():
        if isinstance(content, str):
            (folder / f"{name}.csv").write_text(content, newline="")
        else:
            pq.write_table(pa.table(content), folder / f"{name}.parquet")
    return folder


def export(raw: Path, source: Any, *steps: Any, features: Any = as_they_are) -> tuple[Any, Any]:
    recipe = Recipe(source=source, prepare=list(steps), features=features, shuffle=None, splits={"train": 1})
    run_job(recipe, raw, raw.parent / "dataset", max_quarantined="90%")
    dataset = open_dataset(str(raw.parent / "dataset"))
    return dataset, dataset.export(str(raw.parent / "served"))


def served(model: Any, signature: str = "serving_default", **given: Any) -> dict[str, np.ndarray]:
    import tensorflow as tf

    loaded = tf.saved_model.load(model.path)
    return {name: values.numpy() for name, values in loaded.signatures[signature](**given).items()}


def check(dataset: Any, model: Any, **given: Any) -> dict[str, np.ndarray]:
    """Compares what is served for raw rows with what training got of the same; gives the latter."""
    assert model.not_included == ()
    actual, expected = served(model, **given), next(iter(dataset.numpy("train", 100)))
    assert actual.pop("valid").all()
    assert set(actual) == set(expected)
    for name, values in actual.items():
        assert values.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(values, expected[name], name)
    return dict(expected)


def test_blanks_and_what_is_missing_are_those_of_reading(tmp_path: Path) -> None:
    strings = [" Ulm\t", "Ulm\n", "\u00a0Ulm", " - ", "-999", "?", "x\r\v"]
    floats, integers = [-999.0, 2.5, 1e-3, 1e39, -3.5, 0.1, 7.0], [-999, 7, 5, 2**53 + 1, 0, 1, 2]
    table = "".join(f'"{text}",{real},{whole}\n' for text, real, whole in zip(strings, floats, integers, strict=True))
    raw = write(tmp_path / "raw", a="t,x,n\n" + table.replace("-999.0", "-999"))
    model = export(raw, Csv("a.csv", missing=["", " - ", "-999", "2", "1e39"]))
    training = check(*model, t=strings, x=floats, n=integers)
    assert training["no n"].tolist() == [1, 0, 0, 0, 0, 0, 1]
    assert training["no x"].tolist() == [1, 0, 0, 1, 0, 0, 0]
    assert training["no t"].tolist() == [0, 0, 0, 1, 1, 0, 0]


def test_blanks_and_infinities_may_count(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a="t,x\n Ulm ,inf\n,-1e39\n?,1e-300\n")
    model = export(raw, Csv("a.csv", missing=["?"], strip=False, nonfinite={"x": "keep"}))
    training = check(*model, t=[" Ulm ", "", "?"], x=[np.inf, -1e39, 1e-300])
    assert training["x"].tolist() == [np.inf, -np.inf, 0]


def test_the_smallest_floats(tmp_path: Path) -> None:
    import tensorflow as tf

    floats = [1e-40, -1e-45, 2.0**-150, 2.0**-150 + 1e-60, -0.0, 1e-38, 2.0**-126, 2.0**-126 - 2.0**-151, -3e-39]
    raw = write(tmp_path / "raw", a={"x": floats, "y": floats})
    dataset, model = export(raw, Parquet("a.parquet"), columns.cast({"y": "float32"}), columns.cast({"y": "float64"}))
    training = check(dataset, model, x=floats, y=floats)
    assert 0 < np.count_nonzero(training["x"]) < len(floats)
    stored = [tf.train.Feature(float_list=tf.train.FloatList(value=[real])) for real in floats]
    examples = [tf.train.Example(features=tf.train.Features(feature={"x": each, "y": each})) for each in stored]
    actual = served(model, "examples", examples=[example.SerializeToString() for example in examples])
    for name in ("x", "y"):
        assert actual[name].tobytes() == np.asarray(floats, np.float32).tobytes() == training[name].tobytes()


def test_filling_with_any_kind_of_value(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a="t,b,s,n,m,x,y,z\n,,,,,,,\na,b,c,1,2,0.25,0.5,1\n")
    kinds = {"b": "binary", "t": "string", "*": "auto"}
    filling = {
        "t": b"none",
        "b": b"\xff'\0",
        "s": np.str_("größe"),
        "n": 2.0,
        "m": np.int64(5),
        "x": np.float32(1.1),
        "y": pa.scalar(3, pa.float32()),
        "z": NAN,
    }
    steps = [columns.cast({"y": "float32", "z": "float64"}), columns.fill(filling)]
    model = export(raw, Csv("a.csv", columns=kinds), *steps)
    given = {"t": ["", "a"], "b": [b"", b"b"], "s": [b"", b"c"], "n": [NONE, 1], "m": [NONE, 2]}
    training = check(*model, **given, x=[NAN, 0.25], y=[NAN, 0.5], z=[NONE, 1])
    assert (training["t"][0], training["b"][0]) == (b"none", b"\xff'\0")
    actual = served(model[1], "examples", examples=[b""])
    assert actual.pop("valid").all()
    for name, values in actual.items():
        np.testing.assert_array_equal(values, training[name][:1], name)


def test_casts_are_those_of_training(tmp_path: Path) -> None:

    integers, floats = [16777216, 0, NONE, 3], [123456789.0, -(2.0**31), NAN, 7.0]
    raw = write(tmp_path / "raw", a={
        "n": pa.array([None if value == NONE else value for value in integers]),
        "x": pa.array(floats, from_pandas=True),
        "y": pa.array([0.1, 1e39, None, 0.0]),
        "z": pa.array([0.1, 0.0, None, -0.0]),
        "u": pa.array([16777217.0, 2.0, None, 4.0]),
    })  # fmt: skip
    steps = [
        columns.rename({"x": "whole"}),
        columns.cast({"n": "float32", "whole": "int64", "y": "float32", "z": "bool", "u": pa.float32()}),
        columns.cast({"whole": "int32", "u": "int64", "n": "int64"}),
        columns.fill({"whole": 123456789, "z": True}),
    ]
    dataset, model = export(raw, Parquet("a.parquet", nonfinite={"y": "keep", "z": "missing"}), *steps)
    given = {"n": integers, "x": floats, "y": [0.1, 1e39, NAN, 0.0], "z": [0.1, 0.0, NAN, -0.0]}
    given["u"] = [16777217.0, 2.0, NAN, 4.0]
    training = check(dataset, model, **given)
    assert training["whole"].tolist() == [123456789, -(2**31), 123456789, 7]
    assert training["u"].tolist()[:2] == [16777216, 2]
    for name, value in {"x": 1.5, "n": 2**24 + 1}.items():  # what a run sets aside
        _only_valid(served(model, **{**given, name: [value, *given[name][1:]]}), training, [False, True, True, True])


def _only_valid(actual: dict[str, np.ndarray], training: dict[str, np.ndarray], valid: list[bool]) -> None:
    """Asserts that some rows are not valid, and zero, and that the others are as in training."""
    assert actual.pop("valid").tolist() == valid
    for name, values in actual.items():
        nothing = np.where(valid, training[name], np.zeros_like(values))
        np.testing.assert_array_equal(
            values, nothing if values.dtype != object else np.where(valid, training[name], b"")
        )


def test_a_row_that_a_run_quarantines_is_not_valid(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a="x,y\n1.5,1\n,2\ninf,3\n")
    dataset, model = export(raw, Csv("a.csv", nonfinite="quarantine"))
    training = check(dataset, model, x=[1.5, NAN], y=[1, 2])
    assert len(training["x"]) == 2
    _only_valid(served(model, x=[1.5, np.inf], y=[1, 2]), training, [True, False])


def test_any_of_several_casts_may_make_a_row_not_valid(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a="x,y\n1,1\n2,2\n")
    model = export(
        raw,
        Csv("a.csv", columns={"x": "float64", "*": "auto"}),
        columns.cast({"x": "int64"}),
        columns.cast({"x": "int32"}),
    )
    assert served(model[1], x=[1.0, 2.5, 2.0**40], y=[1, 2, 3])["valid"].tolist() == [True, False, False]


def test_each_column_is_read_as_in_its_own_table(tmp_path: Path) -> None:
    raw = write(
        tmp_path / "raw",
        a="id,town,x\n1, Ulm ,inf\n2,?,2\n",
        b="id,z,w\n1,NA,-1\n2, q,inf\n",
        c="id,town,x\n3,NA,inf\n",
    )
    # a column of "inf" alone is one of words
    first = Csv("a.csv", nonfinite="keep")
    second = Csv("b.csv", missing=["", "-1"], strip=False, columns={"w": "float64", "*": "auto"})
    third = Csv("c.csv", columns={"x": "float64", "*": "auto"}, nonfinite={"x": "keep"})
    model = export(raw, join(Union({"one": first, "two": third}), second, on="id"))
    given = {"id": [1, 2, 3], "town": [" Ulm ", "?", "NA"], "x": [np.inf, 2.0, np.inf], "source": ["one", "one", "two"]}
    training = check(*model, **given, z=["NA", " q", ""], w=[-1.0, np.inf, NAN])
    assert training["town"].tolist() == [b"Ulm", b"", b""]
    assert training["z"].tolist() == [b"NA", b" q", b""]


def test_columns_joined_to_photos_are_read_as_in_training(tmp_path: Path) -> None:
    raw = draw(tmp_path / "raw", 4)
    table = "name,town,x,n\ncat_001, Ulm ,inf,-1\ncat_002,?,2.5,5\n"
    write(raw, b=table)
    source = join(Images("images/cat*.png"), Csv("b.csv", missing=["", "?", "-1"]), on="name", how="inner")

    def features(inputs: Any) -> dict[str, Any]:
        return {name: values for name, values in as_they_are(inputs).items() if name != "key"}

    model = export(raw, source, features=features)
    payloads = [(raw / f"images/cat_00{number}.png").read_bytes() for number in (1, 2)]
    training = check(*model, image=payloads, town=[" Ulm ", "?"], x=[np.inf, 2.5], n=[-1, 5])
    assert training["town"].tolist() == [b"Ulm", b""]


def test_every_source_tells_how_it_reads(tmp_path: Path) -> None:
    import tensorflow as tf

    raw = write(tmp_path / "raw", c="t,x,n\na,0.5,1\n", p={"t": ["a"], "x": [0.5], "n": [1]})
    (raw / "j.jsonl").write_text('{"t": "a", "x": 0.5, "n": 1}\n')
    with contextlib.closing(sqlite3.connect(raw / "s.db")) as database:
        database.execute("CREATE TABLE s (t TEXT, x REAL, n INTEGER)")
        database.execute("INSERT INTO s VALUES ('a', 0.5, 1)")
        database.commit()
    example = tf.train.Example()
    example.features.feature["t"].bytes_list.value.append(b"a")
    example.features.feature["x"].float_list.value.append(0.5)
    example.features.feature["n"].int64_list.value.append(1)
    with tf.io.TFRecordWriter(str(raw / "r.tfrecord")) as writer:
        writer.write(example.SerializeToString())
    keep: Any = {"nonfinite": {"x": "keep"}}
    sources = [
        *(Csv("c.csv", missing=["", " ? "], **keep), Parquet("p.parquet", **keep), JsonLines("j.jsonl", **keep)),
        *(Sql("sqlite:///s.db", table="s", **keep), TfRecord("r.tfrecord", **keep)),
    ]
    for source in [*sources, Union({"in": Union({"one": sources[0]}, tag=None)}, tag=None)]:
        rules = source.find(str(raw), 1 << 20).schema.rules
        is_text = isinstance(source, Csv | Union)
        of_text = {"missing": ["", "?"] if is_text else [], "strip": is_text}
        told = {name: each.to_json() for name, each in rules.items()}
        assert told == {"t": of_text, "x": {"missing": [], "nonfinite": "keep"}, "n": {"missing": []}}, source


def entry(kinds: dict[str, str], *steps: Any, **reading: Any) -> dict[str, Any]:
    rules = {"missing": [""], "strip": True, "nonfinite": "missing"} | reading
    described = [describe_step(step) for step in steps]
    return json.loads(
        json.dumps({"columns": kinds, "reading": dict.fromkeys(kinds, rules), "steps": described}, allow_nan=False)
    )


def test_what_cannot_be_told_is_an_obstacle() -> None:
    kinds = {"t": "string", "x": "double"}
    assert rows.obstacles(entry(kinds, columns.fill({"t": b"a", "x": 1}))) == []
    step = columns.fill({"s": "a"})
    (actual,) = rows.obstacles(entry(kinds, columns.rename({"t": "s"}), step, missing=["?"]))
    assert "columns.fill({'s': 'a'})" in actual
    assert "empty text" in actual
    kept = entry(kinds, columns.fill({"x": 1.0}), columns.cast({"x": "bool"}), nonfinite="keep")
    assert ["NaN" in actual for actual in rows.obstacles(kept)] == [True, True]
    assert rows.obstacles(entry(kinds, columns.cast({"x": "int64"}), columns.fill({"x": 1}), nonfinite="keep")) == []
    (actual,) = rows.obstacles(entry(kinds, columns.rename({"t": "s"}), columns.cast({"s": "int64"})))
    assert "only numbers to numbers" in actual
    unknown = entry(kinds, columns.fill({"t": object()}))
    assert unknown["steps"][0]["arguments"]["values"] == {"t": {"python": "builtins.object"}}
    assert len(rows.obstacles(unknown)) == 1
    (actual,) = rows.obstacles({**entry(kinds), "reading": {}})
    assert "the reading of 't', 'x'" in actual
    assert rows.obstacles(entry({"t": "string", "l": "list<item: int64>"}), {"t"}) == []


def test_tables_that_are_read_differently_are_an_obstacle(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a="t,x\n Ulm ,1\n", b="t,x\n Ulm ,1\n")
    _, model = export(raw, Union({"a": Csv("a.csv"), "b": Csv("b.csv", strip=False)}))
    assert model.not_included == ("'t', which the tables of a Union read differently",)


def test_steps_that_touch_nothing_needed_do_not_matter() -> None:
    @touches("t", "made")
    def of_text(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "t": "", "made": 1}

    steps = [of_text, text.limit("t", 3), columns.rename({"x": "y"})]
    prepare = entry({"t": "string", "x": "double"}, *steps)
    assert rows.obstacles(prepare, {"x"}) == []
    assert len(rows.obstacles(prepare, {"t"})) == 2
    assert len(rows.obstacles(prepare, {"x", "made"})) == 1
    assert len(rows.obstacles(prepare)) == 2
    import tensorflow as tf

    served, valid = rows.pipeline(prepare)({"x": tf.constant([1.5], tf.float64)})
    assert (served["y"].numpy().tolist(), bool(valid)) == ([1.5], True)
