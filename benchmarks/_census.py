"""The census data of the benchmark. As a script: the same statistics with pyarrow alone, the upper limit of the rate.

Usage: _census.py FILE   reads a file, CSV or Parquet, and computes the statistics that examples/census.py asks for
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
FILE, PARQUET = "adult.data", "adult.parquet"
ROWS = 32_561


def write(source: Path, copies: int, folder: Path) -> None:
    """Writes `copies` copies of the rows below one header, as CSV and as Parquet."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    header, _, rows = (source / FILE).read_bytes().partition(b"\n")
    rows = rows.rstrip(b"\n") + b"\n"
    folder.mkdir(parents=True)
    with (folder / FILE).open("wb") as file:
        file.write(header + b"\n")
        for _ in range(copies):
            file.write(rows)
    table = read(str(folder / FILE))
    for number, name in enumerate(table.column_names):
        if name not in NUMBERS:
            table = table.set_column(number, name, pc.utf8_trim_whitespace(table[name]))
    pq.write_table(table, folder / PARQUET)


def read(path: str) -> Any:
    """The columns that the features need, of a CSV or a Parquet file: a pyarrow.Table."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    types = {**dict.fromkeys(NUMBERS, pa.int64()), **dict.fromkeys((*CATEGORIES, LABEL), pa.string())}
    if path.endswith(PARQUET):
        return pyarrow.parquet.read_table(path, columns=list(types))
    options = pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["?", " ?"], strings_can_be_null=True
    )
    return pyarrow.csv.read_csv(
        path, pyarrow.csv.ReadOptions(column_names=list(NAMES), skip_rows=1), convert_options=options
    )


def summarize(path: str) -> dict[str, Any]:
    """Returns counts of every category, moments of every number and quantiles of the age."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read(path)
    statistics: dict[str, Any] = {}
    for name in NUMBERS:
        column = table[name].cast(pa.float64())
        statistics[name] = (pc.mean(column).as_py(), pc.stddev(column).as_py(), pc.min_max(column).as_py())
    for name in (*CATEGORIES, LABEL):
        statistics[name] = table[name].value_counts().to_pylist()
    statistics["age-bucket"] = pc.tdigest(table["age"], q=[at / 10 for at in range(1, 10)]).to_pylist()
    return statistics


if __name__ == "__main__":
    summarize(sys.argv[1])
