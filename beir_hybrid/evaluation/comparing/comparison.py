"""Systems side by side: every figure that two of them share, with its difference tested on the same questions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.evaluation.comparing.pairing import System, SystemValues, aligned, by_item, tested_means
from beir_hybrid.evaluation.comparing.significance import PairedSample, TestSettings, holm, paired_statistics
from beir_hybrid.evaluation.figures import Results, check_comparable, kind_of, lower_is_better, package_versions
from beir_hybrid.evaluation.measures.names import parse
from beir_hybrid.files import write_json


@dataclass(frozen=True)
class Difference:
    """A figure of two systems, and what is known of its difference.

    Attributes:
        setting, measure, average, query_language: As in the figure.
        value, baseline_value: Means over the runs of each.
        difference: `value` less `baseline_value`. Lower is better for RankDistance alone.
        low, high: The confidence interval of the difference.
        p: Two-sided.
        corrected: p by Holm's procedure in its family: all figures of one kind and measure (the 11 mono settings, the
            110 cross settings, the 11 averages of cross settings by question language, ...) of all systems compared.
        family: How many tests that are.
        effect: d_z; None where all pairs differ by the same amount.
        wins, ties, losses: Items for which the system is better than, as good as, and worse than the baseline.
        pairs: How many items that are: as many as questions where each item asks once in each setting.
    """

    collection: str
    baseline: str
    system: str
    setting: str
    measure: str
    average: str
    query_language: str
    baseline_value: float
    value: float
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    family: int
    effect: float | None
    wins: int
    ties: int
    losses: int
    pairs: int

    @property
    def kind(self) -> str:
        """What settings are averaged with it."""
        return kind_of(self.setting, self.collection)


@dataclass(frozen=True)
class Spread:
    """An average in several runs of one system.

    Attributes:
        values: Of each run.
        deviation: Their standard deviation, n - 1.
    """

    system: str
    setting: str
    measure: str
    average: str
    mean: float
    deviation: float
    runs: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Every difference of some systems from their baseline on one collection."""

    collection: str
    differences: tuple[Difference, ...]
    spreads: tuple[Spread, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def select(self, **fields: str) -> tuple[Difference, ...]:
        """The differences with these values: `select(kind="mono", measure="AP", average="macro")`."""
        return tuple(
            one for one in self.differences if all(getattr(one, name) == value for name, value in fields.items())
        )

    def to_json(self) -> dict[str, Any]:
        """`{"provenance": {...}, "differences": [row, ...], "spreads": [row, ...]}`."""
        return {
            "provenance": dict(self.provenance),
            "differences": [dataclasses.asdict(one) for one in self.differences],
            "spreads": [dataclasses.asdict(one) for one in self.spreads],
        }

    def write_json(self, path: Path | str) -> None:
        """Write `to_json()` to `path`, whole or not at all."""
        write_json(Path(path), self.to_json())


def compare(
    systems: Mapping[str, Results | Sequence[Results]] | Sequence[System],
    *,
    baseline: str | None = None,
    measures: Sequence[str] | None = None,
    settings: TestSettings | None = None,
) -> Comparison:
    """Test each system against the baseline, on every figure that the two share.

    Args:
        systems: Results by name; several of one name are its runs (seeds), whose values are averaged for each question
            before they are paired, and whose spread is reported.
        baseline: A name; by default the first.
        measures: Only these.
        settings: The test, its seed, and the interval.

    Raises:
        BeirHybridError: fewer than two systems, an unknown name, results without the values of each question, or
            results that do not compare: other data, text mode or questions, or rankings of such different depth that no
            measure is left. Of a ranking that was cut off, only measures that look no deeper (R@10) are compared with
            rankings of another depth; provenance names what is left out.
    """
    settings = settings or TestSettings()
    found = [
        System(name, (runs,) if isinstance(runs, Results) else tuple(runs)) for name, runs in _named(systems).items()
    ]
    against = _check(found, baseline)
    values = {system.name: SystemValues(system) for system in found}
    known = list(dict.fromkeys(measure for _, measure in values[against].by_key))
    for measure in measures or ():
        if measure not in known:
            raise unknown("measure", measure, known)
    rows: list[Difference] = []
    left_out: dict[str, list[str]] = {}
    for system in found:
        if system.name != against:
            for measure in known if measures is None else dict.fromkeys(measures):
                if _too_deep(measure, values[against].system, system):
                    left_out.setdefault(system.name, []).append(measure)
                else:
                    rows += _tested(values[against], values[system.name], measure, settings)
    if not rows:
        for system in found if left_out else ():
            for run in system.runs:
                check_comparable(found[0].runs[0], run)
        raise BeirHybridError("the systems share no setting and measure; evaluate them in the same settings.")
    used = {row.measure for row in rows}
    provenance = {
        "test": dataclasses.asdict(settings),
        "correction": "Holm, over all settings or averages of one kind and measure",
        "baseline": against,
        **({"left_out": left_out} if left_out else {}),
        "systems": [{"name": one.name, "runs": [run.provenance for run in one.runs]} for one in found],
        "versions": package_versions(),
    }
    spreads = tuple(spread for system in found for spread in spreads_of(system) if spread.measure in used)
    return Comparison(found[0].runs[0].collection, tuple(_corrected(rows)), spreads, provenance)


def _named(systems: Mapping[str, Results | Sequence[Results]] | Sequence[System]) -> dict[str, Any]:
    if isinstance(systems, Mapping):
        return dict(systems)
    names = [system.name for system in systems]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BeirHybridError(f"two systems are called {twice[0]!r}; give them names of their own (NAME=FOLDER).")
    return {system.name: system.runs for system in systems}


def _check(systems: Sequence[System], baseline: str | None) -> str:
    if len(systems) < 2:
        raise BeirHybridError(f"{len(systems)} systems to compare; expected at least two: a baseline and another.")
    if baseline is not None and baseline not in {system.name for system in systems}:
        raise unknown("baseline", baseline, [system.name for system in systems])
    first = None
    for system in systems:
        if not system.runs:
            raise BeirHybridError(f"{system.name} has no results.")
        for run in system.runs:
            if not run.queries:
                raise BeirHybridError(
                    f"the results of {system.name} do not hold the values of each question, which the tests need "
                    "(queries.parquet beside results.json). Evaluate it again, with --report."
                )
            first = first or run
            if run.collection != first.collection:
                raise BeirHybridError(
                    f"{system.name} was measured on {run.collection}, the first system on {first.collection}; "
                    "compare systems on one collection."
                )
            check_comparable(first, run, depth=False)
    return systems[0].name if baseline is None else baseline


def _too_deep(measure: str, *systems: System) -> bool:
    """Whether a measure looks further down than the shallowest of rankings of different depth goes."""
    depths = {run.provenance.get("depth") for system in systems for run in system.runs}
    if len(depths) < 2:
        return False
    cutoff = parse(measure).params.get("cutoff")
    return cutoff is None or cutoff > min(depth for depth in depths if depth is not None)


def _tested(baseline: SystemValues, system: SystemValues, measure: str, settings: TestSettings) -> Iterator[Difference]:
    shared = [key[0] for key in baseline.by_key if key[1] == measure and key in system.by_key]
    if not shared:
        return
    pairs = []
    for setting in shared:
        one = baseline.by_key[setting, measure]
        before, after = one.values, aligned(one, system.by_key[setting, measure], system.system.name)
        same = np.isclose(before, after, rtol=1e-12, atol=1e-12)  # means over runs differ in the last bit
        pairs.append((one, np.where(same, 0.0, after - before)))
    totals, counts = by_item(pairs)
    means = list(tested_means(baseline, system, measure, shared, counts))
    weights = np.stack([weight for _, weight in means], axis=1)
    sample = PairedSample(totals, counts, weights)
    found = paired_statistics(sample, settings)
    worse = lower_is_better(measure)
    values = [
        np.array([side.by_key[setting, measure].values.mean() for setting in shared]) @ weights
        for side in (baseline, system)
    ]
    there = sample.taking_part.sum(axis=0)
    for n, (figure, _) in enumerate(means):
        wins, losses = int(found.wins[n]), int(found.losses[n])
        yield Difference(
            figure.collection, baseline.system.name, system.system.name, figure.setting, measure, figure.average,
            figure.query_language, float(values[0][n]), float(values[1][n]), float(found.mean[n]),
            float(found.low[n]), float(found.high[n]), float(found.p[n]), float(found.p[n]), 1,
            None if math.isnan(found.effect[n]) else float(found.effect[n]),
            losses if worse else wins, int(found.ties[n]), wins if worse else losses, int(there[n]),
        )  # fmt: skip


def _corrected(rows: Sequence[Difference]) -> Iterator[Difference]:
    families: dict[tuple[str, str, str, bool], list[int]] = {}
    for number, row in enumerate(rows):
        families.setdefault((row.kind, row.measure, row.average, bool(row.query_language)), []).append(number)
    changed = list(rows)
    for members in families.values():
        for number, p in zip(members, holm([rows[number].p for number in members]).tolist(), strict=True):
            changed[number] = dataclasses.replace(rows[number], corrected=p, family=len(members))
    yield from changed


def spreads_of(system: System) -> Iterator[Spread]:
    """Every average over languages that all runs of a system have; nothing where there is one run."""
    if len(system.runs) < 2:
        return
    by_run = [
        {
            (one.setting, one.measure, one.average): one.value
            for one in run.figures
            if one.average and not one.query_language
        }
        for run in system.runs
    ]
    for key in by_run[0]:
        if all(key in other for other in by_run):
            values = tuple(other[key] for other in by_run)
            deviation = float(np.std(values, ddof=1))
            yield Spread(system.name, *key, float(np.mean(values)), deviation, len(values), values)
