"""From the value of each question to figures: means by setting, and averages over settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import KINDS, MultilingualCollection, Setting
from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.evaluation.figures import Figure
from beir_hybrid.evaluation.per_query import QueryFigures
from beir_hybrid.evaluation.plan import GridPlan

SettingValues = dict[str, npt.NDArray[np.float64]]
"""Measure -> the value of each question of one setting; nan where the measure has none."""


def query_figures(
    by_setting: Mapping[Setting, tuple[IntArray, SettingValues]], collection: MultilingualCollection, blank: Figure
) -> Iterator[QueryFigures]:
    """The values that there are: a measure may have none for a question."""
    named: dict[bytes, tuple[tuple[str, ...], tuple[str, ...]]] = {}  # settings mostly ask the same questions
    for setting, (rows, per_measure) in by_setting.items():
        for measure, found in per_measure.items():
            defined = ~np.isnan(found)
            own = rows if defined.all() else rows[defined]
            if not len(own):
                continue
            if (key := own.tobytes()) not in named:
                items = tuple(collection.items[item] for item in collection.query_item[own].tolist())
                named[key] = tuple(take(collection.queries.ids, own)), items
            yield QueryFigures(
                blank.collection, blank.system, blank.batching, str(setting), measure, *named[key], found[defined]
            )


def figures_of(by_setting: Mapping[Setting, SettingValues], plan: GridPlan, blank: Figure) -> Iterator[Figure]:
    """The figure of every setting and measure, then the averages; `blank` names the system."""
    for setting, per_measure in by_setting.items():
        for measure, per_query in per_measure.items():
            row = replace(blank, setting=str(setting), query_language=setting.query_language, measure=measure)
            yield from _mean(row, "", [per_query])
    for kind, in_pool in itertools.product(KINDS, (False, True)):
        settings = [one for one in plan.everything if one.kind == kind and (one.searched is None) == in_pool]
        if not plan.whole:  # an average over some settings would look like one over all
            settings = []
        languages = list(dict.fromkeys(setting.query_language for setting in settings))
        several = kind == "cross" or (kind == "blend" and not in_pool)  # passage languages for one question language
        for language in languages if several else ():
            own = [setting for setting in settings if setting.query_language == language]
            yield from _averages(own, by_setting, replace(blank, query_language=language), ("macro",))
        yield from _averages(settings, by_setting, blank, ("macro", "micro"))


def _averages(
    settings: Sequence[Setting], by_setting: Mapping[Setting, SettingValues], blank: Figure, averages: Sequence[str]
) -> Iterator[Figure]:
    """The averages over all of `settings`; none where one of them was not evaluated."""
    if not settings or any(setting not in by_setting for setting in settings):
        return
    one = settings[0]
    name = f"{one.collection}/{one.kind}"
    if one.kind == "blend":  # in the pool it is another task than in one language
        name += "/multi" if one.searched is None else "/mono"
    for measure in by_setting[settings[0]]:
        for average in averages:
            row = replace(blank, setting=name, measure=measure)
            yield from _mean(row, average, [by_setting[setting][measure] for setting in settings])


def _mean(row: Figure, average: str, parts: Sequence[npt.NDArray[np.float64]]) -> Iterator[Figure]:
    """The mean over the questions that have a value; none where that is no question of some part."""
    defined = [part[~np.isnan(part)] for part in parts]
    if all(len(part) for part in defined):
        every = np.concatenate(defined)
        mean = np.mean([part.mean() for part in defined]) if average == "macro" else every.mean()
        yield replace(row, average=average, value=float(mean), queries=len(every))
