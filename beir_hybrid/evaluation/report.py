"""Results as people read them: a table for the terminal, Markdown for a paper, a heat map of the languages."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import KINDS
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.figures import Results, combine
from beir_hybrid.files import atomic_file, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Matrix = npt.NDArray[np.float64]

_LOWER_IS_BETTER = "RankDistance"
_NONE = "–"
_KIND_WORDS = {
    "mono": "question and passages in one language",
    "cross": "passages in one other language",
    "multi": "passages of all languages in one pool",
}


@dataclass(frozen=True)
class Table:
    """A title, a heading and rows of text; the first column holds names, the others numbers."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As GitHub Markdown."""
        lines = [self.heading, ("---", *["---:"] * (len(self.heading) - 1)), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def text(self) -> str:
        """As aligned columns, by rich where it is installed."""
        try:
            return self._rich()
        except ImportError:
            return self.plain()

    def plain(self) -> str:
        """As aligned columns, with nothing installed."""
        widths = [max(map(len, column)) for column in zip(self.heading, *self.rows, strict=True)]

        def line(cells: Sequence[str]) -> str:
            first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            numbers = [cell.strip().rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            return "  ".join([first, *numbers]).rstrip()

        rule = "  ".join("-" * width for width in widths)
        return "\n".join([self.title, "", line(self.heading), rule, *map(line, self.rows), ""])

    def _rich(self) -> str:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(self.title), title_justify="left", box=box.SIMPLE_HEAD)
        for number, name in enumerate(self.heading):
            table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(Text, row))
        # As wide as it needs to be: a narrow terminal wraps a line, rich would cut the numbers.
        console = Console(file=(buffer := io.StringIO()), width=1000, color_system=None)
        console.print(table)
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def summary_table(results: Sequence[Results], *, micro: bool = False, plain: bool = False) -> str:
    """One row a system, one column a kind of setting and measure; for two systems also the difference.

    Args:
        results: One for each system; those of one collection share a table.
        micro: Also the means over questions, below the means over settings (macro).
        plain: Leave rich aside.

    Raises:
        BeirHybridError: there are no results.
    """
    tables = [
        summary(group, average) for group in _by_collection(results) for average in ("macro", "micro")[: 1 + micro]
    ]
    return "\n".join(table.plain() if plain else table.text() for table in tables)


def summary(results: Sequence[Results], average: str = "macro") -> Table:
    """The table of `summary_table` for systems measured on one collection."""
    columns = _columns(results)
    numbers = [[_average(one, kind, measure, average) for kind, measure in columns] for one in results]
    measures = [measure for _, measure in columns]
    rows = [(one.label, *map(_number, row, measures)) for one, row in zip(results, numbers, strict=True)]
    if len(results) == 2:
        rows.append(("difference", *map(_difference, *numbers, measures)))
    heading = ("system", *(f"{kind} {_measure(measure)}" for kind, measure in columns))
    over = "settings" if average == "macro" else "questions"
    return Table(f"{results[0].collection}, mean over {over} ({average})", heading, tuple(rows))


def by_language(results: Sequence[Results], kind: str, measure: str) -> Table:
    """One row a system, one column a question language; a cross figure is the mean over the passage languages."""
    average = "macro" if kind == "cross" else ""
    found = [
        {
            figure.query_language: figure.value
            for figure in one.select(measure=measure, average=average)
            if figure.query_language and figure.setting.removeprefix(f"{figure.collection}/").split("/")[0] == kind
        }
        for one in results
    ]
    languages = sorted({language for values in found for language in values})
    rows = []
    for one, values in zip(results, found, strict=True):
        whole = _average(one, kind, measure, "macro")
        numbers = [*(values.get(language) for language in languages), whole]
        rows.append((one.label, *(_number(value, measure) for value in numbers)))
    title = f"{kind} ({_KIND_WORDS[kind]}), {_measure(measure)}, by question language"
    return Table(title, ("system", *languages, "mean"), tuple(rows))


def markdown(results: Sequence[Results], *, heat_map: str | None = None) -> str:
    """A report as GitHub Markdown: summaries, tables by language, the data, the systems, how to reproduce it.

    Args:
        heat_map: The path of the heat map, as the report should link it.

    Raises:
        BeirHybridError: there are no results.
    """
    parts = [
        "# " + ", ".join(dict.fromkeys(one.collection for one in results)) + ": retrieval in every language setting"
    ]
    parts.append(
        "mono: question and passages in one language. cross: passages in one other language. multi: passages of all "
        "languages in one pool. Macro is the mean over settings, micro the mean over questions. ↓: lower is better "
        "(RankDistance, how many ranks lie between the first and the last translation of an answer). Rankings are "
        "exact and of full depth; ties go to the larger passage id, as in trec_eval."
    )
    for group in _by_collection(results):
        parts.append(f"## {group[0].collection}")
        for average in ("macro", "micro"):
            table = summary(group, average)
            parts += [f"**{table.title}**", table.markdown()]
        if heat_map and len(results) == len(group):
            parts.append(f"![AP by question language and passage language]({heat_map})")
        for kind, measure in _columns(group):
            table = by_language(group, kind, measure)
            if len(table.heading) > 2:
                parts += [f"**{table.title}**", table.markdown()]
        parts += ["### Data", _data_words(group[0].provenance)]
    parts += ["## Systems", *(_system_words(one) for one in results)]
    parts += ["## To reproduce", _reproduce_words(results)]
    return "\n\n".join(parts) + "\n"


def write_report(results: Sequence[Results], folder: Path | str) -> list[Path]:
    """Write `results.json`, `report.md` and `heatmap.png` to `folder`, each whole or not at all; return their paths.

    The heat map is of the first one or two systems, and is left out where they have no mono or cross settings.

    Raises:
        BeirHybridError: there are no results, or the folder cannot be written.
    """
    _by_collection(results)
    folder = Path(folder)
    shown = [one for one in results if one.collection == results[0].collection][:2]
    drawn = all(_cells(one, "AP") for one in shown)
    paths = [folder / "results.json", folder / "report.md"]
    combine(results).write_json(paths[0])
    if drawn:
        paths.append(folder / "heatmap.png")
        heat_map(shown, paths[2])
    write_text(paths[1], markdown(results, heat_map="heatmap.png" if drawn else None))
    return paths


def heat_map(results: Results | Sequence[Results], path: Path | str, measure: str = "AP") -> None:
    """Draw a measure by question language and passage language, as a PNG; the same figures give the same bytes.

    The diagonal is the mono settings, the rest the cross settings. Two results share one colour scale and have a third
    panel for the difference.

    Raises:
        BeirHybridError: more than two results, no such figures, or matplotlib is missing.
    """
    shown = [results] if isinstance(results, Results) else list(results)
    if len(shown) not in (1, 2):
        raise BeirHybridError(f"a heat map shows one or two systems; found {len(shown)}. Draw each pair by itself.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise BeirHybridError("a heat map needs matplotlib: pip install matplotlib.") from None
    cells = [_cells(one, measure) for one in shown]
    if not all(cells):
        raise BeirHybridError(f"no mono or cross figures of {measure!r} to draw; evaluate those settings with it.")
    languages = _languages(shown, cells)
    grids = [_matrix(one, languages) for one in cells]
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


def _cells(results: Results, measure: str) -> dict[tuple[str, str], float]:
    """Values by question language and passage language."""
    cells = {}
    for figure in results.select(measure=measure, average=""):
        kind, _, languages = figure.setting.removeprefix(f"{figure.collection}/").partition("/")
        if kind == "mono":
            cells[languages, languages] = figure.value
        elif kind == "cross":
            # A code may hold a hyphen (zh-Hant); the question's is known, so the rest is the passage's.
            cells[figure.query_language, languages.removeprefix(f"{figure.query_language}-")] = figure.value
    return cells


def _languages(results: Sequence[Results], cells: Sequence[Mapping[tuple[str, str], float]]) -> list[str]:
    """The languages that have a cell, in the collection's order where it is known."""
    found = {language for one in cells for pair in one for language in pair}
    order = [language for one in results for language in one.provenance.get("languages", [])]
    return [language for language in dict.fromkeys([*order, *sorted(found)]) if language in found]


def _matrix(cells: Mapping[tuple[str, str], float], languages: Sequence[str]) -> Matrix:
    rows = [[cells.get((asked, found), np.nan) for found in languages] for asked in languages]
    return np.array(rows, dtype=np.float64)


def _by_collection(results: Sequence[Results]) -> list[list[Results]]:
    if not results:
        raise BeirHybridError("there are no results to report; evaluate a system first.")
    groups: dict[str, list[Results]] = {}
    for one in results:
        group = groups.setdefault(one.collection, [])
        group.append(one)
        _check_comparable(group[0], one)
    return list(groups.values())


def _check_comparable(one: Results, other: Results) -> None:
    for name in ("text_mode", "digest"):
        first, second = one.provenance.get(name), other.provenance.get(name)
        if first is not None and second is not None and first != second:
            raise BeirHybridError(
                f"{one.label} and {other.label} were measured on different data called {one.collection} ({name} "
                f"{first} and {second}), so their figures do not compare. Evaluate both on the same data."
            )


def _columns(results: Sequence[Results]) -> list[tuple[str, str]]:
    """(kind, measure) of every figure, in the order of the kinds and of first appearance."""
    found = dict.fromkeys(
        (figure.setting.removeprefix(f"{figure.collection}/").split("/")[0], figure.measure)
        for one in results
        for figure in one.figures
    )
    return [(kind, measure) for kind in KINDS for other, measure in found if other == kind]


def _average(results: Results, kind: str, measure: str, average: str) -> float | None:
    found = results.select(setting=f"{results.collection}/{kind}", measure=measure, average=average, query_language="")
    return found[0].value if found else None


def _measure(measure: str) -> str:
    return f"{measure} ↓" if measure == _LOWER_IS_BETTER else measure


def _number(value: float | None, measure: str) -> str:
    if value is None:
        return _NONE
    return f"{value:.1f}" if measure == _LOWER_IS_BETTER else f"{value:.3f}"


def _difference(before: float | None, after: float | None, measure: str) -> str:
    if before is None or after is None:
        return _NONE
    digits = 1 if measure == _LOWER_IS_BETTER else 3
    change = f"{after - before:+.{digits}f}"
    return change.replace("-", "\u2212")


def _short(value: float) -> str:
    """Two digits without the zero before the point, as tables of such figures print them."""
    return f"{value:.2f}".removeprefix("0")


def _signed(value: float) -> str:
    text = f"{abs(value):.2f}".removeprefix("0")
    if text == ".00":
        return text
    return ("+" if value > 0 else "\u2212") + text


def _data_words(provenance: Mapping[str, Any]) -> str:
    if "digest" not in provenance:
        return "The results do not say what data they came from."
    words = (
        f"{provenance['collection']}: {provenance['queries']} questions and {provenance['passages']} passages in "
        f"{len(provenance['languages'])} languages ({', '.join(provenance['languages'])}), each passage a "
        f"{provenance['text_mode']}. Origin: {provenance['origin']}. Licence: {provenance['licence']}. "
        f"SHA-256 of the data as read: `{provenance['digest']}`."
    )
    return f"{words} {provenance['citation']}".rstrip()


def _system_words(results: Results) -> str:
    provenance = results.provenance
    encoder = "; ".join(f"{name}: {value}" for name, value in provenance.get("encoder", {}).items())
    words = [f"**{results.label}** on {results.collection}."]
    if encoder:
        words.append(f"Encoder: {encoder}.")
    if "score_function" in provenance:
        words.append(f"Score: {provenance['score_function']} of {provenance['dimensions']} dimensions.")
    return " ".join(words)


def _reproduce_words(results: Sequence[Results]) -> str:
    versions = dict.fromkeys(
        f"{name} {version}" for one in results for name, version in one.provenance.get("versions", {}).items()
    )
    words = "`results.json` beside this report holds every figure with the data and the software that it came from."
    if versions:
        words += f" Made with {', '.join(versions)}."
    names = ", ".join(f'"{name}"' for name in dict.fromkeys(one.collection for one in results))
    return (
        f"{words} With the same encoder and data these lines give the same figures:\n\n```python\n"
        f"import beir_hybrid\n\nfor name in [{names}]:\n"
        "    results = beir_hybrid.evaluate_grid(encoder, beir_hybrid.load(name))\n```"
    )
