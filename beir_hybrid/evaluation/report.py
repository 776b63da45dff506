"""Results as people read them: a table for the terminal, Markdown for a paper, a heat map of the languages."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beir_hybrid.collections.collection import KINDS
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation import heat_map
from beir_hybrid.evaluation.figures import Results, combine
from beir_hybrid.files import write_text

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
        """As aligned columns for a terminal."""
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


def summary_table(results: Sequence[Results], *, micro: bool = False) -> str:
    """One row a system, one column a kind of setting and measure; for two systems also the difference.

    Args:
        results: One for each system; those of one collection share a table.
        micro: Also the means over questions, below the means over settings (macro).

    Raises:
        BeirHybridError: there are no results.
    """
    tables = [
        summary(group, average) for group in _by_collection(results) for average in ("macro", "micro")[: 1 + micro]
    ]
    return "\n".join(table.text() for table in tables)


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


def markdown(results: Sequence[Results], *, picture: str | None = None) -> str:
    """A report as GitHub Markdown: summaries, tables by language, the data, the systems, how to reproduce it.

    Args:
        picture: The path of the heat map, as the report should link it.

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
        if picture and len(results) == len(group):
            parts.append(f"![AP by question language and passage language]({picture})")
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
    drawn = all(heat_map.cells(one, "AP") for one in shown)
    paths = [folder / "results.json", folder / "report.md"]
    combine(results).write_json(paths[0])
    if drawn:
        paths.append(folder / "heatmap.png")
        heat_map.draw(shown, paths[2])
    write_text(paths[1], markdown(results, picture="heatmap.png" if drawn else None))
    return paths


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
