"""BM25 by the real Lucene, in processes of their own."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import beir_hybrid
from beir_hybrid.anserini import jvm
from beir_hybrid.anserini.lexical.analyzers import analyzer_for, words
from beir_hybrid.anserini.lexical.bm25 import LexicalRun, bm25_runs
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from tests.data import LAREQA, needs_lareqa

TIMEOUT = 120.0
reason = jvm.available()
needs_java = pytest.mark.skipif(reason is not None, reason=str(reason))
KNOWN = {"en": "English", "de": "German"}


def small(passages: dict[str, tuple[str, str]], queries: dict[str, tuple[str, str, str]]) -> MultilingualCollection:
    """Passage id -> language and text; query id -> language, text and the passage that answers it."""
    languages = tuple(dict.fromkeys(language for language, _ in passages.values()))
    builder = CollectionBuilder("small", languages, CollectionInfo("CC0-1.0", "", "made by the tests"))
    rows = {
        name: builder.add_passage(name, text, languages.index(language), "test")
        for name, (language, text) in passages.items()
    }
    for name, (language, text, answer) in queries.items():
        builder.add_query(name, text, languages.index(language), name, rows[answer], "test")
    return builder.build()


def one(collection: MultilingualCollection, setting: str, depth: int | None = None) -> LexicalRun:
    (run,) = bm25_runs(collection, [setting], depth=depth, timeout=TIMEOUT)
    return run


def average_precision(run: LexicalRun) -> float:
    view = run.collection.view(run.setting)
    scores = view.judgements
    found = []
    for number, query in enumerate(view.query_rows):
        ranked = run.passages[np.searchsorted(run.queries, query) : np.searchsorted(run.queries, query, side="right")]
        places = np.flatnonzero(np.isin(ranked, scores[number])) + 1
        found.append(float((np.arange(1, len(places) + 1) / places).sum()) / len(scores[number]))
    return float(np.mean(found))


def reference(collection: MultilingualCollection, setting: str, k1: float, b: float) -> dict[tuple[int, int], float]:
    """Lucene's BM25 by hand, of the terms that Anserini's analyzers give."""
    view, call = collection.view(setting), "beir_hybrid.anserini.lexical.lucene:"

    def terms(java: jvm.JavaProcess, texts: list[str], language: str) -> list[Counter[str]]:
        known = java.call(f"{call}analyzers", timeout=TIMEOUT, languages=list(collection.languages))
        options = analyzer_for(language, known).options
        return [Counter(found) for found in java.call(f"{call}analyze", timeout=TIMEOUT, options=options, texts=texts)]

    documents: dict[int, Counter[str]] = {}
    with jvm.JavaProcess() as java:
        for number, language in enumerate(collection.languages):
            rows = [int(row) for row in view.passage_rows if collection.passages.language[row] == number]
            found = terms(java, [collection.passages.full_texts[row] for row in rows], language)
            documents.update(zip(rows, found, strict=True))
        texts = [collection.queries.texts[row] for row in view.query_rows]
        questions = terms(java, texts, view.setting.query_language)
    frequency = Counter(term for document in documents.values() for term in document)
    mean = sum(document.total() for document in documents.values()) / len(documents)
    scores: Counter[tuple[int, int]] = Counter()
    for query, question in zip(view.query_rows.tolist(), questions, strict=True):
        for row, document in documents.items():
            for term, count in question.items():
                if tf := document[term]:
                    idf = math.log(1 + (len(documents) - frequency[term] + 0.5) / (frequency[term] + 0.5))
                    scores[query, row] += count * idf * tf / (tf + k1 * (1 - b + b * document.total() / mean))
    return dict(scores)


@needs_java
@pytest.mark.parametrize("setting", ["mono/de", "cross/de-en", "multi/hi"])
def test_scores_are_bm25(setting: str, toy_collection: MultilingualCollection) -> None:
    (run,) = bm25_runs(toy_collection, [setting], k1=1.2, b=0.75, depth=None, timeout=TIMEOUT)
    pairs = zip(run.queries.tolist(), run.passages.tolist(), strict=True)
    found = dict(zip(pairs, run.scores.tolist(), strict=True))
    expected = reference(toy_collection, setting, 1.2, 0.75)
    assert found.keys() == expected.keys()
    assert len(found) > 10
    for pair, score in found.items():
        assert score == pytest.approx(expected[pair], abs=2e-4), pair


@needs_java
def test_all_settings_with_what_they_came_from(toy_collection: MultilingualCollection) -> None:
    runs = list(bm25_runs(toy_collection, depth=5, timeout=TIMEOUT))
    assert [run.setting for run in runs] == list(toy_collection.settings)
    for run in runs:
        view = toy_collection.view(run.setting)
        assert set(run.passages) <= set(view.passage_rows)
        assert set(run.queries) <= set(view.query_rows)
        assert np.unique(run.queries, return_counts=True)[1].max(initial=0) <= 5
        by_id = run.run.to_beir()
        assert sum(map(len, by_id.values())) == len(run.scores)
        assert by_id.keys() <= view.queries.keys()
    provenance = runs[0].provenance
    assert provenance["analyzers"]["de"] == "org.apache.lucene.analysis.de.GermanAnalyzer"
    assert provenance["without_analyzer"] == []
    assert {"pyserini", "anserini", "lucene", "java", "k1", "b", "depth"} <= provenance.keys()


@needs_java
@pytest.mark.parametrize("depth", [3, None])
def test_ties_go_by_id_descending_also_where_the_depth_cuts(depth: int | None) -> None:
    names = ["b", "a10", "a9", "A", "ä", "c c", "z"]
    passages = dict.fromkeys(names, ("en", "the fox runs")) | {"best": ("en", "fox fox"), "none": ("en", "dogs")}
    run = one(small(passages, {"q": ("en", "Where is a fox?", "best")}), "mono/en", depth)
    found = list(run.run.to_beir()["q"])
    assert found == ["best", *sorted(names, reverse=True)][: depth or 99]
    assert (np.diff(run.scores) <= 0).all()


@needs_java
def test_texts_that_are_hard_to_write_down() -> None:
    passages = {
        "newline": ("en", 'a "quoted"\nfox\tand \\ more\x00'),
        "empty": ("en", " "),
        "surrogate": ("en", "an owl \ud800 \U0001f600"),
    }
    queries = {
        "q1": ("en", 'fox\n"quoted"\t+AND -not (x:', "newline"),
        "q2": ("en", "?!", "empty"),
        "q3": ("en", "\U0001f600", "surrogate"),
        "q4": ("en", " ".join(f"word{number}" for number in range(3000)) + " owl", "surrogate"),
    }
    found = {query: list(hits) for query, hits in one(small(passages, queries), "mono/en").run.to_beir().items()}
    assert found == {"q1": ["newline"], "q3": ["surrogate"], "q4": ["surrogate"]}


@needs_java
def test_languages_without_an_analyzer_are_named_and_searched(caplog: pytest.LogCaptureFixture) -> None:
    passages = {
        "el": ("el", "Ο ποταμός ΕΊΝΑΙ μεγάλος"),
        "el2": ("el", "Η πόλη"),
        "sw": ("sw", "Mto ni mkubwa"),
        "en": ("en", "The rivers are big in ΕΊΝΑΙ"),
    }
    queries = {
        "q_el": ("el", "Πού είναι;", "el"),
        "q_sw": ("sw", "Mto uko wapi", "sw"),
        "q_en": ("en", "a river", "en"),
    }
    with caplog.at_level(logging.WARNING):
        runs = {run.setting.path: run for run in bm25_runs(small(passages, queries), timeout=TIMEOUT)}
    assert runs["mono/el"].run.to_beir()["q_el"].keys() == {"el"}
    assert runs["mono/sw"].run.to_beir()["q_sw"].keys() == {"sw"}
    assert runs["mono/en"].run.to_beir()["q_en"].keys() == {"en"}
    assert runs["multi/el"].provenance["without_analyzer"] == ["el", "sw"]
    assert runs["multi/el"].run.to_beir()["q_el"].keys() == {"el", "en"}
    (record,) = caplog.records
    assert "el: lower-case words" in record.message
    assert "sw: split at blanks" in record.message


@needs_java
def test_no_question_finds_itself_where_ids_are_shared() -> None:
    passages = dict.fromkeys(("x", "y", "z"), ("en", "a fox runs"))
    apart = small(passages, {"q": ("en", "foxes", "x"), "w": ("en", "foxes", "x")})
    shared = replace(apart, queries=replace(apart.queries, ids=["y", "w"]))
    for same_ids, expected in ((False, {"y": ["z", "y"], "w": ["z", "y"]}), (True, {"y": ["z", "x"], "w": ["z", "y"]})):
        found = one(replace(shared, same_ids=same_ids), "mono/en", 2).run.to_beir()
        assert {query: list(hits) for query, hits in found.items()} == expected


@needs_java
def test_a_hang_is_ended_and_nothing_is_left(
    toy_collection: MultilingualCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(BeirHybridError, match=r"took more than 0\.05 s"):
        list(bm25_runs(toy_collection, ["mono/en"], timeout=0.05))
    one(toy_collection, "mono/en")
    assert not list(tmp_path.glob("beir-hybrid-bm25-*"))


@pytest.mark.parametrize("wrong", [{"k1": -1}, {"b": 1.5}, {"depth": 0}])
def test_parameters_are_checked_before_java_is_started(
    wrong: dict[str, float], toy_collection: MultilingualCollection
) -> None:
    with pytest.raises(BeirHybridError, match="BM25 needs"):
        next(bm25_runs(toy_collection, **wrong))  # type: ignore[arg-type]


def test_how_languages_are_analysed() -> None:
    assert analyzer_for("de", KNOWN).options == ["-language", "de"]
    assert analyzer_for("de+en", KNOWN).language == "de"
    assert analyzer_for("yo", KNOWN).kind == "whitespace"
    assert analyzer_for("yo", KNOWN).options == ["-pretokenized"]
    assert analyzer_for("el", KNOWN).prepare("Ποῦ; ΕΊΝΑΙ 3") == "ποῦ είναι 3"


def test_words_and_pairs_of_characters() -> None:
    assert words("Xin CHÀO, 3.5!") == ["xin", "chào", "3", "5"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("abcภาษา ก") == ["abc", "ภา", "าษ", "ษา", "ก"]
    assert words(" … ") == []


@needs_java
@pytest.mark.slow
def test_pyserinis_own_commands_find_the_same(tmp_path: Path) -> None:
    collection = beir_hybrid.load("sample-test")
    languages = ["en", "de", "zh"]
    calls: list[tuple[str, list[str]]] = []
    for language in languages:
        view, folder = collection.view(f"mono/{language}"), tmp_path / language
        (folder / "passages").mkdir(parents=True)
        with open(folder / "passages" / "passages.jsonl", "w") as stream:
            for name, passage in view.corpus.items():
                text = f"{passage['title']} {passage['text']}".strip()
                stream.write(json.dumps({"id": name, "contents": text}) + "\n")
        topics = [f"{name}\t{' '.join(text.split())}\n" for name, text in view.queries.items()]
        (folder / "topics.tsv").write_text("".join(topics), encoding="utf-8")
        index = ["--collection", "JsonCollection", "--input", f"{folder}/passages", "--index", f"{folder}/index"]
        calls.append(("pyserini.index.lucene", [*index, "--threads", "1", "--language", language]))
        search = ["--index", f"{folder}/index", "--topics", f"{folder}/topics.tsv", "--output", f"{folder}/run"]
        hits = ["--bm25", "--hits", str(len(view.passage_rows)), "--language", language]
        calls.append(("pyserini.search.lucene", [*search, *hits]))
    script = (
        "import json, runpy, sys; from beir_hybrid.anserini import jvm; jvm.start()\n"
        "for module, arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = [module, *arguments]; runpy.run_module(module, run_name='__main__')\n"
    )
    subprocess.run([sys.executable, "-c", script, json.dumps(calls)], check=True, timeout=300, capture_output=True)
    for run in bm25_runs(collection, [f"mono/{language}" for language in languages], depth=None, timeout=TIMEOUT):
        lines = (tmp_path / run.setting.query_language / "run").read_text().splitlines()
        theirs: dict[str, dict[str, float]] = {}
        for query, _, passage, _, score, _ in map(str.split, lines):
            theirs.setdefault(query, {})[passage] = float(score)
        ours = run.run.to_beir()
        assert len(ours) > 30
        assert ours.keys() == theirs.keys()
        for query, hits in ours.items():
            assert hits == pytest.approx(theirs[query], abs=1e-4), query


@needs_java
@needs_lareqa
@pytest.mark.slow
def test_figures_on_xquad_r() -> None:
    collection = beir_hybrid.load("xquad-r", data_dir=LAREQA)
    measured = {"mono/en": 0.817, "mono/de": 0.754, "mono/zh": 0.795, "cross/en-de": 0.292}
    for run in bm25_runs(collection, list(measured), depth=None, timeout=TIMEOUT):
        assert average_precision(run) == pytest.approx(measured[run.setting.path], abs=0.005)
