"""Some of the languages of parallel pairs, in an order of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.training.pairs import Negatives, ParallelPairs
from beir_hybrid.training.sources.tables import from_first, spread


def chosen(pairs: ParallelPairs, languages: Sequence[str] | None) -> ParallelPairs:
    """The pairs in some languages, in this order; as they are where those are all, in the order that they have.

    Items that no row of a batch could come from are left out. Groups are those of all languages, without gaps.

    Raises:
        BeirHybridError: a language is not there, or named twice, or no item is left.
    """
    if languages is None or tuple(languages) == pairs.languages:
        return pairs
    for code in languages:
        if code not in pairs.languages:
            raise unknown(f"language in {pairs.source}:", code, pairs.languages)
    if not languages:
        raise BeirHybridError(f"{pairs.source}: no languages were named; name some of {', '.join(pairs.languages)}.")
    columns = np.array([pairs.languages.index(code) for code in languages])
    query_row, passage_row = pairs.query_row[:, columns], pairs.passage_row[:, columns]
    kept = (query_row >= 0).any(axis=1) & (passage_row >= 0).any(axis=1)
    if not pairs.same_language:  # a sentence needs its translation
        kept &= (query_row >= 0).sum(axis=1) > 1
    items = np.flatnonzero(kept)
    if not len(items):
        raise BeirHybridError(
            f"{pairs.source}: no item is left in {', '.join(languages)}; name more of {', '.join(pairs.languages)}."
        )
    group = pairs.item_group[items]
    fresh = from_first(group)
    names = np.full(int(pairs.item_group.max()) + 1, -1, dtype=np.int64)
    names[group] = fresh
    cells = (items[:, None] * len(pairs.languages) + columns).ravel()
    return replace(
        pairs,
        languages=tuple(languages),
        query_row=query_row[items],
        passage_row=passage_row[items],
        item_group=fresh,
        negatives=pairs.negatives and _cells(pairs.negatives, cells, names),
    )


def _cells(negatives: Negatives, cells: np.ndarray[tuple[int], np.dtype[np.int64]], names: np.ndarray) -> Negatives:
    """The negatives of some cells; `names` is what groups are called now, -1 for those that are gone."""
    first = negatives.start[cells]
    counts = negatives.start[cells + 1] - first
    places = spread(first, counts)
    group = negatives.group[places]
    start = np.append(0, np.cumsum(counts))
    return Negatives(negatives.texts, start, negatives.row[places], np.where(group < 0, -1, names[group]))
