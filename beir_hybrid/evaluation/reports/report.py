"""Results as people read them: a table for the terminal, Markdown for a paper, a heat map of the languages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.comparing.pairing import System
from beir_hybrid.evaluation.figures import AVERAGED_KINDS, Figure, Results, check_comparable, combine, lower_is_better
from beir_hybrid.evaluation.reports import heat_map
from beir_hybrid.evaluation.reports.tables import NONE, Table, csv_text, line_of, signed
from beir_hybrid.files import write_text

_KIND_WORDS = {
    "mono": "question and passages in one language",
    "cross": "passages in one other language",
    "multi": "passages of all languages in one pool",
    "blend/mono": "a question of two languages, passages in one",
    "blend/multi": "a question of two languages, passages of all in one pool",
}


def summary_table(results: Sequence[Results], *, micro: bool = False, references: Sequence[Results] = ()) -> str:
    """One row a system, one column a kind of setting and measure; for two systems also the difference.

    Args:
        results: One for each system; those of one collection share a table.
        micro: Also the means over questions, below the means over settings (macro).
        references: Published figures, above the systems of their collection.

    Raises:
        BeirHybridError: there are no results.
    """
    tables = [
        summary(group, average, references)
        for group in by_collection(results)
        for average in ("macro", "micro")[: 1 + micro]
    ]
    return "\n".join(table.text() for table in tables)


def summary(results: Sequence[Results], average: str = "macro", references: Sequence[Results] = ()) -> Table:
    """The table of `summary_table` for systems measured on one collection."""
    columns = _columns(results)
    measures = [measure for _, measure in columns]
    rows = []
    for one in [*_of_collection(references, results[0].collection), *results]:
        found = [_average(one, kind, measure, average) for kind, measure in columns]
        if "published" not in one.provenance or any(found):
            rows.append((one, found))
    cells = [(one.label, one.origin, *map(_number, found, measures)) for one, found in rows]
    if len(results) == 2:
        cells.append(("difference", "", *map(_difference, rows[-2][1], rows[-1][1], measures)))
    heading = ("system", "origin", *(f"{kind} {marked(measure)}" for kind, measure in columns))
    over = "settings" if average == "macro" else "questions"
    title = f"{results[0].collection}, mean over {over} ({average})"
    return Table(title, heading, tuple(cells), 2, _origins(one for one, _ in rows))


def by_language(results: Sequence[Results], kind: str, measure: str, references: Sequence[Results] = ()) -> Table:
    """One row a system, one column a question language; a cross figure is the mean over the passage languages."""
    average = "macro" if kind in ("cross", "blend/mono") else ""

    def by_code(one: Results) -> dict[str, Figure]:
        chosen = [figure for figure in one.select(measure=measure, average=average) if figure.kind == kind]
        return {figure.query_language: figure for figure in chosen if figure.query_language}

    languages = sorted({language for one in results for language in by_code(one)})
    rows, shown = [], []
    for one in [*_of_collection(references, results[0].collection), *results]:
        found = by_code(one)
        numbers = [*(found.get(language) for language in languages), _average(one, kind, measure, "macro")]
        if "published" not in one.provenance or any(numbers):
            rows.append((one.label, one.origin, *(_number(figure, measure) for figure in numbers)))
            shown.append(one)
    title = f"{kind} ({_KIND_WORDS[kind]}), {marked(measure)}, by question language"
    return Table(title, ("system", "origin", *languages, "mean"), tuple(rows), 2, _origins(shown))


def markdown(results: Sequence[Results], *, picture: str | None = None, references: Sequence[Results] = ()) -> str:
    """A report as GitHub Markdown: summaries, tables by language, the data, the systems, how to reproduce it.

    Args:
        picture: The path of the heat map, as the report should link it.
        references: Published figures, above the systems of their collection.

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
    for group in by_collection(results):
        parts.append(f"## {group[0].collection}")
        summaries, languages = collection_tables(group, references)
        for table in summaries:
            parts += [f"**{table.title}**", table.markdown()]
        parts.append(summaries[0].note)
        if picture and len(results) == len(group):
            parts.append(f"![AP by question language and passage language]({picture})")
        for table in languages:
            parts += [f"**{table.title}**", table.markdown()]
        parts += ["### Data", _data_words(group[0].provenance)]
    parts += ["## Systems", *(_system_words(one) for one in results)]
    parts += ["## To reproduce", _reproduce_words(results)]
    return "\n\n".join(parts) + "\n"


def latex(results: Sequence[Results], references: Sequence[Results] = ()) -> str:
    """The tables of the report for a LaTeX document that loads `booktabs`."""
    parts = [part for group in by_collection(results) for part in collection_tables(group, references)]
    return "\n".join(["% \\usepackage{booktabs}", *(table.latex() for part in parts for table in part)])


def figures_csv(results: Sequence[Results], references: Sequence[Results] = ()) -> str:
    """Every figure as a row of CSV, as in the JSON, and whether it is ours, a baseline's or published, and where."""
    names = [part.name for part in dataclasses.fields(Figure)]
    rows = [
        [*(getattr(figure, name) for name in names), one.origin, one.provenance.get("published", "")]
        for one in [*references, *results]
        for figure in one.figures
    ]
    return csv_text([*names, "origin", "source"], rows)


def write_report(
    results: Sequence[Results],
    folder: Path | str,
    references: Sequence[Results] = (),
    systems: Sequence[System] | None = None,
) -> list[Path]:
    """Write a report to `folder`, each file whole or not at all; return their paths.

    `results.json` (with `queries.parquet`, the values of each question, where they were kept), `report.md`,
    `report.html` (one page with every table and chart, and the tests of up to four systems), `report.tex`,
    `figures.csv` and `heatmap.png`. The heat map is of the first one or two systems, and is left out where they have no
    mono or cross settings.

    Args:
        references: Published figures, for the tables and the CSV.
        systems: Which of the results are runs (seeds) of one system, for the page; by default each stands for itself.

    Raises:
        BeirHybridError: there are no results, or the folder cannot be written.
    """
    from beir_hybrid.evaluation.reports.html.page import html_page  # stands on this module

    by_collection(results)
    folder = Path(folder)
    shown = [one for one in results if one.collection == results[0].collection][:2]
    drawn = all(heat_map.cells(one, "AP") for one in shown)
    whole = combine(results)
    whole.write_json(folder / "results.json")
    if drawn:
        heat_map.draw(shown, folder / "heatmap.png")
    picture = "heatmap.png" if drawn else None
    texts = {
        "report.md": markdown(results, picture=picture, references=references),
        "report.html": html_page(systems or results, references),
        "report.tex": latex(results, references),
        "figures.csv": figures_csv(results, references),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    names = ["results.json", *(["queries.parquet"] if whole.queries else []), *texts, *([picture] if picture else [])]
    return [folder / name for name in names]


def collection_tables(group: Sequence[Results], references: Sequence[Results]) -> tuple[list[Table], list[Table]]:
    """The summaries of systems on one collection, and the tables by language."""
    languages = [by_language(group, kind, measure, references) for kind, measure in _columns(group)]
    summaries = [summary(group, average, references) for average in ("macro", "micro")]
    return summaries, [table for table in languages if len(table.heading) > 3]


def by_collection(results: Sequence[Results]) -> list[list[Results]]:
    if not results:
        raise BeirHybridError("there are no results to report; evaluate a system first.")
    groups: dict[str, list[Results]] = {}
    for one in results:
        group = groups.setdefault(one.collection, [])
        group.append(one)
        check_comparable(group[0], one, depth=False)
    return list(groups.values())


def _of_collection(references: Iterable[Results], collection: str) -> list[Results]:
    return [one for one in references if one.collection == collection]


def _origins(shown: Iterable[Results]) -> str:
    """What the column `origin` says, which publications the table quotes, and what BM25 had no analyzer for."""
    shown = list(shown)
    papers = dict.fromkeys(one.provenance["published"] for one in shown if "published" in one.provenance)
    words = "ours: trained and measured here; baseline: measured here, trained elsewhere or not at all"
    words = f"{words}; published: {'; '.join(papers)}." if papers else f"{words}."
    for one in shown:
        if without := (one.provenance.get("encoder") or {}).get("without_analyzer"):
            words += f" {one.label} has no analyzer for {', '.join(without)}: plain words there."
    return words


def _columns(results: Sequence[Results]) -> list[tuple[str, str]]:
    """(kind, measure) of every figure, in the order of the kinds and of first appearance."""
    found = dict.fromkeys((figure.kind, figure.measure) for one in results for figure in one.figures)
    return [(kind, measure) for kind in AVERAGED_KINDS for other, measure in found if other == kind]


def _average(results: Results, kind: str, measure: str, average: str) -> Figure | None:
    found = results.select(setting=f"{results.collection}/{kind}", measure=measure, average=average, query_language="")
    return found[0] if found else None


def marked(measure: str) -> str:
    """The measure with an arrow where lower is better."""
    return f"{measure} ↓" if lower_is_better(measure) else measure


def _number(figure: Figure | None, measure: str) -> str:
    """Published figures keep the digits that they were published with."""
    if figure is None:
        return NONE
    return f"{figure.value:.{getattr(figure, 'digits', digits_of(measure))}f}"


def digits_of(measure: str) -> int:
    """How many digits after the point a table prints: ranks are large, all else lies in 0..1."""
    return 1 if lower_is_better(measure) else 3


def _difference(before: Figure | None, after: Figure | None, measure: str) -> str:
    return NONE if before is None or after is None else signed(after.value - before.value, digits_of(measure))


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
    words = [f"**{results.label}** on {results.collection}.\n"]
    words += [f"- {name}: {line_of(value)}" for name, value in (provenance.get("encoder") or {}).items()]
    if "score_function" in provenance:
        words.append(f"- score: {provenance['score_function']} of {provenance['dimensions']} dimensions")
    return "\n".join(words).rstrip()


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
