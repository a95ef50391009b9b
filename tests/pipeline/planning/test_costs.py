"""What a run costs: known figures, the user's prices, and the requests that runs on a store really make."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import draw, request

from penstock.pipeline import Csv, Images, Recipe
from penstock.pipeline.job import plan, preview
from penstock.pipeline.planning.costs import Interval, Work, estimate, ratio
from penstock.pipeline.planning.measure import Measured
from penstock.pipeline.planning.prices import Prices, price, total
from penstock.pipeline.storage import files, stores
from penstock.runners.run import run

HOUR = 3600


def work(**fields: Any) -> Work:
    return Work(
        **{  # 1,000 units of 36 core-seconds, if a weight takes a second
            "units": [36] * 1000,
            "shards": 1000,
            "pieces": 2_000_000,
            "nominal": False,
            "input_bytes": 10**11,
            "remote_input": True,
            "remote_output": True,
        }
        | fields
    )


def measured(*seconds: float, payloads: int = 1) -> list[Measured]:
    return [Measured(1, each, 500_000, payloads) for each in seconds]


def test_time_and_hours_follow_from_the_sample_and_the_workers():
    costs = estimate(work(), measured(1, 1, 1), workers=100, cores=4)
    assert costs.cpu_seconds.likely == pytest.approx(36_000 + 100)
    assert costs.wall_seconds.likely == pytest.approx(10 * 36 / 4 + 10 * 0.1 + 10)
    assert costs.vcpu_hours.likely == pytest.approx(400 * costs.wall_seconds.likely / HOUR)
    assert costs.cpu_seconds.low == pytest.approx(costs.cpu_seconds.high)  # all the same: nothing is uncertain
    assert costs.bytes_written.likely == 36_000 * 500_000
    # more workers than units: they cost, and have nothing to do
    idle = estimate(work(), measured(1, 1, 1), workers=2000, cores=4)
    assert idle.wall_seconds.likely == pytest.approx(36 / 4 + 0.1 + 10)
    assert idle.vcpu_hours.likely == pytest.approx(8000 * idle.wall_seconds.likely / HOUR)


def test_a_spread_in_the_sample_is_a_range_in_the_estimate():
    assert ratio([(1, 2), (1, 2), (1, 2)]) == Interval(2, 2, 2)
    spread = ratio([(1, 1), (1, 3), (1, 1), (1, 3)])
    assert spread.likely == 2
    error = (4 / 3 / 4) ** 0.5
    assert (spread.low, spread.high) == (pytest.approx(2 - 2 * error), pytest.approx(2 + 2 * error))
    assert ratio([(1, 2), (100, 200)]) == Interval(2, 2, 2)  # larger pieces take longer: that is no spread
    many = ratio([(1, 1), (1, 3)] * 50)
    assert many.high - many.low < (spread.high - spread.low) / 4
    assert ratio([(2, 6)]) == Interval(1.5, 3, 6)
    wild = ratio([(1, 0), (1, 0), (1, 900)])
    assert (wild.low, wild.high) == (wild.likely / 4, pytest.approx(300 + 600))
    assert ratio([(0, 0), (0, 0)]) == Interval(0, 0, 0)


def test_requests_follow_from_pieces_units_and_shards():
    costs = estimate(work(), measured(1, 1), 100, 4)
    assert costs.input_requests == {"get": 2_000_004, "list": 2003}
    beats = (1 + 100) * costs.wall_seconds.likely / 10  # of a lease and the workers' progress
    uploads = 3 + 2  # of 18 MB, in parts of 8 MiB
    assert costs.output_requests["put"] == pytest.approx(1000 * (3.6 + 1 + uploads) + 23 + beats, abs=1)
    assert costs.output_requests["get"] == 5622
    assert costs.requests["get"] == 2_005_626
    with_masks = estimate(work(), measured(1, 1, payloads=2), 100, 4)
    assert with_masks.input_requests["get"] == 4_000_004
    ranges = estimate(work(pieces=1000, nominal=True), measured(1, 1, payloads=0), 100, 4)
    assert ranges.input_requests == {"get": 2004, "list": 3}
    assert ranges.bytes_read == 2 * 10**11
    nowhere = estimate(work(remote_input=False, remote_output=False), measured(1), 1, 1)
    assert nowhere.requests == {}


def test_prices_make_it_money():
    costs = estimate(work(), measured(1, 1, 1), workers=100, cores=4)
    prices = Prices("EUR", 0.05, 0.005, 16, {"get": 0.0004, "put": 0.005}, 0.09, 0.02)
    priced, unpriced = price(costs, prices)
    hours = costs.wall_seconds.likely / HOUR
    assert priced["vcpu_hour"].likely == pytest.approx(400 * hours * 0.05)
    assert priced["gb_hour"].likely == pytest.approx(100 * 16 * hours * 0.005)
    assert priced["requests_per_1000.get"].likely == pytest.approx(2005.626 * 0.0004)
    assert priced["egress_gb"].likely == pytest.approx(9)
    assert priced["storage_gb_month"].likely == pytest.approx(18 * 0.02)
    assert total(priced).likely == pytest.approx(sum(each.likely for each in priced.values()))
    assert unpriced == ["requests_per_1000.list", "requests_per_1000.delete"]
    local = estimate(work(remote_input=False), measured(1), 1, 1)
    assert price(local, prices)[0]["egress_gb"].likely == 0
    assert price(costs, Prices())[0] == {}
    assert total({}) == Interval(0, 0, 0)


FACTOR = 1.3  # between an estimate of requests and what a run makes


def upload(folder: Path, uri: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            files.write_bytes(files.join(uri, str(path.relative_to(folder))), path.read_bytes())
    return uri


@pytest.mark.parametrize(
    ("images", "shards", "masks"),
    [
        pytest.param(20, 1, False, marks=pytest.mark.slow),
        (60, 12, True),
        pytest.param(300, 2, False, marks=pytest.mark.slow),
    ],
)
def test_a_run_of_images_makes_the_requests_that_were_estimated(tmp_path: Path, images: int, shards: int, masks: bool):
    raw = upload(draw(tmp_path, images, (24, 16), masks=masks), f"memory://{tmp_path.name}/raw")
    source = Images("images/*.png", mask="masks/{stem}.png" if masks else None)
    recipe = Recipe(source=source, splits={"train": 0.8, "test": 0.2}, shards=shards)
    expect_estimated(request(recipe, raw, f"memory://{tmp_path.name}/dataset"))  # type: ignore[arg-type]


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_run_of_rows_makes_the_requests_that_were_estimated(tmp_path: Path, shards: int):
    rows = "".join(f"{number},town {number % 9}\n" for number in range(500_000))
    (tmp_path / "1.csv").write_text(f"person,town\n{rows}")
    raw = upload(tmp_path, f"memory://{tmp_path.name}/raw")
    recipe = Recipe(source=Csv("*.csv"), splits={"train": 0.8, "test": 0.2}, shards=shards)
    expect_estimated(request(recipe, raw, f"memory://{tmp_path.name}/dataset"))  # type: ignore[arg-type]


def expect_estimated(asked: Any) -> None:
    costs = preview(asked, plan(asked)).costs
    assert costs is not None
    before = Counter(stores.COUNTS.snapshot())
    run(asked)
    made = Counter(stores.COUNTS.snapshot()) - before
    made["get"] += made.pop("head", 0)  # a price list has one price for both
    for kind, number in made.items():
        assert number / FACTOR - 4 <= costs.requests[kind] <= number * FACTOR + 4, (kind, made, costs.requests)
    assert costs.requests.keys() == made.keys()
