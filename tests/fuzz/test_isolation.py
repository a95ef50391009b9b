"""Whether the fuzz suite sees what it is there to see; quick, so not among its own cases."""

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest
from fuzz import checks, isolation
from fuzz.adapters import Table
from fuzz.isolation import Limits, Result
from fuzz.mutations import Damage, case
from fuzz.seeds import FORMATS, seeds

pytestmark = pytest.mark.linux  # memory is measured as Linux counts it

LIMITS = Limits(seconds=2, waiting=6, memory=64 << 20)  # enough on a busy machine


def examine(number: int) -> tuple[str, list[str]]:
    if number == 2:
        os.write(2, b"terminate called\n")
        os.abort()
    if number == 3:
        ctypes.string_at(0)
    if number == 4:
        time.sleep(60)
    if number == 9:
        while True:
            pass
    if number == 5:
        return str(len(bytearray(200 << 20))), []
    if number == 6:
        raise KeyError("id")
    return f"outcome {number}", ["cut: differs"] if number == 7 else []


@pytest.mark.slow
def test_each_fault_is_seen_and_belongs_to_its_case(tmp_path: Path):
    isolation.run(range(1, 10), examine, tmp_path / "results", 0x55, LIMITS)
    results = [Result.from_line(line) for line in (tmp_path / "results").read_text().splitlines()]
    assert [result.number for result in results] == list(range(1, 10))
    wrong = {result.number: result.wrong for result in results if result.wrong}
    assert wrong.keys() == {2, 3, 4, 5, 6, 7, 9}
    assert wrong[2] == ["crash: SIGABRT: terminate called"]
    assert wrong[3][0].startswith("crash: SIGSEGV")
    assert wrong[4] == ["hang: no end within 6 s of waiting"]
    assert wrong[9] == ["hang: no end within 2 s of computing"]
    assert wrong[5][0].startswith("memory: ")
    assert wrong[6][0].startswith("exception: KeyError: 'id' (test_isolation.py, line ")
    assert wrong[7] == ["cut: differs"]
    assert [result.number for result in results if result.outcome] == [1, 5, 7, 8]


def test_a_child_leaves_its_parent_alone(tmp_path: Path):
    isolation.run(range(1), examine, tmp_path / "results", 0xAA, LIMITS)
    assert signal.getitimer(signal.ITIMER_REAL) == signal.getitimer(signal.ITIMER_PROF) == (0, 0)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_case_is_what_its_number_says(format_name: str):
    cases = [case(format_name, number) for number in range(40)]
    assert cases == [case(format_name, number) for number in range(40)]
    assert {each.seed.name for each in cases} == {seed.name for seed in seeds(format_name)}
    assert sum(each.content != each.seed.content for each in cases) > 36
    assert len({each.content for each in cases}) > 36


BEFORE = Table([("a", "int64")], [(0, "a"), (1, "b"), (2, "c"), (3, "d")])


@pytest.mark.parametrize(
    ("rows", "damage", "is_wrong"),
    [
        ([(0, "a"), (1, "b"), (3, "d")], Damage(2, 3, False, False), False),
        ([(0, "a"), (1, "b"), (2, "x"), (3, "d")], Damage(2, 3, False, False), False),
        ([(0, "a"), (1, "b"), (2, "c"), (3, "x")], Damage(2, 3, False, False), True),
        ([(0, "a"), (1, "b"), (2, "d")], Damage(2, 3, False, False), True),
        ([(0, "a"), (1, "b"), (2, "d")], Damage(2, 3, True, False), False),
        ([(0, "a"), (1, "bc"), (2, "d")], Damage(1, 3, True, False), False),
        ([(0, "a"), (1, "bcd")], Damage(1, 3, True, False), True),
        ([(1, "b"), (2, "c"), (3, "d")], Damage(2, 3, True, False), True),
    ],
)
def test_one_damaged_row_costs_no_other(rows: list[tuple[int, str]], damage: Damage, is_wrong: bool):
    assert bool(checks.one_lost(BEFORE, Table(BEFORE.schema, rows), damage)) == is_wrong


def test_a_refused_file_is_wrong_unless_its_framing_was_hit():
    refused = Table(refused="damaged")
    assert checks.one_lost(BEFORE, refused, Damage(1, 2, False, False))
    assert not checks.one_lost(BEFORE, refused, Damage(1, 2, False, True))
    assert checks.one_lost(BEFORE, Table([("a", "string")], BEFORE.rows), Damage(1, 2, False, True))


def test_a_file_that_is_read_otherwise_in_ranges_is_wrong():
    assert not checks.same(BEFORE, BEFORE, 1)
    assert not checks.same(Table(refused="one"), Table(refused="other"), 1)
    for other in (
        Table(refused="damaged"),
        Table(BEFORE.schema, BEFORE.rows[:-1]),
        Table([("b", "int64")], BEFORE.rows),
        Table(BEFORE.schema, BEFORE.rows, [("k:4", "bad")]),
    ):
        assert checks.same(BEFORE, other, 1)
    assert checks.planned(Table(rows=BEFORE.rows, planned=5), 1)
    assert not checks.planned(Table(rows=BEFORE.rows, quarantined=[("k:4", "bad")], planned=5), 1)
