import gc
import weakref

import pytest

from penstock.pipeline.garbage import uncollected


def test_the_collector_goes_on_afterwards_also_after_an_error():
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), uncollected():
        raise KeyError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


class _Circle:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_garbage_before_is_collected_first():
    garbage = weakref.ref(_Circle())
    with uncollected():
        assert garbage() is None
        kept = weakref.ref(_Circle())
        assert kept() is not None
