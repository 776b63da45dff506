"""The questions that two systems both answer, paired, and the means that can be taken of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.comparing.significance import Array
from beir_hybrid.evaluation.figures import Figure, Results, kind_of
from beir_hybrid.evaluation.per_query import QueryFigures


@dataclass(frozen=True)
class System:
    """One system, by the results of one or several runs of it (seeds) on one collection."""

    name: str
    runs: tuple[Results, ...]


class SystemValues:
    """The values of a system by setting and measure, averaged over its runs."""

    def __init__(self, system: System) -> None:
        self.system = system
        by_run = [{one.key: one for one in run.queries} for run in system.runs]
        for run, keyed in zip(system.runs, by_run, strict=True):
            if len(keyed) != len(run.queries):
                raise BeirHybridError(
                    f"results of {system.name} hold two systems of one name; evaluate each with a --system of its own."
                )
        figures = {(one.setting, one.measure) for one in system.runs[0].figures if not one.average}
        self.by_key: dict[tuple[str, str], QueryFigures] = {}
        for key, one in by_run[0].items():
            if key in figures and all(key in other for other in by_run):
                runs = [aligned(one, other[key], system.name) for other in by_run]
                self.by_key[key] = dataclasses.replace(one, values=np.mean(runs, axis=0))

    @property
    def averages(self) -> dict[tuple[str, str, str, str], Figure]:
        """The average figures of the first run, by setting, measure, average and question language."""
        return {
            (one.setting, one.measure, one.average, one.query_language): one
            for one in self.system.runs[0].figures
            if one.average
        }


def averaged(system: System) -> Results:
    """The runs (seeds) of a system as one result under its name: means of their figures, and of each question's values.

    Only the figures that all runs have are left. One run under its own name stays as it is.
    """
    first = system.runs[0]
    name = "" if system.name == first.label else system.name  # else the name would hold the batching twice
    if len(system.runs) == 1 and not name:
        return first
    by_run = [
        {(one.setting, one.measure, one.average, one.query_language): one for one in run.figures} for run in system.runs
    ]
    figures = []
    for key, figure in by_run[0].items():
        if all(key in run for run in by_run):
            value = float(np.mean([run[key].value for run in by_run]))
            figures.append(dataclasses.replace(figure, system=name or figure.system, value=value))
    queries = tuple(dataclasses.replace(one, system=name or one.system) for one in SystemValues(system).by_key.values())
    return Results(tuple(figures), first.provenance, queries)


def aligned(one: QueryFigures, other: QueryFigures, name: str) -> Array:
    """The other's values in the order of one's questions.

    Raises:
        BeirHybridError: they are not the same questions; `name` is whose they are.
    """
    if one.ids is other.ids or one.ids == other.ids:
        return other.values
    row = {identifier: number for number, identifier in enumerate(other.ids)}
    if len(row) != len(one.ids) or any(identifier not in row for identifier in one.ids):
        raise BeirHybridError(
            f"{one.setting}, {one.measure}: {name} answers other questions than the rest; evaluate all on the same "
            "data."
        )
    order = np.array([row[identifier] for identifier in one.ids], dtype=np.int64)
    return other.values[order]


def tested_means(
    baseline: SystemValues, system: SystemValues, measure: str, shared: Sequence[str], counts: Array
) -> Iterator[tuple[Figure, Array]]:
    """What is tested: every shared setting, and the averages that both systems have; with the settings' weights."""
    questions = counts.sum(axis=0)
    collection = baseline.by_key[shared[0], measure].collection
    rows = {
        figure.setting: figure
        for figure in baseline.system.runs[0].figures
        if not figure.average and figure.measure == measure
    }
    for column, setting in enumerate(shared):
        weight = np.zeros(len(shared))
        weight[column] = 1
        yield rows[setting], weight
    kinds = [kind_of(setting, collection) for setting in shared]
    theirs = system.averages
    for key, figure in baseline.averages.items():
        if figure.measure != measure or key not in theirs:
            continue
        inside = np.array(
            [
                kind == figure.kind and figure.query_language in ("", rows[setting].query_language)
                for kind, setting in zip(kinds, shared, strict=True)
            ]
        )
        weight = inside.astype(np.float64) if figure.average == "macro" else inside * questions
        yield figure, weight / weight.sum()


def by_item(pairs: Sequence[tuple[QueryFigures, Array]]) -> tuple[Array, Array]:
    """Sums of the differences and numbers of questions, by item and setting."""
    number: dict[str, int] = {}
    rows: dict[int, Any] = {}
    for one, _ in pairs:
        if id(one.items) not in rows:
            rows[id(one.items)] = np.array([number.setdefault(item, len(number)) for item in one.items])
    totals, counts = np.zeros((2, len(number), len(pairs)))
    for column, (one, differences) in enumerate(pairs):
        np.add.at(totals[:, column], rows[id(one.items)], differences)
        np.add.at(counts[:, column], rows[id(one.items)], 1.0)
    return totals, counts
