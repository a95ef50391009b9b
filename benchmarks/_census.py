"""The census for the benchmark: its columns, and the file replicated. Run as a script, pyarrow's part: the limit.

Usage: _census.py FOLDER   reads the file and computes what examples/census.py asks for, with pyarrow and nothing else
"""

import sys
from pathlib import Path
from typing import Any

NAMES = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "classification",
)  # fmt: skip
NUMBERS = ("age", "capital-gain", "capital-loss", "hours-per-week")
CATEGORIES = (
    "workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country",
)  # fmt: skip
LABEL = "classification"
FILE = "adult.data"
ROWS = 32_561


def write(source: Path, copies: int, folder: Path) -> None:
    """Writes the file so many times, after one header."""
    header, _, rows = (source / FILE).read_bytes().partition(b"\n")
    rows = rows.rstrip(b"\n") + b"\n"
    folder.mkdir(parents=True)
    with (folder / FILE).open("wb") as file:
        file.write(header + b"\n")
        for _ in range(copies):
            file.write(rows)


def summarize(path: str) -> dict[str, Any]:
    """Counts of every category, moments of every number, quantiles of the age."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    types = {**dict.fromkeys(NUMBERS, pa.int64()), **dict.fromkeys((*CATEGORIES, LABEL), pa.string())}
    options = pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["?", " ?"], strings_can_be_null=True
    )
    read = pyarrow.csv.ReadOptions(column_names=list(NAMES), skip_rows=1)
    found: dict[str, Any] = {}
    table = pyarrow.csv.read_csv(path, read, convert_options=options)
    for name in NUMBERS:
        column = table[name].cast(pa.float64())
        found[name] = (pc.mean(column).as_py(), pc.stddev(column).as_py(), pc.min_max(column).as_py())
    for name in (*CATEGORIES, LABEL):
        found[name] = table[name].value_counts().to_pylist()
    found["age-bucket"] = pc.tdigest(table["age"], q=[at / 10 for at in range(1, 10)]).to_pylist()
    return found


if __name__ == "__main__":
    summarize(f"{sys.argv[1]}/{FILE}")
