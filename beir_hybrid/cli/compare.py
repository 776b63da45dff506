"""beir-hybrid compare"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beir_hybrid.cli import options
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import check_writable, expanded, write_json, write_text

if TYPE_CHECKING:
    from beir_hybrid.collections.collection import MultilingualCollection
    from beir_hybrid.evaluation.comparing.comparison import Comparison
    from beir_hybrid.evaluation.comparing.pairing import System
    from beir_hybrid.evaluation.figures import Results
    from beir_hybrid.evaluation.reports.tables import Table


def compare(
    results: Annotated[
        list[str] | None,
        typer.Argument(
            help="Report folders, results.json files, or with --collection folders of TREC runs; NAME=FOLDER,FOLDER "
            "for the runs (seeds) of one system.",
            metavar="RESULTS...",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER, a run of the system NAME; repeated, its runs. Beside RESULTS, or instead.",
            show_default=False,
            metavar="NAME=FOLDER",
        ),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(
            help="The collection of rankings: a folder with a run for each setting (xquad-r.cross.en-de.trec, .gz; or "
            ".json as BEIR's results), or one such file.",
            show_default=False,
        ),
    ] = None,
    data_dir: options.DataDir = None,
    baseline: Annotated[
        str | None, typer.Option(help="What the others are compared with; by default the first.", show_default=False)
    ] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="Only this measure; may be repeated.", show_default=False)
    ] = None,
    test: Annotated[str, typer.Option(help="randomisation, or t (paired t-test); both two-sided.")] = "randomisation",
    permutations: Annotated[
        int, typer.Option(help="Random sign vectors of the randomisation test, and bootstrap samples of the interval.")
    ] = 10_000,
    interval: Annotated[str, typer.Option(help="bca or percentile.")] = "bca",
    confidence: Annotated[float, typer.Option(help="Of the interval.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the signs and the bootstrap samples.")] = 0,
    by_language: Annotated[bool, typer.Option("--by-language", help="Also a row a question language.")] = False,
    micro: Annotated[
        bool, typer.Option("--micro", help="Means over questions instead of means over settings.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write every difference as JSON.", show_default=False)] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every difference as CSV.", show_default=False)] = None,
    latex: Annotated[Path | None, typer.Option(help="Write the tables for LaTeX.", show_default=False)] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables as Markdown.", show_default=False)] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write one page with every table and chart, to open in a browser.", show_default=False),
    ] = None,
) -> None:
    """Test whether systems differ by more than chance, on the same questions.

    Each RESULTS is what `evaluate --report` wrote (results.json and queries.parquet). A folder that holds several
    systems gives them all. With --collection it may be the rankings of any system, as TREC runs. Translations of one
    question are taken together, so that an average over languages rests on as many observations as there are questions,
    not times languages; p-values are corrected (Holm) for the number of settings.

    `beir-hybrid compare report-before report-after --by-language`

    `beir-hybrid compare bm25-runs my-runs --collection xquad-r`

    `beir-hybrid compare x-y=seed0/xy,seed1/xy hybrid=seed0/hybrid,seed1/hybrid --json comparison.json`
    """
    from beir_hybrid.evaluation.comparing.comparison import compare as compared
    from beir_hybrid.evaluation.comparing.significance import TestSettings
    from beir_hybrid.evaluation.reports.tables import notes_once

    settings = TestSettings(test, permutations, permutations, interval, confidence, seed)
    for path in (json, csv, latex, markdown, html):
        if path is not None:
            check_writable(path)
    read = _Reader(collection, data_dir, measure)
    found = _by_collection(_systems([*(results or ()), *(system or ())], read))
    comparisons = [compared(one, baseline=baseline, measures=measure, settings=settings) for one in found]
    tables = notes_once([table for one in comparisons for table in _tables(one, micro, by_language)])
    typer.echo("\n".join(table.text() for table in tables))
    if json is not None:
        _write_json(comparisons, json)
    texts = {
        csv: _csv(comparisons),
        latex: "\n".join(["% \\usepackage{booktabs}", *(table.latex() for table in tables)]),
        markdown: "\n\n".join(f"**{one.title}**\n\n{one.markdown()}\n\n{one.note}".rstrip() for one in tables) + "\n",
    }
    for path, text in texts.items():
        if path is not None:
            write_text(path, text)
    if html is not None:
        write_text(html, _html(found, comparisons))
    for path in (json, csv, latex, markdown, html):
        if path is not None:
            typer.echo(f"comparison: {path}")


def _systems(arguments: Sequence[str], read: _Reader) -> dict[str, list[Results]]:
    """The runs of each system, by the name that was given or the one in its figures."""
    from beir_hybrid.evaluation.figures import separate

    if not arguments:
        raise BeirHybridError("nothing to compare; name two report folders: beir-hybrid compare BEFORE AFTER.")
    found: dict[str, list[Results]] = {}
    seen: dict[tuple[str, str], str] = {}
    for argument in arguments:
        name, paths = _named(argument)
        for path in paths:
            parts = separate(read(path))
            if name and len({part.label for part in parts}) > 1:
                labels = ", ".join(dict.fromkeys(part.label for part in parts))
                raise BeirHybridError(f"{path}: holds several systems ({labels}), so it is no run of {name!r} alone.")
            for part in parts:
                key = (name or part.label, part.collection)
                if not name and key in seen:
                    raise BeirHybridError(
                        f"{path} and {seen[key]} both hold a system called {part.label!r}. Give them names "
                        f"(before={seen[key]} after={path}), or make them runs of one system ({part.label}="
                        f"{seen[key]},{path})."
                    )
                seen[key] = path
                found.setdefault(name or part.label, []).append(part)
    return found


def _named(argument: str) -> tuple[str, list[str]]:
    """`NAME=FOLDER,FOLDER` as a name and paths; a path that is there is a path, whatever is in it."""
    if expanded(argument).exists() or "=" not in argument:
        return "", [argument]
    name, _, rest = argument.partition("=")
    paths = [rest] if expanded(rest).exists() else [path for path in rest.split(",") if path]
    if not name or not paths:
        raise BeirHybridError(f"{argument!r}: expected NAME=FOLDER, or NAME=FOLDER,FOLDER for several runs.")
    return name, paths


class _Reader:
    """Reads results; of rankings the figures are computed, on the collection that was named."""

    def __init__(self, collection: str | None, data_dir: Path | None, measures: list[str] | None) -> None:
        self._name, self._data_dir, self._measures = collection, data_dir, measures

    @cached_property
    def _collection(self) -> MultilingualCollection | None:
        return None if self._name is None else options.load_collection(self._name, self._data_dir, None)

    def __call__(self, path: str) -> Results:
        from beir_hybrid.evaluation.figures import Results

        where = expanded(path)
        results = where / "results.json" if where.is_dir() else where
        if results.is_file() and results.suffix == ".json" and not self._is_run(results):
            return Results.read(results)
        if self._collection is not None and where.exists():
            from beir_hybrid.evaluation.from_runs import evaluate_runs, read_runs

            name = where.name if where.is_dir() else where.resolve().parent.name
            return evaluate_runs(read_runs(where, self._collection), measures=self._measures, system=name)
        if where.exists() and not results.is_file():
            raise BeirHybridError(
                f"{path}: no results.json, which evaluate --report writes. If it holds TREC runs, say of which "
                "collection: --collection xquad-r."
            )
        return Results.read(results)

    def _is_run(self, path: Path) -> bool:
        """Whether a JSON file is named after a setting, as BEIR's results are."""
        from beir_hybrid.evaluation.from_runs import run_name

        settings = () if self._collection is None else self._collection.settings
        return path.stem in map(run_name, settings)


def _by_collection(systems: dict[str, list[Results]]) -> list[list[System]]:
    """The systems of each collection that two or more of them were measured on."""
    from beir_hybrid.evaluation.comparing.pairing import System

    collections = list(dict.fromkeys(run.collection for runs in systems.values() for run in runs))
    found = []
    for collection in collections:
        own = {name: [run for run in runs if run.collection == collection] for name, runs in systems.items()}
        group = [System(name, tuple(runs)) for name, runs in own.items() if runs]
        if len(group) > 1:
            found.append(group)
    if not found:
        raise BeirHybridError(
            f"no two systems on one collection: {', '.join(systems)} on {', '.join(collections)}. Name two report "
            "folders of one collection."
        )
    return found


def _tables(comparison: Comparison, micro: bool, by_language: bool) -> list[Table]:
    from beir_hybrid.evaluation.reports.comparison_report import comparison_tables

    return comparison_tables(comparison, average="micro" if micro else "macro", by_language=by_language)


def _csv(comparisons: Sequence[Comparison]) -> str:
    from beir_hybrid.evaluation.reports.comparison_report import comparison_csv

    first, *others = map(comparison_csv, comparisons)
    return first + "".join(text.partition("\n")[2] for text in others)


def _html(groups: Sequence[Sequence[System]], comparisons: Sequence[Comparison]) -> str:
    """The page of the systems, those of each collection with their baseline first, since it is set against that."""
    from beir_hybrid.evaluation.reports.html.page import html_page

    shown = []
    for group, comparison in zip(groups, comparisons, strict=True):
        shown += sorted(group, key=lambda system: system.name != comparison.provenance["baseline"])
    return html_page(shown, comparisons=comparisons)


def _write_json(comparisons: Sequence[Comparison], path: Path) -> None:
    """One comparison as itself; of several collections a list."""
    write_json(path, comparisons[0].to_json() if len(comparisons) == 1 else [one.to_json() for one in comparisons])
