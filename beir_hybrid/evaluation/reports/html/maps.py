"""A measure by question language and passage language, as tables with coloured cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from beir_hybrid.evaluation.figures import Results, lower_is_better
from beir_hybrid.evaluation.reports.heat_map import cells
from beir_hybrid.evaluation.reports.html.colours import DIFFERENCE, STEPS, VALUE
from beir_hybrid.evaluation.reports.tables import NONE, signed

Values = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Cell:
    """A number and the class of its colour; `own` where question and passages share a language."""

    text: str
    shade: str
    own: bool


@dataclass(frozen=True)
class HeatMap:
    """One panel.

    Attributes:
        rows: The question language and its cells.
        scale: The class of the colours, and what the two ends of the scale mean.
    """

    title: str
    languages: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    scale: tuple[str, str, str]


def heat_maps(results: Sequence[Results]) -> dict[str, list[HeatMap]]:
    """By measure: a map of each system on one scale, and of each one's difference from the first.

    Measures without cross settings have none: the bars show what there is of one language each.
    """
    found: dict[str, list[HeatMap]] = {}
    measures = dict.fromkeys(figure.measure for one in results for figure in one.figures if figure.kind == "cross")
    for measure in measures:
        measured = [(one.label, values) for one in results if (values := cells(one, measure))]
        if any(asked != searched for _, values in measured for asked, searched in values):
            languages = _languages(results, [values for _, values in measured])
            found[measure] = _of_measure(measure, measured, languages)
    return found


def _of_measure(measure: str, measured: Sequence[tuple[str, Values]], languages: Sequence[str]) -> list[HeatMap]:
    every = [value for _, values in measured for value in values.values()]
    low = math.floor(min(every) * 20) / 20
    high = max(math.ceil(max(every) * 20) / 20, low + 0.05)
    ends = (VALUE, f"{low:.2f}", f"{high:.2f}")
    maps = []
    for label, values in measured:
        places = {pair: (value - low) / (high - low) for pair, value in values.items()}
        maps.append(_map(f"{measure}, {label}", languages, values, places, ends))
    (baseline, before), *others = measured
    changes = [
        (label, {pair: after[pair] - before[pair] for pair in before if pair in after}) for label, after in others
    ]
    widest = max([0.05, *(abs(change) for _, values in changes for change in values.values())])
    sign = -1 if lower_is_better(measure) else 1  # the colour says better or worse, the number more or less
    ends = (DIFFERENCE, f"worse by {widest:.2f}", f"better by {widest:.2f}")
    for label, values in changes:
        places = {pair: (sign * change / widest + 1) / 2 for pair, change in values.items()}
        maps.append(_map(f"{measure}, difference: {label} less {baseline}", languages, values, places, ends))
    return maps


def _map(title: str, languages: Sequence[str], values: Values, places: Values, scale: tuple[str, str, str]) -> HeatMap:
    kind = scale[0]

    def cell(asked: str, searched: str) -> Cell:
        pair = (asked, searched)
        if pair not in values:
            return Cell(NONE, "", asked == searched)
        text = signed(values[pair], 2) if kind == DIFFERENCE else f"{values[pair]:.2f}"
        step = round(min(max(places[pair], 0.0), 1.0) * (STEPS - 1))
        return Cell(_short(text), f"{kind}{step}", asked == searched)

    rows = [(asked, tuple(cell(asked, searched) for searched in languages)) for asked in languages]
    return HeatMap(title, tuple(languages), tuple(rows), scale)


def _short(text: str) -> str:
    """Without the zero before the point, as tables of such figures print them; no difference has no sign."""
    short = text.replace("0.", ".", 1) if text.lstrip("+\u2212").startswith("0.") else text
    return short.lstrip("+\u2212") if short.endswith(".00") and len(short) == 4 else short


def _languages(results: Sequence[Results], found: Sequence[Values]) -> list[str]:
    """The languages that have a cell, in the collection's order where it is known."""
    there = {language for values in found for pair in values for language in pair}
    order = [language for one in results for language in one.provenance.get("languages", [])]
    return [language for language in dict.fromkeys([*order, *sorted(there)]) if language in there]
