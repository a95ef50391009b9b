import pyarrow as pa

from penstock.pipeline.sources.inference import Cell
from penstock.pipeline.sources.typed_evidence import BEYOND, MIXED, NESTED, TypedEvidence, infer_typed, merge_evidence


def evidence(**kinds):
    seen = TypedEvidence()
    types = {"i": pa.int64(), "f": pa.float64(), "s": pa.string(), "l": pa.list_(pa.int64()), "n": pa.null()}
    for place, (name, count) in enumerate(kinds.items()):
        seen.add(types.get(name, name), count, None if name == "n" else Cell(name, f"line {place + 1}"))
    return seen


def test_the_type_holds_all_and_says_what_was_seen():
    assert infer_typed("a", evidence(i=3, n=2)).type == pa.int64()
    assert infer_typed("a", evidence(i=3)).reason == "3 integers ('i' in line 1)"
    both = infer_typed("a", evidence(i=3, f=1))
    assert (both.type, both.reason, both.warning) == (
        pa.float64(),
        "3 integers ('i' in line 1) and 1 floats ('f' in line 2)",
        "",
    )
    mixed = infer_typed("a", evidence(i=3, s=1))
    assert mixed.type == pa.string()
    assert mixed.warning == "'a' holds 3 integers ('i' in line 1) and 1 strings ('s' in line 2): it is read as string"
    lists = evidence(i=3, l=1)
    assert infer_typed("a", lists).type == pa.list_(pa.int64())
    assert infer_typed("a", lists).warning.endswith(
        "1 lists of integers ('l' in line 2): it is read as list<item: int64>"
    )
    assert infer_typed("a", lists, lists_vary=True).warning == ""
    assert infer_typed("a", evidence(n=3)).reason == "no values"
    assert pa.types.is_null(infer_typed("a", evidence(n=3)).type)


def test_integers_beyond_int64_lose_no_digit_unless_there_are_floats():
    alone = infer_typed("a", evidence(i=1, **{BEYOND: 2}))
    assert alone.type == pa.string()
    assert "'a' holds integers beyond int64 such as" in alone.warning
    assert infer_typed("a", evidence(f=1, **{BEYOND: 2})).type == pa.float64()
    assert infer_typed("a", evidence(s=1, **{BEYOND: 2})).type == pa.string()


def test_integers_that_floats_round_are_warned_of():
    seen = evidence(i=1, f=1)
    seen.inexact = Cell(2**53 + 1, "line 1")
    assert infer_typed("a", seen).warning.endswith(
        "float64 rounds integers such as 9007199254740993 in line 1: declare it string to keep their digits"
    )
    alone = evidence(i=1)
    alone.inexact = seen.inexact
    assert infer_typed("a", alone).warning == ""
    assert "float64 rounds integers" in infer_typed("a", evidence(f=1, **{BEYOND: 1})).warning


def test_parts_are_merged_in_order():
    first, second = evidence(i=1), evidence(i=2, s=1)
    merged = merge_evidence([{"a": first}, {"b": evidence(**{NESTED: 1, MIXED: 2}, i=5), "a": second}])
    assert list(merged) == ["a", "b"]
    assert merged["a"].counts == {pa.int64(): 3, pa.string(): 1}
    assert str(merged["a"].firsts[pa.string()]) == "'s' in line 2"
    assert merged["b"].odd == {NESTED: 1, MIXED: 2}
    assert merged["b"].proper == 5
