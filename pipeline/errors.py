"""What can go wrong, by what the caller can do about it.

Every message says what was expected, what was found and what to do. The command line turns a class into an exit code.
"""


class PenstockError(Exception):
    """The run failed: the output holds no new generation."""

    exit_code = 1


class RequestError(PenstockError):
    """The request is wrong (recipe, input, options or output); found before any work was done."""

    exit_code = 2


class OverBudgetError(PenstockError):
    """More examples were quarantined than the budget allows; nothing was committed, the quarantine can be read."""

    exit_code = 3


class DatasetError(PenstockError):
    """A dataset cannot be read: none there, not committed, damaged, or written by a newer format."""


class NotCommittedError(DatasetError):
    """There is no committed generation at this place."""
