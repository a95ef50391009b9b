"""Prepares examples in child processes: a decoder that hangs or dies takes one example with it, not the run.

Parent and child exchange pickles: first the recipe's own modules and what prepares an example, then for every outcome
a reference, whether to count its pixels, and the payloads if they come from a store: a child reads local files alone,
and needs no credentials.
"""

import pickle
from collections.abc import Callable

import cloudpickle

from ..errors import PenstockError
from ..sources.archive_members import name_of
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample
from ..storage.child_process import START, ChildPool, ChildProcess, read_message, serve_parent, write_message
from .outcomes import Outcome
from .payloads import Payloads
from .shipping import carried

_MODULE = "penstock.pipeline.prepare.isolate"


class IsolatedPreparer:
    """Does what a preparer of images does, in child processes that can be killed. May be called from many threads."""

    def __init__(self, prepare: Callable[..., Outcome], processes: int, timeout: float) -> None:
        """Prepares nothing yet: a child starts when it is first needed.

        Args:
          prepare: What each child runs: gives the outcome of an example, its pixels counted or not, of payloads that
            it reads itself or is given.
          processes: How many children to keep; as many calls run at a time.
          timeout: Seconds that one example may take.
        """
        self._prepare = cloudpickle.dumps((carried(), prepare))
        self._timeout = timeout
        self._children = ChildPool(self._start, processes)

    def _start(self) -> ChildProcess:
        child = ChildProcess(_MODULE, quiet=False)
        try:
            child.send(self._prepare)
            child.receive(START)
        except (EOFError, TimeoutError) as error:
            raise PenstockError(
                f"--isolate: expected a process for decoding to start, but it {child.epitaph()}; see its words above, "
                "or run without --isolate"
            ) from error
        return child

    def __call__(self, reference: Reference, count: bool = False, payloads: Payloads | None = None) -> Outcome:
        """The outcome of one example; a QuarantinedExample where its child hung or died."""
        arguments = {"count": count, "payloads": payloads}
        request = pickle.dumps((reference, arguments), pickle.HIGHEST_PROTOCOL)
        child: ChildProcess | None = None
        try:
            with self._children.child() as child:
                child.send(request)
                outcome: Outcome = pickle.loads(child.receive(self._timeout))
                return outcome
        except TimeoutError:
            code, message = "decoder_timeout", f"expected an answer within {self._timeout:g} s, found none"
        except EOFError:
            assert child is not None  # one that cannot start raises another error
            code, message = "decoder_died", f"the process that decoded it {child.epitaph()}"
        return QuarantinedExample(reference.key, name_of(reference.uri), "decode", code, message)

    def close(self) -> None:
        """Ends the children."""
        self._children.close()


def main() -> None:
    """The child: answers each reference with its outcome until its parent closes the pipe."""
    requests, answers = serve_parent()
    _, prepare = pickle.loads(read_message(requests) or b"")  # a recipe's own modules come first
    write_message(answers, b"")  # its imports don't count against the first example
    while request := read_message(requests):
        reference, arguments = pickle.loads(request)
        write_message(answers, pickle.dumps(prepare(reference, **arguments)))


if __name__ == "__main__":
    main()
