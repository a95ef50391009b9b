from pathlib import Path

import pytest

from penstock.pipeline import cores


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (["max 100000"], 8),
        (["150000 100000"], 2),
        (["20000 100000"], 1),
        (["1600000 100000"], 8),
        (["?"], 8),
        (["-1", "100000"], 8),
        (["400000", "100000"], 4),
    ],
)
def test_a_containers_quota_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: list[str], expected: int
):
    places = [str(tmp_path / str(number)) for number in range(len(contents))]
    for place, content in zip(places, contents, strict=True):
        Path(place).write_text(content + "\n")
    monkeypatch.setattr(cores, "_QUOTAS", ((str(tmp_path / "none"),), tuple(places)))
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores.cores() == expected
