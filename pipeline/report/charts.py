"""Charts as SVG in the page, drawn by Vega-Lite. They have no colours of their own: style.css gives them the page's."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from .markup import Html, element

_BINS = 24
_WIDTH, _HEIGHT = 260, 80  # pixels of what is drawn, without the axes
_FONT = "system-ui, sans-serif"


def histogram(values: npt.NDArray[Any], description: str, bins: int = _BINS) -> Html:
    """A histogram of finite numbers.

    Args:
      values: [values], at least one.
      description: What a screen reader says.
      bins: How many bars at most.
    """
    counts, edges = bin_values(values, bins)
    points = [{"a": float(edge), "n": int(count)} for edge, count in zip(edges, [*counts, counts[-1]], strict=True)]
    mark = {"type": "area", "interpolate": "step-after"}
    return _draw(points, mark, ("a", "n"), description, {"domain": [float(edges[0]), float(edges[-1])], "nice": False})


def bin_values(values: npt.NDArray[Any], bins: int = _BINS) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Counts of values in equal steps, and the edges of these; of few different integers each has its own.

    Args:
      values: As for `histogram`.
      bins: How many steps at most.

    Returns:
      int64 [steps], float64 [steps + 1].
    """
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if values.dtype.kind in "iub" and high - low < bins:
        edges = np.arange(low, high + 2) - 0.5
    else:
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts, edges = np.histogram(numbers, edges)
    return counts.astype(np.int64), edges


def scatter(xs: Sequence[float], ys: Sequence[float], description: str) -> Html:
    """Points by two numbers."""
    points = [{"a": x, "n": y} for x, y in zip(xs, ys, strict=True)]
    return _draw(points, {"type": "circle", "size": 18, "opacity": 0.6}, ("a", "n"), description, {"zero": False})


def _draw(
    points: list[dict[str, float]],
    mark: dict[str, Any],
    names: tuple[str, str],
    description: str,
    scale: dict[str, Any],
) -> Html:
    """A chart of points with two axes."""
    axis = {"aria": False, "grid": False, "labelFontSize": 11, "labelFlush": True}
    largest = max(abs(point[names[0]]) for point in points)
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": _WIDTH,
        "height": _HEIGHT,
        "data": {"values": points},
        "mark": {**mark, "aria": False, "color": "#123456"},
        "encoding": {
            "x": {
                "field": names[0],
                "type": "quantitative",
                "title": None,
                "scale": scale,
                "axis": {**axis, "tickCount": 5, "format": "~s" if largest >= 1000 else "~r"},
            },
            "y": {
                "field": names[1],
                "type": "quantitative",
                "title": None,
                "axis": {**axis, "tickCount": 3, "format": "~s", "domain": False, "ticks": False},
            },
        },
        "config": {"view": {"stroke": None}, "background": None, "font": _FONT},
    }
    return _to_html(_render(spec), description)


def _render(spec: dict[str, Any]) -> str:
    try:
        import vl_convert  # 85 MB, and half a second
    except ModuleNotFoundError as error:
        raise RequestError(
            "penstock report: expected vl-convert-python, which draws its charts, found it not installed; "
            "pip install 'penstock[report]'"
        ) from error
    drawn: str = vl_convert.vegalite_to_svg(spec)
    return drawn


def _to_html(drawn: str, description: str) -> Html:
    """A drawing as an element of the page, named for screen readers, without what a page of its own would need."""
    match = re.fullmatch(r'<svg [^>]*viewBox="([^"]*)">(.*)</svg>', drawn, re.DOTALL)
    assert match, "vl-convert draws another SVG than it did"
    content = re.sub(r' (?:role|pointer-events|opacity|aria-[a-z]+)="[^"]*"', "", match[2])
    width, height = match[1].split()[2:]
    return element(
        "svg", Html(content), viewBox=match[1], width=width, height=height, role="img", aria_label=description,
        class_="chart",
    )  # fmt: skip
