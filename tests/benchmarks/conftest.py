"""How the tests import benchmarks, which are scripts."""

import importlib
import sys
from typing import Any

import pytest
from helpers import REPOSITORY


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of `benchmarks`, which is no package."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for name in ("changes", "docs", "_census", "_measure", "_options", "_photos", "_report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module
