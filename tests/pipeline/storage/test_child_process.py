import os
import signal

import pytest

from penstock.pipeline.storage.child_process import ChildPool, ChildProcess

MODULE = "penstock.pipeline.sources.parquet_child"


def test_a_child_that_is_killed_says_how_it_ended():
    child = ChildProcess(MODULE)
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        child.receive(10)
    assert (child.alive, child.epitaph()) == (False, "was ended by SIGKILL")
    with pytest.raises(EOFError):
        ChildProcess("penstock.no_such_module")


def test_a_pool_keeps_children_that_live():
    pool = ChildPool(MODULE, 1)
    with pool.child() as first:
        pass
    with pool.child() as second:
        assert second is first
        second.kill()
    with pool.child() as third:
        assert third is not first
    pool.close()
    assert not third.alive
