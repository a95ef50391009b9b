import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline.errors import DatasetError, RequestError
from penstock.pipeline.planning.forgotten import HIDDEN, Forgotten, read_forgotten
from penstock.pipeline.sources.listing import RecordRange

KEYS = ["images/cat 1.jpg", "b.csv:7", "b.csv:12", "d/e\u0301.png"]


def test_keys_are_kept_as_digests_and_found():
    forgotten = Forgotten.of([*KEYS, KEYS[0]])
    content = forgotten.encode()
    assert len(forgotten) == len(content.splitlines()) == len(KEYS)
    assert hashlib.sha256(b"b.csv:7").hexdigest().encode() in content
    assert not any(name in content for name in (b"cat", b"csv", b"jpg"))
    assert Forgotten.decode(content, "uri") == forgotten
    asked = ["images/cat 1.jpg", "images/cat 1.jpeg", "cat 1.jpg", "d/\u00e9.png", "b.csv:7"]
    assert forgotten.find(pa.array(asked)).tolist() == [True, False, False, True, True]
    assert forgotten.rows_of("b.csv").tolist() == [7, 12]
    assert not len(forgotten.rows_of("a.csv"))
    assert Forgotten.of([f"./{key}" for key in KEYS]) == forgotten
    assert Forgotten.of([".hidden/a.jpg"]).find(pa.array(["hidden/a.jpg", ".hidden/a.jpg"])).tolist() == [False, True]
    assert Forgotten.of(KEYS[:2]) | Forgotten.of(KEYS[1:]) == forgotten


def test_only_what_is_forgotten_changes_the_digest():
    assert Forgotten().with_digest("a") == "a"
    assert len({Forgotten.of(keys).with_digest("a") for keys in (["x"], ["y"], ["x", "y"])}) == 3
    assert Forgotten.of(["x", "y"]).with_digest("a") == Forgotten.of(["y", "x"]).with_digest("a")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"\n\r\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "keys.txt").write_bytes(content)
    with pytest.raises(RequestError, match="--forget: expected"):
        Forgotten.read_keys(str(tmp_path / "keys.txt"))
    with pytest.raises(RequestError, match="--forget: expected"):
        Forgotten.read_keys(str(tmp_path / "nothing.txt"))


def test_a_file_of_keys_may_come_from_anywhere(tmp_path: Path):
    (tmp_path / "keys.txt").write_bytes("\ufeffa b.jpg\r\n\r\nb.csv:1\n c".encode())
    assert Forgotten.read_keys(str(tmp_path / "keys.txt")) == Forgotten.of(["a b.jpg", "b.csv:1", " c"])


def test_damage_is_told():
    with pytest.raises(DatasetError, match="expected digests of forgotten keys"):
        Forgotten.decode(b"images/cat.jpg\n", "uri")


def test_ranges_have_the_numbers_of_their_rows():
    known = RecordRange("uri", "b.csv", 0, 10, first_row=0, rows=10, size=10)
    later = replace(known, first_row=10, rows=90)
    nominal = replace(known, first_row=-1, rows=-1, file_begin=0, file_end=100)
    other = replace(known, key="a.csv")
    marked = Forgotten.of(KEYS).mark([known, later, nominal, other])
    assert [np.frombuffer(each.forgotten, np.int64).tolist() for each in marked] == [[7], [12], [7, 12], []]


@pytest.mark.parametrize(
    ("warning", "expected"),
    [
        ("3 rows belong to no image, such as 'cat 1'", f"3 rows belong to no image, such as '{HIDDEN}'"),
        ("2 masks belong to no image: m/cat 1.png, m/dog.png", f"2 masks belong to no image: {HIDDEN}, m/dog.png"),
        ("images/cat 2.jpg is not there", "images/cat 2.jpg is not there"),
    ],
)
def test_names_are_hidden_in_warnings(warning: str, expected: str):
    forgotten = Forgotten.of(KEYS)
    assert forgotten.hide([warning], of_table=False) == [expected]
    assert Forgotten().hide([warning], of_table=False) == [warning]


def test_values_of_tables_are_hidden_in_warnings():
    warning = "the column 'x' holds floats such as '1.5' in b.csv, line 9, and integers such as '2' in b.csv, line 3"
    assert Forgotten.of(KEYS).hide([warning], of_table=True) == ["the column 'x' holds floats"]
    assert Forgotten.of(KEYS).hide([warning], of_table=False) == ["the column 'x' holds floats"]  # of a joined table


def test_a_dataset_forgets_what_any_generation_says(tmp_path: Path):
    for generation, key, committed in (("1" * 16, "a", True), ("2" * 16, "b", True), ("3" * 16, "c", False)):
        (tmp_path / generation / "units").mkdir(parents=True)
        (tmp_path / generation / "units/forgotten.txt").write_bytes(Forgotten.of([key]).encode())
        if committed:
            (tmp_path / generation / "manifest.json").write_text("{}")
    assert read_forgotten(str(tmp_path)) == Forgotten.of(["a", "b"])
    assert read_forgotten(str(tmp_path / "nothing")) == Forgotten()
