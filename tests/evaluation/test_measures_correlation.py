"""Mean rank correlation, beside scipy on rankings written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.measures import correlation as module
from beir_hybrid.evaluation.measures import mean, mean_rank_correlation, ranked_run, run_rank_correlation
from tests.evaluation.test_grid import toy

SCIPY = {"spearman": spearmanr, "kendall": kendalltau}


def rankings(collection, dimensions=3):
    """Vectors of small whole numbers, so that many tie; and each question's full ranking, sorted slowly."""
    generator = np.random.default_rng(0)
    queries = generator.integers(-2, 3, (len(collection.queries), dimensions)).astype(np.float32)
    passages = generator.integers(-2, 3, (len(collection.passages), dimensions)).astype(np.float32)
    ids = collection.passages.ids
    orders = [
        sorted(range(len(ids)), key=lambda row, own=scores: (own[row], ids[row]), reverse=True)
        for scores in (queries @ passages.T).tolist()
    ]
    return queries, passages, orders


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_full_rankings(kind, monkeypatch):
    collection = toy()
    queries, passages, orders = rankings(collection)
    ranks = [np.argsort(order) for order in orders]
    found = mean_rank_correlation(queries, passages, collection, correlation=kind)
    for query, value in enumerate(found):
        own = np.flatnonzero(collection.query_item == collection.query_item[query])
        others = [SCIPY[kind](ranks[query], ranks[other]).statistic for other in own if other != query]
        assert value == pytest.approx(np.mean(others), abs=1e-12)

    run = ranked_run(np.repeat(np.arange(len(orders)), len(orders[0])), np.concatenate(orders), len(orders))
    assert run_rank_correlation(run, collection.query_item, correlation=kind) == pytest.approx(found, abs=1e-12)
    monkeypatch.setattr(module, "_RANKS_AT_ONCE", 1)
    progress = []
    parts = mean_rank_correlation(
        queries, passages, collection, correlation=kind, progress=lambda *done: progress.append(done)
    )
    assert parts.tolist() == found.tolist()
    assert progress[-1] == (len(queries), len(queries))
    assert len(progress) == len(collection.items)


def test_it_is_one_where_the_language_makes_no_difference():
    collection = toy()
    queries, passages, _ = rankings(collection)
    same = queries[np.unique(collection.query_item, return_index=True)[1]][collection.query_item]
    assert mean(mean_rank_correlation(same, passages, collection)) == pytest.approx(1)


@given(st.integers(0, 2**32), st.sampled_from(["spearman", "kendall"]))
def test_truncated_rankings_are_compared_over_what_is_in_either(seed, kind):
    generator = np.random.default_rng(seed)
    pool = int(generator.integers(2, 12))
    first, second = (generator.permutation(pool)[: generator.integers(1, pool + 1)] for _ in range(2))
    run = ranked_run([0] * len(first) + [1] * len(second), np.concatenate([first, second]), 2)
    found, other = run_rank_correlation(run, np.array([0, 0]), correlation=kind)
    assert found == pytest.approx(other, nan_ok=True)
    either = sorted({*first.tolist(), *second.tolist()})
    columns = []
    for ranking in (first.tolist(), second.tolist()):
        behind = np.mean(np.arange(len(ranking) + 1, len(either) + 1)) if len(ranking) < len(either) else 0
        columns.append([ranking.index(one) + 1 if one in ranking else behind for one in either])
    with np.errstate(all="ignore"):
        defined = len(either) > 1 and all(len(set(column)) > 1 for column in columns)
    assert found == pytest.approx(SCIPY[kind](*columns).statistic if defined else np.nan, abs=1e-12, nan_ok=True)
    if defined and not {*first.tolist()} & {*second.tolist()}:
        assert found < 0


def test_items_with_one_question_or_empty_rankings_have_none():
    run = ranked_run([0, 0, 2, 2, 3, 3], [1, 2, 1, 2, 2, 1], 4)
    assert run_rank_correlation(run, np.array([0, 1, 1, 1])) == pytest.approx([np.nan, np.nan, -1, -1], nan_ok=True)
    assert run_rank_correlation(run, np.array([0, 0, 1, 2])) == pytest.approx([np.nan] * 4, nan_ok=True)


def test_bad_calls():
    collection = toy()
    queries, passages, _ = rankings(collection)
    with pytest.raises(BeirHybridError, match="unknown correlation 'pearson'"):
        mean_rank_correlation(queries, passages, collection, correlation="pearson")
    with pytest.raises(BeirHybridError, match=r"1 query vectors for the \d+ queries"):
        mean_rank_correlation(queries[:1], passages, collection)
    with pytest.raises(BeirHybridError, match="items of 1 queries for a run of 2"):
        run_rank_correlation(ranked_run([], [], 2), np.array([0]))
