"""What some measures of multi settings need beyond the ranks of relevant passages, from rankings that are not kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from beir_hybrid.collections.collection import MultilingualCollection, Setting
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.evaluation.measures import Attention, Retrieved, SettingRanks
from beir_hybrid.evaluation.measures.correlation import full_rank_correlation
from beir_hybrid.evaluation.plan import GridPlan, languages_compared
from beir_hybrid.evaluation.text_vectors import SomeVectors, TextVectors
from beir_hybrid.retrieval.best import each_best
from beir_hybrid.retrieval.search import Progress
from beir_hybrid.retrieval.vectors import FloatArray, Vectors


def with_whole_rankings(
    asked: Mapping[Setting, SettingRanks],
    plan: GridPlan,
    query_vectors: TextVectors,
    passage_vectors: TextVectors,
    collection: MultilingualCollection,
    bar: Callable[[], AbstractContextManager[Progress]],
) -> dict[Setting, SettingRanks]:
    """The ranks of each setting, with what AWRF and MRC need where they are asked for.

    Args:
        query_vectors, passage_vectors: Of all of the collection's texts; scores are inner products.
        bar: Makes a progress bar.
    """
    settings = {setting: ranks for setting, ranks in asked.items() if setting.kind == "multi"}
    wanted = plan.measures["multi"]
    cutoffs = {measure.params.get("cutoff") for measure in wanted if measure.NAME == "AWRF"}
    found = dict(asked)
    if settings and cutoffs:
        rows = np.unique(np.concatenate([ranks.query_rows for ranks in settings.values()]))
        shown = language_attention(query_vectors, passage_vectors, collection, rows, cutoffs)
        for setting, ranks in settings.items():
            own = shown.of(np.searchsorted(rows, ranks.query_rows))
            found[setting] = replace(ranks, found=replace(ranks.found, retrieved=own))
    if settings and any(measure.NAME == "MRC" for measure in wanted):
        rows = np.flatnonzero(np.isin(collection.queries.language, languages_compared(collection)))
        vectors = Vectors.of(SomeVectors(query_vectors, rows), "query vectors")
        every = np.full(len(collection.queries), np.nan)
        with bar() as advance:
            every[rows] = full_rank_correlation(
                vectors, passage_vectors, collection.query_item[rows], collection.passages.ids, progress=advance
            )
        for setting in settings:
            ranks = found[setting]
            found[setting] = replace(ranks, found=replace(ranks.found, correlations=every[ranks.query_rows]))
    return found


def language_attention(
    query_vectors: TextVectors,
    passage_vectors: TextVectors,
    collection: MultilingualCollection,
    rows: IntArray,
    cutoffs: Collection[int | None],
) -> Attention:
    """The attention that each language of the pool gets in the rankings of the queries `rows`, at each cutoff.

    Some queries are ranked at a time, as deep as the largest cutoff, or fully for None; only the sums are kept.
    """
    pool, codes = len(collection.passages), len(collection.languages)
    depth = pool if None in cutoffs else min(pool, max(cutoff or 0 for cutoff in cutoffs))
    own = collection.own_passages
    sums = {cutoff: np.zeros((len(rows), codes)) for cutoff in cutoffs}

    def take(start: int, scores: FloatArray, passages: IntArray) -> None:
        part = slice(start, start + len(passages))
        kept = np.ones(passages.shape, dtype=np.bool_) if own is None else passages != own[rows[part]][:, None]
        shown = Retrieved(collection.passages.language[passages[kept]], np.append(0, np.cumsum(kept.sum(axis=1))))
        for cutoff, summed in sums.items():
            summed[part] = shown.attention(cutoff, codes)

    # One more where a question must not find itself.
    each_best(
        Vectors.of(SomeVectors(query_vectors, rows), "query vectors"),
        Vectors.of(passage_vectors, "passage vectors"),
        depth + (own is not None),
        collection.passages.ids,
        take,
    )
    return Attention(sums)
