"""The last stage of a pipeline: it commits.

Every worker unpickles the stage, and one of them runs it. So what it takes (the recipe's `features`, TensorFlow) stays
in a pickle until there is something to commit.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.internal import pickler

from ..build.tasks import Refusal, Signal, is_worth_another_try
from ..build.versions import expect_launchers
from ..formats import paths
from ..storage import files

if TYPE_CHECKING:
    from ..formats.manifest import Manifest
    from .commit import CommitOptions


class Commit(beam.DoFn):
    """A signal in, when all is made; the outcome out, and in a file of the run's.

    A refusal is an outcome and no exception: an engine would only retry it, and bury its words in a traceback.

    Args:
      options: How to commit, or the pickle of that.
    """

    def __init__(self, options: "CommitOptions | bytes") -> None:
        self._options = options

    def __reduce__(self) -> Any:
        options = self._options
        return Commit, (options if isinstance(options, bytes) else pickler.dumps(options),)

    @property
    def options(self) -> "CommitOptions":
        """How to commit."""
        options: CommitOptions
        options = pickler.loads(self._options) if isinstance(self._options, bytes) else self._options
        self._options = options
        return options

    def process(self, made: Signal) -> Iterator[dict[str, Any]]:
        options = self.options
        outcome = _outcome(options, made)
        files.write_bytes(files.join(options.root, paths.outcome(options.run)), json.dumps(outcome).encode())
        yield outcome


def _outcome(options: "CommitOptions", made: Signal) -> dict[str, Any]:
    """What a run comes to: it commits, if it was not refused before."""
    from .commit import over_budget  # imports TensorFlow

    refusal, is_whole = made.refusal, made.refusal is None  # all units were made
    if refusal is None:
        committed = _commit(options)
        if not isinstance(committed, Refusal):
            return {"committed": committed.generation}
        refusal = committed
    elif error := over_budget(options):  # analyzers choke on nothing: say why there is nothing
        refusal, is_whole = Refusal.of(error), True
    return {"refused": refusal.kind, "message": refusal.message, "is_whole": is_whole}


def _commit(options: "CommitOptions") -> "Manifest | Refusal":
    """Commits; or says why it cannot.

    Raises:
      OSError: another worker may do better.
    """
    from .commit import commit

    try:
        expect_launchers(options.versions, options.own)
        return commit(options)
    except Exception as error:
        if is_worth_another_try(error):
            raise
        return Refusal.of(error)
