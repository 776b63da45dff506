"""In place of BEIR's exact search: the same results but for ties, and what BEIR's raises on."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from beir.reranking import Rerank
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.dense import DenseRetrievalExactSearch

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval.beir import HybridExactSearch


class Model:
    """BEIR's contract: a fixed vector for each text."""

    def __init__(self, dimensions=24):
        self.dimensions = dimensions
        self.options = {}

    def encode_queries(self, queries, **options):
        self.options = options
        return self._vectors(queries, options)

    def encode_corpus(self, corpus, **options):
        return self._vectors([f"{one['title']} {one['text']}" for one in corpus], options)

    def _vectors(self, texts, options):
        rows = [np.random.default_rng(list(text.encode())).standard_normal(self.dimensions) for text in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), self.dimensions)
        return torch.from_numpy(vectors) if options["convert_to_tensor"] else vectors


CORPUS = {f"d{number}": {"title": f"t{number}", "text": "x" * (number % 7)} for number in range(90)}
QUERIES = {f"{'d' if number % 2 else 'q'}{number}": f"query {number}" for number in range(12)}


@pytest.mark.parametrize("score_function", ["cos_sim", "dot"])
@pytest.mark.parametrize(("chunk", "in_memory"), [(20, 0), (45, 2**29), (1000, 0)])
def test_results_are_those_of_beir(score_function, chunk, in_memory, monkeypatch):
    monkeypatch.setattr("beir_hybrid.retrieval.beir._BYTES_IN_MEMORY", in_memory)
    options = {"batch_size": 8, "corpus_chunk_size": chunk, "show_progress_bar": False}
    ours, theirs = (
        EvaluateRetrieval(kind(Model(), **options), k_values=[1, 10], score_function=score_function).retrieve(
            CORPUS, QUERIES
        )
        for kind in (HybridExactSearch, DenseRetrievalExactSearch)
    )
    assert list(ours) == list(theirs)
    for query, found in theirs.items():
        assert query not in ours[query]
        assert list(ours[query]) == sorted(found, key=found.__getitem__, reverse=True)
        assert all(type(score) is float for score in ours[query].values())
        assert ours[query] == pytest.approx(found, rel=1e-6, abs=1e-6)
    qrels = {query: {"d3": 1, "d4": 0} for query in QUERIES}
    for ignore in (False, True):  # which changes its argument
        found, expected = (
            EvaluateRetrieval.evaluate(qrels, results, [1, 10], ignore_identical_ids=ignore)
            for results in (ours, theirs)
        )
        assert found == expected
    for metric in ("mrr", "r_cap", "hole", "acc"):
        found, expected = (
            EvaluateRetrieval.evaluate_custom(qrels, results, [1, 10], metric) for results in (ours, theirs)
        )
        assert found == expected
    assert json.loads(json.dumps(ours)) == pickle.loads(pickle.dumps(ours)) == ours


def test_results_are_reranked_by_beir():
    class CrossEncoder:
        def predict(self, pairs, **options):
            return [len(document) for _, document in pairs]

    found = HybridExactSearch(Model(), show_progress_bar=False).search(CORPUS, QUERIES, 10, "cos_sim")
    ranked = Rerank(CrossEncoder()).rerank(CORPUS, QUERIES, found, top_k=5)
    assert {query: len(documents) for query, documents in ranked.items()} == dict.fromkeys(QUERIES, 5)


def test_results_of_a_sentence_transformer_are_those_of_beir(model, toy_collection):
    class Adapter:
        def encode_queries(self, queries, **options):
            return model.encode(queries, **options)

        def encode_corpus(self, corpus, **options):
            return model.encode([one["text"] for one in corpus], **options)

    view = toy_collection.view("multi/en")
    corpus, queries = dict(view.corpus), dict(view.queries)
    ours, theirs = (
        EvaluateRetrieval(kind(Adapter(), show_progress_bar=False), k_values=[10]).retrieve(corpus, queries)
        for kind in (HybridExactSearch, DenseRetrievalExactSearch)
    )
    for query, found in theirs.items():
        assert list(ours[query].values()) == pytest.approx(sorted(found.values(), reverse=True), abs=1e-6)


def test_one_query_null_titles_and_a_lazy_corpus(toy_collection):
    search = HybridExactSearch(Model(), batch_size=3, convert_to_tensor=False, show_progress_bar=False)
    found = search.search({"a": {"title": None, "text": "one"}, "b": {"text": "two"}}, {"q": "?"}, 5, "cos_sim")
    assert sorted(found["q"]) == ["a", "b"]
    assert search.model.options == {"batch_size": 3, "show_progress_bar": False, "convert_to_tensor": False}
    view = toy_collection.view("mono/en")
    assert len(search.search(view.corpus, view.queries, 3, "dot", return_sorted=True)) == len(view.queries)
    assert search.search({}, {"q": "?"}, 3, "dot") == {"q": {}}
    assert search.search(view.corpus, {}, 3, "dot") == {}


def test_a_query_that_finds_itself_alone_finds_nothing():
    search = HybridExactSearch(Model(), show_progress_bar=False)
    assert search.search({"q": {"text": "one"}}, {"q": "?"}, 5, "cos_sim") == {"q": {}}


def test_faults_are_named():
    search = HybridExactSearch(Model(), show_progress_bar=False)
    with pytest.raises(BeirHybridError, match="score function 'cosine'"):
        search.search(CORPUS, QUERIES, 5, "cosine")
    with pytest.raises(BeirHybridError, match="corpus_chunk_size is 0"):
        HybridExactSearch(Model(), corpus_chunk_size=0)
    search.model.encode_corpus = lambda corpus, **options: np.full((len(corpus), 24), np.nan)
    with pytest.raises(BeirHybridError, match="NaN or infinity"):
        search.search(CORPUS, QUERIES, 5, "cos_sim")
    widths = iter((24, 25))
    search.corpus_chunk_size = 50
    search.model.encode_corpus = lambda corpus, **options: np.ones((len(corpus), next(widths)))
    with pytest.raises(BeirHybridError, match="vectors of 24 and of 25 numbers"):
        search.search(CORPUS, QUERIES, 5, "cos_sim")
    search.corpus_chunk_size = 1000
    search.model.encode_corpus = lambda corpus, **options: np.ones((1, 24))
    with pytest.raises(BeirHybridError, match="1 vectors for 90 document texts"):
        search.search(CORPUS, QUERIES, 5, "cos_sim")


def test_files_of_embeddings(tmp_path):
    search = HybridExactSearch(Model(), corpus_chunk_size=40, show_progress_bar=False)
    search.encode(CORPUS, QUERIES, encode_output_path=f"{tmp_path}/")
    files = [str(path) for path in tmp_path.glob("corpus.*.pkl")]
    assert len(files) == 3
    found = search.search_from_files(str(tmp_path / "queries.pkl"), files, 5, score_function="dot")
    others = {name: text for name, text in QUERIES.items() if name not in CORPUS}
    direct = search.search(CORPUS, others, 5, "dot")
    for query, scores in direct.items():
        assert scores == pytest.approx(found[query], abs=1e-6)
    with pytest.raises(BeirHybridError, match="encode the corpus first"):
        search.search_from_files(str(tmp_path / "queries.pkl"), [], 5)
    with pytest.raises(BeirHybridError, match="cannot be read"):
        search.search_from_files(str(tmp_path / "missing.pkl"), files, 5)
