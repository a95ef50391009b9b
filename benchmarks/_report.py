"""Prints measurements as a table, and keeps them as JSON, from which docs/benchmarks.md has its tables (docs.py)."""

import argparse
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _measure import median
from _options import RESULTS, settings
from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = ("claim", "ours", "reference", "value", "rounds", "bar", "met")
_VERSIONS = (
    "penstock", "apache-beam", "tensorflow", "tensorflow-transform", "numpy", "pyarrow", "pillow", "simplejpeg",
    "cykooz-resizer",
)  # fmt: skip
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


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

    @classmethod
    def of_rounds(
        cls, claim: str, ours: str, reference: str, rounds: Sequence[float], bar: Bar | None = None, unit: str = ""
    ) -> "Row":
        """A row whose value is the median of those of the rounds."""
        return cls(claim, ours, reference, median(rounds), bar, (min(rounds), max(rounds)), unit)

    def to_json(self) -> dict[str, Any]:
        """Its fields, the bar as text, and whether the bar is met; None without a bar."""
        met = self.bar.holds(self.value) if self.bar else None
        return _finite(asdict(self) | {"bar": str(self.bar) if self.bar else None, "met": met})  # type: ignore[no-any-return]


def cells(row: Mapping[str, Any]) -> list[str]:
    """What a table shows of a row as it is in the JSON, by COLUMNS."""
    value = "" if row["value"] is None else f"{_shown(row['value'])}{row['unit']}"
    spread = " … ".join(_shown(each) for each in row["spread"] or ())
    met = {True: "yes", False: "NO", None: ""}[row["met"]]
    return [row["claim"], row["ours"], row["reference"], value, spread, row["bar"] or "", met]


def finish(
    name: str,
    rows: Mapping[str, Sequence[Row]],
    notes: Sequence[str],
    options: argparse.Namespace,
    series: Mapping[str, Any],
    peers: Mapping[str, str] | None = None,
) -> None:
    """Prints the rows, and keeps them where `--json` and `--record` say.

    Args:
      name: The benchmark.
      rows: By section.
      notes: What was measured, in sentences.
      options: The command line's.
      series: All single measurements.
      peers: The versions of other packages that were measured.
    """
    table = [row.to_json() for each in rows.values() for row in each]
    _show(table, notes)
    measured = {
        "machine": _machine(options.load, peers or {}),
        "settings": settings(options),
        "notes": list(notes),
        "series": _finite(series),
    }
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    sections = {section: [row.to_json() for row in each] for section, each in rows.items()}
    if options.json:
        _write(options.json, merge({}, moment, measured, sections))
    if options.record:
        path = RESULTS / f"{name}.json"
        _write(path, merge(json.loads(path.read_text()) if path.exists() else {}, moment, measured, sections))


def merge(
    recorded: Mapping[str, Any], moment: str, measured: Mapping[str, Any], sections: Mapping[str, Any]
) -> dict[str, Any]:
    """Puts a run's sections in the place of earlier ones; runs of which no section is left are forgotten.

    Args:
      recorded: `runs` by their moments, and `sections` by name: the moment of each one's `run` and its `rows`.
      moment: When this run ended.
      measured: Where, how and of what it was, and all single measurements.
      sections: Its rows, by section.
    """
    kept = {**recorded.get("sections", {}), **{each: {"run": moment, "rows": sections[each]} for each in sections}}
    runs = {**recorded.get("runs", {}), moment: measured}
    used = {section["run"] for section in kept.values()}
    return {"runs": {each: run for each, run in runs.items() if each in used}, "sections": kept}


def _show(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    console = Console(width=None if os.isatty(1) else 150, markup=False)
    table = Table(box=box.SIMPLE_HEAD)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("value", "rounds", "bar") else "left")
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    for note in notes:
        console.print(note)


def _shown(value: float | None) -> str:
    if value is None:  # a rate of which no round told
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _machine(load: float, peers: Mapping[str, str]) -> dict[str, Any]:
    """The machine and the versions that were used."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.exists() else "not told",
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": [load, os.getloadavg()[0]],  # at the start and at the end, over a minute
        "python": platform.python_version(),
        "versions": {**{name: installed for name in _VERSIONS if (installed := _version(name))}, **peers},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _finite(value: Any) -> Any:
    """With None where there is no finite number."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
