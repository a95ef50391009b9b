"""What a run is asked for, before anything is read."""

from pathlib import Path
from typing import Any

import pytest

from penstock.pipeline import Csv, Recipe, RequestError
from penstock.pipeline.planned_run import RunRequest
from penstock.pipeline.planning.recipe import LoadedRecipe
from penstock.runners.run_options import RunOptions

LOADED = LoadedRecipe(Recipe(source=Csv("*.csv")), "test", "0" * 64, "0" * 64, "0" * 64)


def options(**given: Any) -> RunOptions:
    return RunOptions(input="raw", output="out", **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workers": 0}, "--workers: expected a whole number of at least 1, found 0"),
        ({"threads": 1.5}, "--threads: expected a whole number of at least 1, found 1.5"),
        ({"limit": True}, "--limit: expected a whole number of at least 1, found True"),
        ({"timeout": 0}, "--timeout: expected seconds above 0"),
        ({"timeout": "30"}, "--timeout: expected seconds above 0, found '30'"),
        ({"engine_options": "--project=mine"}, r"engine_options: expected a list such as \['--project=mine'\]"),
        ({"on_commit": "true", "detach": True}, "--on-commit: .* found --detach"),
        ({"on_commit": "no-such-program"}, "--on-commit: expected a command that is there"),
        ({"max_mean_shift": -1, "fail_on_drift": True}, "--max-mean-shift: expected standard deviations from 0"),
        ({"max_mean_shift": "1", "fail_on_drift": True}, "--max-mean-shift: expected standard deviations from 0"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], words: str):
    with pytest.raises(RequestError, match=words):
        options(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_new_values": 0.1}, "--max-new-values, .*: expected --fail-on-drift beside them"),
        ({"max_new_values": "200%", "fail_on_drift": True}, "--max-new-values: expected a share .* found '200%'"),
        ({"max_share_shift": "many", "fail_on_drift": True}, "--max-share-shift: expected a share .* found 'many'"),
        ({"forget": "/no/such/keys.txt"}, "--forget: expected a text in UTF-8"),
    ],
)
def test_wrong_requests_are_refused(given: dict[str, Any], words: str):
    with pytest.raises(RequestError, match=words):
        options(**given).request(LOADED)


def test_options_become_a_request_and_an_engine(tmp_path: Path):
    keys = tmp_path / "keys.txt"
    keys.write_text("images/a.png\n")
    given = options(
        workers=2, max_quarantined=0.05, isolate=True, fail_on_drift=True, max_new_values="5%", forget=keys, limit=3
    )
    request = given.request(LOADED)
    assert (request.workers, request.max_quarantined, request.isolate, request.limit) == (2, "0.05", 30.0, 3)
    assert request.drift is not None
    assert (request.drift.new_values, request.drift.shares) == (0.05, 0.1)
    assert len(request.forget.lines) == 1
    assert (given.engine().name, given.engine().options.workers) == ("direct", 2)


def test_the_defaults_are_those_of_a_request():
    assert options().request(LOADED) == RunRequest(LOADED, "raw", "out")


def test_a_slash_at_the_end_of_a_folder_is_left_out():
    request = RunOptions(input=Path("raw/"), output="s3://bucket/out/").request(LOADED)
    assert (request.input, request.output) == ("raw", "s3://bucket/out")
