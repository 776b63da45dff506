"""Measures of truncated runs, from arrays, are those of trec_eval to the last bit."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.texts import Relevance
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.measures import evaluate_run, mean, ranked_run, read_run, run_ranks, runs, values

NAMES = ["AP", "AP@3", "AP(rel=2)", "AP(rel=2)@7", "RR", "RR(rel=2)", "R@1", "R@10", "R(rel=2)@5", "P@5", "P(rel=3)@10"]
NAMES += ["Success@1", "Success(rel=2)@10", "nDCG", "nDCG@1", "nDCG@10"]


@st.composite
def graded_runs(draw):
    """Runs of several depths, with ties and graded judgements; some queries retrieved nothing or are missing."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    pool = [f"d{number}" for number in range(draw(st.integers(1, 60)))]
    run, qrels = {"not judged": {"d0": 1.0}}, {}
    for query in range(draw(st.integers(1, 6))):
        judged = generator.choice(pool, generator.integers(1, len(pool) + 1), replace=False).tolist()
        qrels[f"q{query}"] = dict(zip(judged, generator.integers(0, 4, len(judged)).tolist(), strict=True))
        shown = generator.choice(pool, generator.integers(0, len(pool) + 1), replace=False).tolist()
        scores = generator.integers(0, draw(st.sampled_from([1, 5, 1000])), len(shown)) / 8
        if query != 3:
            run[f"q{query}"] = dict(zip(shown, scores.tolist(), strict=True))
    qrels["q0"]["never retrieved"] = 3
    return run, qrels


@settings(max_examples=150)
@given(graded_runs())
def test_values_of_runs_are_those_of_trec_eval(case):
    run, qrels = case
    asked = {name: ir_measures.parse_measure(name) for name in NAMES}
    expected = {
        (metric.measure, metric.query_id): metric.value
        for metric in ir_measures.pytrec_eval.iter_calc(asked.values(), qrels, run)
    }
    read = read_run(run, qrels)
    found = evaluate_run(read.run, read.judgements, NAMES)
    means = ir_measures.pytrec_eval.calc_aggregate(asked.values(), qrels, run)
    for name, measure in asked.items():
        assert found[name].tolist() == [expected[measure, query] for query in read.queries], name
        assert mean(found[name]) == pytest.approx(means[measure], abs=1e-12)


@given(graded_runs())
def test_rr_with_a_cutoff_is_rr_where_that_is_near_enough(case):
    read = read_run(*case)
    found = evaluate_run(read.run, read.judgements, ["RR", "RR@3", "RR(rel=2)@3"])
    assert found["RR@3"].tolist() == np.where(found["RR"] >= 1 / 3, found["RR"], 0).tolist()
    assert (found["RR(rel=2)@3"] <= found["RR@3"]).all()


def test_rr_with_a_cutoff_puts_the_higher_id_first_unlike_ir_measures():
    run, qrels = {"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}}
    read = read_run(run, qrels)
    assert evaluate_run(read.run, read.judgements, ["RR@10", "RR"]) == {"RR@10": [0.5], "RR": [0.5]}
    assert ir_measures.calc_aggregate([ir_measures.RR @ 10], qrels, run) == {ir_measures.RR @ 10: 1}


@given(graded_runs(), st.sampled_from([1, 7, 61, 1000]))
def test_any_block_size_finds_the_same_ranks(case, cells):
    read = read_run(*case)
    whole = run_ranks(read.run, read.judgements)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_CELLS", cells)
        parts = run_ranks(read.run, read.judgements)
    for name in ("ranks", "start", "relevant", "grades", "pair"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()


@given(graded_runs())
def test_lareqa_ap_divides_by_what_can_be_in_the_top(case):
    run, qrels = case
    measure = ir_measures.parse_measure("LareqaAP@4")
    found = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure], qrels, run)}
    for query, judged in qrels.items():
        good = {document for document, grade in judged.items() if grade > 0}
        order = sorted(run.get(query, {}).items(), key=lambda one: (one[1], one[0]), reverse=True)
        hits = [document in good for document, _ in order[:4]]
        total = sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit)
        assert found[query] == pytest.approx(total / min(len(good), 4) if good else 0, abs=1e-12)


def test_a_query_that_retrieved_nothing_counts_as_zero():
    read = read_run({"a": {"x": 1.0}}, {"a": {"x": 1}, "b": {"y": 1}})
    found = evaluate_run(read.run, read.judgements, ["AP", "nDCG@10", "LareqaAP@5"])
    assert {name: mean(per_query) for name, per_query in found.items()} == dict.fromkeys(found, 0.5)


def test_rank_distance_of_a_truncated_run_is_refused():
    read = read_run({"a": {"x": 1.0}}, {"a": {"x": 1, "y": 1}})
    with pytest.raises(BeirHybridError, match=r"1 queries have not found all.*full-depth run"):
        evaluate_run(read.run, read.judgements, ["RankDistance"])
    with pytest.raises(BeirHybridError, match=r"of query 'b': 1 of its 1 relevant .* with 1 of 2 queries"):
        ir_measures.calc_aggregate(
            [ir_measures.parse_measure("RankDistance")], {"a": {"x": 1}, "b": {"y": 1}}, {"a": {"x": 1}}
        )


def test_columns_of_a_run():
    run = ranked_run([2, 0, 2, 0], [5, 6, 7, 8], 4)
    assert [run.of(query).tolist() for query in range(4)] == [[6, 8], [], [5, 7], []]
    assert ranked_run([], [], 2).start.tolist() == [0, 0, 0]
    for columns, said in (
        (([0], [1, 2]), "a query for each"),
        (([0.5], [1]), "expected rows"),
        (([4], [1]), "4 queries"),
    ):
        with pytest.raises(BeirHybridError, match=said):
            ranked_run(*columns, 4)


@pytest.mark.parametrize("measure", ["RankDistance", "LareqaAP@5", "LanguageRecall@5", "AWRF"])
def test_judgements_without_a_relevant_document_are_refused(measure):
    with pytest.raises(BeirHybridError, match="no query has a relevant document, of grade 1 or more"):
        ir_measures.calc_aggregate([ir_measures.parse_measure(measure)], {"q": {"a": 0}}, {"q": {"a": 1.0}})
    read = read_run({"q": {"a": 1.0}}, {"q": {"a": 1}})
    with pytest.raises(BeirHybridError, match=r"AP\(rel=2\): no query has a relevant document, of grade 2"):
        evaluate_run(read.run, read.judgements, ["AP(rel=2)"])


def test_documents_that_stand_twice_are_refused():
    judgements = Relevance(np.array([0, 1, 2]), np.array([0, 0]), np.array([1, 1], dtype=np.int16))
    with pytest.raises(BeirHybridError, match="document 7 twice for query 1"):
        run_ranks(ranked_run([0, 1, 1, 1], [7, 7, 0, 7], 2), judgements)
    rows = [ir_measures.ScoredDoc("q", "a", 1.0), ir_measures.ScoredDoc("q", "a", 0.5)]
    with pytest.raises(BeirHybridError, match="the run has document 'a' twice for query 'q'"):
        ir_measures.calc_aggregate([ir_measures.parse_measure("LareqaAP@5")], {"q": {"a": 1}}, rows)


def test_bad_runs_are_named():
    for score in (float("nan"), None, "x"):
        with pytest.raises(BeirHybridError, match="score for query 'q' that is not a number"):
            read_run({"q": {"a": score}}, {"q": {"a": 1}})
    for grade in (2**15, 0.5, "1", None):
        with pytest.raises(BeirHybridError, match="a grade of query 'q' is no whole number"):
            read_run({"q": {"a": 1.0}}, {"q": {"a": grade}})
    read = read_run({"q": {"a": 1.0}}, {"q": {"a": 1}})
    with pytest.raises(BeirHybridError, match="run of 2 queries and judgements of 1"):
        run_ranks(ranked_run([], [], 2), read.judgements)
    with pytest.raises(BeirHybridError, match="LanguageRecall needs the language"):
        values("LanguageRecall@5", run_ranks(read.run, read.judgements))
