"""Mean rank correlation: how alike parallel questions rank one pool.

MRC is of Yang, Jiang, Baldwin 2024, "Language Bias in Multilingual Information Retrieval: The Nature of the Beast and
Mitigation Methods" (arXiv 2509.06195): with R(a) the ranking that an item's question in language a gives, RC(a, b) is
Spearman's correlation of R(a) and R(b), RC(a) its mean over the other languages b, and MRC the mean of RC(a) over
languages and items. RC(a) is a question's value. Kendall's tau is offered beside it.

It needs no judgements. It is 1 where the language of the question makes no difference, whether the rankings are good
or bad.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.evaluation.measures.ranks import Values
from beir_hybrid.evaluation.measures.runs import RankedRun
from beir_hybrid.retrieval.search import Progress, top_k
from beir_hybrid.retrieval.vectors import Vectors

Correlation = Literal["spearman", "kendall"]
_CORRELATIONS = ("spearman", "kendall")
_RANKS_AT_ONCE = 4_000_000


def mean_rank_correlation(
    query_vectors: npt.ArrayLike,
    passage_vectors: npt.ArrayLike,
    collection: MultilingualCollection,
    *,
    correlation: Correlation = "spearman",
    progress: Progress | None = None,
) -> Values:
    """Shape (queries,): each question's mean correlation between its full ranking and those of its translations.

    NaN where it has none; `mean` makes MRC of it. Rankings are of the whole pool by inner product, so normalise for
    cosines; ties go by id, as everywhere. A block of questions is ranked at a time.

    Args:
        query_vectors: Shape (queries, dimensions), in the collection's order.
        passage_vectors: Shape (passages, dimensions), in the collection's order.
        correlation: "spearman", or "kendall", which is tau and some hundred times slower.
        progress: Called with (queries done, queries) after each block.

    Raises:
        BeirHybridError: as `top_k`; the vectors are not the collection's; one passage; an unknown correlation.
    """
    asked, pool = Vectors.of(query_vectors, "query vectors"), len(collection.passages)
    if len(asked) != len(collection.queries):
        raise BeirHybridError(f"{len(asked)} query vectors for the {len(collection.queries)} queries; one each is due.")
    if pool < 2:
        raise BeirHybridError(f"{collection.name} has {pool} passages; a correlation of rankings needs 2.")
    return full_rank_correlation(
        asked, passage_vectors, collection.query_item, collection.passages.ids, correlation, progress
    )


def full_rank_correlation(
    asked: Vectors,
    passage_vectors: npt.ArrayLike,
    query_item: IntArray,
    passage_ids: Sequence[str],
    correlation: Correlation = "spearman",
    progress: Progress | None = None,
) -> Values:
    """As `mean_rank_correlation`, of any queries whose items, numbers from 0, are given."""
    _check(correlation)
    pool = len(passage_ids)
    found = np.full(len(asked), np.nan)
    items = int(query_item.max(initial=-1)) + 1
    order = np.argsort(query_item, kind="stable")
    bounds = np.searchsorted(query_item[order], np.arange(items + 1))
    done = 0
    while done < items:
        # Whole items, as many as fit; at least one.
        last = int(np.searchsorted(bounds, bounds[done] + max(1, _RANKS_AT_ONCE // pool), side="right")) - 1
        last = min(max(last, done + 1), items)
        rows = order[bounds[done] : bounds[last]]
        if len(rows):
            _, best = top_k(asked.rows(rows), passage_vectors, pool, passage_ids)
            ranks = np.empty(best.shape, dtype=np.float64)
            np.put_along_axis(ranks, best, np.arange(pool, dtype=np.float64)[None], axis=1)
            for item in range(done, last):
                first, end = bounds[item] - bounds[done], bounds[item + 1] - bounds[done]
                found[rows[first:end]] = _of_full(ranks[first:end], correlation)
        done = last
        if progress is not None:
            progress(int(bounds[done]), len(asked))
    return found


def run_rank_correlation(run: RankedRun, query_item: IntArray, *, correlation: Correlation = "spearman") -> Values:
    """Shape (queries,): each question's mean correlation between its results and those of its translations in a run.

    Two truncated rankings are compared over the documents that are in either. What is missing in one stands there
    behind all that it has, tied: each such document has the mean of the ranks that are left. This is Spearman's
    correlation of mid-ranks, or tau-b, and it depends on the depth: state it with the figure. Rankings without a common
    document have a correlation below 0. A pair with an empty ranking, or of one document, has no correlation and is
    left out; a question without a pair that has one is NaN.

    Args:
        run: What each question retrieved.
        query_item: Shape (queries,): the item of each question, from 0.
        correlation: "spearman" or "kendall".

    Raises:
        BeirHybridError: the items are not of these queries; an unknown correlation.
    """
    _check(correlation)
    if len(query_item) != len(run.start) - 1:
        raise BeirHybridError(f"items of {len(query_item)} queries for a run of {len(run.start) - 1}; one each is due.")
    order = np.argsort(query_item, kind="stable")
    bounds = np.searchsorted(query_item[order], np.arange(int(query_item.max(initial=-1)) + 2))
    found = np.full(len(order), np.nan)
    for first, last in itertools.pairwise(bounds.tolist()):
        results = [run.of(int(query)) for query in order[first:last]]
        between = np.full((len(results), len(results)), np.nan)
        for a, b in itertools.combinations(range(len(results)), 2):
            between[a, b] = between[b, a] = _of_pair(results[a], results[b], correlation)
        found[order[first:last]] = _means(between)
    return found


def _of_full(ranks: Values, correlation: Correlation) -> Values:
    """Shape (rankings,): each one's mean correlation with the others; of the same documents, without ties."""
    count, pool = ranks.shape
    if correlation == "kendall":
        between = np.full((count, count), np.nan)
        for a, b in itertools.combinations(range(count), 2):
            between[a, b] = between[b, a] = _kendall(ranks[a], ranks[b])
    else:
        centred = ranks - (pool - 1) / 2
        between = centred @ centred.T / (pool * (pool * pool - 1) / 12)
        np.fill_diagonal(between, np.nan)
    return _means(between)


def _means(between: Values) -> Values:
    """The mean of each row's numbers; NaN where it has none."""
    defined = ~np.isnan(between)
    counts = defined.sum(axis=1)
    means = np.full(len(between), np.nan)
    np.divide(np.where(defined, between, 0).sum(axis=1), counts, out=means, where=counts > 0)
    return means


def _of_pair(first: npt.NDArray[np.integer], second: npt.NDArray[np.integer], correlation: Correlation) -> float:
    """The correlation of two rankings, each of its own documents."""
    documents = np.union1d(first, second)
    if not len(first) or not len(second) or len(documents) < 2:
        return float("nan")
    a, b = (_mid_ranks(ranking, documents) for ranking in (first, second))
    return _FUNCTIONS[correlation](a, b)


def _mid_ranks(ranking: npt.NDArray[np.integer], documents: npt.NDArray[np.integer]) -> Values:
    ranks = np.full(len(documents), (len(ranking) + 1 + len(documents)) / 2)
    ranks[np.searchsorted(documents, ranking)] = np.arange(1, len(ranking) + 1)
    return ranks


def _spearman(first: Values, second: Values) -> float:
    a, b = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else float("nan")


def _kendall(first: Values, second: Values) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


_FUNCTIONS: dict[str, Callable[[Values, Values], float]] = {"spearman": _spearman, "kendall": _kendall}


def _check(correlation: str) -> None:
    if correlation not in _CORRELATIONS:
        raise unknown("correlation", str(correlation), _CORRELATIONS)
