"""Prepares examples in child processes: a decoder that hangs or dies takes one example with it, not the run.

Parent and child exchange pickles: first the recipe's own modules and what prepares an example, then for every outcome
a reference, whether to count its pixels, and the payloads if they come from a store: a child reads local files alone,
and needs no credentials.
"""

import contextlib
import pickle
from collections.abc import Callable

import cloudpickle

from ..errors import PenstockError
from ..sources.archive_members import name_of
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample
from ..storage.child_process import (
    START,
    ChildPool,
    ChildProcess,
    limit_memory,
    read_message,
    serve_parent,
    write_message,
)
from .outcomes import Outcome
from .payloads import Payloads
from .shipping import carried

WORKER_DIED = "worker_died"  # the code of what kills a worker, or its child in a worker's place
_MODULE = "penstock.pipeline.prepare.isolate"


class IsolatedPreparer:
    """Does what a preparer of images does, in child processes that can be killed. May be called from many threads."""

    def __init__(self, prepare: Callable[..., Outcome], processes: int, timeout: float | None) -> None:
        """Prepares nothing yet: a child starts when it is first needed.

        Args:
          prepare: What each child runs: gives the outcome of an example, its pixels counted or not, of payloads that
            it reads itself or is given.
          processes: How many children to keep; as many calls run at a time.
          timeout: Seconds that one example may take. None: as long as it takes, in as much memory as there is, as if it
            were prepared in this process; and an example at which its child dies is tried once more.
        """
        self._prepare = cloudpickle.dumps((carried(), timeout is not None, prepare))
        self._timeout = timeout
        self._children = ChildPool(self._start, processes)

    def _start(self) -> ChildProcess:
        return start_child(_MODULE, self._prepare)

    def __call__(self, reference: Reference, count: bool = False, payloads: Payloads | None = None) -> Outcome:
        """The outcome of one example; a QuarantinedExample where its child hung or died."""
        arguments = {"count": count, "payloads": payloads}
        request = pickle.dumps((reference, arguments), pickle.HIGHEST_PROTOCOL)
        child: ChildProcess | None = None
        try:
            if self._timeout is None:
                with contextlib.suppress(EOFError), self._children.child() as child:
                    return self._ask(child, request)
            # a child may die of what has nothing to do with the example
            with self._children.alone() if self._timeout is None else self._children.child() as child:
                return self._ask(child, request)
        except TimeoutError:
            code, message = "decoder_timeout", f"expected an answer within {self._timeout:g} s, found none"
        except EOFError:
            assert child is not None  # one that cannot start raises another error
            code, message = "decoder_died", f"the process that decoded it {child.epitaph()}"
            if self._timeout is None:
                message = f"each process that prepared it died; the last one {child.epitaph()}"
                return QuarantinedExample(reference.key, name_of(reference.uri), "prepare", WORKER_DIED, message)
        return QuarantinedExample(reference.key, name_of(reference.uri), "decode", code, message)

    def _ask(self, child: ChildProcess, request: bytes) -> Outcome:
        child.send(request)
        outcome: Outcome = pickle.loads(child.receive(self._timeout))
        return outcome

    def close(self) -> None:
        """Ends the children."""
        self._children.close()


def start_child(module: str, first: bytes) -> ChildProcess:
    """Starts a child, and gives it its first message, which says what it prepares and how.

    Raises:
      PenstockError: it did not start.
    """
    child = ChildProcess(module, quiet=False)
    try:
        child.send(first)
        child.receive(START)
    except (EOFError, TimeoutError) as error:
        raise PenstockError(
            f"expected a process that prepares examples to start, but it {child.epitaph()}; see its words above, or "
            "run without --isolate, if it was given"
        ) from error
    return child


def main() -> None:
    """The child: answers each reference with its outcome until its parent closes the pipe."""
    requests, answers = serve_parent()
    _, is_limited, prepare = pickle.loads(read_message(requests) or b"")  # a recipe's own modules come first
    if is_limited:
        limit_memory()
    write_message(answers, b"")  # its imports don't count against the first example
    while request := read_message(requests):
        reference, arguments = pickle.loads(request)
        write_message(answers, pickle.dumps(prepare(reference, **arguments)))


if __name__ == "__main__":
    main()
