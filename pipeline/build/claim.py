"""Which run makes a generation: what keeps a late worker of an earlier one from writing into what this one has made.

The claim also tells the workers of a run that it has come to nothing, so that none begins what nobody will need.
"""

import contextlib

from ..errors import PenstockError
from ..formats import paths
from ..storage import files


def claim(root: str, run: str) -> None:
    """Makes a generation a run's own; the run has its lease."""
    files.write_bytes(files.join(root, paths.RUN), run.encode())


def stop(root: str, run: str, why: str) -> None:
    """Tells the other workers of a run to end, if they can be told.

    Args:
      root: The generation's URI.
      run: The run, which is another's business where it does not have the generation any more.
      why: What they are to say.
    """
    uri = files.join(root, paths.RUN)
    with contextlib.suppress(OSError):  # they will find out for themselves
        content, version = files.read_versioned(uri)
        if content.decode(errors="replace") == run:
            files.replace_exactly(uri, f"{run}\n{why}".encode(), version)


def expect_claimed(root: str, run: str) -> None:
    """Raises PenstockError where a generation is another run's by now, or no run's; or where the run was stopped."""
    try:
        content = files.read_bytes(files.join(root, paths.RUN)).decode(errors="replace")
    except FileNotFoundError:
        content = "none"
    owner, _, why = content.partition("\n")
    if owner != run:
        raise PenstockError(f"{root}: expected run {run} to be making it, found run {owner}; this one ends here")
    if why:
        raise PenstockError(why)
