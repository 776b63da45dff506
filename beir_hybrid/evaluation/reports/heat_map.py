"""A measure by question language and passage language, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Matrix = npt.NDArray[np.float64]


def draw(results: Results | Sequence[Results], path: Path | str, measure: str = "AP") -> None:
    """Draw a measure by question language and passage language, as a PNG; the same figures give the same bytes.

    The diagonal is the mono settings, the rest the cross settings. Two results share one colour scale and have a third
    panel for the difference.

    Raises:
        BeirHybridError: more than two results, or no such figures.
    """
    shown = [results] if isinstance(results, Results) else list(results)
    if len(shown) not in (1, 2):
        raise BeirHybridError(f"a heat map shows one or two systems; found {len(shown)}. Draw each pair by itself.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    found = [cells(one, measure) for one in shown]
    if not all(found):
        raise BeirHybridError(f"no mono or cross figures of {measure!r} to draw; evaluate those settings with it.")
    languages = _languages(shown, found)
    grids = [_matrix(one, languages) for one in found]
    panels = len(grids) + (len(grids) == 2)
    side = max(3.6, 0.44 * len(languages) + 0.9)
    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1, wspace=0.02)
    canvas = Canvas(figsize=(panels * (side + 1.1), side + 0.85), dpi=144, layout=layout, facecolor="white")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(1, panels, squeeze=False)[0]
    low, high = _limits(grids)
    for axis, one, grid in zip(axes, shown, grids, strict=False):
        _panel(canvas, axis, grid, languages, one.label, "YlGnBu", (low, high), measure, _short)
    if len(grids) == 2:
        change = grids[1] - grids[0]
        known = change[np.isfinite(change)]
        title = f"difference, mean {_signed(float(known.mean()))}" if len(known) else "difference"
        # Wider than the values, which keeps off the darkest colours: the numbers stay easy to read.
        widest = 1.35 * max(0.05, float(np.abs(known).max(initial=0.0)))
        _panel(canvas, axes[2], change, languages, title, "RdBu", (-widest, widest), f"change in {measure}", _signed)
    canvas.suptitle(f"{shown[0].collection}: {measure} by question and passage language", fontsize=14)
    with atomic_file(Path(path)) as temporary:
        # No software version in the file, so that an upgrade alone does not change its bytes.
        canvas.savefig(temporary, format="png", metadata={"Software": None})


def _panel(
    canvas: Canvas,
    axis: Axes,
    grid: Matrix,
    languages: Sequence[str],
    title: str,
    colours: str,
    limits: tuple[float, float],
    scale: str,
    written: Any,
) -> None:
    image = axis.imshow(grid, cmap=colours, vmin=limits[0], vmax=limits[1])
    places = np.arange(len(languages))
    axis.set_xticks(places, languages, fontsize=10)
    axis.set_yticks(places, languages, fontsize=10)
    axis.set_xticks(places[1:] - 0.5, minor=True)
    axis.set_yticks(places[1:] - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("passage language", fontsize=10, labelpad=6)
    axis.set_ylabel("question language", fontsize=10, labelpad=6)
    axis.set_title(title, fontsize=11, pad=8, wrap=True)
    for row, column in np.argwhere(np.isfinite(grid)):
        dark = _luminance(np.ravel(image.cmap(image.norm(grid[row, column])))) < 0.22
        axis.text(
            column,
            row,
            written(float(grid[row, column])),
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if dark else "#1a1a1a",
            fontweight="bold" if row == column else "normal",
        )
    bar = canvas.colorbar(image, ax=axis, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=9)
    bar.set_label(scale, fontsize=9)


def _luminance(colour: npt.NDArray[Any]) -> float:
    """Relative luminance in 0..1 of an sRGB colour, as the WCAG define contrast on it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def _limits(grids: Sequence[Matrix]) -> tuple[float, float]:
    """The common scale: the values' range, widened to twentieths."""
    low = np.floor(min(np.nanmin(grid) for grid in grids) * 20) / 20
    high = np.ceil(max(np.nanmax(grid) for grid in grids) * 20) / 20
    return float(low), float(max(high, low + 0.05))


def cells(results: Results, measure: str) -> dict[tuple[str, str], float]:
    """Values by question language and passage language."""
    values = {}
    for figure in results.select(measure=measure, average=""):
        kind, _, languages = figure.setting.removeprefix(f"{figure.collection}/").partition("/")
        if kind == "mono":
            values[languages, languages] = figure.value
        elif kind == "cross":
            # A code may hold a hyphen (zh-Hant); the question's is known, so the rest is the passage's.
            values[figure.query_language, languages.removeprefix(f"{figure.query_language}-")] = figure.value
    return values


def _languages(results: Sequence[Results], cells: Sequence[Mapping[tuple[str, str], float]]) -> list[str]:
    """The languages that have a cell, in the collection's order where it is known."""
    found = {language for one in cells for pair in one for language in pair}
    order = [language for one in results for language in one.provenance.get("languages", [])]
    return [language for language in dict.fromkeys([*order, *sorted(found)]) if language in found]


def _matrix(cells: Mapping[tuple[str, str], float], languages: Sequence[str]) -> Matrix:
    rows = [[cells.get((asked, found), np.nan) for found in languages] for asked in languages]
    return np.array(rows, dtype=np.float64)


def _short(value: float) -> str:
    """Two digits without the zero before the point, as tables of such figures print them."""
    return f"{value:.2f}".removeprefix("0")


def _signed(value: float) -> str:
    text = f"{abs(value):.2f}".removeprefix("0")
    if text == ".00":
        return text
    return ("+" if value > 0 else "\u2212") + text
