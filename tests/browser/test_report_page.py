"""The page of `penstock report` in a browser: on a phone, by keyboard, in the dark, and to an accessibility checker."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import REPOSITORY, Committed, Made

from penstock.pipeline.report.page import write_report


def look(page: Path) -> dict[str, Any]:
    """What look.mjs says of a page."""
    chromium = shutil.which("chromium")
    assert chromium, "expected Chromium, found none; install it"
    command = ["node", Path(__file__).parent / "look.mjs", chromium, REPOSITORY / ".browser/node_modules", page]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


@pytest.fixture(scope="module", params=["images", "rows"])
def seen(
    request: pytest.FixtureRequest,
    committed: Committed,
    make: Callable[..., Made],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    page = tmp_path_factory.mktemp("page") / "page.html"
    rows = [f"{number},<img src=x onerror=alert(1)>{number % 3},{'w' * 200}" for number in range(100)]
    dataset = committed if request.param == "images" else make({"a.csv": "\n".join(["n,<b>,long", *rows]) + "\n"})
    write_report(str(dataset.path), str(page))
    return look(page)


def test_nothing_goes_wrong_and_nothing_is_asked_for(seen: dict[str, Any]):
    assert seen["errors"] == []
    assert seen["requests"] == []


def test_a_phone_needs_no_scrolling_aside(seen: dict[str, Any]):
    assert seen["overflow"] <= 0


def test_focus_is_seen(seen: dict[str, Any]):
    assert seen["stops"] > 10
    assert seen["unseen"] == []


def test_it_is_dark_in_the_dark(seen: dict[str, Any]):
    assert seen["day"] != seen["night"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_accessibility_checker_finds_nothing(seen: dict[str, Any], scheme: str):
    assert seen[scheme] == []


def test_the_switch_hides_masks(seen: dict[str, Any]):
    assert seen["masks"] in (None, [True, False])
