"""What a grid may be asked for: measures on graded judgements, and what is refused before anything is encoded."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest

from beir_hybrid.collections.builder import Judgement, judged_collection
from beir_hybrid.collections.collection import CollectionInfo
from beir_hybrid.collections.texts import Texts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import grid_from_embeddings
from beir_hybrid.evaluation.plan import plan_grid

NAMES = [
    "AP@5",
    "AP(rel=2)",
    "RR",
    "RR(rel=3)",
    "R(rel=2)@3",
    "nDCG",
    "nDCG@5",
    "P(rel=2)@4",
    "Success@2",
    "LareqaAP@3",
]


def graded():
    """Two languages, ten passages and three questions in each, judged from 0 to 3 across languages."""
    generator = np.random.default_rng(5)
    codes = ("de", "en")
    language = np.repeat(np.arange(2), 10).astype(np.int16)
    ids = [f"{codes[number]}_{row % 10}_0" for row, number in enumerate(language)]
    passages = Texts(ids, [f"text {name}" for name in ids], language)
    asked = [f"q{item}_{code}" for code in codes for item in range(3)]
    queries = Texts(asked, asked, np.repeat(np.arange(2), 3).astype(np.int16))
    grades = generator.integers(-1, 4, (6, 20)).clip(0)
    grades[:, [0, 10]] = 3  # in each language something is relevant
    judgements = [Judgement(q, ids[p], int(grades[q, p]), "a test") for q in range(6) for p in range(0, 20, 2)]
    return judged_collection("graded", codes, queries, passages, judgements, CollectionInfo("", "", "the tests"))


@pytest.mark.parametrize("setting", ["mono/de", "cross/de-en", "multi/en"])
def test_graded_judgements_are_what_ir_measures_makes_of_them(setting):
    collection = graded()
    generator = np.random.default_rng(1)
    queries, passages = (generator.integers(-2, 3, (len(one), 3)) for one in (collection.queries, collection.passages))
    names = NAMES + (["LanguageRecall@5", "LanguageRecall(rel=2)@5", "RankDistance"] if "multi" in setting else [])
    results = grid_from_embeddings(
        queries, passages, collection, measures=names, settings=[setting], score_function="dot"
    )
    view = collection.view(setting)
    scores = (queries @ passages.T)[view.query_rows][:, view.passage_rows].astype(float).tolist()
    run = {query: dict(zip(view.corpus, row, strict=True)) for query, row in zip(view.queries, scores, strict=True)}
    qrels = {query: dict(judged) for query, judged in view.qrels.items()}
    expected = ir_measures.calc_aggregate([ir_measures.parse_measure(name) for name in names], qrels, run)
    for measure, value in expected.items():
        assert results.value(setting=setting, measure=str(measure)) == pytest.approx(value, abs=1e-12), measure


def test_languages_are_compared_in_multi_settings_alone():
    plan = plan_grid(graded(), ["AP", "LanguageRecall(lang='de')@5", "RankDistance(rel=2)"], None)
    assert [str(measure) for measure in plan.measures["mono"]] == ["AP"]
    assert len(plan.measures["multi"]) == 3
    with pytest.raises(BeirHybridError, match="RankDistance needs multi, as do LanguageRecall"):
        plan_grid(graded(), ["LanguageRecall@5"], ["mono", "cross"])


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("AP(rel=4)", "the highest grade in graded is 3.*a rel from 1 to 3"),
        ("LanguageRecall(lang='fr')@5", "unknown language in graded: 'fr'"),
        ("nDCG(rel=2)", "unknown measure"),
    ],
)
def test_what_cannot_be_computed_is_refused(measure, said):
    with pytest.raises(BeirHybridError, match=said):
        plan_grid(graded(), ["AP", measure], None)
