from penstock.pipeline.formats.class_order import ordered


def test_numbers_come_first_and_as_numbers() -> None:
    names = ["b", "10", "2", "-3", "2.5", "a10", "a2", "nan", "inf", "1_0", "", "02"]
    assert list(ordered(dict.fromkeys(names))) == [
        "-3",
        "02",
        "2",
        "2.5",
        "10",
        "",
        "1_0",
        "a10",
        "a2",
        "b",
        "inf",
        "nan",
    ]
    assert ordered({"10": 1, "9": 2}) == {"9": 2, "10": 1}
