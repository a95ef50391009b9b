from penstock.pipeline.formats.column_notes import ColumnNote, merge


def test_counts_add_up_and_the_first_example_is_kept():
    first = {("a", "x"): ColumnNote(1, 5, "later", ("b.csv", 7)), ("a", "y"): ColumnNote(0, 5, "")}
    second = {
        ("a", "x"): ColumnNote(2, 5, "first", ("a.csv", 9)),
        ("a", "y"): ColumnNote(1, 5, "one", ("c.csv", 1)),
        ("b", "x"): ColumnNote(1, 0, "other"),
    }
    expected = {
        ("a", "x"): ColumnNote(3, 10, "first", ("a.csv", 9)),
        ("a", "y"): ColumnNote(1, 10, "one", ("c.csv", 1)),
        ("b", "x"): ColumnNote(1, 0, "other"),
    }
    assert merge(first, second) == merge(second, first) == expected
    assert merge({}, first) == merge(first, {}) == first
