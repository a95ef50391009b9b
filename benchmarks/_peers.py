"""The packages that Penstock is compared with: `make peers` installs them, in environments of their own."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Peer:
    """A package, the Python that has it, and its version."""

    package: str
    python: str
    version: str


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--peers`."""
    parser.add_argument(
        "--peers",
        nargs="*",
        metavar="PYTHON",
        default=[str(path) for path in sorted(REPOSITORY.glob(".venv-peers*/bin/python"))],
        help="Pythons that may have other packages; these are left out where none has (default: those of `make peers`)",
    )


def find(packages: Sequence[str], pythons: Sequence[str]) -> dict[str, Peer]:
    """Which of the packages are installed, by name: in this Python, or else in the first of the others that has it."""
    peers: dict[str, Peer] = {}
    for python in (sys.executable, *pythons):
        script = (
            "import sys\nfrom importlib.metadata import distributions\n"
            "for each in distributions(): print(each.metadata['Name'], each.version)"
        )
        printed = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout
        versions = dict(line.split(" ") for line in printed.splitlines())
        peers |= {
            package: Peer(package, python, versions[package])
            for package in packages
            if package in versions and package not in peers
        }
    return peers
