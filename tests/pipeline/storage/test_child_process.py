import contextlib
import os
import signal
import subprocess
import sys

import pytest

from penstock.pipeline.errors import PenstockError
from penstock.pipeline.storage.child_process import ChildPool, ChildProcess

MODULE = "penstock.pipeline.sources.parquet_child"


def test_a_child_that_is_killed_says_how_it_ended():
    child = ChildProcess(MODULE)
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        child.receive(10)
    assert (child.alive, child.epitaph()) == (False, "was ended by SIGKILL")
    with pytest.raises(PenstockError, match=r"expected the process penstock\.no_such_module to start, but it exited"):
        ChildProcess("penstock.no_such_module")


def test_a_child_starts_though_less_memory_is_allowed():
    code = f"""
import resource
from penstock.pipeline.storage.child_process import ChildProcess
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
print(ChildProcess({MODULE!r}).alive)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_pool_keeps_children_that_live():
    pool = ChildPool(lambda: ChildProcess(MODULE), 1)
    with pool.child() as first:
        pass
    with pool.child() as second:
        assert second is first
        second.kill()
    with pool.child() as third:
        assert third is not first
    pool.close()
    assert not third.alive


def test_a_child_whose_answer_was_not_taken_is_not_used_again():
    pool = ChildPool(lambda: ChildProcess(MODULE), 1)
    with contextlib.suppress(ConnectionError), pool.child() as first:
        raise ConnectionError
    assert not first.alive
    with pool.child() as second:
        assert second is not first
    pool.close()
