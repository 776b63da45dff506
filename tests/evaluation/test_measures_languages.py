"""LanguageRecall and AWRF, beside slow references; and how they find a document's language."""

from __future__ import annotations

import math
import subprocess
import sys

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation import measures
from beir_hybrid.evaluation.measures import QueryRanks, evaluate_run, mean, read_run, values
from tests.evaluation.test_grid import toy

CODES = ("de", "en", "zh-Hant")


@st.composite
def multilingual_runs(draw):
    """Truncated runs over a pool in three languages, with graded judgements and no ties."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    pool = [f"{code}_{number}_0" for code in CODES for number in range(draw(st.integers(1, 12)))]
    run, qrels = {}, {}
    for query in range(draw(st.integers(1, 5))):
        judged = generator.choice(pool, generator.integers(1, len(pool) + 1), replace=False).tolist()
        qrels[f"q{query}"] = dict(zip(judged, generator.integers(0, 3, len(judged)).tolist(), strict=True))
        shown = generator.choice(pool, generator.integers(0, len(pool) + 1), replace=False).tolist()
        run[f"q{query}"] = dict(zip(shown, generator.permutation(len(shown)).tolist(), strict=True))
    qrels["q0"][pool[0]] = 2
    return run, qrels


def language(document):
    return document.split("_")[0]


def slow_recall(ranking, good, code):
    own = [document for document in good if language(document) == code]
    return sum(document in ranking for document in own) / len(own) if own else None


def slow_awrf(ranking, good):
    if not ranking:
        return 0.0
    attention, target = dict.fromkeys(CODES, 0.0), dict.fromkeys(CODES, 0.0)
    for place, document in enumerate(ranking):
        attention[language(document)] += 1 / math.log2(max(place + 1, 2))
    for document in good:
        target[language(document)] += 1
    return 1 - jensenshannon(list(attention.values()), list(target.values()), base=2) ** 2


@given(multilingual_runs(), st.integers(1, 40))
def test_values_are_those_of_the_slow_reference(case, k):
    run, qrels = case
    names = [f"LanguageRecall@{k}", f"LanguageRecall(rel=2)@{k}", f"AWRF@{k}", "AWRF"]
    codes = sorted({language(document) for judged in qrels.values() for document in judged})
    names += [f"LanguageRecall(lang='{code}')@{k}" for code in codes if any_relevant(qrels, code)]
    parsed = {name: measures.parse(name) for name in names}
    found = {name: {} for name in names}
    for name, measure in parsed.items():
        for metric in ir_measures.iter_calc([measure], qrels, run):
            found[name][metric.query_id] = metric.value
    for query, judged in qrels.items():
        ranking = sorted(run[query], key=run[query].__getitem__, reverse=True)
        for name, measure in parsed.items():
            good = [document for document, grade in judged.items() if grade >= measure["rel"]]
            top = ranking if name == "AWRF" else ranking[:k]
            wanted = measure.params.get("lang")
            if measure.NAME == "AWRF":
                expected = slow_awrf(top, good) if good else math.nan
            else:
                shares = [slow_recall(top, good, code) for code in ([wanted] if wanted else CODES)]
                shares = [share for share in shares if share is not None]
                expected = sum(shares) / len(shares) if shares else math.nan
            assert found[name][query] == pytest.approx(expected, abs=1e-7, nan_ok=True), name
    for name, measure in parsed.items():
        defined = [value for value in found[name].values() if not math.isnan(value)]
        assert ir_measures.calc_aggregate([measure], qrels, run)[measure] == pytest.approx(np.mean(defined), abs=1e-12)


def any_relevant(qrels, code):
    return any(grade > 0 and language(one) == code for judged in qrels.values() for one, grade in judged.items())


def test_languages_may_come_from_the_collection_and_the_ids_say_nothing():
    read = read_run({"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"a": 1, "c": 1}})
    languages = np.array([["de", "en"].index({"a": "de", "b": "de", "c": "en"}[one]) for one in read.documents])
    names = ["LanguageRecall@2", "LanguageRecall(lang='en')@2", "LanguageRecall(lang='de')@2", "AWRF@1"]
    found = evaluate_run(read.run, read.judgements, names, languages=languages, codes=("de", "en"))
    assert [mean(found[name]) for name in names[:3]] == [0.5, 0, 1]
    assert mean(found["AWRF@1"]) == pytest.approx(1 - jensenshannon([1, 0], [0.5, 0.5], base=2) ** 2)
    with pytest.raises(BeirHybridError, match="unknown language 'fr'"):
        evaluate_run(
            read.run, read.judgements, ["LanguageRecall(lang='fr')@2"], languages=languages, codes=("de", "en")
        )


def test_where_attention_follows_the_target_it_is_fair_and_elsewhere_it_is_not():
    qrels = {"q": {"de_1_0": 1, "en_1_0": 1}}
    awrf = measures.AWRF @ 2
    for run, expected in (({"en_9_0": 2.0, "de_9_0": 1.0}, 1), ({"th_9_0": 2.0, "th_8_0": 1.0}, 0), ({}, 0)):
        assert ir_measures.calc_aggregate([awrf], qrels, {"q": run})[awrf] == pytest.approx(expected, abs=1e-12)


def test_a_query_without_relevant_documents_in_the_language_is_left_out():
    qrels = {"a": {"de_1_0": 1}, "b": {"en_1_0": 1}}
    measure = measures.LanguageRecall(lang="de") @ 5
    assert ir_measures.calc_aggregate([measure], qrels, {"b": {"en_1_0": 1.0}}) == {measure: 0}
    assert ir_measures.calc_aggregate([measure], qrels, {"a": {"de_1_0": 1.0}}) == {measure: 1}


def test_the_language_of_a_document():
    collection = toy()
    run, qrels = {"q": {"x": 1.0}}, {"q": {"x": 1}}
    measure = measures.LanguageRecall(lang="de") @ 5
    assert measures.language_in_id("zh-Hant_3_1") == "zh-Hant"
    for identifier in ("x", "doc_1", "de_1", "q_de"):
        with pytest.raises(BeirHybridError, match=r"does not tell the language.*measures\.document_language"):
            measures.language_in_id(identifier)
    try:
        assert measures.document_language({"x": "de"}) is measures.language_in_id
        assert ir_measures.calc_aggregate([measure], qrels, run) == {measure: 1}
        measures.document_language(lambda document: "de")
        assert ir_measures.calc_aggregate([measure], qrels, run) == {measure: 1}
        for source in ({}, collection):
            measures.document_language(source)
            with pytest.raises(BeirHybridError, match="'x'"):
                ir_measures.calc_aggregate([measure], qrels, run)
        own = collection.passages.ids[0]
        code = collection.languages[collection.passages.language[0]]
        measure = measures.LanguageRecall(lang=code) @ 5
        assert ir_measures.calc_aggregate([measure], {"q": {own: 1}}, {"q": {own: 1.0}}) == {measure: 1}
    finally:
        measures.document_language(None)


def test_what_the_ranks_lack_is_named():
    ranks = QueryRanks(
        np.array([1]), np.array([0, 1]), np.array([1]), languages=np.array([0]), pair=np.array([0]), codes=("de",)
    )
    assert values("LanguageRecall@5", ranks).tolist() == [1]
    with pytest.raises(BeirHybridError, match="AWRF needs the languages of all that is retrieved"):
        values("AWRF", ranks)
    with pytest.raises(BeirHybridError, match="needs `pair`"):
        QueryRanks(np.array([1]), np.array([0, 1]), np.array([1]), grades=np.array([2]))


def test_an_import_is_enough_for_ir_measures_to_know_the_names():
    code = (
        "import ir_measures, beir_hybrid.evaluation.measures as m; m.register(); m.register();"
        "print([str(ir_measures.parse_measure(n)) for n in ('RankDistance', 'AWRF@5', 'LareqaAP@5')],"
        "sum(p.NAME == 'beir_hybrid' for p in ir_measures.DefaultPipeline.providers))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['RankDistance', 'AWRF@5', 'LareqaAP@5'] 1"
