"""Which run makes a generation: what keeps a late worker of an earlier one from writing into what this one has made."""

from ..errors import PenstockError
from ..formats import paths
from ..storage import files


def claim(root: str, run: str) -> None:
    """Makes a generation a run's own; the run has its lease."""
    files.write_bytes(files.join(root, paths.RUN), run.encode())


def expect_claimed(root: str, run: str) -> None:
    """Raises PenstockError where a generation is another run's by now, or no run's."""
    try:
        owner = files.read_bytes(files.join(root, paths.RUN)).decode(errors="replace")
    except FileNotFoundError:
        owner = "none"
    if owner != run:
        raise PenstockError(f"{root}: expected run {run} to be making it, found run {owner}; this one ends here")
