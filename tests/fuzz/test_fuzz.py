"""Damaged files of every format: no crash, no hang, no memory of the process in the pixels, and at most one row lost.

`make test-fuzz` runs PENSTOCK_FUZZ cases of each format, 10,000 where that is not set. A failure names its case:
`PENSTOCK_FUZZ_CASE=tiff:4711 make test-fuzz` does that one again, alone. The files of the cases that failed, and a list
of what was wrong with each, lie in build/fuzz/.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fuzz.isolation import Result
from fuzz.mutations import Case, case
from fuzz.seeds import FORMATS, IMAGES
from helpers import REPOSITORY

pytestmark = [pytest.mark.fuzz, pytest.mark.linux]  # memory is filled by glibc, and measured by Linux

_FILLS = (0x55, 0xAA)
_SHOWN = 30  # kinds of failures that a message lists
_TESTS = Path(__file__).parents[1]
# Of compressed rows, PyArrow asks for the largest file's memory at once; filling that would take longer than all else.
_PERTURBED = (*IMAGES, "parquet")


def _cases() -> dict[str, range]:
    """The numbers of each format's cases, as the environment chooses them."""
    chosen = os.environ.get("PENSTOCK_FUZZ_CASE")
    if not chosen:
        return dict.fromkeys(FORMATS, range(int(os.environ.get("PENSTOCK_FUZZ", "10000"))))
    name, _, number = chosen.partition(":")
    if name not in FORMATS or not number.isdigit():
        raise ValueError(f"PENSTOCK_FUZZ_CASE: expected a format and a number such as 'tiff:4711', found {chosen!r}")
    return {name: range(int(number), int(number) + 1)}


def _examined(format_name: str, numbers: range, fill: int, results: Path) -> list[Result]:
    """The results of a process in whose memory that byte stands wherever nobody wrote."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_TESTS), os.environ.get("PYTHONPATH")])),
        "PYTHONHASHSEED": str(fill),
        "MALLOC_PERTURB_": str(fill) if format_name in _PERTURBED else "0",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "OMP_NUM_THREADS": "1",
    }
    arguments = [format_name, numbers.start, numbers.stop, fill, results]
    subprocess.run([sys.executable, "-m", "fuzz.worker", *map(str, arguments)], env=environment, check=True)
    with results.open() as lines:
        return [Result.from_line(line) for line in lines]


@pytest.mark.parametrize(("format_name", "numbers"), _cases().items(), ids=list(_cases()))
def test_damaged_files(format_name: str, numbers: range, tmp_path: Path):
    with ThreadPoolExecutor(len(_FILLS)) as pool:
        runs = list(pool.map(lambda fill: _examined(format_name, numbers, fill, tmp_path / f"{fill}.jsonl"), _FILLS))
    failures: dict[int, list[str]] = {}
    for one, other in zip(*runs, strict=True):
        assert one.number == other.number
        wrong = list(dict.fromkeys(one.wrong + other.wrong))
        if one.outcome != other.outcome and one.outcome and other.outcome:
            wrong.append(f"heap: two processes read it differently: {_first_difference(one.outcome, other.outcome)}")
        if wrong:
            failures[one.number] = wrong
    if failures:
        pytest.fail(_report(format_name, len(numbers), failures), pytrace=False)


def _first_difference(one: str, other: str) -> str:
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    begin = max(0, at - 60)
    return f"{one[begin : at + 60]!r} and {other[begin : at + 60]!r}"


def _report(format_name: str, count: int, failures: dict[int, list[str]]) -> str:
    """What failed, by kind; and each file that failed in a folder, with a list of all."""
    folder = REPOSITORY / "build/fuzz" / format_name
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, list[tuple[Case, str]]] = defaultdict(list)
    lines = []
    for number, wrong in failures.items():
        failed = case(format_name, number)
        (folder / f"{number}{failed.seed.suffix}").write_bytes(failed.content)
        for each in wrong:
            kinds[re.sub(r"(?<=[^a-z])[0-9a-f]*\d[0-9a-f]*", "N", each)[:70]].append((failed, each))
            lines.append(f"{failed.name}\t{failed.seed.name}\t{'; '.join(failed.mutations)}\t{each}\n")
    (folder / "failures.tsv").write_text("".join(lines))
    words = [f"{len(failures)} of {count} damaged files of {format_name} failed; they and all words are in {folder}"]
    for cases in sorted(kinds.values(), key=len, reverse=True)[:_SHOWN]:
        failed, wrong = cases[0]
        names = sorted({each.seed.name for each, _ in cases})
        words.append(
            f"{len(cases)} times, of {', '.join(names)}: {wrong}\n"
            f"    PENSTOCK_FUZZ_CASE={failed.name} make test-fuzz  # {failed.seed.name}: {'; '.join(failed.mutations)}"
        )
    return "\n".join(words)
