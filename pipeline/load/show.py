"""A dataset in words: for terminals and notebooks."""

import html as escaping
from collections.abc import Iterator

from ..formats.manifest import Manifest
from ..formats.printable import printable


def text(uri: str, manifest: Manifest) -> str:
    """Several lines of plain text.

    Args:
      uri: The dataset's folder.
      manifest: The dataset's manifest.
    """
    lines = [f"Dataset({uri!r}), generation {manifest.generation}"]
    for title, rows in _tables(manifest):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines.append(f"  {title}")
        lines.extend(
            "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
    return str(printable("\n".join(lines)))


def html(uri: str, manifest: Manifest) -> str:
    """Tables, for a notebook; the arguments are those of `text`."""
    parts = [f"<b>{escaping.escape(uri)}</b> generation {manifest.generation}"]
    for title, rows in _tables(manifest):
        body = "".join(f"<tr>{''.join(f'<td>{escaping.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        parts.append(f"<table><caption>{title}</caption>{body}</table>")
    return "".join(parts)


def _tables(manifest: Manifest) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Title and rows of each table: splits, stored features, and the outputs of the transform graph."""
    yield (
        "splits",
        [
            (name, f"{split.examples} examples", f"{len(split.shards)} shards", f"{split.bytes / 1e6:.1f} MB")
            for name, split in manifest.splits.items()
        ],
    )
    yield (
        "stored features",
        [
            (name, f"{feature.dtype} {list(feature.shape)}", feature.encoding or feature.kind)
            for name, feature in manifest.features.items()
        ],
    )
    yield "transform graph's outputs", sorted(manifest.transform_graph.outputs.items())
