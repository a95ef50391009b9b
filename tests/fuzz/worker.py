"""Examines cases of one format in a process whose memory is filled with one byte: `python -m fuzz.worker`.

Arguments: the format, the first case, the one behind the last, the byte, and the file for the results.
"""

import sys
import tempfile
from pathlib import Path

from fuzz import adapters, checks, isolation, mutations


def main() -> None:
    format_name, first, stop, fill, results = sys.argv[1:]
    adapters.load(format_name)
    with tempfile.TemporaryDirectory() as folder:

        def examine(number: int) -> tuple[str, list[str]]:
            outcome, wrong = checks.examine(mutations.case(format_name, number), folder)
            return outcome.replace(folder, "FOLDER"), [each.replace(folder, "FOLDER") for each in wrong]

        isolation.run(range(int(first), int(stop)), examine, Path(results), int(fill), isolation.Limits())


if __name__ == "__main__":
    main()
