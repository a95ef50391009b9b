"""Prints measurements as a table and saves them as JSON."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_SHOWN_VERSIONS = ("penstock", "apache-beam", "tensorflow", "tensorflow-transform", "pillow", "simplejpeg", "numpy")


@dataclass(frozen=True)
class Bar:
    """The target of a claim: the smallest or the largest value that meets it."""

    limit: float
    at_least: bool
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value meets the bar; NaN does not."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
      claim: What is claimed.
      ours: Penstock's measurement, as text.
      reference: What it is compared with, as text.
      value: The ratio or measurement that is compared with the bar.
      bar: The target, if there is one.
      spread: The smallest and the largest value of the rounds.
      unit: The unit of the value.
    """

    claim: str
    ours: str
    reference: str = ""
    value: float = math.nan
    bar: Bar | None = None
    spread: tuple[float, float] | None = None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        return self.bar.holds(self.value) if self.bar else None


def show(rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Prints the table."""
    console = Console(width=None if os.isatty(1) else 150)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("claim", "ours", "reference", "value", "rounds", "bar", "met"):
        table.add_column(column, justify="right" if column in ("value", "rounds", "bar") else "left")
    for row in rows:
        value = "" if math.isnan(row.value) else f"{row.value:.2f}{row.unit}"
        spread = f"{row.spread[0]:.2f} … {row.spread[1]:.2f}" if row.spread else ""
        met = {True: "yes", False: "[bold]NO[/]", None: ""}[row.met]
        table.add_row(row.claim, row.ours, row.reference, value, spread, str(row.bar or ""), met)
    console.print(table)
    for note in notes:
        console.print(note)


def save(path: Path, rows: Sequence[Row], settings: Mapping[str, Any], series: Mapping[str, Any]) -> None:
    """Writes all measurements as JSON; NaN becomes null."""
    content = {
        "machine": machine(),
        "settings": settings,
        "rows": [asdict(row) | {"bar": str(row.bar) if row.bar else None, "met": row.met} for row in rows],
        "series": series,
    }
    path.write_text(json.dumps(_finite(content), indent=1) + "\n")


def machine() -> dict[str, Any]:
    """The machine and the versions that were used."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _SHOWN_VERSIONS},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
