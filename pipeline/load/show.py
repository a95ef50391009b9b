"""A dataset in words: for terminals and notebooks."""

import html as escaping
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dataset import Dataset


def text(dataset: "Dataset") -> str:
    """Several lines of plain text."""
    lines = [f"Dataset({dataset.uri!r}), generation {dataset.generation}"]
    for title, rows in _tables(dataset):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines.append(f"  {title}")
        lines.extend(
            "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
    return "\n".join(lines)


def html(dataset: "Dataset") -> str:
    """Tables, for a notebook."""
    parts = [f"<b>{escaping.escape(dataset.uri)}</b> generation {dataset.generation}"]
    for title, rows in _tables(dataset):
        body = "".join(f"<tr>{''.join(f'<td>{escaping.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        parts.append(f"<table><caption>{title}</caption>{body}</table>")
    return "".join(parts)


def _tables(dataset: "Dataset") -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    yield (
        "splits",
        [
            (name, f"{split.examples} examples", f"{split.shards} shards", f"{split.bytes / 1e6:.1f} MB")
            for name, split in dataset.splits.items()
        ],
    )
    yield (
        "stored features",
        [
            (name, f"{feature.dtype} {list(feature.shape)}", feature.encoding or feature.kind)
            for name, feature in dataset.features.items()
        ],
    )
    outputs = dataset.manifest["transform_graph"]["outputs"]
    yield "transform graph's outputs", [(name, entry["dtype"]) for name, entry in sorted(outputs.items())]
