"""An evaluation as one HTML page that needs nothing else: no network, no script, no mouse."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.comparing.comparison import Comparison, compare, spreads_of
from beir_hybrid.evaluation.comparing.pairing import System, averaged
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.evaluation.reports.comparison_report import comparison_tables, spread_table
from beir_hybrid.evaluation.reports.html import colours
from beir_hybrid.evaluation.reports.html.charts import Distribution, Forest
from beir_hybrid.evaluation.reports.html.facts import Facts, commands, data_facts, system_facts
from beir_hybrid.evaluation.reports.html.maps import HeatMap, heat_maps
from beir_hybrid.evaluation.reports.html.panels import Bars, bars, distributions, forests
from beir_hybrid.evaluation.reports.report import by_collection, collection_tables
from beir_hybrid.evaluation.reports.tables import ORIGINS, Table, notes_once

COMPARED = 4  # systems that the page compares by itself; testing each takes seconds


@dataclass(frozen=True)
class Section:
    """What the page shows of one collection."""

    name: str
    summaries: tuple[Table, ...]
    spread: Table | None
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
    results: Sequence[Results | System], references: Sequence[Results] = (), comparisons: Sequence[Comparison] = ()
) -> str:
    """The page of one or several systems, on one or several collections.

    Args:
        results: One for each system, or a system with its runs (seeds), of which the page shows the means and each run;
            the first of a collection is what the others are set against.
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
    groups: dict[str, list[System]] = {}
    for one in results:
        system = one if isinstance(one, System) else System(one.label, (one,))
        groups.setdefault(system.runs[0].collection, []).append(system)
    by_collection([run for group in groups.values() for system in group for run in system.runs])  # what it refuses
    sections = [_section(group, references, tested.get(name)) for name, group in groups.items()]
    environment.globals["signs"] = ORIGINS
    return environment.get_template("page.html").render(
        title=", ".join(section.name for section in sections) + ": retrieval in every language setting",
        sections=sections,
        colours=Markup(colours.stylesheet()),
        steps=colours.STEPS,
    )


def _section(group: Sequence[System], references: Sequence[Results], comparison: Comparison | None) -> Section:
    refused = ""
    if comparison is None and len(group) > 1:
        comparison, refused = _compared(group)
    means = [averaged(system) for system in group]
    summaries, languages = collection_tables(means, references)
    lines, others = commands(group)
    tests = _tests(comparison) if comparison else ((), ())
    return Section(
        name=means[0].collection,
        summaries=notes_once(summaries),
        spread=_spread(group, means),
        maps=heat_maps(means),
        bars=tuple(bars(group, means)),
        languages=notes_once(languages),
        distributions=tuple(distributions(group, means)),
        forests=tuple(forests(comparison)) if comparison else (),
        tests=tests[0],
        tests_by_language=tests[1],
        refused=refused,
        data=data_facts(means[0]),
        systems=tuple(
            one for system, mean in zip(group, means, strict=True) for one in system_facts(system, mean.label)
        ),
        commands=tuple(lines),
        others=tuple(others),
    )


def _spread(group: Sequence[System], means: Sequence[Results]) -> Table | None:
    """The runs of the systems that have several, under the names that the tables have."""
    spreads = [
        dataclasses.replace(spread, system=mean.label)
        for system, mean in zip(group, means, strict=True)
        for spread in spreads_of(system)
        if spread.average == "macro"
    ]
    return spread_table(means[0].collection, spreads) if spreads else None


def _tests(comparison: Comparison) -> tuple[tuple[Table, ...], tuple[Table, ...]]:
    comparison = dataclasses.replace(comparison, spreads=())  # each run stands below the summary
    first = comparison_tables(comparison)
    more = [table for table in comparison_tables(comparison, by_language=True) if table not in first]
    noted = notes_once([*first, *more])
    return noted[: len(first)], noted[len(first) :]


def _compared(group: Sequence[System]) -> tuple[Comparison | None, str]:
    """The tests that the page makes by itself, or why it makes none; a page is not the place to fail for it."""
    if len({system.name for system in group}) < len(group):
        return None, "Systems of one name cannot be compared; evaluate each with a --system of its own."
    if len(group) > COMPARED:
        return None, f"More than {COMPARED} systems: beir-hybrid compare tests them, and writes this page with --html."
    try:
        return compare(group), ""
    except BeirHybridError as error:
        return None, str(error)
