"""Why a row does not fit its table."""

from dataclasses import dataclass

_SHOWN = 60  # characters of a value that a message shows


@dataclass(frozen=True)
class RowError:
    """Why a row does not fit: a code for counting, and the reason in words."""

    code: str
    message: str


def shorten(value: object) -> str:
    """A value for a message: as Python writes it, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
