import json

import pytest

from penstock.pipeline.build.journal import Journal
from penstock.pipeline.commit.joins import join_warnings
from penstock.pipeline.errors import PenstockError
from penstock.pipeline.formats.column_notes import JOIN, ColumnNote, Notes


def journals(*notes: ColumnNote, rows: int = 4, stride: int = 1) -> list[Journal]:
    which = json.dumps(["k", "id", rows, stride, "0a"])
    units: list[Notes] = [{(JOIN, which): note} for note in notes]
    return [Journal(unit=number, read=0, shards={}, notes=each) for number, each in enumerate(units)]


def test_rows_without_a_partner_are_told_on_each_side():
    left, right = join_warnings(journals(ColumnNote(0, 5, "", seen="1"), ColumnNote(2, 5, "x", seen="3")))
    assert left == "join on 'k' = 'id': 2 of 10 rows of the left side match no row of the joined table, such as 'x'"
    assert right == "join on 'k' = 'id': 2 of 4 rows of the joined table match no row of the left side"


def test_a_join_on_which_all_rows_match_is_no_warning():
    assert join_warnings(journals(ColumnNote(0, 5, "", seen="5"), ColumnNote(0, 5, "", seen="a"))) == []


def test_of_a_large_table_the_rows_are_estimated():
    (right,) = join_warnings(journals(ColumnNote(0, 5, "", seen="3"), rows=30, stride=10))
    assert "about 10 of 30 rows of the joined table" in right


def test_a_join_on_which_no_row_matches_is_an_error():
    with pytest.raises(PenstockError, match=r"expected rows of the left side that match, found none of 8, such as 'x'"):
        join_warnings(journals(ColumnNote(3, 3, "x", seen="0"), ColumnNote(5, 5, "y", seen="0")))
