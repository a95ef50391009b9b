"""What a finished unit leaves, and how it is found again: by one listing."""

import itertools
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from stored_datasets import manifest_content

from penstock.pipeline import DatasetError
from penstock.pipeline.build.journal import FinishedUnits, Journal, encode_hashes, hash_words, read_hashes, read_kept
from penstock.pipeline.build.shards import store
from penstock.pipeline.formats.manifest import Manifest, Shard, StoredFile, UnitsEntry, stored_file
from penstock.pipeline.storage import files, stores

_NUMBERS = itertools.count()


@pytest.fixture(params=["local", "store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "g") if request.param == "local" else f"memory://journal-{next(_NUMBERS)}/d/g"


def finish(root: str, unit: int) -> Journal:
    shard = Shard(store(root, f"data/{unit}", 3, b"shard"), store(root, f"index/{unit}", 3, b"index"))
    journal = Journal(unit=unit, read=3, shards={"train": shard}, quarantined={"bad": unit})
    journal.write(root)
    return journal


def test_finished_units_are_found_with_their_journals(root: str):
    journals = [finish(root, unit) for unit in (0, 2, 7)]
    store(root, "_work/units/00001.arrow", 0, b"of a unit without a journal")
    units = FinishedUnits(root)
    assert units.numbers() == [0, 2, 7]
    assert [units.has_journal(unit) for unit in range(4)] == [True, False, True, False]
    assert units.read(range(8)) == {journal.unit: journal for journal in journals}
    assert units.read([1, 2]) == {2: journals[1]}


def test_a_unit_whose_files_are_damaged_is_not_finished(root: str):
    for unit in range(4):
        finish(root, unit)
    files.remove(files.join(root, "data/0"))
    files.write_bytes(files.join(root, "index/1"), b"inde")
    files.write_bytes(files.join(root, "_work/units/00002.json"), b"{")
    units = FinishedUnits(root)
    assert units.read(range(4)).keys() == {3}
    assert [Journal.read_finished(root, unit) is not None for unit in range(4)] == [False, False, False, True]


def test_what_is_not_there_costs_one_request(root: str):
    before = stores.COUNTS.snapshot()
    units = FinishedUnits(root)
    assert units.read(range(1000)) == {}
    assert units.numbers() == []
    assert not units.has_file("quarantine/unit-00000.jsonl")
    after = stores.COUNTS.snapshot()
    made = {kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)}
    assert made == ({"list": 1} if root.startswith("memory") else {})


def test_hashes_are_read_back(root: str):
    batch = pa.record_batch({"content_hash": [b"a" * 32], "key": ["k"], "label": ["l"]})
    content = encode_hashes([("train", batch), ("test", batch)])
    journal = Journal(unit=0, read=2, shards={}, hashes=store(root, "_work/units/00000.arrow", 0, content))
    assert read_hashes(root, journal)["split"].to_pylist() == ["test", "train"]  # by split
    assert len(read_hashes(root, Journal(unit=1, read=0, shards={}))) == 0


@pytest.mark.parametrize("width", [16, 32])
def test_words_are_the_first_bytes_of_hashes_and_sort_as_they_do(width: int):
    hashes = [bytes([number * 7 % 256, *range(width - 1)]) for number in range(100)]
    column = pa.array(hashes)
    words = list(map(tuple, hash_words(column).tolist()))
    assert [first.to_bytes(8, "big") + second.to_bytes(8, "big") for first, second in words] == [
        each[:16] for each in hashes
    ]
    assert hash_words(column[40:]).tolist() == hash_words(column)[40:].tolist()
    assert hash_words(column[:0]).shape == (0, 2)


def keep(dataset: str, lines: bytes) -> Manifest:
    """A manifest that names kept journals with some content."""
    generation = "0" * 16
    files.write_bytes(files.join(dataset, generation, "units/journals.jsonl"), lines)
    journals = stored_file(f"{generation}/units/journals.jsonl", lines)
    return replace(Manifest.from_json(manifest_content(generation)), units=UnitsEntry(journals, journals))


def test_journals_that_a_generation_keeps_come_back(root: str):
    journals = [finish(root, unit) for unit in (0, 1)]
    manifest = keep(root, b"".join(journal.encode() + b"\n" for journal in journals))
    assert read_kept(root, manifest) == journals
    assert read_kept(root, replace(manifest, units=None)) == []


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "s3://bucket/x", "units/../../x"])
def test_journals_that_name_a_file_elsewhere_are_refused(root: str, path: str):
    hashes = StoredFile(path, None, 3, "0" * 64)
    with pytest.raises(DatasetError, match=r"expected the journals of units, found: .* stays in the dataset"):
        read_kept(root, keep(root, replace(finish(root, 0), hashes=hashes).encode()))


@pytest.mark.parametrize("lines", [b"[]", b"{", b'{"unit": 0}', b"3"])
def test_journals_that_are_none_are_refused(root: str, lines: bytes):
    with pytest.raises(DatasetError, match="expected the journals of units, found"):
        read_kept(root, keep(root, lines))
