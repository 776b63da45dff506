"""Measures over ranks are ir_measures' own, and RankDistance is one of them."""

from __future__ import annotations

import importlib
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation import measures
from beir_hybrid.evaluation.measures import QueryRanks, RankDistance, parse, values

NAMES = ["AP", "AP@5", "RR", "R@1", "R@10", "P@1", "P@5", "Success@1", "Success@10", "nDCG", "nDCG@3", "nDCG@10"]


@st.composite
def runs(draw):
    """A run with many ties, judgements, and the ranks of what is relevant, found by sorting."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    documents = draw(st.integers(1, 40))
    run, qrels, ranks, start, relevant = {}, {}, [], [0], []
    for query in range(draw(st.integers(1, 5))):
        ids = [f"d{number}" for number in range(documents)]
        scores = generator.integers(0, draw(st.sampled_from([1, 5, 1000])), documents) / 8
        run[f"q{query}"] = dict(zip(ids, scores.tolist(), strict=True))
        answers = generator.choice(ids, size=generator.integers(1, documents + 1), replace=False).tolist()
        qrels[f"q{query}"] = dict.fromkeys(answers, 1)
        order = sorted(ids, key=lambda one, own=run[f"q{query}"]: (own[one], one), reverse=True)
        ranks += sorted(order.index(answer) + 1 for answer in answers)
        start.append(len(ranks))
        relevant.append(len(answers))
    return run, qrels, QueryRanks(np.array(ranks), np.array(start), np.array(relevant))


@settings(max_examples=60)
@given(runs())
def test_values_are_those_of_trec_eval(case):
    run, qrels, found = case
    asked = {name: ir_measures.parse_measure(name) for name in NAMES}
    expected = {
        (metric.measure, metric.query_id): metric.value
        for metric in ir_measures.pytrec_eval.iter_calc(asked.values(), qrels, run)
    }
    for name, measure in asked.items():
        for query, value in enumerate(values(name, found)):
            assert value == expected[measure, f"q{query}"], name  # to the last bit


@given(runs())
def test_rank_distance_is_the_same_from_a_run_and_from_ranks(case):
    run, qrels, found = case
    per_query = {
        metric.query_id: metric.value
        for metric in ir_measures.iter_calc([ir_measures.parse_measure("RankDistance")], qrels, run)
    }
    assert [per_query[f"q{query}"] for query in range(len(run))] == values("RankDistance", found).tolist()


def test_rank_distance_beside_other_measures():
    run, qrels = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"a": 1, "c": 2, "b": 0}, "unjudged": {"a": 0}}
    assert ir_measures.calc_aggregate([RankDistance], qrels, run) == {RankDistance: 2}
    assert ir_measures.calc_aggregate([RankDistance, ir_measures.RR], qrels, run)[RankDistance] == 2
    only_best = ir_measures.parse_measure("RankDistance(rel=2)")
    assert ir_measures.calc_aggregate([only_best], qrels, run) == {only_best: 0}


def test_scores_tie_in_single_precision_as_in_trec_eval():
    run, qrels = {"q": {"a": 1 + 1e-12, "b": 1.0, "c": 0.5}}, {"q": {"a": 1, "c": 1}}
    found = ir_measures.calc_aggregate([RankDistance, ir_measures.RR], qrels, run)
    assert found == {RankDistance: 1, ir_measures.RR: 0.5}


@pytest.mark.parametrize("run", [{"a-question": {"a": 1.0}}, {"another": {"a": 1.0}}, {}])
def test_rank_distance_of_a_truncated_run_is_refused(run):
    with pytest.raises(BeirHybridError, match=r"'a-question'.*needs a full-depth run"):
        list(ir_measures.iter_calc([RankDistance], {"a-question": {"a": 1, "b": 1}}, run))
    with pytest.raises(BeirHybridError, match="full-depth run"):
        values("RankDistance", QueryRanks(np.array([1]), np.array([0, 1]), np.array([2])))


def test_a_query_that_found_nothing_counts_as_zero():
    found = QueryRanks(np.array([2], dtype=np.int64), np.array([0, 0, 1]), np.array([3, 1]))
    assert values("AP", found).tolist() == [0, 0.5]
    assert values("RR", found).tolist() == [0, 0.5]
    assert values("nDCG@1", found).tolist() == [0, 0]


def test_it_registers_once():
    before = len(ir_measures.DefaultPipeline.providers)
    importlib.reload(measures)
    assert len(ir_measures.DefaultPipeline.providers) == before
    assert math.isnan(RankDistance.DEFAULT)


@pytest.mark.parametrize(
    "name",
    [
        "map",
        "R",
        "P",
        "Success",
        "RR(judged_only=True)",
        "nDCG(dcg='exp-log2')",
        "Bpref",
        "R@0",
        "R@-1",
        "R@x",
        "R@1.5",
        "",
        "a b",
        "R@1+",
        "AP(rel=0)@5",
        "nDCG(gains={1: 2})@5",
        "nDCG(rel=2)",
        "LanguageRecall",
        "LareqaAP",
        "RankDistance@5",
    ],
)
def test_unknown_measures_are_refused(name):
    with pytest.raises(BeirHybridError, match=r"Known: AP, AP@k|whole number from 1"):
        parse(name)


def test_aliases_have_one_name():
    assert str(parse("Recall@10")) == "R@10"
    assert str(parse("AP(rel=1)")) == "AP"
    assert str(parse(ir_measures.nDCG @ 10)) == "nDCG@10"
    for name in ("AP(rel=2)@5", "LanguageRecall(lang='de',rel=2)@10", "AWRF", "LareqaAP@7", "RR@10"):
        assert str(parse(name)) == name
