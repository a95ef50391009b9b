from penstock.pipeline.build.journal import Journal
from penstock.pipeline.commit.column_warnings import describe_notes
from penstock.pipeline.formats.column_notes import COLLAPSED, LEFT_OUT, OVERFLOW, ROUNDED, ColumnNote


def test_the_notes_of_all_units_are_told_by_column():
    journals = [
        Journal(
            0, 10, {}, notes={(ROUNDED, "b"): ColumnNote(0, 5, ""), (LEFT_OUT, "a"): ColumnNote(2, 0, "x, line 7")}
        ),
        Journal(
            1, 10, {}, notes={(ROUNDED, "b"): ColumnNote(3, 5, "1.5 as 2.0"), (LEFT_OUT, "a"): ColumnNote(1, 0, "y")}
        ),
        Journal(2, 10, {}, notes={(OVERFLOW, "c"): ColumnNote(1, 0, "1e+39")}),
    ]
    left_out, rounded, overflow = describe_notes(journals)
    assert left_out.startswith("'a' is not read, and 3 rows hold it, first x, line 7: ")
    assert rounded.startswith("column 'b': 3 of its 10 values are other whole numbers as float32, such as 1.5 as 2.0")
    assert overflow.startswith("column 'c': 1 numbers beyond float32's range became missing values, such as 1e+39")


def test_equal_values_are_told_from_a_tenth_on_and_where_nothing_says_more():
    def told(count, **others):
        notes = {(COLLAPSED, "a"): ColumnNote(count, 100, "1.0 and 1.1"), (ROUNDED, "a"): others.get("rounded")}
        return describe_notes([Journal(0, 1, {}, notes={name: note for name, note in notes.items() if note})])

    assert told(9) == []
    assert told(10)[0].startswith("column 'a': 10 of 100 different values are equal to another one")
    (only,) = told(50, rounded=ColumnNote(1, 100, "1.5 as 2.0"))
    assert "whole numbers" in only
