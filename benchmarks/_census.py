"""The census data of the benchmark. As a script: the same statistics with pyarrow alone, the upper limit of the rate.

Usage: _census.py FOLDER   reads the file and computes the statistics that examples/census.py asks for
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
    """Writes `copies` copies of the rows below one header."""
    header, _, rows = (source / FILE).read_bytes().partition(b"\n")
    rows = rows.rstrip(b"\n") + b"\n"
    folder.mkdir(parents=True)
    with (folder / FILE).open("wb") as file:
        file.write(header + b"\n")
        for _ in range(copies):
            file.write(rows)


def summarize(path: str) -> dict[str, Any]:
    """Returns counts of every category, moments of every number and quantiles of the age."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    types = {**dict.fromkeys(NUMBERS, pa.int64()), **dict.fromkeys((*CATEGORIES, LABEL), pa.string())}
    options = pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["?", " ?"], strings_can_be_null=True
    )
    read = pyarrow.csv.ReadOptions(column_names=list(NAMES), skip_rows=1)
    statistics: dict[str, Any] = {}
    table = pyarrow.csv.read_csv(path, read, convert_options=options)
    for name in NUMBERS:
        column = table[name].cast(pa.float64())
        statistics[name] = (pc.mean(column).as_py(), pc.stddev(column).as_py(), pc.min_max(column).as_py())
    for name in (*CATEGORIES, LABEL):
        statistics[name] = table[name].value_counts().to_pylist()
    statistics["age-bucket"] = pc.tdigest(table["age"], q=[at / 10 for at in range(1, 10)]).to_pylist()
    return statistics


if __name__ == "__main__":
    summarize(f"{sys.argv[1]}/{FILE}")
