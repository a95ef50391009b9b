"""What can go wrong, by what the caller can do about it; and where in a recipe it did.

Every message says what was expected, what was found and what to do. The command line turns a class into an exit code.
"""

import inspect
import os

INTERRUPTED = 130  # the exit code of a command that its user interrupted


def in_words(error: BaseException, function: object) -> str:
    """An error that a user's function raised, with the line of the function's own file that led to it."""
    words = f"{type(error).__name__}: {error}"
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is None:  # an object of a library: its lines would tell the user nothing
        return words
    lines = []
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == code.co_filename:
            lines.append(frame.tb_lineno)
        frame = frame.tb_next
    return f"{words} ({os.path.basename(code.co_filename)}, line {lines[-1]})" if lines else words


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


class DamagedRecordError(DatasetError):
    """Some stored examples are damaged, and others are not."""


class NotCommittedError(DatasetError):
    """There is no committed generation at this place."""
