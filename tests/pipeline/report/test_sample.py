"""Which examples are looked at."""

from penstock.pipeline.report.sample import choose


def test_a_sample_is_in_proportion_and_from_all_over():
    chosen = choose({"train": 1_000_000, "test": 100_000}, 110)
    assert len(chosen["train"]) == 100
    assert len(chosen["test"]) == 12  # a small split gets a few more
    assert chosen["train"] == sorted(set(chosen["train"]))
    assert chosen["train"][-1] > 900_000


def test_of_a_small_split_all_are_taken_and_of_an_empty_one_none():
    assert choose({"train": 5, "test": 0}, 100) == {"train": [0, 1, 2, 3, 4], "test": []}


def test_no_number_is_beyond_the_split():
    for size in (1, 15, 16, 17, 100, 101):
        assert all(number < size for number in choose({"a": size}, 64)["a"])
        assert len(set(choose({"a": size}, 64)["a"])) == min(size, 64)
