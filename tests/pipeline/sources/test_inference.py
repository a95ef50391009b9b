import pyarrow as pa
import pytest

from penstock.pipeline.sources import inference
from penstock.pipeline.sources.inference import (
    BEYOND,
    EXPONENT,
    FRACTION,
    INTEGER,
    NONFINITE,
    TEXT,
    WHOLE,
    ZEROS,
    Evidence,
    Wheres,
    classify,
    collect,
    has_zeros,
    infer,
)

WRITTEN = {
    TEXT: [
        "",
        "x",
        "1x",
        "0x1A",
        "1.2.3",
        "+5",
        "1,5",
        "-",
        ".",
        "e5",
        "\u0661",
        "12:30",
        "1e",
        "--1",
        "-é",
        "1e400",
        "-1.5e999",
        "1" * 400,
    ],
    INTEGER: ["0", "7", "-7", "-0", "9223372036854775807", "-9223372036854775808"],
    BEYOND: ["9223372036854775808", "-9223372036854775809", "18446744073709551615", "1" * 300],
    ZEROS: ["02134", "-007", "00", "007.5", "01e5"],
    WHOLE: ["3.0", "-3.", "123456789.000"],
    EXPONENT: ["1e5", "12E4", "-1e10"],
    FRACTION: ["1.5", ".5", "1e-5", "1E+15", "1.5e3"],
    NONFINITE: ["nan", "NaN", "inf", "-inf", "Infinity", "-NAN", "+inf"],
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_value_is_of_one_kind_whatever_is_beside_it(kind):
    every = [value for values in WRITTEN.values() for value in values]
    expected = [each for each, values in WRITTEN.items() for _ in values]
    assert classify(pa.array(every)).tolist() == expected
    assert classify(pa.array(every).slice(3)).tolist() == expected[3:]
    for value in WRITTEN[kind]:
        assert classify(pa.array([value])).tolist() == [kind], value


def test_beside_fractions_only_text_and_zeros_matter():
    floats = ["1.5"] * 300
    assert classify(pa.array([*floats, "2", "02", "nan"])).tolist()[300:] == [FRACTION, ZEROS, NONFINITE]
    assert classify(pa.array([*floats, "2x"])).tolist()[300] == TEXT


def test_zeros_of_strings_with_nulls():
    assert (
        has_zeros(pa.array(["01", None, "1", "-01", "0", "", "0.5"])).tolist()
        == [True, False, False, True] + [False] * 3
    )


def seen(*values, uri="t.csv", first_line=2):
    array = pa.array(values, pa.string())
    return collect(array, classify(array), Wheres([(uri, range(first_line, first_line + len(values)))]))


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ((), "null", "no values"),
        (("1", "2"), "int64", "2 integers"),
        (("1", "2.5"), "double", "2 numbers, such as '2.5' in t.csv, line 3"),
        (("1", "02"), "string", "'02' in t.csv, line 3 would lose its zeros as a number"),
        (("1.5", "02"), "string", "'02' in t.csv, line 3 would lose its zeros as a number"),
        (("1", "12e4"), "string", "integers, and '12e4' in t.csv, line 3, which may be an id"),
        (("1", "1e-4"), "double", "2 numbers, such as '1e-4' in t.csv, line 3"),
        (("1e3", "1e4"), "double", "2 numbers, such as '1e3' in t.csv, line 2"),
        (("1.5", "1e4"), "double", "2 numbers, such as '1.5' in t.csv, line 2"),
        (("1", str(2**64)), "string", f"integers beyond int64 such as '{2**64}' in t.csv, line 3"),
        (("1.5", str(2**64)), "double", "2 numbers, such as '1.5' in t.csv, line 2"),
        (("1.0", "2.0"), "double", "2 numbers, such as '1.0' in t.csv, line 2"),
        (("1.", "123456789.0"), "int64", "2 whole numbers, of which float32 would round '123456789.0' in t.csv, line 3"),  # noqa: E501
        (("1.5", "123456789.0"), "double", "2 numbers, such as '1.5' in t.csv, line 2"),
        (("1", "nan"), "double", "2 numbers, such as 'nan' in t.csv, line 3"),
        (("nan", "Inf"), "string", "2 strings, such as 'nan' in t.csv, line 2"),
        (("1", "x"), "string", "1 numbers and 1 other strings such as 'x' in t.csv, line 3"),
    ],
)  # fmt: skip
def test_the_type_loses_nothing_and_says_why(values, kind, reason):
    found = infer("a", seen(*values))
    assert (str(found.type), found.reason) == (kind, reason)


def test_what_most_values_do_not_show_is_warned_of():
    assert infer("a", seen("1", "2", "x")).warning == (
        "the column 'a' holds 2 numbers and 1 other strings such as 'x' in t.csv, line 4: it is read as string; "
        "declare it float64 to quarantine the others, or name 'x' in missing=[...] if it stands for no value"
    )
    assert "beyond int64" in infer("a", seen("1", str(2**63))).warning
    assert "may be an id" in infer("a", seen("1", "1e5")).warning
    for others in (("1.5",), ["1.5"] * 300):
        warning = infer("a", seen(*others, str(2**53 + 1))).warning
        assert "floats such as '1.5' in t.csv, line 2, and integers such as '9007199254740993' in" in warning
    for values in (("1", "x", "y"), ("01", "02"), ("1", "2.5"), ("x",), ("1.5", str(2**54)), (str(2**53 + 1),)):
        assert infer("a", seen(*values)).warning == ""


def test_evidence_is_merged_and_keeps_the_first_cells():
    total = Evidence()
    for part in (seen("1", "2"), seen("3", "x", uri="u.csv"), seen("y", "", uri="v.csv")):
        total.merge(part)
    assert total.counts == {INTEGER: 3, TEXT: 3}
    assert str(total.firsts[TEXT]) == "'x' in u.csv, line 3"
    assert infer("a", total).reason == "3 numbers and 3 other strings such as 'x' in u.csv, line 3"


def test_a_large_block_is_classified_by_columns(monkeypatch):
    looked = []
    inner = inference._kinds_by_pattern
    monkeypatch.setattr(inference, "_kinds_by_pattern", lambda values: looked.append(len(values)) or inner(values))
    classify(pa.array([f"{number}.5" for number in range(10_000)]))
    classify(pa.array([str(number) for number in range(10_000)]))
    assert sum(looked) <= 512
