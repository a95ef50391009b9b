"""The lists of examples that a generation lacks."""

from pathlib import Path

import pytest

from penstock.pipeline import DatasetError
from penstock.pipeline.build.shards import write_lines
from penstock.pipeline.commit.examples import first_filtered, first_quarantined, read_lines
from penstock.pipeline.formats.manifest import StoredFile
from penstock.pipeline.sources import quarantine
from penstock.pipeline.sources.quarantine import FilteredExample, QuarantinedExample


def stored(root: Path, path: str, *examples: FilteredExample | QuarantinedExample) -> StoredFile:
    file = write_lines(str(root), path, [example.to_line() for example in examples])
    assert file
    return file


def test_the_first_of_each_reason_is_its_example(tmp_path: Path):
    one = stored(tmp_path, "a.jsonl", FilteredExample("a:1", "old"), FilteredExample("a:2", "old"))
    two = stored(tmp_path, "b.jsonl", FilteredExample("b:1", "new"), FilteredExample("b:2", "old"))
    listed = [(one, {"old": 2}), (two, {"new": 1, "old": 1})]
    assert first_filtered(str(tmp_path), listed) == {
        "old": "a:1",
        "new": "b:1",
    }
    bad = stored(tmp_path, "c.jsonl", QuarantinedExample("c:1", "file:c", "read", "wrong_type", "expected a number"))
    assert first_quarantined(str(tmp_path), [(bad, {"wrong_type": 1})]) == {"wrong_type": "c:1: expected a number"}


def test_a_damaged_list_is_named(tmp_path: Path):
    file = stored(tmp_path, "a.jsonl", FilteredExample("a:1", "old"))
    (tmp_path / "a.jsonl").write_text("no JSON")
    with pytest.raises(DatasetError, match=r"a\.jsonl: expected a list of examples, found"):
        list(read_lines(str(tmp_path), [file]))


def test_each_reason_is_listed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine, "LISTED", 2)
    examples = [FilteredExample(f"a:{number}", "rare" if number == 8 else "common") for number in range(9)]
    assert [example.key for example in quarantine.limit(examples)] == ["a:0", "a:1", "a:8"]
