"""The options that every benchmark has."""

import argparse
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 5
SHARED = Path(__file__).parent.parent.parent / "shared/data"
RESULTS = Path(__file__).parent / "results"
_UNRECORDED = ("json", "record", "only", "peers", "quick", "load")  # of this machine, or told elsewhere


def parser(
    description: str | None, sections: Sequence[str], quick: str, rounds: int = ROUNDS
) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have.

    Args:
      description: The script's docstring.
      sections: What `--only` chooses from; all of them by default.
      quick: What `--quick` does.
      rounds: How many there are by default.
    """
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.add_argument("--rounds", type=int, default=rounds, help="how often all is run (default: %(default)s)")
    result.add_argument("--seed", type=int, help="of the order within the rounds (default: drawn, and printed)")
    result.add_argument("--quick", action="store_true", help=quick)
    if len(sections) > 1:
        names = ", ".join(sections)
        result.add_argument("--only", nargs="+", choices=sections, metavar="SECTION", help=f"of {names}")
    else:
        result.set_defaults(only=list(sections))
    result.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    result.add_argument(
        "--record", action="store_true", help="keep the measured sections in benchmarks/results, which docs quote"
    )
    return result


def parse(
    parser_: argparse.ArgumentParser, sections: Sequence[str], quick: Sequence[str] | None = None
) -> argparse.Namespace:
    """The options, with defaults filled in, and the `load` average of the machine.

    Args:
      parser_: The parser.
      sections: What is measured unless `--only` says otherwise.
      quick: The same with `--quick`, if fewer.
    """
    options = parser_.parse_args()
    if options.quick and options.record:
        parser_.error("--record: expected a whole run, found --quick, whose figures mean nothing")
    options.rounds = 1 if options.quick else options.rounds
    options.only = options.only or list(quick or sections if options.quick else sections)
    options.seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    options.load = os.getloadavg()[0]
    return options


def settings(options: argparse.Namespace) -> dict[str, str]:
    """The options as they are recorded: of a path its last part, so that no machine's folders are in it."""
    return {
        name: value.name if isinstance(value, Path) else str(value)
        for name, value in vars(options).items()
        if name not in _UNRECORDED and value is not None
    }


def add_photos(parser_: argparse.ArgumentParser) -> None:
    """Adds `--photos`."""
    parser_.add_argument(
        "--photos",
        type=Path,
        default=SHARED / "clothing",
        metavar="FOLDER",
        help="photos as .../<label>/<name>.jpg; drawn ones if there is no such folder (default: %(default)s)",
    )


def add_census(parser_: argparse.ArgumentParser) -> None:
    """Adds `--census`."""
    parser_.add_argument(
        "--census",
        type=Path,
        default=SHARED / "census",
        metavar="FOLDER",
        help="where adult.data is (default: %(default)s)",
    )
