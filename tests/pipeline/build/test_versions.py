import pickle
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from penstock import PenstockError
from penstock.pipeline.build.versions import expect_launchers, versions_here
from penstock.pipeline.prepare.shipping import NO_MODULES, OwnModules


def test_a_worker_like_its_launcher_goes_on():
    versions = versions_here()
    assert versions["Python"] == "3.11"
    assert "none" not in versions.values()
    expect_launchers(versions, NO_MODULES)


def test_every_version_that_differs_is_told_with_the_host():
    versions = {**versions_here(), "pillow": "1.0", "no-such-package": "2.0"}
    with pytest.raises(PenstockError) as caught:
        expect_launchers(versions, NO_MODULES)
    message = str(caught.value)
    assert f"the worker on {socket.gethostname()}: expected pillow 1.0, no-such-package 2.0, as" in message
    assert f"found pillow {versions_here()['pillow']}, no-such-package none;" in message


def test_a_module_of_the_workers_in_place_of_the_recipes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("versions_helper")
    module.__file__ = str(tmp_path / "versions_helper.py")
    (tmp_path / "versions_helper.py").write_text("SIZE = 1\n")
    monkeypatch.setitem(sys.modules, "versions_helper", module)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    same, other = (OwnModules({"versions_helper": ("versions_helper.py", b"SIZE = %d\n" % size)}) for size in (1, 2))
    expect_launchers({}, pickle.loads(pickle.dumps(same)))
    with pytest.raises(PenstockError, match=r"expected the recipe's module versions_helper .* found another one at /"):
        expect_launchers({}, pickle.loads(pickle.dumps(other)))
