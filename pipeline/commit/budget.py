"""How many examples may be quarantined before nothing is committed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT = "1%"
_EXAMPLES = 3  # reasons of which an example is shown
_SHOWN = 240  # characters of it


@dataclass(frozen=True)
class Budget:
    """How many examples may be quarantined: a count, or a fraction of those read."""

    limit: float
    is_fraction: bool

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Reads `25` (a count), `0.01` or `1%` (a fraction).

        Raises:
          ValueError: it is none of these.
        """
        try:
            if text.endswith("%"):
                budget = cls(float(text[:-1]) / 100, True)
            elif text.isdigit():
                budget = cls(int(text), False)
            else:
                budget = cls(float(text), True)
        except ValueError:
            budget = cls(-1, True)
        if not budget.limit >= 0 or (budget.is_fraction and not budget.limit <= 1):
            raise ValueError(f"expected a count such as 25, or a fraction such as 0.01 or 1%, found {text!r}")
        return budget

    def allows(self, quarantined: int, read: int) -> bool:
        """Whether so many of so many are within the budget."""
        return quarantined <= (self.limit * read + 1e-9 if self.is_fraction else self.limit)  # 29 of 100 are 29 %

    def excess(self, quarantined: Mapping[str, int], read: int, examples: Mapping[str, str]) -> str | None:
        """What to say where more was quarantined than the budget allows; else None.

        Args:
          quarantined: Reason code to count.
          read: How many examples were read.
          examples: Reason code to an example, in words, of which the most frequent ones are shown.
        """
        total = sum(quarantined.values())
        if self.allows(total, read):
            return None
        ordered = Counter(quarantined).most_common()
        reasons = ", ".join(f"{code} {number}" for code, number in ordered)
        shown = [f"{code}: {' '.join(examples[code].split()):.{_SHOWN}}" for code, _ in ordered if code in examples]
        such_as = f"; such as {'; '.join(shown[:_EXAMPLES])}" if shown else ""
        return f"{total} of {read} examples were quarantined ({reasons}), expected at most {self}{such_as}"

    def __str__(self) -> str:
        return f"{self.limit:.6g} of those read" if self.is_fraction else f"{self.limit:g} examples"
