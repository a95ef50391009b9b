"""A dataset in words, and in a notebook with a few of its images."""

import base64
import html as escaping
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..formats.features import IMAGE, LABEL, MASK, Feature
from ..formats.manifest import LIMIT, Manifest
from ..formats.printable import printable

_THUMBNAIL = 96  # pixels of its longer side
_OPACITY = 0.4  # of a mask's classes over their image
_COLORS = np.array(  # of classes 1, 2, ...: Okabe and Ito's, which the colour-blind can tell apart
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)], float
)
_SHOWN = 5  # warnings
_LABELS = 8


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


def html(uri: str, manifest: Manifest, statistics: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> str:
    """Tables and images, for a notebook.

    Args:
      uri: The dataset's folder.
      manifest: The dataset's manifest.
      statistics: The content of statistics.json; empty where it cannot be read.
      examples: A few stored examples, decoded; none where these cannot be read, or have no images.
    """
    parts = [f"<b>{_escape(uri)}</b> generation {manifest.generation}"]
    if LIMIT in manifest.origin.options:
        parts.append(f", limited to {_escape(str(manifest.origin.options[LIMIT]))} examples")
    parts += [_figure(example, manifest.features) for example in examples]
    for title, rows in [*_tables(manifest), *_statistics_tables(statistics)]:
        body = "".join(f"<tr>{''.join(f'<td>{_escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        parts.append(f"<table><caption>{title}</caption>{body}</table>")
    lost = [f"{count} {reason}" for reason, count in manifest.reasons.quarantined.items()]
    if lost:
        parts.append(f"<p>quarantined: {_escape(', '.join(lost))}</p>")
    parts += [f"<p>warning: {_escape(warning)}</p>" for warning in manifest.warnings[:_SHOWN]]
    if len(manifest.warnings) > _SHOWN:
        parts.append(f"<p>and {len(manifest.warnings) - _SHOWN} more warnings</p>")
    return "".join(parts)


def _escape(words: str) -> str:
    return escaping.escape(str(printable(words)))


def _figure(example: Mapping[str, Any], features: Mapping[str, Feature]) -> str:
    """An image with its mask over it, and its label or key below."""
    image = thumbnail(example[IMAGE], example.get(MASK) if MASK in features else None)
    name = example.get(LABEL, example.get("key", b""))
    caption = _escape(name.decode(errors="replace") if isinstance(name, bytes) else str(name))
    data = base64.b64encode(image).decode()
    return (
        '<figure style="display:inline-block;margin:4px;text-align:center">'
        f'<img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def thumbnail(pixels: np.ndarray, mask: np.ndarray | None = None) -> bytes:
    """A small PNG of an image.

    Args:
      pixels: uint8 or uint16 [height, width, channels]; of other numbers of channels than 3 the first is shown.
      mask: Classes [height, width, 1], of which all but 0 are laid over the image; None, or another size: none are.
    """
    values = pixels >> 8 if pixels.dtype == np.uint16 else pixels
    if values.shape[2] != 3:
        values = np.repeat(values[:, :, :1], 3, axis=2)
    if mask is not None and mask.shape[:2] == values.shape[:2]:
        classes = mask[:, :, 0].astype(int)
        laid_over = (1 - _OPACITY) * values + _OPACITY * _COLORS[(classes - 1) % len(_COLORS)]
        values = np.where(classes[:, :, np.newaxis] > 0, laid_over, values)
    image = Image.fromarray(values.astype(np.uint8))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _statistics_tables(statistics: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """What statistics.json says of each feature, and the labels of each split."""
    rows: list[tuple[str, ...]] = []
    for name, entry in statistics.get("features", {}).items():
        words = [
            f"{each} {_numbers(entry[each])}" for each in ("mean", "std", "min", "max", "distinct") if each in entry
        ]
        if words:
            rows.append((name, ", ".join(words)))
    if rows:
        yield f"statistics of {_escape(str(statistics['split']))}", rows
    labels: list[tuple[str, ...]] = []
    for split, counts in statistics.get("labels", {}).items():
        most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        more = f", and {len(most) - _LABELS} more" if len(most) > _LABELS else ""
        labels.append((split, ", ".join(f"{label} {count:,}" for label, count in most[:_LABELS]) + more))
    if labels:
        yield "labels", labels


def _numbers(value: Any) -> str:
    return " ".join(f"{each:.4g}" for each in value) if isinstance(value, list) else f"{value:.6g}"


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
