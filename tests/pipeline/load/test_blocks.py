from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from penstock.pipeline import DatasetError
from penstock.pipeline.load.blocks import RowBlocks

COUNT = 1000


class _Rows:
    """Computes rows, and notes how many at a time."""

    def __init__(self, damaged: int = -1) -> None:
        self.asked: list[int] = []
        self.damaged = damaged

    def __call__(self, numbers: Sequence[int]) -> tuple[dict[str, Any], dict[int, Exception]]:
        self.asked.append(len(numbers))
        values = np.array(numbers)
        damage = {position: DatasetError("!") for position, number in enumerate(numbers) if number == self.damaged}
        return {"n": values, "pair": np.stack([values, -values], 1)}, damage


def test_rows_are_computed_alone_first_and_then_in_blocks() -> None:
    rows = _Rows()
    blocks = RowBlocks(COUNT, rows)
    for number in np.random.default_rng(0).permutation(COUNT).tolist():
        row = blocks.row(number)
        assert (row["n"], row["pair"].tolist()) == (number, [number, -number])
    assert sum(rows.asked) == COUNT + 4 * 6
    assert sorted(rows.asked)[-5:] == [1, 232, 256, 256, 256]
    for number in range(COUNT):
        blocks.row(number)
    assert sum(rows.asked) == COUNT + 4 * 6


def test_a_few_rows_cost_no_block() -> None:
    rows = _Rows()
    blocks = RowBlocks(COUNT, rows)
    for number in range(0, COUNT, 50):
        blocks.row(number)
    assert rows.asked == [1] * 20


def test_a_row_is_the_callers_own() -> None:
    blocks = RowBlocks(COUNT, _Rows())
    for _ in range(10):
        blocks.row(7)["pair"][:] = 0
    assert blocks.row(7)["pair"].tolist() == [7, -7]


def test_only_a_damaged_row_is_refused() -> None:
    blocks = RowBlocks(COUNT, _Rows(damaged=5))
    for _ in range(3):
        for number in range(10):
            if number == 5:
                with pytest.raises(DatasetError):
                    blocks.row(5)
            else:
                assert blocks.row(number)["n"] == number


def test_blocks_used_longest_ago_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.pipeline.load.blocks._KEPT_BYTES", 2 * 256 * 3 * 8)
    rows = _Rows()
    blocks = RowBlocks(COUNT, rows)
    for number in (0, 300, 600):
        for _ in range(7):
            blocks.row(number)
    computed = len(rows.asked)
    blocks.row(600), blocks.row(300)
    assert len(rows.asked) == computed
    blocks.row(0)
    assert len(rows.asked) == computed + 1
