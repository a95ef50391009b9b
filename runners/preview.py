"""Shows a few examples raw, prepared and transformed, before any run: in Python and in notebooks."""

import base64
import html
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..pipeline.commit.examples import read_lines
from ..pipeline.formats.printable import printable
from ..pipeline.load import open_dataset
from ..pipeline.load.show import thumbnail
from ..pipeline.planned_run import RunRequest
from ..pipeline.planning.plan import make_plan
from ..pipeline.planning.recipe import LoadedRecipe, Recipe, load_recipe
from ..pipeline.prepare.images import ImagePreparer
from ..pipeline.prepare.payloads import read_payloads
from ..pipeline.prepare.preparer import StatisticsSpec
from ..pipeline.prepare.tables import TablePreparer
from ..pipeline.storage import files
from ..transforms.outcome import Rejected
from .run import run

_SPLIT = "train"


@dataclass(frozen=True, repr=False)
class Preview:
    """A few examples at each stage.

    Attributes:
      raw: As the source gives them: feature or column to value; images decoded, [height, width, channels].
      prepared: As a shard would have them.
      transformed: As `features` gives them, with the statistics and vocabularies of these few examples alone.
      quarantined: What is wrong with those that could not be prepared, as a quarantine file says it.
    """

    raw: Sequence[Mapping[str, Any]]
    prepared: Sequence[Mapping[str, Any]]
    transformed: Sequence[Mapping[str, Any]]
    quarantined: Sequence[Mapping[str, Any]]

    def __repr__(self) -> str:
        lost = "".join(f"\n  quarantined {each['key']}: {each['code']}: {each['message']}" for each in self.quarantined)
        words = f"Preview({len(self.raw)} raw, {len(self.prepared)} prepared; statistics of these alone){lost}"
        return str(printable(words))

    def _repr_html_(self) -> str:
        parts = []
        for title, examples in (
            ("raw", self.raw),
            ("prepared", self.prepared),
            ("transformed, with the statistics of these examples alone", self.transformed),
        ):
            names = list(dict.fromkeys(name for example in examples for name in example))
            head = "".join(f"<th>{_escape(name)}</th>" for name in names)
            rows = ["".join(f"<td>{_cell(name, each)}</td>" for name in names) for each in examples]
            body = "".join(f"<tr>{row}</tr>" for row in rows)
            parts.append(f"<table><caption>{title}</caption><tr>{head}</tr>{body}</table>")
        lost = [f"{each['key']}: {each['code']}: {each['message']}" for each in self.quarantined]
        return "".join([*parts, *(f"<p>quarantined {_escape(words)}</p>" for words in lost)])


def preview(recipe: Recipe | str, source: str, n: int = 8) -> Preview:
    """Takes n examples from all over the input through `prepare` and `features`; keeps nothing of it.

    Args:
      recipe: A recipe, or where one is, as for `penstock run`.
      source: The input folder.
      n: How many examples.

    Raises:
      RequestError: the recipe does not fit the input, or none of the examples can be prepared.
    """
    if isinstance(recipe, str):
        loaded = load_recipe(recipe)
    else:
        new = uuid.uuid4().hex
        loaded = LoadedRecipe(recipe, "preview", new, new, new)
    whole = replace(loaded.recipe, splits={_SPLIT: 1.0}, statistics=_SPLIT, shards=1)
    raw = _raw(whole, source, n)
    with tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True) as folder:
        output = files.join(folder, "preview")
        request = RunRequest(replace(loaded, recipe=whole), source, output, max_quarantined="100%", limit=n)
        manifest = run(request).manifest
        dataset = open_dataset(output)
        return Preview(
            raw,
            dataset.examples(_SPLIT, n),
            list(dataset.source(_SPLIT, features=True)[:]),
            list(read_lines(output, manifest.quarantine)),
        )


def _raw(recipe: Recipe, source: str, n: int) -> list[dict[str, Any]]:
    """What the source gives of the examples, before `prepare`; without those that cannot be read."""
    plan = make_plan(recipe, files.absolute(source), threads=1, limit=n)
    preparer = plan.preparer(StatisticsSpec(_SPLIT, (), ()))
    examples: list[dict[str, Any]] = []
    for _, pieces in plan.units:
        for piece in pieces:
            if isinstance(preparer, TablePreparer):
                examples += [row for part in preparer.read(piece) for row in part.batch.to_pylist()]
            elif isinstance(preparer, ImagePreparer):
                try:
                    payloads = read_payloads(piece, preparer.steps.max_bytes)
                    example = {"key": piece.key, "image": _pixels(preparer.decode(payloads.image))}
                except (Rejected, OSError):  # the quarantine tells of it
                    continue
                label = {} if piece.label is None else {"label": piece.label}
                examples.append(example | label | (piece.columns or {}))
    return examples


def _pixels(image: Any) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _cell(name: str, example: Mapping[str, Any]) -> str:
    """A value in a table: images as pictures, with the mask over them where there is one."""
    value = example.get(name)
    if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] in (1, 3, 4):
        mask = example.get("mask") if name == "image" else None
        mask = mask if isinstance(mask, np.ndarray) and mask.ndim == 3 else None
        data = base64.b64encode(thumbnail(_to_bytes(value), mask)).decode()
        return f'<img alt="{_escape(name)}" src="data:image/png;base64,{data}">'
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    words = str(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
    return _escape(words if len(words) <= 80 else f"{words[:80]}…")


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels that can be shown: floats, and integers that are no pixels, are brought to 0 to 255."""
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    values = np.nan_to_num(pixels.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def _escape(words: str) -> str:
    return html.escape(str(printable(words)))
