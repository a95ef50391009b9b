"""Writes the tables of docs/benchmarks.md from benchmarks/results, and checks that docs quote no other figures.

    .venv/bin/python benchmarks/docs.py           writes the tables
    .venv/bin/python benchmarks/docs.py --check   writes nothing; fails where a table is not that of the recorded run

Both fail where a figure that is quoted outside of the tables is in none of them:
- in docs/benchmarks.md, every number in the text of a section must be in that section's table, with its unit;
- in README.md and everywhere in docs, every number in a sentence that names a benchmark (`benchmarks/images.py`,
  docs/benchmarks.md) must be in the table of that benchmark, or of any, with its unit.
Code between backticks and the targets of links are not read. A benchmark that no run was recorded of says so, and no
sentence may quote it.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from _report import COLUMNS, cells

REPOSITORY = Path(__file__).parent.parent
PAGE = Path("docs/benchmarks.md")
UNRECORDED = "*Not recorded: these figures are of earlier runs, which left no file to check them against.*"
_BLOCK = re.compile(r"<!-- results: (\w+) -->\n(.*?)<!-- end of results -->\n", re.DOTALL)
_UNITS = (
    "%|ms|µs|us|s|seconds?|minutes?|hours?|[kMG]B|[KMG]iB|bytes|kB|times|thousand|million|M|k|megapixels?|MP|"
    "(?:k )?(?:images|rows|keys|examples|photos)(?:/s| a second| per CPU second)?"
)
_FIGURE = re.compile(rf"(?<![\w.])-?\d+(?:[.,x]\d+)*(?:\s*(?:{_UNITS})(?!\w))?")
_NAMED = re.compile(r"benchmarks/(\w+)\.py|(?<!/)\b(?:docs/)?(benchmarks)\.md")


def render(recorded: Mapping[str, Any] | None, body: str) -> str:
    """What stands between the markers of a benchmark.

    Args:
      recorded: Its JSON, if a run was recorded.
      body: What stands there now: kept, and marked, if none was.
    """
    if recorded is None:
        return body if body.startswith(UNRECORDED) else f"{UNRECORDED}\n\n{body}"
    runs: dict[str, dict[str, Any]] = {}
    for name, section in recorded["sections"].items():
        runs.setdefault(section["run"], {})[name] = section["rows"]
    return "\n".join(_run(moment, recorded["runs"][moment], sections) for moment, sections in sorted(runs.items()))


def rewrite(page: str, results: Mapping[str, Any]) -> str:
    """The page with the tables of the recorded runs."""

    def block(match: re.Match[str]) -> str:
        name, body = match.groups()
        return f"<!-- results: {name} -->\n{render(results.get(name), body)}<!-- end of results -->\n"

    return _BLOCK.sub(block, page)


def strays(path: Path, text: str, results: Mapping[str, Any]) -> Iterator[str]:
    """Says of each figure in the text that is in no table where it stands.

    Args:
      path: The page, from the repository.
      text: Its content.
      results: The JSON of the recorded benchmarks, by name.
    """
    tables = {name: _figures(render(recorded, "")) for name, recorded in results.items()}
    every = set().union(*tables.values())
    if path == PAGE:
        for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
            names = _BLOCK.findall(section)
            known = set().union(*(tables.get(name, set()) for name, _ in names))
            yield from _strays(path, _BLOCK.sub("", section), known, "the section's table")
        return
    for sentence in _sentences(text):
        for script, page in _NAMED.findall(sentence):
            known = every if page else tables.get(script, set())
            yield from _strays(path, sentence, known, f"the tables of {script or 'the benchmarks'}")


def problems(repository: Path) -> list[str]:
    """Everything in README.md and docs that is not as the recorded runs have it."""
    results = load(repository)
    scripts = {path.stem for path in (repository / "benchmarks").glob("[a-z]*.py")} - {"docs"}
    page = (repository / PAGE).read_text()
    blocks = [name for name, _ in _BLOCK.findall(page)]
    messages = [f"{PAGE}: expected one block of results of each of {sorted(scripts)}, found {blocks}"]
    if sorted(blocks) == sorted(scripts):
        messages.clear()
    messages += [f"benchmarks/results/{name}.json: there is no such benchmark" for name in set(results) - scripts]
    if rewrite(page, results) != page:
        messages.append(f"{PAGE}: a table is not that of benchmarks/results; run `python benchmarks/docs.py`")
    for path in [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]:
        messages += strays(path.relative_to(repository), path.read_text(), results)
    return messages


def load(repository: Path) -> dict[str, Any]:
    """The JSON of the recorded benchmarks, by name."""
    paths = sorted((repository / "benchmarks/results").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _run(moment: str, run: Mapping[str, Any], sections: Mapping[str, Any]) -> str:
    """A paragraph that says how a run was made, and the table of its sections that are still its."""
    machine, settings = run["machine"], run["settings"]
    start, end = machine["load"]
    lines = [
        f"Recorded at {moment} UTC ({', '.join(sections)}): {machine['cores']} cores, {machine['cpu']}, "
        f"{machine['memory'] / 2**30:.0f} GiB, {machine['kernel']}, governor {machine['governor']}, load average "
        f"{start:.1f} before and {end:.1f} after; Python {machine['python']}, "
        f"{', '.join(f'{name} {version}' for name, version in machine['versions'].items())}. "
        f"{', '.join(f'`--{name} {value}`' for name, value in settings.items())}.",
        *(f"{note[0].upper()}{note[1:]}." for note in run["notes"]),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    lines += [f"| {' | '.join(_escaped(cell) for cell in cells(row))} |" for rows in sections.values() for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _escaped(cell: str) -> str:
    return cell.strip().replace("|", "\\|")


def _strays(path: Path, text: str, known: set[str], where: str) -> Iterator[str]:
    for figure in sorted(_figures(text) - known):
        yield f"{path}: {figure!r} is not in {where}, in: {' '.join(text.split())[:120]!r}"


def _figures(text: str) -> set[str]:
    """The numbers of a text, with their units."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", text, flags=re.DOTALL)
    return {" ".join(figure.split()) for figure in _FIGURE.findall(text)}


def _sentences(text: str) -> list[str]:
    """The sentences of a page, lists and tables line by line, without its code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.) )", text)
    return [sentence for part in parts for sentence in re.split(r"(?<=[.!?;])\s+", part)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args().check:
        page = REPOSITORY / PAGE
        page.write_text(rewrite(page.read_text(), load(REPOSITORY)))
    if messages := problems(REPOSITORY):
        sys.exit("\n".join(messages))


if __name__ == "__main__":
    main()
