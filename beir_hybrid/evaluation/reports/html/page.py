"""An evaluation as one HTML page that needs nothing else: no network, no script, no mouse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.comparing.comparison import Comparison, Difference, compare
from beir_hybrid.evaluation.comparing.pairing import System, SystemValues
from beir_hybrid.evaluation.figures import Results, lower_is_better
from beir_hybrid.evaluation.reports.comparison_report import comparison_tables
from beir_hybrid.evaluation.reports.html import colours
from beir_hybrid.evaluation.reports.html.charts import Distribution, Forest, distribution, forest
from beir_hybrid.evaluation.reports.html.facts import Facts, commands, data_facts, system_facts
from beir_hybrid.evaluation.reports.html.maps import HeatMap, heat_maps
from beir_hybrid.evaluation.reports.report import by_collection, by_language, collection_tables, marked
from beir_hybrid.evaluation.reports.tables import NONE, Table

COMPARED = 4  # systems that the page compares by itself; testing each takes seconds


@dataclass(frozen=True)
class Bars:
    """A table of languages by systems; each cell a number and the width of its bar in percent, if it has one."""

    title: str
    systems: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float | None], ...]], ...]


@dataclass(frozen=True)
class Section:
    """What the page shows of one collection."""

    name: str
    summaries: tuple[Table, ...]
    maps: dict[str, list[HeatMap]]
    bars: tuple[Bars, ...]
    languages: tuple[Table, ...]
    distributions: tuple[Distribution, ...]
    forests: tuple[Forest, ...]
    tests: tuple[Table, ...]
    tests_by_language: tuple[Table, ...]
    refused: str
    data: tuple[tuple[str, str], ...]
    systems: tuple[Facts, ...]
    commands: tuple[str, ...]
    others: tuple[str, ...]


def html_page(
    results: Sequence[Results], references: Sequence[Results] = (), comparisons: Sequence[Comparison] = ()
) -> str:
    """The page of one or several systems, on one or several collections.

    Args:
        results: One for each system; the first of a collection is what the others are set against.
        references: Published figures, above the systems of their collection in the tables.
        comparisons: The tests of each collection's systems. Where one is missing, up to four systems whose results hold
            the values of each question are compared here, with the default settings.

    Raises:
        BeirHybridError: there are no results, or some that say nothing about each other.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("beir_hybrid.evaluation.reports", "html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tested = {one.collection: one for one in comparisons}
    sections = [_section(group, references, tested.get(group[0].collection)) for group in by_collection(results)]
    return environment.get_template("page.html").render(
        title=", ".join(section.name for section in sections) + ": retrieval in every language setting",
        sections=sections,
        colours=Markup(colours.stylesheet()),
        steps=colours.STEPS,
    )


def averaged(system: System) -> Results:
    """The runs (seeds) of a system as one result under its name: means of their figures, and of each question's values.

    Only the figures that all runs have are left.
    """
    first = system.runs[0]
    name = "" if system.name == first.label else system.name  # else the name would hold the batching twice
    by_run = [
        {(one.setting, one.measure, one.average, one.query_language): one for one in run.figures} for run in system.runs
    ]
    figures = []
    for key, figure in by_run[0].items():
        if all(key in run for run in by_run):
            value = float(np.mean([run[key].value for run in by_run]))
            figures.append(dataclasses.replace(figure, system=name or figure.system, value=value))
    queries = tuple(dataclasses.replace(one, system=name or one.system) for one in SystemValues(system).by_key.values())
    provenance = dict(first.provenance)
    if len(system.runs) > 1:
        encoders = [run.provenance.get("encoder") or {} for run in system.runs]
        provenance["runs"] = [encoder.get("model", "of an unnamed model") for encoder in encoders]
    return Results(tuple(figures), provenance, queries)


def _section(group: Sequence[Results], references: Sequence[Results], comparison: Comparison | None) -> Section:
    refused = ""
    if comparison is None and len(group) > 1:
        comparison, refused = _compared(group)
    summaries, languages = collection_tables(group, references)
    lines, others = commands(group)
    tests = _tests(comparison) if comparison else ((), ())
    return Section(
        name=group[0].collection,
        summaries=_notes_once(summaries),
        maps=heat_maps(group),
        bars=tuple(_bars(group)),
        languages=_notes_once(languages),
        distributions=tuple(_distributions(group)),
        forests=tuple(_forests(comparison)) if comparison else (),
        tests=tests[0],
        tests_by_language=tests[1],
        refused=refused,
        data=data_facts(group[0]),
        systems=tuple(map(system_facts, group)),
        commands=tuple(lines),
        others=tuple(others),
    )


def _tests(comparison: Comparison) -> tuple[tuple[Table, ...], tuple[Table, ...]]:
    first = comparison_tables(comparison)
    more = [table for table in comparison_tables(comparison, by_language=True) if table not in first]
    noted = _notes_once([*first, *more])
    return noted[: len(first)], noted[len(first) :]


def _compared(group: Sequence[Results]) -> tuple[Comparison | None, str]:
    """The tests that the page makes by itself, or why it makes none; a page is not the place to fail for it."""
    labels = {one.label: one for one in group}
    if len(labels) < len(group):
        return None, "Systems of one name cannot be compared; evaluate each with a --system of its own."
    if len(group) > COMPARED:
        return None, f"More than {COMPARED} systems: beir-hybrid compare tests them, and writes this page with --html."
    try:
        return compare(labels), ""
    except BeirHybridError as error:
        return None, str(error)


def _bars(group: Sequence[Results]) -> Iterator[Bars]:
    """Of each kind that has one figure a language, its first measure in 0..1."""
    for kind in ("mono", "multi"):
        figures = [figure for one in group for figure in one.figures if figure.kind == kind and not figure.average]
        measure = next((figure.measure for figure in figures if not lower_is_better(figure.measure)), None)
        if measure is not None:
            table = by_language(group, kind, measure)
            rows = zip(table.heading[2:], *(row[2:] for row in table.rows), strict=True)
            systems = tuple(row[0] for row in table.rows)
            bars = tuple((name, tuple((text, _percent(text)) for text in texts)) for name, *texts in rows)
            yield Bars(f"{kind} {marked(measure)} by question language", systems, bars)


def _percent(text: str) -> float | None:
    return None if text == NONE else 100 * float(text)


def _distributions(group: Sequence[Results]) -> Iterator[Distribution]:
    kept = [
        (one.label, values)
        for one in group
        for values in one.queries
        if lower_is_better(values.measure) and values.setting.startswith(f"{one.collection}/multi/")
    ]
    for measure in dict.fromkeys(values.measure for _, values in kept):
        parts: dict[str, list[npt.NDArray[np.float64]]] = {}
        for label, values in kept:
            if values.measure == measure and len(values.values):
                parts.setdefault(label, []).append(values.values)
        if parts:
            yield distribution(measure, {label: np.concatenate(own) for label, own in parts.items()})


def _forests(comparison: Comparison) -> Iterator[Forest]:
    """Of each system: its averages, those in ranks apart, then the first measure of each kind by question language."""
    for system in dict.fromkeys(one.system for one in comparison.differences):
        own = comparison.select(system=system)
        title = f"{system} against {own[0].baseline}"
        averages = [one for one in own if one.average == "macro" and not one.query_language]
        for ranks in (False, True):
            rows = [one for one in averages if lower_is_better(one.measure) == ranks]
            if rows:
                names = [(f"{one.kind} {marked(one.measure)}", one) for one in rows]
                yield forest(f"{title}: averages{' in ranks' if ranks else ''}", names)
        for kind in dict.fromkeys(one.kind for one in own):
            shown = [one for one in own if one.kind == kind and one.query_language]
            shown = [one for one in shown if one.measure == shown[0].measure]
            # A cross setting has two languages: the mean over the passage languages stands for them, where there is one
            shown = [one for one in shown if one.average == "macro"] or [one for one in shown if not one.average]
            if shown:
                measure = marked(shown[0].measure)
                yield forest(f"{title}: {kind} {measure} by question language", _named(shown))


def _named(rows: Sequence[Difference]) -> list[tuple[str, Difference]]:
    languages = {one.query_language for one in rows}
    if len(languages) == len(rows):
        return [(one.query_language, one) for one in rows]
    return [(one.setting.removeprefix(f"{one.collection}/"), one) for one in rows]


def _notes_once(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables, each with what its note adds to the notes above it."""
    said: list[str] = []
    changed = []
    for table in tables:
        note = table.note
        for before in said:
            note = note.removeprefix(before).strip()
        said.append(table.note)
        changed.append(dataclasses.replace(table, note=note))
    return tuple(changed)
