import pytest

from penstock.pipeline.sources.listing import RecordRange
from penstock.pipeline.sources.sampling import choose_excerpts, together

MIB = 1 << 20


def ranges(files, per_file, size=MIB, suffix="csv"):
    return [
        RecordRange(f"{name}.{suffix}", "", at * size, (at + 1) * size, at * 10, 10, size)
        for name in range(files)
        for at in range(per_file)
    ]


def test_all_is_looked_at_where_that_is_little():
    every = ranges(3, 4)
    assert [each.record_range for each in choose_excerpts(every, 12 * MIB)] == every
    assert not any(each.is_cut for each in choose_excerpts(every, 12 * MIB))


def test_what_is_looked_at_together_has_about_a_size():
    excerpts = choose_excerpts(ranges(3, 5), 20 * MIB)
    groups = together(excerpts, 4 * MIB)
    assert [len(group) for group in groups] == [4, 4, 4, 3]
    assert [each for group in groups for each in group] == excerpts
    assert together([], MIB) == []


def test_small_ranges_that_follow_each_other_are_looked_at_together():
    small = ranges(2, 1000, 1000)
    chosen = [each.record_range for each in choose_excerpts([*small[:700], *small[701:]], 1 << 30)]
    assert [(each.uri, each.begin, each.end, each.rows) for each in chosen] == [
        ("0.csv", 0, 700_000, 7000), ("0.csv", 701_000, 1_000_000, 2990), ("1.csv", 0, 1_000_000, 10_000),
    ]  # fmt: skip
    large = choose_excerpts(ranges(1, 3000, 1000), 1 << 30)
    assert [each.record_range.end for each in large] == [1_048_000, 2_096_000, 3_000_000]


@pytest.mark.parametrize(("files", "per_file"), [(1, 1000), (10, 100), (50, 20)])
def test_parts_from_every_file_and_from_all_over_it_are_looked_at_where_it_is_much(files, per_file):
    limit = 100 * MIB
    chosen = choose_excerpts(ranges(files, per_file), limit)
    assert 0.5 * limit < sum(each.size for each in chosen) <= limit
    assert {each.record_range.uri for each in chosen} == {f"{name}.csv" for name in range(files)}
    assert next(each.record_range.begin for each in chosen if each.record_range.uri == "0.csv") == 0
    places = [int(each.record_range.uri[:-4]) * per_file + each.record_range.begin // MIB for each in chosen]
    assert places == sorted(places)
    assert max(places) > 0.8 * files * per_file


def test_of_many_files_the_beginnings_are_looked_at(monkeypatch):
    monkeypatch.setattr("penstock.pipeline.sources.sampling._HEAD", 100)
    chosen = choose_excerpts(ranges(1000, 1), 200_000)
    assert len(chosen) == 1000
    assert all(each.is_cut and each.size == 100 and each.record_range.rows == -1 for each in chosen)
    assert all(each.record_range.end == 100 for each in chosen)


def test_what_a_compressed_file_holds_is_looked_at_from_its_beginning():
    (few,) = choose_excerpts(ranges(1, 1, 1000, "csv.gz"), 1 << 20)
    assert not few.is_cut
    assert few.size == 32 << 20
    chosen = choose_excerpts(ranges(100, 1, 10_000, "csv.gz"), 1 << 20)
    assert sum(each.size for each in chosen) <= 2 << 20
    assert all(each.record_range.end == 10_000 for each in chosen)
