"""The ranks that relevant passages have: what every measure of a query follows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import MultilingualCollection, Setting
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval.search import RelevantRanks

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The languages of all that was retrieved, relevant or not.

    Attributes:
        languages: Shape (retrieved,): numbers into the codes, by query and in rank order.
        start: Shape (queries + 1,): query q has `languages[start[q] : start[q + 1]]`.
    """

    languages: npt.NDArray[np.integer]
    start: IntArray

    def attention(self, cutoff: int | None, codes: int) -> Values:
        """Shape (queries, codes): what the top `cutoff` gives to each language, 1 / log2(max(rank, 2)) at each rank."""
        lengths = np.diff(self.start)
        shown = lengths if cutoff is None else np.minimum(lengths, cutoff)
        rank = np.arange(shown.sum()) - np.repeat(np.cumsum(shown) - shown, shown) + 1
        query = np.repeat(np.arange(len(shown)), shown)
        cell = query * codes + self.languages[self.start[query] + rank - 1]
        weights = 1 / np.log2(np.maximum(rank, 2))
        summed = np.bincount(cell, weights=weights, minlength=len(shown) * codes)
        return summed.reshape(len(shown), codes).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention that languages get, summed already: for rankings that are too long to be kept.

    Attributes:
        sums: For each cutoff, shape (queries, codes).
    """

    sums: Mapping[int | None, Values]

    def attention(self, cutoff: int | None, codes: int) -> Values:
        """As of `Retrieved`; for the cutoffs that there are."""
        return self.sums[cutoff]

    def of(self, queries: IntArray | slice) -> Attention:
        """That of some queries."""
        return Attention({cutoff: sums[queries] for cutoff, sums in self.sums.items()})


@dataclass(frozen=True, eq=False)
class QueryRanks:
    """The ranks of the relevant passages that some queries found.

    Attributes:
        ranks: Shape (found,): ranks from 1, ascending within each query.
        start: Shape (queries + 1,): query q has `ranks[start[q] : start[q + 1]]`.
        relevant: Shape (queries,): how many relevant passages there are, found or not.
        grades: Shape (relevant.sum(),), by query: how relevant each is, found or not, from 1; None where all are 1.
        languages: Shape (relevant.sum(),), aligned with `grades`: numbers into `codes`; None where nobody knows.
        pair: Shape (found,): where in `grades` and `languages` the passage of each rank stands. Needed with either.
        codes: The languages.
        retrieved: The languages of all that was retrieved, or the attention that they get; for AWRF alone.
        correlations: Shape (queries,): how a query's ranking correlates with those of its translations; for MRC alone.
    """

    ranks: IntArray
    start: IntArray
    relevant: IntArray
    grades: IntArray | None = None
    languages: IntArray | None = None
    pair: IntArray | None = None
    codes: tuple[str, ...] = ()
    retrieved: Retrieved | Attention | None = None
    correlations: Values | None = None

    def __post_init__(self) -> None:
        if self.pair is None and (self.grades is not None or self.languages is not None):
            raise BeirHybridError("QueryRanks with grades or languages needs `pair`, which says whose each rank is.")

    @property
    def query(self) -> IntArray:
        """Shape (found,): the query of each rank."""
        return np.repeat(np.arange(len(self.relevant)), np.diff(self.start))

    @property
    def owner(self) -> IntArray:
        """Shape (relevant.sum(),): the query of each relevant passage, found or not."""
        return np.repeat(np.arange(len(self.relevant)), self.relevant)

    def sums(self, values: npt.ArrayLike) -> Values:
        """Shape (queries,): the sum over each query's ranks, added in their order as trec_eval adds."""
        weights = np.asarray(values, dtype=np.float64)
        return np.bincount(self.query, weights=weights, minlength=len(self.relevant)).astype(np.float64)

    def where(self, kept: npt.NDArray[np.bool_]) -> QueryRanks:
        """As if only some of the relevant passages were relevant; `kept` is aligned with `grades`."""
        count = len(self.relevant)
        pair = np.empty(0, dtype=np.int64) if self.pair is None else self.pair
        found = kept[pair] if len(pair) else np.zeros(len(self.ranks), dtype=np.bool_)
        return QueryRanks(
            self.ranks[found],
            np.append(0, np.cumsum(np.bincount(self.query[found], minlength=count))),
            np.bincount(self.owner[kept], minlength=count),
            None if self.grades is None else self.grades[kept],
            None if self.languages is None else self.languages[kept],
            (np.cumsum(kept) - 1)[pair[found]] if len(pair) else pair,
            self.codes,
            self.retrieved,
            self.correlations,
        )

    def at_least(self, grade: int) -> QueryRanks:
        """As if only what has this grade or a higher one were relevant."""
        if self.grades is None:
            return self if grade <= 1 else self.where(np.zeros(int(self.relevant.sum()), dtype=np.bool_))
        kept = self.grades >= grade
        return self if kept.all() else self.where(kept)


@dataclass(frozen=True, eq=False)
class SettingRanks:
    """The questions of one setting, as rows of the collection (ascending), and the ranks of what answers them."""

    query_rows: IntArray
    found: QueryRanks


def setting_ranks(collection: MultilingualCollection, ranks: RelevantRanks, setting: Setting) -> SettingRanks:
    """Where the relevant passages of each question of `setting` stand in its pool."""
    relevant = collection.relevant
    asked = collection.queries.language[relevant.queries] == collection.language_number(setting.query_language)
    if setting.searched is not None:
        asked &= collection.passages.language[relevant.passages] == collection.language_number(setting.searched)
    pairs = np.flatnonzero(asked)
    rank = (ranks.in_pool if setting.searched is None else ranks.in_language)[pairs]
    query_rows, query, counts = np.unique(relevant.queries[pairs], return_inverse=True, return_counts=True)
    order = np.lexsort((rank, query))
    found = QueryRanks(
        rank[order],
        np.append(0, np.cumsum(counts)),
        counts,
        relevant.grades[pairs].astype(np.int64),
        collection.passages.language[relevant.passages[pairs]].astype(np.int64),
        order,
        collection.languages,
    )
    return SettingRanks(query_rows, found)
