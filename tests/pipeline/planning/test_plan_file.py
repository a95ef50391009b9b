"""Units of a plan file, wherever it is."""

from pathlib import Path

from penstock.pipeline.formats.paths import ShardName
from penstock.pipeline.planning.plan_file import PlanReader, Unit, of_ranges, read_unit
from penstock.pipeline.sources.listing import RecordRange
from penstock.pipeline.storage import stores


def test_a_store_is_asked_once_for_each_unit(tmp_path: Path):
    units = [
        (
            Unit(unit, {"train": ShardName("train", unit, 50, False)}, 300, 3000),
            [RecordRange(f"s3://b/{unit}/{at}.csv", f"{unit}/{at}.csv", at, at + 1, 0, 1, 10) for at in range(300)],
        )
        for unit in range(50)
    ]
    for root in (str(tmp_path), "memory://plan-file"):
        of_ranges(units).write(f"{root}/plan.arrow")
        with PlanReader(f"{root}/plan.arrow") as plan:
            assert plan.read(7) == units[7]
            before = stores.COUNTS.snapshot()
            assert [plan.read(number) for number in (49, 0, 21)] == [units[number] for number in (49, 0, 21)]
            after = stores.COUNTS.snapshot()
        assert after.get("get", 0) - before.get("get", 0) <= (3 if root.startswith("memory") else 0)
        assert read_unit(f"{root}/plan.arrow", 3) == units[3]
