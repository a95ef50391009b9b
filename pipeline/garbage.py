"""Python's garbage collector, put off while a graph is traced."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector, in all threads, from what comes to be meanwhile.

    A graph is a million objects, of which none is garbage: otherwise it looks through them again and again. What is
    garbage before, such as an earlier graph, is collected first: it would wait beside this one.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
