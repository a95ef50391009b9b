from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest


@dataclass
class Read:
    """All that a source gives for one range size."""

    listing: Any
    rows: list[dict]
    numbers: list[int]
    problems: list[Any] = field(default_factory=list)

    @property
    def codes(self):
        return {int(problem.key.rpartition(":")[2]): problem.code for problem in self.problems}


def _read_all(source, root, size=1 << 30):
    listing = source.find(str(root), size)
    found = [source.read(record_range, listing.schema) for record_range in listing.ranges]
    for record_range, part in zip(listing.ranges, found, strict=True):
        assert part.batch.schema.equals(listing.schema.columns, check_metadata=True)
        assert part.numbers.dtype == np.int64
        assert len(part.numbers) == part.batch.num_rows
        assert record_range.rows in (-1, part.batch.num_rows + len(part.problems) + sum(part.filtered.values()))
        assert all(problem.stage == "read" and problem.uri == record_range.uri for problem in part.problems)
    rows = [row for part in found for row in part.batch.to_pylist()]
    numbers = [number for part in found for number in part.numbers.tolist()]
    return Read(listing, rows, numbers, [problem for part in found for problem in part.problems])


@pytest.fixture
def read_all():
    return _read_all
