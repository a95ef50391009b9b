import pytest

from penstock.pipeline.formats import paths
from penstock.pipeline.formats.paths import ShardName


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (ShardName("train", 0, 12), "train-00000-of-00012.tfrecord"),
        (ShardName("test_2.b", 11, 12, gzip=True), "test_2.b-00011-of-00012.tfrecord.gz"),
        (ShardName("train", 123456, 200000), "train-123456-of-200000.tfrecord"),
    ],
)
def test_shard_names_read_back_what_they_say(name: ShardName, text: str):
    assert str(name) == text
    assert ShardName.parse(text) == name
    assert ShardName.parse(f"0123456789abcdef/{name.path}") == name
    assert name.path == f"data/{text}"
    assert name.index_path == f"index/{text.partition('.tfrecord')[0]}.u64"


@pytest.mark.parametrize(
    "text",
    [
        "train-0-of-1.tfrecord",
        "train-00000-of-00001.tfrecord.gz2",
        "train-00000-of-00001",
        "-00000-of-00001.tfrecord",
        "my-train-00000-of-00001.tfrecord",
        "train-00000-of-00001.tfrecord.0123456789abcdef0123456789abcdef.tmp",
    ],
)
def test_other_names_are_no_shards(text: str):
    with pytest.raises(ValueError, match="expected a shard's name"):
        ShardName.parse(text)


def test_shards_sort_by_their_numbers():
    names = [ShardName("train", 100000, 200000), ShardName("test", 2, 3), ShardName("train", 99999, 200000)]
    assert sorted(names) == [names[1], names[2], names[0]]


@pytest.mark.parametrize("name", ["train", "2024", "a_b.c", "Train"])
def test_split_names(name: str):
    assert paths.is_split_name(name)


@pytest.mark.parametrize("name", ["", "a-b", "a/b", "../x", ".hidden", "_x", "a b", "é", "a\n"])
def test_what_cannot_name_a_split(name: str):
    assert not paths.is_split_name(name)


def test_generation_ids():
    assert paths.is_generation("0123456789abcdef")
    for other in ("0123456789abcdeg", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "../456789abcdef"):
        assert not paths.is_generation(other)


def test_units_have_files_of_their_own():
    units = (0, 7, 100000)
    makers = (paths.unit_quarantine, paths.unit_journal, paths.unit_hashes, paths.unit_summaries)
    assert len({make(unit) for make in makers for unit in units}) == len(makers) * len(units)
    for unit in units:
        assert [paths.unit_of_journal(make(unit)) for make in makers] == [None, unit, None, None]
