"""Which charts the page shows of some systems, and of their differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beir_hybrid.evaluation.comparing.comparison import Comparison, Difference
from beir_hybrid.evaluation.comparing.pairing import System
from beir_hybrid.evaluation.figures import Results, lower_is_better
from beir_hybrid.evaluation.reports.html.charts import Distribution, Forest, distribution, forest
from beir_hybrid.evaluation.reports.report import by_language, digits_of, marked
from beir_hybrid.evaluation.reports.tables import NONE


@dataclass(frozen=True)
class Bars:
    """A table of languages by systems; each cell a number and the width of its bar in percent, if it has one."""

    title: str
    systems: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float | None], ...]], ...]


def bars(group: Sequence[System], means: Sequence[Results]) -> Iterator[Bars]:
    """Of each kind that has one figure a language, its first measure in 0..1; of several runs with their deviation."""
    for kind in ("mono", "multi"):
        figures = [figure for one in means for figure in one.figures if figure.kind == kind and not figure.average]
        measure = next((figure.measure for figure in figures if not lower_is_better(figure.measure)), None)
        if measure is not None:
            table = by_language(means, kind, measure)
            columns = [
                _with_deviation(system, kind, measure, table.heading[2:], row[2:])
                for system, row in zip(group, table.rows, strict=True)
            ]
            rows = tuple(zip(table.heading[2:], zip(*columns, strict=True), strict=True))
            yield Bars(f"{kind} {marked(measure)} by question language", tuple(row[0] for row in table.rows), rows)


def _with_deviation(
    system: System, kind: str, measure: str, languages: Sequence[str], texts: Sequence[str]
) -> list[tuple[str, float | None]]:
    """Each mean with the deviation of the runs, and its percentage; `mean` is a language here too."""
    by_run = [
        {
            figure.query_language or "mean": figure.value
            for figure in run.select(measure=measure)
            if figure.kind == kind and (not figure.average or (figure.average, figure.query_language) == ("macro", ""))
        }
        for run in system.runs
    ]
    found: list[tuple[str, float | None]] = []
    for language, text in zip(languages, texts, strict=True):
        if text == NONE:
            found.append((text, None))
        elif len(by_run) == 1:
            found.append((text, 100 * float(text)))
        else:
            deviation = np.std([run[language] for run in by_run], ddof=1)
            found.append((f"{text} ± {deviation:.{digits_of(measure)}f}", 100 * float(text)))
    return found


def distributions(group: Sequence[System], means: Sequence[Results]) -> Iterator[Distribution]:
    """The distances of single questions in the pool of all languages; of several runs those of each."""
    kept = [
        (mean.label, values)
        for system, mean in zip(group, means, strict=True)
        for run in system.runs
        for values in run.queries
        if lower_is_better(values.measure) and values.setting.startswith(f"{run.collection}/multi/")
    ]
    for measure in dict.fromkeys(values.measure for _, values in kept):
        parts: dict[str, list[npt.NDArray[np.float64]]] = {}
        for label, values in kept:
            if values.measure == measure and len(values.values):
                parts.setdefault(label, []).append(values.values)
        if parts:
            yield distribution(measure, {label: np.concatenate(own) for label, own in parts.items()})


def forests(comparison: Comparison) -> Iterator[Forest]:
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
