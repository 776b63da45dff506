"""Comparisons as people read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from beir_hybrid.evaluation.comparing.comparison import Comparison, Difference, Spread
from beir_hybrid.evaluation.figures import AVERAGED_KINDS
from beir_hybrid.evaluation.reports.report import digits_of, marked
from beir_hybrid.evaluation.reports.tables import NONE, Table, csv_text, signed


def comparison_tables(comparison: Comparison, *, average: str = "macro", by_language: bool = False) -> list[Table]:
    """The averages of every kind and measure, on request each language, and the spread over runs where there are some.

    Args:
        average: `macro` (mean over settings) or `micro` (mean over questions).
        by_language: Also a table a kind and measure, a row a question language; of cross settings the mean over the
            passage languages.
    """
    note = _note(comparison)
    chosen = [one for one in _ordered(comparison) if one.average == average and not one.query_language]
    tables = []
    if chosen:
        title = f"{comparison.collection}, difference from {chosen[0].baseline}, mean over {_OVER[average]} ({average})"
        rows = [(one.system, f"{one.kind} {marked(one.measure)}", *_cells(one)) for one in chosen]
        tables.append(Table(title, ("system", "figure", *_HEADING), tuple(rows), 2, note))
    if by_language or not chosen:  # where no average was evaluated, the settings are all that there is
        tables += list(_by_language(comparison, note))
    spreads = [one for one in comparison.spreads if one.average == average]
    return tables + ([spread_table(comparison.collection, spreads)] if spreads else [])


def comparison_csv(comparison: Comparison) -> str:
    """Every difference as a row of CSV."""
    names = [part.name for part in dataclasses.fields(Difference)]
    return csv_text(names, ([_plain(getattr(one, name)) for name in names] for one in comparison.differences))


_OVER = {"macro": "settings", "micro": "questions"}
_HEADING = ("baseline", "value", "difference", "interval", "p", "p corrected", "d_z", "wins/ties/losses")


def _cells(one: Difference) -> tuple[str, ...]:
    digits = digits_of(one.measure)
    return (
        f"{one.baseline_value:.{digits}f}",
        f"{one.value:.{digits}f}",
        signed(one.difference, digits),
        f"[{signed(one.low, digits)}, {signed(one.high, digits)}]",
        _p(one.p),
        _p(one.corrected),
        NONE if one.effect is None else signed(one.effect, 2),
        f"{one.wins}/{one.ties}/{one.losses}",
    )


def _ordered(comparison: Comparison) -> list[Difference]:
    """By system, then kind; otherwise as they came."""
    systems = list(dict.fromkeys(one.system for one in comparison.differences))
    return sorted(comparison.differences, key=lambda one: (systems.index(one.system), AVERAGED_KINDS.index(one.kind)))


def _by_language(comparison: Comparison, note: str) -> Iterator[Table]:
    groups: dict[tuple[str, str, str], list[Difference]] = {}
    for one in _ordered(comparison):
        if one.query_language:
            groups.setdefault((one.system, one.kind, one.measure), []).append(one)
    for (system, kind, _), rows in groups.items():
        means = [one for one in rows if one.average == "macro"]  # over the passage languages
        all_have_one = {one.query_language for one in means} == {one.query_language for one in rows}
        shown = means if all_have_one else [one for one in rows if not one.average]
        one_each = len({one.query_language for one in shown}) == len(shown)
        names = [one.query_language if one_each else one.setting.removeprefix(f"{one.collection}/") for one in shown]
        title = f"{comparison.collection}, {kind} {marked(shown[0].measure)}: {system} against {shown[0].baseline}"
        cells = [(name, *_cells(one)) for name, one in zip(names, shown, strict=True)]
        heading = ("question language" if one_each else "setting", *_HEADING)
        yield Table(title, heading, tuple(cells), 1, f"{note} {shown[0].family} tests in the family.")


def spread_table(collection: str, spreads: Sequence[Spread]) -> Table:
    """The value of each run, their mean and deviation; there has to be one."""
    most = max(one.runs for one in spreads)
    rows = []
    for one in spreads:
        digits = digits_of(one.measure)
        kind = one.setting.removeprefix(f"{collection}/")
        each = [f"{value:.{digits}f}" for value in one.values]
        summed = f"{one.mean:.{digits}f} ± {one.deviation:.{digits}f}"
        rows.append((one.system, f"{kind} {marked(one.measure)}", summed, *each, *[NONE] * (most - one.runs)))
    title = f"{collection}, each run, mean over {_OVER[spreads[0].average]} ({spreads[0].average})"
    heading = ("system", "figure", "mean ± deviation", *(f"run {number + 1}" for number in range(most)))
    return Table(title, heading, tuple(rows), 2, "Standard deviation over runs, n - 1.")


def _note(comparison: Comparison) -> str:
    test = comparison.provenance.get("test", {})
    name = "paired t-test"
    if test.get("test") == "randomisation":
        name = f"randomisation test of {test['permutations']:,} sign vectors, seed {test['seed']}"
    left_out = "".join(
        f" Not compared, since the rankings are of different depth: {', '.join(measures)} of {system}."
        for system, measures in comparison.provenance.get("left_out", {}).items()
    )
    return (
        f"Two-sided {name}; {test.get('confidence', 0.95):.0%} interval by bootstrap ({test.get('interval')}). Both "
        "take all translations of a question together, as one item. p corrected by Holm over all settings (or "
        "averages) of one kind and measure. Wins, ties, losses: items; ↓: lower is better, and wins are lower values."
        f"{left_out}"
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _plain(value: object) -> object:
    return "" if value is None else value
