"""What a grid has to compute: which measures in which settings, and which texts that needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import ir_measures
import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import KINDS, Kind, MultilingualCollection, Setting
from beir_hybrid.collections.lazy import Some
from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.evaluation.measures import DEFAULT, defined_in, parse

Measures = Sequence[str | ir_measures.Measure]


@dataclass(frozen=True)
class GridPlan:
    """The measures of each kind of setting, the settings to evaluate, and all that the collection has.

    `whole` is the collection's: whether averages may be taken.
    """

    measures: Mapping[Kind, tuple[ir_measures.Measure, ...]]
    settings: tuple[Setting, ...]
    everything: tuple[Setting, ...]
    whole: bool = True


def plan_grid(
    collection: MultilingualCollection, measures: Measures | None, settings: Sequence[str] | None
) -> GridPlan:
    if isinstance(measures, str) or isinstance(settings, str):
        raise BeirHybridError('measures and settings are lists of names, as in measures=["AP"]; found one string.')
    if not collection.settings:
        raise BeirHybridError(f"{collection.name}: no question has a relevant passage; there is nothing to evaluate.")
    if not collection.judged:
        raise BeirHybridError(
            f"{collection.name} has no judgements: they are kept back. Make a run of it and hand that in instead."
        )
    chosen = _chosen(collection, settings)
    if not collection.passages.ids_differ and any(setting.searched is None for setting in chosen):
        raise BeirHybridError(f"{collection.name}: ids repeat between languages, so they cannot be in one pool.")
    by_kind: dict[Kind, tuple[ir_measures.Measure, ...]] = {}
    for kind in KINDS:
        parsed = dict.fromkeys(parse(measure) for measure in (DEFAULT[kind] if measures is None else measures))
        by_kind[kind] = tuple(measure for measure in parsed if defined_in(measure, kind))
    if not any(by_kind[setting.kind] for setting in chosen):
        raise BeirHybridError(
            f"none of the measures {[str(measure) for measure in measures or ()]} is defined in "
            f"{', '.join(sorted({setting.kind for setting in chosen}))} settings; "
            "RankDistance needs multi, as do LanguageRecall, AWRF and MRC."
        )
    _check_parameters(collection, {measure for found in by_kind.values() for measure in found})
    return GridPlan(by_kind, chosen, collection.settings, collection.whole)


def _check_parameters(collection: MultilingualCollection, measures: Iterable[ir_measures.Measure]) -> None:
    """Refuse, before anything is encoded, what the collection's judgements cannot give."""
    highest = int(collection.relevant.grades.max(initial=0))
    for measure in measures:
        least, language = measure.params.get("rel", 1), measure.params.get("lang")
        if least > highest:
            raise BeirHybridError(
                f"{measure}: the highest grade in {collection.name} is {highest}, so nothing would be relevant; "
                f"ask for a rel from 1 to {highest}."
            )
        if language is not None:
            collection.language_number(language)
        if measure.NAME == "MRC" and len(languages_compared(collection)) < 2:
            raise BeirHybridError(
                f"{measure} compares the rankings of questions in several languages, and {collection.name} has "
                "questions in one; leave it out."
            )


def languages_compared(collection: MultilingualCollection) -> list[int]:
    """The numbers of the languages whose questions search the pool of all languages."""
    asking = {setting.query_language for setting in collection.settings if setting.kind == "multi"}
    return [number for number, code in enumerate(collection.languages) if code in asking]


def _chosen(collection: MultilingualCollection, names: Sequence[str] | None) -> tuple[Setting, ...]:
    if names is None:
        return collection.settings
    known = {str(setting): [setting] for setting in collection.settings}
    for setting in collection.settings:
        known.setdefault(f"{collection.name}/{setting.kind}", []).append(setting)
    wanted: set[Setting] = set()
    for name in names:
        full = name if name.startswith(f"{collection.name}/") else f"{collection.name}/{name}"
        if full not in known:
            raise unknown("setting", full, known)
        wanted.update(known[full])
    if not wanted:
        raise BeirHybridError(f"no settings were asked for; leave `settings` out for all of {collection.name}.")
    return tuple(setting for setting in collection.settings if setting in wanted)


@dataclass(frozen=True, eq=False)
class GridRows:
    """The rows of a collection that some settings need, as a collection of its own."""

    whole: MultilingualCollection
    collection: MultilingualCollection
    query_rows: IntArray
    passage_rows: IntArray


def needed_rows(collection: MultilingualCollection, plan: GridPlan) -> GridRows:
    """The texts that a plan's settings need: what these search, and the questions with a relevant passage there."""
    asking = {setting.query_language for setting in plan.settings}
    searched: set[str] = set()
    for setting in plan.settings:
        searched |= set(collection.languages) if setting.searched is None else {setting.searched}
    if any(s.kind == "multi" for s in plan.settings) and any(m.NAME == "MRC" for m in plan.measures["multi"]):
        asking |= {collection.languages[number] for number in languages_compared(collection)}
    found = _is_in(collection, collection.passages, searched)
    answered = np.zeros(len(collection.queries), dtype=np.bool_)
    answered[collection.relevant.queries[found[collection.relevant.passages]]] = True
    asks = _is_in(collection, collection.queries, asking) & answered
    if asks.all() and found.all():
        return GridRows(collection, collection, np.arange(len(asks)), np.arange(len(found)))
    judgements = collection.judgements
    kept = judgements.where(found[judgements.passages]).of_queries(np.flatnonzero(asks))
    new_row = np.cumsum(found) - 1
    part = replace(
        collection,
        queries=_rows(collection.queries, asks),
        passages=_rows(collection.passages, found),
        query_item=collection.query_item[asks],
        judgements=replace(kept, passages=new_row[kept.passages]),
    )
    return GridRows(collection, part, np.flatnonzero(asks), np.flatnonzero(found))


def _is_in(collection: MultilingualCollection, texts: Texts, languages: set[str]) -> npt.NDArray[np.bool_]:
    numbers = [number for number, code in enumerate(collection.languages) if code in languages]
    return np.isin(texts.language, numbers)


def _rows(texts: Texts, kept: npt.NDArray[np.bool_]) -> Texts:
    rows = np.flatnonzero(kept)
    titles = None if texts.titles is None else Some(texts.titles, rows)
    return Texts(Some(texts.ids, rows), Some(texts.texts, rows), texts.language[rows], titles)
