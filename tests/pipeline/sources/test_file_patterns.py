import os
from pathlib import Path

import pytest

from penstock.pipeline import Csv, JsonLines, RequestError
from penstock.pipeline.sources.file_patterns import match_files


def fill(root: Path) -> str:
    """Two tables, and what matches beside them but is none."""
    (root / "a.csv").write_text("x\n1\n")
    (root / "b.csv").write_text("x\n2\n")
    (root / "._a.csv").write_bytes(b"\0\5\x16\7")
    (root / "lost.csv").symlink_to("/annex/gone")
    (root / "self.csv").symlink_to("self.csv")
    os.mkfifo(root / "pipe.csv")
    with open(os.fsencode(root) + b"/\xff.csv", "wb") as file:
        file.write(b"x\n3\n")
    return str(root)


def test_what_is_no_table_is_left_out_and_told(tmp_path: Path):
    root, warnings = fill(tmp_path), []
    assert list(match_files(root, ["*.csv"], warnings)) == ["a.csv", "b.csv"]
    assert len(warnings) == 5
    for name, kind in {
        "lost.csv": "a link to /annex/gone, where nothing is",
        "self.csv": "a link that leads back to itself",
        "pipe.csv": "a named pipe",
        r"\udcff.csv": "a name that is not UTF-8; rename it",
    }.items():
        warning = f"{name} matches '*.csv' and is not in the dataset: expected a file that can be read, found {kind}"
        assert warning in warnings
    assert any("1 files that match '*.csv' were passed over, such as ._a.csv: AppleDouble" in each for each in warnings)
    before = [*warnings]
    match_files(root, ["*.csv"], warnings)
    assert warnings == before


def test_a_table_tells_what_is_not_in_it(tmp_path: Path):
    listing = Csv("*.csv").find(fill(tmp_path), 1 << 20)
    assert [record_range.key for record_range in listing.ranges] == ["a.csv", "b.csv"]
    assert len(listing.warnings) == 5


def test_what_is_left_out_explains_why_nothing_matches(tmp_path: Path):
    (tmp_path / "x.jsonl").symlink_to("/annex/gone")
    with pytest.raises(RequestError, match=r"expected record files at .*found none.*a link to /annex/gone"):
        JsonLines("*.jsonl").find(str(tmp_path), 1 << 20)
