from penstock.pipeline.formats.column_notes import LEFT_OUT, ColumnNote, describe_notes, merge


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


def test_of_many_columns_that_are_not_read_the_most_frequent_are_told():
    notes = {(LEFT_OUT, f"id {number}"): ColumnNote(1, 0, "in a.jsonl, line 1") for number in range(5000)}
    notes[LEFT_OUT, "x"] = ColumnNote(7, 0, "in a.jsonl, line 2")
    warnings = describe_notes(notes)
    assert len(warnings) == 101
    assert "'x' is not read, and 7 rows hold it" in warnings[-2]
    assert "4901 more columns, which fewer rows hold, are not read, such as 'id " in warnings[-1]
